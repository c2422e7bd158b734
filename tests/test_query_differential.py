"""Reports through archive_query answer as SQLite does over `all_*`, in the midst of a transaction.

The same SQL text goes to both. Values and storage classes are equal; only sums and averages of reals
may differ from the ninth digit on, as the two add them in different orders.
"""

import contextlib
import json
import math
import random
import sqlite3

import pytest

import tombstones
from conftest import archive, connect, create_report, needs_duckdb, objects, typed
from reports import DAYS, KINDS, LARGE, LEVELS, STATUSES, TAGS, TITLES, Reports, day

pytestmark = needs_duckdb

# For each kind of tasks: the key, what comes after the columns, the type of a column of any values,
# and the encoding of the database.
TABLES = {
    "rowid": ("id INTEGER PRIMARY KEY AUTOINCREMENT", "", "NUMERIC", "UTF-8"),
    "without rowid": ("id INTEGER NOT NULL PRIMARY KEY", "WITHOUT ROWID", "NUMERIC", "UTF-8"),
    "strict": ("id INTEGER PRIMARY KEY", "STRICT", "ANY", "UTF-8"),
    "utf16": ("id INTEGER PRIMARY KEY AUTOINCREMENT", "", "NUMERIC", "UTF-16le"),
}
REPORTS = 90

SCHEMA = """
CREATE TABLE tasks ({key}, created_at TEXT NOT NULL, status TEXT NOT NULL, kind0 TEXT, priority INTEGER,
    owner_id INTEGER, junk TEXT, big INTEGER, cost REAL, ratio REAL, amount {loose}, tag TEXT,
    title TEXT, due TEXT, body BLOB, payload TEXT, loose {loose}, void REAL) {end};
CREATE TABLE events (day TEXT NOT NULL, seq INTEGER NOT NULL, task_id INTEGER, level TEXT, took REAL,
    PRIMARY KEY (day, seq)) WITHOUT ROWID;
CREATE TABLE owners (id INTEGER PRIMARY KEY, name TEXT, team TEXT, rate REAL);
INSERT INTO owners VALUES (1, 'Ada', 'core', 1.5), (2, 'Böb', 'core', NULL), (3, 'Cy', 'web', 2.25),
    (4, 'Dee', 'web', 0.1), (5, 'Émile', NULL, 3), (9, 'nobody', 'ops', 7.75);
"""
CHANGES = [
    "ALTER TABLE tasks RENAME COLUMN kind0 TO kind",
    "ALTER TABLE tasks ADD COLUMN extra INTEGER NOT NULL DEFAULT 7",
    "ALTER TABLE tasks DROP COLUMN junk",
]
UNCOMMITTED = [
    "UPDATE tasks SET status = 'it''s', cost = NULL, amount = -1, title = '新' WHERE id % 34 = 3",
    "UPDATE tasks SET priority = 5, due = NULL, kind = NULL WHERE id % 13 = 4",
    "DELETE FROM tasks WHERE id % 51 = 20 OR id % 11 = 5",
    "UPDATE events SET took = 1.0 - took WHERE seq % 3 = 1",
    "DELETE FROM events WHERE seq = 7",
    "UPDATE owners SET rate = 10 WHERE id = 3",
    "DELETE FROM owners WHERE id = 9",
    "INSERT INTO owners VALUES (7, 'new', 'ops', 1e3)",
    "DELETE FROM bounds WHERE level = 'info'",
]


