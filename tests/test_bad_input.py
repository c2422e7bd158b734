"""Bad input to every function: an error that names the function and what is wrong; nothing changes."""

import hashlib
import json
import os
import re
import sqlite3
from contextlib import closing

import pytest

from conftest import archive, connect

SCHEMA = """
    CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v);
    INSERT INTO t (created_at, v) VALUES ('2020-01-01', 1), ('2020-01-02', 2), ('2999-01-01', 3);
    CREATE TABLE gone (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v);
    INSERT INTO gone (created_at, v) SELECT created_at, v FROM t;
    CREATE TABLE other (created_at TEXT, w);
    CREATE VIEW a_view AS SELECT * FROM t;
    CREATE VIRTUAL TABLE a_virtual USING fts5 (created_at);
"""
TEMP = "CREATE TEMP TABLE a_temp (created_at); CREATE TEMP VIEW a_temp_view AS SELECT 1;"


@pytest.fixture
def db(path):
    """A table with cold rows and a policy, one that has vanished, and one of everything else."""
    connection = connect(path)
    connection.executescript(SCHEMA)
    for table in ("t", "gone"):
        archive(connection, table, None, {"before": "2020-01-02"})
        connection.execute("SELECT archive_policy(?, 7)", [table]).fetchall()
    connection.execute("DROP TABLE gone")
    connection.execute("SELECT archive_attach()").fetchall()
    connection.executescript(TEMP)
    yield connection
    connection.close()


def state(path):
    """The database as a dump, and every file beside it."""
    with closing(sqlite3.connect(path)) as plain:
        dump = list(plain.iterdump())
    files = {}
    for file in sorted(path.parent.rglob("*")):
        if not file.name.startswith(path.name):
            content = file.read_bytes() if file.is_file() else b""
            files[str(file)] = hashlib.sha256(content).hexdigest()
    return dump, files


def refused(db, path, function, *arguments):
    """The message that a call fails with. Nothing changed, and the connection goes on."""
    before = state(path)
    marks = ", ".join("?" * len(arguments))
    with pytest.raises(sqlite3.OperationalError) as error:
        db.execute(f"SELECT {function}({marks})", arguments).fetchall()
    message = str(error.value)
    assert message.startswith(f"{function}: ") and "internal error" not in message
    assert state(path) == before and not db.in_transaction
    assert db.execute("SELECT count(*) FROM all_t").fetchone() == (3,)
    return message


NO_TEXT = [None, 5, 1.5, b"t"]
NO_NAME = ["", '""', "[]"]
HOSTILE = [
    *(
        "nope",
        "main.t",
        'x"; DROP TABLE t; --',
        "t'; DROP TABLE t; --",
        "new\nline",
        "☃",
        "a" * 200,
    ),
    *("%", "../t", "/etc/passwd", "..", '"t', "t\0x", "cold_nope"),
]
THINGS = {
    "a_view": "is a view",
    "a_virtual": "is a virtual table",
    "a_temp": "TEMP",
    "a_temp_view": "TEMP",
    "cold_t": "TEMP",
    "all_t": "TEMP",
    "sqlite_schema": "SQLite's own",
    "SQLITE_sequence": "SQLite's own",
    "_archive_file": "archive catalog",
    "_ARCHIVE_anything": "archive catalog",
}
TEXT = "must be text"
NEVER = "has never been archived"
NAMES = {
    "archive_table": ((7,), "no such table|contains a NUL"),
    "archive_policy": ((7,), "no such table|contains a NUL"),
    "archive_policy_drop": ((), "has no policy"),
    "archive_restore": ((), NEVER),
    "archive_verify": ((), NEVER),
    "archive_adopt": ((), f"{NEVER}|{TEXT}"),
    "archive_rename": (("new",), f"{NEVER}|{TEXT}"),
}


@pytest.mark.parametrize("function", NAMES)
def test_names_of_tables(db, path, function):
    """A name that is none, or that of something else, or hostile, is refused as such."""
    others, unknown = NAMES[function]
    for name in NO_TEXT:
        if function != "archive_verify" or name is not None:
            assert re.search(TEXT, refused(db, path, function, name, *others))
    for name in NO_NAME + HOSTILE:
        message = refused(db, path, function, name, *others)
        assert re.search(unknown, message) and "\0" not in message
    for name, words in THINGS.items():
        message = refused(db, path, function, name, *others)
        assert re.search(words if others == (7,) else unknown, message), message


