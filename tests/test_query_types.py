"""Values on their way to DuckDB and back: each type of DuckDB's becomes a class of SQLite's, and each
value of SQLite's, hot or cold, comes back as it was unless the README says otherwise."""

import contextlib
import decimal
import itertools
import json
import tempfile

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conftest import archive, connect, create_report, needs_duckdb, objects, typed
from test_values import ENCODINGS, TABLES, TYPED, Raw, create, open_database, tables

pytestmark = needs_duckdb

INFINITY = float("inf")
TEXTS = {"timestamps": "text"}

# What DuckDB makes, what it is in SQLite, and in `row` if that is another value.
VALUES = [
    ("true", 1),
    ("false", 0),
    ("1 < 2", 1),
    ("(-128)::TINYINT", -128),
    ("127::TINYINT", 127),
    ("(-32768)::SMALLINT", -32768),
    ("2147483647::INTEGER", 2**31 - 1),
    ("9223372036854775807::BIGINT", 2**63 - 1),
    ("(-9223372036854775808)::BIGINT", -(2**63)),
    ("255::UTINYINT", 255),
    ("65535::USMALLINT", 65535),
    ("4294967295::UINTEGER", 2**32 - 1),
    ("9223372036854775807::UBIGINT", 2**63 - 1),
    ("9223372036854775808::UBIGINT", "9223372036854775808"),
    ("18446744073709551615::UBIGINT", "18446744073709551615"),
    ("0::HUGEINT", 0),
    ("9223372036854775807::HUGEINT", 2**63 - 1),
    ("(-9223372036854775808)::HUGEINT", -(2**63)),
    ("9223372036854775808::HUGEINT", "9223372036854775808"),
    ("(-9223372036854775809)::HUGEINT", "-9223372036854775809"),
    ("170141183460469231731687303715884105727::HUGEINT", str(2**127 - 1)),
    ("(-170141183460469231731687303715884105728)::HUGEINT", str(-(2**127))),
    ("5::UHUGEINT", 5),
    ("340282366920938463463374607431768211455::UHUGEINT", str(2**128 - 1)),
    ("(SELECT sum(x) FROM range(10) t(x))", 45),
    ("(SELECT sum(9223372036854775807) FROM range(4))", str(4 * (2**63 - 1))),
    ("0.5::FLOAT", 0.5),
    ("'-0.0'::FLOAT", -0.0),
    ("3.4028234663852886e38::FLOAT", 3.4028234663852886e38),
    ("'inf'::FLOAT", INFINITY),
    ("'nan'::FLOAT", None),
    ("0.1::DOUBLE", 0.1),
    ("3::DOUBLE", 3.0),
    ("'-0.0'::DOUBLE", -0.0),
    ("1.7976931348623157e308::DOUBLE", 1.7976931348623157e308),
    ("5e-324::DOUBLE", 5e-324),
    ("'inf'::DOUBLE", INFINITY),
    ("'-inf'::DOUBLE", -INFINITY),
    ("'nan'::DOUBLE", None),
    ("'-nan'::DOUBLE", None),
    ("1.5", 1.5),
    ("(-999.9)::DECIMAL(4, 1)", -999.9),
    ("0.1::DECIMAL(18, 3)", 0.1),
    ("3::DECIMAL(9, 2)", 3.0),
    ("99999999999999.9::DECIMAL(15, 1)", 99999999999999.9),
    ("123456789012345::DECIMAL(15, 0)", 123456789012345),
    ("(-9223372036854775808)::DECIMAL(38, 0)", -(2**63)),
    ("9223372036854775808::DECIMAL(38, 0)", "9223372036854775808"),
    ("0.000000000000000000000000000000000001::DECIMAL(38, 36)", 1e-36),
    ("1234567890123456.5::DECIMAL(38, 1)", "1234567890123456.5"),
    ("(-1.2345678901234567)::DECIMAL(17, 16)", "-1.2345678901234567"),
    ("99999999999999999999999999999999999999::DECIMAL(38, 0)", "9" * 38),
    ("'text'", "text"),
    ("''", ""),
    ("'12'", "12"),
    ("'it''s é 日本 \U0001f600 \\ \"quoted\"'", 'it\'s é 日本 \U0001f600 \\ "quoted"'),
    ("'a' || chr(0) || chr(10) || chr(31) || chr(127) || 'b'", "a\0\n\x1f\x7fb"),
    ("repeat('é', 70000)", "é" * 70000),
    ("'\\x00\\xFF'::BLOB", b"\0\xff", "00FF"),
    ("''::BLOB", b"", ""),
    ("repeat('ab', 50000)::BLOB", b"ab" * 50000, "6162" * 50000),
    ("DATE '2024-02-29'", "2024-02-29"),
    ("DATE '9999-12-31'", "9999-12-31"),
    ("DATE '0001-01-01'", "0001-01-01"),
    ("DATE '12024-02-29'", "12024-02-29"),
    ("DATE 'infinity'", "infinity"),
    ("DATE '0044-03-15 (BC)'", "0044-03-15 (BC)"),
    ("TIME '01:02:03'", "01:02:03"),
    ("TIME '23:59:59.123456'", "23:59:59.123456"),
    ("'23:59:59.123456789'::TIME_NS", "23:59:59.123456789"),
    ("'01:02:03+05:30'::TIMETZ", "01:02:03+05:30"),
    ("TIMESTAMP '2024-02-29 01:02:03'", "2024-02-29 01:02:03"),
    ("TIMESTAMP '2024-02-29 01:02:03.5'", "2024-02-29 01:02:03.5"),
    ("TIMESTAMP '1969-12-31 23:59:59.999999'", "1969-12-31 23:59:59.999999"),
    ("TIMESTAMP '-infinity'", "-infinity"),
    ("'2024-02-29 01:02:03'::TIMESTAMP_S", "2024-02-29 01:02:03"),
    ("'2024-02-29 01:02:03.004'::TIMESTAMP_MS", "2024-02-29 01:02:03.004"),
    ("'2024-02-29 01:02:03.000000001'::TIMESTAMP_NS", "2024-02-29 01:02:03.000000001"),
    ("'2024-02-29 01:02:03+02'::TIMESTAMPTZ", "2024-02-28 23:02:03+00"),
    ("INTERVAL '1 year 2 days 3 hours'", "1 year 2 days 03:00:00"),
    ("INTERVAL (-90) SECOND", "-00:01:30"),
    ("DATE '2024-03-01' - DATE '2024-02-01'", 29),
    ("'00000000-0000-0000-0000-00000000abcd'::UUID", "00000000-0000-0000-0000-00000000abcd"),
    ("'b'::ENUM('a', 'b')", "b"),
    ("'0010101'::BIT", "0010101"),
    ("[1, NULL, 3]", "[1,null,3]"),
    ("[]::INTEGER[]", "[]"),
    ("[[1], [], NULL]", "[[1],[],null]"),
    ("[1.5, 2]", "[1.5,2.0]"),
    ("['a\"b', 'é', NULL, '']", '["a\\"b","é",null,""]'),
    ("[DATE '2024-01-01']", '["2024-01-01"]'),
    ("[true, false]", "[true,false]"),
    ("array_value(1, 2, 3)", "[1,2,3]"),
    ("{'a': 1, 'b': 'x', 'c': NULL}", '{"a":1,"b":"x","c":null}'),
    ("{'it''s \"it\"': [{'deep': {'er': 1}}]}", '{"it\'s \\"it\\"":[{"deep":{"er":1}}]}'),
    ("MAP {'k': 1, 'l': NULL}", '{"k":1,"l":null}'),
    ("MAP {1: [2, 3]}", '{"1":[2,3]}'),
    ("MAP {}", "{}"),
    ("row(1, 'x')", '[1,"x"]'),
    ("union_value(a := 5)", 5),
    ("union_value(a := 'x')::UNION(n INTEGER, a VARCHAR)", "x"),
    ("union_value(b := 'ab'::BLOB)", b"ab", "6162"),
    ("union_value(a := 5.5::DOUBLE)::UNION(a DOUBLE, b VARCHAR)", 5.5),
    ("NULL::UNION(a DOUBLE, b VARCHAR)", None),
    ("'{\"b\": [1, 2]}'::JSON ->> '$.b[1]'", "2"),
    ("NULL", None),
]
TYPES = """BOOLEAN TINYINT SMALLINT INTEGER BIGINT UTINYINT USMALLINT UINTEGER UBIGINT HUGEINT UHUGEINT
FLOAT DOUBLE DECIMAL(4,1) DECIMAL(9,4) DECIMAL(18,6) DECIMAL(38,10) VARCHAR BLOB DATE TIME TIME_NS TIMETZ
TIMESTAMP TIMESTAMP_S TIMESTAMP_MS TIMESTAMP_NS TIMESTAMPTZ INTERVAL UUID BIT INTEGER[] INTEGER[2] JSON
ENUM('a') STRUCT(a&INTEGER) MAP(VARCHAR,INTEGER) UNION(a&INTEGER) BIGNUM""".replace(
    "\n", " "
).split()


