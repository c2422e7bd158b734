"""Expiry: cold rows older than expire_days are dropped for good, and nothing else is."""

import json
import signal
import sqlite3
from contextlib import closing

import pytest
from conftest import FAULTS_LIBRARY, archive, connect, process

# 60 days of one row an hour, the first at midnight.
CREATE = """
CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, v);
WITH RECURSIVE series (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM series WHERE i < 1439)
INSERT INTO t
SELECT i, strftime('%Y-%m-%dT%H:%M:%SZ', '2026-01-01', '+' || i || ' hours'), 'v' || i FROM series;
"""
NOW = "2026-03-02T03:30:00Z"
# 20 days before that.
LIMIT = "2026-02-10"
FIRST_LEFT = 40 * 24

# Archives and expires in a process of its own, where the clock stands still.
CHILD = """
import sqlite3, sys
path, library, options, before, after = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None)
connection.enable_load_extension(True)
connection.load_extension(library)
connection.executescript(before)
sql = "SELECT archive_table('t', 7, ?)"
print(connection.execute(sql, [options]).fetchone()[0])
connection.executescript(after)
"""


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The time at which all tests take place."""
    monkeypatch.setenv("SQLITE_COLD_NOW", NOW)


@pytest.fixture
def db(path):
    """A connection of the library with the injected clock to a database with rows."""
    with closing(connect(path, FAULTS_LIBRARY)) as connection:
        connection.executescript(CREATE)
        yield connection


def ids(connection, table="all_t"):
    """The ids of all rows."""
    return [row[0] for row in connection.execute(f"SELECT id FROM {table} ORDER BY id")]


def history(connection):
    """The last run."""
    sql = "SELECT operation, cutoff, planned_rows, rows, files, status FROM archive_history"
    return connection.execute(sql).fetchone()


def files(path):
    """The Parquet files on disk."""
    return sorted(path.parent.rglob("*.parquet"))


@pytest.mark.parametrize("partition, dropped", [("day", 40), ("month", 1), ("year", 0)])
def test_old_rows_are_dropped(db, path, partition, dropped):
    """Whole files leave the catalog, of others only the old rows go; newer and hot ones stay."""
    options = {"partition": partition, "batch_size": 100}
    assert archive(db, "t", 7, options)["expired_rows"] == 0
    on_disk = files(path)
    hot = ids(db, "t")
    options["expire_days"] = 20
    assert archive(db, "t", 7, {**options, "dry_run": True})["expired_rows"] == FIRST_LEFT
    assert len(ids(db)) == 1440
    result = archive(db, "t", 7, options)
    assert (result["rows"], result["expired_rows"]) == (0, FIRST_LEFT)
    assert ids(db) == list(range(FIRST_LEFT, 1440))
    assert ids(db, "t") == hot
    expected = ("expire", f"{LIMIT}T00:00:00Z", FIRST_LEFT, FIRST_LEFT, dropped, "done")
    assert history(db) == expected
    (left,) = db.execute("SELECT count(*) FROM _archive_file").fetchone()
    assert left == len(on_disk) - dropped
    (removed,) = db.execute("SELECT count(*) FROM _archive_removed").fetchone()
    assert removed == dropped
    assert files(path) == on_disk
    (verified,) = db.execute("SELECT archive_verify()").fetchone()
    assert json.loads(verified)["problems"] == []
    assert archive(db, "t", 7, options)["expired_rows"] == 0
    assert history(db)[0] == "archive", "a run with nothing to drop is not in the history"


def test_dropped_as_soon_as_cold(db, path):
    """Rows that are too old when they are archived are dropped by the same call; the files stay."""
    result = archive(db, "t", 7, {"expire_days": 20})
    assert (result["rows"], result["expired_rows"]) == (1272, FIRST_LEFT)
    assert ids(db) == list(range(FIRST_LEFT, 1440))
    assert len(files(path)) == 53


def test_files_stay_until_gc(db, path):
    """A dropped file is on disk until archive_gc finds it older than the retention period."""
    archive(db, "t", 7, {"expire_days": 20})
    db.execute("SELECT archive_gc()").fetchone()
    archive(db, "t", 7)
    assert len(files(path)) == 53
    db.execute("SELECT archive_gc('{\"retention_days\":0}')").fetchone()
    assert len(files(path)) == 13
    assert ids(db) == list(range(FIRST_LEFT, 1440))


def test_emptied_file_leaves_the_catalog(db):
    """A file of which the newer rows are hot again goes with the last of its old rows."""
    archive(db, "t", 7, {"partition": "month"})
    db.execute("""SELECT archive_restore('t', '{"from":"2026-02-10"}')""").fetchone()
    result = archive(db, "t", 30, {"partition": "month", "expire_days": 30})
    assert result["expired_rows"] == 30 * 24
    result = archive(db, "t", 20, {"partition": "month", "expire_days": 20})
    assert result["expired_rows"] == 10 * 24
    assert db.execute("SELECT count(*) FROM _archive_file").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM _archive_tombstone").fetchone() == (0,)
    assert ids(db) == ids(db, "t") == list(range(FIRST_LEFT, 1440))


def test_unfinished_files_are_left_alone(db):
    """Rows of a file that is staged, or not published to its end, are no business of expiry."""
    archive(db, "t", 7, {"partition": "month"})
    for change in ("published = rows - 1", "published = 0, staged_at = '2026-03-02'"):
        db.execute("BEGIN")
        db.execute(f"UPDATE _archive_file SET {change}")
        expire = {"before": "2026-02-11", "expire_days": 20, "dry_run": True}
        assert archive(db, "t", None, expire)["expired_rows"] == 0
        db.execute("ROLLBACK")


@pytest.mark.parametrize("end, left", [("ROLLBACK", 0), ("COMMIT", FIRST_LEFT)])
@pytest.mark.parametrize("partition", ["day", "year"])
def test_inside_a_transaction(db, end, left, partition):
    """Inside the caller's transaction, expiry is a part of that."""
    archive(db, "t", 7, {"partition": partition})
    db.execute("BEGIN")
    options = {"partition": partition, "expire_days": 20}
    assert archive(db, "t", 7, options)["expired_rows"] == FIRST_LEFT
    assert ids(db)[0] == FIRST_LEFT
    db.execute(end)
    assert ids(db) == list(range(left, 1440))