def task(rng, number, when):
    """The columns of a task that it has at any time."""
    maybe = lambda value, often=0.2: None if rng.random() < often else value  # noqa: E731
    document = {"n": maybe(rng.randrange(10)), "s": rng.choice("xyz"), "deep": {"er": maybe("é")}}
    document["list"] = list(range(rng.randrange(4)))
    return {
        "id": number,
        "created_at": f"{day(when)} {rng.randrange(24):02}:{rng.randrange(60):02}:00",
        "status": rng.choice(STATUSES),
        "priority": maybe(rng.randrange(6)),
        "owner_id": maybe(rng.randrange(1, 8)),
        "big": maybe(rng.choice([*LARGE, number, -number])),
        "cost": maybe(rng.randrange(100) / 4),
        "ratio": maybe(rng.random()),
        "amount": maybe(rng.choice([1, 2.5, 3, -7, 4.125, 1e-3])),
        "tag": maybe(rng.choice(TAGS)),
        "title": maybe(rng.choice(TITLES), 0.1),
        "due": maybe(day(rng.randrange(1, DAYS + 1))),
        "body": maybe(bytes([rng.randrange(8), 255]) + bytes(rng.randrange(2))),
        "payload": maybe(json.dumps(document, ensure_ascii=False), 0.1),
        "loose": maybe(rng.choice([number % 7, str(number % 7) + "x", "no", 2**40])),
    }


def insert(db, table, row):
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def fill(db, rng, days, kind="kind0", **more):
    """Some tasks of each day, and some events of each."""
    for when in days:
        for _ in range(30):
            (number,) = db.execute("SELECT coalesce(max(id), 0) + 1 FROM tasks").fetchone()
            extra = {name: rng.choice(values) for name, values in more.items()}
            insert(db, "tasks", {**task(rng, number, when), kind: rng.choice(KINDS), **extra})
        for seq in range(40):
            event = {"day": day(when), "seq": seq, "task_id": rng.randrange(1, 30 * when)}
            event |= {"level": rng.choice(LEVELS), "took": rng.random()}
            insert(db, "events", event if rng.random() < 0.9 else {**event, "task_id": None})


def count(db, source):
    return db.execute(f"SELECT count(*) FROM {source}").fetchone()[0]


