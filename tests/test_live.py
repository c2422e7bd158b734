"""P1 and P7: while a process archives, readers see each row exactly once and writers hardly wait."""

import json
import sqlite3
import time
from contextlib import closing

import pytest
from conftest import FAULTS_LIBRARY, LIBRARY, archive, connect, process

ROWS = 234_033
CUTOFF = "2024-01-28"

# About 600 bytes a row, over 30 days, of which 3 stay hot.
CREATE = """
PRAGMA journal_mode = {mode};
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'done',
    weight INTEGER NOT NULL,
    payload TEXT
);
WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < {rows})
INSERT INTO tasks (created_at, weight, payload)
SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 1704067200 + i * 2592000.0 / {rows}, 'unixepoch'),
       i % 1009, hex(randomblob(270))
FROM series;
"""

# An application that knows nothing of the archive: it inserts, updates old rows that are about to
# be archived, and replaces some by a new row of the same age. Prints what it did and how long it
# waited for the lock and took in all, in milliseconds.
WRITER = """
import json, random, sqlite3, sys, time
path, rows, busy_timeout = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
chance = random.Random(7)
connection = sqlite3.connect(path, isolation_level=None, timeout=busy_timeout)
waited, took, done, retries = [], [], [], 0

def patiently(sql):
    global retries
    while True:
        try:
            return connection.execute(sql)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            retries += 1
            time.sleep(0.002)

print("ready", flush=True)
end = time.monotonic() + 300
while time.monotonic() < end:
    began = time.monotonic()
    patiently("BEGIN IMMEDIATE")
    waited.append((time.monotonic() - began) * 1000)
    number, old = len(took), chance.randrange(1, rows + 1)
    if number == 50:
        print("busy", flush=True)
    steps = []
    state = f"new {number}"
    key = connection.execute(
        "INSERT INTO tasks (created_at, weight, payload) VALUES ('2024-02-01T00:00:00Z', 1, ?)",
        [state],
    ).lastrowid
    steps.append(["insert", key, "2024-02-01T00:00:00Z", 1, state])
    if number % 3:
        update = "UPDATE tasks SET state = ? WHERE id = ?"
        if connection.execute(update, [state, old]).rowcount:
            steps.append(["update", old, state])
    else:
        row = connection.execute(
            "DELETE FROM tasks WHERE id = ? RETURNING created_at, weight", [old]
        ).fetchall()
        for created_at, weight in row:
            key = connection.execute(
                "INSERT INTO tasks (created_at, weight, payload) VALUES (?, ?, ?)",
                [created_at, weight, state],
            ).lastrowid
            steps.append(["delete", old])
            steps.append(["insert", key, created_at, weight, state])
    patiently("COMMIT")
    took.append((time.monotonic() - began) * 1000)
    done += steps
    time.sleep(0.003)
    if number % 10 == 0 and patiently("SELECT EXISTS (SELECT 1 FROM stop)").fetchone()[0]:
        break
print(json.dumps({"waited": waited, "took": took, "done": done, "retries": retries}))
"""

# An application with the extension: counts old rows, hot and cold, until it is told to stop.
READER = """
import json, sqlite3, sys
path, library, cutoff = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=30)
connection.enable_load_extension(True)
connection.load_extension(library)
sql = "SELECT count(*), sum(weight) FROM all_tasks WHERE created_at < ?"
seen = []
print("ready", flush=True)
while not connection.execute("SELECT EXISTS (SELECT 1 FROM stop)").fetchone()[0]:
    seen.append(connection.execute(sql, [cutoff]).fetchone())
print(json.dumps(seen))
"""

ARCHIVER = """
import json, sqlite3, sys
path, library, options = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=5)
connection.enable_load_extension(True)
connection.load_extension(library)
print("ready", flush=True)
print(connection.execute("SELECT archive_table('tasks', NULL, ?)", [options]).fetchone()[0])
"""


def wait_for(child, word):
    """Waits until a child says a word."""
    assert child.stdout.readline().strip() == word, child.stderr.read()


def result(child):
    """What a child found, once it has ended well."""
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def library(path=LIBRARY):
    """The extension as SQLite wants it named."""
    return path.with_suffix("")


def archiver(path, options, **fault):
    """Starts a process that archives the tasks."""
    build = FAULTS_LIBRARY if fault else LIBRARY
    return process(ARCHIVER, path, library(build), json.dumps(options), **fault)