def ids(cases):
    return [f"{case[0]:.40}" for case in cases]


def answer(db, sql, parameters=()):
    return db.execute(sql, parameters).fetchall()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A connection for queries without tables."""
    with contextlib.closing(connect(tmp_path_factory.mktemp("types") / "test.db")) as db:
        yield db


def strict(text):
    """JSON as SQLite and everything else reads it."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON: {text:.200}")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("case", VALUES, ids=ids(VALUES))
def test_a_value_of_duckdb_in_sqlite(one, case):
    """The class and the value, in a table and in an object."""
    made, expected, in_json = case[0], case[1], case[-1]
    sql = f"SELECT {made} AS v"
    ((value,),) = typed(one, sql)
    assert repr(value) == repr(expected)
    ((found, row),) = answer(one, "SELECT row ->> '$.v', row FROM archive_query(?)", [sql])
    if isinstance(in_json, str) and in_json[:1] not in ("[", "{"):
        # The JSON functions of SQLite end a text at a NUL character.
        found = strict(row)["v"]
    assert repr(found) == repr(in_json)
    assert list(strict(row)) == ["v"]


@pytest.mark.parametrize("name", TYPES)
def test_null_of_every_type(one, name):
    """NULL is NULL."""
    sql = f"SELECT NULL::{name.replace('&', ' ')} AS v, 1 AS w"
    assert typed(one, sql) == [(None, 1)]
    assert objects(one, sql) == [{"v": None, "w": 1}]


