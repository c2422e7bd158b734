"""A process that may have no more threads: what can be done without is done, the rest says why not."""

import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import pytest
from conftest import LIBRARY

resource = pytest.importorskip("resource")
NOBODY = 65_534

# Loads the library, becomes a user whom no new thread is allowed, and runs SQL.
CHILD = """
import json, os, resource, sqlite3, sys, threading
folder, library, user = sys.argv[1], sys.argv[2], int(sys.argv[3])
db = sqlite3.connect(":memory:", isolation_level=None)
db.enable_load_extension(True)
db.load_extension(library)
if user:
    os.setgid(user)
    os.setuid(user)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
try:
    threading.Thread(target=int).start()
    sys.exit(77)
except RuntimeError:
    pass
db = sqlite3.connect(folder + "/test.db", isolation_level=None)
db.enable_load_extension(True)
db.load_extension(library)
for sql in json.loads(sys.argv[4]):
    try:
        print(json.dumps(db.execute(sql).fetchall()))
    except sqlite3.Error as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture
def without_threads():
    """Runs SQL in a process that cannot start a thread; the results, or the errors' texts."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sqlite-cold-"))
    shutil.copy(LIBRARY, folder)
    user = NOBODY if os.geteuid() == 0 else 0
    if user:
        os.chown(folder, user, user)

    def run(*statements, **environment):
        library = str((folder / LIBRARY.name).with_suffix(""))
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), library, str(user), json.dumps(statements)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode == 77:
            pytest.skip("the system does not limit this user's threads")
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    yield run
    shutil.rmtree(folder)


MAKE = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v TEXT)",
    """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
       INSERT INTO t SELECT i, date('2020-01-01', (i / 1000) || ' days'), 'row ' || i FROM n""",
]


def test_archiving_and_reading(without_threads):
    """This thread writes the files itself, and decodes all row groups."""
    made = [*MAKE, "SELECT archive_table('t', 7) ->> 'rows'"]
    counts = "SELECT (SELECT count(*) FROM t), count(*), count(v), count(DISTINCT id) FROM all_t"
    *_, rows, counted, verified = without_threads(
        *made, counts, "SELECT archive_verify() ->> 'problems'"
    )
    assert (rows, counted, verified) == ([[30000]], [[0, 30000, 30000, 30000]], [["[]"]])


def test_a_night(without_threads):
    """The run does its work; that nobody can be told is in its result, as a reason and no defect."""
    policy = "SELECT archive_policy('t', 7, '{\"grace_hours\":0}') ->> 'table'"
    night = "SELECT archive_run()"
    *_, ((text,),) = without_threads(
        *MAKE, policy, night, ARCHIVE_NOTIFY_URL="http://localhost:9/"
    )
    summary = json.loads(text)
    assert (summary["status"], summary["rows"]) == ("done", 30000)
    error = summary["notification"]["error"]
    assert "was not notified" in error and "internal" not in error


def test_a_schedule(without_threads):
    """It says that there can be no thread, and what else to do; there is none then."""
    refused, shown = without_threads(
        "SELECT archive_schedule('03:30')", "SELECT archive_schedule() ->> 'scheduled'"
    )
    assert refused.startswith("archive_schedule: no thread can be started for the schedule: ")
    assert "cron" in refused and shown == [[0]]
