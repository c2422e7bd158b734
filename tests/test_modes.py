"""Who may use what the library makes beside a database: whoever may use the database."""

import json
import os
import shutil
import stat
import subprocess
import sys

import pytest

from conftest import ROOT, archive, connect, needs_duckdb

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no modes here")


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def create(path, mode):
    """A database of the mode, with old rows in two months."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, mode))
    os.chmod(path, mode)
    connection = connect(path)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT)")
    connection.execute("INSERT INTO t VALUES (1, '2020-01-01'), (2, '2020-02-01'), (3, '2020-03-01')")
    return connection


def made(path):
    """All that lies beside a database, with its mode and owner."""
    found = {}
    for folder, folders, files in os.walk(path.parent):
        for name in folders + files:
            place = os.path.join(folder, name)
            if place != str(path):
                found[os.path.relpath(place, path.parent)] = os.lstat(place)
    return found


def modes(path):
    """The modes of the files, and those of the folders."""
    files, folders = set(), set()
    for status in made(path).values():
        kind = folders if stat.S_ISDIR(status.st_mode) else files
        kind.add(stat.S_IMODE(status.st_mode))
    return files, folders


def use(connection):
    """Does all that makes files."""
    archive(connection, "t", 7)
    connection.execute("SELECT archive_policy('t', 7)")
    connection.execute("SELECT archive_backup()")
    (summary,) = connection.execute("SELECT archive_run()").fetchone()
    assert json.loads(summary)["errors"] == []


@pytest.mark.parametrize(
    ("mode", "folder"), [(0o600, 0o700), (0o640, 0o750), (0o660, 0o770), (0o644, 0o755), (0o664, 0o775)]
)
def test_what_is_made_has_the_mode_of_the_database(path, mode, folder):
    connection = create(path, mode)
    use(connection)
    names = made(path)
    for end in (".parquet", ".lock", ".db"):
        assert any(name.endswith(end) for name in names), end
    assert modes(path) == ({mode}, {folder})
    connection.close()


def test_a_strict_umask_does_not_shut_out_who_may_use_the_database(path):
    connection = create(path, 0o640)
    os.umask(0o077)
    use(connection)
    assert modes(path) == ({0o640}, {0o750})
    connection.close()


def test_a_folder_elsewhere_has_the_mode_of_the_database(path, tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHIVE_DIR", str(tmp_path / "else" / "where"))
    connection = create(path, 0o600)
    use(connection)
    assert (tmp_path / "else" / "where").is_dir()
    assert modes(path) == ({0o600}, {0o700})
    connection.close()


def test_a_folder_that_is_there_stays_as_it_is(path, tmp_path):
    connection = create(path, 0o600)
    (tmp_path / "archive").mkdir(mode=0o755)
    use(connection)
    assert stat.S_IMODE((tmp_path / "archive").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "archive" / "parquet").stat().st_mode) == 0o700
    connection.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_owner_of_the_database(path):
    connection = create(path, 0o640)
    os.chown(path, 65534, 65533)
    use(connection)
    for name, status in made(path).items():
        assert (status.st_uid, status.st_gid) == (65534, 65533), name
    assert modes(path) == ({0o640}, {0o750})
    connection.close()


AS_SOMEBODY = f"""
import os, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[3]))
os.umask(0o022)
sys.path.insert(0, {str(ROOT / "tests")!r})
from conftest import archive, connect
connection = connect(sys.argv[1])
archive(connection, "t", 7)
connection.execute("SELECT archive_backup()")
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to be others")
def test_a_group_that_cannot_be_given_gets_nothing(public):
    path = public / "test.db"
    connection = create(path, 0o666)
    connection.close()
    os.chown(path, 65534, 65533)
    subprocess.run([sys.executable, "-c", AS_SOMEBODY, path, "65500", "65501"], check=True)
    assert {status.st_uid for status in made(path).values()} == {65501}
    assert modes(path) == ({0o606}, {0o707})


# Lists whatever it sees for as long as it runs, with the widest mode of each.
WATCHER = """
import os, stat, sys
seen = {}
print("ready", flush=True)
while not os.path.exists(sys.argv[2]):
    for folder, folders, files in os.walk(sys.argv[1]):
        for name in folders + files:
            try:
                mode = stat.S_IMODE(os.lstat(os.path.join(folder, name)).st_mode)
            except FileNotFoundError:
                continue
            if mode & 0o077 and not name.startswith("test.db"):
                seen[name] = oct(mode)
print(seen)
"""


def test_at_no_moment_can_others_read_what_is_made(path, tmp_path):
    connection = create(path, 0o600)
    stop = tmp_path.parent / "stop"
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, tmp_path, stop], stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout.readline() == "ready\n"
    use(connection)
    for _ in range(30):
        connection.execute("SELECT archive_backup()")
    stop.touch()
    assert watcher.communicate(timeout=60)[0] == "{}\n"
    stop.unlink()
    connection.close()


@needs_duckdb
def test_what_duckdb_spills_is_for_nobody_else(path, tmp_path):
    connection = create(path, 0o640)
    archive(connection, "t", 7)
    connection.execute("SELECT row FROM archive_query('SELECT count(*) FROM all_t')").fetchall()
    entries = (tmp_path / "archive" / "duckdb_spill").iterdir()
    spill = next(entry for entry in entries if entry.is_dir())
    assert stat.S_IMODE(spill.stat().st_mode) == 0o700
    assert stat.S_IMODE(spill.parent.stat().st_mode) == 0o750
    connection.close()
    shutil.rmtree(tmp_path / "archive")
