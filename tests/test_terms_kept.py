"""Terms that SQLite does not check again, or makes of others, lose no row and let none through."""

import contextlib
import random
import subprocess
import sys

import pytest

from conftest import archive
from test_differential import OLDER
from test_filters import connections

DECLARED = """(id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, a STRING COLLATE NOCASE, b INT,
    c TEXT COLLATE NOCASE, e, f REAL, g NUMERIC)"""
VALUES = ["1", "2", "'a'", "'A'", "'1'", "'1.0'", "'01'", "x'31'", "NULL", "1.5", "'1.5'", "'2024'", "2024"]
COLUMNS = ["id", "time", "a", "b", "c", "e", "f", "g"]
QUERIES = 1500


def opened(host, path):
    """A connection that is closed whatever happens: another SQLite may load the library next."""
    return contextlib.closing(connections()[host](path))


def values(db, sql):
    return db.execute(sql).fetchall()


def row(names):
    return "(" + ", ".join(f"z.{name}" for name in names) + ")"


def query(rng):
    """Terms of row values, which SQLite offers to a virtual table part by part."""
    count = rng.choice([1, 2, 2, 2, 3])
    left, right = ([rng.choice(COLUMNS) for _ in range(count)] for _ in range(2))
    source = f"(SELECT {', '.join(right)} FROM {rng.choice(['pairs', 'TABLE_'])} WHERE id > {rng.choice([0, 2])})"
    end = rng.choice(["", " AND z.id > 3", " AND z.a = '1'", " AND z.c IN ('a', '1')", " AND z.b = 1"])
    term = f"{row(left)} {rng.choice(['', '', '', 'NOT '])}IN {source}{end}"
    kind = rng.random()
    if kind < 0.2:
        return f"SELECT z.id, y.id FROM pairs AS y LEFT JOIN TABLE_ AS z ON {term}"
    if kind < 0.35:
        others = ", ".join(f"y.{name}" for name in right)
        return f"SELECT z.id, y.id FROM pairs AS y JOIN TABLE_ AS z ON ({others}) = {row(left)}{end}"
    return f"SELECT z.id FROM TABLE_ AS z WHERE {term}"


def check_row_values(db):
    """Asks a table that is partly cold, and a plain one."""
    rng = random.Random(3)
    for table in ("t", "twin"):
        db.execute(f"CREATE TABLE {table} {DECLARED}")
    for id in range(1, 41):
        cells = ", ".join(rng.choice(VALUES) for _ in range(6))
        for table in ("t", "twin"):
            db.execute(f"INSERT INTO {table} VALUES ({id}, '2024-01-0{1 + id % 5}', {cells})")
    db.execute("CREATE TABLE pairs (id INT, time TEXT, a, b, c TEXT, e COLLATE NOCASE, f, g)")
    db.execute("INSERT INTO pairs SELECT id % 5, time, g, f, e, c, b, a FROM twin")
    archive(db, "t", None, {"before": "2024-01-04"})
    twin_cold = "(SELECT * FROM twin WHERE time < '2024-01-04')"
    for _ in range(QUERIES):
        sql = query(rng)
        name, twin = rng.choice([("cold_t", twin_cold), ("all_t", "twin")])
        found, expected = (values(db, sql.replace("TABLE_", table)) for table in (name, twin))
        key = [sorted(map(repr, rows)) for rows in (found, expected)]
        assert key[0] == key[1], (name, sql)


@pytest.mark.parametrize("host", ["sqlite3", "apsw"])
def test_every_part_of_a_row_value_counts(path, host):
    """`(x, y) IN (SELECT ...)`: SQLite does not check it again where a table takes all of its parts."""
    with opened(host, path) as db:
        check_row_values(db)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import apsw, pathlib
import test_terms_kept
assert apsw.sqlitelibversion() < "3.51"
with test_terms_kept.opened("apsw", pathlib.Path(sys.argv[2])) as db:
    test_terms_kept.check_patterns(db)
"""


def check_patterns(db):
    """Blobs and infinities are turned into text for a pattern, and match."""
    for table in ("t", "twin"):
        db.execute(f"CREATE TABLE {table} {DECLARED}")
        for id, value in enumerate(["'ab'", "x'6162'", "x'41'", "9e999", "-9e999", "5", "'Info'", "'b'"], 1):
            row = f"{id}, '2024-01-01', {', '.join([value] * 6)}"
            db.execute(f"INSERT INTO {table} VALUES ({row})")
    archive(db, "t", None, {"before": "2024-02-01"})
    for column in COLUMNS:
        for pattern in ("GLOB 'a*'", "GLOB 'In*'", "GLOB '-I*'", "LIKE 'a%'", "LIKE 'inf%'", "LIKE '-in%'"):
            sql = f"SELECT id FROM {{}} WHERE {column} {pattern} ORDER BY id"
            found, expected = (values(db, sql.format(name)) for name in ("all_t", "twin"))
            assert found == expected, (column, pattern)


@pytest.mark.parametrize("host", ["sqlite3", "apsw"])
def test_patterns_match_what_is_no_text(path, host):
    with opened(host, path) as db:
        check_patterns(db)


def test_patterns_match_what_is_no_text_in_older_sqlite(path, monkeypatch):
    """SQLite before 3.51 asks for ranges of text in the place of a pattern."""
    monkeypatch.setenv("PYTHONPATH", str(OLDER))
    folder = str(OLDER.parent.parent / "tests")
    subprocess.run([sys.executable, "-c", PROGRAM, folder, str(path)], check=True)
