"""P3, exact values: what comes back from cold files is what went in, by typeof and by bytes."""

import pathlib
import struct
import tempfile

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from conftest import archive, connect

ENCODINGS = ["UTF-8", "UTF-16le", "UTF-16be"]
TYPED = {
    "a": "INTEGER",
    "b": "REAL",
    "c": "NUMERIC",
    "d": "TEXT",
    "e": "TEXT COLLATE NOCASE",
    "f": "BLOB",
    "g": "",
    "h": "DATETIME",
}
ANY = dict.fromkeys(TYPED, "ANY")
TABLES = {
    "integer key": (TYPED, "id INTEGER PRIMARY KEY", ""),
    "autoincrement": (TYPED, "id INTEGER PRIMARY KEY AUTOINCREMENT", ""),
    "rowid only": (TYPED, "id INT", ""),
    "text key": (TYPED, "id TEXT PRIMARY KEY", ""),
    "without rowid": (TYPED, "id INT, PRIMARY KEY (g, id)", "WITHOUT ROWID"),
    "strict": (ANY, "id INTEGER PRIMARY KEY", "STRICT"),
    "strict key": (ANY, "id INTEGER, PRIMARY KEY (g, id)", "STRICT, WITHOUT ROWID"),
}
FRACTIONS = ["", ".1", ".12", ".123", ".1234", ".123456", ".1234567", ".123456789"]
DATES = ["2024-02-29", "1969-12-31", "0000-01-01", "9999-12-31", "1677-09-21"]
NEARLY = [
    "2023-02-29",
    "2024-1-1",
    "2024-01-01 24:00:00",
    "2024-01-01 23:59:60",
    "2024-01-01  1:02:03",
    "2024-01-01 +1:02:03",
    "+024-01-01",
    "-001-01-01",
    "2024-01-01t01:02:03",
    "2024-01-01T01:02:03z",
    "2024-01-01T01:02:03+0000",
    "2024-01-01T01:02:03-00:00",
    "2024-01-01T01:02:03,123",
    "2024-01-01\x0001:02:03",
    "2024/01/01",
    "10000-01-01",
    "2262-04-12 00:00:00.000000000",
    "２０２４-01-01",
]


class Raw(bytes):
    """Text that is inserted as these bytes in the database's encoding, well-formed or not."""


def stamps(zone, separator, fraction):
    """Timestamps of one shape."""
    clock = st.sampled_from(["00:00:00", "12:34:56", "23:59:59"])
    made = st.builds(
        lambda d, c: f"{d}{separator}{c}{fraction}{zone}", st.sampled_from(DATES), clock
    )
    return st.one_of(st.none(), made)


