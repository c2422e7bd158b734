"""`archive_query` against DuckDB's Python package on the same files, and against plain SQLite.

    .venv/bin/python benches/analytics.py            the demo's table, archived whole
    .venv/bin/python benches/analytics.py --large    10 million rows
    .venv/bin/python benches/analytics.py --memory   20 million rows and little memory
    .venv/bin/python benches/analytics.py --start    the first query of a process, and loading the library

Prints Markdown tables with the ratios and their goals. DuckDB has as many threads as `archive_query`.
Everything is in the OS cache. A time is one execute() and fetchall(), through Python, the best of several
rounds, in turn.
"""

import math
import pathlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

import duckdb

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import queries
import task_queue
from queries import Side, best_in_turn, connect

ROOT = pathlib.Path(__file__).resolve().parent.parent
THREADS = 2
TABLE = "task_queue"

# Name, the query for DuckDB (and, if plain SQLite needs other words, for it), the goal against plain
# SQLite, if there is one.
DEMO = [
    (
        "rows by day and status",
        "SELECT CAST(date_trunc('day', created_at) AS DATE)::VARCHAR, status, count(*) FROM {} GROUP BY ALL",
        "SELECT substr(created_at, 1, 10), status, count(*) FROM {} GROUP BY 1, 2",
        5,
    ),
    ("count(DISTINCT unique_key)", "SELECT count(DISTINCT unique_key) FROM {}", None, 5),
    (
        "10 most frequent texts",
        "SELECT unique_key, count(*) FROM {} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
        None,
        5,
    ),
    (
        "group by a value in JSON",
        "SELECT payload->>'$.media.type', count(*) FROM {} GROUP BY 1",
        None,
        5,
    ),
    (
        "aggregates over most columns",
        "SELECT task_type, status, count(*), sum(priority), max(retry_count), count(unique_key),"
        " count(error_message), sum(length(payload)) FROM {} GROUP BY 1, 2",
        None,
        5,
    ),
]

LARGE = [
    (
        "rows and sums by device",
        "SELECT device, count(*), sum(reading), avg(value), max(value) FROM {} GROUP BY 1",
        None,
        10,
    ),
    (
        "count(DISTINCT reading)",
        "SELECT count(DISTINCT reading) FROM {}",
        None,
        10,
    ),
    (
        "by month and level",
        "SELECT strftime(ts, '%Y-%m'), level, count(*), sum(value) FROM {} GROUP BY 1, 2",
        "SELECT substr(ts, 1, 7), level, count(*), sum(value) FROM {} GROUP BY 1, 2",
        10,
    ),
]

LARGE_SCHEMA = """CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL, device INTEGER,
    level TEXT, reading INTEGER, value REAL)"""
