"""The script one would write today: old rows of a table into daily Parquet files, then DELETE.

    python benches/export_script.py DATABASE FOLDER DAYS

It is the peer that archive.py measures against. It does what a careful author would do: a day at a
time, ZSTD level 9, each file read back and counted before the rows are deleted, all of it in one
transaction. It types nothing and compares no values.
"""

import datetime
import pathlib
import sqlite3
import sys

import pyarrow
import pyarrow.parquet


def export(database, folder, days):
    connection = sqlite3.connect(database, isolation_level=None)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    cutoff = (today - datetime.timedelta(days=days)).isoformat()
    connection.execute("BEGIN IMMEDIATE")
    moved = 0
    # One pass over the table: it has no index on its time, and a query a day would scan it each time.
    cursor = connection.execute(
        "SELECT * FROM task_queue WHERE created_at < ? ORDER BY created_at, id", [cutoff]
    )
    names = [column[0] for column in cursor.description]
    position = names.index("created_at")
    day, rows = None, []
    for row in cursor:
        if row[position][:10] != day and rows:
            moved += write(folder, day, names, rows)
            rows = []
        day = row[position][:10]
        rows.append(row)
    if rows:
        moved += write(folder, day, names, rows)
    connection.execute("DELETE FROM task_queue WHERE created_at < ?", [cutoff])
    connection.execute("COMMIT")
    connection.close()
    return moved


def write(folder, day, names, rows):
    year, month, number = day.split("-")
    target = pathlib.Path(folder) / f"year={year}" / f"month={month}" / f"day={number}"
    target.mkdir(parents=True, exist_ok=True)
    columns = dict(zip(names, map(list, zip(*rows))))
    path = target / "data.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table(columns), path, compression="zstd", compression_level=9
    )
    count = pyarrow.parquet.read_table(path, partitioning=None).num_rows
    if count != len(rows):
        raise SystemExit(f"{path}: {count} rows instead of {len(rows)}")
    return count


if __name__ == "__main__":
    print(export(sys.argv[1], sys.argv[2], int(sys.argv[3])))
