"""TPC-H: its data and queries, and a SQLite database of them that is archived for the most part.

The 22 texts are those of the specification with the parameters of its validation, in DuckDB's SQL.
"""

import csv
import datetime
import decimal
import pathlib
import re
import shutil
import subprocess
import sysconfig

import duckdb

from conftest import archive, connect

FOLDER = pathlib.Path(__file__).parent
QUERIES = [file.stem for file in sorted(FOLDER.glob("q*.sql"))]
SCALE_FACTOR = "0.1"
# What is older than this is cold.
CUTOFF = "1998-01-01"
TIME_COLUMNS = {"lineitem": "l_shipdate", "orders": "o_orderdate"}


def text(name):
    """A query as the specification has it."""
    return (FOLDER / f"{name}.sql").read_text()


def text_for_both(name):
    """A query in words that SQLite and DuckDB have in common, over all_lineitem and all_orders.

    A query that SQLite would not finish is put in another way.
    """
    other = FOLDER / "sqlite" / f"{name}.sql"
    return in_common(other.read_text() if other.exists() else text(name))


def in_common(sql):
    """Translates what SQLite does not know: dates are text, and sums of constants are done."""
    sql = re.sub(r"DATE '(\S+)' ([+-]) INTERVAL '(\d+)' (DAY|MONTH|YEAR)", moved_date, sql)
    sql = re.sub(r"DATE ('\S+')", r"\1", sql)
    sql = re.sub(r"extract\(year FROM (\w+)\)", r"CAST(strftime('%Y', \1) AS INTEGER)", sql)
    sql = re.sub(r"substring\((\w+) FROM (\d) FOR (\d)\)", r"substr(\1, \2, \3)", sql)
    sql = re.sub(r"(\d+\.\d+) ([+-]) (\d+\.\d+)", sum_of_constants, sql)
    return re.sub(r"\b(lineitem|orders)\b", r"all_\1", sql)


def moved_date(match):
    """The literal of a date plus or minus an interval."""
    date = datetime.date.fromisoformat(match[1])
    count = int(match[2] + match[3])
    if match[4] == "DAY":
        return f"'{date + datetime.timedelta(days=count)}'"
    months = 12 * date.year + date.month - 1 + (count if match[4] == "MONTH" else 12 * count)
    return f"'{date.replace(year=months // 12, month=months % 12 + 1)}'"


def sum_of_constants(match):
    """0.06 - 0.01 as it is in decimal numbers; in SQLite's it is less than 0.05."""
    return str(decimal.Decimal(match[1]) + decimal.Decimal(match[2] + match[3]))


def generate(folder):
    """Makes the tables as Parquet files in a new folder; a second or two."""
    program = shutil.which("tpchgen-cli", path=sysconfig.get_path("scripts"))
    arguments = ["parquet", "--scale-factor", SCALE_FACTOR, "--output-dir", folder, "--quiet"]
    subprocess.run([program, *arguments], check=True)


def truth(folder):
    """A connection of DuckDB's Python package to the generated files, and nothing of ours."""
    duck = duckdb.connect()
    for file in folder.glob("*.parquet"):
        duck.execute(f"CREATE VIEW {file.stem} AS FROM '{file}'")
    return duck


def fill(db, folder, schema):
    """Makes the tables of a SQLite database and fills them, the large ones in the order of time."""
    duck = truth(folder)
    db.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -200000"
    )
    db.executescript(schema)
    db.execute("BEGIN")
    for table in sorted(file.stem for file in folder.glob("*.parquet")):
        order = TIME_COLUMNS.get(table, "ALL")
        file = folder / f"{table}.csv"
        duck.execute(f"COPY (FROM {table} ORDER BY {order}) TO '{file}' (HEADER false)")
        with open(file, newline="", encoding="utf-8") as lines:
            rows = csv.reader(lines)
            first = next(rows)
            insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(first))})"
            db.execute(insert, first)
            db.executemany(insert, rows)
        file.unlink()
    db.execute("COMMIT")
    duck.close()


def archived(path, folder, schema, runs):
    """A connection to a new database, after runs of archive_table: (table, before, partition)."""
    db = connect(path)
    fill(db, folder, schema)
    for table, before, partition in runs:
        options = {"time_column": TIME_COLUMNS[table], "partition": partition}
        archive(db, table, None, {"before": before, **options})
    return db
