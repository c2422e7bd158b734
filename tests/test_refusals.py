"""What cannot be archived is refused with a message that says why, and nothing is changed."""

import sqlite3
import time
from contextlib import closing

import pytest

from conftest import archive, connect, load

OLD = "2020-01-01"


def setup(db):
    """One of everything that has a name."""
    db.executescript(f"""
        CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v);
        INSERT INTO t (created_at, v) VALUES ('{OLD}', 1), ('{OLD}', 2), ('2999-01-01', 3);
        CREATE VIEW a_view AS SELECT * FROM t;
        CREATE VIRTUAL TABLE a_virtual USING fts5(created_at);
        CREATE TEMP TABLE a_temp (created_at);
        CREATE TABLE no_time (id INT, "über name", stamp TEXT);
        CREATE TABLE mixed (ts);
        INSERT INTO mixed VALUES (1577836800), (1577836800000);
        CREATE TABLE odd (ts);
        INSERT INTO odd VALUES ('yesterday'), (20200101);
        CREATE TABLE taken (ts); CREATE TABLE cold_taken (x);
        CREATE TABLE taken2 (ts); CREATE VIEW ALL_TAKEN2 AS SELECT 1;
        CREATE TABLE reserved (ts, _archive_rowid);
        ATTACH ':memory:' AS extra;
        CREATE TABLE extra.elsewhere (created_at);
        """)


def state(path):
    """The database's bytes, and every other file's name beside it."""
    return path.read_bytes(), sorted(map(str, path.parent.rglob("*")))


def refused(db, *arguments):
    """The message with which archive_table fails."""
    with pytest.raises(sqlite3.Error) as error:
        archive(db, *arguments)
    message = str(error.value)
    assert message.startswith("archive_table: ") and "internal error" not in message
    return message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing", 7), ["no such table: missing"]),
        (("", 7), ["no such table"]),
        ((None, 7), ["name must be text"]),
        ((5, 7), ["name must be text"]),
        (("a_view", 7), ["a_view is a view"]),
        (("a_virtual", 7), ["a_virtual is a virtual table"]),
        (("sqlite_sequence", 7), ["sqlite_sequence", "SQLite's own"]),
        (("SQLITE_schema", 7), ["SQLite's own"]),
        (("_archive_file", 7), ["_archive_file", "catalog"]),
        (("a_temp", 7), ["a_temp is a TEMP table"]),
        (("elsewhere", 7), ["elsewhere", "attached database extra"]),
        (("extra.elsewhere", 7), ["attached database extra"]),
        (("no_time", 7), ["time_column", "id, über name, stamp", "created_at"]),
        (("t", 7, {"time_column": "nope"}), ["nope", "id, created_at, v"]),
        (
            ("mixed", 7),
            ["ambiguous", "1577836800 (unix_s)", "1577836800000 (unix_ms)", "time_format"],
        ),
        (("odd", 7), ["'yesterday'", "time_format"]),
        (("taken", 7), ["cold_taken", "rename"]),
        (("taken2", 7), ["all_taken2", "rename"]),
        (("reserved", 7), ["_archive_rowid", "rename"]),
        (("t", -1), ["hot_days must not be negative"]),
        (("t", "7"), ["hot_days must be a whole number"]),
        (("t", "seven"), ["hot_days must be a whole number"]),
        (("t", 7.5), ["hot_days must be a whole number"]),
        (("t", b"7"), ["hot_days must be a whole number"]),
        (("t", 2**62), ["hot_days"]),
        (("t", None), ["hot_days is NULL", "before"]),
        (("t", 7, {"before": "2024-01-01"}), ["hot_days", "before", "exclude"]),
        (("t", None, {"before": "soon"}), ["before", "soon"]),
        (("t", 7, {"hot": 1}), ["unknown option hot", "batch_size"]),
        (("t", 7, "{"), ["not JSON"]),
        (("t", 7, "[]"), ["must be a JSON object"]),
        (("t", 7, 5), ["must be a JSON object"]),
        (("t", 7, {"time_column": 5}), ["time_column must be text"]),
        (("t", 7, {"time_format": "unix"}), ["time_format", "unix_s", "not unix"]),
        (("t", 7, {"partition": "week"}), ["partition", "day, month or year", "week"]),
        (("t", 7, {"batch_size": 0}), ["batch_size", "from 1 to"]),
        (("t", 7, {"batch_size": "many"}), ["batch_size", "many"]),
        (("t", 7, {"batch_size": 1.5}), ["batch_size", "1.5"]),
        (("t", 7, {"compression_level": 23}), ["compression_level", "from 1 to 22", "23"]),
        (("t", 7, {"dry_run": "yes"}), ["dry_run", "true or false"]),
        (("t", 7, {"ignore_foreign_keys": 2}), ["ignore_foreign_keys", "true or false"]),
        (("t", 7, {"progress": []}), ["progress", "true or false"]),
        (("t", 7, {"pause_ms": -1}), ["pause_ms"]),
        (("t", 7, {"pause_ms": 10**9}), ["pause_ms"]),
        (("t", 7, {"where": 1}), ["where must be text"]),
        (("t", 7, {"where": ""}), ["where"]),
        (("t", 7, {"where": "nope = 1"}), ["where", "nope"]),
        (("t", 7, {"where": "v = "}), ["where", "v = "]),
        (("t", 7, {"where": "v = ?"}), ["where", "parameters"]),
        (("t", 7, {"where": "1, 2"}), ["where"]),
        (("t", 7, {"where": "1) FROM t; DELETE FROM t; --"}), ["where"]),
        (("t", 7, {"where": "1; DELETE FROM t"}), ["where"]),
        (("t", 7, {"where": "1) IS TRUE) FROM main.t AS t; DELETE FROM t --"}), ["where"]),
        (("t", 7, {"where": "1) OR (1"}), ["where"]),
        (("t", 7, {"where": "1) IS TRUE) FROM main.t AS t /*"}), ["where"]),
        (("t", 7, {"where": "count(*)"}), ["where"]),
    ],
)
def test_a_wrong_call_is_refused_and_changes_nothing(db, path, arguments, words):
    """The message names what is wrong; the database and the folder stay as they were."""
    setup(db)
    before = state(path)
    message = refused(db, *arguments)
    assert all(word.lower() in message.lower() for word in words), message
    assert state(path) == before


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_wrong_number_of_arguments_is_an_error(db, count):
    """archive_table takes two or three arguments."""
    marks = ", ".join(["'t'"] * count)
    with pytest.raises(sqlite3.OperationalError, match="wrong number of arguments"):
        db.execute(f"SELECT archive_table({marks})")


