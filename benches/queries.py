"""Queries over the demo's cold rows, against plain SQLite and DuckDB on the very same rows, in turn.

    .venv/bin/python benches/queries.py

Prints two Markdown tables with the ratios and their goals, and one with what each scan did. All files
are in the OS cache, everything else is as it comes: SQLite's page cache has 2 MB on both sides. A time
is one execute() and fetchall(), through Python, the best of several rounds. A query with parameters
runs with 16 of them in turn, so that it does not meet just the one row that it read before.
"""

import datetime
import gc
import pathlib
import random
import sqlite3
import sys
import tempfile
import time

import duckdb

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import task_queue

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "dist" / "cold"
ROUNDS = 9
# A side's turn takes at least this long, or its statements run once each, in seconds.
TURN = 0.02
PARAMETERS = 16

COUNTERS = (
    "plan, loops, files, files_opened, row_groups, row_groups_read, row_groups_skipped, pages_read,"
    " pages_skipped, bytes_read, rows_decoded, rows_returned, cache_hits, elapsed_ms"
)


class Side:
    """A connection, and the statements that it runs in turn."""

    def __init__(self, connection, sql, parameters=((),)):
        self.connection = connection
        self.statements = [(sql, values) for values in parameters]

    def example(self):
        """The last statement alone."""
        sql, parameters = self.statements[-1]
        return sql, [parameters]

    def results(self):
        return [self.connection.execute(*statement).fetchall() for statement in self.statements]

    def turn(self):
        """The average time of a statement, in seconds. Freeing the rows is not a part of it."""
        execute, spent, count = self.connection.execute, 0.0, 0
        while spent < TURN:
            for statement in self.statements:
                start = time.perf_counter()
                result = execute(*statement).fetchall()
                spent += time.perf_counter() - start
                del result
            count += len(self.statements)
        return spent / count


class DuckSide(Side):
    """The same with literals, with which DuckDB can leave out folders while it plans."""

    def __init__(self, connection, sql, parameters=((),)):
        super().__init__(connection, sql)
        self.statements = [(sql.format(*values),) for values in parameters]


def best_in_turn(ours, theirs):
    """The shortest time of each; neither is always the first."""
    times = {ours: [], theirs: []}
    for number in range(ROUNDS):
        for side in (ours, theirs) if number % 2 else (theirs, ours):
            times[side].append(side.turn())
    return min(times[ours]), min(times[theirs])


def rename(name):
    """The table's definition with another name, and without its index."""
    return task_queue.SCHEMA.split("CREATE INDEX")[0].replace("task_queue", name, 1)


