"""What archive_recover cannot know: nothing of it is decided without a word."""

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing

import pytest
from conftest import FAULTS_LIBRARY, archive, connect, process
from test_recover import KILLED, call, copies, drop_catalog, fill, lose, recover, rows


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


def test_a_rowid_that_was_used_again_after_a_row_had_moved(db, path):
    """The copy has the row as one that waits, and a hot row with its rowid: that it may be lost is said."""
    db.execute("CREATE TABLE t (ts TEXT, v)")
    db.execute("INSERT INTO t VALUES ('2020-01-01', 'old'), ('2020-02-01', 'x')")
    archive(db, "t", 7, {"grace_hours": 24})
    db.execute("UPDATE t SET v = 'new' WHERE rowid = 1")
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert done["rows"] == 0
        assert any("1 cold rows of t wait" in line for line in done["uncertain"])


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


# What cannot be read now


def test_a_copy_that_is_busy_ends_the_recovery(db, path):
    """The one before it would do worse, and what that made would stay."""
    fill(db)
    archive(db, "t", None, {"before": "2020-01-05"})
    archive(db, "t", 7)
    before = rows(db, "all_t")
    with closing(lose(db, path)) as again, closing(sqlite3.connect(copies(path)[-1])) as busy:
        busy.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked") as error:
            recover(again)
        assert copies(path)[-1].name in str(error.value)
        assert not again.execute("SELECT 1 FROM sqlite_schema WHERE name GLOB '_archive*'").fetchall()
        busy.execute("ROLLBACK")
        assert recover(again)["new_files"] == 0
        assert rows(again, "all_t") == before


def test_a_file_that_the_system_cannot_read_ends_the_recovery(db, path, monkeypatch):
    fill(db)
    archive(db, "t", 7)
    before = rows(db, "all_t")
    for copy in copies(path):
        copy.unlink()
    db.close()
    drop_catalog(path)
    with closing(connect(path, FAULTS_LIBRARY)) as again:
        monkeypatch.setenv("SQLITE_COLD_FAULT", "recover.read:4:error")
        with pytest.raises(sqlite3.OperationalError, match=r"parquet: fault at recover.read"):
            recover(again)
        monkeypatch.delenv("SQLITE_COLD_FAULT")
        assert not again.execute("SELECT 1 FROM sqlite_schema WHERE name GLOB '_archive*'").fetchall()
        assert recover(again)["problems"] == []
        assert rows(again, "all_t") == before


