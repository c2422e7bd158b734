"""archive_gc removes what nothing can refer to any more: neither the catalog nor a backup of it."""

import json
import os
import sqlite3
import time

import pytest

from conftest import FAULTS_LIBRARY, ROOT, archive, connect, process

DAY = 86_400


def call(db, sql, *parameters):
    return json.loads(db.execute(f"SELECT {sql}", parameters).fetchone()[0])


def fill(db, path, table="t"):
    """A table with three cold files; their paths in the catalog, and on disk."""
    db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, ts TEXT)")
    stamps = ["2020-01-01", "2020-01-02", "2020-02-03", "2999-01-01"]
    db.executemany(f"INSERT INTO {table} (ts) VALUES (?)", [(stamp,) for stamp in stamps])
    archive(db, table, 7)
    paths = [row[0] for row in db.execute("SELECT path FROM _archive_file ORDER BY id")]
    return paths, [path.parent / "archive" / "parquet" / file for file in paths]


def age(file, days):
    os.utime(file, (time.time() - days * DAY,) * 2)


def take_out(db, file, days_ago):
    """Takes a file out of the catalog as the library does, so many days ago."""
    db.execute("BEGIN")
    db.execute("DELETE FROM _archive_range WHERE file_id = ?", (file,))
    db.execute(
        """INSERT INTO _archive_removed
           SELECT path, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?) FROM _archive_file WHERE id = ?""",
        (f"-{days_ago} days", file),
    )
    db.execute("DELETE FROM _archive_file WHERE id = ?", (file,))
    db.execute("COMMIT")


def removed(db):
    return [row[0] for row in db.execute("SELECT path FROM _archive_removed ORDER BY path")]


def test_what_left_the_catalog_stays_for_the_retention_period(db, path):
    """An old file that was removed yesterday may be needed by a backup; after a week it goes."""
    paths, (first, second, third) = fill(db, path)
    for file in (first, second, third):
        age(file, 400)
    take_out(db, 1, 1)
    take_out(db, 2, 8)
    size = second.stat().st_size
    dry = call(db, "archive_gc('{\"dry_run\":true}')")
    assert (dry["files"], dry["bytes"], dry["kept_files"]) == (1, size, 1) and second.exists()
    assert removed(db) == sorted(paths[:2])
    done = call(db, "archive_gc()")
    assert done == {**dry, "dry_run": False}
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
    assert removed(db) == paths[:1]
    assert call(db, "archive_gc()")["files"] == 0
    assert call(db, "archive_gc('{\"retention_days\":1}')")["files"] == 1
    assert (first.exists(), third.exists(), removed(db)) == (False, True, [])
    assert call(db, "archive_verify()")["problems"] == []


def test_a_young_file_that_was_removed_long_ago(db, path):
    """Only the time since it was removed counts, not a new date that a copy gave the file."""
    _, (first, *_) = fill(db, path)
    take_out(db, 1, 30)
    assert call(db, "archive_gc()")["files"] == 1 and not first.exists()


@pytest.mark.parametrize("at", ["never", "2999-01-01T00:00:00.000Z", ""])
def test_a_time_that_makes_no_sense_removes_nothing(db, path, at):
    """A file stays if the catalog does not say since when nothing needs it."""
    _, (first, *_) = fill(db, path)
    age(first, 400)
    take_out(db, 1, 400)
    db.execute("UPDATE _archive_removed SET removed_at = ?", (at,))
    assert call(db, "archive_gc()")["kept_files"] == 1 and first.exists()


def test_a_file_that_is_in_the_catalog_again(db, path):
    """A restored catalog names a file that was removed once: it is never touched."""
    paths, (first, *_) = fill(db, path)
    db.execute("INSERT INTO _archive_removed VALUES (?, '2020-01-01T00:00:00.000Z')", paths[:1])
    assert call(db, "archive_gc('{\"retention_days\":0}')")["files"] == 0
    assert first.exists() and removed(db) == paths[:1]


def test_a_file_that_is_gone_is_forgotten_when_its_time_is_over(db, path):
    """Files that are not there for a while only, with their disk, are not forgotten too early."""
    paths, (first, second, _) = fill(db, path)
    take_out(db, 1, 1)
    take_out(db, 2, 9)
    first.unlink()
    second.unlink()
    assert call(db, "archive_gc()")["files"] == 0
    assert removed(db) == paths[:1]


def test_a_crash_between_file_and_row_is_harmless(db, path):
    """The file is gone and its row is left: the next call completes it."""
    _, (first, *_) = fill(db, path)
    take_out(db, 1, 9)
    first.unlink()
    assert call(db, "archive_gc()")["files"] == 0 and removed(db) == []


def test_empty_partition_folders_go(db, path):
    """Folders of partitions that are empty go; others', and the archive folder, stay."""
    _, files = fill(db, path)
    root = path.parent / "archive" / "parquet"
    mine = root / "mine"
    mine.mkdir()
    for file in (1, 2, 3):
        take_out(db, file, 9)
    note = files[2].with_name("note.txt")
    note.write_text("a note")
    call(db, "archive_gc()")
    left = {entry.relative_to(root).as_posix() for entry in root.rglob("*") if entry.is_dir()}
    assert left == {
        ".catalog",
        "t",
        "mine",
        "t/year=2020",
        "t/year=2020/month=02",
        "t/year=2020/month=02/day=03",
    }
    note.unlink()
    call(db, "archive_gc()")
    assert {entry.name for entry in root.iterdir() if entry.is_dir()} == {".catalog", "t", "mine"}
    assert list((root / "t").iterdir()) == []