def prepare(folder):
    """The archived database, and a plain one with the same rows: `cold`, `timed` (the same with an
    index on the time) and `whole` (all rows, as the table was before)."""
    archived, plain = folder / "forward.db", folder / "plain.db"
    task_queue.create(archived)
    connection = sqlite3.connect(plain, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("ATTACH ? AS archived", [str(archived)])
    for name in ("whole", "cold", "timed"):
        connection.executescript(rename(name))
    connection.execute("INSERT INTO whole SELECT * FROM archived.task_queue ORDER BY id")

    db = connect(archived)
    db.execute("SELECT archive_table('task_queue', 7)").fetchall()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()

    hot = "SELECT id FROM archived.task_queue"
    connection.execute(f"INSERT INTO cold SELECT * FROM whole WHERE id NOT IN ({hot}) ORDER BY id")
    connection.execute("INSERT INTO timed SELECT * FROM cold ORDER BY id")
    connection.execute("CREATE INDEX timed_created_at ON timed (created_at)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return archived, plain


def connect(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.enable_load_extension(True)
    connection.load_extension(str(LIBRARY))
    return connection


def samples(plain):
    """Keys of cold rows, and cold days with the days that follow, the same in each run."""
    rng = random.Random(1)
    ids = [id for (id,) in plain.execute("SELECT id FROM cold ORDER BY id")]
    days = sorted({time[:10] for (time,) in plain.execute("SELECT created_at FROM timed")})
    following = {
        day: str(datetime.date.fromisoformat(day) + datetime.timedelta(days=1)) for day in days
    }
    keys = [(id,) for id in rng.sample(ids[50:], PARAMETERS)]
    # Neither the first nor the last day: they are not whole.
    return keys, [(day, following[day]) for day in rng.sample(days[1:-1], PARAMETERS)]


def last_scan(side):
    """What the side's last statement made the cold table do, if this library counts it."""
    side.connection.execute(*side.statements[-1]).fetchall()
    try:
        sql = f"SELECT {COUNTERS} FROM archive_scan_stats LIMIT 1"
        return side.connection.execute(sql).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None


def against_sqlite(db, hot, plain, keys, days):
    """(name, goal, ours, theirs, how to compare the results) of each query."""
    both = [
        ("sum(length(payload))", 0.8, "SELECT sum(length(payload)) FROM {}"),
        ("status, count(*)", 0.7, "SELECT status, count(*) FROM {} GROUP BY status"),
        ("count(*)", 0.3, "SELECT count(*) FROM {}"),
        ("two columns where status = 'failed'", 0.5, "SELECT id, created_at FROM {} WHERE status = 'failed'"),
        ("SELECT * of everything", 1.0, "SELECT * FROM {}"),
    ]  # fmt: skip
    for name, goal, sql in both:
        ours, theirs = sql.format("cold_task_queue"), sql.format("cold")
        yield name, goal, Side(db, ours), Side(plain, theirs), sorted

    sql = "SELECT * FROM {} WHERE created_at >= ? AND created_at < ?"
    ours, theirs = sql.format("cold_task_queue"), sql.format("timed")
    yield "one day, plain with an index", 1.2, Side(db, ours, days), Side(
        plain, theirs, days
    ), sorted

    sql = "SELECT * FROM {} ORDER BY id DESC LIMIT 50"
    ours, theirs = sql.format("all_task_queue"), sql.format("task_queue")
    yield "all: last 50, plain hot rows alone", 2.0, Side(db, ours), Side(hot, theirs), list

    sql = "SELECT * FROM {} WHERE id < ? ORDER BY id DESC LIMIT 50"
    ours, theirs = sql.format("all_task_queue"), sql.format("whole")
    yield "all: 50 before a cold id", 10, Side(db, ours, keys), Side(plain, theirs, keys), list

    ours = Side(db, "SELECT * FROM cold_task_queue WHERE id = ?", keys)
    keyed = Side(plain, "SELECT * FROM cold WHERE id = ?", keys)
    check("one row by id", ours, keyed, list)
    # That message is one row's; payload has no index, so plain SQLite looks at each row.
    ((payload,),) = plain.execute("SELECT payload FROM cold WHERE id = ?", keys[0])
    scan = Side(plain, "SELECT * FROM cold WHERE payload = ?", [(payload,)])
    yield "one row by id, plain full scan", 0.01, ours, scan, None


def against_duckdb(db, duck, keys, days):
    """The same against DuckDB. Its times are datetime, so only some columns are compared."""

    def first(rows):
        return sorted(row[0] for row in rows)

    ours = Side(db, "SELECT * FROM cold_task_queue WHERE id = ?", keys)
    yield "one row by id", 1.0, ours, DuckSide(duck, "FROM cold WHERE id = {}", keys), first

    sql = "SELECT * FROM cold_task_queue WHERE created_at >= ? AND created_at < ?"
    folders = [(*day[0].split("-"), *day) for day in days]
    theirs = (
        "SELECT * EXCLUDE (year, month, day) FROM hive WHERE year = {0} AND month = {1}"
        " AND day = '{2}' AND created_at >= '{3}' AND created_at < '{4}'"
    )
    yield "one day", 1.0, Side(db, sql, days), DuckSide(duck, theirs, folders), first

    ours = Side(db, "SELECT * FROM cold_task_queue ORDER BY id DESC LIMIT 50")
    theirs = DuckSide(duck, "FROM cold ORDER BY id DESC LIMIT 50")
    yield "last 50 by id", 1.0, ours, theirs, first

    for columns, group in (
        ("sum(length(payload))", ""),
        ("status, count(*)", " GROUP BY status"),
        ("min(priority), max(priority), avg(priority)", ""),
        ("count(DISTINCT task_type)", ""),
        ("count(DISTINCT unique_key)", ""),
    ):
        ours = Side(db, f"SELECT {columns} FROM cold_task_queue{group}")
        theirs = DuckSide(duck, f"SELECT {columns} FROM cold{group}")
        yield columns, 3.0, ours, theirs, sorted


def check(name, ours, theirs, compared):
    """What returns other rows is no comparison."""
    for ours_rows, theirs_rows in zip(ours.results(), theirs.results(), strict=True):
        if compared(ours_rows) != compared(theirs_rows):
            raise SystemExit(f"{name}: the results differ")
        if not ours_rows:
            raise SystemExit(f"{name}: no rows")


def table(peer, queries, archived, scans):
    """Measures the queries and prints them as they are done."""
    print(f"| query | goal | cold ms | {peer} ms | ratio | met? |")
    print("|---|---|---|---|---|---|")
    missed = 0
    for name, goal, ours, theirs, compared in queries:
        if compared:
            check(name, ours, theirs, compared)
        a, b = best_in_turn(ours, theirs)
        met = a / b <= goal
        missed += not met
        digits = 2 if goal >= 0.1 else 4
        print(
            f"| {name} | {goal:g} | {a * 1e3:.3f} | {b * 1e3:.3f} | {a / b:.{digits}f}"
            f" | {'yes' if met else 'NO'} |",
            flush=True,
        )
        new = connect(archived)
        scans.append((name, peer, "new", last_scan(Side(new, *ours.example()))))
        new.close()
        scans.append((name, peer, "warm", last_scan(ours)))
    print()
    return missed


def main():
    with tempfile.TemporaryDirectory(dir=ROOT / "demo") as folder:
        folder = pathlib.Path(folder)
        archived, plain_path = prepare(folder)
        db, plain = connect(archived), sqlite3.connect(plain_path, isolation_level=None)
        hot = sqlite3.connect(archived, isolation_level=None)
        keys, days = samples(plain)
        duck = duckdb.connect()
        duck.execute("SET threads = 1")
        # Footers stay in memory, as they may on our side.
        duck.execute("SET parquet_metadata_cache = true")
        files = f"read_parquet('{folder}/archive/parquet/task_queue/**/*.parquet'"
        duck.execute(f"CREATE VIEW cold AS FROM {files}, hive_partitioning = false)")
        duck.execute(f"CREATE VIEW hive AS FROM {files}, hive_partitioning = true)")
        gc.disable()

        scans = []
        queries = against_sqlite(db, hot, plain, keys, days)
        missed = table("plain", queries, archived, scans)
        queries = against_duckdb(db, duck, keys, days)
        missed += table("DuckDB", queries, archived, scans)

        if any(counters for *_, counters in scans):
            print(f"| query | peer | connection | {COUNTERS.replace(', ', ' | ')} |")
            print("|---" * (COUNTERS.count(",") + 4) + "|")
            for scan, peer, connection, counters in scans:
                values = " | ".join(map(str, counters or ["(none)"]))
                print(f"| {scan} | {peer} | {connection} | {values} |")
        else:
            print("This library has no archive_scan_stats.")
        print(f"\n{missed or 'No'} goals missed.")


if __name__ == "__main__":
    (ROOT / "demo").mkdir(exist_ok=True)
    main()