@pytest.mark.parametrize("copied", [False, True])
def test_a_file_that_was_put_right_is_taken_by_a_second_recovery(db, path, copied):
    """It has its place among the others by the time at which it was written."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
    db.executemany("INSERT INTO t VALUES (?, ?, 'old')", [(n, f"2020-01-{n:02}") for n in range(1, 9)])
    archive(db, "t", None, {"before": "2020-01-02"})
    kept = copies(path) if copied else []
    archive(db, "t", None, {"before": "2020-01-06"})
    call(db, "archive_restore('t', '{\"from\":\"2020-01-03\",\"to\":\"2020-01-05\"}')")
    db.execute("UPDATE t SET v = 'new' WHERE id = 3")
    known = set(files(path))
    archive(db, "t", None, {"before": "2020-01-06"})
    before = rows(db, "all_t")
    # The old version of row 3, and the newest of row 4.
    damaged = [file for file in known if "2020/01/03" in str(file) or "day=03" in str(file)]
    damaged += [file for file in set(files(path)) - known if "day=04" in str(file)]
    assert len(damaged) == 2
    whole = [file.read_bytes() for file in damaged]
    for file in damaged:
        file.write_bytes(file.read_bytes()[:-9])
    for copy in set(copies(path)) - set(kept):
        copy.unlink()
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert len(done["problems"]) == 2 and done["rows"] == 5
        for file, content in zip(damaged, whole):
            file.write_bytes(content)
        trial = recover(again, dry_run=True)
        done = recover(again)
        assert (done["rows"], done["new_files"], done["problems"]) == (5, 2, [])
        assert trial["new_files"] == 2 and rows(again, "all_t") == before
        with pytest.raises(sqlite3.OperationalError, match="nothing is lost"):
            recover(again)


# Comparing


def test_files_of_a_table_that_is_gone_are_compared_with_each_other(db, path):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
    db.executemany("INSERT INTO t VALUES (?, ?, 'old')", [(n, f"2020-01-{n:02}") for n in range(1, 9)])
    archive(db, "t", None, {"before": "2020-01-06"})
    call(db, "archive_restore('t', '{\"to\":\"2020-01-04\"}')")
    archive(db, "t", None, {"before": "2020-01-06"})
    before = rows(db, "cold_t")
    db.execute("DROP TABLE t")
    for copy in copies(path):
        copy.unlink()
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert (done["rows"], done["older_rows"]) == (5, 3)
        assert rows(again, "cold_t") == before


def test_a_file_that_cannot_be_compared_is_taken_out_again(db, path):
    """Its rows may be there twice: the table has another key now, of which the file has nothing."""
    db.execute("CREATE TABLE t (ts TEXT, v)")
    db.executemany("INSERT INTO t VALUES (?, ?)", [(f"2020-01-{n:02}", n) for n in range(1, 9)])
    archive(db, "t", None, {"before": "2020-01-03"})
    for copy in copies(path):
        copy.unlink()
    old = files(path)
    db.close()
    drop_catalog(path)
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript(
            "CREATE TABLE u (ts TEXT, v, id INTEGER PRIMARY KEY);"
            "INSERT INTO u (ts, v) SELECT ts, v FROM t; DROP TABLE t; ALTER TABLE u RENAME TO t"
        )
    with closing(connect(path)) as again:
        done = recover(again)
        assert (done["rows"], done["new_files"], done["files"]) == (0, 0, 0)
        assert len(done["problems"]) == len(old) and "not compared" in done["problems"][0]
        assert again.execute("SELECT count(*) FROM _archive_range").fetchone() == (0,)
        assert files(path) == old and call(again, "archive_gc()")["unknown_files"] == len(old)


# A run inside the caller's transaction


def test_a_run_in_a_transaction_that_was_committed_is_not_forgotten(db, path):
    """Nothing but its files is left, and the same process remembers the run."""
    fill(db)
    db.execute("BEGIN")
    archive(db, "t", 7)
    db.execute("COMMIT")
    before = rows(db, "all_t")
    with closing(lose(db, path)) as again:
        with pytest.raises(sqlite3.OperationalError, match="archive_recover"):
            archive(again, "t", 7)
        recover(again)
        assert rows(again, "all_t") == before


# Damage within the catalog


@pytest.mark.parametrize("copied", [True, False])
def test_a_bitmap_that_cannot_be_read(db, path, copied):
    """The copy's takes its place; without one it is said that rows may be there again."""
    fill(db)
    archive(db, "t", None, {"before": "2020-02-01", "partition": "year"})
    call(db, "archive_restore('t', '{\"to\":\"2020-01-04\"}')")
    db.execute("DELETE FROM t WHERE ts < '2020-01-03'")
    call(db, "archive_policy('t', 7)")
    call(db, "archive_run('{\"backup\":false}')")
    before = rows(db, "all_t")
    assert len(before) == 7
    if not copied:
        for copy in copies(path):
            copy.unlink()
    db.execute("UPDATE _archive_tombstone SET rows = x'00'")
    db.execute("DROP TABLE _archive_policy")
    db.close()
    with closing(connect(path)) as again:
        done = recover(again)
        (said,) = [line for line in done["problems"] if "tombstones" in line]
        assert ("those of the copy" in said) == copied
        assert len(rows(again, "all_t")) == (7 if copied else 9)


@pytest.mark.parametrize("copied", [True, False])
def test_an_emptied_history_costs_no_tombstones(db, path, copied):
    """The runs that files refer to are made again from the names of the files."""
    fill(db)
    archive(db, "t", 7)
    call(db, "archive_restore('t', '{\"to\":\"2020-01-04\"}')")
    db.execute("DELETE FROM t WHERE ts < '2020-01-03'")
    before = rows(db, "all_t")
    assert len(before) == 7
    if not copied:
        for copy in copies(path):
            copy.unlink()
    db.execute("DELETE FROM _archive_run")
    db.close()
    with closing(connect(path)) as again:
        done = recover(again)
        assert done["problems"] == [] and done["new_files"] == 0
        assert rows(again, "all_t") == before


