"""archive_query only reads, and only this database: every way out fails, and nothing is written."""

import contextlib
import hashlib
import json
import sqlite3

import pyarrow
import pyarrow.parquet
import pytest

from conftest import LIBRARY, archive, connect, create_report, literal, needs_duckdb
from conftest import objects, process, typed

pytestmark = needs_duckdb

SECRET = "the secret beside the database"
# Other files than the archive's own: each can be read by DuckDB if it may.
COLD = "archive/parquet/t/year=2024/month=01/day=01/copy.parquet"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a database and everything else that a query must not reach."""
    folder = tmp_path_factory.mktemp("safety")
    with contextlib.closing(connect(folder / "test.db")) as db:
        db.executescript("""
            CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v TEXT);
            INSERT INTO t (created_at, v) VALUES ('2024-01-01', 'a'), ('2024-01-02', 'b');
            INSERT INTO t (created_at, v) VALUES ('2999-01-01', 'c');
            CREATE TABLE plain (x INTEGER, y TEXT); INSERT INTO plain VALUES (1, 'one');
            """)
        assert archive(db, "t", 7)["rows"] == 2
    (folder / "x.csv").write_text(f"a,b\n{SECRET},1\n")
    (folder / "x.json").write_text(json.dumps([{"a": SECRET}]))
    table = pyarrow.table({"a": [SECRET]})
    for name in ("x.parquet", COLD):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, folder / name)
    for name in ("x.csv", "x.json"):
        (folder / "archive/parquet/t" / name).write_bytes((folder / name).read_bytes())
    import duckdb  # The package makes a database file that DuckDB could attach.

    with duckdb.connect(folder / "x.duckdb") as other:
        other.execute(f"CREATE TABLE a AS SELECT '{SECRET}' AS a")
    (folder / "home").mkdir()
    return folder


@pytest.fixture
def host(place, monkeypatch):
    """A connection in that folder; everything in it is the same afterwards."""
    monkeypatch.chdir(place)
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(place / "home"))
    monkeypatch.setenv("SECRET_KEY", SECRET)
    before = tree(place)
    with contextlib.closing(connect(place / "test.db")) as db:
        dumped = list(db.iterdump())
        yield db
        assert list(db.iterdump()) == dumped
        # It still reads what it should.
        assert objects(db, "SELECT count(*) AS n FROM t") == [{"n": 3}]
    assert tree(place) == before


def tree(folder):
    """Every file and folder below, and the bytes of the files."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).digest() if path.is_file() else None
        )
        for path in sorted(folder.rglob("*"))
    }


def failure(db, sql, parameters=()):
    """The message with which a statement fails, or None and what it gave."""
    try:
        return None, db.execute(sql, parameters).fetchall()
    except sqlite3.Error as error:
        return str(error), None


def refused(db, sql, words="", start="archive_query: "):
    """Asserts that a query fails in both ways to ask it, with an error that a user can act on."""
    message, found = failure(db, "SELECT * FROM archive_query(?)", [sql])
    assert message, f"it gave {found!r:.300}"
    made = f"CREATE VIRTUAL TABLE temp.report USING archive_query({literal(sql)})"
    db.execute("DROP TABLE IF EXISTS temp.report")
    created, _ = failure(db, made)
    if created is None:
        created, found = failure(db, "SELECT * FROM temp.report")
    assert created, f"the table gave {found!r:.300}"
    for text in (message, created):
        assert text.startswith(start) and len(text) > len(start) + 10, text
        assert "internal error" not in text.lower() and "INTERNAL Error" not in text, text
        assert SECRET not in text and "root:" not in text, text
        assert words.lower() in text.lower(), text
    return message


READERS = ["read_csv", "read_csv_auto", "read_text", "read_blob", "read_json", "read_json_auto"]
READERS += ["read_json_objects", "read_json_objects_auto", "read_ndjson", "read_ndjson_auto"]
READERS += ["read_ndjson_objects", "read_parquet", "parquet_scan", "parquet_metadata"]
READERS += ["parquet_schema", "parquet_file_metadata", "parquet_kv_metadata", "read_duckdb"]
READERS += ["parquet_full_metadata", "glob", "sniff_csv", "which_secret"]
FILES = ["/etc/passwd", "x.csv", "x.json", "x.parquet", "x.duckdb", "{folder}/x.csv", "*"]
FILES += ["test.db", COLD, "archive/parquet/**/*.parquet", "file:///etc/passwd", "/dev/stdin"]
FILES += ["{folder}/" + COLD, "archive/parquet/t/x.csv", "{folder}/archive/parquet/t/x.json"]
FILES += ["http://127.0.0.1:1/x.csv", "https://127.0.0.1:1/x.parquet", "s3://bucket/x.parquet"]
FILES += ["hf://datasets/a/b.csv", "gcs://a/b.parquet", "az://a/b.csv", "/proc/self/environ"]