@pytest.mark.parametrize(
    ("create", "name"),
    [
        ("CREATE TEMP TABLE cold_t (mine)", "cold_t"),
        ("CREATE TEMP TABLE all_t (mine)", "all_t"),
        ("CREATE TEMP VIEW all_t AS SELECT 1 AS mine", "all_t"),
        ("CREATE TEMP VIEW cold_t AS SELECT 1 AS mine", "cold_t"),
    ],
)
def test_a_temp_object_of_the_same_name_is_not_replaced(db, path, create, name):
    """The user's own TEMP cold_t or all_t stays, and nothing is archived behind its back."""
    setup(db)
    db.execute(create)
    before = state(path)
    message = refused(db, "t", 7)
    assert name in message and "rename" in message
    assert [c[0] for c in db.execute(f"SELECT * FROM {name}").description] == ["mine"]
    assert state(path) == before


def test_a_read_only_database_is_refused(db, path):
    """A connection that cannot write is told so."""
    setup(db)
    before = state(path)
    reader = load(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None))
    assert "read-only" in refused(reader, "t", 7)
    assert archive(reader, "t", 7, {"dry_run": True})["rows"] == 2
    reader.close()
    assert state(path) == before


@pytest.mark.parametrize("place", ["archive", "archive/parquet", "archive/parquet/t"])
def test_an_archive_folder_that_cannot_be_made_is_refused(db, path, place):
    """Where the folder should be there is a file: the message names it and every row stays hot."""
    setup(db)
    blocker = path.parent / place
    blocker.parent.mkdir(parents=True, exist_ok=True)
    blocker.write_text("in the way")
    assert str(blocker) in refused(db, "t", 7)
    assert db.execute("SELECT count(*) FROM t").fetchone() == (3,)
    assert blocker.read_text() == "in the way" and not list(path.parent.rglob("*.parquet"))


