"""Every host loads the same library and tells the same story: shell, Python, apsw, Node."""

import json
import os
import pathlib
import pty
import select
import shutil
import sqlite3
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import apsw
import pytest

from conftest import LIBRARY, archive, connect, load

HOSTS = pathlib.Path(__file__).resolve().parent / "hosts"
STORY = HOSTS / "story.json"
STEPS = json.loads(STORY.read_text(encoding="utf-8"))
ENTRY = str(LIBRARY.with_suffix(""))
SHELL = "sqlite3"
SYSTEM_PYTHON = "/usr/bin/python3"


def check_story(outcomes):
    """Holds what a host has seen against the story."""
    assert len(outcomes) == len(STEPS)
    for step, outcome in zip(STEPS, outcomes):
        if "error" in step:
            assert step["error"] in outcome.get("error", ""), (step, outcome)
        else:
            expected = {key: value for key, value in step.items() if key != "sql"}
            assert outcome == expected, step


def check_plain(path):
    """P5: without the extension the database is an ordinary one, with ordinary tables only."""
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM task").fetchone() == (3,)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    assert all(name.startswith(("task", "_archive_", "sqlite_")) for name in names)
    connection.close()


def run_host(*command, **options):
    """Runs a host that prints its outcomes as JSON, and nothing else anywhere."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_pythons_sqlite3(path):
    """The system's Python, in a process of its own."""
    if not pathlib.Path(SYSTEM_PYTHON).exists():
        pytest.skip(f"there is no {SYSTEM_PYTHON}")
    script = HOSTS / "story_python.py"
    check_story(run_host(SYSTEM_PYTHON, script, ENTRY, path, STORY))
    check_plain(path)


def apsw_connect(path, hardened=False):
    """The newest SQLite; `hardened` is how a careful application opens a stranger's database."""
    connection = apsw.Connection(str(path))
    if hardened:
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    load(connection)
    connection.enable_load_extension(False)
    return connection


def tell_in_apsw(path, hardened):
    connection = apsw_connect(path, hardened)
    for step in STEPS:
        if step.get("reopen"):
            connection.close()
            connection = apsw_connect(path, hardened)
            yield {"reopen": True}
            continue
        try:
            yield {"rows": [list(row) for row in connection.execute(step["sql"])]}
        except apsw.Error as error:
            yield {"error": str(error)}
    connection.close()


@pytest.mark.parametrize("hardened", [False, True], ids=["default", "hardened"])
def test_the_newest_sqlite(hardened, path):
    """apsw's SQLite, also with trusted_schema off and in defensive mode."""
    check_story(list(tell_in_apsw(path, hardened)))
    check_plain(path)


TWO_SQLITES = """
import sqlite3, sys
import apsw
path, library = sys.argv[1:]

def load(connection):
    connection.enable_load_extension(True)
    connection.load_extension(library)
    return connection

first = load(sqlite3.connect(path))
rows = first.execute("SELECT * FROM archive_status")
try:
    load(apsw.Connection(path))
except Exception as error:
    print(error)
print(rows.fetchall(), first.execute("SELECT count(*) FROM archive_history").fetchall())
first.close()
second = load(apsw.Connection(path))
print(second.execute("SELECT count(*) FROM archive_history").fetchall())
"""


def test_two_sqlites_of_a_process_do_not_share_a_file(path):
    """The functions that it calls are those of one SQLite: with connections of another it would crash."""
    result = subprocess.run(
        [sys.executable, "-c", TWO_SQLITES, path, ENTRY], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    refused, first, second = result.stdout.splitlines()
    assert "another SQLite of this process has loaded this file" in refused
    assert (first, second) == ("[] [(0,)]", "[(0,)]")


@pytest.fixture(scope="session")
def node_modules():
    """Node's driver, compiled on first use."""
    folder = HOSTS / "node"
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("there is no node or no npm")
    if not (folder / "node_modules/better-sqlite3/build/Release/better_sqlite3.node").exists():
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_node(node_modules, path):
    """better-sqlite3, a SQLite with trusted_schema off of its own in a Node process."""
    check_story(run_host("node", HOSTS / "node/story.js", ENTRY, path, STORY))
    check_plain(path)


def run_shell(path, script, *options):
    """Runs a script as `sqlite3 file.db < script.sql` does."""
    command = [SHELL, *options, path]
    return subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)