# Whether it is lost at all


def test_a_copy_is_enough_to_say_that_the_catalog_is_lost(db, path):
    """The files are not read, which takes a lock and a while: here they cannot be."""
    fill(db)
    archive(db, "t", 7)
    for file in files(path):
        file.write_bytes(b"nothing")
    with closing(lose(db, path)) as again, closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="9 cold files with 9 rows"):
            archive(again, "t", 7)
        assert time.monotonic() - start < 5


def test_a_file_that_was_never_finished_is_no_lost_catalog(path):
    """A first run that dies inside a transaction leaves no catalog, and a piece of a file."""
    with closing(connect(path)) as db:
        fill(db)
    run = KILLED.replace("db.execute(", "db.execute('BEGIN'); db.execute(", 1)
    library = FAULTS_LIBRARY.with_suffix("")
    with process(run, path, library, fault="file.write:1:kill") as child:
        assert child.wait(60) == -signal.SIGKILL
    (file,) = files(path)
    with closing(connect(path)) as db:
        assert archive(db, "t", None, {"before": "2020-01-06"})["rows"] == 5
        assert len(rows(db, "all_t")) == 9
        assert call(db, "archive_gc()")["unknown_files"] == 1 and file.exists()


def test_a_damaged_file_alone_is_no_lost_catalog(db, path):
    """What it is nobody knows."""
    fill(db)
    archive(db, "t", None, {"before": "2020-01-02"})
    (file,) = files(path)
    file.write_bytes(file.read_bytes()[:100] + b"PAR1")
    for copy in copies(path):
        copy.unlink()
    with closing(lose(db, path)) as again:
        with pytest.raises(sqlite3.OperationalError) as error:
            archive(again, "t", 7)
        message = str(error.value)
        assert f"{file} is damaged" in message and "out of the archive folder" in message
        assert "lost" not in message
        done = recover(again)
        assert (done["files"], len(done["problems"])) == (0, 1)
        assert archive(again, "t", 7)["rows"] == 8 and file.exists()


@pytest.mark.parametrize("copied", [True, False])
def test_a_table_of_files_that_was_emptied(db, path, copied):
    """The history has runs that published some, and the copy names them."""
    fill(db)
    archive(db, "t", None, {"before": "2020-01-05"})
    archive(db, "t", 7)
    before = rows(db, "all_t")
    if not copied:
        for copy in copies(path):
            copy.unlink()
    for table in ("file", "range", "tombstone"):
        db.execute(f"DELETE FROM _archive_{table}")
    db.close()
    with closing(connect(path)) as again:
        with pytest.raises(sqlite3.OperationalError, match="9 cold files with 9 rows.*archive_recover"):
            archive(again, "t", 7)
        done = recover(again)
        assert (done["rows"], done["new_files"], done["problems"]) == (9, 0 if copied else 9, [])
        assert rows(again, "all_t") == before


def test_a_table_of_files_that_is_empty_by_right(db, path):
    """All rows came back: nothing is lost, whatever the older copies say."""
    fill(db)
    archive(db, "t", 7)
    call(db, "archive_restore('t')")
    assert call(db, "archive_gc('{\"retention_days\":0}')")["files"] == 9
    with pytest.raises(sqlite3.OperationalError, match="nothing is lost"):
        recover(db)
    assert archive(db, "t", 7)["rows"] == 9