def test_new_names_of_cold_rows(db, path):
    """Cold rows go to a table that could be archived, or to a name that is free."""
    for name in NO_TEXT + NO_NAME:
        assert TEXT in refused(db, path, "archive_rename", "gone", name)
    for name in ("a_view", "a_virtual", "sqlite_schema", "sqlite_sequence", "_archive_file"):
        assert THINGS.get(name, "own") in refused(db, path, "archive_rename", "gone", name)
    assert "NUL" in refused(db, path, "archive_rename", "gone", "x\0y")
    assert "of its own" in refused(db, path, "archive_rename", "gone", "T")
    assert "not certain" in refused(db, path, "archive_rename", "gone", "other")
    assert "ALTER TABLE" in refused(db, path, "archive_rename", "t", "free")
    for name in HOSTILE[2:12]:
        (text,) = db.execute("SELECT archive_rename('gone', ?)", [f"x{name}"]).fetchone()
        new = json.loads(text)["table"]
        quoted = '"cold_' + new.replace('"', '""') + '"'
        assert db.execute(f"SELECT count(*) FROM {quoted}").fetchone() == (1,)
        db.execute(
            "SELECT archive_rename(?, 'gone')", ['"' + new.replace('"', '""') + '"']
        ).fetchall()


NO_OBJECT = [5, 1.5, b"{}", "", "{", "[]", "1", "null", '"x"', "{}x", "[" * 100_000, '{"a":' * 500]
OPTIONS = {
    "archive_table": ("t", 7),
    "archive_policy": ("t", 7),
    "archive_restore": ("t",),
    "archive_adopt": ("t",),
    "archive_run": (),
    "archive_gc": (),
}


@pytest.mark.parametrize("function", OPTIONS)
def test_options_that_are_no_object(db, path, function):
    """What is no JSON object, has unknown keys or a key twice is refused."""
    for options in NO_OBJECT:
        message = refused(db, path, function, *OPTIONS[function], options)
        assert "must be a JSON object" in message or "not JSON" in message
    message = refused(db, path, function, *OPTIONS[function], '{"nope": 1}')
    assert "unknown option nope; there are" in message
    twice = '{"dry_run": true, "dry_run": false}'
    assert "given twice" in refused(db, path, function, *OPTIONS[function], twice)


ARCHIVE = {
    "time_column": [1, [], {}, True, "", "nope"],
    "time_format": [1, [], {}, "", "unix"],
    "before": [1, [], {}, "", "2024-01-01"],
    "where": [1, [], {}, "", "nope", "1; DROP TABLE t", "?"],
    "partition": [1, [], {}, "", "week"],
    "batch_size": [0, -1, 1.5, 2**70, "x", "", [], {}, True],
    "compression_level": [0, 23, 1.5, 2**70, "x", [], {}],
    "grace_hours": [-1, 1.5, 2**70, 2**62, "x", [], {}],
    "expire_days": [0, -1, 1.5, 2**70, 2**62, "x", [], {}, 3],
    "dry_run": [2, 1.5, "yes", [], {}],
    "pause_ms": [-1, 1.5, 2**70, "x", [], {}],
    "max_rows_per_second": [-1, 1.5, 2**70, "x", [], {}],
    "ignore_foreign_keys": [2, "yes", [], {}],
    "progress": [2, "yes", [], {}],
}
WRONG = {
    "archive_table": ARCHIVE,
    "archive_policy": {**ARCHIVE, "priority": [1.5, "1", [], 2**70], "enabled": [2, "yes", []]},
    "archive_restore": {
        "from": [1, [], "", "soon"],
        "to": [1, [], "", "soon"],
        "where": [1, [], "", "nope", "1; DROP TABLE t", "?"],
        "on_conflict": [1, [], "", "fail"],
        **{
            key: ARCHIVE[key]
            for key in ("batch_size", "pause_ms", "max_rows_per_second", "dry_run")
        },
    },
    "archive_adopt": {
        "columns": [1, "x", [], {"x": None}, {"v": 5}, {"v": {}}, {"v": "nope"}, {"v": "id"}]
    },
    "archive_run": {
        "backup": [2, "yes", []],
        "vacuum": [2, "yes", []],
        "dry_run": [2, "yes", []],
        "on_error": [1, "", "stop", []],
    },
    "archive_gc": {"retention_days": [-1, 40_000, 1.5, 2**70, "x", []], "dry_run": [2, "yes", []]},
}


@pytest.mark.parametrize("function", WRONG)
def test_options_with_wrong_values(db, path, function):
    """Each option with values of other types and out of bounds; the message names the option."""
    for option, values in WRONG[function].items():
        for value in values:
            options = json.dumps({option: value})
            message = refused(db, path, function, *OPTIONS[function], options)
            assert option in message or re.search(
                "had no column|has no column|cannot both", message
            )


@pytest.mark.parametrize(
    "days",
    [None, -1, 1.5, b"7", "7", "", 2**62, "env:", "env:NOPE", "env:ARCHIVE_DIR", "env:SECRET"],
)
def test_hot_days(db, path, days, monkeypatch):
    """A number of days or, for a policy, the variable with it, whose value no message shows."""
    monkeypatch.setenv("SECRET", "hunter2")
    for function in ("archive_table", "archive_policy"):
        message = refused(db, path, function, "t", days)
        assert "days" in message and "hunter2" not in message


