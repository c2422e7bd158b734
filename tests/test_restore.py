"""The flow back: archive_restore moves cold rows into their table exactly as they were, each row is
on exactly one side at every moment, and a call that is cut off loses nothing."""

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
import tombstones
from conftest import FAULTS_LIBRARY, LIBRARY, archive, connect, process

ROWS = """
WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < 400)
INSERT INTO t ({columns}) SELECT {values} FROM series;
"""
DAYS = "datetime(1700000000 + i * 1000, 'unixepoch')"
MIXED = """CASE i % 8 WHEN 0 THEN i WHEN 1 THEN i / 7.0 WHEN 2 THEN x'00ff' || i
WHEN 3 THEN 'text' || i WHEN 4 THEN CAST(x'41ff42' AS TEXT) WHEN 5 THEN 'a' || char(0) || i
WHEN 6 THEN CAST(i AS BLOB) END"""

# For each kind of table: its statement, columns and values of its rows, and statements after them.
TABLES = {
    "rowid": (
        "CREATE TABLE t (created_at TEXT, v)",
        "rowid, created_at, v",
        f"i * 3, {DAYS}, {MIXED}",
        "DELETE FROM t WHERE rowid % 5 = 0",
    ),
    "integer primary key": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, v)",
        "id, created_at, v",
        f"i * 7 - 500, {DAYS}, {MIXED}",
        "",
    ),
    "autoincrement": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v)",
        "created_at, v",
        f"{DAYS}, {MIXED}",
        "DELETE FROM t WHERE id > 390",
    ),
    "autoincrement, set back by hand": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v)",
        "created_at, v",
        f"{DAYS}, {MIXED}",
        "UPDATE sqlite_sequence SET seq = 17",
    ),
    "without rowid": (
        "CREATE TABLE t (a TEXT COLLATE NOCASE, b, created_at TEXT, PRIMARY KEY (b, a DESC))"
        " WITHOUT ROWID",
        "a, b, created_at",
        f"'K' || (i / 2), i % 2, {DAYS}",
        "",
    ),
    "strict": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, r REAL, a ANY, b BLOB) STRICT",
        "id, created_at, r, a, b",
        f"i, {DAYS}, i / 2, {MIXED}, randomblob(i % 9)",
        "",
    ),
    "generated columns": (
        "CREATE TABLE t (v AS (n * 2) VIRTUAL, id INTEGER PRIMARY KEY, n, s AS (n || 'x') STORED,"
        " created_at TEXT)",
        "id, n, created_at",
        f"i, i % 11, {DAYS}",
        "CREATE INDEX by_s ON t (s, v)",
    ),
    "unique indexes": (
        "CREATE TABLE t (u TEXT COLLATE NOCASE UNIQUE, created_at TEXT, k TEXT PRIMARY KEY, n)",
        "u, created_at, k, n",
        f"'U' || i, {DAYS}, 'k' || i, nullif(i % 3, 0)",
        "CREATE UNIQUE INDEX some ON t (lower(k)); CREATE UNIQUE INDEX n ON t (n) WHERE n > 5",
    ),
    "a column called rowid": (
        "CREATE TABLE t (rowid TEXT, created_at TEXT, v)",
        "_rowid_, rowid, created_at, v",
        f"i * 2, 'r' || i, {DAYS}, {MIXED}",
        "",
    ),
    "conflict clauses": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, u UNIQUE ON CONFLICT IGNORE,"
        " created_at TEXT NOT NULL ON CONFLICT IGNORE CHECK (created_at <> ''))",
        "id, u, created_at",
        f"i, 'u' || i, {DAYS}",
        "",
    ),
    "huge values": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, v)",
        "id, created_at, v",
        f"i, {DAYS}, CASE i % 100 WHEN 0 THEN randomblob(9000000)"
        " WHEN 1 THEN hex(zeroblob(5000000)) END",
        "",
    ),
}
ENCODINGS = ["UTF-8", "UTF-16le", "UTF-16be"]

# Malformed text of each encoding, and what its conversion would change.
ODD = """
INSERT INTO t (created_at, v) VALUES
('2023-11-15 01:00', CAST(x'ff' AS TEXT)), ('2023-11-15 02:00', CAST(x'00d84100' AS TEXT)),
('2023-11-15 03:00', CAST(x'd8000041' AS TEXT)), ('2023-11-15 04:00', char(0xfeff) || 'bom'),
('2023-11-15 05:00', char(0xfffe)), ('2023-11-15 06:00', 'a' || char(0) || 'b'),
('2023-11-15 07:00', CAST(x'fffe4100' AS TEXT)), ('2023-11-15 08:00', ''),
('2023-11-15 09:00', x''),
('2023-11-15 10:00', -0.0), ('2023-11-15 11:00', 9e999), ('2023-11-15 12:00', -9223372036854775808);
"""