def create(path, mode, rows):
    """Makes the tasks, of which the first day is archived already, and a plain copy of them all."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(CREATE.format(mode=mode, rows=rows))
        connection.execute("CREATE TABLE stop (now)")
        connection.commit()
        copy = sqlite3.connect(path.with_name("copy.db"), isolation_level=None)
        connection.backup(copy)
    with closing(connect(path)) as connection:
        archive(connection, "tasks", None, {"before": "2024-01-02"})
    return copy


def replay(copy, steps):
    """Does to the plain copy what the writer did."""
    insert = "INSERT INTO tasks (id, created_at, weight, payload) VALUES (?, ?, ?, ?)"
    copy.execute("BEGIN")
    for kind, *values in steps:
        if kind == "insert":
            copy.execute(insert, values)
        elif kind == "update":
            copy.execute("UPDATE tasks SET state = ? WHERE id = ?", values[::-1])
        else:
            copy.execute("DELETE FROM tasks WHERE id = ?", values)
    copy.execute("COMMIT")


def assert_same(path, copy):
    """The rows, hot and cold, are those of the plain copy, each exactly once."""
    with closing(connect(path)) as connection:
        rows = connection.execute("SELECT * FROM all_tasks ORDER BY id")
        for row in copy.execute("SELECT * FROM tasks ORDER BY id"):
            assert rows.fetchone() == row
        assert rows.fetchone() is None
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def run_live(path, mode, rows, busy_timeout, options):
    """A reader, a writer and an archiver at once; returns what each of them found."""
    copy = create(path, mode, rows)
    sql = "SELECT count(*), sum(weight) FROM tasks WHERE created_at < ?"
    truth = copy.execute(sql, [CUTOFF]).fetchone()
    with (
        process(READER, path, library(), CUTOFF) as reader,
        process(WRITER, path, rows, busy_timeout) as writer,
        archiver(path, {"before": CUTOFF, **options}) as archiving,
    ):
        for child in (reader, writer):
            wait_for(child, "ready")
        wait_for(writer, "busy")
        archived = result(archiving)
        time.sleep(0.2)
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("INSERT INTO stop VALUES (1)")
            connection.commit()
        written, seen = result(writer), result(reader)
    assert set(map(tuple, seen)) == {truth}, f"{len(seen)} counts"
    # Rows that changed under the archiver's hands are why it has something to keep.
    updated = [step for step in written["done"] if step[0] == "update"]
    assert len(seen) > 2 and len(updated) > 20
    replay(copy, written["done"])
    assert_same(path, copy)
    return archived, written


def report(name, archived, written):
    """Prints how long the writer waited; returns the 99th percentile and the worst, in ms."""
    figures = {}
    for what in ("waited", "took"):
        times = sorted(written[what])
        figures[what] = times[len(times) * 99 // 100], times[-1]
    seconds = archived["elapsed_ms"] / 1000
    print(
        f"\n{name}: {archived['rows']} rows archived in {seconds:.1f} s, {archived['kept_rows']} "
        f"kept; {len(written['took'])} transactions, {written['retries']} retries",
        *(
            f"{what} p99 {p99:.1f} ms, worst {worst:.1f} ms"
            for what, (p99, worst) in figures.items()
        ),
        sep="; ",
    )
    return figures["waited"]


def test_reader_and_writer_in_wal_mode(path):
    """234,033 rows archived under a reader and a writer: right at every moment, no long waits."""
    archived, written = run_live(path, "wal", ROWS, 5, {})
    p99, worst = report("WAL", archived, written)
    assert written["retries"] == 0
    assert archived["rows"] > 0.8 * ROWS * 26 / 30
    assert p99 <= 50 and worst <= 500


def test_reader_and_writer_in_rollback_mode(path):
    """Without WAL a writer that retries gets its turn within about a second."""
    archived, written = run_live(path, "delete", 30_000, 0, {"batch_size": 500})
    _, worst = report("rollback journal", archived, written)
    assert worst <= 1000 and max(written["took"]) <= 1500


def test_second_archiver_is_refused(path):
    """One archiver at a time: the second is told so, and the first is not disturbed."""
    copy = create(path, "wal", 3000)
    with archiver(path, {"before": CUTOFF}, fault="publish.begin:2:sleep") as first:
        wait_for(first, "ready")
        with closing(connect(path)) as connection:
            running = "SELECT EXISTS (SELECT 1 FROM archive_history WHERE status = 'running')"
            while not connection.execute(running).fetchone()[0]:
                assert first.poll() is None
                time.sleep(0.01)
            with pytest.raises(sqlite3.OperationalError) as refused:
                archive(connection, "tasks", None, {"before": CUTOFF})
        assert str(refused.value).startswith("archive_table: another archive run is working")
        assert result(first)["rows"] == 2600
    assert_same(path, copy)
    with closing(connect(path)) as connection:
        assert archive(connection, "tasks", None, {"before": CUTOFF})["rows"] == 0


def test_open_transaction_sees_one_snapshot(path):
    """A reader's open transaction covers hot and cold: an archive run does not change what it sees."""
    create(path, "wal", 3000)
    counts = """SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM cold_tasks),
                       (SELECT count(*) FROM all_tasks)"""
    rows = "SELECT * FROM all_tasks ORDER BY id"
    with closing(connect(path)) as reader:
        reader.execute("BEGIN")
        before = reader.execute(counts).fetchone(), reader.execute(rows).fetchall()
        with archiver(path, {"before": CUTOFF}) as other:
            assert result(other)["rows"] == 2600
        after = reader.execute(counts).fetchone(), reader.execute(rows).fetchall()
        assert before == after
        reader.execute("COMMIT")
        assert reader.execute(counts).fetchone() == (301, 2699, 3000)
        assert reader.execute(rows).fetchall() == before[1]