def test_all_types_at_once(one):
    """A wide result of every type, with rows of values and of NULLs."""
    columns = ", ".join(f"{case[0]} AS c{n}" for n, case in enumerate(VALUES))
    one_row = f"WITH one AS (SELECT {columns}) SELECT i, COLUMNS(one.*) FROM range(3) AS r(i)"
    rows = typed(one, f"{one_row} LEFT JOIN one ON i % 2 = 0 ORDER BY i")
    values = tuple(case[1] for case in VALUES)
    assert repr(rows) == repr([(0, *values), (1, *[None] * len(values)), (2, *values)])


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    number=st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-(10**16), 10**16),
    scale=st.integers(0, 37),
)
def test_decimals_are_exact(one, number, scale):
    """A DECIMAL is a REAL that shows its digits, or their text; an INTEGER if it has no fraction."""
    value = decimal.Decimal(number).scaleb(-scale, decimal.Context(prec=50))
    text = f"{value:f}"
    ((found,),) = typed(one, f"SELECT '{text}'::DECIMAL(38, {scale}) AS v")
    assert decimal.Decimal(repr(found) if isinstance(found, float) else found) == value
    if scale and len(str(abs(number))) <= 15:
        assert isinstance(found, float)
    if not scale:
        assert isinstance(found, int) == (-(2**63) <= number < 2**63)


def test_names_of_columns(one):
    """Two columns never share a name; a table's names differ by more than case."""
    sql = 'SELECT 1 AS id, 2 AS id, 3 AS "ID", 4 AS id_1, 5 AS "a b", 6 AS "it\'s ""x"""'
    assert typed(one, sql) == [(1, 2, 3, 4, 5, 6)]
    names = [name.lower() for _, name, *_ in answer(one, "PRAGMA temp.table_info(report)")]
    assert len(set(names)) == 6
    ((row,),) = answer(one, "SELECT row FROM archive_query(?)", [sql])
    assert sorted(strict(row).values()) == [1, 2, 3, 4, 5, 6]
    ((row,),) = answer(one, "SELECT row FROM archive_query('SELECT 1 AS id, 2 AS id')")
    assert row == '{"id":1,"id_1":2}'


def test_columns_are_declared(one):
    """A table's columns have types, so that SQLite compares them as it does its own."""
    create_report(
        one, "SELECT 5 AS n, 2.5::DOUBLE AS r, 'x' AS t, 'x'::BLOB AS b, DATE '2024-01-01' AS d"
    )
    declared = dict(answer(one, "SELECT name, type FROM pragma_table_info('report')"))
    assert declared["n"] in ("INTEGER", "BIGINT") and declared["r"] in ("REAL", "DOUBLE")
    assert declared["t"] in ("TEXT", "VARCHAR") and declared["b"] == "BLOB"
    assert answer(one, "SELECT count(*) FROM report WHERE n = '5' AND r = '2.5'") == [(1,)]
    assert answer(one, "SELECT count(*) FROM report WHERE d < '2024-01-02'") == [(1,)]


# Values of SQLite's. Each kind has some that are easily changed on the way.

KINDS = {
    "integer": [0, -1, 5, 2**53, -(2**40)],
    "large": [2**63 - 1, -(2**63), 2**53 + 1],
    "real": [0.5, -0.0, 1e300, INFINITY, -INFINITY, 5e-324, 3.0],
    "text": ["", "text", "12", "1.0", "é\U0001f600", "a\0b", "\ufeffx", "'\"\\\n"],
    "blob": [b"", b"\0", b"\xff\xfe", b"text"],
    "raw": [Raw(b"\xff"), Raw(b"a\0\xff"), Raw(b"\xed\xa0\x80")],
}
MEMBERS = {"large": "integer", "raw": "text_raw"}
DUCKDB = {
    "integer": "BIGINT",
    "real": "DOUBLE",
    "text": "VARCHAR",
    "blob": "BLOB",
    "text_raw": "BLOB",
}
# Which rows have the values: those of two cold files, and hot ones.
FIRST, SECOND, HOT = "2020-01-01", "2020-02-01", "2999-01-01"


def build(db, columns, declared=""):
    """A table with these columns, each of which has values for its rows: {name: {time: values}}."""
    names = "".join(f", {name} {declared}" for name in columns)
    db.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT{names})")
    for when in (FIRST, SECOND, HOT):
        rows = itertools.zip_longest(*(values.get(when, []) for values in columns.values()))
        for row in rows:
            marks = [f"CAST(x'{v.hex()}' AS TEXT)" if isinstance(v, Raw) else "?" for v in row]
            bound = [v for v in row if not isinstance(v, Raw)]
            db.execute(
                f"INSERT INTO t (created_at{''.join(f', {n}' for n in columns)})"
                f" VALUES ('{when}', {', '.join(marks)})",
                bound,
            )
    cold = answer(db, "SELECT count(*) FROM t WHERE created_at < '2021'")[0][0]
    db.execute("INSERT INTO t (created_at) VALUES (?)", [HOT])
    assert archive(db, "t", 7)["rows"] == cold


