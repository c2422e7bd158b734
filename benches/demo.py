"""`make demo`: a 140 MB task queue, archived with 7 days hot; what it gained, and a check that every
row is still there. Exits non-zero if one is not."""

import json
import os
import pathlib
import shutil
import sqlite3
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import task_queue

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "demo"
DATABASE = FOLDER / "forward.db"
LIBRARY = ROOT / "dist" / "cold"

INSERT = (
    "INSERT INTO task_queue (task_type, status, priority, payload, created_at)"
    " VALUES ('process_message', 'pending', 5, '{\"text\": \"hello\"}', datetime('now'))"
)
NEWEST_PAGE = "SELECT * FROM task_queue ORDER BY id DESC LIMIT 50"


def connect(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.enable_load_extension(True)
    connection.load_extension(str(LIBRARY))
    return connection


def best(action, rounds=5):
    """The shortest of several times, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def insert_and_undo(db):
    """1,000 INSERTs in a transaction; the rows are taken back untimed."""
    start = time.perf_counter()
    db.execute("BEGIN")
    for _ in range(1000):
        db.execute(INSERT)
    elapsed = time.perf_counter() - start
    db.execute("ROLLBACK")
    return elapsed


def backup(db):
    target = FOLDER / "backup.db"
    target.unlink(missing_ok=True)
    with sqlite3.connect(target) as copy:
        db.backup(copy)
    copy.close()
    target.unlink()


def gains(db):
    """What the application feels: the same measurements before and after."""
    return {
        "copy by online backup": best(lambda: backup(db), 3),
        "1,000 INSERTs": min(insert_and_undo(db) for _ in range(5)),
        "newest page of 50 rows": best(lambda: db.execute(NEWEST_PAGE).fetchall(), 20),
    }


def contents(db, table):
    """Every row with its exact values and storage classes, in the order of the ids."""
    columns = [row[1] for row in db.execute("PRAGMA main.table_info(task_queue)")]
    classes = ", ".join(f"typeof({column})" for column in columns)
    return db.execute(f"SELECT *, {classes} FROM {table} ORDER BY id")


def same_rows(original, db):
    """Compares the two row by row, without holding either in memory."""
    before, after = contents(original, "task_queue"), contents(db, "all_task_queue")
    count = 0
    for row in before:
        if after.fetchone() != row:
            return None
        count += 1
    return count if after.fetchone() is None else None


def seconds(value):
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} µs"


def megabytes(size):
    return f"{size / 1e6:.1f} MB"


def main():
    FOLDER.mkdir(exist_ok=True)
    print(
        f"Creating {DATABASE.relative_to(ROOT)}: {task_queue.ROWS:,} tasks of {task_queue.DAYS} days ..."
    )
    if (FOLDER / "archive").exists():
        shutil.rmtree(FOLDER / "archive")
    task_queue.create(DATABASE)
    original = FOLDER / "original.db"
    original.unlink(missing_ok=True)
    db = connect(DATABASE)
    with sqlite3.connect(original) as copy:
        db.backup(copy)
    copy.close()
    size_before = DATABASE.stat().st_size
    before = gains(db)

    print("Archiving with 7 days hot ...")
    start = time.perf_counter()
    result = json.loads(db.execute("SELECT archive_table('task_queue', 7)").fetchone()[0])
    archive_time = time.perf_counter() - start
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size_archived = DATABASE.stat().st_size
    start = time.perf_counter()
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    vacuum_time = time.perf_counter() - start
    size_after = DATABASE.stat().st_size
    cold = result["parquet_bytes"]
    after = gains(db)

    (day,) = db.execute("SELECT date(created_at) FROM cold_task_queue WHERE id = 100000").fetchone()
    queries = {
        "last 50 rows, hot and cold": "SELECT * FROM all_task_queue ORDER BY id DESC LIMIT 50",
        "one cold row by id": "SELECT * FROM all_task_queue WHERE id = 100000",
        f"the day {day} by status": "SELECT status, count(*) FROM all_task_queue WHERE created_at >="
        f" '{day}' AND created_at < date('{day}', '+1 day') GROUP BY status",
        "all rows by month": "SELECT substr(created_at, 1, 7), count(*) FROM all_task_queue GROUP BY 1",
    }
    total = size_after + cold
    print()
    print(f"  {'rows moved to Parquet':<34}{result['rows']:>12,}   in {result['files']} files")
    print(f"  {'archive time':<34}{seconds(archive_time):>12}")
    print(f"  {'database before':<34}{megabytes(size_before):>12}")
    print(f"  {'database after archiving':<34}{megabytes(size_archived):>12}")
    print(f"  {'database after VACUUM':<34}{megabytes(size_after):>12}   in {seconds(vacuum_time)}")
    print(f"  {'Parquet':<34}{megabytes(cold):>12}")
    print(
        f"  {'database and Parquet':<34}{megabytes(total):>12}   {total / size_before:.1%} of before"
    )
    print()
    for name, sql in queries.items():
        elapsed = best(lambda: db.execute(sql).fetchall())
        print(f"  {name:<34}{seconds(elapsed):>12}")
    print()
    print(f"  {'':<34}{'before':>12}{'after':>12}")
    for name in before:
        print(f"  {name:<34}{seconds(before[name]):>12}{seconds(after[name]):>12}")
    print()

    count = same_rows(sqlite3.connect(original), db)
    verified = json.loads(db.execute("SELECT archive_verify('task_queue')").fetchone()[0])
    if count is None or verified["problems"]:
        print("CHECK FAILED: a row is missing or has changed", *verified["problems"], sep="\n  ")
        return 1
    os.remove(original)
    print(f"Checked: all {count:,} rows are there, once and with the same values.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