integers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 2**53 + 1, -(2**63)])
reals = st.floats(allow_nan=False) | st.sampled_from(
    [-0.0, 0.0, 1.0, 2.0**63, float("-inf"), 5e-324]
)
texts = st.text(max_size=12) | st.sampled_from(
    ["", "\0", "a\0b", "12", " 1.0 ", "1e3", "0x1F", "é\U0001f600"]
)
blobs = st.binary(max_size=12) | st.sampled_from([b"", b"\0"])
raw = st.binary(max_size=9).map(Raw) | st.sampled_from(
    [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\0\xff"]
).map(Raw)
shaped = st.one_of(
    [stamps(z, s, f) for z in ["", "Z", "+00:00"] for s in [" ", "T"] for f in FRACTIONS]
)
nearly = st.sampled_from(NEARLY + DATES)
values = st.one_of(st.none(), integers, reals, texts, blobs, raw, nearly)
POOLS = [
    st.none(),
    integers,
    reals,
    texts,
    blobs,
    raw,
    st.sampled_from(DATES),
    nearly,
    shaped,
    values,
]


@st.composite
def tables(draw):
    """Rows of up to 10, in each column of one kind of values or of all kinds."""
    count = draw(st.integers(2, 10))
    shape = stamps(
        draw(st.sampled_from(["", "Z", "+00:00"])),
        draw(st.sampled_from([" ", "T"])),
        draw(st.sampled_from(FRACTIONS)),
    )
    pools = [draw(st.sampled_from([*POOLS, shape])) for _ in TYPED]
    old = st.sampled_from(["2020-01-01", "2020-01-02 03:04:05", "2999-01-01"])
    rows = [[draw(old), *(draw(pool) for pool in pools)] for _ in range(count)]
    keys = draw(st.lists(integers, min_size=count, max_size=count, unique=True))
    return [[key, *row] for key, row in zip(keys, rows)]


def create(db, kind, rows):
    """A table of this kind with these rows, and its plain copy."""
    columns, key, options = TABLES[kind]
    names = ["id", "created_at", *columns]
    key, _, constraint = key.partition(", ")
    body = [key, "created_at TEXT", *(f"{n} {t}" for n, t in columns.items()), constraint]
    body = ", ".join(filter(None, body))
    for table in ("t", "plain"):
        db.execute(f"CREATE TABLE {table} ({body}) {options}")
    key_column = names.index("g") if "PRIMARY KEY (g" in constraint else None
    for row in rows:
        marks = [f"CAST(x'{v.hex()}' AS TEXT)" if isinstance(v, Raw) else "?" for v in row]
        if key_column and row[key_column] is None:
            marks[key_column] = "coalesce(?, '')"
        plain = [value for value in row if not isinstance(value, Raw)]
        db.execute(f"INSERT INTO t VALUES ({', '.join(marks)})", plain)
    if kind == "rowid only":
        db.execute("UPDATE t SET rowid = id")
    rowid = "rowid, " if kind == "rowid only" else ""
    names = rowid + ", ".join(names)
    db.execute(f"INSERT INTO plain ({names}) SELECT {names} FROM t")


def exact(db, *sources, rowid=False):
    """The rows of all sources together: the class and the bytes of every value."""
    columns = ["id", "created_at", *TYPED, *(["rowid"] if rowid else [])]
    picked = [
        f"typeof({c}), iif(typeof({c}) = 'real', {c}, NULL), hex(CAST({c} AS BLOB))"
        for c in columns
    ]
    found = []
    for source in sources:
        for row in db.execute(f"SELECT {', '.join(picked)} FROM {source}"):
            found.append(tuple(struct.pack(">d", v) if type(v) is float else v for v in row))
    return sorted(found, key=repr)


def count(db, source, condition="1"):
    return db.execute(f"SELECT count(*) FROM {source} WHERE {condition}").fetchone()[0]


def problems(db):
    (found,) = db.execute("SELECT archive_verify() ->> 'problems'").fetchone()
    return found


def open_database(folder, encoding):
    db = connect(pathlib.Path(folder) / "test.db")
    db.execute(f"PRAGMA encoding = '{encoding}'")
    db.execute("PRAGMA synchronous = OFF")
    return db


def check_round_trip(encoding, kind, rows):
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(folder, encoding)
        create(db, kind, rows)
        result = archive(db, "t", None, {"before": "2024-01-01", "time_format": "iso8601"})
        assert exact(db, "all_t") == exact(db, "plain")
        assert problems(db) == "[]"
        due = count(db, "plain", "created_at < '2024'")
        assert count(db, "cold_t") == result["rows"] and count(db, "t") + result["rows"] == len(
            rows
        )
        if "key" not in kind or encoding == "UTF-8":
            assert result["rows"] == due - result["kept_rows"]
        if kind not in ("without rowid", "strict key"):
            assert exact(db, "cold_t", "t", rowid=True) == exact(db, "plain", rowid=True)
        db.close()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", TABLES)
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(rows=tables())
def test_any_rows_come_back_exactly(encoding, kind, rows):
    """Every value of every column of every kind of table keeps its class and its bytes."""
    check_round_trip(encoding, kind, rows)


def one_column(values):
    """Rows with these values in each of the columns, all to be archived."""
    return [[n, "2020-01-01", *([value] * len(TYPED))] for n, value in enumerate(values)]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([-(2**63), 2**63 - 1, 0, 2**53 + 1, None], id="integers"),
        pytest.param(
            [-0.0, 0.0, float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308], id="reals"
        ),
        pytest.param([1, 1.0, "1", b"1", None, -0.0, 0, "", b""], id="lookalikes"),
        pytest.param(["", "\0", "a\0b", "\0\0"], id="NUL"),
        pytest.param([str(n) for n in range(30)], id="numeric text"),
        pytest.param(["007", "1e2", " 5", "5 ", "0x10", "+3"], id="odd numeric text"),
        pytest.param(["x" * 1_500_000, "y", ""], id="large text"),
        pytest.param([bytes(1_000_000), b"\1" * 65, b""], id="large blobs"),
        pytest.param(
            ["\ufffd", "\ufeff", "\ufeffa", "\U0010ffff", "\ud7ff", "\ue000"],
            id="corners of Unicode",
        ),
        pytest.param(["\ufffe", "a\uffff", "\U0001fffe"], id="noncharacters"),
        pytest.param(
            [Raw(b"\xff\xfea\0"), Raw(b"\xfe\xff\0a"), Raw(b"\xef\xbb\xbfa")], id="byte order marks"
        ),
        pytest.param(
            [Raw(b"\xff\xfe\x00\xd8"), Raw(b"\xfe\xff\xd8\x00"), Raw(b"x")],
            id="malformed after a mark",
        ),
        pytest.param(
            [Raw(b"\x00\xd8"), Raw(b"\xd8\x00"), Raw(b"\xff\xff"), Raw(b"\xff")], id="malformed"
        ),
        pytest.param(NEARLY, id="nearly timestamps"),
        *(pytest.param([text, None], id=repr(text)) for text in NEARLY),
    ],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_hard_values_come_back_exactly(encoding, values):
    """Values that are easily mistaken for others keep their class and their bytes."""
    check_round_trip(encoding, "autoincrement", one_column(values))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_timestamps_of_every_shape_come_back_exactly(encoding):
    """Text that is stored as a Parquet timestamp or date comes back byte for byte."""
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(folder, encoding)
        clocks = [
            "",
            *(f"{s}12:34:56{f}{z}" for s in " T" for f in FRACTIONS for z in ("", "Z", "+00:00")),
        ]
        columns = [f"c{n}" for n in range(len(clocks))]
        db.execute(f"CREATE TABLE t (ts TEXT, {', '.join(f'{c} TEXT' for c in columns)})")
        marks = ", ".join("?" * (len(clocks) + 1))
        for date in DATES:
            db.execute(
                f"INSERT INTO t VALUES ({marks})", ["2020-01-01", *(date + c for c in clocks)]
            )
        before = db.execute("SELECT * FROM t ORDER BY c0").fetchall()
        assert archive(db, "t", 7)["rows"] == len(DATES)
        assert db.execute("SELECT * FROM cold_t ORDER BY c0").fetchall() == before
        assert problems(db) == "[]"
        db.close()


@pytest.mark.parametrize("kind", TABLES)
def test_cold_columns_are_declared_as_the_table_declares_them(db, kind):
    """cold_t has the table's columns, in order, with their declared types."""
    create(db, kind, one_column([1, 2]))
    archive(db, "t", 7)
    declared = "SELECT name, type FROM pragma_table_info(?)"
    hot = db.execute(declared, ["t"]).fetchall()
    expected = [(name, "" if type_ == "ANY" else type_) for name, type_ in hot]
    assert db.execute(declared, ["cold_t"]).fetchall() == expected
    assert [name for name, _ in db.execute(declared, ["all_t"])] == [name for name, _ in hot]
