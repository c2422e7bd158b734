"""What may only read, only reads: read-only connections, and hosts that let strangers write SELECTs."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from conftest import FAULTS_LIBRARY, LIBRARY, archive, connect, load

# Every function that changes the database, the disk or the process.
CHANGING = {
    "archive_table": ("t", 7),
    "archive_restore": ("t",),
    "archive_run": (),
    "archive_gc": (),
    "archive_backup": (),
    "archive_policy": ("t", 30),
    "archive_policy_drop": ("t",),
    "archive_config": ("pause_ms", 5),
    "archive_rename": ("gone", "new"),
    "archive_adopt": ("t",),
    "archive_schedule": ("03:30",),
    "archive_recover": (),
}
OTHERS = [
    ("archive_run", '{"dry_run":true}'),
    ("archive_gc", '{"dry_run":true}'),
    ("archive_config", "pause_ms", None),
    ("archive_schedule", None),
    ("archive_restore", "t", '{"where":"id = 1"}'),
]
READING = {"archive_attach", "archive_verify", "archive_version"}
LISTINGS = ["archive_status", "archive_files('t')", "archive_history", "archive_scan_stats"]


@pytest.fixture
def full(path):
    """A database with everything that the functions could change: cold rows, a policy, backups,
    leftovers, a schedule."""
    with closing(connect(path)) as db:
        for table in ("t", "gone"):
            db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT)")
            db.execute(f"INSERT INTO {table} VALUES (1, '2020-01-01'), (2, '2021-01-01')")
            archive(db, table, None, {"before": "2020-06-01"})
        db.execute("DROP TABLE gone")
        db.execute("SELECT archive_policy('t', 7)").fetchall()
        db.execute("SELECT archive_config('backup_keep', 1)").fetchall()
        db.execute("SELECT archive_config('pause_ms', 1)").fetchall()
        db.execute("SELECT archive_backup()").fetchall()
        db.execute("SELECT archive_restore('t')").fetchall()
        archive(db, "t", None, {"before": "2020-06-01"})
        db.execute("SELECT archive_config('retention_days', 0)").fetchall()
    return path


def state(path):
    """Every file, by its name and content."""
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    ours = [file for file in files if not file.name.endswith(("-wal", "-shm"))]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(ours)}


def open_read_only(path, how):
    """A connection that must not write."""
    if how == "mode":
        return connect(f"{path.as_uri()}?mode=ro", uri=True)
    connection = connect(path)
    connection.execute("PRAGMA query_only = 1")
    return connection


def call(db, function, *arguments):
    marks = ", ".join("?" * len(arguments))
    (text,) = db.execute(f"SELECT {function}({marks})", arguments).fetchone()
    return json.loads(text)


@pytest.mark.parametrize("how", ["mode", "query_only"])
def test_what_writes_refuses(full, how):
    """Each call says why, and nothing changes: no row, no file, no backup, no schedule."""
    with closing(open_read_only(full, how)) as db:
        before = state(full)
        for function, *arguments in [(f, *a) for f, a in CHANGING.items()] + OTHERS:
            with pytest.raises(sqlite3.OperationalError) as error:
                call(db, function, *arguments)
            assert str(error.value).startswith(f"{function}: the ")
            assert " is read-only" in str(error.value) and not db.in_transaction
        with pytest.raises(sqlite3.OperationalError, match="is read-only"):
            call(db, "archive_backup", str(full.with_name("elsewhere.db")))
        assert call(db, "archive_schedule")["scheduled"] is False
        assert call(db, "archive_config", "pause_ms")["value"] == 1
        assert state(full) == before


@pytest.mark.parametrize("how", ["mode", "query_only"])
def test_what_reads_works(full, how):
    """Queries, listings, archive_verify; and a dry run, for which SQLite must be able to write to temp."""
    with closing(open_read_only(full, how)) as db:
        before = state(full)
        assert db.execute("SELECT count(*) FROM all_t").fetchone() == (2,)
        for listing in LISTINGS:
            db.execute(f"SELECT * FROM {listing}").fetchall()
        assert call(db, "archive_verify")["problems"] == []
        for function, arguments in (("archive_table", ("t", 7)), ("archive_restore", ("t",))):
            if how == "mode":
                assert call(db, function, *arguments, '{"dry_run":true}')["rows"] == 1
            else:
                with pytest.raises(sqlite3.OperationalError, match="PRAGMA query_only is on"):
                    call(db, function, *arguments, '{"dry_run":true}')
        assert state(full) == before


def functions(db):
    """The functions of ours that a connection has."""
    sql = "SELECT DISTINCT name FROM pragma_function_list WHERE name LIKE 'archive~_%' ESCAPE '~'"
    return {name for (name,) in db.execute(sql)}


def by_entry_point(path, entry):
    """A connection that loads the library by another entry point."""
    db = sqlite3.connect(path, isolation_level=None)
    db.enable_load_extension(True)
    # Python calls it without one before 3.12.
    db.execute("SELECT load_extension(?, ?)", [str(LIBRARY), entry])
    return db


@pytest.mark.parametrize("how", ["entry point", "environment"])
def test_only_what_reads(full, monkeypatch, how):
    """With ARCHIVE_FUNCTIONS=read or by its own entry point, the others are not even there."""
    monkeypatch.setenv("AUTO_ARCHIVE_ENABLED", "true")
    monkeypatch.setenv("CLEANUP_CRON_TIMES", "03:30")
    if how == "environment":
        monkeypatch.setenv("ARCHIVE_FUNCTIONS", "read")
        db = connect(full)
    else:
        db = by_entry_point(full, "sqlite3_coldread_init")
    with closing(db):
        assert functions(db) == READING
        assert db.execute("SELECT count(*) FROM all_t").fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM cold_t").fetchone() == (1,)
        for listing in LISTINGS:
            db.execute(f"SELECT * FROM {listing}").fetchall()
        assert call(db, "archive_verify")["problems"] == []
        assert call(db, "archive_attach")["tables"] == ["gone", "t"]
        assert "version" in call(db, "archive_version")
        for function, arguments in CHANGING.items():
            with pytest.raises(sqlite3.OperationalError, match="no such function"):
                call(db, function, *arguments)
    monkeypatch.setenv("ARCHIVE_FUNCTIONS", "all")
    monkeypatch.delenv("CLEANUP_CRON_TIMES")
    with closing(connect(full)) as db:
        assert functions(db) == READING | set(CHANGING)
        assert call(db, "archive_schedule")["scheduled"] is False


def test_the_environment_is_stronger_than_the_entry_point(full, monkeypatch):
    """No entry point brings back what the environment has left out."""
    monkeypatch.setenv("ARCHIVE_FUNCTIONS", "read")
    for entry in ("sqlite3_cold_init", "sqlite3_extension_init", "sqlite3_coldread_init"):
        with closing(by_entry_point(full, entry)) as db:
            assert functions(db) == READING


@pytest.mark.parametrize("word", ["READ", "reading", "none", "1"])
def test_a_word_that_is_not_known_fails_the_load(path, monkeypatch, word):
    """It must not end in more functions than were meant."""
    monkeypatch.setenv("ARCHIVE_FUNCTIONS", word)
    with closing(sqlite3.connect(path)) as db:
        with pytest.raises(sqlite3.OperationalError, match=f"must be read or all, not {word}"):
            load(db)
        assert functions(db) == set()


@pytest.mark.parametrize("variable", ["ARCHIVE_FUNCTIONS", "ARCHIVE_DIR"])
def test_a_variable_that_is_no_text_is_not_passed_over(full, variable):
    """Whoever set it did not mean the default."""
    program = """if True:
        import sqlite3, sys
        db = sqlite3.connect(sys.argv[1], isolation_level=None)
        db.enable_load_extension(True)
        try:
            db.load_extension(sys.argv[2])
            db.execute("SELECT archive_table('t', 7)")
        except sqlite3.OperationalError as error:
            print(error)
    """
    before = state(full)
    done = subprocess.run(
        [sys.executable, "-c", program, full, LIBRARY.with_suffix("")],
        env={**os.environb, variable.encode(): b"read\xff"},
        capture_output=True,
        text=True,
    )
    assert f"the environment variable {variable} is not UTF-8" in done.stdout + done.stderr
    assert state(full) == before


@pytest.mark.parametrize("entry", ["sqlite3_cold_init", "sqlite3_extension_init"])
def test_entry_points(path, entry):
    """Drivers that ask for SQLite's general name find it; a file of any name has it."""
    other = path.with_name("any-name.so")
    other.write_bytes(FAULTS_LIBRARY.read_bytes())
    with closing(by_entry_point(path, entry)) as db:
        assert functions(db) == READING | set(CHANGING)
    with closing(sqlite3.connect(path)) as db:
        load(db, other)
        assert "faults" in json.loads(db.execute("SELECT archive_version()").fetchone()[0])["features"]
    with closing(connect(path)) as db:
        assert "faults" not in call(db, "archive_version")["features"]