def test_a_policy_of_a_table_that_has_vanished(db):
    """archive_run says so and goes on; doing what the message says ends it."""
    (text,) = db.execute("""SELECT archive_run('{"vacuum":false}')""").fetchone()
    results = {table["table"]: table for table in json.loads(text)["tables"]}
    assert results["t"]["status"] == "done" and results["t"]["staged"] == 1
    assert "archive_policy_drop('gone')" in results["gone"]["error"]
    db.execute("SELECT archive_policy_drop('gone')").fetchall()
    (text,) = db.execute("""SELECT archive_run('{"vacuum":false}')""").fetchone()
    assert json.loads(text)["status"] == "done"
    assert db.execute("SELECT count(*) FROM cold_gone").fetchone() == (1,)


def test_settings(db, path):
    """Every setting with values that it cannot have, and names that are none."""
    for key in NO_TEXT:
        assert TEXT in refused(db, path, "archive_config", key)
        assert TEXT in refused(db, path, "archive_config", key, 1)
    for key in ("", "nope", "BATCH_SIZE", "batch_size\0"):
        assert "unknown setting" in refused(db, path, "archive_config", key, 1)
    (text,) = db.execute("SELECT archive_config()").fetchone()
    for setting in json.loads(text):
        for value in (b"1", -1, 1.5, "", "\0", 2**62):
            assert setting["key"] in refused(db, path, "archive_config", setting["key"], value)


@pytest.mark.parametrize("folder", ["..", "../up", "/abs", "a/../../b", "a/..", "./../x", "x\0y"])
def test_an_archive_folder_elsewhere(db, path, folder):
    """archive_dir stays below the database, whether it is set, or written into the catalog."""
    assert "archive_dir" in refused(db, path, "archive_config", "archive_dir", folder)
    db.execute("INSERT INTO _archive_config VALUES ('archive_dir', ?)", [folder])
    before = state(path)
    for sql in ("SELECT archive_table('t', 7)", "SELECT count(v) FROM cold_t"):
        with pytest.raises(sqlite3.DatabaseError, match="archive_dir must be"):
            db.execute(sql).fetchall()
    assert state(path) == before


@pytest.mark.parametrize(
    "bad", ["../x.parquet", "/etc/passwd", "t/../../x", "", ".", "a\0b", 5, None]
)
def test_a_path_in_the_catalog_that_leads_elsewhere(db, path, bad):
    """A file outside the archive folder is not opened: an error, or a problem for archive_verify."""
    if bad is None:
        bad = b"x"
    db.execute("UPDATE _archive_file SET path = ? WHERE id = 1", [bad])
    with pytest.raises(sqlite3.DatabaseError):
        db.execute("SELECT count(v) FROM cold_t").fetchall()
    (text,) = db.execute("SELECT archive_verify()").fetchone()
    assert json.loads(text)["problems"]


def test_links_that_lead_elsewhere(db, path, tmp_path_factory):
    """A link in the place of the archive folder, or of a cold file, is not followed."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    folder = path.parent / "archive" / "parquet"
    (file,) = (folder / "t").rglob("*.parquet")
    moved = elsewhere / "x.parquet"
    file.rename(moved)
    os.symlink(moved, file)
    with pytest.raises(sqlite3.DatabaseError, match="parquet"):
        db.execute("SELECT count(v) FROM cold_t").fetchall()
    os.remove(file)
    moved.rename(file)
    folder.rename(elsewhere / "parquet")
    os.symlink(elsewhere / "parquet", folder)
    before = state(path)
    for sql in ("SELECT archive_table('t', 7)", "SELECT count(v) FROM cold_t"):
        with closing(connect(path)) as fresh:
            with pytest.raises(sqlite3.DatabaseError, match="link that leads away"):
                fresh.execute(sql).fetchall()
    assert state(path) == before


@pytest.mark.parametrize(
    "times", [5, 1.5, b"03:30", "", "25:00", "3:30,", "* * * *", "0 0 31 2 *", "x"]
)
def test_times(db, path, times):
    """A schedule that is none is refused, and nothing is started."""
    assert "the times must be" in refused(db, path, "archive_schedule", times)


def test_paths_of_backups(db, path):
    """A backup goes to a new file; never over another, and not where SQLite has files of its own."""
    for target in (5, 1.5, b"x", ""):
        assert "path must be text" in refused(db, path, "archive_backup", target)
    assert "already there" in refused(db, path, "archive_backup", str(path))
    for end in ("-journal", "-wal", "-shm"):
        assert "SQLite's own" in refused(db, path, "archive_backup", f"{path}{end}")
    for target in (path.parent / "nowhere" / "x.db", path / "x.db", path.parent / ("x" * 300)):
        assert str(target.parent) in refused(db, path, "archive_backup", str(target))


@pytest.mark.parametrize(
    "function",
    "table policy policy_drop run restore verify gc backup config schedule rename adopt attach".split(),
)
def test_too_many_arguments(db, function):
    """Each function says itself that the number of arguments is wrong."""
    with pytest.raises(sqlite3.OperationalError, match=f"arguments to function archive_{function}"):
        db.execute(f"SELECT archive_{function}(1, 2, 3, 4)")
