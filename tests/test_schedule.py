"""The schedule inside the process: it runs at its times, once, and is never in the way."""

import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime, timedelta

import pytest
from conftest import FAULTS_LIBRARY, LIBRARY, connect, process

EVERY_SECOND = "* * * * * *"
NIGHTLY = "SELECT count(*) FROM _archive_run WHERE operation = 'nightly'"

# Runs each line of its input as SQL, and prints what it returns.
CHILD = """
import sqlite3, sys
path, library = sys.argv[1:3]
connection = sqlite3.connect(path, isolation_level=None)
connection.enable_load_extension(True)
connection.load_extension(library)
for line in sys.stdin:
    print(connection.execute(line).fetchone()[0], flush=True)
"""


def schedule(connection, *times):
    """Calls archive_schedule and returns its JSON as a dictionary."""
    sql = f"SELECT archive_schedule({', '.join('?' * len(times))})"
    return json.loads(connection.execute(sql, times).fetchone()[0])


def child(path, program=CHILD, library=LIBRARY):
    """A process that has the database open."""
    return process(program, path, library.with_suffix(""), stdin=subprocess.PIPE)


def ask(running, sql):
    """What a child's connection returns, as a dictionary."""
    running.stdin.write(sql + "\n")
    running.stdin.flush()
    return json.loads(running.stdout.readline())


def wait(condition, seconds=20):
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)
    return found


def runs(path):
    """How many runs of the schedule the history knows."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        return connection.execute(NIGHTLY).fetchone()[0]


def wait_for_slots(path, number):
    """Waits until so many more slots of a schedule have been run."""
    enough = runs(path) + number
    wait(lambda: runs(path) >= enough)


def last_slot(path):
    """The slot that was run last."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        sql = "SELECT value FROM _archive_meta WHERE key = 'last_slot'"
        return connection.execute(sql).fetchone()[0]


def threads():
    """The schedules' threads in this process."""
    names = [task.read_text() for task in pathlib.Path("/proc/self/task").glob("*/comm")]
    return names.count("cold-schedule\n")


def open_files():
    """What this process has open."""
    return [os.path.realpath(file) for file in pathlib.Path("/proc/self/fd").iterdir()]


def make(path):
    """A database with a catalog, without the extension."""
    with closing(connect(path)) as connection:
        connection.execute("SELECT archive_config('pause_ms', 0)")
    return path


@pytest.fixture
def path(tmp_path):
    """A database with a catalog, whose schedule ends with the test."""
    path = make(tmp_path / "test.db")
    yield path
    if path.exists():
        with closing(connect(path)) as connection:
            schedule(connection, None)


BAD = ["", "3", "03:30:00", "24:00", "03:60", "03:30,", "* * * *", "61 3 * * *", "@daily"]
BAD += ["0 0 30 2 *", "03:30," * 1000, "\0", "ü * * * *", 330, 3.5, b"03:30"]


@pytest.mark.parametrize("times", BAD)
def test_bad_times_are_refused_with_an_example(db, times):
    """Wrong times say how right ones look; the schedule goes on as it was."""
    before = schedule(db, "03:30")
    with pytest.raises(sqlite3.OperationalError, match="archive_schedule: the times .*'03:30'"):
        schedule(db, times)
    assert schedule(db) == before


def test_what_cannot_have_a_schedule(path):
    """Only a file that can be written, and whose owner has not switched it off, can have one."""
    read_only = connect(f"file:{path}?mode=ro", uri=True)
    for connection, reason in [
        (connect(":memory:"), "in memory or temporary"),
        (connect(""), "in memory or temporary"),
        (connect("file:x?mode=memory&cache=shared", uri=True), "in memory or temporary"),
        (read_only, "the database is read-only"),
    ]:
        with closing(connection), pytest.raises(sqlite3.OperationalError, match=reason):
            schedule(connection, "03:30")

    with closing(connect(":memory:")) as memory:
        assert schedule(memory) == dict.fromkeys(["database", "times", "next", "error"]) | {
            "scheduled": False,
            "running": False,
        }
        assert schedule(memory, None) == {"stopped": False}
    with closing(connect(path)) as db:
        db.execute("SELECT archive_config('auto_archive_enabled', 'false')")
        with pytest.raises(sqlite3.OperationalError, match="archive_config.'auto_archive_enabled'"):
            schedule(db, "03:30")
        assert schedule(db)["scheduled"] is False
        db.execute("SELECT archive_config('auto_archive_enabled', 'true')")
        assert schedule(db, "03:30")["scheduled"] is True