def exactly(db, source, columns):
    """The class of each value, and its bytes or its number, in the order of the ids."""
    cells = [
        f"typeof({c}), CASE WHEN typeof({c}) IN ('text', 'blob') THEN CAST({c} AS BLOB) ELSE {c} END"
        for c in columns
    ]
    rows = answer(db, f"SELECT {', '.join(cells)} FROM {source} ORDER BY id")
    return [list(zip(row[::2], row[1::2], strict=True)) for row in rows]


def as_double(column):
    """A column as DuckDB has it: where there are integers and reals, the integers are reals."""
    large = [value for kind, value in column if kind == "integer" and abs(value) > 2**53]
    if {kind for kind, _ in column} - {"null"} != {"integer", "real"} or large:
        return column
    return [("real", float(v)) if kind == "integer" else (kind, v) for kind, v in column]


def raw_as_blob(column, encoding):
    """A column as it comes back: text that is not valid is a BLOB."""

    def malformed(text):
        try:
            text.decode(encoding)
        except UnicodeDecodeError:
            return True
        return False

    return [("blob", v) if kind == "text" and malformed(v) else (kind, v) for kind, v in column]


def combinations():
    """Columns with every pair of kinds, in every place: {name: ({kind}, {time: values})}."""
    made = {}
    for one, two in itertools.combinations_with_replacement(KINDS, 2):
        a, b = KINDS[one], KINDS[two]
        places = {
            "cold": {FIRST: a + [None] + b},
            "files": {FIRST: a, SECOND: [None, *b]},
            "sides": {FIRST: a, HOT: b + [None]},
            "seldis": {FIRST: b, HOT: a},
            "hot": {HOT: a + b},
        }
        for place, values in places.items():
            made[f"{one}_{two}_{place}"] = ({one, two}, values)
    return made


def duckdb_type(kinds):
    """What a column with these kinds is in DuckDB."""
    if kinds <= {"integer", "large"}:
        return "BIGINT"
    if kinds <= {"integer", "real"}:
        return "DOUBLE"
    if len(kinds) == 1 and "raw" not in kinds:
        return DUCKDB[min(kinds)]
    members = {MEMBERS.get(kind, kind) for kind in kinds}
    return "UNION(%s)" % ", ".join(f'"{m}" {DUCKDB[m]}' for m in DUCKDB if m in members)


@pytest.fixture(scope="module", params=ENCODINGS)
def mixtures(request, tmp_path_factory):
    """A database with all pairs of kinds of values."""
    path = tmp_path_factory.mktemp("mixtures")
    with contextlib.closing(open_database(path, request.param)) as db:
        db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        made = combinations()
        build(db, {name: values for name, (_, values) in made.items()})
        yield db, made, request.param


def test_the_type_of_a_column_follows_its_values(mixtures):
    """Columns of one class have its type, integers and reals are DOUBLE, others are a UNION."""
    db, made, encoding = mixtures
    asked = ", ".join(f"any_value(typeof({name}))" for name in made)
    (types,) = typed(db, f"SELECT {asked} FROM t")
    wrong = {}
    for found, (name, (kinds, _)) in zip(types, made.items(), strict=True):
        # In UTF-16 other bytes are malformed than in UTF-8, so those columns are only read.
        if found.replace('"', "") != duckdb_type(kinds).replace('"', "") and (
            encoding == "UTF-8" or "raw" not in kinds
        ):
            wrong[name] = found
    assert wrong == {}


def test_values_of_every_mixture_come_back(mixtures):
    """Each value has its class and its bytes; integers in a DOUBLE column are reals, and text that is
    not valid is a BLOB."""
    db, made, encoding = mixtures
    create_report(db, f"SELECT id, {', '.join(made)} FROM t")
    found, expected = exactly(db, "report", made), exactly(db, "all_t", made)
    for name, one, two in zip(made, zip(*found), zip(*expected), strict=True):
        assert repr(list(one)) == repr(raw_as_blob(as_double(two), encoding)), name


def test_members_of_a_union(path):
    """Mixed columns are asked for by member, cast, grouped and compared as DuckDB does with a UNION."""
    with contextlib.closing(connect(path)) as db:
        values = [1, "one", 2, 1, None, "1", b"1", 1.5, "one"]
        build(db, {"u": {FIRST: values[:4], HOT: values[4:]}})
        members = 'sum(u."integer"), max(u."real"), min(u."text"), count(u."blob"), count(u)'
        assert typed(db, f"SELECT {members} FROM t") == [(4, 1.5, "1", 1, 8)]
        groups = "SELECT u, count(*) FROM t GROUP BY u"
        expected = [(1, 2), ("one", 2), (2, 1), (None, 2), ("1", 1), (b"1", 1), (1.5, 1)]
        assert sorted(typed(db, groups), key=repr) == sorted(expected, key=repr)
        assert typed(db, "SELECT count(*) FROM t WHERE u::VARCHAR = 'one'") == [(2,)]
        tags = "SELECT union_tag(u)::VARCHAR AS tag, count(*) FROM t WHERE u IS NOT NULL GROUP BY 1 ORDER BY 1"
        assert typed(db, tags) == [("blob", 1), ("integer", 3), ("real", 1), ("text", 3)]
        shown = objects(db, "SELECT u FROM t WHERE u IS NOT NULL ORDER BY id")
        assert [row["u"] for row in shown] == [1, "one", 2, 1, "1", "31", 1.5, "one"]