LARGE_ROWS = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
    INSERT INTO events SELECT i, datetime(1700000000 + i * 3, 'unixepoch'), (i * 7919) % 1000,
        CASE i % 50 WHEN 0 THEN 'error' WHEN 1 THEN 'warning' ELSE 'info' END,
        (i * 48271) % 2147483647, ((i * 69621) % 1000003) / 7.0 FROM n"""


class Ours(Side):
    """A query as a table of the connection, so that values and not JSON are compared."""

    def __init__(self, connection, sql):
        name = f"r{len(connection.execute('SELECT 1 FROM temp.sqlite_schema').fetchall())}"
        quoted = sql.replace("'", "''")
        connection.execute(f"CREATE VIRTUAL TABLE temp.{name} USING archive_query('{quoted}')")
        super().__init__(connection, f"SELECT * FROM temp.{name}")


def compare_rows(name, ours, theirs):
    """What returns other rows is no comparison. Floating point sums differ in their last digits with the
    order of the rows."""

    def exact(row):
        return tuple(str(value) for value in row if not isinstance(value, float))

    pairs = [sorted(side.results()[0], key=exact) for side in (ours, theirs)]
    if len(pairs[0]) != len(pairs[1]) or not pairs[0]:
        raise SystemExit(f"{name}: {len(pairs[0])} rows, and {len(pairs[1])}")
    for a, b in zip(*pairs):
        reals = [[value for value in row if isinstance(value, float)] for row in (a, b)]
        if exact(a) != exact(b) or not all(map(math.isclose, *reals)):
            raise SystemExit(f"{name}: {a} and {b}")


def archive_all(path, table, where="'9999-01-01'"):
    db = connect(path)
    db.execute(f"SELECT archive_table('{table}', NULL, json_object('before', {where}))").fetchall()
    db.close()
    return sorted(str(file) for file in path.parent.rglob("*.parquet"))


def compare(db, duck, plain, table, listed):
    """Measures, and prints as it goes."""
    print(
        "| query | archive_query ms | DuckDB ms | ratio (goal 1.2) | plain SQLite ms | times faster (goal) |"
    )
    print("|---|---|---|---|---|---|")
    for name, sql, other, goal in listed:
        ours = Ours(db, sql.format(table))
        theirs = Side(duck, sql.format("cold"))
        whole = Side(plain, (other or sql).format(table))
        compare_rows(name, ours, theirs)
        compare_rows(name, ours, whole)
        a, b = best_in_turn(ours, theirs)
        c, d = best_in_turn(ours, whole)
        print(
            f"| {name} | {a * 1e3:.1f} | {b * 1e3:.1f} | {a / b:.2f}{'' if a / b <= 1.2 else ' NO'}"
            f" | {d * 1e3:.1f} | {d / c:.1f} ({goal}){'' if d / c >= goal else ' NO'} |",
            flush=True,
        )
    print()


def open_duckdb(files):
    duck = duckdb.connect()
    duck.execute(f"SET threads = {THREADS}")
    duck.execute(f"CREATE VIEW cold AS FROM read_parquet({files}, hive_partitioning = false)")
    return duck


def demo(folder):
    plain, archived = folder / "plain.db", folder / "a" / "forward.db"
    archived.parent.mkdir()
    task_queue.create(plain)
    source = sqlite3.connect(plain)
    source.execute("VACUUM INTO ?", [str(archived)])
    files = archive_all(archived, TABLE)
    print(f"{task_queue.ROWS:,} rows, {len(files)} files\n")
    compare(connect(archived), open_duckdb(files), source, TABLE, DEMO)


def large(folder):
    plain, archived = folder / "plain.db", folder / "a" / "events.db"
    archived.parent.mkdir()
    rows = 10_000_000
    source = generate(plain, rows)
    source.execute("VACUUM INTO ?", [str(archived)])
    files = archive_all(archived, "events")
    print(f"{rows:,} rows, {len(files)} files\n")
    queries.ROUNDS = 3
    compare(connect(archived), open_duckdb(files), source, "events", LARGE)


def generate(path, rows):
    source = sqlite3.connect(path, isolation_level=None)
    source.execute("PRAGMA journal_mode = OFF")
    source.execute("PRAGMA synchronous = OFF")
    source.execute(LARGE_SCHEMA)
    source.execute(LARGE_ROWS, [rows])
    return source


MEMORY = """
import resource, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1])
db.enable_load_extension(True)
db.load_extension(sys.argv[2])
start = time.perf_counter()
rows = db.execute("SELECT count(row) FROM archive_query(?)", [sys.argv[3]]).fetchone()[0]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(rows, round(time.perf_counter() - start, 1), peak // 1024)
"""


def memory(folder):
    """20 million rows, of which some are hot, and a quarter of a gigabyte for DuckDB."""
    path = folder / "m" / "events.db"
    path.parent.mkdir()
    rows = 20_000_000
    generate(path, rows).close()
    archive_all(path, "events", "'2025-06-01'")
    print(f"{rows:,} rows with DUCKDB_MEMORY_LIMIT=256MB:\n")
    print("| groups | seconds | peak of the process MB (goal 600) |")
    print("|---|---|---|")
    for key in ("device", "reading // 10000", "reading // 1000", "reading // 100"):
        sql = f"SELECT {key} AS k, count(*), sum(value), max(ts) FROM events GROUP BY 1"
        environment = {"DUCKDB_MEMORY_LIMIT": "256MB"}
        command = [sys.executable, "-c", MEMORY, str(path), str(queries.LIBRARY), sql]
        run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        groups, seconds, peak = run.stdout.split()
        print(
            f"| {int(groups):,} | {seconds} | {peak}{'' if int(peak) < 600 else ' NO'} |",
            flush=True,
        )
    print()


START = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1])
db.enable_load_extension(True)
start = time.perf_counter()
db.load_extension(sys.argv[2])
loaded = time.perf_counter() - start
times = []
for _ in range(5):
    start = time.perf_counter()
    db.execute("SELECT row FROM archive_query(?)", [sys.argv[3]]).fetchall()
    times.append(time.perf_counter() - start)
print(loaded * 1e3, times[0] * 1e3, min(times) * 1e3)
"""


def start(folder):
    """Each figure is the median of nine processes."""
    path = folder / "s" / "forward.db"
    path.parent.mkdir()
    task_queue.create(path)
    archive_all(path, TABLE)
    sql = f"SELECT status, count(*) FROM {TABLE} GROUP BY 1"
    command = [sys.executable, "-c", START, str(path), str(queries.LIBRARY), sql]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(9)]
    figures = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    loaded, first, best = map(statistics.median, figures)
    print(
        f"Loading the library: {loaded:.1f} ms (goal 10). The first query of a process: {first:.1f} ms,"
        f" {first - best:.1f} ms more than later (goal 150).\n"
    )


def main():
    parts = {"--large": (large,), "--memory": (memory,), "--start": (start,)}
    with tempfile.TemporaryDirectory(dir=ROOT / "demo") as folder:
        for part in parts[sys.argv[1]] if len(sys.argv) > 1 else (demo,):
            began = time.perf_counter()
            part(pathlib.Path(folder))
            print(f"({time.perf_counter() - began:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
