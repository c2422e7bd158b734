"""Ten years in 3,650 daily files: what the first query on a new connection costs, and what memory.

    .venv/bin/python benches/ten_years.py

A query over a long history must not open all of it. So the first query of a new connection is held
against a listing of the archive that does: pyarrow and DuckDB read each file's footer. Every
measurement has a process of its own; files are in the OS cache. Prints Markdown tables.
"""

import datetime
import json
import pathlib
import sqlite3
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "dist" / "cold"
DAYS = 3_650
PER_DAY = 200
HOT_DAYS = 7
ROUNDS = 5
GOAL = 1 / 5
POINTS = 2_000
# What a process may grow by beyond the cache: SQLite's own pages (2 MB), the catalog's entries, one
# file being decoded, and what malloc does not give back.
ALLOWANCE = 16_000_000
CACHES = {"default (64 MB)": (None, 64_000_000), "8 MB": (8_000_000, 8_000_000)}

# Loading the library is like importing a module, so it is not timed; its work on the new
# connection is.
FIRST = """
import json, sqlite3, sys, time
path, library, sql = sys.argv[1:]
def load(connection):
    connection.enable_load_extension(True)
    connection.load_extension(library)
    return connection
other = load(sqlite3.connect(":memory:", isolation_level=None))
start = time.perf_counter()
db = load(sqlite3.connect(path, isolation_level=None))
loaded = time.perf_counter()
rows = db.execute(sql).fetchall()
first = time.perf_counter()
db.execute(sql).fetchall()
print(json.dumps({"connect": loaded - start, "first": first - start,
                  "again": time.perf_counter() - first, "rows": len(rows)}))
"""

PYARROW = """
import json, os, sys, time
import pyarrow.parquet
start = time.perf_counter()
rows = files = 0
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        if name.endswith(".parquet"):
            rows += pyarrow.parquet.read_metadata(os.path.join(folder, name)).num_rows
            files += 1
print(json.dumps({"first": time.perf_counter() - start, "rows": rows, "files": files}))
"""

DUCKDB = """
import json, sys, time
import duckdb
db = duckdb.connect()
db.execute("SET threads = 1")
start = time.perf_counter()
sql = "SELECT sum(num_rows)::BIGINT, count(*) FROM parquet_file_metadata(?)"
rows, files = db.execute(sql, [sys.argv[1] + "/**/*.parquet"]).fetchone()
print(json.dumps({"first": time.perf_counter() - start, "rows": rows, "files": files}))
"""

# VmHWM is the peak of this program alone; ru_maxrss would also have that of the process it was
# forked from.
MEMORY = """
import json, random, sqlite3, sys
path, library, largest, points = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def resident(field):
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith(field + ":")]
    return int(line.split()[1]) * 1024
db = sqlite3.connect(path, isolation_level=None)
db.enable_load_extension(True)
db.load_extension(library)
db.execute("SELECT * FROM events ORDER BY id DESC LIMIT 50").fetchall()
before = resident("VmRSS")
rng = random.Random(1)
for _ in range(points):
    key = rng.randint(1, largest)
    rows = db.execute("SELECT * FROM cold_events WHERE id = ?", [key]).fetchall()
    assert len(rows) == 1 and rows[0][0] == key, key
after_points = resident("VmRSS")
count = 0
for row in db.execute("SELECT * FROM cold_events"):
    count += 1
assert count == largest, count
print(json.dumps({"before": before, "points": after_points - before,
                  "scan": resident("VmRSS") - before, "peak": resident("VmHWM") - before}))
"""


def run(program, *arguments):
    """Runs a program in a process of its own; returns what it prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def connect(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.enable_load_extension(True)
    connection.load_extension(str(LIBRARY))
    return connection


def generate(path):
    """Ten years and the hot days after them, archived; returns what archive_table says."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    days = DAYS + HOT_DAYS
    db = connect(path)
    db.executescript(f"""
        PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
        CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, value REAL, note TEXT,
                             created_at TEXT);
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {days * PER_DAY} - 1)
        INSERT INTO events (kind, value, note, created_at)
        SELECT printf('kind %d', abs(random() % 20)), abs(random() % 100000) / 100.0,
               'note ' || i || ' ' || hex(randomblob(20 + abs(random() % 80))),
               datetime('{today}', (i / {PER_DAY} - {days}) || ' days',
                        (i % {PER_DAY} * 86400 / {PER_DAY}) || ' seconds')
        FROM n;
        """)
    ((text,),) = db.execute(f"SELECT archive_table('events', {HOT_DAYS})")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    result = json.loads(text)
    # At midnight a day may become cold that was hot before.
    if result["files"] not in (DAYS, DAYS + 1):
        raise SystemExit(f"not a file for each day: {text}")
    return result