@pytest.mark.parametrize("first", ["a", "a TEXT", "a INTEGER", "a REAL", "a BLOB"])
@pytest.mark.parametrize(
    "sql", ["SELECT count(*) FROM {}", "SELECT 1 FROM {}", "SELECT 1 FROM {} x, {} y"]
)
def test_queries_that_name_no_column(db, sql, first):
    """Rows are counted, whatever the values are that nobody asked for."""
    db.execute(f"CREATE TABLE t ({first}, created_at TEXT)")
    for when in (FIRST, HOT):
        db.executemany(
            "INSERT INTO t VALUES (?, ?)", [[v, when] for v in (5, "x", b"y", 2.5, None)]
        )
    db.execute("CREATE TABLE plain AS SELECT * FROM t")
    db.execute("CREATE VIEW v AS SELECT a, created_at FROM t")
    archive(db, "t", 7)
    for name, same in {"t": "all_t", "hot_t": "t", "plain": "plain", "v": "v"}.items():
        expected = answer(db, sql.format(same, same))
        assert typed(db, sql.format(name, name)) == expected and expected, name


# Ways to mean columns of t (a: mixed, b: timestamps, c: text) without naming all of them, and what
# SQLite answers to the same question.
WAYS = [
    ("SELECT * FROM t ORDER BY id", "SELECT id, created_at, a, b, c FROM all_t ORDER BY id"),
    ("FROM t ORDER BY id", "SELECT id, created_at, a, b, c FROM all_t ORDER BY id"),
    ("FROM t ORDER BY ALL", "SELECT id, created_at, a, b, c FROM all_t ORDER BY id"),
    ("(TABLE t) ORDER BY 1", "SELECT id, created_at, a, b, c FROM all_t ORDER BY id"),
    ("SELECT x.* FROM t AS x ORDER BY id", "SELECT id, created_at, a, b, c FROM all_t ORDER BY id"),
    ("SELECT * EXCLUDE (id, b) FROM t ORDER BY c", "SELECT created_at, a, c FROM all_t ORDER BY c"),
    (
        "SELECT * REPLACE (1 AS id) FROM t ORDER BY c",
        "SELECT 1, created_at, a, b, c FROM all_t ORDER BY c",
    ),
    (
        "SELECT * RENAME (a AS z) FROM t ORDER BY c",
        "SELECT id, created_at, a, b, c FROM all_t ORDER BY c",
    ),
    ("SELECT COLUMNS('[ac]$') FROM t ORDER BY c DESC", "SELECT a, c FROM all_t ORDER BY c DESC"),
    (
        "SELECT COLUMNS(lambda n: n IN ('a', 'c')) FROM t ORDER BY c",
        "SELECT a, c FROM all_t ORDER BY c",
    ),
    ("SELECT COLUMNS(['a', 'c']) FROM t ORDER BY c", "SELECT a, c FROM all_t ORDER BY c"),
    ("SELECT #3, #5 FROM t ORDER BY id", "SELECT a, c FROM all_t ORDER BY id"),
    (
        "SELECT r.a, r.c FROM (SELECT t AS r FROM t) ORDER BY r.id",
        "SELECT a, c FROM all_t ORDER BY id",
    ),
    ("SELECT (t).c FROM t ORDER BY id", "SELECT c FROM all_t ORDER BY id"),
    ("SELECT T.C FROM T ORDER BY t.ID", "SELECT c FROM all_t ORDER BY id"),
    ("SELECT main.t.c FROM main.t ORDER BY id", "SELECT c FROM all_t ORDER BY id"),
    (
        "SELECT y, w FROM t AS x(v, w, y, z) ORDER BY v",
        "SELECT a, created_at FROM all_t ORDER BY id",
    ),
    (
        "WITH x(v, w, y, z, u) AS (FROM t) SELECT y, u FROM x ORDER BY v",
        "SELECT a, c FROM all_t ORDER BY id",
    ),
    ("WITH x AS (FROM t) SELECT a, c FROM x ORDER BY id", "SELECT a, c FROM all_t ORDER BY id"),
    ("SELECT a, c FROM (FROM t) ORDER BY id", "SELECT a, c FROM all_t ORDER BY id"),
    (
        "SELECT a, c FROM t NATURAL JOIN (SELECT id FROM t) ORDER BY id",
        "SELECT a, c FROM all_t ORDER BY id",
    ),
    (
        "SELECT c FROM t NATURAL JOIN (SELECT * FROM t) ORDER BY id",
        "SELECT c FROM all_t WHERE c IS NOT NULL AND a IS NOT NULL AND b IS NOT NULL ORDER BY id",
    ),
    (
        "SELECT id FROM t JOIN t AS u USING (c, id) ORDER BY id",
        "SELECT id FROM all_t WHERE c IS NOT NULL ORDER BY id",
    ),
    (
        "SELECT * FROM query_table('t') ORDER BY id",
        "SELECT id, created_at, a, b, c FROM all_t ORDER BY id",
    ),
    ("SELECT a FROM query_table(['t']) ORDER BY id", "SELECT a FROM all_t ORDER BY id"),
    ("SELECT count(DISTINCT t) FROM t", "SELECT count(*) FROM all_t"),
    ("SELECT count(*) FROM (SELECT DISTINCT * FROM t)", "SELECT count(*) FROM all_t"),
    ("SELECT count(*) FROM (FROM t UNION FROM t)", "SELECT count(*) FROM all_t"),
    ("SELECT count(*) FROM (FROM t EXCEPT FROM hot_t)", "SELECT count(*) FROM cold_t"),
    ("SELECT arg_max(t, id).c FROM t", "SELECT c FROM all_t ORDER BY id DESC LIMIT 1"),
    ("SELECT unnest(list(t ORDER BY id)).c FROM t", "SELECT c FROM all_t ORDER BY id"),
    ("SELECT (SELECT t.c) FROM t ORDER BY id", "SELECT c FROM all_t ORDER BY id"),
    (
        "SELECT u.c FROM t, LATERAL (SELECT t.*) AS u(i, w, a, b, c) ORDER BY i",
        "SELECT c FROM all_t ORDER BY id",
    ),
    (
        "SELECT value FROM (UNPIVOT (SELECT id, c FROM t) ON c) ORDER BY id",
        "SELECT c FROM all_t WHERE c IS NOT NULL ORDER BY id",
    ),
    (
        "SELECT id, 'c2' FROM (PIVOT t ON c IN ('c2') USING count(*)) WHERE c2 = 1 ORDER BY id",
        "SELECT id, c FROM all_t WHERE c = 'c2' ORDER BY id",
    ),
    ("SELECT c AS a FROM t ORDER BY id", "SELECT c AS a FROM all_t ORDER BY id"),
    (
        "SELECT sum(x) FROM (SELECT id AS x FROM t WHERE union_tag(a) = 'text')",
        "SELECT sum(id) FROM all_t WHERE typeof(a) = 'text'",
    ),
    (
        "SELECT list_transform([1], lambda x: c)[1] FROM t ORDER BY id",
        "SELECT c FROM all_t ORDER BY id",
    ),
    ("SELECT {'v': c}.v FROM t ORDER BY id", "SELECT c FROM all_t ORDER BY id"),
    (
        "SELECT c FROM t WINDOW w AS (ORDER BY id) QUALIFY row_number() OVER w = 2",
        "SELECT c FROM all_t ORDER BY id LIMIT 1 OFFSET 1",
    ),
    (
        "SELECT count(*) FROM t GROUP BY ROLLUP (c) HAVING grouping(c) = 1",
        "SELECT count(*) FROM all_t",
    ),
    (
        "SELECT c, count(*) FROM t GROUP BY ALL ORDER BY c",
        "SELECT c, count(*) FROM all_t GROUP BY c ORDER BY c",
    ),
]