def restore(connection, *arguments):
    """Calls archive_restore and returns its JSON as a dictionary."""
    marks = ", ".join("?" * len(arguments))
    options = [json.dumps(a) if isinstance(a, dict) else a for a in arguments]
    (text,) = connection.execute(f"SELECT archive_restore({marks})", options).fetchone()
    return json.loads(text)


def dump(path):
    """What the shell's .dump says of the table, with rowids, and the ids that were handed out."""
    commands = [".dump --preserve-rowids t", "PRAGMA integrity_check"]
    said = subprocess.run(["sqlite3", path, *commands], capture_output=True, check=True).stdout
    assert b"CREATE TABLE t" in said
    with closing(sqlite3.connect(path)) as connection:
        try:
            sql = "SELECT * FROM sqlite_sequence WHERE name = 't'"
            return said, connection.execute(sql).fetchall()
        except sqlite3.OperationalError:
            return said, []


def exactly(connection, table="t"):
    """All rows as the types and bytes of their values, the shell's .dump knows no NUL."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_xinfo({table})")]
    parts = [f"""typeof("{c}"), hex(CAST("{c}" AS BLOB)), quote("{c}")""" for c in columns]
    connection.text_factory = bytes
    rows = sorted(connection.execute(f"SELECT {', '.join(parts)} FROM {table}"))
    connection.text_factory = str
    return rows


def fill(path, kind="integer primary key", encoding="UTF-8"):
    """Makes a database with one table of a kind."""
    create, columns, values, after = TABLES[kind]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        rows = ROWS.format(columns=columns, values=values)
        connection.executescript(f"{create};{rows}{after};")
        connection.commit()


def in_catalog(connection):
    """How many files and tombstones the catalog has."""
    (files,) = connection.execute("SELECT count(*) FROM _archive_file").fetchone()
    return files, tombstones.total(connection)


def count(connection, table):
    """The number of rows."""
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.fixture
def archived(path):
    """A database whose table is archived all but one row: its connection, and its rows before."""
    fill(path)
    with closing(connect(path)) as connection:
        before = exactly(connection)
        archive(connection, "t", 0)
        yield connection, before


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("encoding", ENCODINGS[:2])
def test_all_comes_back(path, kind, encoding):
    """The dump after archiving and restoring everything is the dump before."""
    fill(path, kind, encoding)
    before = dump(path)
    with closing(connect(path)) as connection:
        rows = exactly(connection)
        moved = archive(connection, "t", 0, {"partition": "month"})["rows"]
        assert moved > 300
        result = restore(connection, "t", {"batch_size": 37})
        assert (result["rows"], result["cold_rows"], result["conflicts"]) == (moved, 0, 0)
        assert result["files"] >= 1 and in_catalog(connection) == (0, 0)
        assert exactly(connection) == rows
        assert count(connection, "cold_t") == 0
    assert dump(path) == before


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_odd_values_come_back(path, encoding):
    """Text that is malformed, or that a conversion between encodings would change, is the same."""
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, v)")
        connection.executescript(ODD)
        before = exactly(connection)
        archive(connection, "t", 0)
        connection.execute("ALTER TABLE t ADD COLUMN added TEXT DEFAULT 'd'")
        restore(connection, "t")
        connection.execute("ALTER TABLE t DROP COLUMN added")
        assert exactly(connection) == before


def test_added_columns(archived):
    """Columns added since show their default, and SQLite fills in the generated ones."""
    db, before = archived
    db.execute("ALTER TABLE t ADD COLUMN n INTEGER NOT NULL DEFAULT '7'")
    db.execute("ALTER TABLE t ADD COLUMN g AS (id * 2)")
    assert restore(db, "t")["rows"] == 399
    added = db.execute("SELECT DISTINCT n, typeof(n), g - 2 * id FROM t").fetchall()
    assert added == [(7, "integer", 0)]
    db.executescript("ALTER TABLE t DROP COLUMN g; ALTER TABLE t DROP COLUMN n")
    assert exactly(db) == before


def test_renamed_columns(archived):
    """Renamed columns keep their values."""
    db, before = archived
    db.executescript("DROP VIEW all_t; ALTER TABLE t RENAME COLUMN created_at TO made")
    assert restore(db, "t", {"to": "2023-11-16"})["rows"] > 0
    restore(db, "t")
    assert exactly(db) == before


def test_dropped_columns(archived):
    """Dropped columns vanish; the other values are the same."""
    db, before = archived
    db.executescript("DROP VIEW all_t; ALTER TABLE t DROP COLUMN v; SELECT archive_attach()")
    assert restore(db, "t")["rows"] == 399
    assert exactly(db) == [row[:6] for row in before]


def test_one_day(archived):
    """from is included, to is not; other days stay cold, and an empty file leaves the catalog."""
    db, before = archived
    inside = "created_at >= '2023-11-16' AND created_at < '2023-11-17 12:00'"
    (expected,) = db.execute(f"SELECT count(*) FROM cold_t WHERE {inside}").fetchone()
    files, _ = in_catalog(db)
    window = {"from": "2023-11-16", "to": "2023-11-17T12:00:00Z"}
    planned = restore(db, "t", {**window, "dry_run": True})
    assert (planned["rows"], planned["files"], planned["dry_run"]) == (expected, 1, True)
    assert count(db, "t") == 1
    result = restore(db, "t", window)
    assert (result["rows"], result["files"]) == (expected, 1)
    assert result["cold_rows"] == count(db, "cold_t") == 399 - expected
    assert db.execute(f"SELECT count(*) FROM cold_t WHERE {inside}").fetchone() == (0,)
    assert in_catalog(db)[0] == files - 1
    assert exactly(db, "all_t") == before
    assert restore(db, "t", window)["rows"] == 0


@pytest.mark.parametrize("column", ["v", "_rowid_", "oid"])
def test_where(path, column):
    """An expression over the rows says which come back, whatever the columns are called."""
    with closing(connect(path)) as db:
        db.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, {column})")
        db.executescript(
            ROWS.format(columns=f"id, created_at, {column}", values=f"i, {DAYS}, i % 5")
        )
        archive(db, "t", 0)
        condition = {"where": f"t.{column} = 3 AND id <> (SELECT 3) -- not that"}
        matches = f"{column} = 3 AND id NOT IN (3, 400)"
        late = f"SELECT count(*) FROM all_t WHERE {matches} AND created_at >= '2023-11-16'"
        (late,) = db.execute(late).fetchone()
        assert 0 < late < 79
        assert restore(db, "t", {**condition, "from": "2023-11-16"})["rows"] == late
        assert restore(db, "t", condition)["rows"] == 79 - late
        assert db.execute(f"SELECT DISTINCT {column} FROM t WHERE id < 400").fetchall() == [(3,)]
        assert db.execute("SELECT count(*), count(DISTINCT id) FROM all_t").fetchone() == (400, 400)
        (after,) = db.execute("SELECT archive_verify()").fetchone()
        assert json.loads(after)["problems"] == []


def test_restored_rows_are_archived_again(archived):
    """What came back, wholly or in part, can go again; nothing is doubled."""
    db, before = archived
    restore(db, "t", {"where": "id % 2"})
    restore(db, "t", {"from": "2023-11-17", "to": "2023-11-18"})
    archive(db, "t", 0)
    assert count(db, "t") == 1 and exactly(db, "all_t") == before
    restore(db, "t")
    assert exactly(db) == before
    archive(db, "t", 0)
    assert count(db, "cold_t") == 399 and exactly(db, "all_t") == before


def test_history(archived):
    """A restore is in the history, with what it planned and what it did."""
    db, _ = archived
    restore(db, "t", {"where": "id < 0"})
    rows = "SELECT operation, planned_rows, rows, status FROM archive_history"
    (negative,) = db.execute("SELECT count(*) FROM t WHERE id < 0").fetchone()
    assert db.execute(rows).fetchone() == ("restore", negative, negative, "done")


def test_abort_changes_nothing(archived):
    """A conflict that can be seen beforehand is found before any row moves."""
    db, _ = archived
    db.execute("INSERT INTO t VALUES (200, '2030-01-01', 'new')")
    everything = exactly(db), exactly(db, "cold_t"), in_catalog(db)
    with pytest.raises(sqlite3.OperationalError) as error:
        restore(db, "t")
    assert "1 of 399 rows of t cannot come back" in str(error.value)
    assert "id = 200" in str(error.value) and "on_conflict" in str(error.value)
    assert (exactly(db), exactly(db, "cold_t"), in_catalog(db)) == everything
    (status,) = db.execute("SELECT status FROM archive_history").fetchone()
    assert status == "failed"


def test_ignore_leaves_both(archived):
    """The hot row stays, the cold row stays cold, and can come back once there is room."""
    db, before = archived
    db.execute("INSERT INTO t VALUES (200, '2030-01-01', 'new')")
    for dry_run in (True, False):
        result = restore(db, "t", {"on_conflict": "ignore", "dry_run": dry_run})
        assert (result["rows"], result["conflicts"]) == (398, 1)
    assert db.execute("SELECT id FROM cold_t").fetchall() == [(200,)]
    assert db.execute("SELECT v FROM t WHERE id = 200").fetchone() == ("new",)
    db.execute("DELETE FROM t WHERE id = 200")
    assert restore(db, "t")["rows"] == 1
    assert exactly(db) == before


def test_conflict_clauses_of_the_table_do_not_count(path):
    """A constraint that says ON CONFLICT REPLACE, or IGNORE, neither replaces a hot row nor drops a
    cold one."""
    with closing(connect(path)) as db:
        db.execute("""CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT REPLACE,
                      u UNIQUE ON CONFLICT IGNORE, created_at TEXT)""")
        db.execute("INSERT INTO t VALUES (1, 1, '2023-01-01'), (2, 2, '2023-01-01'), (3, 3, NULL)")
        archive(db, "t", 0)
        db.execute("INSERT INTO t VALUES (1, 9, 'hot'), (8, 2, 'hot')")
        result = restore(db, "t", {"on_conflict": "ignore"})
        assert (result["rows"], result["conflicts"], result["cold_rows"]) == (0, 2, 2)
        assert db.execute("SELECT id, u FROM t ORDER BY id").fetchall() == [(1, 9), (3, 3), (8, 2)]


def test_replace_takes_the_place(archived):
    """The cold row takes the hot row's place."""
    db, before = archived
    db.execute("INSERT INTO t VALUES (200, '2030-01-01', 'new')")
    for dry_run in (True, False):
        result = restore(db, "t", {"on_conflict": "replace", "dry_run": dry_run})
        assert (result["rows"], result["conflicts"]) == (399, 1)
    assert exactly(db) == before