@pytest.mark.parametrize("reader", READERS)
def test_files_are_not_read_by_functions(host, place, reader):
    """No function reads a file, not even one of the archive's own."""
    for file in FILES:
        name = literal(file.format(folder=place))
        refused(host, f"SELECT * FROM {reader}({name})")
        refused(host, f"SELECT * FROM {reader}([{name}, {name}])")
    refused(host, f"SELECT * FROM {reader}('x.csv', 'a')")
    refused(host, f"SELECT * FROM {reader}()")


def test_files_are_not_read_by_name(host, place):
    """The name of a file is not the name of a table."""
    for file in FILES:
        name = file.format(folder=place)
        for quoted in (literal(name), '"' + name + '"'):
            refused(host, f"SELECT * FROM {quoted}")
            refused(host, f"FROM {quoted}")
            refused(host, f"SELECT (SELECT count(*) FROM {quoted})")
        refused(host, f"SELECT * FROM query_table({literal(name)})")
        refused(host, f"SELECT * FROM query_table(['t', {literal(name)}])")


# Wherever a query can stand within a query, `{}` stands for one that reads a file.
PLACES = """
SELECT ({})
SELECT * FROM ({}) AS a
SELECT * FROM t WHERE EXISTS ({})
SELECT * FROM t WHERE v IN ({})
SELECT * FROM t WHERE v = ANY ({})
SELECT * FROM t ORDER BY ({})
SELECT count(*) FROM t GROUP BY ({})
SELECT count(*) FROM t GROUP BY v HAVING max(v) > ({})
SELECT count(*) FILTER (WHERE v = ({})) FROM t
SELECT sum(id) OVER (PARTITION BY ({})) FROM t
SELECT * FROM t QUALIFY row_number() OVER () = length(({}))
SELECT * FROM t LIMIT length(({}))
SELECT * FROM t LIMIT 1 OFFSET (SELECT count(*) FROM ({}))
SELECT CASE WHEN v = 'a' THEN ({}) END FROM t
SELECT coalesce(NULL, ({}))
SELECT * FROM t JOIN ({}) AS a ON true
SELECT * FROM t LEFT JOIN ({}) AS a ON a.content = t.v
SELECT * FROM t POSITIONAL JOIN ({}) AS a
SELECT * FROM t, LATERAL ({}) AS a
SELECT * FROM t ASOF JOIN ({}) AS a ON t.v >= a.content
SELECT v FROM t UNION ALL {}
SELECT v FROM t UNION ALL BY NAME {}
SELECT v FROM t EXCEPT {}
SELECT v FROM t INTERSECT {}
WITH a AS ({}) SELECT * FROM a
WITH a AS MATERIALIZED ({}) SELECT * FROM a
WITH RECURSIVE a AS ({} UNION ALL SELECT content FROM a WHERE false) SELECT * FROM a
VALUES (({}))
SELECT * FROM (VALUES (({}))) AS a
FROM ({}) SELECT *
SELECT list_transform([1], lambda x: ({}))
SELECT list_transform([({})], lambda x: x)
SELECT list_filter(['a'], lambda x: x = ({}))
SELECT {{'a': ({})}}
SELECT [({})]
SELECT MAP {{'a': ({})}}
SELECT array({})
SELECT unnest(array({}))
SELECT * FROM unnest(array({}))
SELECT * FROM range(length(({})))
SELECT * FROM repeat(({}), 3)
SELECT * FROM json_each('[' || length(({})) || ']')
SELECT * FROM (PIVOT ({}) ON content USING count(*))
PIVOT ({}) ON content USING count(*)
SELECT * FROM (UNPIVOT ({}) ON content)
SELECT * FROM (DESCRIBE {})
SELECT * FROM (SUMMARIZE {})
SELECT * FROM ({}) TABLESAMPLE 50%
SELECT v FROM t WHERE v LIKE ({}) ESCAPE '!'
SELECT v::VARCHAR COLLATE nocase = ({}) FROM t
SELECT TRY(({}))
SELECT COLUMNS(*)::VARCHAR || ({}) FROM t
SELECT * REPLACE (({}) AS v) FROM t
SELECT * FROM t WHERE v BETWEEN ({}) AND 'z'
EXPLAIN {}
CREATE TABLE a AS {}
INSERT INTO t {}
COPY ({}) TO 'out.csv'
PREPARE a AS {}
""".strip().splitlines()