def first_queries(path, rows):
    """The first query of a new connection, against reading all footers."""
    archive = path.parent / "archive" / "parquet" / "events"
    middle = datetime.datetime.now(datetime.timezone.utc).date() - datetime.timedelta(DAYS // 2)
    after = middle + datetime.timedelta(1)
    queries = {
        "one row by id": (f"SELECT * FROM cold_events WHERE id = {rows // 3}", 1),
        "one day": (
            "SELECT * FROM cold_events"
            f" WHERE created_at >= '{middle}' AND created_at < '{after}'",
            PER_DAY,
        ),
        "last 50, hot and cold": ("SELECT * FROM all_events ORDER BY id DESC LIMIT 50", 50),
        "50 before a cold id": (
            f"SELECT * FROM all_events WHERE id < {rows // 2} ORDER BY id DESC LIMIT 50",
            50,
        ),
    }
    programs = {name: (FIRST, path, LIBRARY, sql) for name, (sql, _) in queries.items()}
    programs |= {"pyarrow": (PYARROW, archive), "DuckDB": (DUCKDB, archive)}
    measured = {name: [] for name in programs}
    # The first round only brings the files into the OS cache.
    for number in range(ROUNDS + 1):
        for name, program in programs.items():
            result = run(*program)
            expected = queries[name][1] if name in queries else rows
            if result["rows"] != expected:
                raise SystemExit(f"{name}: {result['rows']} rows instead of {expected}")
            if number:
                measured[name].append(result)

    def best(name, key="first"):
        return min(result[key] for result in measured[name])

    peers = {name: best(name) for name in ("pyarrow", "DuckDB")}
    print(f"Reading the footers of {measured['pyarrow'][0]['files']:,} files:")
    print(", ".join(f"{name} {time * 1e3:.1f} ms" for name, time in peers.items()))
    print()
    print(
        "| first on a new connection | goal | connect ms | with the query ms | again ms"
        " | to pyarrow | to DuckDB | met? |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in queries:
        ratios = [best(name) / time for time in peers.values()]
        print(
            f"| {name} | {GOAL:g} | {best(name, 'connect') * 1e3:.2f} | {best(name) * 1e3:.2f}"
            f" | {best(name, 'again') * 1e3:.3f} | {ratios[0]:.3f} | {ratios[1]:.3f}"
            f" | {'yes' if max(ratios) < GOAL else 'NO'} |"
        )


def memory(path, rows):
    """What a process grows by, over many point queries and a scan of everything."""
    print(
        f"\n| cache | limit MB (with {ALLOWANCE / 1e6:.0f} MB more) | {POINTS:,} points MB"
        " | and a full scan MB | peak MB | met? |"
    )
    print("|---|---|---|---|---|---|")
    for name, (setting, budget) in CACHES.items():
        db = connect(path)
        try:
            if setting is not None:
                db.execute("SELECT archive_config('cache_bytes', ?)", [setting]).fetchall()
        except sqlite3.OperationalError as error:
            if "unknown setting" not in str(error):
                raise
            print(f"| {name} | (this library has no cache_bytes) | | | | |")
            continue
        finally:
            db.close()
        grown = run(MEMORY, path, LIBRARY, rows, POINTS)
        limit = budget + ALLOWANCE
        print(
            f"| {name} | {limit / 1e6:.0f} | {grown['points'] / 1e6:.1f} | {grown['scan'] / 1e6:.1f}"
            f" | {grown['peak'] / 1e6:.1f} | {'yes' if grown['peak'] <= limit else 'NO'} |"
        )


def main():
    with tempfile.TemporaryDirectory(dir=ROOT / "demo") as folder:
        path = pathlib.Path(folder) / "events.db"
        result = generate(path)
        rows = result["rows"]
        print(
            f"{rows:,} rows in {result['files']:,} files, {result['parquet_bytes'] / 1e6:.1f} MB,"
            f" archived in {result['elapsed_ms'] / 1e3:.1f} s.\n"
        )
        first_queries(path, rows)
        memory(path, rows)


if __name__ == "__main__":
    (ROOT / "demo").mkdir(exist_ok=True)
    main()