@pytest.mark.parametrize("own", [True, False])
def test_conflict_that_nobody_could_foresee(path, own):
    """A partial unique index stops the call with the key and the constraint; what was committed
    before stays restored, inside the caller's transaction nothing does."""
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, v)")
        db.executescript(ROWS.format(columns="id, created_at, v", values=f"i, {DAYS}, i"))
        archive(db, "t", 0, {"partition": "month"})
        db.execute("CREATE UNIQUE INDEX few ON t (v) WHERE v > 200")
        db.execute("INSERT INTO t VALUES (1000, '2030-01-01', 301)")
        before = exactly(db, "all_t")
        if not own:
            db.execute("BEGIN")
        with pytest.raises(sqlite3.OperationalError) as error:
            restore(db, "t", {"batch_size": 100})
        if not own:
            db.execute("COMMIT")
        assert "id = 301" in str(error.value) and "UNIQUE constraint failed: t.v" in str(
            error.value
        )
        restored = 300 if own else 0
        assert (f"{restored} rows were restored" if own else "nothing was") in str(error.value)
        assert count(db, "t") == restored + 2
        assert exactly(db, "all_t") == before
        result = restore(db, "t", {"on_conflict": "ignore"})
        assert (result["conflicts"], result["cold_rows"]) == (1, 1)


