"""The arguments of archive_query: long, deep, wrong and hostile ones, and its parameters."""

import sqlite3

import pytest

from conftest import LIBRARY, create_report, literal, needs_duckdb, objects, process, typed

pytestmark = needs_duckdb


def failure(db, sql, parameters=()):
    """The message with which a statement fails, or None and what it gave."""
    try:
        return None, db.execute(sql, parameters).fetchall()
    except sqlite3.Error as error:
        return str(error), None


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"SELECT length('{'x' * 900_000}') AS v", 900_000),
        (f"SELECT 1 AS v WHERE 5 IN ({', '.join(map(str, range(30_000)))})", 1),
        (f"SELECT {' + '.join(['1'] * 500)} AS v", 500),
        (f"SELECT 1 AS v {'/* x */ ' * 100_000}", 1),
        (f"SELECT {', '.join(f'{n} AS c{n}' for n in range(1500))}, 7 AS v", 7),
    ],
    ids=["text", "list", "sum", "comments", "columns"],
)
def test_a_huge_query(db, sql, expected):
    """A query may be long."""
    assert objects(db, sql)[0]["v"] == expected
    create_report(db, sql)
    assert db.execute("SELECT v FROM report").fetchall() == [(expected,)]


def test_a_query_that_is_too_long(db):
    """There is an end to it, and the error says where."""
    message, _ = failure(db, "SELECT * FROM archive_query(?)", [f"SELECT '{'x' * 20_000_000}'"])
    assert message.startswith("archive_query: ") and len(message) < 200, message
    assert objects(db, "SELECT 5 AS n") == [{"n": 5}]