def test_a_database_in_memory_needs_archive_dir(monkeypatch, tmp_path):
    """Without ARCHIVE_DIR there is no place for cold files; with it there is."""
    db = connect(":memory:")
    setup(db)
    assert "ARCHIVE_DIR" in refused(db, "t", 7)
    assert db.execute("SELECT count(*) FROM t").fetchone() == (3,)
    monkeypatch.setenv("ARCHIVE_DIR", str(tmp_path / "place"))
    assert archive(db, "t", 7)["rows"] == 2
    assert len(list((tmp_path / "place" / "t").rglob("*.parquet"))) == 1
    assert db.execute("SELECT count(*) FROM all_t").fetchone() == (3,)
    db.close()


@pytest.mark.parametrize(
    "pair",
    ["REFERENCES t", "REFERENCES T (id) ON DELETE CASCADE", "REFERENCES t ON DELETE SET NULL"],
)
@pytest.mark.parametrize("enforced", ["ON", "OFF"])
def test_rows_that_others_refer_to_are_refused(db, path, pair, enforced):
    """The message says which table to archive first; doing so helps, and so does the override."""
    setup(db)
    db.execute(f"PRAGMA foreign_keys = {enforced}")
    db.execute(f"CREATE TABLE child (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, t_id {pair})")
    db.execute(f"INSERT INTO child VALUES (1, '{OLD}', 2), (2, '2999-01-01', 3)")
    before = db.execute("SELECT * FROM t").fetchall()
    for options in ({}, {"dry_run": True}):
        message = refused(db, "t", 7, options)
        assert "child (t_id)" in message and "ignore_foreign_keys" in message
    assert db.execute("SELECT * FROM t").fetchall() == before
    assert not list(path.parent.rglob("*.parquet"))
    assert archive(db, "child", 7)["rows"] == 1
    assert archive(db, "t", 7)["rows"] == 2
    assert db.execute("SELECT * FROM all_t ORDER BY id").fetchall() == before
    assert db.execute("SELECT id, t_id FROM all_child ORDER BY id").fetchall() == [(1, 2), (2, 3)]


def test_foreign_keys_can_be_ignored(db):
    """With ignore_foreign_keys the rows go, and the rows that refer to them stay as they are."""
    setup(db)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("CREATE TABLE child (t_id REFERENCES t ON DELETE CASCADE)")
    db.execute("INSERT INTO child VALUES (1), (2)")
    assert archive(db, "t", 7, {"ignore_foreign_keys": True})["rows"] == 2
    assert db.execute("SELECT count(*) FROM child").fetchone() == (2,)


def test_a_refusal_inside_a_transaction_leaves_it_open(db):
    """The caller's own changes survive a failed call."""
    setup(db)
    db.execute("CREATE TABLE child (t_id REFERENCES t)")
    db.execute("INSERT INTO child VALUES (1)")
    db.execute("BEGIN")
    db.execute("UPDATE t SET v = 'own' WHERE id = 3")
    refused(db, "t", 7)
    assert db.in_transaction
    db.execute("COMMIT")
    assert db.execute("SELECT v FROM t").fetchall() == [(1,), (2,), ("own",)]


def lock(path):
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    return holder


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100, None])
def test_loading_never_fails(path, content):
    """The extension loads into a connection whose database is empty, garbage or locked."""
    holder = None
    if content is None:
        sqlite3.connect(path).execute("CREATE TABLE t (ts)")
        holder = lock(path)
    else:
        path.write_bytes(content)
    db = connect(path, timeout=0.1)
    assert "version" in db.execute("SELECT archive_version()").fetchone()[0]
    if content != b"":
        refused(db, "t", 7)
    if holder:
        holder.execute("ROLLBACK")
        assert archive(db, "t", 7)["rows"] == 0
    db.close()


@pytest.mark.parametrize("inside", [False, True])
def test_nothing_is_written_where_nothing_can_be_undone(db, path, inside):
    """P2: with journal_mode=OFF a ROLLBACK undoes nothing; files would go whose rows are deleted."""
    setup(db)
    archive(db, "t", None, {"before": "2020-01-02", "where": "v = 1"})
    assert db.execute("PRAGMA journal_mode = OFF").fetchone() == ("off",)
    if inside:
        db.execute("BEGIN")
    before = state(path)
    assert "journal_mode is OFF" in refused(db, "t", 7)
    with pytest.raises(sqlite3.OperationalError, match="journal_mode is OFF"):
        db.execute("SELECT archive_restore('t')")
    assert state(path) == before
    assert db.execute("SELECT count(*) FROM all_t").fetchone() == (3,)
    if inside:
        db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = DELETE")
    assert archive(db, "t", 7)["rows"] == 1


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_transaction_that_can_write_no_more_is_not_waited_for(db, path, mode):
    """A transaction that has read cannot write once another connection does, however long it waits; and
    in rollback-journal mode that one waits for its end."""
    setup(db)
    db.execute(f"PRAGMA journal_mode = {mode}")
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM t").fetchone()
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO t (created_at) VALUES ('2999-01-01')")
    began = time.monotonic()
    assert "database is locked" in refused(db, "t", 7)
    assert db.in_transaction
    assert time.monotonic() - began < 10
    db.execute("COMMIT")
    other.execute("COMMIT")
    assert archive(db, "t", 7)["rows"] == 2
    other.close()