@pytest.mark.parametrize("on_conflict", ["abort", "replace"])
def test_check_constraints_hold(path, on_conflict):
    """Where a CHECK keeps a row out there is nothing to replace: it is an error."""
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, v CHECK (v < 9))")
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("INSERT INTO t VALUES (1, '2023-01-01', 10), (2, '2023-01-01', 1)")
        archive(db, "t", 0)
        db.execute("PRAGMA ignore_check_constraints = OFF")
        with pytest.raises(sqlite3.OperationalError, match="CHECK constraint failed"):
            restore(db, "t", {"on_conflict": on_conflict})
        assert count(db, "cold_t") == 1 and count(db, "all_t") == 2


def test_rowids_that_nobody_chose(path):
    """In a table without an INTEGER PRIMARY KEY, SQLite may have given a row's rowid to another
    row: then it gets a new one, and no row is lost whatever on_conflict says."""
    for on_conflict in ("abort", "ignore", "replace"):
        path.unlink(missing_ok=True)
        with closing(connect(path)) as db:
            db.execute("CREATE TABLE t (name TEXT PRIMARY KEY, created_at TEXT)")
            db.execute("INSERT INTO t VALUES ('a', '2023-01-01'), ('b', '2023-01-01')")
            archive(db, "t", 0)
            db.execute("INSERT INTO t VALUES ('c', '2030-01-01')")
            result = restore(db, "t", {"on_conflict": on_conflict})
            assert (result["rows"], result["conflicts"], result["renumbered_rows"]) == (2, 0, 1)
            names = db.execute("SELECT name FROM t ORDER BY name").fetchall()
            assert names == [("a",), ("b",), ("c",)]