def test_a_schedule_shows_its_times(db, path):
    """The last call counts, on every connection and by every path; there is one thread."""
    wait(lambda: threads() == 0, seconds=5)
    assert schedule(db, "03:30")["times"] == "03:30"
    shown = schedule(db, "15 30 3 * * *")
    assert shown["database"] == str(path.resolve())
    following = datetime.fromisoformat(shown["next"])
    assert following.utcoffset() is not None and following.strftime("%T") == "03:30:15"
    assert timedelta() < following - datetime.now().astimezone() <= timedelta(hours=25)
    link = path.with_name("link.db")
    link.symlink_to(path)
    with closing(connect(link)) as other:
        assert schedule(other) == shown
        wait(lambda: threads() == 1, seconds=5)
        assert schedule(other, None) == {"stopped": True}
    wait(lambda: threads() == 0, seconds=5)
    assert schedule(db)["scheduled"] is False and schedule(db, None) == {"stopped": False}


def test_it_runs_after_its_connection_closed(path):
    """Each slot is run, and nothing of the database stays open between two."""
    with closing(connect(path)) as db:
        schedule(db, "*/2 * * * * *")
    wait(lambda: runs(path) >= 2)
    assert int(last_slot(path)[17:19]) % 2 == 0
    wait(lambda: str(path) not in open_files())


def test_a_run_that_is_going_on(path):
    """`running` is true while a run of the schedule is going on, also if the schedule was stopped or
    started again meanwhile; `scheduled` is not about runs."""

    def shown(db, *times):
        found = schedule(db, *times)
        return found["scheduled"], found["running"]

    with closing(connect(path)) as db, closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert shown(db) == (False, False)
        assert shown(db, "03:30") == (True, False)
        # The run waits for the lock that others hold.
        other.execute("BEGIN IMMEDIATE")
        schedule(db, EVERY_SECOND)
        wait(lambda: shown(db) == (True, True))
        assert schedule(db, None) == {"stopped": True} and shown(db) == (False, True)
        assert shown(db, "03:30") == (True, True)
        other.execute("ROLLBACK")
        wait(lambda: shown(db) == (True, False))
        assert runs(path) == 1 and schedule(db, None) == {"stopped": True}


def test_three_processes_run_a_slot_once(path):
    """Whoever comes first has the slot, although all three are there."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript("""
            CREATE TABLE slot (time);
            CREATE TRIGGER log AFTER INSERT ON _archive_run WHEN NEW.operation = 'nightly' BEGIN
                INSERT INTO slot SELECT value FROM _archive_meta WHERE key = 'last_slot';
            END""")
        with child(path) as one, child(path) as two, child(path) as three:
            for each in (one, two, three):
                assert ask(each, "SELECT archive_schedule('*/2 * * * * *')")["scheduled"]
            wait(lambda: runs(path) >= 4)
            for each in (one, two, three):
                shown = ask(each, "SELECT archive_schedule()")
                assert shown["scheduled"] and shown["error"] is None
        slots = [time for (time,) in db.execute("SELECT time FROM slot ORDER BY time")]
    times = [datetime.fromisoformat(slot.replace("Z", "+00:00")) for slot in slots]
    steps = {b - a for a, b in zip(times, times[1:])}
    assert steps == {timedelta(seconds=2)}


def test_what_is_off_does_not_run(tmp_path):
    """Stopped, switched off after the start, or without a catalog: slots pass by."""
    clock, off, stopped = (make(tmp_path / name) for name in ("clock", "off", "stopped"))
    plain = tmp_path / "plain"
    for path in (clock, off, stopped, plain):
        with closing(connect(path)) as db:
            schedule(db, EVERY_SECOND)
    with closing(connect(off)) as db, closing(connect(stopped)) as other:
        db.execute("SELECT archive_config('auto_archive_enabled', 'false')")
        assert schedule(other, None) == {"stopped": True}
    # A run that had begun may come to its end.
    wait_for_slots(clock, 1)
    before = runs(off), runs(stopped)
    wait_for_slots(clock, 3)
    assert (runs(off), runs(stopped)) == before
    assert plain.stat().st_size == 0
    for path in (clock, off, plain):
        with closing(connect(path)) as db:
            assert schedule(db)["error"] is None
            schedule(db, None)


def test_a_slot_from_the_future_is_not_believed(path):
    """A clock that was wrong once does not stop the schedule until that time comes."""
    with closing(connect(path)) as db:
        db.execute("INSERT INTO _archive_meta VALUES ('last_slot', '2999-01-01T00:00:00.000Z')")
        schedule(db, EVERY_SECOND)
        wait(lambda: runs(path) >= 1)
    assert last_slot(path) < "2999"


def test_a_database_that_is_gone_is_not_made_again(path):
    """The slot reports it, and leaves no file."""
    with closing(connect(path)) as db:
        schedule(db, EVERY_SECOND)
        path.unlink()
        shown = wait(lambda: (shown := schedule(db))["error"] and shown)
        assert shown["scheduled"] and "unable to open database file" in shown["error"]
        assert list(path.parent.glob("test.db*")) == []
        assert schedule(db, None) == {"stopped": True}


START = "\nconnection.execute('SELECT archive_schedule(?)', [sys.argv[3]])\n"


@pytest.mark.parametrize("times", ["03:30", EVERY_SECOND])
def test_a_process_ends_when_it_wants_to(path, times):
    """The thread keeps no process alive, and does not crash or print as it goes."""
    program = CHILD.partition("for line")[0] + START + "import time; time.sleep(1.1)"
    command = [sys.executable, "-c", program, path, LIBRARY.with_suffix(""), times]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert time.monotonic() - start < 5


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="needs the sqlite3 shell")
def test_the_shell_ends_when_its_input_does(path):
    """The same for SQLite's own shell."""
    script = f".load {LIBRARY.with_suffix('')}\nSELECT archive_schedule('03:30') ->> 'scheduled';\n"
    command = [shutil.which("sqlite3"), str(path)]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=5)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


