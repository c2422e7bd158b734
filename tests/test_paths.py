"""Where a database can be: whatever its name is, and however it was opened."""

import json
import os
import sqlite3
import sys

import pytest

from conftest import archive, connect, load

NAMES = [
    b"new\nline.db",
    b"question?mark.db",
    b"hash#.db",
    b"percent%41.db",
    b"file:name.db",
    b"quo'te\".db",
    b"*glob[a].db",
    b"no end",
]
if sys.platform.startswith("linux"):
    # Elsewhere file systems take no such name.
    NAMES += [b"caf\xe9.db", b"\xff\xfe"]


def fill(connection):
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT)")
    connection.execute("INSERT INTO t VALUES (1, '2020-01-01'), (2, '2020-02-01'), (3, '2020-03-01')")


@pytest.mark.skipif(os.name != "posix", reason="such names are not possible here")
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_database_can_have_any_name(tmp_path, name):
    home = os.fsencode(tmp_path / "home")
    os.mkdir(home)
    connection = connect(os.path.join(home, name))
    fill(connection)
    assert archive(connection, "t", 7)["rows"] == 2
    assert connection.execute("SELECT count(*) FROM all_t").fetchone() == (3,)
    connection.execute("SELECT archive_policy('t', 7)")
    (summary,) = connection.execute("SELECT archive_run()").fetchone()
    assert json.loads(summary)["errors"] == []
    (shown,) = connection.execute("SELECT archive_schedule('03:30') ->> 'scheduled'").fetchone()
    connection.execute("SELECT archive_schedule(NULL)")
    assert shown == 1
    (removed,) = connection.execute("SELECT archive_gc('{\"retention_days\":0}') ->> 'files'").fetchone()
    assert removed == 0
    connection.close()
    assert sorted(os.listdir(home)) == sorted([b"archive", b"backup", name])
    (backup,) = [found for found in os.listdir(os.path.join(home, b"backup")) if not found.startswith(b".")]
    assert backup.startswith(os.path.splitext(name)[0] + b"-")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such names elsewhere")
def test_names_that_read_the_same_are_two_databases(tmp_path):
    # A lossy reading of both names is the same.
    connections = [connect(os.path.join(os.fsencode(tmp_path), name)) for name in (b"\xe9", b"\xe8")]
    for connection in connections:
        fill(connection)
        assert archive(connection, "t", 7)["rows"] == 2
    for connection in connections:
        (removed,) = connection.execute("SELECT archive_gc('{\"retention_days\":0}') ->> 'files'").fetchone()
        assert removed == 0
        (backup,) = connection.execute("SELECT archive_backup()").fetchone()
        assert json.loads(backup)["kept"] == 1
    for connection in connections:
        assert connection.execute("SELECT count(*) FROM all_t").fetchone() == (3,)
        connection.close()


def test_a_relative_path_is_not_lost_when_the_process_moves(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    connection = connect("home/test.db")
    fill(connection)
    monkeypatch.chdir("/")
    assert archive(connection, "t", 7)["rows"] == 2
    assert connection.execute("SELECT count(*) FROM all_t").fetchone() == (3,)
    connection.execute("SELECT archive_backup()")
    connection.close()
    assert sorted(os.listdir(tmp_path / "home")) == ["archive", "backup", "test.db"]


@pytest.mark.parametrize("how", ["memdb", "deserialized"])
def test_a_name_in_memory_is_not_a_path(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    if how == "memdb":
        name = f"file:{tmp_path.as_posix()}/memory?vfs=memdb"
        connection = load(sqlite3.connect(name, uri=True, isolation_level=None))
        fill(connection)
    else:
        plain = connect(tmp_path / "plain.db")
        fill(plain)
        connection = connect(tmp_path / "other.db")
        connection.deserialize(plain.serialize())
        plain.close()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(sqlite3.OperationalError, match="the database is in memory"):
        archive(connection, "t", 7)
    assert sorted(os.listdir(tmp_path)) == before
    monkeypatch.setenv("ARCHIVE_DIR", str(tmp_path / "cold"))
    assert archive(connection, "t", 7)["rows"] == 2
    connection.close()


def test_an_immutable_database_is_read_only(path):
    connection = connect(path)
    fill(connection)
    connection.execute("SELECT archive_table('t', 7)")
    connection.close()
    name = f"{path.as_uri()}?immutable=1"
    connection = load(sqlite3.connect(name, uri=True, isolation_level=None))
    assert connection.execute("SELECT count(*) FROM all_t").fetchone() == (3,)
    with pytest.raises(sqlite3.OperationalError, match="read-only"):
        archive(connection, "t", 7)
    connection.close()