def test_triggers_and_foreign_keys_are_off(archived):
    """Coming back is a move: no trigger fires, and replacing a row cascades to no other."""
    db, before = archived
    db.executescript("""
        PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON;
        CREATE TABLE log (x);
        CREATE TRIGGER i AFTER INSERT ON t BEGIN INSERT INTO log VALUES (1); END;
        CREATE TRIGGER d AFTER DELETE ON t BEGIN INSERT INTO log VALUES (2); END;
        CREATE TABLE child (p REFERENCES t ON DELETE CASCADE);
        INSERT INTO t VALUES (200, '2030-01-01', 'new');
        INSERT INTO child VALUES (200);
        DELETE FROM log;
    """)
    restore(db, "t", {"on_conflict": "replace"})
    assert count(db, "log") == 0 and count(db, "child") == 1
    assert exactly(db) == before
    assert db.execute("PRAGMA foreign_keys").fetchone() == (1,)
    db.execute("INSERT INTO t VALUES (5000, '', '')")
    assert count(db, "log") == 1


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
def test_inside_a_transaction(archived, end):
    """Inside the caller's transaction all of it is a part of that."""
    db, before = archived
    db.execute("BEGIN")
    db.execute("CREATE TABLE mine (x)")
    assert restore(db, "t", {"batch_size": 50})["rows"] == 399
    assert count(db, "all_t") == 400
    db.execute(end)
    assert exactly(db, "all_t") == before
    assert count(db, "cold_t") == (399 if end == "ROLLBACK" else 0)
    assert db.execute("SELECT operation FROM archive_history").fetchone() == (
        ("archive",) if end == "ROLLBACK" else ("restore",)
    )


def test_files_stay_for_backups(archived, path):
    """A file without rows is out of the catalog but on disk until archive_gc may remove it, even if
    the run that wrote it died; a backup of before still reads it."""
    db, before = archived
    backup = path.parent / "backup.db"
    with closing(sqlite3.connect(backup)) as copy:
        db.backup(copy)
    db.execute("UPDATE _archive_run SET status = 'running'")
    files = len(list(path.parent.rglob("*.parquet")))
    db.execute("BEGIN")
    restore(db, "t")
    db.execute("COMMIT")
    archive(db, "t", None, {"before": "2000-01-01"})
    assert in_catalog(db) == (0, 0)
    assert len(list(path.parent.rglob("*.parquet"))) == files
    with closing(connect(backup)) as copy:
        assert exactly(copy, "all_t") == before


def refused(connection, *arguments):
    """The message of a call that must fail."""
    with pytest.raises(sqlite3.OperationalError) as error:
        restore(connection, *arguments)
    assert str(error.value).startswith("archive_restore: ")
    return str(error.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("other",), "other has never been archived"),
        ((5,), "the table's name must be text"),
        (("t", {"from": "yesterday"}), "option from must be a time such as"),
        (("t", {"to": 5}), "option to must be text"),
        (("t", {"from": "2024-01-02", "to": "2024-01-02"}), "option from must be before option to"),
        (("t", {"where": "missing = 1"}), "no such column: missing"),
        (("t", {"where": "1) OR (1"}), "option where is not an SQL expression"),
        (("t", {"where": "count(*) > 1"}), "option where is not an SQL expression"),
        (("t", {"where": "id = ?1"}), "without parameters"),
        (("t", {"on_conflict": "update"}), "on_conflict must be abort, ignore, replace or renumber"),
        (("t", {"batch_size": 0}), "batch_size must be a whole number"),
        (("t", {"pause_ms": -1}), "pause_ms must be a whole number"),
        (("t", {"form": "2024-01-01"}), "unknown option form"),
        (("t", "[]"), "the options must be a JSON object"),
    ],
)
def test_wrong_calls(archived, arguments, message):
    """Bad input is a clear error, and nothing has changed."""
    db, _ = archived
    assert message in refused(db, *arguments)
    assert count(db, "t") == 1 and count(db, "cold_t") == 399
    assert db.execute("SELECT operation FROM archive_history").fetchall() == [("archive",)]


