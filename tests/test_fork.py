"""Processes that fork while the library is at work: a child takes no lock with it, and waits for none."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from conftest import FAULTS_LIBRARY, ROOT, archive, connect, needs_duckdb, process

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
needs_faults = pytest.mark.skipif(not FAULTS_LIBRARY.exists(), reason="needs `make faults`")

# How long a child that hangs is given.
PATIENCE = 20


@pytest.fixture
def queue(path):
    """A database with a table of a thousand old rows."""
    connection = connect(path)
    connection.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY, created_at TEXT, note TEXT)")
    connection.execute(
        "WITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
        "INSERT INTO queue SELECT i, date('2020-01-01', i || ' days'), 'note ' || i FROM n"
    )
    yield connection
    connection.close()


# Forks in the middle of a run, which another thread is at.
FORKING = f"""
import os, sqlite3, sys, threading, time
sys.path.insert(0, {str(ROOT / "tests")!r})
from conftest import FAULTS_LIBRARY, archive, connect
os.environ["SQLITE_COLD_FAULT"] = "file.sync:1:sleep"
connection = connect(sys.argv[1], FAULTS_LIBRARY, check_same_thread=False)
run = threading.Thread(target=archive, args=(connection, "queue", 7, {{"partition": "month"}}))
run.start()
time.sleep(0.5)
assert run.is_alive(), "the run ended before the fork"
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
run.join()
print("done", flush=True)
time.sleep(60)
"""


@needs_faults
@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_a_child_does_not_keep_the_lock_of_a_run(queue, path, killed):
    with process(FORKING, path) as parent:
        child = int(parent.stdout.readline())
        try:
            if killed:
                parent.kill()
                parent.wait()
            else:
                assert parent.stdout.readline() == "done\n"
            os.kill(child, 0)
            start = time.monotonic()
            archive(queue, "queue", 7, {"partition": "month"})
            assert time.monotonic() - start < 5
        finally:
            os.kill(child, signal.SIGKILL)
    assert queue.execute("SELECT count(*) FROM all_queue").fetchone() == (1000,)


def descriptors():
    """What the descriptors of this process are of."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            pass
    return found


@needs_faults
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_program_that_is_started_inherits_no_file(queue, path, monkeypatch):
    monkeypatch.setenv("SQLITE_COLD_FAULT", "file.sync:1:sleep")
    connection = connect(path, FAULTS_LIBRARY, check_same_thread=False)
    options = {"partition": "month"}
    run = threading.Thread(target=archive, args=(connection, "queue", 7, options))
    run.start()
    while run.is_alive() and not any("/archive/" in of for _, of in descriptors()):
        time.sleep(0.01)
    ours = [of for fd, of in descriptors() if "/archive/" in of and os.get_inheritable(fd)]
    list_them = ["ls", "-l", "/proc/self/fd"]
    shown = subprocess.run(list_them, close_fds=False, capture_output=True, text=True).stdout
    assert any("/archive/" in of for _, of in descriptors()), "the run ended too early"
    run.join()
    connection.close()
    assert ours == []
    assert "/archive/" not in shown


# Threads query cold rows all the time, the main thread forks. Each child opens a connection of its own.
#
# SQLite has locks of its own that a thread may hold at that moment. Two are kept out of the way: that of
# its memory statistics, which are switched off, and that of the file's locks, by transactions that do not
# end. What is left are ours.
QUERYING = f"""
import ctypes, ctypes.util, itertools, os, sys, threading, time
sqlite = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
MEMSTATUS = 9
assert sqlite.sqlite3_config(MEMSTATUS, 0) == 0
sys.path.insert(0, {str(ROOT / "tests")!r})
from conftest import connect
path, children = sys.argv[1], int(sys.argv[2])
stop = threading.Event()

def ask(seed):
    connection = connect(path)
    connection.execute("BEGIN")
    for n in itertools.count(seed):
        if stop.is_set():
            return
        connection.execute("SELECT note FROM cold_queue WHERE id = ?", (n % 1000,)).fetchall()
        if n % 7 == 0:
            connection.execute("SELECT sum(length(note)) FROM cold_queue").fetchall()

def child():
    connection = connect(path)
    (count,) = connection.execute("SELECT count(note) FROM all_queue").fetchone()
    connection.close()
    os._exit(0 if count == 1000 else 1)

threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
for thread in threads:
    thread.start()
time.sleep(0.5)
ended, failed, hung = 0, 0, 0
for n in range(children):
    pid = os.fork()
    if pid == 0:
        child()
    deadline = time.monotonic() + {PATIENCE}
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            failed += status != 0
            break
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            hung += 1
            break
        time.sleep(0.001)
    if hung > 2:
        break
stop.set()
for thread in threads:
    thread.join()
print("failed", failed, "hung", hung)
"""


def test_a_child_with_a_connection_of_its_own_never_waits(queue, path):
    archive(queue, "queue", 7, {"partition": "month"})
    with process(QUERYING, path, 200) as parent:
        output, errors = parent.communicate(timeout=600)
    assert output == "failed 0 hung 0\n", errors


def test_a_child_can_close_a_query_of_its_parent(queue, path):
    archive(queue, "queue", 7, {"partition": "month"})
    cursor = queue.execute("SELECT note FROM cold_queue")
    assert len(cursor.fetchmany(200)) == 200
    child = os.fork()
    if child == 0:
        # As a child does that ends by itself: it gives back what it has.
        signal.alarm(PATIENCE)
        try:
            cursor.fetchall()
        except Exception as error:
            cursor.close()
            queue.close()
            os._exit(0 if "before the process forked" in str(error) else 2)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert len(cursor.fetchall()) == 799  # the newest stays hot


@needs_duckdb
def test_a_child_can_close_a_connection_that_has_asked_duckdb(queue, path):
    """It has none of the threads that DuckDB waits for when it is closed."""
    archive(queue, "queue", 7, {"partition": "month"})
    report = "SELECT row FROM archive_query('SELECT count(*) FROM all_queue')"
    before = queue.execute(report).fetchall()
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        queue.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert queue.execute(report).fetchall() == before


def test_a_child_has_threads_and_a_schedule_of_its_own(queue, path):
    archive(queue, "queue", 7, {"partition": "month"})
    queue.execute("SELECT archive_schedule('03:30')")
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        own = connect(path)
        (shown,) = own.execute("SELECT archive_schedule() ->> 'scheduled'").fetchone()
        (count,) = own.execute("SELECT count(note) FROM cold_queue").fetchone()
        own.close()
        os._exit(0 if (shown, count) == (0, 999) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert queue.execute("SELECT archive_schedule() ->> 'scheduled'").fetchone() == (1,)
    queue.execute("SELECT archive_schedule(NULL)")
