"""archive_query and names that SQL, file systems and patterns would like to understand otherwise."""

import contextlib
import shutil

import pytest

from conftest import archive, connect, needs_duckdb, objects, typed

pytestmark = needs_duckdb

NAMES = ['a"b', "a'b", "a;b", "a\nb", '"); DROP TABLE t; --', "'; DROP TABLE t; --", "a b", " "]
NAMES += ["--", "select", "Order", "table", "main", "temp", "memory", "system", "pragma", "values"]
NAMES += ["sum", "count", "range", "read_csv", "query", "duckdb_tables", "information_schema"]
NAMES += ["pg_catalog", "pg_class", "my_sqlite_master", "a.b", "main.t", "x.csv", "/etc/passwd"]
NAMES += ["s3://x/y.parquet", "été", "É", "é", "日本", "\U0001f600", "n" * 500, "*", "a*", "?"]
NAMES += ["[ab]", "{a}", "$1", "?1", "a\\b", "%", "%s", "0", "1e5", "null", "true", "_archive"]
NAMES += ["\ta", "a/b", "..", "hot_x", "cold_x", "all_x", "report2", "struct.field", "COLUMNS"]


def quoted(text):
    """A quoted name."""
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("kind", ["archived", "plain", "temp", "view"])
def test_tables_of_any_name(path, kind):
    """A name is only a name: each table is read right, and nothing else happens."""
    with contextlib.closing(connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
        for n, text in enumerate(NAMES):
            if kind == "view":
                db.execute(f"CREATE VIEW {quoted(text)} AS SELECT 1 AS id, 'v{n}' AS v")
                continue
            body = "(id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v TEXT)"
            db.execute(f"CREATE {'TEMP' * (kind == 'temp')} TABLE {quoted(text)} {body}")
            rows = [["2020-01-01", f"v{n}"], ["2999-01-01", f"w{n}"]]
            db.executemany(f"INSERT INTO {quoted(text)} (created_at, v) VALUES (?, ?)", rows)
            if kind == "archived":
                assert archive(db, quoted(text), 7)["rows"] == 1
        before = path.read_bytes()
        for n, text in enumerate(NAMES):
            expected = [(1, f"v{n}"), (2, f"w{n}")][: 1 if kind == "view" else 2]
            sql = "SELECT id, v FROM {} ORDER BY id"
            assert typed(db, sql.format(quoted(text))) == expected, text
            counted = objects(db, f"SELECT count(*) AS n FROM {quoted(text)}")
            assert counted == [{"n": len(expected)}], text
            if kind == "archived":
                parts = {"all_": expected, "cold_": expected[:1], "hot_": expected[1:]}
                for prefix, wanted in parts.items():
                    assert typed(db, sql.format(quoted(prefix + text))) == wanted, text
        assert path.read_bytes() == before


@pytest.mark.parametrize("archived", [False, True], ids=["plain", "archived"])
def test_columns_of_any_name(path, archived):
    """Columns are told apart and read right, whatever they are called."""
    names = [*NAMES, "a" * 3000, "v::VARCHAR", "a, b", "1 AS x", "filename", "file_row_number"]
    with contextlib.closing(connect(path)) as db:
        columns = ", ".join(f"{quoted(text)} TEXT" for text in names)
        key = "id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT"
        db.execute(f"CREATE TABLE t ({key}, {columns})")
        marks = ", ".join("?" * len(names))
        listed = ", ".join(map(quoted, names))
        for when in ("2020-01-01", "2999-01-01"):
            row = [when, *(f"{n} {when}" for n in range(len(names)))]
            db.execute(f"INSERT INTO t (created_at, {listed}) VALUES (?, {marks})", row)
        if archived:
            assert archive(db, "t", 7)["rows"] == 1
        source = "all_t" if archived else "t"
        expected = db.execute(f"SELECT * FROM {source} ORDER BY id").fetchall()
        assert typed(db, "SELECT * FROM t ORDER BY id") == expected and len(expected) == 2
        assert [row[1] for row in db.execute("PRAGMA temp.table_info(report)")][2:] == names
        first, _ = objects(db, "SELECT * FROM t ORDER BY id")
        assert list(first.values()) == list(expected[0])
        for n, text in enumerate(names):
            where = f"WHERE {quoted(text)} LIKE '% 2020%'"
            found = typed(db, f"SELECT {quoted(text)} FROM t {where}")
            assert found == [(f"{n} 2020-01-01",)], text


@pytest.mark.parametrize("archived", [False, True], ids=["plain", "archived"])
def test_an_empty_column_name(db, archived):
    """SQLite allows it, and DuckDB has no way to write it: SELECT * shows the column."""
    key = "id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT"
    db.execute(f'CREATE TABLE t ({key}, "" TEXT)')
    rows = [(1, "2020-01-01", "a"), (2, "2999-01-01", "b")]
    db.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    if archived:
        assert archive(db, "t", 7)["rows"] == 1
    assert typed(db, "SELECT * FROM t ORDER BY 1") == rows


@pytest.mark.parametrize(
    "folder",
    ["a*b?[x]", "it's; --", 'quo"te', "{x}", "é日", "**", "a b%20", "year=1", "a,b", "[a]", "a\\b"],
)
def test_folders_of_any_name(path, folder):
    """The archive folder's name is no pattern: files beside it that match are not read."""
    with contextlib.closing(connect(path)) as db:
        db.execute("SELECT archive_config('archive_dir', ?)", [folder])
        tables = ["t*", "tx", "t[x]"]
        for table in tables:
            key = "id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT"
            db.execute(f"CREATE TABLE {quoted(table)} ({key})")
            rows = [["2020-01-01"], ["2020-01-02"], ["2999-01-01"]]
            db.executemany(f"INSERT INTO {quoted(table)} (created_at) VALUES (?)", rows)
            assert archive(db, quoted(table), 7)["rows"] == 2
        assert list((path.parent / folder).rglob("*.parquet"))
        for decoy in {"aXbYx", "x", "abc", "a", "b"} - {folder}:
            shutil.copytree(path.parent / folder, path.parent / decoy)
        for table in tables:
            found = typed(db, f"SELECT count(*), count(DISTINCT id) FROM {quoted(table)}")
            assert found == [(3, 3)]


def test_case_of_names(db):
    """Names of tables and columns are the same in any case of ASCII, as they are in SQLite."""
    db.execute('CREATE TABLE "Tasks" (id INTEGER PRIMARY KEY AUTOINCREMENT, "Created_At" TEXT)')
    db.executemany('INSERT INTO "Tasks" VALUES (?, ?)', [[1, "2020-01-01"], [2, "2999-01-01"]])
    archive(db, "tasks", 7)
    for table in ("Tasks", "TASKS", '"tasks"', "ALL_tasks", "all_Tasks"):
        sql = f"SELECT ID, created_AT FROM {table} ORDER BY Id"
        assert typed(db, sql) == [(1, "2020-01-01"), (2, "2999-01-01")]


def test_a_table_of_the_query_hides_one_of_the_database(db):
    """A common table expression and an alias mean what they say."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT)")
    db.executemany("INSERT INTO t (created_at) VALUES (?)", [["2020-01-01"], ["2999-01-01"]])
    archive(db, "t", 7)
    assert typed(db, "WITH t AS (SELECT 7 AS id) SELECT id FROM t") == [(7,)]
    assert typed(db, "SELECT count(*) FROM hot_t AS t") == [(1,)]
    nested = "WITH t AS (SELECT * FROM t WHERE id = 1) SELECT count(*) FROM t"
    assert typed(db, nested) == [(1,)]


def test_a_temp_table_hides_one_of_main(db):
    """As in SQLite, a plain name is first looked for in temp."""
    db.executescript("""CREATE TABLE p (x); INSERT INTO p VALUES ('main');
                        CREATE TEMP TABLE p (x); INSERT INTO p VALUES ('temp');""")
    assert typed(db, "SELECT x FROM p") == db.execute("SELECT x FROM p").fetchall() == [("temp",)]