def history(path, kind):
    """A connection to a database with hot and cold rows: files of four schemas, tombstones, rows
    that wait out their grace period, and a transaction in which hot rows change."""
    key, end, loose, encoding = TABLES[kind]
    rng = random.Random(kind)
    plain = sqlite3.connect(path, isolation_level=None)
    plain.execute(f"PRAGMA encoding = '{encoding}'")
    plain.executescript(SCHEMA.format(key=key, end=end, loose=loose) + "BEGIN")
    fill(plain, rng, range(1, 7), junk=["old"])
    plain.execute("COMMIT")
    with contextlib.closing(connect(path)) as db:
        assert archive(db, "tasks", None, {"before": day(3)})["rows"] == 60
        options = {"before": day(4), "time_column": "day", "partition": "month"}
        assert archive(db, "events", None, options)["rows"] == 120
    for when, change in enumerate(CHANGES, 4):
        plain.execute(change)
        with contextlib.closing(connect(path)) as db:
            assert archive(db, "tasks", None, {"before": day(when)})["rows"] == 30
    plain.execute("BEGIN")
    fill(plain, rng, range(7, 12), "kind", extra=[7, 8, 9])
    plain.execute("COMMIT")
    plain.close()

    db = connect(path)
    assert archive(db, "tasks", None, {"before": day(9)})["rows"] == 90
    assert archive(db, "events", None, {"before": day(8), "time_column": "day"})["rows"] == 160
    back = json.dumps({"where": "id % 17 = 3"})
    db.execute("SELECT archive_restore('tasks', ?)", [back]).fetchone()
    db.execute("SELECT archive_restore('events', ?)", [json.dumps({"where": "seq = 5"})]).fetchone()
    assert tombstones.total(db) > 10
    grace = {"before": day(10), "grace_hours": 24}
    assert archive(db, "tasks", None, grace)["staged"] > 0

    db.execute("CREATE TEMP TABLE bounds (level TEXT, least REAL)")
    db.execute("INSERT INTO bounds VALUES ('error', 0.5), ('warn', 0.25), ('info', NULL)")
    db.execute("BEGIN")
    fill(db, rng, range(12, 14), "kind", extra=[7, 10])
    # Python's executescript would commit.
    for change in UNCOMMITTED:
        assert db.execute(change).rowcount > 0, change
    assert db.in_transaction
    return db


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    """Gives a connection for each kind of tables, made when it is first asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = history(tmp_path_factory.mktemp("history") / "test.db", kind)
        return made[kind]

    yield get
    for db in made.values():
        db.close()


def as_json(value):
    """What a value is in JSON."""
    return value.hex().upper() if isinstance(value, bytes) else value


def same(one, other, close):
    """Whether two rows are equal, in the class of each value, too."""
    for n, (a, b) in enumerate(zip(one, other, strict=True)):
        near = n in close and isinstance(a, float) and isinstance(b, float)
        if not (math.isclose(a, b, rel_tol=1e-9) if near else repr(a) == repr(b)):
            return False
    return True


def arranged(rows, report):
    """Rows in their order, or in one that does not depend on digits that may differ."""
    if report.ordered:
        return rows
    exact = lambda row: [repr(v) for n, v in enumerate(row) if n not in report.close]  # noqa: E731
    return sorted(rows, key=lambda row: (exact(row), [row[n] or 0 for n in sorted(report.close)]))


def difference(got, expected, report):
    """What is wrong with an answer, or None."""
    got, expected = arranged(got, report), arranged(expected, report)
    wrong = [pair for pair in zip(got, expected, strict=False) if not same(*pair, report.close)]
    if len(got) == len(expected) and not wrong:
        return None
    shown = f"{len(got)} rows, expected {len(expected)}; (got, expected): {wrong[:3]!r:.900}"
    return f"{report.sql}\nparameters: {report.parameters}\n{shown}"


def answers(reports, db, options):
    """Asks SQLite and DuckDB for reports; gives how many there were and how many had rows."""
    asked, found = set(), 0
    while len(asked) < REPORTS:
        report = reports.report()
        asked.add((report.sql, *report.parameters))
        expected = db.execute(report.sql, report.parameters).fetchall()
        got = typed(db, report.sql, report.parameters, options)
        assert (wrong := difference(got, expected, report)) is None, wrong
        got = [list(row.values()) for row in objects(db, report.sql, report.parameters, options)]
        expected = [list(map(as_json, row)) for row in expected]
        assert (wrong := difference(got, expected, report)) is None, f"as JSON: {wrong}"
        found += any(value not in (None, 0) for row in expected for value in row)
    return len(asked), found


@pytest.mark.parametrize("texts", [False, True], ids=["typed", "text"])
@pytest.mark.parametrize("kind", TABLES)
def test_reports_answer_as_sqlite_does(histories, kind, texts):
    """Values, their classes and their order are those of SQLite over all_*."""
    reports = Reports(f"{kind} {texts}", "UTF-8" in TABLES[kind], texts)
    options = {"timestamps": "text"} if texts else None
    asked, found = answers(reports, histories(kind), options)
    assert found > asked * 0.8


def test_enough_reports_are_asked():
    """Together they are more than the 300 that this test promises."""
    assert REPORTS * len(TABLES) * 2 >= 300


@pytest.mark.parametrize("kind", TABLES)
def test_every_name_of_an_archived_table(histories, kind):
    """A table's own name is all of it, as is all_t; cold_t and hot_t are its parts."""
    db = histories(kind)
    columns = "id, status, kind, big, cost, title, due, created_at, extra"
    names = {"tasks": "all_tasks", "TASKS": "all_tasks", '"All_Tasks"': "all_tasks"}
    names |= {"all_tasks": "all_tasks", "cold_tasks": "cold_tasks", "hot_tasks": "main.tasks"}
    for name, ours in names.items():
        expected = db.execute(f"SELECT {columns} FROM {ours} ORDER BY id").fetchall()
        assert typed(db, f"SELECT {columns} FROM {name} ORDER BY id") == expected and expected
    parts = "((SELECT count(*) FROM cold_events) + (SELECT count(*) FROM hot_events))"
    assert typed(db, f"SELECT count(*) - {parts} FROM events") == [(0,)]