@pytest.mark.parametrize("text", [False, True], ids=["typed", "text"])
@pytest.mark.parametrize("way", WAYS, ids=[way for way, _ in WAYS])
def test_columns_that_are_meant_without_their_names(ways, way, text):
    """Only the columns that a query needs are handed over, and those are, however it means them."""
    sql, same = way
    expected = answer(ways, same)
    # Typed, the column b shows another text.
    if not text:
        expected = [
            tuple(str(v)[:19].replace("T", " ") if v in STAMPS else v for v in row)
            for row in expected
        ]
    assert typed(ways, sql, options=TEXTS if text else None) == expected and expected


STAMPS = ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """A table with a mixed column, timestamps, and text that differs in each row."""
    with contextlib.closing(connect(tmp_path_factory.mktemp("ways") / "test.db")) as db:
        columns = {"a": {FIRST: [1, "x"], SECOND: [2.5, b"y"], HOT: ["z", 7]}}
        columns["b"] = {when: STAMPS for when in (FIRST, SECOND, HOT)}
        columns["c"] = {FIRST: ["c1", "c2"], SECOND: ["c3", "c4"], HOT: ["c5", "c6"]}
        build(db, columns)
        db.execute("DELETE FROM t WHERE c IS NULL")
        yield db


@pytest.mark.parametrize("cold", [False, True], ids=["hot", "cold"])
def test_columns_without_values_have_their_declared_type(path, cold):
    """NULLs alone do not tell a type."""
    with contextlib.closing(connect(path)) as db:
        declared = {
            "a": "INTEGER",
            "b": "REAL",
            "c": "TEXT",
            "d": "BLOB",
            "e": "BIGINT",
            "f": "VARCHAR(9)",
        }
        names = ", ".join(f"{name} {kind}" for name, kind in declared.items())
        db.execute(
            f"CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, {names})"
        )
        db.executemany("INSERT INTO t (created_at) VALUES (?)", [[FIRST], [HOT]])
        assert archive(db, "t", 7)["rows"] == 1
        if cold:
            db.execute("DELETE FROM t")
        types = ", ".join(f"typeof({name})" for name in declared)
        expected = ("BIGINT", "DOUBLE", "VARCHAR", "BLOB", "BIGINT", "VARCHAR")
        assert typed(db, f"SELECT DISTINCT {types} FROM t") == [expected]
        assert typed(db, "SELECT sum(a), avg(b), max(c), max(d) FROM t") == [(None,) * 4]