# In a process of its own, as it must not end it; also in a thread with a small stack.
DEEP = """
import sqlite3, sys, threading
library, stack, *queries = sys.argv[1:]

def ask():
    db = sqlite3.connect(":memory:")
    db.enable_load_extension(True)
    db.load_extension(library)
    for query in queries:
        shape, _, depth = query.rpartition("@")
        a, b, c, d, e = shape.split("@")
        sql = a + b * int(depth) + c + d * int(depth) + e
        made = "CREATE VIRTUAL TABLE temp.r USING archive_query('" + sql.replace("'", "''") + "')"
        for call, arguments in [("SELECT * FROM archive_query(?)", [sql]), (made, [])]:
            try:
                print("found", len(db.execute(call, arguments).fetchall()))
            except sqlite3.Error as error:
                print("error", str(error)[:200].replace(chr(10), " "))
        db.execute("DROP TABLE IF EXISTS temp.r")
        print(db.execute("SELECT row FROM archive_query('SELECT 5 AS n')").fetchone()[0])

threading.stack_size(int(stack))
thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""


def ask(queries, stack=8 << 20):
    """What a process says that asks queries in a thread with a stack of this size: what each gives,
    or how it fails, in both ways to ask it."""
    with process(DEEP, LIBRARY.with_suffix(""), stack, *queries) as asking:
        output, errors = asking.communicate(timeout=120)
    assert asking.returncode == 0, (asking.returncode, output, errors[-500:])
    lines = output.splitlines()
    assert lines[2::3] == ['{"n":5}'] * len(queries), output
    for line in lines[::3] + lines[1::3]:
        assert line.startswith(("found", "error archive_query: ")), line
        assert "Stack Trace" not in line and "cold.so" not in line, line


# What comes before, what is repeated, the middle, what is repeated again, the end.
NESTED = {
    "parentheses": "SELECT @(@1@)@",
    "selects": "@(SELECT @1@)@",
    "from": "@SELECT * FROM (@SELECT 1@)@",
    "not": "SELECT @NOT @true@@",
    "minus": "SELECT @- @1@@",
    "sum": "SELECT 1@ + 1@@@",
    "and": "SELECT true@ AND true@@@",
    "lists": "SELECT @[@1@]@",
    "structs": "SELECT @{'a': @1@}@",
    "functions": "SELECT @abs(@1@)@",
    "case": "SELECT @CASE WHEN true THEN @1@ END@",
    "casts": "SELECT 1@::INTEGER@@@",
    "union": "SELECT 1@ UNION ALL SELECT 1@@@",
    "with": "@WITH a AS (@SELECT 1@) SELECT * FROM a@",
    "comments": "@/*@ SELECT 1@*/@",
    "lambda": "SELECT list_transform([1], lambda x: @(@x@)@)",
    "types": "SELECT NULL::INTEGER@[]@@@",
    "concatenation": "SELECT 'a'@ || 'a'@@@",
    "joins": "SELECT 1 FROM range(1)@, range(1)@@@",
}


@pytest.mark.parametrize("stack", [8 << 20, 1 << 20], ids=["", "small stack"])
@pytest.mark.parametrize("shape", NESTED)
def test_a_deeply_nested_query_does_not_crash_the_host(shape, stack):
    """However deep: an answer or an error, and the connection goes on."""
    # Where DuckDB takes all of them, its time goes with the square of their number.
    most = {"union": 1500, "and": 3000, "joins": 3000}
    depths = (300, 490, 3000, most.get(shape, 100_000))
    ask([f"{NESTED[shape]}@{depth}" for depth in depths], stack)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1\0",
        "SELECT '\0' AS v",
        "\0SELECT 1",
        "SELECT 1 AS v\0; DROP TABLE t",
        "SELECT \0 1",
    ],
)
def test_a_nul_character_in_a_query(db, sql):
    """What comes after it is neither lost nor run."""
    message, found = failure(db, "SELECT row FROM archive_query(?)", [sql])
    assert (message or "").startswith("archive_query: ") or found == [('{"v":"\\u0000"}',)]


EPONYMOUS = "SELECT * FROM archive_query({})"
CREATED = "CREATE VIRTUAL TABLE temp.r USING archive_query({})"


@pytest.mark.parametrize("call", [EPONYMOUS, CREATED], ids=["eponymous", "created"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["SELECT ?"], ""),
        (["SELECT ?", "[]"], ""),
        (["SELECT ?", "[1, 2]"], ""),
        (["SELECT 1", "[1]"], ""),
        (["SELECT ?, ?", "[1]"], ""),
        (["SELECT $3", "[1, 2]"], ""),
        (["SELECT ?", "{}"], "array"),
        (["SELECT ?", '{"1": 5}'], "array"),
        (["SELECT ?", "5"], "array"),
        (["SELECT ?", '"x"'], "array"),
        (["SELECT ?", "x"], "array"),
        (["SELECT ?", ""], "array"),
        (["SELECT ?", "[1"], "array"),
        (["SELECT ?", "[1] [2]"], "array"),
        (["SELECT ?", "[NaN]"], "array"),
        (["SELECT ?", "[[1]]"], ""),
        (["SELECT ?", "[{}]"], ""),
        (["SELECT 1", "[]", "x"], "option"),
        (["SELECT 1", "[]", "[]"], "option"),
        (["SELECT 1", "[]", "5"], "option"),
        (["SELECT 1", "[]", ""], "option"),
        (["SELECT 1", "[]", '{"threads": 1}'], "threads"),
        (["SELECT 1", "[]", '{"timestamps": "x"}'], "timestamps"),
        (["SELECT 1", "[]", '{"timestamps": 5}'], "timestamps"),
        (["SELECT 1", "[]", '{"Timestamps": "text"}'], "Timestamps"),
        (["SELECT 1", "[]", '{"timestamps": "text", "timestamps": "text"}'], "twice"),
        (["SELECT 1", "[]", "{}", "x"], ""),
    ],
)
def test_wrong_arguments(db, call, arguments, words):
    """An error that says which argument is wrong, and no table."""
    message, found = failure(db, call.format(", ".join(map(literal, arguments))))
    if message is None and call == CREATED:
        message, found = failure(db, "SELECT * FROM temp.r")
    assert message, found
    if len(arguments) < 4 or call == CREATED:
        assert message.startswith("archive_query: "), message
    assert "internal error" not in message and words.lower() in message.lower(), message
    assert objects(db, "SELECT 5 AS n") == [{"n": 5}]


@pytest.mark.parametrize("argument", ["", "NULL", "5", "1.5", "x'53454c4543542031'"])
def test_a_query_that_is_no_text(db, argument):
    """The query is a text."""
    message, _ = failure(db, EPONYMOUS.format(argument))
    assert message and message.startswith("archive_query: ") and "text" in message, message


@pytest.mark.parametrize("arguments", ["(SELECT 1)", "('SELECT 1', [])", "(5)", "(NULL)"])
def test_a_report_of_no_text(db, arguments):
    """The arguments of a table are texts in quotes."""
    message, _ = failure(db, f"CREATE VIRTUAL TABLE temp.r USING archive_query{arguments}")
    assert message and message.startswith("archive_query: "), message
    assert failure(db, "SELECT * FROM temp.r")[0].startswith("no such table")


@pytest.mark.parametrize("arguments", ["NULL", "NULL, NULL", "'[]', NULL", "NULL, '{}'"])
def test_arguments_that_are_null(db, arguments):
    """NULL in the place of parameters or options is none, and not a query without rows."""
    found = db.execute(f"SELECT row FROM archive_query('SELECT 5 AS n', {arguments})")
    assert found.fetchall() == [('{"n":5}',)]


def test_parameters(db):
    """Each kind of JSON value is bound as what it is."""
    values = [None, True, False, 0, -1, 2**63 - 1, -(2**63), 1.5, -0.0, 1e300, "", "x", "1"]
    values.append("é\0\n'\"\U0001f600")
    marks = ", ".join(f"? AS c{n}" for n in range(len(values)))
    expected = [int(v) if isinstance(v, bool) else v for v in values]
    (row,) = typed(db, f"SELECT {marks}", values)
    assert repr(list(row)) == repr(expected)
    kinds = typed(db, "SELECT typeof(?), typeof(?), typeof(?), typeof(?)", [True, 5, 1.5, "x"])
    assert kinds == [("BOOLEAN", "BIGINT", "DOUBLE", "VARCHAR")]
    assert typed(db, "SELECT $2 || $1 || $2", ["a", "b"]) == [("bab",)]
    injected = "'); DROP TABLE t; --"
    assert objects(db, "SELECT ? AS v", [injected]) == [{"v": injected}]


def test_arguments_of_each_row(db):
    """Called for each row of another table, it takes that row's query and parameters."""
    db.execute("CREATE TABLE asked (sql, parameters)")
    asked = [["SELECT 1 AS v", None], ["SELECT ? + 1 AS v", "[1]"], ["SELECT 3 AS v", "[]"]]
    db.executemany("INSERT INTO asked VALUES (?, ?)", asked)
    found = db.execute(
        "SELECT row ->> '$.v' FROM asked, archive_query(asked.sql, asked.parameters) ORDER BY 1"
    )
    assert found.fetchall() == [(1,), (2,), (3,)]


