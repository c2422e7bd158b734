"""The functions that show and keep the catalog: status, files, history, config, gc, version."""

import json
import os
import sqlite3
import time

import pytest

from conftest import archive, connect, load


def call(db, sql, *parameters):
    return json.loads(db.execute(f"SELECT {sql}", parameters).fetchone()[0])


def fill(db, name="t"):
    db.execute(f"CREATE TABLE {name} (ts TEXT, v INT)")
    stamps = ["2020-01-01", "2020-01-01 12:00:00", "2020-03-01", "2999-01-01", None]
    db.executemany(f"INSERT INTO {name} VALUES (?, 1)", [(stamp,) for stamp in stamps])
    return archive(db, name, 7)


def test_status_and_files(db, path):
    """archive_status and archive_files tell rows, files, bytes and times as they are."""
    result = fill(db)
    ((table, hot, cold, files, size, oldest, newest, run),) = db.execute(
        'SELECT "table", hot_rows, cold_rows, files, cold_bytes, oldest, newest, last_run FROM archive_status'
    ).fetchall()
    assert (table, hot, cold, files) == ("t", 2, 3, 2) and size == result["parquet_bytes"]
    assert (oldest, newest) == ("2020-01-01T00:00:00Z", "2020-03-01T00:00:00Z") and run
    listed = db.execute(
        "SELECT path, rows, bytes, oldest, newest, state FROM archive_files('T')"
    ).fetchall()
    assert [(row[1], row[3], row[4], row[5]) for row in listed] == [
        (2, "2020-01-01T00:00:00Z", "2020-01-01T12:00:00Z", "published"),
        (1, "2020-03-01T00:00:00Z", "2020-03-01T00:00:00Z", "published"),
    ]
    for row in listed:
        assert (path.parent / "archive" / "parquet" / row[0]).stat().st_size == row[2]


def test_history(db, path):
    """archive_history has a row for each run, newest first, failed ones with their error."""
    result = fill(db)
    db.execute("INSERT INTO t VALUES ('2021-05-05', 1)")
    (path.parent / "archive/parquet/t/year=2021").write_text("a file in the way")
    with pytest.raises(sqlite3.OperationalError):
        archive(db, "t", 7)
    newest, oldest = db.execute(
        'SELECT "table", rows, files, bytes, status, error FROM archive_history'
    ).fetchall()
    assert oldest == ("t", 3, 2, result["parquet_bytes"], "done", None)
    assert newest[:5] == ("t", 0, 0, 0, "failed") and "year=2021" in newest[5]


def test_nothing_was_ever_archived(db, path):
    """Without a catalog the lists are empty, verify and gc have nothing to do, and none is made."""
    for listing in ("archive_status", "archive_history"):
        assert db.execute(f"SELECT * FROM {listing}").fetchall() == []
    assert call(db, "archive_verify()") == {"files": 0, "rows": 0, "problems": []}
    assert call(db, "archive_gc()")["files"] == 0
    assert call(db, "archive_attach()") == {"tables": [], "problems": []}
    assert db.execute("SELECT * FROM sqlite_schema").fetchall() == []
    assert not (path.parent / "archive").exists()


def test_verify_counts_all_tables_or_one(db):
    """archive_verify reads all files, or those of one table."""
    fill(db)
    fill(db, "u")
    assert call(db, "archive_verify()") == {"files": 4, "rows": 6, "problems": []}
    assert call(db, "archive_verify('U')") == {"files": 2, "rows": 3, "problems": []}
    with pytest.raises(
        sqlite3.OperationalError, match="archive_verify: nope has never been archived"
    ):
        db.execute("SELECT archive_verify('nope')").fetchall()


def test_gc_removes_only_old_leftovers_of_its_own(db, path):
    """After the retention period a file that nothing refers to goes; others' files never do."""
    fill(db)
    root = path.parent / "archive" / "parquet"
    good = sorted(root.rglob("*.parquet"))
    left = good[0].with_name(good[0].name.replace("-0000", "-0009"))
    foreign = good[0].with_name("mine.parquet")
    for file in (left, foreign):
        file.write_bytes(b"x")
    assert call(db, "archive_gc()")["kept_files"] == 1 and left.exists()
    month_ago = time.time() - 30 * 86_400
    for file in (left, foreign, *good):
        os.utime(file, (month_ago, month_ago))
    assert call(db, "archive_gc('{\"dry_run\":true}')")["files"] == 1 and left.exists()
    assert call(db, "archive_gc('{\"retention_days\":40}')")["files"] == 0 and left.exists()
    assert call(db, "archive_gc()")["files"] == 1
    assert (
        not left.exists()
        and foreign.exists()
        and sorted(root.rglob("*.parquet")) == sorted([*good, foreign])
    )
    assert call(db, "archive_verify()")["problems"] == []