def test_integer_keys_of_any_size(path):
    """The smallest and the largest id are themselves, hot and cold."""
    keys = [-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 2, 2**63 - 1]
    with contextlib.closing(connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT)")
        for n, key in enumerate(keys):
            db.execute("INSERT INTO t VALUES (?, ?)", [key, [FIRST, HOT][n % 2]])
        assert archive(db, "t", 7)["rows"] > 0
        assert typed(db, "SELECT id FROM t ORDER BY id") == [(key,) for key in keys]
        found = typed(db, "SELECT id FROM t WHERE id IN (?, ?)", [keys[0], keys[-1]])
        assert sorted(found) == [(keys[0],), (keys[-1],)]


def test_large_values(path):
    """Text and blobs of megabytes come back whole, hot and cold."""
    values = ["é" * 3_000_000, bytes(range(256)) * 20_000, "x" * 9_000_000, b"\0" * 7_000_000]
    with contextlib.closing(connect(path)) as db:
        build(
            db,
            {
                "a": {FIRST: values[::2], HOT: values[::2]},
                "b": {FIRST: values[1::2], HOT: values[1::2]},
            },
        )
        found = typed(db, "SELECT a, b FROM t WHERE a IS NOT NULL ORDER BY id")
        assert found == [(values[0], values[1]), (values[2], values[3])] * 2
        shown = objects(db, "SELECT length(a) AS a, octet_length(b) AS b FROM t WHERE id = 3")
        assert shown == [{"a": 3_000_000, "b": 5_120_000}]


# Timestamps.

FRACTIONS = {"": "", ".123": ".123", ".120000": ".12", ".123456": ".123456"}
SHAPES = {"2024-02-29": ("DATE", "2024-02-29")}
for separator, zone in itertools.product(" T", ["", "Z", "+00:00"]):
    for fraction, shown in FRACTIONS.items():
        SHAPES[f"2024-02-29{separator}12:34:56{fraction}{zone}"] = (
            "TIMESTAMP",
            f"2024-02-29 12:34:56{shown}",
        )
    nano = f"2024-02-29{separator}12:34:56.123456789{zone}"
    SHAPES[nano] = ("TIMESTAMP_NS", "2024-02-29 12:34:56.123456789")


@pytest.mark.parametrize("sides", ["cold", "hot and cold", "two files"])
def test_timestamps_of_every_shape_are_typed(path, sides):
    """Text of one shape is a timestamp or a date in DuckDB, in UTC; as text, it is what it was."""
    with contextlib.closing(connect(path)) as db:
        other = {"cold": FIRST, "hot and cold": HOT, "two files": SECOND}[sides]
        columns = {
            f"c{n}": {FIRST: [text, text], other: [text, None, text]}
            for n, text in enumerate(SHAPES)
        }
        build(db, columns)
        types = ", ".join(f"any_value(typeof({name}))" for name in columns)
        (found,) = typed(db, f"SELECT {types} FROM t")
        assert dict(zip(SHAPES, found)) == {text: type_ for text, (type_, _) in SHAPES.items()}
        values = ", ".join(f"max({name})" for name in columns)
        (found,) = typed(db, f"SELECT {values} FROM t")
        assert dict(zip(SHAPES, found)) == {text: shown for text, (_, shown) in SHAPES.items()}
        expected = answer(db, "SELECT * FROM all_t ORDER BY id")
        assert typed(db, "SELECT * FROM t ORDER BY id", options=TEXTS) == expected
        (found,) = typed(db, f"SELECT {types} FROM t", options=TEXTS)
        assert set(found) == {"VARCHAR"}


