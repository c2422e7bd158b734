"""ADD COLUMN with any DEFAULT: rows that are cold show what SQLite shows in rows that are hot."""

import contextlib
import itertools
import sqlite3

import apsw
import pytest

from conftest import archive
from test_filters import connections

TYPES = ["", "INT", "INTEGER", "REAL", "FLOATING POINT", "TEXT", "VARCHAR(10)", "BLOB", "NUMERIC"]
TYPES += ["DECIMAL(10,2)", "DATETIME", "DOUBLE", '"odd ""type"', "ANY", "CLOB", "BOOLEAN"]
NUMBERS = ["0", "5", "-5", "+5", "- 5", "4.0e0", "0.00", "-0.0", "1e400", "-1e400", ".5", "5.", "1e2"]
NUMBERS += ["0x10", "-0x10", "0xFFFFFFFFFFFFFFFF", "9223372036854775807", "9223372036854775808"]
NUMBERS += ["-9223372036854775808", "-9223372036854775809", "9007199254740993", "1e15"]
TEXTS = ["'5'", "+'5'", "-'5'", "''", "'it''s'", "' 5 '", "'5.0'", "'0x10'", "'1e2'", "'abc'", "-'a'"]
TEXTS += ["'9223372036854775808'", "'é'", "'a' /* ' */", '"double"', '"with ""quote"""']
TEXTS += ["[abc]", "`tick`", "word", "[5]", '"5"', "TRUE", "false", "'true'", '"true"', "NULL"]
BLOBS = ["x''", "x'31'", "X'00fF'", "-x'31'", "+x'31'", "x'f09f9880'"]
INNER = ["(5)", "(-x'31')", "(- - 5)", "((5))", "(CAST('5' AS REAL))", "(CAST(x'35' AS TEXT))", "(+ +'5')"]
INNER += ["(CAST(7.9 AS INTEGER))", "(TRUE)", "(NULL)", "(-CAST('5' AS INT))", "(5 /* ) */)"]
# ADD COLUMN refuses these, where there are rows.
EXPRESSIONS = ["(random())", "(1 + 1)", "('a' || 'b')", "CURRENT_TIMESTAMP", "('a' COLLATE NOCASE)"]
EXPRESSIONS += ["(CASE WHEN 1 THEN 2 END)", "(abs(-5))", "(~5)", "(NOT 1)"]
DEFAULTS = NUMBERS + TEXTS + BLOBS + INNER + EXPRESSIONS


def values(db, sql):
    return db.execute(sql).fetchall()


def combinations():
    """Column declarations, numbered."""
    for n, (type_, default) in enumerate(itertools.product(TYPES, DEFAULTS)):
        yield f"c{n}", f"{type_} DEFAULT {default}\n"


def chunks(declared, size):
    declared = list(declared)
    return [declared[n : n + size] for n in range(0, len(declared), size)]


@pytest.mark.parametrize("host", ["sqlite3", "apsw"])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_every_default_in_every_type(path, host, encoding):
    """Value and type are those of old hot rows; when the rows come back, those of one that is written."""
    db = connections()[host](path)
    db.execute(f"PRAGMA encoding = '{encoding}'")
    db.execute("PRAGMA synchronous = OFF")
    tried = 0
    for number, declared in enumerate(chunks(combinations(), 150)):
        tables = (f"t{number}", f"twin{number}")
        for table in tables:
            db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT)")
            db.execute(f"INSERT INTO {table} (time) VALUES ('2024-01-01')")
        archive(db, tables[0], None, {"before": "2024-02-01"})
        # A hot row, too, or ADD COLUMN would take any expression.
        for table in tables:
            db.execute(f"INSERT INTO {table} (time) VALUES ('2024-03-01')")
        shown = []
        for name, column in declared:
            try:
                db.execute(f"ALTER TABLE {tables[1]} ADD COLUMN {name} {column}")
            except (sqlite3.OperationalError, apsw.SQLError) as error:
                assert any(column.strip().endswith(e) for e in EXPRESSIONS), (column, error)
                continue
            db.execute(f"ALTER TABLE {tables[0]} ADD COLUMN {name} {column}")
            shown.append(name)
        tried += len(shown)
        db.execute("SELECT archive_attach()").fetchall()
        columns = ", ".join(f"quote(x.{n}), typeof(x.{n}), hex(x.{n})" for n in shown)
        sql = "SELECT id, {} FROM {} AS x ORDER BY id"
        expected = values(db, sql.format(columns, tables[1]))
        names = ["id", *(n for n in shown for _ in range(3))]

        def differences(got):
            found = [zip(names, g, e) for g, e in zip(got, expected)]
            return {(dict(declared).get(n), g, e) for row in found for n, g, e in row if g != e}

        got = values(db, sql.format(columns, f"all_{tables[0]}"))
        assert len(got) == 2 and not differences(got)
        db.execute(f"SELECT archive_restore('{tables[0]}')").fetchall()
        # A row that is written, as this one is now, cannot have what SQLite shows of TEXT DEFAULT TRUE
        # in one that is not: the integer 1.
        db.execute(f"UPDATE {tables[1]} SET time = time WHERE id = 1")
        expected = values(db, sql.format(columns, tables[1]))
        got = values(db, sql.format(columns, tables[0]))
        assert len(got) == 2 and not differences(got)
    db.close()
    assert tried == len(TYPES) * (len(DEFAULTS) - len(EXPRESSIONS))


