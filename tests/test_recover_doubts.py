"""What archive_recover cannot know: nothing of it is decided without a word."""

import os
import sqlite3
import time
from contextlib import closing

import pytest
from conftest import FAULTS_LIBRARY, archive, connect, process
from test_recover import KILLED, call, copies, lose, recover, rows


def files(path):
    return sorted((path.parent / "archive").rglob("*.parquet"))


# Rows with the key of another


def test_a_hot_row_with_the_key_of_a_cold_one_buries_it_only_if_it_is_the_same(db, path):
    """An id was used again: the copy says that the cold row counts, so it still does."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
    db.executemany("INSERT INTO t VALUES (?, ?, 'old')", [(n, f"2020-01-{n:02}") for n in range(1, 9)])
    archive(db, "t", None, {"before": "2020-01-06"})
    db.execute("INSERT INTO t VALUES (3, '2020-01-03', 'new'), (4, '2020-01-04', 'old')")
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert (done["rows"], done["hot_rows"]) == (4, 1)
        assert "1 ids of t are those of a hot row and of a cold one" in done["problems"][0]
        (said,) = [line for line in done["uncertain"] if "1 cold rows of t" in line]
        assert "have the key of a hot row" in said and "all of them count" in said
        cold = again.execute("SELECT id, v FROM cold_t ORDER BY id").fetchall()
        assert cold == [(1, "old"), (2, "old"), (3, "old"), (5, "old")]
        assert len(rows(again, "all_t")) == 9


def test_a_row_of_a_newer_file_gives_way_to_a_hot_one_and_that_is_said(db, path):
    """It was changed while it waited: the hot row is what it is now."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
    db.executemany("INSERT INTO t VALUES (?, ?, 'old')", [(n, f"2020-01-{n:02}") for n in range(1, 9)])
    archive(db, "t", None, {"before": "2020-01-06", "grace_hours": 24})
    db.execute("UPDATE t SET v = 'new' WHERE id = 3")
    for copy in copies(path):
        copy.unlink()
    before = rows(db, "t")
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert (done["rows"], done["hot_rows"]) == (0, 4)
        assert any("1 cold rows of t do not count" in line for line in done["uncertain"])
        assert rows(again, "all_t") == before


def test_rows_that_the_copy_counts_are_not_compared_with_each_other(db, path):
    """Two cold rows with one id, which was used again, are there as they were."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
    db.execute("INSERT INTO t VALUES (9, '2020-02-01', 'hot')")
    for value in ("same", "same", "other"):
        db.execute("INSERT INTO t VALUES (1, '2020-01-01', ?)", [value])
        archive(db, "t", None, {"before": "2020-01-06"})
    before = rows(db, "all_t")
    assert len(before) == 4
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert (done["rows"], done["older_rows"], done["problems"]) == (3, 0, [])
        assert rows(again, "all_t") == before


def test_a_table_that_was_made_again_is_told_by_its_name_and_that_is_said(db, path):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
    db.executemany("INSERT INTO t VALUES (?, ?, 'old')", [(n, f"2020-01-{n:02}") for n in range(1, 9)])
    archive(db, "t", None, {"before": "2020-01-06"})
    db.execute("DROP TABLE t")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
    db.executemany("INSERT INTO t VALUES (?, '2020-02-01', 'another')", [(n,) for n in range(1, 9)])
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert done["rows"] == 5 and len(rows(again, "all_t")) == 13
        (said,) = [line for line in done["uncertain"] if "told by" in line]
        assert "t" in said and "archive_rename" in said


# Files of runs that came to nothing


def leave(db, path, change):
    """Archives in a transaction that is rolled back, and changes what the file has after that."""
    known = set(files(path))
    db.execute("BEGIN")
    archive(db, "t", None, {"before": "2020-01-05"})
    db.execute("ROLLBACK")
    db.execute(change)
    return sorted(set(files(path)) - known)


ROLLED_BACK = KILLED.replace('db.execute("SELECT', 'db.execute("BEGIN")\ndb.execute("SELECT') + 'db.execute("ROLLBACK")\n'

KINDS = {"key": "(id INTEGER PRIMARY KEY, ts TEXT, v)", "none": "(id INTEGER, ts TEXT, v)"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("touched", [False, True])
def test_a_leftover_from_before_the_copy_brings_nothing_back(db, path, kind, touched):
    db.execute(f"CREATE TABLE t {KINDS[kind]}")
    db.executemany("INSERT INTO t VALUES (?, ?, 'old')", [(n, f"2020-01-{n:02}") for n in range(1, 9)])
    left = leave(db, path, "UPDATE t SET v = 'new' WHERE id = 3")
    db.execute("DELETE FROM t WHERE id = 2")
    archive(db, "t", None, {"before": "2020-01-06"})
    before = rows(db, "all_t")
    if touched:
        for file in left:
            os.utime(file, (time.time() + 9, time.time() + 9))
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert (done["rows"], done["new_files"], done["problems"]) == (4, 0, [])
        (said,) = [line for line in done["uncertain"] if left[0].name in line or "do not say" in line]
        assert f"{len(left)} cold files" in said
        assert rows(again, "all_t") == before
        assert call(again, "archive_gc('{\"retention_days\":0}')")["unknown_files"] == len(left)
        with pytest.raises(sqlite3.OperationalError, match="nothing is lost"):
            recover(again)


def test_the_time_that_a_file_was_written_at_tells_which_is_newer(db, path):
    """Not when it was last changed, which a copy of the folder does not keep."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
    db.executemany("INSERT INTO t VALUES (?, ?, 'old')", [(n, f"2020-01-{n:02}") for n in range(1, 9)])
    # Another process: what this one has rolled back it knows.
    with process(ROLLED_BACK, path, str(FAULTS_LIBRARY.with_suffix(""))) as child:
        assert child.wait(60) == 0
    left = files(path)
    assert left
    db.execute("UPDATE t SET v = 'new' WHERE id = 3")
    archive(db, "t", None, {"before": "2020-01-06"})
    before = rows(db, "all_t")
    for copy in copies(path):
        copy.unlink()
    for file in left:
        os.utime(file, (time.time() + 9, time.time() + 9))
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert done["rows"] == 5 and rows(again, "all_t") == before
