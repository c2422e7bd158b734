"""What can be archived: every ordinary table, whatever its name, columns and keys."""

import datetime
import os
import sqlite3

import pytest

from conftest import archive, connect

OLD = "2020-01-01"
NEW = "2999-01-01"


def simple(db, key="id INTEGER PRIMARY KEY AUTOINCREMENT", old=3, new=2):
    """A table t with old and new rows."""
    db.execute(f"CREATE TABLE t ({key}, created_at TEXT, v)")
    for n in range(old + new):
        db.execute("INSERT INTO t VALUES (?, ?, ?)", (n + 1, OLD if n < old else NEW, f"v{n}"))


def rows(db, source):
    return db.execute(f"SELECT * FROM {source} ORDER BY 1").fetchall()


def ids(db, source):
    return [row[0] for row in rows(db, source)]


def files(path):
    """Everything below the archive folder, as relative paths."""
    root = path.parent / "archive" / "parquet"
    return sorted(str(file.relative_to(root)) for file in root.rglob("*.parquet"))


def utc(text):
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        'quo"te',
        "quo'te",
        "brack[et]",
        "back`tick",
        "表格",
        "Übergröße",
        "../x",
        "a.b",
        "%41",
        "-",
        "a;b",
        "",
    ],
)
def test_a_table_of_any_name_can_be_archived(db, path, name):
    """The name may contain any character; files stay in the folder; a new connection sees all."""
    quoted = '"' + name.replace('"', '""') + '"'
    db.execute(f"CREATE TABLE {quoted} (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT)")
    db.execute(f"INSERT INTO {quoted} (ts) VALUES ('{OLD}'), ('{NEW}')")
    assert archive(db, quoted, 7)["table"] == name
    outside = [
        p for p in path.parent.rglob("*.parquet") if "archive/parquet" not in str(p.resolve())
    ]
    assert len(files(path)) == 1 and not outside
    again = connect(path)
    for connection in (db, again):
        all_rows = '"all_' + quoted[1:]
        assert rows(connection, all_rows) == [(1, OLD), (2, NEW)]
    again.close()


@pytest.mark.parametrize("call", ["t", '"t"', "[t]", "`t`", "T"])
def test_the_name_may_be_quoted_as_in_sql(db, call):
    """Quotes of SQL around the name and its case do not matter."""
    simple(db)
    result = archive(db, call, 7)
    assert (result["table"], result["rows"]) == ("t", 3)


def test_columns_of_any_name(db):
    """Columns may be keywords, have quotes, dots, spaces and non-ASCII letters."""
    names = ["select", 'a"b', "x.y", "list.element", "with space", "日期", "a'b", "[c]"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    db.execute(f"CREATE TABLE t (ts TEXT, {', '.join(quoted)})")
    db.execute(f"INSERT INTO t VALUES ('{OLD}', {', '.join('?' * len(names))})", range(len(names)))
    before = rows(db, "t")
    archive(db, "t", 7)
    assert rows(db, "cold_t") == before
    for n, name in enumerate(quoted):
        assert db.execute(f"SELECT count(*) FROM all_t WHERE {name} = {n}").fetchone() == (1,)
        assert db.execute(f"SELECT count(*) FROM all_t WHERE {name} > {n}").fetchone() == (0,)


TYPES = [
    '"NOT NULL"',
    '"PRIMARY KEY"',
    "[UNIQUE]",
    "'TEXT COLLATE NOCASE'",
    '"DEFAULT 5"',
    '"GENERATED ALWAYS"',
    '"int) , z("',
    "INT HIDDEN",
    "hidden text",
    '"HIDDEN"',
    "DECIMAL(+5,-3)",
]


@pytest.mark.parametrize("declared", TYPES)
def test_types_of_any_words(db, declared):
    """A type may be a name in quotes, and HIDDEN is a word like any other."""
    db.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, x {declared}, y {declared})")
    for x in ("5", "b", None, "1e2"):
        db.execute("INSERT INTO t (ts, x, y) VALUES ('2024-01-01', ?, 'b')", [x])
    db.execute("INSERT INTO t (ts) VALUES ('2024-02-01')")
    queries = ["SELECT *, typeof(x) FROM {} WHERE ts < '2024-02' ORDER BY id"]
    queries += [f"SELECT id FROM {{}} WHERE x = {value} ORDER BY id" for value in ("'5'", 5, "'100'", 100)]
    expected = [db.execute(query.format("t")).fetchall() for query in queries]
    assert archive(db, "t", None, {"before": "2024-02-01"})["rows"] == 4
    for source in ("cold_t", "all_t"):
        assert [db.execute(query.format(source)).fetchall() for query in queries] == expected, source


