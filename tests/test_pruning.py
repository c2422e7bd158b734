"""Pruning happens: what a query cannot need is not read, and what it needs must be there."""

import pathlib
import random
import sqlite3

import pyarrow.parquet
import pytest

from conftest import archive

ROOT = pathlib.Path("archive/parquet")


def days(db):
    """A table with a cold file for each of ten days, whose values grow with the days."""
    db.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, real REAL, word TEXT,"
        " blob BLOB, any, sometimes TEXT)"
    )
    for day in range(10):
        for n in range(5):
            word = "abcdefghij"[day]
            row = (f"2020-01-{day + 1:02}", day + n / 10, word, word.encode(), day * 5 + n)
            sometimes = "x" if day == 6 else None
            db.execute(
                "INSERT INTO t (ts, real, word, blob, any, sometimes) VALUES (?, ?, ?, ?, ?, ?)",
                (*row, sometimes),
            )
    archive(db, "t", 7)


def file_of(db, path, day):
    """The cold file of a day."""
    condition = f"path LIKE '%day={day:02}/%'"
    ((name,),) = db.execute(f"SELECT path FROM archive_files('t') WHERE {condition}").fetchall()
    return path.parent / ROOT / name


NEEDLESS = [
    ("ts = '2020-01-01'", 5),
    ("ts >= '2020-01-08'", 15),
    ("ts < '2020-01-07' AND ts > '2020-01-02 12:00'", 20),
    ("ts BETWEEN '2020-01-02' AND '2020-01-03 23:59:59'", 10),
    ("ts GLOB '2020-01-02*'", 5),
    ("id = 3", 1),
    ("id = '3'", 1),
    ("id > 40", 10),
    ("rowid <= 5", 5),
    ("id IN (1, 2, 50)", 3),
    ("real < 2", 10),
    ("real >= '8'", 10),
    ("word = 'a'", 5),
    ("word > 'h'", 10),
    ("blob = x'61'", 5),
    ("any < 5", 5),
    ("sometimes IS NULL AND id < 10", 9),
    ("id = NULL", 0),
]
NEEDED = [
    "1",
    "ts = '2020-01-07'",
    "id = 31",
    "rowid = 31",
    "word = 'g'",
    "sometimes IS NOT NULL",
    "id > 5",
]


@pytest.mark.parametrize(("condition", "rows"), NEEDLESS)
def test_a_file_that_cannot_matter_is_not_read(db, path, condition, rows):
    """With a day's file gone, a query that cannot need that day still answers."""
    days(db)
    file_of(db, path, 7).unlink()
    sql = f"SELECT count(*) FROM cold_t WHERE {condition}"
    assert db.execute(sql).fetchone() == (rows,)


@pytest.mark.parametrize("condition", NEEDED)
def test_a_file_that_is_needed_and_gone_is_an_error(db, path, condition):
    """A missing file is an error that names it, never an empty result."""
    days(db)
    gone = file_of(db, path, 7)
    gone.unlink()
    with pytest.raises(sqlite3.DatabaseError) as error:
        db.execute(f"SELECT count(*) FROM cold_t WHERE {condition}").fetchall()
    assert str(gone) in str(error.value) and "missing" in str(error.value)


def test_a_join_reads_only_the_files_of_its_keys(db, path):
    """The inner side of a join is pruned by the outer row's value."""
    days(db)
    file_of(db, path, 7).unlink()
    db.execute("CREATE TABLE k (k)")
    db.execute("INSERT INTO k VALUES (2), (48)")
    found = db.execute("SELECT k, a.id FROM k CROSS JOIN cold_t a ON a.id = k").fetchall()
    assert found == [(2, 2), (48, 48)]


def scramble(path, group, column):
    """Destroys the middle of a column of a row group of a Parquet file."""
    chunk = pyarrow.parquet.read_metadata(path).row_group(group).column(column)
    start = chunk.data_page_offset + chunk.total_compressed_size // 2
    content = bytearray(path.read_bytes())
    content[start : start + 100] = random.Random(1).randbytes(100)
    path.write_bytes(content)


def test_only_the_needed_pages_are_read(db, path):
    """Within a file, what a query does not need is not read: neither a row group, nor a column, nor
    a page."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, v TEXT)")
    rng = random.Random(2)
    db.execute("BEGIN")
    values = [f"{rng.getrandbits(64):x}" for _ in range(80_000)]
    rows = (
        (f"2020-01-01 {n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}", value)
        for n, value in enumerate(values)
    )
    db.executemany("INSERT INTO t (ts, v) VALUES (?, ?)", rows)
    db.execute("COMMIT")
    assert archive(db, "t", 7)["files"] == 1
    file = file_of(db, path, 1)
    assert pyarrow.parquet.read_metadata(file).num_row_groups > 1
    scramble(file, 0, 2)
    assert db.execute("SELECT count(*), max(id) FROM cold_t").fetchone() == (80_000, 80_000)
    for id in (79_999, 5):
        assert db.execute("SELECT v FROM cold_t WHERE id = ?", [id]).fetchall() == [
            (values[id - 1],)
        ]
    with pytest.raises(sqlite3.DatabaseError, match="is damaged"):
        db.execute("SELECT sum(length(v)) FROM cold_t").fetchall()