def test_rolled_back_files_are_leftovers(db, path):
    """What a rolled back call wrote is invisible, and archive_gc removes it if it is told to."""
    fill(db)
    before = sorted(path.parent.rglob("*.parquet"))
    db.execute("INSERT INTO t VALUES ('2020-07-07', 1)")
    db.execute("BEGIN")
    archive(db, "t", 7)
    with pytest.raises(sqlite3.OperationalError, match="transaction"):
        db.execute("SELECT archive_gc()").fetchall()
    db.execute("ROLLBACK")
    assert db.execute("SELECT count(*) FROM all_t").fetchone() == (6,)
    assert call(db, "archive_gc('{\"retention_days\":0}')")["unknown_files"] == 1
    call(db, "archive_gc('{\"retention_days\":0, \"unknown_files\":true}')")
    assert sorted(path.parent.rglob("*.parquet")) == before


def test_config(db, path, monkeypatch):
    """A setting comes from the database, else from the environment, else it is the default."""

    def show():
        shown = call(db, "archive_config('batch_size')")
        assert (shown["key"], shown["variable"]) == ("batch_size", "ARCHIVE_BATCH_SIZE")
        return shown["value"], shown["source"]

    assert show() == (10000, "default")
    monkeypatch.setenv("ARCHIVE_BATCH_SIZE", "77")
    assert show() == (77, "environment")
    assert call(db, "archive_config('batch_size', 5)")["source"] == "config"
    other = connect(path)
    assert call(other, "archive_config('batch_size')")["value"] == 5
    other.close()
    assert call(db, "archive_config('batch_size', NULL)")["value"] == 77
    for value in (0, "x", 1.5):
        with pytest.raises(sqlite3.OperationalError, match="batch_size must be"):
            db.execute("SELECT archive_config('batch_size', ?)", (value,)).fetchall()
    with pytest.raises(
        sqlite3.OperationalError, match="unknown setting nope; there are .*archive_dir"
    ):
        db.execute("SELECT archive_config('nope')").fetchall()


def test_archive_dir_from_config_and_environment(db, path, tmp_path, monkeypatch):
    """Files go where the setting says, relative to the database's folder."""
    call(db, "archive_config('archive_dir', 'my/place')")
    monkeypatch.setenv("ARCHIVE_DIR", str(tmp_path / "ignored"))
    fill(db)
    assert len(list((path.parent / "my" / "place" / "t").rglob("*.parquet"))) == 2
    assert not (tmp_path / "ignored").exists()


def test_version(db):
    """archive_version tells the versions, and SQLite's is the host's."""
    version = call(db, "archive_version()")
    assert version["sqlite"] == sqlite3.sqlite_version
    assert version["version"].count(".") == 2 and "faults" not in version["features"]


def test_files_needs_the_name_of_an_archived_table(db):
    """archive_files says what it wants."""
    fill(db)
    for sql in ("archive_files", "archive_files(NULL)", "archive_files('nope')"):
        with pytest.raises(sqlite3.DatabaseError, match="archive_files: "):
            db.execute(f"SELECT * FROM {sql}").fetchall()


def test_comments_can_be_switched_off(path):
    """A host may have taken comments out of its SQL (SQLITE_DBCONFIG_ENABLE_COMMENTS, since 3.49)."""
    apsw = pytest.importorskip("apsw")
    if not hasattr(apsw, "SQLITE_DBCONFIG_ENABLE_COMMENTS"):
        pytest.skip("this SQLite has no such switch")
    db = apsw.Connection(str(path))
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_COMMENTS, 0)
    with pytest.raises(apsw.SQLError):
        db.execute("SELECT 1 -- one")
    load(db)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT)")
    db.execute("INSERT INTO t VALUES (1, '2020-01-01'), (2, '2020-01-02'), (3, '2999-01-01')")
    calls = [
        "SELECT archive_policy('t', 7)",
        "SELECT archive_table('t', 7)",
        "SELECT archive_run()",
        "SELECT * FROM archive_status",
        "SELECT * FROM archive_files('t')",
        "SELECT * FROM archive_history",
        "SELECT archive_verify()",
        "SELECT archive_gc()",
        "SELECT archive_restore('t')",
        "SELECT archive_table('t', 7, '{\"grace_hours\":1}')",
        "SELECT archive_config('backup_keep', 3)",
        "SELECT archive_backup()",
    ]
    for call in calls:
        assert db.execute(call).fetchall() != [] or "archive_files" in call, call
    assert db.execute("SELECT count(*) FROM all_t").fetchall() == [(3,)]
    (made,) = db.execute("SELECT group_concat(sql) FROM sqlite_schema WHERE name LIKE '_archive%'").fetchone()
    assert "--" not in made
    db.close()