@pytest.mark.parametrize("column", ["year", "Month", "DAY"])
def test_partition_keys_do_not_clash_with_columns(db, path, column):
    """A table with a column year, month or day gets folders with the prefix archive_."""
    db.execute(f"CREATE TABLE t (ts TEXT, {column} INT)")
    db.execute(f"INSERT INTO t VALUES ('{OLD}', 7)")
    archive(db, "t", 7)
    assert files(path)[0].startswith("t/archive_year=2020/archive_month=01/archive_day=01/")
    assert rows(db, "all_t") == [(OLD, 7)]


@pytest.mark.parametrize(
    ("partition", "folders"),
    [
        (
            "day",
            [
                "t/year=2020/month=01/day=01",
                "t/year=2020/month=01/day=02",
                "t/year=2021/month=03/day=01",
            ],
        ),
        ("month", ["t/year=2020/month=01", "t/year=2021/month=03"]),
        ("year", ["t/year=2020", "t/year=2021"]),
    ],
)
def test_partitions(db, path, partition, folders):
    """One folder per day, month or year of the rows' time in UTC."""
    db.execute("CREATE TABLE t (ts TEXT)")
    stamps = ["2020-01-01 23:59:59", "2020-01-02T01:00:00+01:30", "2020-01-02 00:00", "2021-03-01"]
    db.executemany("INSERT INTO t VALUES (?)", [(stamp,) for stamp in stamps])
    assert archive(db, "t", 7, {"partition": partition})["files"] == len(folders)
    assert [os.path.dirname(file) for file in files(path)] == folders
    assert sorted(row[0] for row in rows(db, "cold_t")) == sorted(stamps)


def test_generated_columns(db):
    """Stored and virtual generated columns are archived with the values they had."""
    db.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, a INT,"
        " v INT GENERATED ALWAYS AS (a * 2) VIRTUAL, s TEXT AS (a || 'x') STORED)"
    )
    db.execute(f"INSERT INTO t (ts, a) VALUES ('{OLD}', 1), ('{OLD}', NULL), ('{NEW}', 3)")
    before = rows(db, "t")
    assert archive(db, "t", 7)["rows"] == 2
    assert rows(db, "all_t") == before
    assert rows(db, "cold_t") == before[:2]


@pytest.mark.parametrize("options", ["", "WITHOUT ROWID", "STRICT", "STRICT, WITHOUT ROWID"])
def test_composite_keys(db, options):
    """A key of several columns, of any collation, identifies the rows that go."""
    db.execute(
        "CREATE TABLE t (a TEXT COLLATE NOCASE, b REAL, c BLOB, ts TEXT, PRIMARY KEY (c, a DESC, b))"
        + options
    )
    for n in range(20):
        db.execute(
            "INSERT INTO t VALUES (?, ?, ?, ?)",
            (f"K{n % 3}", n / 2, bytes([n % 2]), OLD if n % 4 else NEW),
        )
    before = sorted(rows(db, "t"))
    result = archive(db, "t", 7)
    assert (result["rows"], result["kept_rows"]) == (15, 0)
    assert sorted(rows(db, "all_t")) == before
    assert [row for row in before if row[3] == OLD] == sorted(rows(db, "cold_t"))


def test_nothing_to_archive(db, path):
    """No row is old enough: a result of zero, no file, and cold_t is there and empty."""
    simple(db, old=0, new=3)
    result = archive(db, "t", 7)
    assert (result["rows"], result["files"], result["parquet_bytes"]) == (0, 0, 0)
    assert files(path) == [] and rows(db, "cold_t") == [] and ids(db, "all_t") == [1, 2, 3]