# Where DuckDB has no queries, and what is more than a SELECT.
NOT_THERE = (
    "SELECT list_transform([1]",
    "SELECT list_filter",
    "SELECT * FROM repeat",
    "SELECT TRY",
)
NOT_THERE += ("SELECT * FROM (PIVOT", "PIVOT", "EXPLAIN", "CREATE", "INSERT", "COPY", "PREPARE")


@pytest.mark.parametrize("sql", PLACES)
def test_files_are_not_read_within_a_query(host, sql):
    """Wherever a file could be read in a query, it is not; a harmless query can be there."""
    if not sql.startswith(NOT_THERE):
        harmless = sql.format("SELECT 'x' AS content")
        assert failure(host, "SELECT * FROM archive_query(?)", [harmless])[0] is None
    for inner in [
        "SELECT content FROM read_text('/etc/passwd')",
        "SELECT a AS content FROM 'x.parquet'",
        "SELECT file AS content FROM glob('/etc/pass*')",
        "SELECT min(a) AS content FROM read_csv('x.csv')",
        "SELECT content FROM main.read_text('/etc/passwd')",
        "SELECT content FROM system.main.read_text('/etc/passwd')",
        "SELECT content FROM \"READ_TEXT\"('/etc/passwd')",
        "SELECT content FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    ]:
        refused(host, sql.format(inner))


STATEMENTS = """
COPY t TO 'out.csv'
COPY (SELECT 1) TO 'out.parquet'
COPY (SELECT 1) TO 'out.json' (FORMAT json)
COPY plain TO '/dev/stdout'
COPY t FROM 'x.csv'
COPY FROM DATABASE memory TO other
EXPORT DATABASE 'out'
IMPORT DATABASE 'out'
ATTACH 'x.duckdb'
ATTACH 'x.duckdb' AS other (READ_ONLY)
ATTACH ':memory:' AS other
ATTACH 'test.db' AS other (TYPE sqlite)
ATTACH IF NOT EXISTS 'new.duckdb' AS other
DETACH memory
USE memory
USE system
INSTALL httpfs
FORCE INSTALL sqlite
INSTALL 'x.so'
LOAD httpfs
LOAD '{library}'
UPDATE EXTENSIONS
SET threads = 7
SET GLOBAL enable_external_access = true
SET SESSION lock_configuration = false
SET memory_limit = '100GB'
SET temp_directory = 'spill'
SET file_search_path = '/etc'
SET log_query_path = 'log.txt'
SET allowed_paths = ['/etc/passwd']
SET VARIABLE x = 1
RESET threads
RESET ALL
RESET VARIABLE x
PRAGMA version
PRAGMA database_list
PRAGMA table_info('t')
PRAGMA threads = 7
PRAGMA enable_profiling
PRAGMA enable_profiling = 'json'
PRAGMA profiling_output = 'out.json'
PRAGMA import_database('out')
PRAGMA enable_logging
PRAGMA force_checkpoint
PRAGMA json_execute_serialized_sql('{{}}')
CALL pragma_version()
CALL enable_logging()
CALL enable_logging('QueryLog', storage = 'file', storage_path = 'logs')
CALL checkpoint()
CALL force_checkpoint()
CREATE TABLE a (x INTEGER)
CREATE TABLE a AS SELECT 1
CREATE TEMP TABLE a AS SELECT 1
CREATE OR REPLACE TABLE t AS SELECT 1
CREATE VIEW a AS SELECT 1
CREATE OR REPLACE TEMP VIEW t AS SELECT 1
CREATE SCHEMA a
CREATE SEQUENCE a
CREATE TYPE a AS ENUM ('x')
CREATE MACRO a() AS 1
CREATE FUNCTION a() AS TABLE SELECT * FROM read_text('/etc/passwd')
CREATE OR REPLACE MACRO main.sum(x) AS 1
CREATE INDEX a ON plain (x)
CREATE SECRET a (TYPE s3, KEY_ID 'x', SECRET 'y')
CREATE PERSISTENT SECRET a (TYPE s3, KEY_ID 'x', SECRET 'y')
INSERT INTO t VALUES (9, '2024-01-01', 'x')
INSERT INTO plain VALUES (9, 'x')
INSERT INTO hot_t VALUES (9, '2024-01-01', 'x')
INSERT INTO plain SELECT 9, 'x' RETURNING *
UPDATE t SET v = 'x'
UPDATE plain SET x = 9
DELETE FROM t
DELETE FROM cold_t
DELETE FROM plain RETURNING *
TRUNCATE plain
MERGE INTO plain USING t ON t.id = plain.x WHEN MATCHED THEN DELETE
DROP TABLE t
DROP VIEW t
DROP VIEW IF EXISTS hot_t
DROP TABLE plain
DROP SCHEMA main CASCADE
DROP FUNCTION sum
DROP SECRET a
ALTER TABLE plain ADD COLUMN z INTEGER
ALTER VIEW t RENAME TO u
COMMENT ON TABLE plain IS 'x'
VACUUM
VACUUM plain
ANALYZE
CHECKPOINT
FORCE CHECKPOINT
BEGIN
BEGIN TRANSACTION READ ONLY
COMMIT
ROLLBACK
ABORT
EXPLAIN SELECT 1
EXPLAIN ANALYZE SELECT 1
EXPLAIN ANALYZE COPY (SELECT 1) TO 'out.csv'
PREPARE p AS SELECT 1
EXECUTE p
DEALLOCATE p
KILL 1
WITH a AS (DELETE FROM plain RETURNING *) SELECT * FROM a
WITH a AS (INSERT INTO plain VALUES (9, 'x') RETURNING *) SELECT * FROM a
WITH a AS (COPY plain TO 'out.csv') SELECT * FROM a
WITH a AS (SELECT 1) DELETE FROM plain
WITH a AS (SELECT 9 AS x, 'x' AS y) INSERT INTO plain SELECT * FROM a
SELECT * FROM (DELETE FROM plain RETURNING *)
SELECT * FROM (COPY plain TO 'out.csv')
SELECT * FROM (CALL pragma_version())
SELECT * FROM (SET threads = 7)
SELECT 1 INTO plain
.shell ls
.read x.sql
!ls
""".strip().splitlines()


@pytest.mark.parametrize("sql", STATEMENTS)
def test_only_a_select_runs(host, sql):
    """Nothing else than a SELECT is run, and the error says so or that it is no SQL."""
    refused(host, sql.format(library=LIBRARY))
    refused(host, f"  /* hidden */ {sql.lower().format(library=LIBRARY)};")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "SELECT 1;; SELECT 2;",
        "SELECT 1 AS a; COPY (SELECT 1) TO 'out.csv'",
        "COPY (SELECT 1) TO 'out.csv'; SELECT 1",
        "SET threads = 1; SELECT 1",
        "SELECT 1) ; COPY (SELECT 1) TO 'out.csv' --",
        "SELECT 1); COPY (SELECT 1) TO 'out.csv'; SELECT (1",
        "SELECT 1) UNION ALL (SELECT 2",
        "1) UNION ALL (SELECT 2",
        "SELECT 1) AS x UNION ALL SELECT * FROM (SELECT 2",
        "SELECT 1 /* ; */; /* */ DROP TABLE plain",
        "SELECT 1 AS a --\n; DELETE FROM plain",
        "BEGIN; SELECT 1; COMMIT",
    ],
)
def test_only_one_statement_runs(host, sql):
    """A text with more than one statement is refused before any of them runs."""
    refused(host, sql)