def test_a_report_is_a_table_to_sqlite(histories):
    """A created report can be joined, filtered, sorted and grouped with tables of SQLite."""
    db = histories("rowid")
    sql = "SELECT owner_id AS owner, status AS s, count(*) AS n, max(due) AS due FROM all_tasks"
    sql += " GROUP BY owner_id, status"
    typed(db, sql)
    db.execute(f"CREATE TEMP TABLE copy AS {sql}")
    for query in [
        "SELECT o.name, r.* FROM {} r JOIN owners o ON o.id = r.owner ORDER BY 1, 3",
        "SELECT * FROM {} r WHERE n > 5 AND s <> 'done' ORDER BY n DESC, owner, s",
        "SELECT s, sum(n), min(due) FROM {} GROUP BY s ORDER BY s",
        "SELECT a.s, b.n FROM {0} a JOIN {0} b ON a.owner = b.owner AND a.s < b.s ORDER BY 1, 2",
        "SELECT s, n FROM {} WHERE owner IS NULL ORDER BY s LIMIT 2",
        "SELECT count(*) FROM owners o WHERE o.id IN (SELECT owner FROM {} WHERE n > 2)",
    ]:
        expected = db.execute(query.format("copy")).fetchall()
        assert db.execute(query.format("report")).fetchall() == expected and expected


def rows(db, source="all_tasks"):
    return db.execute(f"SELECT id, status, cost FROM {source} ORDER BY id").fetchall()


def test_a_report_follows_savepoints_and_rollback(tmp_path):
    """Each scan has the rows of its moment: uncommitted changes, and those that are undone again."""
    sql = "SELECT id, status, cost FROM tasks ORDER BY id"
    with contextlib.closing(history(tmp_path / "test.db", "rowid")) as db:
        before = typed(db, sql)
        db.execute("SAVEPOINT one")
        db.execute("UPDATE tasks SET status = 'later' WHERE id % 2")
        db.execute("DELETE FROM tasks WHERE id % 3 = 0")
        within = rows(db, "report")
        assert within == rows(db) and within != before
        db.execute("ROLLBACK TO one")
        assert rows(db, "report") == rows(db) == before
        # The report was made in the transaction, which takes it along.
        db.execute("ROLLBACK")
        assert typed(db, sql) == rows(db) != before


def test_a_report_follows_archiving_and_restoring(tmp_path):
    """Rows that move meanwhile are in a report once, within the transaction and after it."""
    with contextlib.closing(history(tmp_path / "test.db", "without rowid")) as db:
        sql = "SELECT id, status, cost FROM tasks ORDER BY id"
        create_report(db, sql)
        before, cold = rows(db), count(db, "cold_tasks")
        db.execute("SELECT archive_restore('tasks')").fetchone()
        assert count(db, "cold_tasks") == 0 < cold
        assert rows(db, "report") == before
        archive(db, "tasks", None, {"before": day(20)})
        assert count(db, "tasks") == 0
        assert rows(db, "report") == before
        db.execute("ROLLBACK")
        assert count(db, "cold_tasks") == cold
        assert typed(db, sql) == rows(db) != before


def test_commits_of_others_wait_for_the_end_of_the_transaction(path):
    """A report sees what this transaction sees, whatever others commit or archive meanwhile."""
    with contextlib.closing(connect(path)) as db, contextlib.closing(connect(path)) as other:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v)")
        insert_days = "INSERT INTO t (created_at, v) VALUES ('2024-01-0' || ?, ?)"
        db.executemany(insert_days, [(n % 5 + 1, n) for n in range(50)])
        assert archive(db, "t", None, {"before": "2024-01-02"})["rows"] == 10
        db.execute("BEGIN")
        before = db.execute("SELECT id, created_at, v FROM all_t ORDER BY id").fetchall()
        other.execute("UPDATE t SET v = -v")
        other.execute(insert_days, (9, 100))
        assert archive(other, "t", None, {"before": "2024-01-04"})["rows"] == 20
        sql = "SELECT id, created_at, v FROM t ORDER BY id"
        assert typed(db, sql, options={"timestamps": "text"}) == before
        assert objects(db, "SELECT count(*) AS n FROM t") == [{"n": 50}]
        db.execute("COMMIT")
        after = db.execute("SELECT id, created_at, v FROM all_t ORDER BY id").fetchall()
        assert db.execute("SELECT * FROM report").fetchall() == after != before
