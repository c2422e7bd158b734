"""P5, the database stays ordinary: what an application without the extension does with it works."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import apsw
import pytest
from conftest import LIBRARY, archive, connect, load

CUTOFF = {"before": "2024-01-11"}
SHELL = shutil.which("sqlite3")

CREATE = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO users VALUES (1, 'Ann'), (2, 'Ben');
CREATE TABLE notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at TEXT NOT NULL,
    user_id INTEGER REFERENCES users,
    body TEXT COLLATE NOCASE,
    score REAL
);
CREATE INDEX notes_by_user ON notes (user_id);
CREATE TABLE fired (what TEXT);
CREATE TRIGGER on_delete AFTER DELETE ON notes BEGIN INSERT INTO fired VALUES ('delete'); END;
CREATE TRIGGER on_update AFTER UPDATE ON notes BEGIN INSERT INTO fired VALUES ('update'); END;
CREATE TRIGGER before_delete BEFORE DELETE ON notes
BEGIN SELECT raise(ABORT, 'notes are never deleted') WHERE old.score = 7; END;
CREATE VIEW scores AS SELECT user_id, sum(score) AS total FROM notes GROUP BY user_id;
WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < 300)
INSERT INTO notes (created_at, user_id, body, score)
SELECT date('2024-01-01', (i / 20) || ' days'), 1 + i % 2, 'it''s note ' || i, i FROM series;
"""


@pytest.fixture
def archived(path):
    """A database of which 199 rows of 300 are cold; all its rows."""
    with closing(connect(path)) as connection:
        connection.executescript(CREATE)
        rows = connection.execute("SELECT * FROM notes ORDER BY id").fetchall()
        assert archive(connection, "notes", None, CUTOFF)["rows"] == 199
    return rows


def plain(path):
    """A connection of an application that knows nothing of the extension."""
    return closing(sqlite3.connect(path, isolation_level=None))