@pytest.mark.parametrize("sql", ["", " ", "\n", ";", ";;", "--", "-- SELECT 1", "/* SELECT 1 */"])
def test_no_statement(host, sql):
    """Nothing at all is an error, too."""
    refused(host, sql)


@pytest.mark.parametrize(
    "sql", ["/* SELECT", "SELECT 'x", 'SELECT "x', "SELECT $$x", "SELECT (1", "x"]
)
def test_half_a_statement(host, sql):
    """A text that ends too early is an error."""
    refused(host, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS v;",
        "SELECT 1 AS v ; ",
        "SELECT 1 AS v -- the end",
        "SELECT 1 AS v; -- the end; really",
        "-- the beginning\nSELECT 1 AS v",
        "/* ; */ SELECT 1 AS v /* the end */",
        "\n\tSELECT\n1 AS v\n",
        "(SELECT 1 AS v)",
        "WITH a AS (SELECT 1 AS v) SELECT * FROM a",
        "SELECT v FROM (VALUES (1)) AS a(v)",
        "select 1 as v",
    ],
)
def test_comments_and_semicolons_do_no_harm(host, sql):
    """What belongs to one SELECT may stand around it."""
    assert objects(host, sql) == [{"v": 1}]
    assert typed(host, sql) == [(1,)]