def test_wrong_places(archived, path):
    """Without a catalog, a hot table or its files, and on a read-only database, nothing moves."""
    db, before = archived
    with closing(connect(":memory:")) as empty:
        assert "t has never been archived" in refused(empty, "t")
    with closing(connect(f"file:{path}?mode=ro", uri=True)) as reader:
        assert "the database is read-only" in refused(reader, "t")
        assert restore(reader, "t", {"dry_run": True})["rows"] == 399
    file = next(path.parent.rglob("*.parquet"))
    file.rename(file.with_suffix(".away"))
    assert file.name in refused(db, "t")
    assert count(db, "t") == 1
    file.with_suffix(".away").rename(file)
    db.execute("ALTER TABLE t RENAME TO other")
    assert restore(db, "other", {"dry_run": True})["rows"] == 399
    db.execute("ALTER TABLE other RENAME TO t")
    db.execute("CREATE TEMP TABLE hot AS SELECT * FROM t")
    db.execute("DROP TABLE t")
    message = refused(db, "t")
    assert "id, created_at, v" in message and "cold_t" in message
    db.execute(TABLES["integer primary key"][0])
    db.execute("SELECT archive_adopt('t')").fetchone()
    db.execute("INSERT INTO t SELECT * FROM hot")
    restore(db, "t")
    assert exactly(db) == before


def test_damaged_file_restores_nothing_of_it(archived, path):
    """A flipped byte stops the call before anything of that transaction is committed."""
    db, before = archived
    file = sorted(path.parent.rglob("*.parquet"))[0]
    good = file.read_bytes()
    middle = len(good) // 4
    file.chmod(0o644)
    file.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    assert "damaged" in refused(db, "t")
    assert count(db, "t") == 1
    file.write_bytes(good)
    restore(db, "t")
    assert exactly(db) == before


def test_one_at_a_time(archived, path):
    """While an archive run or another restore works on the database, a restore is refused."""
    db, _ = archived
    with process(
        CHILD, path, FAULTS_LIBRARY.with_suffix(""), fault="restore.commit:1:sleep"
    ) as child:
        assert child.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 20
        while db.execute("SELECT status FROM archive_history").fetchone() != ("running",):
            assert time.monotonic() < deadline
        assert "another archive run is working" in refused(db, "t")
        assert child.wait(timeout=60) == 0
    assert count(db, "cold_t") == 0


def test_rows_per_second(archived):
    """max_rows_per_second makes the call as slow as that, in transactions of a second at most."""
    db, _ = archived
    began = time.monotonic()
    restore(db, "t", {"max_rows_per_second": 400})
    assert time.monotonic() - began > 0.9


# Restores the table in a process of its own, which may be killed.
CHILD = """
import sqlite3, sys
path, library = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None)
connection.enable_load_extension(True)
connection.load_extension(library)
print("ready", flush=True)
connection.execute("SELECT archive_restore('t', '{\\"batch_size\\":10}')").fetchone()
"""