@pytest.mark.parametrize(
    "call", ["archive_table('t', 7)", "archive_restore('t')", "archive_policy('t', 7)"]
)
def test_what_a_statement_is_writing_stays(db, call):
    """A call while an INSERT ... RETURNING of the same connection still has rows undoes nothing of it."""
    setup(db)
    archive(db, "t", None, {"before": "2020-01-02", "where": "v = 1"})
    new = "INSERT INTO t (created_at, v) VALUES ('2999-01-01', 4), ('2999-01-01', 5) RETURNING v"
    rows = db.execute(new)
    assert rows.fetchone() == (4,)
    with pytest.raises(sqlite3.OperationalError, match="SQL statements in progress"):
        db.execute(f"SELECT {call}")
    assert rows.fetchall() == [(5,)]
    assert db.execute("SELECT v FROM all_t ORDER BY v").fetchall() == [(n,) for n in range(1, 6)]


def test_functions_cannot_be_called_from_a_view(db):
    """All functions are DIRECTONLY: a database from a stranger cannot call them."""
    setup(db)
    db.execute("CREATE VIEW trap AS SELECT archive_table('t', 7)")
    with pytest.raises(sqlite3.OperationalError, match="unsafe use of archive_table"):
        db.execute("SELECT * FROM trap")


def test_a_statement_that_holds_an_older_state_is_told_at_once(path):
    """Another connection has written since a query of this one began, which waits for the call."""
    db = connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    setup(db)
    query = db.execute("SELECT id FROM t")
    query.fetchone()
    with closing(connect(path)) as other:
        other.execute("INSERT INTO t (created_at, v) VALUES ('2999-01-01', 9)")
    start = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="is not finished: read it to its end"):
        db.execute("SELECT archive_table('t', 7)")
    assert time.monotonic() - start < 5
    query.fetchall()
    assert archive(db, "t", 7)["rows"] > 0


def test_a_table_that_is_newer_than_the_catalog_is_registered_alone(db):
    """SQLite drops no table while the statement that calls is being read; nobody waits for that."""
    setup(db)
    archive(db, "t", 7)
    db.execute("CREATE TABLE newer (id INTEGER PRIMARY KEY, ts TEXT)")
    start = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="call again, without FROM"):
        db.execute("SELECT archive_policy(name, 7) FROM sqlite_schema WHERE name = 'newer'")
    assert time.monotonic() - start < 5
    db.execute("SELECT archive_policy('newer', 7)").fetchall()
    again = "SELECT archive_policy(name, 8) FROM sqlite_schema WHERE name IN ('newer', 't')"
    assert len(db.execute(again).fetchall()) == 2


@pytest.mark.parametrize("ddl", ["CREATE TABLE _archive_old (x)", "CREATE VIEW _archive_v AS SELECT 1"])
def test_names_like_those_of_the_catalog_may_be_the_applications(db, ddl):
    """Only the names that the catalog has are its own."""
    setup(db)
    db.execute(ddl)
    assert archive(db, "t", 7)["rows"] == 2
    assert db.execute("SELECT count(*) FROM all_t").fetchone() == (3,)


def test_a_lock_is_not_waited_for_in_a_transaction_before_the_first_archive(db, path):
    """Its state has no catalog, so the files that another connection has written look like remains."""
    db.execute("PRAGMA journal_mode = WAL")
    setup(db)
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM t").fetchall()
    db.execute("PRAGMA busy_timeout = 50")
    with closing(connect(path)) as other:
        archive(other, "t", 7)
        other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(sqlite3.OperationalError):
            db.execute("SELECT archive_config('batch_size', 5)").fetchall()
        assert time.monotonic() - start < 10