# Functions.

KNOWN = {"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"}
KNOWN |= {"query_table", "test_all_types", "test_vector_types", "summary"}


def test_table_functions_that_are_not_known_are_refused(host):
    """Of all that DuckDB has, only functions that touch nothing can be called, with any arguments."""
    sql = "SELECT DISTINCT function_name AS n FROM duckdb_functions() WHERE function_type"
    names = {row["n"] for row in objects(host, f"{sql} IN ('table', 'table_macro', 'pragma')")}
    assert {"read_csv", "checkpoint", "enable_logging", "query", "arrow_scan"} <= names
    for name in sorted(names - KNOWN):
        if name.startswith(("duckdb_", "histogram")):
            continue
        for arguments in ["", "'/etc/passwd'", "'t'", "1, 2, 3", "'x.csv', 'a'", "NULL", "t"]:
            refused(host, f'SELECT * FROM "{name}"({arguments})')
        refused(host, f"SELECT * FROM main.{name}()")


@pytest.mark.parametrize(
    "call",
    [
        "query('SELECT 1')",
        "query('COPY plain TO ''out.csv''')",
        "json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
        "enable_logging()",
        "enable_logging('QueryLog', storage = 'file', storage_path = 'logs')",
        "disable_logging()",
        "truncate_duckdb_logs()",
        "enable_profiling()",
        "enable_profiling(format = 'json', save_location = 'out.json')",
        "disable_profiling()",
        "checkpoint()",
        "force_checkpoint()",
        "checkpoint('memory')",
        "register_external_resource('x', 'y')",
        "create_external_resource('x', 'y')",
        "register_external_resource_type('x', 'y')",
        "destroy_external_resource('x')",
        "arrow_scan(1, 2, 3)",
        "arrow_scan(94000000000000::POINTER, 0::POINTER, 0::POINTER)",
        "arrow_scan_dumb(1, 2, 3)",
        "seq_scan('t')",
        "histogram('x.csv', a)",
        "histogram_values('x.parquet', a)",
        "sqlite_scan('test.db', 'plain')",
        "sqlite_query('test.db', 'SELECT 1')",
        "pragma_storage_info('x')",
    ],
)
def test_a_table_function_is_not_a_way_out(host, call):
    """Not by itself, not within another query, not as a scalar function."""
    refused(host, f"SELECT * FROM {call}")
    refused(host, f"SELECT * FROM t WHERE EXISTS (SELECT 1 FROM {call})")
    refused(host, f"WITH a AS (FROM {call}) SELECT count(*) FROM t, a")
    refused(host, f"SELECT * FROM t, LATERAL (SELECT * FROM {call}) AS a")
    refused(host, f"SELECT list_transform([1], lambda x: (SELECT count(*) FROM {call}))")
    refused(host, f"SELECT {call}")


@pytest.mark.parametrize(
    "call",
    [
        "getenv('SECRET_KEY')",
        "nextval('a')",
        "setval('a', 1)",
        "currval('a')",
        "system('ls')",
        "read_text('/etc/passwd')",
        "load_extension('x')",
        "archive_table('t', 7)",
        "archive_config('archive_dir', 'x')",
    ],
)
def test_a_scalar_function_is_not_a_way_out(host, call):
    """Neither the environment, nor files, nor SQLite's functions."""
    refused(host, f"SELECT {call}")
    refused(host, f"SELECT list_transform([1], lambda x: {call})")
    refused(host, f"SELECT * FROM t WHERE {call} IS NULL")


