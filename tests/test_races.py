"""What others do at the very moment a run begins or ends: nothing is lost."""

import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from conftest import archive, connect
from test_safety import CUTOFF, command, other, rows, stopped_at  # noqa: F401


@pytest.mark.parametrize("archived_before", [False, True])
def test_a_migration_that_holds_the_lock_when_a_run_begins(path, other, archived_before):
    """P2: a run that read the table's columns and then waited for a migration's ALTER TABLE loses
    no value of the new column."""
    if archived_before:
        with closing(connect(path)) as connection:
            archive(connection, "t", None, {"before": "2020-01-01"})
    other.execute("BEGIN IMMEDIATE")
    other.execute("ALTER TABLE t ADD COLUMN extra")
    other.execute("UPDATE t SET extra = 'precious'")
    run = subprocess.Popen(command(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    other.execute("COMMIT")
    _, errors = run.communicate(timeout=30)
    if run.returncode:
        assert b"changed the schema" in errors
        with closing(connect(path)) as connection:
            archive(connection, "t", None, {"before": CUTOFF})
    assert rows(path, "SELECT count(*), count(extra) FROM all_t") == [(303, 303)]


def test_a_column_added_while_a_run_begins(path, other):
    """P2: the same without a lock: the schema changes between looking at the table and planning."""
    with stopped_at(path, "run.begin:1"):
        other.execute("ALTER TABLE t ADD COLUMN extra")
        other.execute("UPDATE t SET extra = 'precious'")
    assert rows(path, "SELECT count(*), count(extra) FROM all_t") == [(303, 303)]


def test_a_foreign_key_added_while_a_run_begins(path, other):
    """A table that comes to refer to rows between the check and the plan keeps them hot."""
    other.execute("PRAGMA foreign_keys = ON")
    with stopped_at(path, "run.begin:1"):
        other.execute("CREATE TABLE child (t_id REFERENCES t)")
        other.execute("INSERT INTO child VALUES (120)")
    assert other.execute("PRAGMA foreign_key_check").fetchall() == []


def test_gc_leaves_the_files_of_an_open_transaction(path, other):
    """P2: archive_gc never removes files that another connection's transaction may still commit."""
    with closing(connect(path)) as writer, closing(connect(path)) as collector:
        archive(writer, "t", None, {"before": "2020-01-02"})
        writer.execute("BEGIN")
        archive(writer, "t", None, {"before": CUTOFF})
        try:
            collector.execute("""SELECT archive_gc('{"retention_days":0}')""").fetchone()
        except sqlite3.OperationalError:
            pass
        writer.execute("COMMIT")
        assert writer.execute("SELECT count(*) FROM all_t").fetchone() == (303,)


def test_a_row_of_the_table_itself_that_refers_to_an_old_one(path, other):
    """A new row that comes to refer to an old one of the same table keeps that one hot."""
    other.execute("ALTER TABLE t ADD COLUMN parent REFERENCES t")
    other.execute("PRAGMA foreign_keys = ON")
    with stopped_at(path, "file.verify:1"):
        other.execute("INSERT INTO t (ts, parent) VALUES ('2999-01-01', 120)")
    assert other.execute("PRAGMA foreign_key_check").fetchall() == []


def test_two_runs_that_reach_the_database_by_two_paths(path, other, tmp_path):
    """P1: one archiver at a time, also if containers have mounted the same folder at two places."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    mount = ["mount", "--bind", str(first), str(second)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("may not mount")
    try:
        other.execute("VACUUM INTO ?", [str(first / "test.db")])
        with closing(connect(first / "test.db")) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            archive(connection, "t", None, {"before": "2020-01-01"})
        slow = subprocess.Popen(
            command(first / "test.db", batch_size=40, pause_ms=700),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        partly = "SELECT count(*) FROM _archive_file WHERE published < rows"
        with closing(sqlite3.connect(first / "test.db", timeout=10)) as watcher:
            while not watcher.execute(partly).fetchone()[0]:
                time.sleep(0.01)
        subprocess.run(command(second / "test.db", batch_size=40), capture_output=True)
        slow.communicate(timeout=30)
        assert len(rows(first / "test.db")) == 303
    finally:
        subprocess.run(["umount", str(second)], check=True)