# Counts all rows, again and again, until it is told to stop.
READER = """
import sqlite3, sys
path, library = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=30)
connection.enable_load_extension(True)
connection.load_extension(library)
seen, colds = set(), set()
print("ready", flush=True)
while 0 not in colds:
    connection.execute("BEGIN")
    sql = "SELECT count(*), count(DISTINCT id), sum(id) FROM all_t"
    seen.add(connection.execute(sql).fetchone())
    colds.add(connection.execute("SELECT count(*) FROM cold_t").fetchone()[0])
    connection.execute("COMMIT")
print(len(colds), sorted(seen), flush=True)
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_readers_see_each_row_once(path, mode):
    """Another process that reads all the time sees every row exactly once while rows come back."""
    fill(path)
    with closing(connect(path, timeout=30)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        (expected,) = db.execute("SELECT printf('%d %d', count(*), sum(id)) FROM t").fetchall()[0]
        archive(db, "t", 0, {"partition": "month"})
        with process(READER, path, LIBRARY.with_suffix("")) as reader:
            assert reader.stdout.readline() == "ready\n"
            restore(db, "t", {"batch_size": 10, "pause_ms": 20})
            looks, seen = reader.communicate(timeout=60)[0].split(" ", 1)
        rows, total = map(int, expected.split())
        assert seen.strip() == str([(rows, rows, total)])
        assert int(looks) > 2, "the reader saw nothing of the restore in between"


def kill(path, fault=""):
    """Restores in a process that kills itself at a fault point."""
    with process(CHILD, path, FAULTS_LIBRARY.with_suffix(""), fault=fault) as child:
        output, errors = child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL, f"not killed at {fault}: {output}{errors}"


def assert_intact(path, before):
    """All rows are there once, and what is in the database is sound."""
    with closing(connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert exactly(db, "all_t") == before
        (verified,) = db.execute("SELECT archive_verify()").fetchone()
        assert json.loads(verified)["problems"] == []
        return count(db, "cold_t")


@contextlib.contextmanager
def copies(path, mode):
    """Puts fresh copies of an archived database at `path`; gives its rows and how to make one."""
    fill(path)
    with closing(connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        before = exactly(db)
        archive(db, "t", 0)
    folder = path.parent.with_name("template")
    shutil.copytree(path.parent, folder, dirs_exist_ok=True)

    def fresh():
        shutil.rmtree(path.parent)
        shutil.copytree(folder, path.parent)

    yield before, fresh
    shutil.rmtree(folder)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_killed_at_every_point(path, mode):
    """kill -9 at a fault point loses and doubles no row, and the next call goes on from there."""
    with copies(path, mode) as (before, fresh):
        for point in ("restore.insert", "restore.commit"):
            for nth in (1, 25 if point == "restore.insert" else 4):
                fresh()
                kill(path, f"{point}:{nth}:kill")
                assert assert_intact(path, before) > 0
                kill(path, f"{point}:2:kill")
                assert_intact(path, before)
                with closing(connect(path)) as db:
                    restore(db, "t")
                    assert exactly(db) == before and in_catalog(db) == (0, 0)
                    archive(db, "t", 0)
                    assert count(db, "t") == 1 and exactly(db, "all_t") == before
                    history = db.execute("SELECT status FROM archive_history").fetchall()
                    assert [s for (s,) in history] == [
                        "done",
                        "done",
                        "interrupted",
                        "interrupted",
                        "done",
                    ]


@pytest.mark.parametrize("point", ["restore.insert", "restore.commit"])
@pytest.mark.parametrize("action", ["error", "panic"])
def test_failure_at_every_point(path, point, action):
    """A step that fails undoes its transaction, and is a clear SQL error."""
    with copies(path, "wal") as (before, _):
        with process(
            CHILD, path, FAULTS_LIBRARY.with_suffix(""), fault=f"{point}:3:{action}"
        ) as child:
            errors = child.communicate(timeout=60)[1]
            assert child.returncode == 1 and "archive_restore: " in errors.splitlines()[-1]
        assert_intact(path, before)
        with closing(connect(path)) as db:
            restore(db, "t")
            assert exactly(db) == before
            history = db.execute("SELECT status FROM archive_history").fetchall()
            assert history[1] == ("failed",)


def test_killed_at_random_times(path):
    """20 times kill -9 from outside, at times spread over a whole restore."""
    chance = random.Random("restore")
    with copies(path, "wal") as (before, fresh):
        with process(CHILD, path, LIBRARY.with_suffix("")) as child:
            child.stdout.readline()
            began = time.monotonic()
            child.wait(timeout=60)
            length = time.monotonic() - began
        killed = moved = 0
        while killed < 20:
            fresh()
            with process(CHILD, path, LIBRARY.with_suffix("")) as child:
                assert child.stdout.readline() == "ready\n"
                time.sleep(chance.uniform(0, length))
                child.kill()
                if child.wait(timeout=60) != -signal.SIGKILL:
                    continue
            killed += 1
            moved += 0 < assert_intact(path, before) < 399
            with closing(connect(path)) as db:
                restore(db, "t")
                assert exactly(db) == before and in_catalog(db) == (0, 0)
        assert moved > 0, "no restore was killed while it moved rows"


# Tables whose archived keys an application uses again, with the columns that tell rows apart.
SHARED = {
    "integer primary key": "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v TEXT)",
    "primary key": "CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY, created_at TEXT, v TEXT)",
    "without rowid": "CREATE TABLE t (id TEXT, created_at TEXT, v TEXT, PRIMARY KEY (id COLLATE NOCASE)) WITHOUT ROWID",
    "two keys": "CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, v TEXT, w TEXT UNIQUE)",
}


def share_keys(db, kind):
    """Three archived rows of each of two times, two of which have a key in common, and a hot row that has
    another's."""
    db.execute(SHARED[kind])
    columns = "id, created_at, v"
    db.execute(f"INSERT INTO t ({columns}) VALUES (1, '2020-01-01', 'a'), (2, '2020-01-02', 'b'), (3, '2020-01-03', 'c')")
    db.execute(f"INSERT INTO t ({columns}) VALUES (99, '2999-01-01', 'newest')")
    archive(db, "t", 7)
    db.execute(f"INSERT INTO t ({columns}) VALUES (2, '2020-02-02', 'd'), (4, '2020-02-04', 'e'), (5, '2020-02-05', 'f')")
    archive(db, "t", 7)
    db.execute(f"INSERT INTO t ({columns}) VALUES (5, '2999-01-01', 'g')")
    assert db.execute("SELECT count(*) FROM cold_t").fetchone() == (6,)


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("action", ["abort", "ignore", "replace"])
def test_cold_rows_that_share_a_key_are_a_conflict(db, kind, action):
    share_keys(db, kind)
    before = db.execute("SELECT * FROM all_t ORDER BY 1, 2").fetchall()
    options = {"on_conflict": action}
    planned = restore(db, "t", {**options, "dry_run": True})
    assert planned["conflicts"] == 2
    assert db.execute("SELECT * FROM all_t ORDER BY 1, 2").fetchall() == before
    if action == "abort":
        with pytest.raises(sqlite3.OperationalError) as error:
            restore(db, "t", options)
        assert "2 of 6 rows of t cannot come back, as a hot row or another cold row has" in str(error.value)
        assert "nothing was restored" in str(error.value)
        assert db.execute("SELECT * FROM all_t ORDER BY 1, 2").fetchall() == before
        assert db.execute("SELECT count(*) FROM cold_t").fetchone() == (6,)
        return
    done = restore(db, "t", options)
    for what in ("rows", "files", "conflicts"):
        assert done[what] == planned[what], what