def test_an_empty_table(db):
    """An empty table is archived as such, and later rows go as usual."""
    db.execute("CREATE TABLE t (ts)")
    assert archive(db, "t", 7)["rows"] == 0
    db.execute("INSERT INTO t VALUES (1577836800)")
    assert archive(db, "t", 7, {"time_format": "unix_s"})["rows"] == 1


SECONDS = int(utc("2020-05-06 07:08:09").timestamp())
FORMATS = {
    "iso8601": ("2020-05-06 07:08:09", NEW),
    "unix_s": (SECONDS, SECONDS * 3),
    "unix_ms": (SECONDS * 10**3, SECONDS * 3 * 10**3),
    "unix_us": (SECONDS * 10**6, SECONDS * 3 * 10**6),
    "unix_ns": (SECONDS * 10**9, SECONDS * 3 * 10**9),
    "julian": (2458975.797326, 2500000.5),
}


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_every_time_format(db, path, name, given):
    """Each format is read as said, and found out from the values; the catalog has the UTC time."""
    old, new = FORMATS[name]
    db.execute("CREATE TABLE t (ts)")
    db.execute("INSERT INTO t VALUES (?), (?)", (old, new))
    assert archive(db, "t", 7, {"time_format": name} if given else {})["rows"] == 1
    assert rows(db, "cold_t") == [(old,)] and rows(db, "t") == [(new,)]
    assert os.path.dirname(files(path)[0]) == "t/year=2020/month=05/day=06"
    ((oldest,),) = db.execute("SELECT oldest FROM archive_files('t')").fetchall()
    assert oldest.startswith("2020-05-06T07:08:0")


def test_the_cutoff_is_midnight_utc(db):
    """hot_days reach back to the UTC midnight of the day that many days ago, exclusively."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    day = today - datetime.timedelta(days=7)
    before = f"{day - datetime.timedelta(days=1)} 23:59:59.999"
    db.execute("CREATE TABLE t (ts)")
    db.execute("INSERT INTO t VALUES (?), (?), (?)", (before, f"{day} 00:00:00", f"{day}"))
    result = archive(db, "t", 7)
    assert result["cutoff"] == f"{day}T00:00:00Z"
    assert rows(db, "cold_t") == [(before,)]


def test_unreadable_times_stay_hot_and_are_counted(db):
    """Rows whose time is NULL or unreadable stay hot, and skipped_rows says how many."""
    db.execute("CREATE TABLE t (ts)")
    bad = [None, "", "yesterday", "2020-13-01", b"2020-01-01", 1.5]
    db.executemany("INSERT INTO t VALUES (?)", [(OLD,), (NEW,), *((value,) for value in bad)])
    result = archive(db, "t", 7, {"time_format": "iso8601"})
    assert (result["rows"], result["skipped_rows"]) == (1, len(bad))
    assert len(rows(db, "t")) == len(bad) + 1


@pytest.mark.parametrize(
    ("condition", "gone"),
    [
        ("v = 'v1'", [2]),
        ("v <> 'v1' -- comment", [1, 3]),
        ("NULL", []),
        ("id IN (SELECT max(id) FROM t WHERE created_at < '2999')", [3]),
        ("0.5", [1, 2, 3]),
        ("t.v = 'v0' OR v = 'v4'", [1]),
    ],
)
def test_where(db, condition, gone):
    """Only old rows for which `where` is true go."""
    simple(db)
    assert archive(db, "t", 7, {"where": condition})["rows"] == len(gone)
    assert ids(db, "cold_t") == gone and ids(db, "all_t") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("before", ["2999-01-01", "2999-01-01T00:00:00.001Z", "3000-01-01 00:00"])
def test_before(db, before):
    """`before` is the cutoff itself, exclusively."""
    simple(db)
    archive(db, "t", None, {"before": before})
    assert ids(db, "t") == ([4, 5] if before == NEW else [])


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 1}, {"batch_size": 7}, {"compression_level": 1}, {"compression_level": 22}],
)
def test_batches_and_levels_move_the_same_rows(db, options):
    """Neither the batch size nor the compression level changes what is archived."""
    simple(db, old=30)
    before = rows(db, "t")
    assert archive(db, "t", 7, options)["rows"] == 30
    assert rows(db, "all_t") == before and len(rows(db, "cold_t")) == 30


def tree(folder):
    """Every file below a folder, with its bytes."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_dry_run_changes_nothing(db, path):
    """A dry run tells what would go, and leaves every byte on disk as it is."""
    simple(db, key="id INTEGER PRIMARY KEY", old=3, new=0)
    before = tree(path.parent)
    result = archive(db, "t", 7, {"dry_run": True})
    assert (result["rows"], result["files"], result["kept_rows"]) == (2, 1, 1)
    assert result["dry_run"] is True and tree(path.parent) == before
    archive(db, "t", 7)
    db.execute(f"INSERT INTO t VALUES (9, '{OLD}', 1), (10, '{NEW}', 1)")
    before = tree(path.parent)
    assert archive(db, "t", 7, {"dry_run": 1})["rows"] == 2
    assert tree(path.parent) == before


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("id INTEGER PRIMARY KEY", 1),
        ("id INTEGER PRIMARY KEY AUTOINCREMENT", 0),
        ("id INT PRIMARY KEY", 0),
    ],
)
def test_the_largest_id_is_not_handed_out_again(db, key, kept):
    """Where SQLite would reuse an id, the row with the largest stays hot."""
    simple(db, key=key, old=3, new=0)
    assert archive(db, "t", 7)["kept_rows"] == kept
    assert ids(db, "t") == [3] * kept and ids(db, "all_t") == [1, 2, 3]
    if "INTEGER" in key:
        db.execute(f"INSERT INTO t (created_at) VALUES ('{NEW}')")
        assert ids(db, "all_t") == [1, 2, 3, 4]