@pytest.mark.parametrize("partition, nth", [("day", 1), ("year", 1), ("year", 5)])
@pytest.mark.parametrize("action", ["kill", "error"])
def test_cut_off(path, db, partition, nth, action):
    """A run that dies or fails while it drops rows has dropped old ones only; the next goes on."""
    archive(db, "t", 7, {"partition": partition})
    options = json.dumps({"partition": partition, "expire_days": 20, "batch_size": 50})
    arguments = (path, FAULTS_LIBRARY.with_suffix(""), options, "", "")
    with process(CHILD, *arguments, fault=f"expire.commit:{nth}:{action}") as child:
        errors = child.communicate(timeout=60)[1]
    assert child.returncode == (-signal.SIGKILL if action == "kill" else 1), errors
    first = (nth - 1) * 50
    assert ids(db) == list(range(first, 1440))
    on_disk = files(path)
    assert archive(db, "t", 7, json.loads(options))["expired_rows"] == FIRST_LEFT - first
    assert ids(db) == list(range(FIRST_LEFT, 1440))
    assert files(path) == on_disk
    ended = db.execute("SELECT rows, status FROM archive_history WHERE operation = 'expire'")
    status = "interrupted" if action == "kill" else "failed"
    assert ended.fetchall() == [(FIRST_LEFT - first, "done"), (first, status)]


def test_wrong_days(db):
    """expire_days must be a positive number of days, not before hot_days."""
    for days, message in (
        (0, "must be a whole number of days"),
        ("x", "must be a whole number of days"),
        (3, "is less than hot_days"),
    ):
        with pytest.raises(sqlite3.OperationalError, match=message):
            archive(db, "t", 7, {"expire_days": days})
    assert len(ids(db, "t")) == 1440
