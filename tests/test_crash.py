"""P2, nothing lost: a run that is killed, or fails, at any point leaves every row readable once, and
the next run completes and cleans up."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from conftest import FAULTS_LIBRARY, LIBRARY, archive, connect

CUTOFF = "2023-11-20"
BATCH = {"before": CUTOFF, "batch_size": 100}
MODES = ["wal", "delete"]

# Archives the table `events` in a process of its own, which may be killed.
CHILD = """
import sqlite3, sys
path, library, options, before, after = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None)
connection.enable_load_extension(True)
connection.load_extension(library)
connection.executescript(before)
print("ready", flush=True)
try:
    sql = "SELECT archive_table('events', NULL, ?)"
    print(connection.execute(sql, [options]).fetchone()[0])
finally:
    if after:
        connection.execute(after)
"""

CREATE = """
PRAGMA journal_mode = {mode};
CREATE TABLE events (id INTEGER PRIMARY KEY, created_at TEXT NOT NULL, value);
WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < {rows})
INSERT INTO events
SELECT i,
       strftime('%Y-%m-%dT%H:%M:%SZ', 1700000000 + i * {seconds}, 'unixepoch'),
       CASE i % 5 WHEN 0 THEN i WHEN 1 THEN i / 7.0 WHEN 2 THEN randomblob(40)
                  WHEN 3 THEN hex(randomblob(40)) END
FROM series;
"""


# What the names of the points of an archive run begin with; other flows have tests of their own.
FLOW = ("run.", "plan.", "read.", "file.", "folder.", "publish.")


def fault_points():
    """The names of the fault points of an archive run that the test build knows."""
    with closing(connect(":memory:", FAULTS_LIBRARY)) as connection:
        (version,) = connection.execute("SELECT archive_version()").fetchone()
    return [point for point in json.loads(version)["fault_points"] if point.startswith(FLOW)]


def passes():
    """Each fault point at its first pass, and at a later one if a run has one."""
    once = ("run.begin", "plan.chunk", "run.end")
    often = (
        "file.write",
        "publish.begin",
        "publish.delete",
        "publish.catalog",
        "publish.commit",
    )
    first = [(point, 1) for point in fault_points()]
    return first + [(p, 9 if p in often else 3) for p, _ in first if p not in once]


def start(path, library=LIBRARY, fault="", options=None, before="", after=""):
    """Starts a process that archives the table."""
    arguments = [str(library.with_suffix("")), json.dumps(options or BATCH)]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), *arguments, before, after],
        env={**os.environ, "SQLITE_COLD_FAULT": fault},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_with_fault(path, fault, **options):
    """Archives in a process with a fault; returns how that ended and what it said."""
    child = start(path, FAULTS_LIBRARY, fault, **options)
    output, errors = child.communicate(timeout=60)
    return child.returncode, output, errors


def kill_at(path, fault, **options):
    """Archives in a process that must die of SIGKILL at a fault point."""
    status, output, errors = run_with_fault(path, f"{fault}:kill", **options)
    assert status == -signal.SIGKILL, f"not killed at {fault}: {output}{errors}"


def fail_at(path, fault, **options):
    """Archives in a process where the call must fail at a fault point, with a clear error."""
    status, output, errors = run_with_fault(path, f"{fault}:error", **options)
    assert status == 1, f"did not fail at {fault}: {output}{errors}"
    last = errors.strip().splitlines()[-1]
    assert last.startswith("sqlite3.OperationalError: archive_table: ")
    assert f"fault at {fault.split(':')[0]}" in last


def has_all_view(connection):
    """Whether the database has been archived, as far as this connection can see."""
    sql = "SELECT EXISTS (SELECT 1 FROM temp.sqlite_schema WHERE name = 'all_events')"
    return connection.execute(sql).fetchone() == (1,)


def contents(connection, table="all_events"):
    """All rows with the exact types of their values, sorted by id."""
    return sorted((row[0], repr(row)) for row in connection.execute(f"SELECT * FROM {table}"))


def assert_intact(path, expected):
    """Every row is readable exactly once with its values, and both sides are sound."""
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = contents(connection, "all_events" if has_all_view(connection) else "events")
        assert len(rows) == len(expected)
        assert rows == expected
        (verified,) = connection.execute("SELECT archive_verify()").fetchone()
        assert json.loads(verified)["problems"] == []


def on_disk(path):
    """The paths of the Parquet files that exist, relative to the archive folder."""
    folder = path.parent / "archive" / "parquet"
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*.parquet")}


def in_catalog(path):
    """The paths of the Parquet files that the catalog names."""
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT path FROM _archive_file")}


def finish(path, expected):
    """The next run completes, leaves nothing of the runs before it, and returns their statuses."""
    with closing(connect(path)) as connection:
        archive(connection, "events", None, BATCH)
        old = "SELECT count(*) FROM events WHERE created_at < ?"
        assert connection.execute(old, [CUTOFF]).fetchone() == (0,)
        states = connection.execute("SELECT DISTINCT state FROM archive_files('events')")
        assert states.fetchall() == [("published",)]
        history = connection.execute("SELECT status FROM archive_history").fetchall()
        assert history[0] == ("done",)
    assert on_disk(path) == in_catalog(path)
    assert_intact(path, expected)
    return [status for (status,) in history[1:]]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Makes a database in a journal mode, once, and says what is in it."""
    made = {}

    def make(mode, rows=3000, seconds=200):
        if (mode, rows) not in made:
            path = tmp_path_factory.mktemp("template") / "test.db"
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(CREATE.format(mode=mode, rows=rows, seconds=seconds))
                connection.commit()
                made[mode, rows] = path, contents(connection, "events")
        return made[mode, rows]

    return make