@pytest.mark.parametrize("how", ["cp", "vacuum"])
def test_a_database_whose_file_was_replaced(db, path, how):
    """Its id went with the catalog, and another one follows from the new file: the copies say whose they are."""
    fill(db)
    archive(db, "t", None, {"before": "2020-01-05"})
    archive(db, "t", 7)
    copies(path)[-1].unlink()
    before = rows(db, "all_t")
    db.close()
    drop_catalog(path)
    new = path.with_suffix(".new")
    with closing(sqlite3.connect(path)) as plain:
        if how == "cp":
            plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            new.write_bytes(path.read_bytes())
        else:
            plain.execute("VACUUM INTO ?", [str(new)])
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    new.rename(path)
    with closing(connect(path)) as again:
        with pytest.raises(sqlite3.OperationalError, match="lost.*archive_recover.*another database") as error:
            archive(again, "t", 7)
        assert "ARCHIVE_DIR" in str(error.value)
        done = recover(again)
        assert done["new_files"] == 5 and rows(again, "all_t") == before
        assert len(copies(path)) == 2 and archive(again, "t", 7)["rows"] == 0


@pytest.mark.parametrize("how", ["copied", "moved"])
def test_a_folder_that_went_elsewhere_with_all_that_is_in_it(db, path, how):
    """To another machine, say: neither the file nor its path is what the copies say, but where they are is."""
    home = path.parent / "home"
    home.mkdir()
    with closing(connect(home / "app.db")) as there:
        fill(there)
        archive(there, "t", 7)
        before = rows(there, "all_t")
    elsewhere = path.parent / "elsewhere"
    shutil.copytree(home, elsewhere)
    if how == "moved":
        shutil.rmtree(home)
    drop_catalog(elsewhere / "app.db")
    with closing(connect(elsewhere / "app.db")) as again:
        with pytest.raises(sqlite3.OperationalError, match="9 cold files with 9 rows.*archive_recover"):
            archive(again, "t", 7)
        recover(again)
        assert rows(again, "all_t") == before
    if how == "copied":
        with closing(connect(home / "app.db")) as there:
            assert rows(there, "all_t") == before and archive(there, "t", 7)["rows"] == 0


def test_a_copy_of_the_database_beside_it_has_copies_of_its_own(db, path):
    """Both have the same id and the same folder: the catalog of neither is taken for that of the other."""
    fill(db)
    archive(db, "t", None, {"before": "2020-01-04"})
    beside = path.with_name("beside.db")
    db.execute("VACUUM INTO ?", [str(beside)])
    archive(db, "t", 7)
    before = rows(db, "all_t")
    db.close()
    with closing(connect(beside)) as other:
        for day in range(5, 9):
            assert archive(other, "t", None, {"before": f"2020-01-{day:02}"})["rows"] == 1
        assert rows(other, "all_t") == before
    for place in (path, beside):
        drop_catalog(place)
        with closing(connect(place)) as again:
            with pytest.raises(sqlite3.OperationalError, match="lost"):
                archive(again, "t", 7)
            done = recover(again)
            assert done["problems"] == [] and rows(again, "all_t") == before


@pytest.mark.parametrize("keeps_id", [True, False])
def test_a_database_that_got_another_name(db, path, keeps_id):
    """Its copies have the old one; that nothing is there any more tells that they are its own."""
    fill(db)
    archive(db, "t", 7)
    before = rows(db, "all_t")
    db.close()
    new = path.rename(path.with_name("new.db"))
    if keeps_id:
        with closing(sqlite3.connect(new, isolation_level=None)) as plain:
            plain.execute("DROP TABLE _archive_run")
    else:
        drop_catalog(new)
    with closing(connect(new)) as again:
        with pytest.raises(sqlite3.OperationalError, match="archive_recover"):
            archive(again, "t", 7)
        recover(again)
        assert rows(again, "all_t") == before


def test_another_database_of_the_folder_is_no_lost_one(db, path):
    """Neither one that has moved on nor one beside it."""
    fill(db)
    archive(db, "t", 7)
    db.close()
    moved = path.with_name("moved.db")
    for end in ("", "-wal", "-shm"):
        if path.with_name(path.name + end).exists():
            path.with_name(path.name + end).rename(moved.with_name(moved.name + end))
    with closing(connect(moved)) as other:
        other.execute("INSERT INTO t (ts) VALUES ('2020-01-05')")
        assert archive(other, "t", 7)["catalog_copy"] == "done"
    for place in (path, path.with_name("beside.db")):
        with closing(connect(place)) as new:
            fill(new)
            assert archive(new, "t", 7)["rows"] == 9