def test_an_expression_for_an_empty_table(db, path):
    """Where all rows are cold, ADD COLUMN takes any expression. It never runs: cold rows show NULL."""
    db.create_function("spy", 0, lambda: pytest.fail("the DEFAULT was run"))
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT)")
    db.execute("INSERT INTO t (time) VALUES ('2024-01-01')")
    archive(db, "t", None, {"before": "2024-02-01"})
    for name, default in [("a", "(spy())"), ("b", "(1 + 1)"), ("c", "CURRENT_TIMESTAMP")]:
        db.execute(f"ALTER TABLE t ADD COLUMN {name} DEFAULT {default}")
    db.execute("ALTER TABLE t ADD COLUMN d NOT NULL DEFAULT 'x'")
    db.execute("SELECT archive_attach()")
    assert db.execute("SELECT a, b, c, d FROM all_t").fetchall() == [(None, None, None, "x")]
    db.execute("SELECT archive_restore('t')")
    assert db.execute("SELECT a, b, c, d FROM t").fetchall() == [(None, None, None, "x")]


def test_a_catalog_cannot_bring_sql_along(db, path):
    """What the catalog of a stranger says is a DEFAULT must be one, and only that."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, a DEFAULT 5)")
    db.execute("INSERT INTO t (time) VALUES ('2024-01-01')")
    archive(db, "t", None, {"before": "2024-02-01"})
    db.execute("DROP TABLE t")
    outside = path.with_name("outside.db")
    for default in ["5), b CHECK (abs(1)", f"5); ATTACH '{outside}' AS x; --", "5 CHECK (abs(1))", "5\0"]:
        sql = "UPDATE _archive_table SET columns = json_set(columns, '$[2].default', ?)"
        db.execute(sql, (default,))
        db.execute("SELECT archive_attach()")
        with pytest.raises(sqlite3.OperationalError, match="SQLite does not take it"):
            db.execute("SELECT * FROM cold_t").fetchall()
    assert not outside.exists()


@pytest.mark.parametrize("host", ["sqlite3", "apsw"])
def test_a_generated_column_is_never_shown_as_null(path, host):
    """Rows that were archived without a generated column do not have it: what reads it fails and says so."""
    with contextlib.closing(connections()[host](path)) as db:
        check_generated(db)


def check_generated(db):
    for table in ("t", "twin"):
        db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT, a TEXT)")
        db.execute(f"INSERT INTO {table} (time, a) VALUES ('2024-01-01', 'x'), ('2024-03-01', 'y')")
    archive(db, "t", None, {"before": "2024-02-01"})
    for table in ("t", "twin"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN v TEXT AS (upper(a)) VIRTUAL")
    db.execute("SELECT archive_attach()").fetchall()
    assert values(db, "SELECT id, a FROM all_t ORDER BY id") == [(1, "x"), (2, "y")]
    assert values(db, "SELECT count(*) FROM cold_t") == [(1,)]
    for name in ("cold_t", "all_t"):
        for sql in ("SELECT * FROM {}", "SELECT id FROM {} WHERE v IS NULL", "SELECT id FROM {} WHERE v = 'X'"):
            with pytest.raises((sqlite3.OperationalError, apsw.SQLError), match="v of t is a generated column"):
                values(db, sql.format(name))
    db.execute("SELECT archive_restore('t')").fetchall()
    twin = values(db, "SELECT * FROM twin")
    assert values(db, "SELECT * FROM t") == twin
    archive(db, "t", None, {"before": "2024-02-01"})
    assert values(db, "SELECT * FROM all_t ORDER BY id") == twin
    assert values(db, "SELECT id FROM cold_t WHERE v = 'X'") == [(1,)]


@pytest.mark.parametrize("host", ["sqlite3", "apsw"])
def test_true_in_a_text_column_is_compared_as_text(path, host):
    """SQLite shows the number 1 in rows from before ADD COLUMN c TEXT DEFAULT TRUE, compared as '1'."""
    db = connections()[host](path)
    for table in ("t", "twin"):
        db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, time TEXT)")
        for id in (1, 2, 3):
            db.execute(f"INSERT INTO {table} VALUES ({id}, '2024-0{id}-01')")
    archive(db, "t", None, {"before": "2024-01-02"})
    db.execute("DROP VIEW all_t")
    for table in ("t", "twin"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN c TEXT DEFAULT TRUE")
    values(db, "SELECT archive_attach()")
    constants = ["''", "'0'", "'1'", "'10'", "'a'", "0", "1", "10", "05", "x'31'"]
    operators = ("=", "<", "<=", ">", ">=", "IS")
    terms = [f"c {operator} {constant}" for operator in operators for constant in constants]
    terms += [f"c IN ({constant}, 'b')" for constant in constants]
    terms += ["c BETWEEN '' AND '2'", "c LIKE '1%'", "c GLOB '1*'"]
    for before in ("2024-01-02", "2024-02-02"):
        # What is archived now has the number in its file, what was archived first shows the default.
        archive(db, "t", None, {"before": before})
        for term in terms:
            query = f"SELECT id, c FROM {{}} WHERE {term} ORDER BY c, id"
            shown, expected = [values(db, query.format(name)) for name in ("all_t", "twin")]
            assert shown == expected, (before, term)
    db.close()