def shell(path, *arguments, **options):
    """Runs the sqlite3 shell without the extension; returns what it prints."""
    command = [SHELL, "-batch", "-bail", str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout


def all_rows(path, columns="*", table="all_notes"):
    """All rows, hot and cold, as a new connection with the extension sees them."""
    with closing(connect(path)) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()


def test_schema_holds_only_ordinary_tables(path, archived):
    """The file has the user's objects, unchanged, and tables and indexes of the catalog."""
    with plain(path) as connection:
        sql = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
        schema = connection.execute(sql).fetchall()
        untouched = sqlite3.connect(":memory:")
        untouched.executescript(CREATE)
        own = {row for row in schema if not row[1].startswith("_archive_")}
        assert own == set(untouched.execute(sql))
        catalog = [row for row in schema if row[1].startswith("_archive_")]
        assert {kind for kind, _, _ in catalog} == {"table", "index"}
        assert not any("VIRTUAL" in text.upper() for _, _, text in schema)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_triggers_do_not_fire(path, archived):
    """Archiving is a move: no DELETE trigger fires, not even one that forbids it. Afterwards the
    triggers of the same connection work as before."""
    with closing(connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM fired").fetchone() == (0,)
        archive(connection, "notes", None, {"before": "2024-01-12"})
        assert connection.execute("SELECT count(*) FROM fired").fetchone() == (0,)
        connection.execute("DELETE FROM notes WHERE id = 300")
        assert connection.execute("SELECT what FROM fired").fetchall() == [("delete",)]


def test_writes_without_the_extension(path, archived):
    """A plain connection reads and writes the hot rows; all_t shows its changes and the cold rows."""
    with plain(path) as connection:
        assert connection.execute("SELECT * FROM notes ORDER BY id").fetchall() == archived[199:]
        assert connection.execute("SELECT count(*) FROM scores").fetchone() == (2,)
        connection.execute("UPDATE notes SET body = 'new' WHERE id = 250")
        connection.execute("DELETE FROM notes WHERE id = 251")
        new = "INSERT INTO notes (created_at, user_id) VALUES ('2024-02-01', 2) RETURNING id"
        assert connection.execute(new).fetchall() == [(301,)]
    expected = {row[0]: row for row in archived}
    expected[250] = (*archived[249][:3], "new", archived[249][4])
    del expected[251]
    expected[301] = (301, "2024-02-01", 2, None, None)
    assert all_rows(path) == list(expected.values())


@pytest.mark.skipif(not SHELL, reason="there is no sqlite3 shell")
def test_shell_without_the_extension(path, archived):
    """The sqlite3 shell opens, reads, writes and checks the database."""
    assert shell(path, "SELECT count(*) FROM notes").strip() == "101"
    shell(path, "UPDATE notes SET score = 0 WHERE id = 300; VACUUM; ANALYZE; REINDEX;")
    assert shell(path, "PRAGMA integrity_check").strip() == "ok"
    assert "_archive_file" in shell(path, ".tables")
    assert all_rows(path) == [*archived[:299], (*archived[299][:4], 0.0)]


@pytest.mark.parametrize("default", ["'none'", "17", "-2.5", "x'00ff'", "NULL", None])
def test_add_column(path, archived, default):
    """After ADD COLUMN a cold row shows the column's default, as a hot row does."""
    clause = "" if default is None else f"DEFAULT {default}"
    with plain(path) as connection:
        connection.execute(f"ALTER TABLE notes ADD COLUMN extra {clause}")
        value, kind = connection.execute("SELECT extra, typeof(extra) FROM notes").fetchone()
    assert all_rows(path) == [(*row, value) for row in archived]
    assert set(all_rows(path, "typeof(extra)")) == {(kind,)}
    with closing(connect(path)) as connection:
        archive(connection, "notes", None, {"before": "2024-01-13"})
    assert all_rows(path) == [(*row, value) for row in archived]


def test_add_column_on_an_open_connection(path, archived):
    """A connection that was open during the ALTER sees the column after archive_attach()."""
    with closing(connect(path)) as connection:
        with plain(path) as other:
            other.execute("ALTER TABLE notes ADD COLUMN extra DEFAULT 'x'")
        (attached,) = connection.execute("SELECT archive_attach()").fetchone()
        assert json.loads(attached) == {"tables": ["notes"], "problems": []}
        rows = connection.execute("SELECT * FROM all_notes ORDER BY id").fetchall()
        assert rows == [(*row, "x") for row in archived]


def test_rename_column(path, archived):
    """After RENAME COLUMN the cold rows still show their values, under the new name."""
    with plain(path) as connection:
        connection.execute("ALTER TABLE notes RENAME COLUMN body TO content")
    assert all_rows(path) == archived
    with closing(connect(path)) as connection:
        found = connection.execute("SELECT id FROM all_notes WHERE content = 'IT''S NOTE 3'")
        assert found.fetchall() == [(3,)]
        archive(connection, "notes", None, {"before": "2024-01-13"})
    assert all_rows(path) == archived


@pytest.mark.parametrize("column", ["id", "created_at"])
def test_rename_key_or_time_column(path, archived, column):
    """The key and the time column may be renamed as well."""
    with plain(path) as connection:
        connection.execute(f"ALTER TABLE notes RENAME COLUMN {column} TO renamed")
    with closing(connect(path)) as connection:
        rows = connection.execute("SELECT * FROM all_notes ORDER BY 1").fetchall()
        assert rows == archived
        options = {"before": "2024-01-13", "time_column": "renamed"}
        if column == "id":
            del options["time_column"]
        assert archive(connection, "notes", None, options)["rows"] == 40
        rows = connection.execute("SELECT * FROM all_notes ORDER BY 1").fetchall()
        assert rows == archived


def test_drop_column(path, archived):
    """After DROP COLUMN all_t has the columns that are left."""
    with plain(path) as connection:
        connection.execute("DROP VIEW scores")
        connection.execute("DROP TRIGGER before_delete")
        connection.execute("ALTER TABLE notes DROP COLUMN score")
    assert all_rows(path) == [row[:4] for row in archived]


def test_rename_table(path, archived):
    """After RENAME TABLE no row is out of reach: old and new name together show each row once."""
    with plain(path) as connection:
        connection.execute("ALTER TABLE notes RENAME TO remarks")
        assert connection.execute("SELECT count(*) FROM remarks").fetchone() == (101,)
    with closing(connect(path)) as connection:
        sql = "SELECT name FROM temp.sqlite_schema WHERE name IN ('all_notes', 'all_remarks')"
        views = [name for (name,) in connection.execute(sql)]
        assert views
        if views == ["all_remarks"]:
            assert all_rows(path, table="all_remarks") == archived
        else:
            sql = "SELECT * FROM cold_notes UNION ALL SELECT * FROM remarks ORDER BY id"
            assert connection.execute(sql).fetchall() == archived
        archive(connection, "remarks", None, {"before": "2024-01-13"})
        (verified,) = connection.execute("SELECT archive_verify()").fetchone()
        assert json.loads(verified)["rows"] == 239


@pytest.mark.skipif(not SHELL, reason="there is no sqlite3 shell")
def test_dump_restores(path, archived):
    """.dump restores into a new database beside the archive, which then shows the same rows."""
    restored = path.with_name("restored.db")
    shell(restored, input=shell(path, ".dump"))
    assert all_rows(restored) == archived
    with plain(restored) as connection:
        assert connection.execute("SELECT * FROM notes ORDER BY id").fetchall() == archived[199:]
    with closing(connect(restored)) as connection:
        archive(connection, "notes", None, {"before": "2024-01-13"})
    assert all_rows(restored) == archived and all_rows(path) == archived


@pytest.mark.parametrize("into", [False, True])
def test_vacuum(path, archived, into):
    """VACUUM and VACUUM INTO keep hot and cold rows together."""
    copy = path.with_name("copy.db")
    with plain(path) as connection:
        connection.execute(f"VACUUM INTO '{copy}'" if into else "VACUUM")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert all_rows(copy if into else path) == archived


def test_reopened_connection(path, archived):
    """A new connection of another process sees cold_t and all_t at once."""
    program = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.enable_load_extension(True)
connection.load_extension(sys.argv[2])
sql = "SELECT (SELECT count(*) FROM cold_notes), (SELECT count(*) FROM all_notes)"
print(*connection.execute(sql).fetchone())
"""
    command = [sys.executable, "-c", program, str(path), str(LIBRARY.with_suffix(""))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("199 300\n", "")


@pytest.mark.parametrize("defensive", [False, True])
@pytest.mark.parametrize("trusted", [False, True])
def test_careful_connections(path, archived, trusted, defensive):
    """With trusted_schema=OFF and in defensive mode reading and archiving work."""
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, int(trusted))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, int(defensive))
    load(connection)
    rows = "SELECT * FROM all_notes ORDER BY id"
    with closing(connection):
        assert connection.execute(rows).fetchall() == archived
        sql = """SELECT archive_table('notes', NULL, '{"before":"2024-01-13"}') ->> 'rows'"""
        assert connection.execute(sql).fetchall() == [(40,)]
        assert connection.execute(rows).fetchall() == archived
        assert connection.execute("SELECT count(*) FROM cold_notes").fetchall() == [(239,)]
        assert connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == defensive