def shell_outcomes(done):
    """What the shell printed between the marks of the story; errors come on stderr, in order."""
    errors = iter(done.stderr.splitlines())
    for step, text in zip(STEPS, done.stdout.split("== step\n")[1:], strict=True):
        if step.get("reopen"):
            yield {"reopen": True}
        elif "error" in step:
            yield {"error": next(errors) + text}
        else:
            rows = json.loads(text) if text else []
            yield {"rows": [list(row.values()) for row in rows]}
    assert list(errors) == []


def test_the_shell(path):
    """The sqlite3 shell loads the library by `.load` and reads all from its standard input."""
    start = f".load {ENTRY}\n.mode json\n"
    lines = [start]
    for step in STEPS:
        again = f".open {path}\n{start}" if step.get("reopen") else f"{step['sql']};\n"
        lines.append(f".print == step\n{again}")
    check_story(list(shell_outcomes(run_shell(path, "".join(lines)))))
    check_plain(path)


MIGRATION = f"""
.bail on
.load {ENTRY}
BEGIN;
CREATE TABLE event (id INTEGER PRIMARY KEY, body TEXT, ts INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
INSERT INTO event SELECT i, 'event ' || i, 1700000000 + i * 600 FROM n;
SELECT archive_table('event', NULL, '{{"before":"2023-11-20"}}') ->> '$.rows' > 0;
COMMIT;
SELECT archive_verify('event') ->> '$.problems';
SELECT count(*), sum(id), count(DISTINCT body) FROM all_event;
"""


def test_a_migration_script(path):
    """A script of plain SQL migrates a database: data and archive in one transaction."""
    done = run_shell(path, MIGRATION)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1\n[]\n1000|500500|1000\n"


def test_a_failing_migration_script_changes_nothing(path):
    """An error ends the script with its text, and the transaction around it is rolled back."""
    failing = MIGRATION.replace("archive_table('event', NULL", "archive_table('event', 7")
    done = run_shell(path, failing)
    assert done.returncode == 1
    assert "archive_table: hot_days and the option before exclude each other" in done.stderr
    assert done.stdout == ""
    assert run_shell(path, "SELECT count(*) FROM sqlite_schema").stdout == "0\n"


def test_loading_twice(path):
    """Loading again in the same connection changes nothing, before and after an archive run."""
    connection = load(connect(path))
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT)")
    connection.execute("INSERT INTO t VALUES (1, '2024-01-01'), (2, '2025-01-01')")
    assert archive(connection, "t", None, {"before": "2024-06-01"})["rows"] == 1
    for _ in range(2):
        assert connection.execute("SELECT count(*) FROM all_t").fetchone() == (2,)
        load(connection)
    connection.close()


def test_loading_again_under_an_open_cursor(path):
    """P6: loading again under an open statement may fail, but not as a defect of the library."""
    connection = connect(path)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT)")
    rows = [(n, f"2024-01-{n:02}") for n in range(1, 31)]
    connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    archive(connection, "t", None, {"before": "2024-01-30"})
    cursor = connection.execute("SELECT id FROM cold_t ORDER BY id")
    assert cursor.fetchone() == (1,)
    try:
        load(connection)
    except sqlite3.OperationalError as error:
        assert "internal error" not in str(error)
    assert cursor.fetchall() == [(n,) for n in range(2, 30)]
    connection.close()