def test_timestamps_of_different_shapes_in_one_column(path):
    """Files and hot rows may each have a shape of their own: an instant is the same in all of them."""
    shapes = [
        "2024-02-29 12:00:00",
        "2024-02-29T12:00:00Z",
        "2024-02-29T12:00:00.000+00:00",
        "2024-02-29",
    ]
    with contextlib.closing(connect(path)) as db:
        columns, pairs = {}, list(itertools.permutations(shapes[:3], 3))
        for n, (one, two, three) in enumerate(pairs):
            columns[f"c{n}"] = {FIRST: [one], SECOND: [two], HOT: [three]}
        columns["dated"] = {FIRST: [shapes[3]], SECOND: [shapes[0]], HOT: [shapes[1]]}
        columns["hot_dated"] = {FIRST: [shapes[0]], SECOND: [shapes[0]], HOT: [shapes[3]]}
        build(db, columns)
        for name in columns:
            # A date is no instant, so dates and timestamps together stay text.
            kind = [(2 + (name == "dated"), "VARCHAR")] if "dated" in name else [(1, "TIMESTAMP")]
            sql = "SELECT count(DISTINCT {0}), any_value(typeof({0})) FROM t".format(name)
            assert typed(db, sql) == kind, name
        expected = answer(db, "SELECT * FROM all_t ORDER BY id")
        assert typed(db, "SELECT * FROM t ORDER BY id", options=TEXTS) == expected
        sql = "SELECT dated, hot_dated FROM {} ORDER BY id"
        assert typed(db, sql.format("t")) == answer(db, sql.format("all_t"))


ODD = [
    "yesterday",
    "",
    "2024-02-30",
    "2024-01-01 24:00:00",
    "2024-01-01 1:02:03",
    "2024-1-1",
    "+024-01-01",
]
ODD += [
    "2024-01-01T00:00:00-05:00",
    "2024-01-01 00:00:00 ",
    "2024-01-01\0",
    "now",
    "infinity",
    "epoch",
]


@pytest.mark.parametrize("when", [FIRST, HOT], ids=["cold", "hot"])
def test_one_odd_value_makes_a_column_of_timestamps_text(path, when):
    """Nothing is lost or made up for it: all values are the text they were."""
    with contextlib.closing(connect(path)) as db:
        stamps = ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"]
        columns = {
            f"c{n}": {FIRST: [*stamps], SECOND: [*stamps], HOT: [*stamps]} for n in range(len(ODD))
        }
        for odd, column in zip(ODD, columns.values()):
            column[when].append(odd)
        build(db, columns)
        types = ", ".join(f"any_value(typeof({name}))" for name in columns)
        (found,) = typed(db, f"SELECT {types} FROM t")
        assert dict(zip(ODD, found)) == dict.fromkeys(ODD, "VARCHAR")
        names = ", ".join(["id", *columns])
        expected = answer(db, f"SELECT {names} FROM all_t ORDER BY id")
        assert typed(db, f"SELECT {names} FROM t ORDER BY id") == expected


def test_an_odd_value_comes_and_goes(path):
    """The type of a created report's query is found anew: an uncommitted value may change it."""
    with contextlib.closing(connect(path)) as db:
        build(db, {"c": {FIRST: ["2024-01-01"], HOT: ["2024-01-02"]}})
        kind = "SELECT typeof(c) AS k, c FROM t WHERE c IS NOT NULL ORDER BY id"
        assert typed(db, kind) == [("DATE", "2024-01-01"), ("DATE", "2024-01-02")]
        db.execute("BEGIN")
        db.execute("UPDATE t SET c = 'odd' WHERE c = '2024-01-02'")
        assert typed(db, kind) == [("VARCHAR", "2024-01-01"), ("VARCHAR", "odd")]
        db.execute("ROLLBACK")
        assert typed(db, kind) == [("DATE", "2024-01-01"), ("DATE", "2024-01-02")]


@pytest.mark.parametrize(
    "date", ["0000-01-01", "0001-01-01", "1582-10-10", "1677-09-20", "9999-12-31"]
)
def test_dates_far_away(path, date):
    """They are exact as text, and in order and told apart as dates."""
    with contextlib.closing(connect(path)) as db:
        texts = [date, f"{date} 00:00:00", f"{date}T23:59:59.999999Z"]
        build(
            db,
            {f"c{n}": {FIRST: [t, "2024-01-01" + t[10:]], HOT: [t]} for n, t in enumerate(texts)},
        )
        expected = answer(db, "SELECT * FROM all_t ORDER BY id")
        assert typed(db, "SELECT * FROM t ORDER BY id", options=TEXTS) == expected
        late = ">" if date > "2024" else "<"
        sql = f"SELECT count(*) FROM t WHERE c{{0}} {late} '2024-01-01' AND c{{0}}::DATE = DATE '{date}'"
        if date > "0001":
            for n in range(3):
                assert typed(db, sql.format(n)) == [(2,)]


# Anything.


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", TABLES)
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(rows=tables())
def test_any_rows_come_back(encoding, kind, rows):
    """SELECT * through archive_query has the rows of all_t, whatever they are."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(open_database(folder, encoding)) as db:
            create(db, kind, rows)
            archive(db, "t", None, {"before": "2024-01-01", "time_format": "iso8601"})
            create_report(db, "SELECT * FROM t", options=TEXTS)
            columns = ["id", "created_at", *TYPED]
            assert [name for _, name, *_ in answer(db, "PRAGMA temp.table_info(report)")] == columns
            found, expected = exactly(db, "report", columns), exactly(db, "all_t", columns)
            assert len(found) == len(rows)
            for name, one, two in zip(columns, zip(*found), zip(*expected), strict=True):
                ways = [raw_as_blob(two, encoding), as_double(two)]
                assert repr(list(one)) in map(repr, map(list, ways)), name