@pytest.fixture
def fresh(path, template):
    """Puts a fresh copy of a database at `path`; returns its rows."""

    def make(mode, rows=3000, seconds=200):
        source, expected = template(mode, rows, seconds)
        shutil.copy(source, path)
        return expected

    return make


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("point, nth", passes())
def test_killed_at_every_point(path, fresh, mode, point, nth):
    """kill -9 at a fault point loses and doubles no row, and the next run cleans up."""
    expected = fresh(mode)
    kill_at(path, f"{point}:{nth}")
    assert_intact(path, expected)
    assert finish(path, expected) == ["interrupted"]


def test_killed_between_chunks_of_the_plan(path, fresh):
    """kill -9 while a table that is planned in several transactions is looked through."""
    expected = fresh("wal", 20_500, 28)
    kill_at(path, "plan.chunk:2")
    assert_intact(path, expected)
    assert finish(path, expected) == ["interrupted"]


@pytest.mark.parametrize("point", [p for p in fault_points() if p.startswith("publish.")])
def test_killed_while_resuming(path, fresh, point):
    """A run that resumes a file of a dead run may die as well, again and again."""
    expected = fresh("wal")
    kill_at(path, "publish.commit:4")
    for nth in (1, 1, 2):
        kill_at(path, f"{point}:{nth}")
        assert_intact(path, expected)
    assert finish(path, expected) == ["interrupted"] * 4


@pytest.mark.parametrize("mode", MODES)
def test_killed_at_random_times(path, fresh, mode):
    """25 times kill -9 from outside, at times spread over a whole run."""
    chance = random.Random(f"kill {mode}")
    options = {"before": CUTOFF, "batch_size": 20}
    fresh(mode)
    child = start(path, options=options)
    child.stdout.readline()
    began = time.monotonic()
    child.communicate(timeout=60)
    length = time.monotonic() - began
    killed = moved = 0
    while killed < 25:
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        expected = fresh(mode)
        child = start(path, options=options)
        assert child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, length))
        child.kill()
        child.communicate(timeout=60)
        if child.returncode != -signal.SIGKILL:
            continue
        killed += 1
        assert_intact(path, expected)
        with closing(connect(path)) as connection:
            old = "SELECT count(*) FROM events WHERE created_at < ?"
            moved += connection.execute(old, [CUTOFF]).fetchone() != (2191,)
        assert set(finish(path, expected)) <= {"interrupted", "done"}
    assert moved > 0, "no run was killed after it had begun to publish"


@pytest.mark.parametrize("point, nth", passes())
def test_failure_at_every_point(path, fresh, point, nth):
    """A step that fails is a clear SQL error that leaves no file behind; the next run completes."""
    expected = fresh("wal")
    fail_at(path, f"{point}:{nth}")
    assert_intact(path, expected)
    assert on_disk(path) == in_catalog(path)
    # At these two the books on the run are not open yet, or no longer.
    outside = point in ("run.begin", "run.end")
    assert finish(path, expected) == ["interrupted" if outside else "failed"]


@pytest.mark.parametrize("point, nth", passes())
def test_failure_inside_a_transaction(path, fresh, point, nth):
    """Inside the caller's transaction a failed call archives nothing and leaves the rest of the
    transaction as it is; a later cleanup removes its files."""
    expected = fresh("wal")
    with closing(connect(path)) as connection:
        archive(connection, "events", None, {"before": "2023-11-15"})
    fail_at(path, f"{point}:{nth}", before="BEGIN; CREATE TABLE mine (x);", after="COMMIT")
    assert_intact(path, expected)
    with closing(connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2969,)
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (0,)
        assert connection.execute("SELECT status FROM archive_history").fetchall() == [("done",)]
        connection.execute("""SELECT archive_gc('{"retention_days":0}')""").fetchone()
    assert finish(path, expected) == ["done"]


@pytest.mark.parametrize("nth", [3, 9])
def test_history_of_a_failed_run_says_what_moved(path, fresh, nth):
    """The rows in the history of a run that failed are those that it moved."""
    fresh("wal")
    run_with_fault(path, f"publish.commit:{nth}:error")
    with closing(connect(path)) as connection:
        (cold,) = connection.execute("SELECT count(*) FROM cold_events").fetchone()
        (files,) = connection.execute("SELECT count(*) FROM _archive_file").fetchone()
        history = connection.execute("SELECT rows, files, status FROM archive_history")
        assert cold > 0
        assert history.fetchall() == [(cold, files, "failed")]


@pytest.mark.parametrize("archived_before", [False, True])
@pytest.mark.parametrize("end", ["kill", "rollback"])
def test_leftovers_of_the_callers_transaction(path, fresh, archived_before, end):
    """Files of a transaction that never committed are invisible, and go when the owner says so."""
    expected = fresh("wal")
    if archived_before:
        with closing(connect(path)) as connection:
            archive(connection, "events", None, {"before": "2023-11-17"})
    before = on_disk(path)
    if end == "kill":
        kill_at(path, "run.end:1", before="BEGIN;")
    else:
        child = start(path, before="BEGIN;", after="ROLLBACK")
        output, errors = child.communicate(timeout=60)
        assert child.returncode == 0, f"{output}{errors}"
    assert_intact(path, expected)
    assert on_disk(path) > before
    with closing(connect(path)) as connection:
        archive(connection, "events", None, BATCH)
        connection.execute("""SELECT archive_gc('{"retention_days":0}')""").fetchone()
        assert on_disk(path) > in_catalog(path)
        gc = """SELECT archive_gc('{"retention_days":0, "unknown_files":true}')"""
        connection.execute(gc).fetchone()
    assert on_disk(path) == in_catalog(path)
    assert_intact(path, expected)