def test_two_connections_of_one_process(path):
    """A connection that was open before sees an archived table once it has attached it."""
    first, second = connect(path), connect(path)
    first.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT)")
    first.execute("INSERT INTO t VALUES (1, '2024-01-01'), (2, '2024-01-02'), (3, '2025-01-01')")
    archive(first, "t", None, {"before": "2024-01-02"})
    (attached,) = second.execute("SELECT archive_attach() ->> '$.tables'").fetchone()
    assert json.loads(attached) == ["t"]
    archive(second, "t", None, {"before": "2024-06-01"})
    for connection in (first, second):
        ids = connection.execute("SELECT group_concat(id) FROM (SELECT id FROM all_t ORDER BY id)")
        assert ids.fetchone() == ("1,2,3",)
        assert connection.execute("SELECT count(*) FROM cold_t").fetchone() == (2,)
    first.close()
    assert second.execute("SELECT count(*) FROM all_t").fetchone() == (3,)
    second.close()


def test_a_read_only_connection_reads_cold_rows(path):
    """A read-only connection sees all rows, and archiving through it fails with a reason."""
    writer = connect(path)
    writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT)")
    writer.execute("INSERT INTO t VALUES (1, '2024-01-01'), (2, '2025-01-01')")
    archive(writer, "t", None, {"before": "2024-06-01"})
    writer.close()
    before = path.read_bytes()
    reader = connect(f"{path.as_uri()}?mode=ro", uri=True)
    assert reader.execute("SELECT count(*) FROM all_t").fetchone() == (2,)
    assert reader.execute("SELECT archive_verify() ->> '$.rows'").fetchone() == (1,)
    with pytest.raises(sqlite3.OperationalError, match="archive_table: .*read-?only"):
        archive(reader, "t", None, {"before": "2025-06-01"})
    reader.close()
    assert path.read_bytes() == before


NOISY = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[2], isolation_level=None)
connection.enable_load_extension(True)
connection.load_extension(sys.argv[1])
connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at INTEGER)")
connection.execute('''WITH RECURSIVE
    n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
    INSERT INTO t SELECT i, 1700000000 + i * 60 FROM n''')
for sql in sys.argv[3:]:
    try:
        connection.execute(sql).fetchall()
        failed = False
    except sqlite3.Error:
        failed = True
    assert failed == sql.startswith("/* fails */"), sql
connection.close()
"""
ARCHIVE = """SELECT archive_table('t', NULL, '{"before":"2024-01-01"%s}')"""
WITH_PROGRESS = ARCHIVE % ', "progress":true'


def noisy(path, *statements):
    return [sys.executable, "-c", NOISY, ENTRY, str(path), *statements]


def test_the_library_is_silent(path):
    """P6: no output, whether a call works or fails, and with a progress bar but no terminal."""
    statements = [
        "/* fails */ SELECT archive_table('nowhere', 7)",
        WITH_PROGRESS,
        "SELECT count(*), max(id) FROM all_t",
        "SELECT archive_verify()",
        "UPDATE _archive_file SET path = 'nowhere.parquet' WHERE id = 1",
        "/* fails */ SELECT count(*), max(id) FROM all_t",
        "SELECT archive_verify()",
        "SELECT archive_gc()",
    ]
    done = subprocess.run(noisy(path, *statements), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def run_in_terminal(command):
    """Runs a command whose stderr is a terminal; returns what it wrote to stdout and to there."""
    terminal, stderr = pty.openpty()
    ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    os.close(stderr)
    written = b""
    try:
        while select.select([terminal], [], [], 60)[0]:
            written += os.read(terminal, 65536)
    except OSError:
        pass  # Linux says "I/O error" when the other side has closed.
    stdout, _ = child.communicate(timeout=60)
    os.close(terminal)
    assert child.returncode == 0, written
    return stdout, written


def test_a_progress_bar_on_a_terminal(path):
    """With progress and a terminal there is a bar that names the table and counts rows."""
    stdout, written = run_in_terminal(noisy(path, WITH_PROGRESS))
    assert stdout == b""
    assert b"archiving t" in written
    assert b"rows" in written


def test_no_progress_bar_unless_asked_for(path):
    """P6: a terminal alone is no reason to write to it."""
    assert run_in_terminal(noisy(path, ARCHIVE % "")) == (b"", b"")