def test_only_cold_rows_can_be_in_the_way(db):
    share_keys(db, "integer primary key")
    db.execute("DELETE FROM t WHERE v = 'g'")
    assert restore(db, "t", {"dry_run": True})["conflicts"] == 1
    with pytest.raises(sqlite3.OperationalError, match="1 of 6 rows of t cannot come back, as another cold row has"):
        restore(db, "t")
    # One of the two at a time is possible.
    assert restore(db, "t", {"to": "2020-02-01"})["rows"] == 3


def test_rows_without_a_key_are_no_conflict(db):
    db.execute("CREATE TABLE t (created_at TEXT, u TEXT UNIQUE)")
    db.execute("INSERT INTO t VALUES ('2020-01-01', NULL), ('2020-01-01', NULL), ('2999-01-01', NULL)")
    archive(db, "t", 7)
    assert restore(db, "t", {"dry_run": True})["conflicts"] == 0
    assert restore(db, "t")["rows"] == 2


@pytest.mark.parametrize("taken", ["_rowid_", "rowid, oid", "_rowid_, oid"])
def test_where_with_columns_named_as_the_rowid(db, taken):
    """Which rows match does not hang on a name of the rowid; one that is left is the rowid's."""
    names = taken.split(", ")
    (left, *_) = [name for name in ("rowid", "oid", "_rowid_") if name not in names]
    db.execute(f"CREATE TABLE t (ts TEXT, {taken})")
    for n in range(1, 7):
        db.execute("INSERT INTO t VALUES (?" + ", ?" * len(names) + ")", [f"2020-01-0{n}", *names])
    archive(db, "t", 7)
    sql = "SELECT archive_restore('t', ?)"
    db.execute(sql, [json.dumps({"where": f"{left} IN (2, 3) AND \"{names[0]}\" = '{names[0]}'"})]).fetchall()
    back = db.execute(f"SELECT {left}, ts FROM main.t ORDER BY 1").fetchall()
    assert back == [(2, "2020-01-02"), (3, "2020-01-03")]