FORK = """
import os
connection.execute("SELECT archive_schedule('03:30')")
connection.close()
child = os.fork()
connection = sqlite3.connect(path, isolation_level=None)
connection.enable_load_extension(True)
connection.load_extension(library)
scheduled = "SELECT archive_schedule({}) ->> 'scheduled'"
if child == 0:
    shown = [connection.execute(scheduled.format(times)).fetchone()[0] for times in ("", "'03:30'")]
    os._exit(0 if shown == [0, 1] else 1)
assert os.waitpid(child, 0)[1] == 0
assert connection.execute(scheduled.format("")).fetchone()[0] == 1
"""


def test_a_fork_has_no_thread(path):
    """A forked process knows that the thread is its parent's, and can start its own."""
    program = CHILD.partition("for line")[0] + FORK
    command = [sys.executable, "-c", program, path, LIBRARY.with_suffix("")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_starts_it_at_load(path, monkeypatch):
    """CLEANUP_CRON_TIMES with AUTO_ARCHIVE_ENABLED=true, and what a call says is stronger."""
    monkeypatch.setenv("CLEANUP_CRON_TIMES", "03:30")
    for switch in (None, "", "false"):
        monkeypatch.setenv("AUTO_ARCHIVE_ENABLED", switch or "")
        with closing(connect(path)) as db:
            assert schedule(db)["scheduled"] is False
    monkeypatch.setenv("AUTO_ARCHIVE_ENABLED", "true")
    connect(":memory:").close()
    connect(f"file:{path}?mode=ro", uri=True).close()
    with closing(connect(path)) as db:
        assert schedule(db)["times"] == "03:30"
        schedule(db, "04:30")
        with closing(connect(path)) as other:
            assert schedule(other)["times"] == "04:30"
        schedule(db, None)
        with closing(connect(path)) as other:
            assert schedule(other)["scheduled"] is False


@pytest.mark.parametrize("variable", ["CLEANUP_CRON_TIMES", "AUTO_ARCHIVE_ENABLED"])
def test_a_wrong_environment_fails_the_load(path, monkeypatch, variable):
    """A night that would never come is found out when the library is loaded."""
    monkeypatch.setenv("CLEANUP_CRON_TIMES", "03:30")
    monkeypatch.setenv("AUTO_ARCHIVE_ENABLED", "true")
    monkeypatch.setenv(variable, "half past three")
    with pytest.raises(
        sqlite3.OperationalError,
        match=f"{variable}.*half past three|" f"half past three.*{variable}",
    ):
        connect(path)


# Stops the clock of a test build at another time, once the thread waits.
CLOCK = """
import os
for line in sys.stdin:
    os.environ["SQLITE_COLD_NOW"], sql = line.split(" ", 1)
    print(connection.execute(sql).fetchone()[0], flush=True)
"""


def test_a_slot_that_passed_in_a_sleep_is_run_late(path, monkeypatch):
    """After three days of suspension the last slot is run, once."""
    monkeypatch.setenv("TZ", "UTC")
    with child(path, CHILD.partition("for line")[0] + CLOCK, FAULTS_LIBRARY) as running:
        ask(running, "2026-01-31T03:29:59Z SELECT archive_schedule('03:30')")
        ask(running, "2026-02-03T08:00:00Z SELECT archive_schedule()")
        wait(lambda: runs(path))
        assert last_slot(path) == "2026-02-03T03:30:00.000Z"
        shown = ask(running, "2026-02-03T08:00:00Z SELECT archive_schedule()")
        assert (shown["next"], shown["error"]) == ("2026-02-04T03:30:00+00:00", None)
        assert runs(path) == 1


@pytest.mark.parametrize(
    ("times", "now", "following"),
    [
        # On March 29 there is no 02:30; on October 25 there are two.
        ("02:30", "2026-03-28T12:00:00Z", "2026-03-29T03:00:00+02:00"),
        ("02:30", "2026-03-29T01:00:00Z", "2026-03-30T02:30:00+02:00"),
        ("02:30", "2026-10-24T12:00:00Z", "2026-10-25T02:30:00+02:00"),
        ("02:30", "2026-10-25T00:30:00Z", "2026-10-26T02:30:00+01:00"),
        ("02:30", "2026-10-25T00:29:59Z", "2026-10-25T02:30:00+02:00"),
        ("30 * * * *", "2026-10-24T23:30:00Z", "2026-10-25T02:30:00+02:00"),
        ("30 * * * *", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00+01:00"),
        ("30 * * * *", "2026-10-25T01:30:00Z", "2026-10-25T03:30:00+01:00"),
        ("*/20 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T02:00:00+02:00"),
    ],
)
def test_summer_time(path, monkeypatch, times, now, following):
    """A time that a day does not have comes right after the gap; one that it has twice comes once."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    with child(path, CHILD.partition("for line")[0] + CLOCK, FAULTS_LIBRARY) as running:
        assert ask(running, f"{now} SELECT archive_schedule('{times}')")["next"] == following


def test_a_real_minute(path):
    """A time of day, to the end: the next minute comes, and is run. Takes up to a minute."""
    minute = (datetime.now().astimezone() + timedelta(seconds=62)).replace(second=0, microsecond=0)
    with closing(connect(path)) as db:
        shown = schedule(db, minute.strftime("%H:%M"))
        assert datetime.fromisoformat(shown["next"]) == minute
        wait(lambda: runs(path), seconds=80)
        assert datetime.now().astimezone() >= minute
        assert runs(path) == 1 and schedule(db)["error"] is None


@pytest.mark.parametrize("stage", ["file.write:2", "publish.delete:3", "publish.commit:2"])
def test_a_process_that_is_killed_in_the_midst_loses_nothing(path, stage):
    """Killed by the fault, the run of one process is taken up by the next slot of another."""
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
        sql = """WITH c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000)
                 INSERT INTO t SELECT n, datetime('2020-01-01', '+' || (n / 500) || ' days'), hex(n)
                 FROM c"""
        connection.execute(sql)
        connection.execute("INSERT INTO t VALUES (9999, '2999-01-01', 'hot')")
        connection.execute(
            """SELECT archive_policy('t', 7, '{"grace_hours":0,"batch_size":100}')"""
        )
        expected = connection.execute("SELECT * FROM t ORDER BY id").fetchall()
    every_two = "SELECT archive_schedule('*/2 * * * * *')"
    with process(
        CHILD, path, FAULTS_LIBRARY.with_suffix(""), fault=f"{stage}:kill", stdin=subprocess.PIPE
    ) as doomed:
        assert ask(doomed, every_two)["scheduled"]
        assert doomed.wait(timeout=30) == -9

    def rows(table):
        with closing(connect(path)) as connection:
            return connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()

    with closing(connect(path)) as connection:
        found = "SELECT count(*) FROM temp.sqlite_schema WHERE name = 'all_t'"
        table = "all_t" if connection.execute(found).fetchone()[0] else "t"
    assert rows(table) == expected
    with child(path) as running:
        assert ask(running, every_two)["scheduled"]
        done = (
            "SELECT count(*) FROM archive_history WHERE operation = 'nightly' AND status = 'done'"
        )
        with closing(connect(path)) as connection:
            wait(lambda: connection.execute(done).fetchone()[0] > 0)
    assert rows("all_t") == expected and len(rows("cold_t")) == 3000
    with closing(connect(path)) as connection:
        (problems,) = connection.execute("SELECT archive_verify() ->> 'problems'").fetchone()
        history = connection.execute("SELECT DISTINCT status FROM archive_history").fetchall()
    assert problems == "[]" and ("interrupted",) in history
