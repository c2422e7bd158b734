"""P2, nothing lost: a disk that fills up, or a folder that can no longer be written to, ends a run
with an error; every row is still there once, and the next run completes."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import FAULTS_LIBRARY, archive, connect, process
from test_crash import BATCH, CHILD, CREATE, CUTOFF, MODES, contents, in_catalog

ROWS = 8000
OPTIONS = {**BATCH, "before": "2023-11-30"}
FULL = ("disk is full", "No space left on device", "disk I/O error")

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="only root may mount and change users",
)


def mount(*arguments):
    """Mounts a tmpfs, or mounts it again with another size."""
    command = ["mount", "-t", "tmpfs", "-o", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, of 64 MB until a test makes it smaller."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("size=64m", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def leave_free(disk, kilobytes):
    """Makes a disk so small that only so much is free."""
    used = os.statvfs(disk)
    used = (used.f_blocks - used.f_bfree) * used.f_frsize // 1024
    mount(f"remount,size={used + kilobytes}k", disk)


def create(path, mode):
    """A database with a table to archive; returns its rows."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(CREATE.format(mode=mode, rows=ROWS, seconds=200))
        connection.commit()
        return contents(connection, "events")


def assert_intact(connection, expected):
    """Every row is readable exactly once with its values, through a connection of the test's."""
    connection.execute("SELECT archive_attach()").fetchone()
    sql = "SELECT EXISTS (SELECT 1 FROM temp.sqlite_schema WHERE name = 'all_events')"
    attached = connection.execute(sql).fetchone() == (1,)
    rows = contents(connection, "all_events" if attached else "events")
    assert len(rows) == len(expected)
    assert rows == expected
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def assert_completes(path, folder, expected):
    """The next run moves all old rows, and after archive_gc there are only files of the catalog."""
    with closing(connect(path)) as connection:
        archive(connection, "events", None, OPTIONS)
        old = "SELECT count(*) FROM events WHERE created_at < ?"
        assert connection.execute(old, [OPTIONS["before"]]).fetchone() == (0,)
        connection.execute("""SELECT archive_gc('{"retention_days":0}')""").fetchone()
        states = connection.execute("SELECT DISTINCT state FROM archive_files('events')")
        assert states.fetchall() == [("published",)]
        (verified,) = connection.execute("SELECT archive_verify() ->> 'problems'").fetchone()
        assert verified == "[]"
        assert_intact(connection, expected)
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*.parquet")}
    assert files == in_catalog(path)


def archive_on_full_disk(connection):
    """Archives until the disk is full, which must be a clear error."""
    with pytest.raises(sqlite3.OperationalError) as failed:
        archive(connection, "events", None, OPTIONS)
    message = str(failed.value)
    assert message.startswith("archive_table: ")
    assert any(words in message for words in FULL), message


# What is free decides what fails: the catalog, a file, or a transaction that moves rows.
@pytest.mark.parametrize(
    "mode, free",
    [("wal", free) for free in (4, 60, 120, 160, 240, 400, 800)]
    + [("delete", free) for free in (4, 60, 100, 120, 160, 200, 240)],
)
def test_database_and_archive_on_a_full_disk(disk, mode, free):
    """The disk fills up under the database and its files: an error, and no row is lost."""
    path = disk / "test.db"
    expected = create(path, mode)
    with closing(connect(path)) as connection:
        # In WAL mode the first reader needs room for the index of the WAL.
        connection.execute("SELECT count(*) FROM events").fetchone()
        leave_free(disk, free)
        archive_on_full_disk(connection)
        assert_intact(connection, expected)
    mount("remount,size=64m", disk)
    assert_completes(path, disk / "archive" / "parquet", expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("free", [4, 40, 100, 150])
def test_archive_folder_on_a_full_disk(disk, path, monkeypatch, mode, free):
    """Only the archive folder is on the full disk: what was published before stays published."""
    monkeypatch.setenv("ARCHIVE_DIR", str(disk))
    expected = create(path, mode)
    with closing(connect(path)) as connection:
        leave_free(disk, free)
        archive_on_full_disk(connection)
        assert_intact(connection, expected)
        assert connection.execute("SELECT status FROM archive_history").fetchall() == [("failed",)]
        assert connection.execute("SELECT count(*) FROM cold_events").fetchone()[0] > 0
        files = {file.relative_to(disk).as_posix() for file in disk.rglob("*.parquet")}
        assert files == in_catalog(path)
    mount("remount,size=64m", disk)
    assert_completes(path, disk, expected)


@pytest.fixture
def owned():
    """A folder of an unprivileged user, for whom permissions count."""
    folder = Path(tempfile.mkdtemp(prefix="sqlite-cold-"))
    os.chown(folder, 65534, 65534)
    yield folder
    shutil.rmtree(folder)


def archiver(path, fault):
    """Archives as that user, in a process that sleeps a second at a fault point."""
    library, options = FAULTS_LIBRARY.with_suffix(""), '{"before":"%s"}' % CUTOFF
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    return process(CHILD, path, library, options, "", "", fault=f"{fault}:sleep", **user)


def change_folders(folder, mode):
    """Sets the permissions of a folder and all folders in it, the deepest first."""
    for below in sorted(folder.rglob("*"), reverse=True):
        if below.is_dir():
            below.chmod(mode)
    folder.chmod(mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault, permissions", [("file.create:3", 0o555), ("file.verify:3", 0o000)])
def test_folder_becomes_unwritable(owned, mode, fault, permissions):
    """Permissions are taken away in the middle of a run: an error, and no row is lost."""
    path = owned / "test.db"
    expected = create(path, mode)
    for file in owned.iterdir():
        os.chown(file, 65534, 65534)
    folder = owned / "archive" / "parquet"
    third = folder / "events" / "year=2023" / "month=11" / "day=16"
    with archiver(path, fault) as child:
        deadline = time.monotonic() + 20
        while not third.exists() or (fault == "file.verify:3" and not any(third.iterdir())):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)
        change_folders(folder, permissions)
        output, errors = child.communicate(timeout=30)
    assert child.returncode == 1, f"not stopped: {output}{errors}"
    last = errors.strip().splitlines()[-1]
    assert last.startswith("sqlite3.OperationalError: archive_table: ")
    assert "Permission denied" in last and str(folder) in last
    change_folders(folder, 0o755)
    with closing(connect(path)) as connection:
        assert_intact(connection, expected)
        assert connection.execute("SELECT count(*) FROM cold_events").fetchone()[0] > 0
        assert connection.execute("SELECT status FROM archive_history").fetchall() == [("failed",)]
    assert_completes(path, folder, expected)


@pytest.mark.parametrize("free", range(40, 240, 40))
def test_the_callers_transaction_on_a_full_disk(disk, path, monkeypatch, free):
    """SQLite rolls all of it back by itself, and the plan's TEMP table with it. The error is the first one."""
    folder = path.parent / "archive"
    monkeypatch.setenv("ARCHIVE_DIR", str(folder))
    path = disk / "test.db"
    expected = create(path, "delete")
    with closing(connect(path)) as connection:
        connection.execute("BEGIN")
        leave_free(disk, free)
        archive_on_full_disk(connection)
        assert not connection.in_transaction
        assert_intact(connection, expected)
    mount("remount,size=64m", disk)
    assert_completes(path, folder, expected)