def test_links_are_not_followed(db, path, tmp_path):
    """A link in the archive folder does not make archive_gc remove anything elsewhere."""
    _, (first, *_) = fill(db, path)
    outside = tmp_path / "elsewhere" / "year=2020"
    outside.mkdir(parents=True)
    secret = outside / first.name.replace("-0000", "-0009")
    secret.write_text("secret")
    age(secret, 100)
    (path.parent / "archive" / "parquet" / "year=2021").symlink_to(outside)
    assert call(db, "archive_gc('{\"retention_days\":0}')")["files"] == 0
    assert secret.exists()


ARCHIVER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.enable_load_extension(True)
db.load_extension(sys.argv[2])
db.execute("SELECT archive_table('t', 7)").fetchall()
"""


def test_two_databases_that_share_a_folder(tmp_path, monkeypatch):
    """One's archive_gc removes a folder just before the other writes its first file to it."""
    monkeypatch.setenv("ARCHIVE_DIR", str(tmp_path / "shared"))
    db, other = connect(tmp_path / "a.db"), connect(tmp_path / "b.db")
    fill(other, tmp_path / "b.db", "b")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT)")
    db.execute("INSERT INTO t (ts) VALUES ('2020-01-01'), ('2999-01-01')")
    place = tmp_path / "shared/t/year=2020/month=01/day=01"
    library = FAULTS_LIBRARY.with_suffix("")
    with process(ARCHIVER, tmp_path / "a.db", library, fault="file.create:1:sleep") as child:
        while not place.exists():
            assert child.poll() is None, child.stderr.read()
        call(other, "archive_gc()")
        assert not place.exists() and child.poll() is None
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 0, errors
    assert len(list(place.iterdir())) == 1
    assert call(db, "archive_verify()") == {"files": 1, "rows": 1, "problems": []}
    db.close()
    other.close()


def test_age_is_told_by_the_library_s_clock(path, monkeypatch):
    """A leftover's age counts against the time that the library goes by."""
    monkeypatch.setenv("SQLITE_COLD_NOW", "2026-01-31T03:30:00Z")
    db = connect(path, FAULTS_LIBRARY)
    _, (first, *_) = fill(db, path)
    left = first.with_name(first.name.replace("-0000", "-0009"))
    left.write_bytes(b"x")
    written = 1_769_830_200 - 6 * DAY
    os.utime(left, (written, written))
    assert call(db, "archive_gc()")["kept_files"] == 1 and left.exists()
    monkeypatch.setenv("SQLITE_COLD_NOW", "2026-02-01T03:30:01Z")
    assert call(db, "archive_gc()")["files"] == 1 and not left.exists()
    db.close()


def test_bad_options(db, path):
    """Wrong options are an error, and nothing is removed."""
    _, (first, *_) = fill(db, path)
    take_out(db, 1, 9)
    for options in ('{"retention_days":-1}', '{"retention_days":"x"}', '{"nope":1}', "[]", 5):
        with pytest.raises(sqlite3.OperationalError, match="archive_gc: "):
            db.execute("SELECT archive_gc(?)", (options,)).fetchall()
    assert first.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_folder_that_cannot_be_looked_at_is_an_error(db, path):
    """It is not the same as one that is not there."""
    fill(db, path)
    folder = path.parent / "archive"
    folder.rename(path.parent / "elsewhere")
    folder.symlink_to("archive")
    with pytest.raises(sqlite3.OperationalError, match="archive_gc: .*archive.*symbolic links"):
        db.execute("SELECT archive_gc()")
    folder.unlink()
    assert call(db, "archive_gc()")["files"] == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to be another")
@pytest.mark.parametrize("closed", ["archive", "archive/parquet", "archive/parquet/t"])
def test_a_folder_that_is_closed_is_an_error(public, closed):
    path = public / "test.db"
    db = connect(path)
    fill(db, path)
    db.close()
    for folder, folders, files in os.walk(path.parent):
        for name in folders + files:
            os.chown(os.path.join(folder, name), 65534, 65534)
    os.chmod(path.parent / closed, 0)
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from conftest import connect
try:
    print(connect(sys.argv[1]).execute("SELECT archive_gc()").fetchone())
except Exception as error:
    print("failed", error)
"""
    with process(program, path) as child:
        output, _ = child.communicate(timeout=60)
    assert output.startswith("failed archive_gc: ") and "Permission denied" in output, output


def test_files_stay_whose_catalog_table_was_emptied(db, path):
    """The history is there, but nothing says what became of the files."""
    _, files = fill(db, path)
    for file in files:
        age(file, 400)
    for table in ("_archive_range", "_archive_file"):
        db.execute(f"DELETE FROM {table}")
    for options in ("", "'{\"unknown_files\":true}'"):
        with pytest.raises(sqlite3.OperationalError, match="3 cold files with 3 rows.*archive_recover"):
            call(db, f"archive_gc({options})")
    assert all(file.exists() for file in files)
