"""archive_run gives the room of rows that moved back to the disk, or says why it did not."""

import json
import sqlite3

import pytest
from test_full_disk import disk, leave_free  # noqa: F401 (a fixture)

from conftest import connect


def vacuum(db):
    (text,) = db.execute("""SELECT archive_run('{"backup":false}') ->> '$.vacuum'""").fetchone()
    return json.loads(text)


def fill(db, rows=20_000, key="INTEGER PRIMARY KEY"):
    # Without a catalog there would be nothing to run.
    db.execute("SELECT archive_config('grace_hours', 0)").fetchall()
    db.execute(f"CREATE TABLE t (id {key}, ts TEXT, v TEXT)")
    db.execute(f"""WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows})
            INSERT INTO t SELECT n, '2020-01-01', hex(randomblob(100)) FROM c""")
    db.execute("INSERT INTO t VALUES (999999, '2999-01-01', 'hot')")


def free(db):
    return db.execute("PRAGMA freelist_count").fetchone()[0]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_the_file_shrinks(db, path, mode):
    """The free pages leave the file, in WAL mode too, and every row stays."""
    db.execute(f"PRAGMA journal_mode = {mode}")
    fill(db)
    db.execute("DELETE FROM t WHERE id % 20")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    rows = db.execute("SELECT rowid, * FROM t").fetchall()
    before = path.stat().st_size
    done = vacuum(db)
    assert done["bytes_before"] == before
    assert done["bytes_after"] == path.stat().st_size < before / 2
    assert done["elapsed_ms"] >= 0 and free(db) == 0
    assert db.execute("SELECT rowid, * FROM t").fetchall() == rows and len(rows) == 1000


def test_too_little_is_free(db):
    """Below vacuum_free_percent it is not worth it; the reason has the numbers."""
    fill(db)
    db.execute("DELETE FROM t WHERE id < 1000")
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    count = free(db)
    assert 0 < count < pages / 10
    reason = vacuum(db)["skipped"]
    assert f"{count} of {pages} pages" in reason and "10 percent" in reason
    db.execute("SELECT archive_config('vacuum_free_percent', 1)")
    assert "bytes_after" in vacuum(db)
    assert free(db) == 0


def test_a_statement_that_reads(db):
    """A reader that does not end, here the statement itself, is a reason to skip it."""
    fill(db)
    db.execute("DELETE FROM t WHERE id % 20")
    pages = db.execute("PRAGMA page_count").fetchone()
    sql = """SELECT archive_run('{"backup":false}') ->> '$.vacuum.skipped' FROM t LIMIT 1"""
    assert db.execute(sql).fetchall() == [("a query of this connection is not finished",)]
    assert db.execute("PRAGMA page_count").fetchone() == pages
    assert "bytes_after" in vacuum(db)


def test_a_reader_of_a_wal(db, path):
    """In WAL mode a reader goes on with what it sees; only the file's length has to wait."""
    db.execute("PRAGMA journal_mode = WAL")
    fill(db)
    db.execute("DELETE FROM t WHERE id % 20")
    pages = db.execute("PRAGMA page_count").fetchone()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    rows = other.execute("SELECT count(*), sum(id) FROM t").fetchone()
    assert "bytes_after" in vacuum(db)
    assert other.execute("SELECT count(*), sum(id) FROM t").fetchone() == rows
    assert db.execute("PRAGMA page_count").fetchone() < pages
    other.close()


def test_a_query_that_is_half_read(db):
    """What the second connection writes would keep this one from ending its run."""
    db.execute("PRAGMA journal_mode = wal")
    fill(db)
    db.execute("DELETE FROM t WHERE id % 20")
    cursor = db.execute("SELECT id FROM t")
    cursor.fetchone()
    assert "a query of this connection" in vacuum(db)["skipped"]
    assert db.execute("SELECT status FROM archive_history").fetchall() == [("done",)]
    assert len(cursor.fetchall()) == 999
    assert "bytes_after" in vacuum(db)


def test_memory(tmp_path, monkeypatch):
    """There is no file to shrink."""
    monkeypatch.setenv("ARCHIVE_DIR", str(tmp_path))
    db = connect(":memory:")
    fill(db, 10)
    assert "in memory" in vacuum(db)["skipped"]
    db.close()


def test_rows_keep_their_numbers(db):
    """VACUUM would number anew the rows of a table without a key, whose cold rows have theirs."""
    fill(db, 2000, "INT")
    db.execute("""SELECT archive_table('t', 7)""").fetchall()
    rows = db.execute("SELECT rowid, * FROM t").fetchall()
    assert rows[0][0] > 1
    reason = vacuum(db)["skipped"]
    assert "rowids of t" in reason and "INTEGER PRIMARY KEY" in reason
    assert db.execute("SELECT rowid, * FROM t").fetchall() == rows
    # With an index they keep their numbers.
    db.execute("CREATE INDEX by_id ON t (id)")
    assert "bytes_after" in vacuum(db)
    assert db.execute("SELECT rowid, * FROM t").fetchall() == rows


def test_a_full_disk(disk):  # noqa: F811
    """Without room for a second copy it is skipped; the database is as it was."""
    db = connect(disk / "test.db")
    fill(db)
    db.execute("DELETE FROM t WHERE id % 3")
    db.execute("SELECT archive_config('vacuum_free_percent', 0)")
    leave_free(disk, 200)
    assert "room" in vacuum(db)["skipped"]
    leave_free(disk, 20_000)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert "bytes_after" in vacuum(db)
    db.close()