@pytest.mark.parametrize("order", ["", "ORDER BY id", "ORDER BY id DESC"])
@pytest.mark.parametrize("read_before", [1, 50, 2000])
def test_open_cursor_sees_one_snapshot(path, order, read_before):
    """A query that is half read when another process archives yields each row exactly once."""
    copy = create(path, "wal", 3000)
    with closing(connect(path)) as reader:
        cursor = reader.execute(f"SELECT * FROM all_tasks {order}")
        rows = cursor.fetchmany(read_before)
        with archiver(path, {"before": CUTOFF}) as other:
            assert result(other)["rows"] == 2600
        rows += cursor.fetchall()
    assert sorted(rows) == copy.execute("SELECT * FROM tasks ORDER BY id").fetchall()


MOVES = [
    """SELECT archive_table('tasks', NULL, '{"before":"2024-01-20"}')""",
    "SELECT archive_restore('tasks')",
    "SELECT archive_run()",
]


def half_archived(path, mode):
    """A connection to a database whose table has its older half in cold files."""
    create(path, mode, 600).close()
    connection = connect(path)
    connection.execute("""SELECT archive_policy('tasks', 7, '{"grace_hours":0}')""")
    archive(connection, "tasks", None, {"before": "2024-01-10"})
    return connection


@pytest.mark.parametrize("call", MOVES)
@pytest.mark.parametrize("read_before", [1, 300])
@pytest.mark.parametrize("order", ["", "ORDER BY id"])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_rows_do_not_move_under_a_query_of_the_same_connection(
    path, call, read_before, order, mode
):
    """SQLite shows a query what its own connection writes: rows would come twice or not at all."""
    with closing(half_archived(path, mode)) as connection:
        query = f"SELECT * FROM all_tasks {order}"
        expected = connection.execute(query).fetchall()
        cursor = connection.execute(query)
        rows = cursor.fetchmany(read_before)
        if "archive_run" in call:
            (text,) = connection.execute(call).fetchone()
            (error,) = json.loads(text)["errors"]
        else:
            with pytest.raises(sqlite3.OperationalError) as raised:
                connection.execute(call)
            error = str(raised.value)
        assert "reads hot and cold rows of tasks and is not finished" in error
        assert rows + cursor.fetchall() == expected
        # It has ended.
        result = json.loads(connection.execute(call).fetchone()[0])
        assert result["rows"] > 0 and not result.get("errors")
        assert sorted(connection.execute(query).fetchall()) == sorted(expected)


@pytest.mark.parametrize("call", MOVES)
def test_semicolons_before_a_statement_are_nothing_to_it(path, call):
    """SQLite takes them for a part of its text, as that of the second statement in `SELECT 1;; SELECT 2`."""
    with closing(half_archived(path, "wal")) as connection:
        result = json.loads(connection.execute(f"; -- one\n /* two */ ;;{call}").fetchone()[0])
        assert result["rows"] > 0 and not result.get("errors")


@pytest.mark.parametrize("call", MOVES)
@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM cold_tasks",
        "SELECT id FROM others",
        "SELECT id FROM all_others",
        "EXPLAIN SELECT id FROM all_tasks",
        "-- a comment\nSELECT 1 UNION ALL SELECT 2; -- another",
        "PRAGMA table_info(tasks)",
    ],
)
def test_other_queries_that_are_half_read_do_not_matter(path, call, query):
    with closing(half_archived(path, "wal")) as connection:
        connection.execute("CREATE TABLE others AS SELECT * FROM tasks")
        archive(connection, "others", None, {"before": "2024-01-20"})
        cursor = connection.execute(query)
        assert cursor.fetchone() is not None
        result = json.loads(connection.execute(call).fetchone()[0])
        assert result["rows"] > 0 and not result.get("errors")
        cursor.close()
