"""What the tests share: the library under test, databases, and the plain truth to compare with."""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = {"win32": "cold.dll", "darwin": "cold.dylib"}.get(sys.platform, "cold.so")
LIBRARY = ROOT / "dist" / FILE
FAULTS_LIBRARY = ROOT / "dist" / "faults" / FILE

# Nothing of the machine's own settings may leak into a test.
for variable in (
    "ARCHIVE_DIR",
    "ARCHIVE_FUNCTIONS",
    "ARCHIVE_BATCH_SIZE",
    "ARCHIVE_MAX_WORKERS",
    "ARCHIVE_NOTIFY_URL",
    "ARCHIVE_QUERY_CACHE_ENABLED",
    "ARCHIVE_QUERY_CACHE_TTL",
    "AUTO_ARCHIVE_ENABLED",
    "CLEANUP_CRON_TIMES",
    "DUCKDB_MEMORY_LIMIT",
    "SQLITE_COLD_FAULT",
):
    os.environ.pop(variable, None)


@functools.cache
def copy_of(library):
    """A copy of the library, which goes when the process ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return pathlib.Path(shutil.copy(library, folder.name))


def load(connection, library=LIBRARY):
    """Loads the extension into a connection of Python's sqlite3, or of apsw, which has a SQLite of its own:
    one file serves one SQLite library of a process."""
    if not isinstance(connection, sqlite3.Connection):
        library = copy_of(library)
    connection.enable_load_extension(True)
    connection.load_extension(str(library.with_suffix("")))
    return connection


def features():
    """What the library under test was built with."""
    connection = load(sqlite3.connect(":memory:"))
    (version,) = connection.execute("SELECT archive_version()").fetchone()
    return json.loads(version)["features"]


needs_duckdb = pytest.mark.skipif(
    not LIBRARY.exists() or "duckdb" not in features(), reason="the library has no DuckDB"
)


def connect(path, library=LIBRARY, **options):
    """A connection in autocommit mode with the extension."""
    return load(sqlite3.connect(path, isolation_level=None, **options), library)


def archive(connection, *arguments):
    """Calls archive_table and returns its JSON as a dictionary."""
    marks = ", ".join("?" * len(arguments))
    options = [json.dumps(a) if isinstance(a, dict) else a for a in arguments]
    (text,) = connection.execute(f"SELECT archive_table({marks})", options).fetchone()
    return json.loads(text)


def literal(text):
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def create_report(connection, sql, parameters=(), options=None):
    """Makes the virtual table temp.report of a query that DuckDB runs."""
    arguments = [sql, json.dumps(parameters), json.dumps(options or {})]
    made = f"USING archive_query({', '.join(map(literal, arguments))})"
    connection.execute("DROP TABLE IF EXISTS temp.report")
    connection.execute(f"CREATE VIRTUAL TABLE temp.report {made}")


def typed(connection, sql, parameters=(), options=None):
    """The rows of a query that DuckDB runs, with its typed columns."""
    create_report(connection, sql, parameters, options)
    return connection.execute("SELECT * FROM temp.report").fetchall()


def objects(connection, sql, parameters=(), options=None):
    """The rows of a query that DuckDB runs, as JSON has them."""
    arguments = [sql, json.dumps(parameters), json.dumps(options or {})]
    found = connection.execute("SELECT row FROM archive_query(?, ?, ?)", arguments)
    return [json.loads(row) for (row,) in found]


@contextlib.contextmanager
def process(program, *arguments, fault="", **options):
    """Starts a Python program; whatever happens, it does not outlive the test."""
    child = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "SQLITE_COLD_FAULT": fault},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def path(tmp_path):
    """Where a test's database is."""
    return tmp_path / "test.db"


@pytest.fixture
def public():
    """A folder that other users of the machine can reach: those of pytest are its own user's."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield pathlib.Path(folder)


@pytest.fixture
def db(path):
    """A connection to an empty database, with the extension."""
    connection = connect(path)
    yield connection
    connection.close()