def test_later_calls_add_files(db, path):
    """A second call archives what has become old since; the files of the first stay as they are."""
    simple(db)
    archive(db, "t", 7)
    first = tree(path.parent / "archive")
    db.execute("UPDATE t SET created_at = '2020-02-02' WHERE id = 5")
    db.execute(f"INSERT INTO t VALUES (6, '{OLD}', 'late')")
    assert archive(db, "t", 7)["rows"] == 2
    assert ids(db, "cold_t") == [1, 2, 3, 5, 6] and ids(db, "all_t") == [1, 2, 3, 4, 5, 6]
    assert first.items() <= tree(path.parent / "archive").items()
    assert archive(db, "t", 7)["rows"] == 0


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT s"])
def test_rollback_undoes_all_and_commit_keeps_all(db, path, begin):
    """Inside the caller's transaction the call is a part of it."""
    simple(db)
    before = rows(db, "t")
    db.execute(begin)
    db.execute(f"INSERT INTO t VALUES (6, '{OLD}', 'own')")
    assert archive(db, "t", 7)["rows"] == 4
    assert ids(db, "all_t") == [1, 2, 3, 4, 5, 6]
    other = connect(path)
    assert ids(other, "t") == [1, 2, 3, 4, 5]
    db.execute("ROLLBACK")
    assert rows(db, "t") == before
    assert (
        db.execute(
            "SELECT name FROM sqlite_schema WHERE name LIKE '\\_archive%' ESCAPE '\\'"
        ).fetchall()
        == []
    )
    db.execute(begin)
    assert archive(db, "t", 7)["rows"] == 3
    db.execute("COMMIT" if "BEGIN" in begin else "RELEASE s")
    assert ids(db, "t") == [4, 5] and rows(db, "all_t") == before
    other.execute("SELECT archive_attach()")
    assert ids(other, "t") == [4, 5] and rows(other, "all_t") == before
    other.close()


def test_a_savepoint_inside_a_transaction(db):
    """ROLLBACK TO undoes what was archived since the savepoint, and no more."""
    simple(db)
    db.execute("BEGIN")
    archive(db, "t", 7, {"where": "id = 1"})
    db.execute("SAVEPOINT s")
    archive(db, "t", 7)
    assert ids(db, "cold_t") == [1, 2, 3]
    db.execute("ROLLBACK TO s")
    assert ids(db, "cold_t") == [1] and ids(db, "t") == [2, 3, 4, 5]
    db.execute("COMMIT")
    assert ids(db, "cold_t") == [1] and ids(db, "all_t") == [1, 2, 3, 4, 5]