@pytest.mark.parametrize("inner", ["FROM read_text(''/etc/passwd'')", "FROM ''x.csv''", "FROM t"])
@pytest.mark.parametrize("function", ["json_serialize_sql", "json_serialize_plan"])
def test_a_query_in_a_text_reads_no_file(host, function, inner):
    """Functions that parse or plan SQL say something about it, but do not run it."""
    call = f"{function}('SELECT * {inner}')"
    message, found = failure(host, "SELECT * FROM archive_query(?)", [f"SELECT {call} AS v"])
    assert (message or "archive_query: ").startswith("archive_query: ")
    assert SECRET not in str((message, found)) and "root:" not in str((message, found))


def test_a_log_is_not_written(host):
    """write_log has nowhere to write to."""
    failure(host, "SELECT * FROM archive_query('SELECT write_log(''x'') FROM range(9)')")
    message, found = failure(host, "SELECT * FROM archive_query('FROM duckdb_logs()')")
    assert message or found == []


def test_the_settings_are_locked_and_tell_nothing(host):
    """The lock-down settings are on; no setting, secret or variable has anything of the machine's."""
    rows = objects(host, "SELECT name, value FROM duckdb_settings()")
    found = {row["name"]: row["value"] for row in rows}
    for name, value in {
        "enable_external_access": "false",
        "lock_configuration": "true",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "allow_unsigned_extensions": "false",
        "allow_persistent_secrets": "false",
    }.items():
        assert found[name].lower() == value, name
        setting = f"SELECT lower(current_setting('{name}')::VARCHAR) AS v"
        assert objects(host, setting) == [{"v": value}]
    assert SECRET not in json.dumps(found)
    hidden = ("secrets", "variables", "external_file_cache", "extensions")
    for function in (f"duckdb_{name}" for name in hidden):
        message, rows = failure(host, f"SELECT * FROM archive_query('FROM {function}()')")
        assert message or rows == []


# What SQLite's own objects may do.


@pytest.fixture
def own(db):
    """A connection to a database of the test's own, with one archived table."""
    db.executescript("""
        CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v TEXT);
        INSERT INTO t (created_at, v) VALUES ('2024-01-01', 'a'), ('2999-01-01', 'b');
        """)
    archive(db, "t", 7)
    return db


def test_a_view_or_a_trigger_of_the_database_cannot_call_it(own):
    """A database from a stranger does not run queries: archive_query is DIRECTONLY."""
    call = "SELECT row FROM archive_query('SELECT 5 AS n')"
    own.execute(f"CREATE VIEW v AS {call}")
    own.execute("CREATE TABLE log (x)")
    own.execute(f"CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log {call}; END")
    for sql in ["SELECT * FROM v", "INSERT INTO t (v) VALUES ('x')"]:
        message, _ = failure(own, sql)
        assert message and "unsafe use of" in message, message
    refused(own, "SELECT * FROM v", "unsafe use of", "")
    assert own.execute("SELECT count(*) FROM log").fetchone() == (0,)
    # The application's own TEMP views are its own business.
    own.execute(f"CREATE TEMP VIEW mine AS {call}")
    assert own.execute("SELECT row FROM mine").fetchall() == [('{"n":5}',)]


def test_a_view_of_the_database_that_calls_what_it_may_not(own):
    """A view that SQLite would refuse to run is refused in a report, too."""
    own.execute("CREATE VIEW v AS SELECT archive_config('batch_size', '5') AS x")
    own.execute("CREATE VIEW w AS SELECT load_extension('x') AS x")
    for name in "vw":
        assert failure(own, f"SELECT * FROM {name}")[0]
        refused(own, f"SELECT * FROM {name}", start="")
    assert own.execute("SELECT archive_config('batch_size') ->> 'source'").fetchone() == (
        "default",
    )


def test_views_of_the_database_are_tables(own):
    """A view can be asked, with what SQLite computes in it, and a broken one says why."""
    own.execute("CREATE VIEW v AS SELECT upper(v) || typeof(v) AS x, id FROM t")
    own.execute("CREATE TEMP VIEW w AS SELECT count(*) AS n FROM all_t")
    own.execute("CREATE VIEW broken AS SELECT x FROM nowhere")
    assert typed(own, "SELECT x FROM v ORDER BY id") == [("Btext",)]
    assert typed(own, "SELECT n FROM w") == [(2,)]
    refused(own, "SELECT * FROM broken", "nowhere", "")
    refused(own, "SELECT * FROM nothing_of_this_name", "nothing_of_this_name")


