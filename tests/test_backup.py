"""archive_backup makes a checked copy of a database in use, and keeps the newest ones."""

import contextlib
import errno
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import threading
import time

import pytest
from test_full_disk import disk, leave_free, owned  # noqa: F401 (fixtures)

from conftest import FAULTS_LIBRARY, LIBRARY, archive, connect, process

CHILD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.enable_load_extension(True)
db.load_extension(sys.argv[2])
db.execute("SELECT archive_backup()").fetchall()
"""


def backup(db, *path):
    marks = "?" if path else ""
    (text,) = db.execute(f"SELECT archive_backup({marks})", [str(p) for p in path]).fetchone()
    return json.loads(text)


def fails(db, *path):
    marks = "?" if path else ""
    with pytest.raises(sqlite3.OperationalError) as error:
        db.execute(f"SELECT archive_backup({marks})", path).fetchall()
    message = str(error.value)
    assert message.startswith("archive_backup: ")
    return message


def fill(db, rows=1000, width=100):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v TEXT)")
    db.execute(f"""WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows})
            INSERT INTO t SELECT n, date('2020-01-01', (n % 50) || ' days'),
                hex(randomblob({width // 2})) FROM c""")


def contents(path, sql="SELECT * FROM t ORDER BY id"):
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    rows = connection.execute(sql).fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    return rows


def names(folder):
    """What is in a folder, but for the lock."""
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(".lock"))


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_backup_is_one_whole_file(db, path, mode):
    """A copy with all that was committed, nothing beside it, private like the database."""
    db.execute(f"PRAGMA journal_mode = {mode}")
    fill(db)
    path.chmod(0o640)
    result = backup(db)
    assert result["kept"] == 1 and result["removed"] == [] and result["elapsed_ms"] >= 0
    assert names(path.parent / "backup") == [os.path.basename(result["path"])]
    assert os.path.getsize(result["path"]) == result["bytes"]
    assert stat.S_IMODE(os.stat(result["path"]).st_mode) == 0o640
    rows = contents(result["path"])
    assert rows == db.execute("SELECT * FROM t ORDER BY id").fetchall() and len(rows) == 1000
    assert db.in_transaction is False


def test_the_newest_are_kept(path, monkeypatch):
    """Older ones of this database go, after the new one is there; nothing else does."""
    db = connect(path, FAULTS_LIBRARY)
    fill(db)
    folder = path.parent / "backup"
    folder.mkdir()
    others = [
        "test-20250101T000000Z.sqlite",
        "test-2025.db",
        "test-20250101T000000Z-x.db",
        "test2-20250101T000000Z.db",
        "test-20250101T000000Z.db-old",
    ]
    for name in others:
        (folder / name).write_text("mine")
    (folder / "test-20240101T000000Z.db").mkdir()
    kept = []
    for day in (1, 2, 3, 3, 4):
        monkeypatch.setenv("SQLITE_COLD_NOW", f"2026-01-0{day}T03:30:00Z")
        result = backup(db)
        kept.append(os.path.basename(result["path"]))
        gone = [os.path.basename(name) for name in result["removed"]]
        assert gone == kept[:-3] and result["kept"] == min(len(kept), 3)
        kept = kept[-3:]
        assert set(names(folder)) == {*others, *kept, "test-20240101T000000Z.db"}
    assert kept == [
        "test-20260103T033000Z.db",
        "test-20260103T033000Z-2.db",
        "test-20260104T033000Z.db",
    ]
    # A clock that was set back does not cost the newest one.
    monkeypatch.setenv("SQLITE_COLD_NOW", "2020-01-01T00:00:00Z")
    result = backup(db)
    assert os.path.exists(result["path"]) and result["kept"] == 3
    # Those of a clock that was ahead do not keep the place of newer ones.
    for year in (2031, 2032):
        monkeypatch.setenv("SQLITE_COLD_NOW", f"{year}-01-01T00:00:00Z")
        backup(db)
    for day in (6, 7, 8):
        monkeypatch.setenv("SQLITE_COLD_NOW", f"2026-01-0{day}T03:30:00Z")
        assert backup(db)["kept"] == 3
    kept = [name for name in names(folder) if name.endswith("033000Z.db")]
    assert kept == [f"test-2026010{day}T033000Z.db" for day in (6, 7, 8)]
    db.execute("SELECT archive_config('backup_keep', 1)")
    monkeypatch.setenv("SQLITE_COLD_NOW", "2026-02-01T00:00:00Z")
    assert backup(db)["kept"] == 1
    db.execute("SELECT archive_config('backup_keep', 0)")
    assert "backup_keep" in fails(db)
    assert backup(db, path.parent / "one.db")["kept"] is None
    db.close()


def test_a_failed_backup_leaves_the_older_ones(db, path):
    """A new one that cannot be made costs none of the old ones, and leaves nothing behind."""
    fill(db, 20_000)
    good = [backup(db)["path"] for _ in range(3)]
    db.close()
    # A page in the midst of the table is no page of a table any more.
    with open(path, "r+b") as file:
        file.seek(4096 * 100)
        file.write(b"\xff" * 4096)
    db = connect(path)
    assert "integrity_check" in fails(db)
    assert names(path.parent / "backup") == sorted(os.path.basename(name) for name in good)
    assert db.in_transaction is False
    db.close()


def test_with_a_path(db, path, tmp_path):
    """A path is the new file itself; a folder gets a file of the usual name. Nothing is replaced."""
    fill(db)
    place = tmp_path / "it's a folder"
    place.mkdir()
    result = backup(db, place / "copy.sqlite")
    assert result["path"] == str(place / "copy.sqlite") and result["kept"] is None
    assert len(contents(result["path"])) == 1000
    for _ in range(5):
        assert os.path.dirname(backup(db, place)["path"]) == str(place)
    assert len(names(place)) == 6
    (place / "link.db").symlink_to(tmp_path / "nowhere.db")
    for present in ("copy.sqlite", "link.db"):
        assert "is already there" in fails(db, str(place / present))
    assert not (tmp_path / "nowhere.db").exists()
    assert not (path.parent / "backup").exists()


def test_bad_calls(db, path, tmp_path):
    """What cannot be done is refused with the way out, and leaves nothing behind."""
    fill(db)
    for bad in (5, b"x", ""):
        assert "must be text" in fails(db, bad)
    assert "missing" in fails(db, str(tmp_path / "missing" / "x.db"))
    db.execute("BEGIN")
    assert "inside a transaction" in fails(db)
    db.execute("ROLLBACK")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    home = path.parent / "home"
    home.mkdir()
    away = connect(home / "a.db")
    away.execute("CREATE TABLE t (x)")
    (home / "backup").symlink_to(elsewhere)
    assert "leads away" in fails(away)
    assert list(elsewhere.iterdir()) == []
    assert backup(away, home / "backup")["bytes"] == 8192
    away.close()
    (path.parent / "backup").write_text("a file in the way")
    assert "backup" in fails(db)
    memory = connect(":memory:")
    memory.execute("CREATE TABLE t (x)")
    assert "in memory" in fails(memory)
    assert contents(backup(memory, tmp_path / "m.db")["path"], "SELECT count(*) FROM t") == [(0,)]
    memory.close()


def test_a_folder_that_cannot_be_written(owned):  # noqa: F811
    """Without the right to write there the error names the place, and older backups stay."""
    path = owned / "test.db"
    db = connect(path)
    fill(db)
    first = backup(db)["path"]
    db.close()
    for file in owned.rglob("*"):
        os.chown(file, 65534, 65534)
    (owned / "backup").chmod(0o555)
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    library = FAULTS_LIBRARY.with_suffix("")
    with process(CHILD, path, library, **user) as child:
        _, errors = child.communicate(timeout=30)
    assert "archive_backup: " in errors and "Permission denied" in errors
    assert str(owned / "backup") in errors
    assert names(owned / "backup") == [os.path.basename(first)]


def test_a_full_disk(disk):  # noqa: F811
    """A disk that fills up is an error, and the half copy does not stay there."""
    path = disk / "test.db"
    db = connect(path)
    fill(db, 20_000)
    first = backup(db)["path"]
    leave_free(disk, 500)
    message = fails(db)
    assert "full" in message or "No space" in message
    assert names(disk / "backup") == [os.path.basename(first)]
    leave_free(disk, 20_000)
    assert backup(db)["kept"] == 2
    db.close()


def test_a_process_that_dies(path):
    """What a killed process left is not a backup, and goes with the next one."""
    db = connect(path)
    fill(db, 300_000, 200)
    folder = path.parent / "backup"
    with process(CHILD, path, LIBRARY.with_suffix("")) as child:
        partial = folder / ".test.db.partial"
        while not (partial.exists() and partial.stat().st_size > 100_000):
            assert child.poll() is None, child.stderr.read()
        assert "another backup" in fails(db)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert names(folder) == [".test.db.partial"]
    result = backup(db)
    assert names(folder) == [os.path.basename(result["path"])] and result["kept"] == 1
    db.close()


def writer(path, seconds, stop, waits):
    """Writes all the time, and notes how long each transaction took."""
    other = sqlite3.connect(path, isolation_level=None, timeout=seconds)
    while not stop.is_set():
        start = time.monotonic()
        other.execute("UPDATE t SET v = v || 'x' WHERE id = 1 + abs(random()) % 1000")
        waits.append(time.monotonic() - start)
        time.sleep(0.001)
    other.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_writers_go_on(path, mode):
    """P7: another connection writes meanwhile, without an error, and the backup ends all the same."""
    db = connect(path)
    db.execute(f"PRAGMA journal_mode = {mode}")
    fill(db, 100_000, 400)
    stop, waits = threading.Event(), []
    thread = threading.Thread(target=writer, args=(path, 30, stop, waits))
    thread.start()
    try:
        while len(waits) < 5:
            assert thread.is_alive()
        before = len(waits)
        result = backup(db)
        meanwhile = waits[before:]
    finally:
        stop.set()
        thread.join()
    assert len(contents(result["path"])) == 100_000
    if mode == "wal":
        # It writes about as fast as it does alone: the copy takes far longer than any of its waits.
        assert len(meanwhile) > 10 and max(meanwhile) < result["elapsed_ms"] / 2000 + 0.1
    else:
        # The first turns are short; it comes through many times before they are long.
        assert len(meanwhile) > 5
    db.close()


def test_a_backup_is_one_state(path):
    """Two rows that are always changed together are never seen apart in a backup."""
    db = connect(path)
    fill(db, 30_000, 400)
    db.execute("CREATE TABLE pair (id INTEGER PRIMARY KEY, n)")
    db.execute("INSERT INTO pair VALUES (1, 0), (2, 0)")
    stop = threading.Event()

    def change():
        other = sqlite3.connect(path, isolation_level=None, timeout=30)
        while not stop.is_set():
            other.execute("BEGIN IMMEDIATE")
            other.execute("UPDATE pair SET n = n + 1 WHERE id = 1")
            other.execute("UPDATE t SET v = 'changed' WHERE id = 1 + abs(random()) % 30000")
            other.execute("UPDATE pair SET n = n + 1 WHERE id = 2")
            other.execute("COMMIT")
            time.sleep(0.001)
        other.close()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        copies = [backup(db, path.parent / f"{n}.db")["path"] for n in range(5)]
    finally:
        stop.set()
        thread.join()
    for copy in copies:
        (first,), (second,) = contents(copy, "SELECT n FROM pair")
        assert first == second
    db.close()


def test_an_older_backup_works_with_the_present_files(path):
    """A backup from before an archive, and one from after it, give the rows of their time."""
    db = connect(path)
    fill(db)
    archive(db, "t", None, {"before": "2020-01-20"})
    rows = "SELECT * FROM all_t ORDER BY id"
    expected = db.execute(rows).fetchall()
    old = backup(db)["path"]
    db.execute("UPDATE t SET v = 'new' WHERE ts > '2020-02-10'")
    archive(db, "t", None, {"before": "2020-02-01"})
    # A file leaves the catalog, as it does when its rows are restored or expire.
    db.execute("DELETE FROM _archive_range WHERE file_id = 1")
    db.execute("""INSERT INTO _archive_removed
           SELECT path, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') FROM _archive_file WHERE id = 1""")
    db.execute("DELETE FROM _archive_file WHERE id = 1")
    for file in (path.parent / "archive").rglob("*.parquet"):
        os.utime(file, (time.time() - 400 * 86_400,) * 2)
    db.execute("SELECT archive_gc()").fetchall()
    db.close()
    shutil.copy(old, path)
    db = connect(path)
    assert db.execute(rows).fetchall() == expected and len(expected) == 1000
    assert json.loads(db.execute("SELECT archive_verify()").fetchone()[0])["problems"] == []
    # And it goes on from there.
    archive(db, "t", None, {"before": "2020-02-01"})
    assert db.execute(rows).fetchall() == expected
    db.close()


def test_what_only_the_application_knows(path):
    """Indexes by its collations and functions are no reason to refuse a copy of the database."""
    db = connect(path)
    fill(db)
    db.create_collation("mine", lambda a, b: (a > b) - (a < b))
    db.create_function("twice", 1, lambda x: x * 2, deterministic=True)
    db.execute("CREATE TABLE c (x TEXT COLLATE mine, n INT)")
    db.execute("CREATE INDEX by_x ON c (x)")
    db.execute("CREATE INDEX by_twice ON c (twice(n))")
    db.execute("INSERT INTO c VALUES ('a', 1), ('b', 2)")
    assert backup(db)["kept"] == 1
    db.close()
    # The other tables are checked all the same.
    plain = sqlite3.connect(path)
    (page,) = plain.execute("SELECT rootpage FROM sqlite_schema WHERE name = 't'").fetchone()
    (size,) = plain.execute("PRAGMA page_size").fetchone()
    plain.close()
    with open(path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    db = connect(path)
    fails(db)
    db.close()


def test_an_archive_run_is_not_copied_half_way(path):
    """While another process archives, no backup is made: it says so."""
    db = connect(path)
    fill(db)
    archive(db, "t", None, {"before": "2020-01-05"})
    archiver = CHILD.replace("archive_backup()", "archive_table('t', 7)")
    library = FAULTS_LIBRARY.with_suffix("")
    with process(archiver, path, library, fault="run.begin:1:sleep") as child:
        running = "SELECT count(*) FROM _archive_run WHERE status = 'running'"
        while db.execute(running).fetchone() == (0,):
            assert child.poll() is None, child.stderr.read()
        assert "another archive run" in fails(db)
        assert child.wait() == 0
    assert backup(db)["kept"] == 1
    db.close()


def test_databases_side_by_side(tmp_path):
    """Databases in one folder do not take each other's backups for their own."""
    paths = [tmp_path / name for name in ("a.db", "a.sqlite", "a", "a-b.db")]
    databases = [connect(path) for path in paths]
    for db in databases:
        db.execute("CREATE TABLE t (x)")
        db.execute("SELECT archive_config('backup_keep', 1)")
    for _ in range(2):
        for db in databases:
            assert backup(db)["kept"] == 1
    assert len(names(tmp_path / "backup")) == 4
    for db in databases:
        db.close()


def read_only_folder():
    """A folder of this machine on a file system that nothing can be written to."""
    try:
        with open("/proc/mounts", encoding="utf-8") as mounts:
            points = [line.split()[1] for line in mounts if "ro" in line.split()[3].split(",")]
    except FileNotFoundError:
        points = []
    for point in points:
        try:
            open(os.path.join(point, "sqlite-cold-test"), "x").close()
        except OSError as error:
            if error.errno == errno.EROFS:
                return point
    pytest.skip("nothing is read-only here")


def test_the_archive_can_be_on_read_only_media(db, tmp_path, monkeypatch):
    """Nobody can be archiving there, so there is no lock to take."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT)")
    db.execute("SELECT archive_policy('t', 7)")
    monkeypatch.setenv("ARCHIVE_DIR", read_only_folder())
    made = backup(db, tmp_path / "copy.db")
    assert made["bytes"] == (tmp_path / "copy.db").stat().st_size
    with pytest.raises(sqlite3.OperationalError, match="Read-only file system"):
        db.execute("SELECT archive_run()")


BUSY_WRITER = """
import select, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print("ready", flush=True)
worst = 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    start = time.monotonic()
    db.execute("UPDATE w SET n = n + 1")
    worst = max(worst, time.monotonic() - start)
print(worst)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs select on a pipe")
@pytest.mark.parametrize("mode", ["delete", "memory"])
def test_a_writer_waits_for_less_than_a_copy_takes(db, path, tmp_path, mode):
    """With a rollback journal nobody can commit while the database is read. What is copied is not copied
    again when somebody has: it is only looked at."""
    db.execute(f"PRAGMA journal_mode = {mode}")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
    db.execute("CREATE TABLE w (n)")
    db.execute("INSERT INTO w VALUES (0)")
    db.execute(
        "WITH s AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM s WHERE i < 80000) "
        "INSERT INTO t SELECT i, randomblob(960) FROM s"
    )
    ratios = []
    for attempt in range(5):
        with sqlite3.connect(tmp_path / f"plain{attempt}.db") as plain:
            start = time.monotonic()
            db.backup(plain)
            alone = time.monotonic() - start
        with process(BUSY_WRITER, path, stdin=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == "ready\n"
            backup(db, tmp_path / f"copy{attempt}.db")
            worst = float(writer.communicate("stop\n")[0])
        ratios.append(worst / alone)
    assert sorted(ratios)[2] < 0.6, ratios


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "memory"])
def test_a_copy_is_of_one_state_while_pages_come_and_go(db, path, tmp_path, mode):
    """The database grows, shrinks and is vacuumed between the turns of the copy."""
    db.execute("PRAGMA page_size = 1024")
    db.execute(f"PRAGMA journal_mode = {mode}")
    db.execute("CREATE TABLE a (n INTEGER PRIMARY KEY, v)")
    db.execute("CREATE TABLE b (n INTEGER PRIMARY KEY, v)")
    fill = "WITH s AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM s WHERE i < {}) INSERT INTO {} SELECT i, randomblob(900) FROM s"
    db.execute(fill.format(20_000, "a"))
    stop = threading.Event()

    def churn():
        other = sqlite3.connect(path, isolation_level=None, timeout=60)
        size = 1
        while not stop.is_set():
            size = size % 7 + 1
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM b")
            other.execute(fill.format(size * 300, "b"))
            other.execute("UPDATE a SET v = ? WHERE n = 1", (size * 300,))
            other.execute("COMMIT")
            if size == 3:
                other.execute("BEGIN IMMEDIATE")
                other.execute("DELETE FROM b")
                other.execute("UPDATE a SET v = 0 WHERE n = 1")
                other.execute("COMMIT")
                other.execute("VACUUM")
            time.sleep(0.002)
        other.close()

    db.execute("UPDATE a SET v = 0 WHERE n = 1")
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for attempt in range(8):
            backup(db, tmp_path / f"copy{attempt}.db")
    finally:
        stop.set()
        thread.join()
    for attempt in range(8):
        with contextlib.closing(sqlite3.connect(tmp_path / f"copy{attempt}.db")) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            counted = copy.execute("SELECT count(*) FROM b").fetchone()
            assert counted == copy.execute("SELECT v FROM a WHERE n = 1").fetchone()


def test_a_database_that_goes_over_to_wal_is_copied(db, path, tmp_path):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
    db.execute(
        "WITH s AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM s WHERE i < 60000) "
        "INSERT INTO t SELECT i, randomblob(900) FROM s"
    )
    changed = []

    def go_over():
        time.sleep(0.05)
        other = sqlite3.connect(path, isolation_level=None, timeout=60)
        changed.extend(other.execute("PRAGMA journal_mode = wal").fetchone())
        other.execute("INSERT INTO t VALUES (0, 'in the wal')")
        time.sleep(2)
        other.close()

    thread = threading.Thread(target=go_over)
    thread.start()
    backup(db, tmp_path / "copy.db")
    thread.join()
    assert changed == ["wal"]
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM t").fetchone()[0] in (60_000, 60_001)


def test_pages_that_a_connection_with_the_same_cache_has_not_committed(path):
    """They are in the file by then, and SQLite's locks do not keep the two connections apart."""
    uri = f"file:{path}?cache=shared"
    options = {"uri": True, "isolation_level": None}
    with (
        contextlib.closing(sqlite3.connect(uri, **options)) as other,
        contextlib.closing(sqlite3.connect(uri, **options)) as db,
    ):
        db.enable_load_extension(True)
        db.load_extension(str(LIBRARY.with_suffix("")))
        other.execute("PRAGMA cache_size = 10")
        fill(other, 20_000)
        other.execute("BEGIN")
        other.execute("UPDATE t SET v = 'never committed' || hex(zeroblob(40))")
        copy = path.parent / "copy.db"
        assert fails(db, str(copy)).endswith("database is locked")
        assert not copy.exists()
        other.execute("ROLLBACK")
        backup(db, copy)
        assert contents(copy, "SELECT count(*) FROM t WHERE v LIKE 'never%'") == [(0,)]