def test_triggers_do_not_fire_and_nothing_cascades(db):
    """Archiving is a move: no DELETE trigger fires, no foreign key acts, and both work afterwards."""
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA recursive_triggers = ON")
    simple(db)
    db.execute("CREATE TABLE child (id INTEGER PRIMARY KEY, t_id REFERENCES t ON DELETE CASCADE)")
    db.execute("INSERT INTO child VALUES (1, 2), (2, 4), (3, 5)")
    db.execute("CREATE TABLE log (what)")
    for when in ("BEFORE", "AFTER"):
        db.execute(
            f"CREATE TRIGGER {when} {when} DELETE ON t BEGIN INSERT INTO log VALUES ('{when}'); END"
        )
    archive(db, "t", 7, {"ignore_foreign_keys": True})
    assert rows(db, "log") == [] and ids(db, "child") == [1, 2, 3] and ids(db, "t") == [4, 5]
    db.execute("DELETE FROM t WHERE id = 4")
    assert len(rows(db, "log")) == 2 and ids(db, "child") == [1, 3]
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT INTO child VALUES (9, 77)")


def test_foreign_keys_of_the_table_itself(db):
    """Rows that refer to each other go together; a row that a hot one refers to does not."""
    db.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, up REFERENCES t (id))"
    )
    db.execute(f"INSERT INTO t VALUES (1, '{OLD}', NULL), (2, '{OLD}', 1), (3, '{NEW}', NULL)")
    assert archive(db, "t", 7)["rows"] == 2
    assert ids(db, "all_t") == [1, 2, 3]


@pytest.mark.parametrize(
    "key",
    [
        "id TEXT COLLATE NOCASE, {}, PRIMARY KEY (id COLLATE BINARY)",
        "id TEXT COLLATE NOCASE, {}, PRIMARY KEY (id COLLATE RTRIM DESC)",
        "id TEXT COLLATE RTRIM, {}, PRIMARY KEY (id COLLATE NOCASE, created_at)",
        "id TEXT, {}, PRIMARY KEY (id COLLATE NOCASE)",
        "id TEXT, {}, PRIMARY KEY (id COLLATE NOCASE, id COLLATE BINARY)",
        "id TEXT COLLATE NOCASE, {}, PRIMARY KEY (id COLLATE NOCASE, id COLLATE BINARY)",
    ],
)
def test_a_primary_key_has_a_collation_of_its_own(db, key):
    """Rows are told apart as the key does, not as the column is compared elsewhere."""
    db.execute(f"CREATE TABLE t ({key.format('created_at TEXT, v')}) WITHOUT ROWID")
    names = ["a", "A", "b", "B", "b ", "B ", "c"]
    for n, name in enumerate(names * 2):
        stamp = NEW if n >= len(names) else OLD
        db.execute("INSERT OR IGNORE INTO t VALUES (?, ?, ?)", (name, stamp, n))
    # A question that the column's own collation answers.
    ask = "SELECT * FROM {} WHERE id = 'b' ORDER BY v"
    before, answer = sorted(rows(db, "t")), db.execute(ask.format("t")).fetchall()
    old = [row for row in before if row[1] == OLD]
    assert archive(db, "t", 7)["rows"] == len(old)
    assert sorted(rows(db, "cold_t")) == old
    assert sorted(rows(db, "all_t")) == before
    assert db.execute(ask.format("all_t")).fetchall() == answer
    db.execute("SELECT archive_restore('t')")
    assert sorted(rows(db, "t")) == before


def test_a_key_of_another_collation_in_many_chunks(db):
    """Keys that the column takes for equal lie on both sides of where a chunk ends."""
    db.execute(
        "CREATE TABLE t (id TEXT COLLATE NOCASE, n, created_at TEXT, PRIMARY KEY (id COLLATE BINARY, n)) WITHOUT ROWID"
    )
    db.execute(
        "WITH s AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM s WHERE i < 45000) "
        "INSERT INTO t SELECT CASE i % 2 WHEN 0 THEN 'a' ELSE 'A' END, i, '2020-01-01' FROM s"
    )
    assert archive(db, "t", 7)["rows"] == 45_000
    assert rows(db, "t") == []