@pytest.mark.parametrize("schema", ["main.", "", "other."])
def test_a_report_is_only_made_in_temp(own, schema):
    """The database stays ordinary: a report in it could only be opened with this library."""
    own.execute("ATTACH ':memory:' AS other")
    before = own.execute("SELECT * FROM sqlite_schema").fetchall()
    sql = f"CREATE VIRTUAL TABLE {schema}x USING archive_query('SELECT 1')"
    message, _ = failure(own, sql)
    assert message and message.startswith("archive_query: ") and "temp" in message.lower()
    assert own.execute("SELECT * FROM sqlite_schema").fetchall() == before
    assert own.execute("SELECT count(*) FROM other.sqlite_schema").fetchone() == (0,)


def test_a_report_cannot_be_written(own):
    """Neither a report nor the function takes changes."""
    create_report(own, "SELECT id, v FROM t")
    before = list(own.iterdump())
    for sql in [
        "INSERT INTO temp.report VALUES (9, 'x')",
        "UPDATE temp.report SET v = 'x'",
        "DELETE FROM temp.report",
        "ALTER TABLE temp.report ADD COLUMN x",
        "CREATE INDEX temp.i ON report (v)",
        "INSERT INTO archive_query VALUES (1)",
    ]:
        assert failure(own, sql)[0], sql
    assert list(own.iterdump()) == before


def test_a_missing_or_damaged_file_is_an_error(own, tmp_path):
    """A query that needs a file that is not whole fails and names it; others go on."""
    (file,) = tmp_path.rglob("*.parquet")
    whole = file.read_bytes()
    own.execute("CREATE TABLE plain AS SELECT 'p' AS v")
    create_report(own, "SELECT v FROM t ORDER BY id")

    def damaged(content):
        file.write_bytes(content) if content else file.unlink()
        message, _ = failure(own, "SELECT row FROM archive_query('SELECT v FROM t')")
        assert message and file.name in message, message
        message, _ = failure(own, "SELECT * FROM temp.report")
        assert message and file.name in message, message
        assert objects(own, "SELECT v FROM plain") == [{"v": "p"}]

    damaged(None)
    damaged(whole[: len(whole) // 2])
    damaged(whole + b"x")
    for place in (4, len(whole) - 20):
        damaged(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    file.write_bytes(whole)
    assert own.execute("SELECT * FROM temp.report").fetchall() == [("a",), ("b",)]


def test_nothing_on_the_standard_streams(tmp_path):
    """P6: neither answers nor errors print anything."""
    program = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[2])
db.enable_load_extension(True)
db.load_extension(sys.argv[1])
found = 0
for sql in ["SELECT 1", "SELECT sum(range) FROM range(30000000)", "FROM nothing", "SELEC", "SELECT error('x')"]:
    try:
        found += len(db.execute("SELECT * FROM archive_query(?)", [sql]).fetchall())
    except sqlite3.Error:
        pass
assert found == 2
"""
    with process(program, LIBRARY.with_suffix(""), tmp_path / "test.db") as asking:
        output, errors = asking.communicate(timeout=60)
    assert (asking.returncode, output, errors) == (0, "", "")


def test_a_link_in_the_place_of_the_spill_folder(tmp_path):
    """Nothing is written or removed where it leads."""
    victim = tmp_path / "victim"
    (victim / "poetry").mkdir(parents=True)
    for name in ("poetry.lock", "1-0.lock", "poetry/source.py"):
        (victim / name).write_text("kept")
    path = tmp_path / "app" / "test.db"
    path.parent.mkdir()
    with contextlib.closing(connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT)")
        db.execute("INSERT INTO t (created_at) VALUES ('2024-01-01')")
        archive(db, "t", 7)
        (path.parent / "archive/duckdb_spill").symlink_to(victim)
        before = tree(victim)
        db.execute("SELECT * FROM archive_query('SELECT count(*) FROM all_t')").fetchall()
    assert tree(victim) == before