def test_after_any_error_the_next_query_works(db):
    """A failed query leaves the connection as it was."""
    for sql in [
        "SELECT error('stop')",
        "SELECT 'x'::INTEGER",
        "SELECT * FROM nothing",
        "SELEC 1",
        "SELECT sum(range) FROM range(10) WHERE error('late') IS NULL",
        "SELECT 9223372036854775807 + range FROM range(5)",
        "SELECT DATE '2024-13-01'",
        "SET threads = 1",
    ]:
        message, found = failure(db, "SELECT * FROM archive_query(?)", [sql])
        assert message and message.startswith("archive_query: "), found
        assert objects(db, "SELECT 5 AS n") == [{"n": 5}]


@pytest.mark.parametrize("begin", ["", "BEGIN"])
def test_an_error_in_the_midst_of_the_rows(db, begin):
    """It is an error of the statement and not the end of the rows; a transaction goes on."""
    db.execute("CREATE TABLE p (x)")
    db.execute(begin)
    db.execute("INSERT INTO p VALUES (1)")
    sql = (
        "SELECT CASE WHEN range = 90000 THEN error('at last') ELSE range END AS v FROM range(99999)"
    )
    create_report(db, sql)
    assert "at last" in failure(db, "SELECT v FROM report")[0]
    assert "at last" in failure(db, "SELECT max(v) FROM report")[0]
    assert db.in_transaction == bool(begin)
    assert db.execute("SELECT count(*) FROM p").fetchall() == [(1,)]


# Calls of operators by their names are not checked by DuckDB 2.0.0 as operators are, which reads
# wrong memory; others end in its internal errors.
ODD_CALLS = [f'"{name}"({{}})' for name in ["=", "!=", "<", "<=", ">", ">=", "<>", "=="]]
ODD_CALLS += ['"IS DISTINCT FROM"({})', '"IS NOT DISTINCT FROM"({})', 'main."="({})']
ODD_CALLS += ["decimal_division({})", "list_resize(1::VARIANT, {})", "array_resize(1::VARIANT, {})"]


@pytest.mark.parametrize("call", ODD_CALLS)
def test_a_call_of_what_is_no_function_does_not_crash_the_host(call):
    """An answer or an error without DuckDB's stack, and the connection goes on."""
    arguments = ["{'a': 1}, 1", "{'a': 1}, [1, 2]", "1, 'x'", "NULL, 'x'", "1, 2", "-1"]
    ask([f"SELECT {call.format(one)} FROM range(2)@@@@@0" for one in arguments])
