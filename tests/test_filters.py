"""Pruning never changes an answer: every filter gives on hot + cold what it gives on a plain table."""

import random

import apsw
import pytest

from conftest import archive, connect, load

COLUMNS = {
    "n": "INTEGER",
    "r": "REAL",
    "u": "NUMERIC",
    "s": "TEXT",
    "nc": "TEXT COLLATE NOCASE",
    "rt": "TEXT COLLATE RTRIM",
    "b": "BLOB",
    "x": "",
    "xn": "COLLATE NOCASE",
    "un": "NUMERIC COLLATE NOCASE",
    "at": "DATETIME",
}
DAYS = 12
ROWS_PER_DAY = 9
FILTERS = 120
ODD = [
    None,
    0,
    1,
    -1,
    5,
    5.0,
    5.5,
    -0.0,
    2**53 + 1,
    float(2**53),
    2**63 - 1,
    2.0**63,
    float("inf"),
    "",
    " ",
    "5",
    " 5",
    "5 ",
    "5.0",
    "05",
    "+5",
    "5e0",
    "5.5",
    "5x",
    "0x5",
    "a",
    "A",
    "a ",
    "A  ",
    "ab",
    "é",
    "É",
    "z\U0001f600",
    "2020-01-05",
    "2020",
    "2020-01",
    "9223372036854775808",
    b"",
    b"5",
    b"a",
    b"\xff",
]


def connections():
    """Opens a database with the SQLite of Python, and with a newer one."""
    return {"sqlite3": connect, "apsw": lambda path: load(apsw.Connection(str(path)))}


def cell(rng, kind, day):
    """A value for a day's file in which all values of a column are of this kind."""
    near = day * 10 + rng.randrange(10)
    if kind == "text":
        word = "".join(rng.choice("abAB") for _ in range(rng.randrange(4)))
        return chr(ord("a") + day % 20) + word + rng.choice(["", " ", "  "])
    return {
        "integer": near,
        "real": near + rng.choice([0.0, 0.25, 0.5]),
        "digits": rng.choice([f"{near}", f"{near}.0", f" {near}", f"0{near}", f"{near}e0"]),
        "stamp": f"2020-01-{day + 1:02} {rng.randrange(24):02}:00:00",
        "blob": bytes([day, rng.randrange(256)]),
        "null": None,
        "odd": rng.choice(ODD),
    }[kind]


def fill(db, rng):
    """A table of many days, its plain twin, and tables to join it with."""
    kinds = ["integer", "real", "digits", "text", "stamp", "blob", "null", "odd"]
    declared = ", ".join(f"{name} {type_}" for name, type_ in COLUMNS.items())
    for table in ("t", "plain"):
        db.execute(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, {declared}, ts TEXT)"
        )
    marks = ", ".join("?" * (len(COLUMNS) + 2))
    for day in range(DAYS):
        kind = {name: rng.choice(kinds) for name in COLUMNS}
        for row in range(ROWS_PER_DAY):
            values = [cell(rng, kind[name], day) for name in COLUMNS]
            stamp = f"2020-01-{day + 1:02} {row:02}:00:00"
            db.execute(f"INSERT INTO t VALUES ({marks})", [day * 100 + row, *values, stamp])
    db.execute("INSERT INTO plain SELECT * FROM t")
    db.execute(
        "CREATE TABLE o (o_int INTEGER, o_real REAL, o_text TEXT, o_blob BLOB, o_any, o_nc TEXT COLLATE NOCASE)"
    )
    for value in [*ODD, *(cell(rng, kind, day) for kind in kinds for day in (0, 5, 9))]:
        db.execute("INSERT INTO o VALUES (?1, ?1, ?1, ?1, ?1, ?1)", [value])


class Filters:
    """Makes filters at random, the same ones for the same seed."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.parameters = []

    def column(self):
        return self.rng.choice([*COLUMNS, *COLUMNS, "id", "ts"])

    def constant(self):
        """A literal or a bound parameter, often near the values of some day, of any class."""
        rng = self.rng
        value = rng.choice(ODD)
        if rng.random() < 0.6:
            kind = rng.choice(["integer", "real", "digits", "text", "stamp", "blob"])
            value = cell(rng, kind, rng.randrange(DAYS))
        if rng.random() < 0.5 or isinstance(value, float):
            self.parameters.append(value)
            return "?"
        if value is None:
            return "NULL"
        if isinstance(value, bytes):
            return f"x'{value.hex()}'"
        return repr(value) if isinstance(value, int) else "'" + value + "'"

    def pattern(self, any_text):
        start = self.rng.choice(["a", "A", "c", "5", "2020-01-0", "é", "", "d_", "0"])
        return f"'{start}{self.rng.choice([any_text, any_text, 'a' + any_text, ''])}'"

    def term(self):
        rng, column = self.rng, self.column()
        operator = rng.choice(["=", "<", "<=", ">", ">=", "<>", "IS", "IS NOT"])
        shape = rng.randrange(13)
        if shape <= 3:
            return f"{column} {operator} {self.constant()}"
        if shape == 4:
            return f"{self.constant()} {operator} {column}"
        if shape == 5:
            return f"{column} {rng.choice(['', 'NOT '])}BETWEEN {self.constant()} AND {self.constant()}"
        if shape == 6:
            listed = ", ".join(self.constant() for _ in range(rng.randrange(1, 5)))
            return f"{column} {rng.choice(['', 'NOT '])}IN ({listed})"
        if shape == 7:
            other = rng.choice(["o_int", "o_real", "o_text", "o_blob", "o_any", "o_nc"])
            return f"{column} IN (SELECT {other} FROM o WHERE {other} > {self.constant()})"
        if shape == 8:
            return f"{column} {rng.choice(['IS NULL', 'IS NOT NULL'])}"
        if shape == 9:
            word, any_text = rng.choice([("LIKE", "%"), ("GLOB", "*")])
            return f"{column} {rng.choice(['', 'NOT '])}{word} {self.pattern(any_text)}"
        if shape == 10:
            return f"{column} {operator} {self.column()}"
        if shape == 11:
            collation = rng.choice(["BINARY", "NOCASE", "RTRIM"])
            return f"{column} {operator} {self.constant()} COLLATE {collation}"
        type_ = rng.choice(["INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC"])
        return f"{column} {operator} CAST({self.constant()} AS {type_})"

    def condition(self, depth=0):
        choice = self.rng.random()
        if depth > 2 or choice < 0.5:
            return self.term()
        if choice < 0.6:
            return f"NOT ({self.condition(depth + 1)})"
        word = "AND" if choice < 0.8 else "OR"
        return f"({self.condition(depth + 1)} {word} {self.condition(depth + 1)})"

    def query(self):
        """A query over {t}, whose answer is one thing only, and its parameters."""
        self.parameters = []
        rng, column = self.rng, self.column()
        shape = rng.randrange(9)
        if shape == 8:
            other = rng.choice(["o_int", "o_real", "o_text", "o_blob", "o_any", "o_nc"])
            operator = rng.choice(["=", "=", "<", ">=", "IS"])
            join = rng.choice(["JOIN", "LEFT JOIN"])
            on = f"a.{column} {operator} o.{other}"
            on += f" AND {self.term()}" if rng.random() < 0.5 else ""
            return (
                f"SELECT o.rowid, a.id FROM o {join} {{t}} a ON {on} ORDER BY 1, 2",
                self.parameters,
            )
        order = rng.choice(["", " DESC"])
        limit = f" LIMIT {rng.randrange(1, 30)} OFFSET {rng.choice([0, 0, 3])}"
        condition = self.condition()
        start, end = {
            0: ("id", "ORDER BY id"),
            1: ("*", "ORDER BY id"),
            2: ("id", f"ORDER BY id{order}{limit}"),
            3: (f"id, {column}", f"ORDER BY {column}{order}, id{order}{limit}"),
            4: ("count(*), min(id), max(id)", f"GROUP BY {column} ORDER BY 2"),
            5: ("count(*), sum(id)", f"GROUP BY {column} HAVING count(*) > 1 ORDER BY 2"),
            6: (f"count(DISTINCT {column}), count({column}), count(*)", ""),
            7: (f"id, typeof({column})", "ORDER BY id"),
        }[shape]
        return f"SELECT {start} FROM {{t}} WHERE {condition} {end}", self.parameters


def answer(db, sql, parameters):
    return repr(db.execute(sql, parameters).fetchall())


def differences(db, queries, cold, plain):
    """The queries that give something else on the one than on the other."""
    found = []
    for sql, parameters in queries:
        got, expected = (answer(db, sql.format(t=t), parameters) for t in (cold, plain))
        if got != expected:
            found.append(f"{sql.format(t=cold)} with {parameters}:\n  {got}\n  not {expected}")
    return found


def archived(path, host, encoding, seed):
    """A database whose table t is cold but for the last two days, in a file a day."""
    db = connections()[host](path)
    db.execute(f"PRAGMA encoding = '{encoding}'")
    db.execute("PRAGMA synchronous = OFF")
    fill(db, random.Random(seed))
    result = archive(db, "t", None, {"before": "2020-01-11"})
    assert (result["rows"], result["files"]) == ((DAYS - 2) * ROWS_PER_DAY, DAYS - 2)
    return db


def check(found, total):
    assert not found, f"{len(found)} of {total} answers differ, such as\n" + "\n".join(found[:3])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("host", connections())
def test_every_filter_answers_as_on_a_plain_table(path, host, encoding, seed):
    """Any WHERE, join, ORDER BY, LIMIT, GROUP BY and DISTINCT: all_t equals a plain table."""
    db = archived(path, host, encoding, seed)
    filters = Filters(f"{seed} {encoding}")
    queries = [filters.query() for _ in range(FILTERS)]
    check(differences(db, queries, "all_t", "plain"), FILTERS)
    db.close()


@pytest.mark.parametrize("host", connections())
def test_filters_by_rowid_answer_as_on_a_plain_table(path, host):
    """cold_t.rowid is the row's rowid, in every comparison and join."""
    db = archived(path, host, "UTF-8", 3)
    filters = Filters(3)
    db.execute("DELETE FROM plain WHERE ts >= '2020-01-11'")
    queries = []
    for _ in range(150):
        filters.parameters = []
        operator = filters.rng.choice(["=", "<", "<=", ">", ">=", "IS", "IS NOT", "<>"])
        constant = filters.constant()
        also = filters.term() if filters.rng.random() < 0.3 else "1"
        sql = f"SELECT rowid, id FROM {{t}} WHERE rowid {operator} {constant} AND {also} ORDER BY rowid"
        queries.append((sql, filters.parameters))
    for other in ("o_int", "o_real", "o_text", "o_blob", "o_any"):
        sql = f"SELECT o.rowid, a.rowid FROM o JOIN {{t}} a ON a.rowid = o.{other} ORDER BY 1, 2"
        queries.append((sql, []))
    check(differences(db, queries, "cold_t", "plain"), len(queries))
    db.close()


@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY", "TEXT PRIMARY KEY", "INT"])
@pytest.mark.parametrize("column", ["x", "rowid", "oid", "_rowid_"])
def test_the_rowid_by_each_of_its_names(db, key, column):
    """A name of the rowid that is no column's shows it in cold_t as in the table, and finds rows by it."""
    db.execute(f"CREATE TABLE t (id {key}, ts TEXT, {column} TEXT)")
    for n in (5, 9, 11):
        db.execute("INSERT INTO t VALUES (?, ?, 'v')", (n, f"2020-01-{n:02}"))
    db.execute("INSERT INTO t VALUES (12, '2040-01-01', 'v')")
    queries = [f"SELECT {name}, id FROM {{}} WHERE ts < '2040'" for name in ("rowid", "oid", "_RowID_")]
    queries += [f"SELECT id FROM {{}} WHERE {name} = 2" for name in ("rowid", "oid", "_rowid_")]
    queries += ["SELECT * FROM {} WHERE ts < '2040'"]
    expected = [db.execute(query.format("t")).fetchall() for query in queries]
    archive(db, "t", 7)
    assert [db.execute(query.format("cold_t")).fetchall() for query in queries] == expected


def test_a_database_in_memory_that_becomes_another(tmp_path, monkeypatch):
    """sqlite3_deserialize changes neither data_version nor total_changes, and all rows are others."""
    monkeypatch.setenv("ARCHIVE_DIR", str(tmp_path / "cold"))
    db = load(apsw.Connection(":memory:"))
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT)")
    for n in range(1, 7):
        db.execute("INSERT INTO t VALUES (?, ?)", (n, f"2020-01-{n:02}"))
    states = []
    for day in (2, 4):
        assert archive(db, "t", None, {"before": f"2020-01-{day:02}"})["rows"] > 0
        states.append((day, db.serialize("main")))
    for day, state in states * 2:
        db.deserialize("main", state)
        cold = [id for (id,) in db.execute("SELECT id FROM cold_t ORDER BY id")]
        everything = [id for (id,) in db.execute("SELECT id FROM all_t ORDER BY id")]
        assert (cold, everything) == (list(range(1, day)), list(range(1, 7)))
    db.close()


def test_numeric_text_is_found_by_its_text(db):
    """A TEXT column of digits is found by every value of it."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v TEXT)")
    for n in range(40):
        db.execute("INSERT INTO t VALUES (?, ?, ?)", (n, f"2020-01-{n % 3 + 1:02}", str(n)))
    archive(db, "t", 7)
    found = [
        db.execute("SELECT id FROM all_t WHERE v = ?", (str(n),)).fetchall() for n in range(40)
    ]
    assert found == [[(n,)] for n in range(40)]


@pytest.mark.parametrize("host", connections())
def test_in_a_subquery_applies_the_affinity_of_its_column(path, host):
    """`x IN (SELECT column)` compares as `x = column` does, also for a column without a type."""
    db = connections()[host](path)
    for table in ("t", "plain"):
        db.execute(f"CREATE TABLE {table} (id INTEGER, ts TEXT, s TEXT, x)")
        db.execute(
            f"INSERT INTO {table} VALUES (1, '2020-01-01', '05', '5'), (2, '2020-01-01', 'x', 5)"
        )
    db.execute("CREATE TABLE o (o_int INTEGER, o_text TEXT)")
    db.execute("INSERT INTO o VALUES (5, '5')")
    archive(db, "t", 7)
    queries = [
        (f"SELECT id FROM {{t}} WHERE {column} IN (SELECT {other} FROM o) ORDER BY id", [])
        for column in ("s", "x")
        for other in ("o_int", "o_text")
    ]
    check(differences(db, queries, "cold_t", "plain"), len(queries))
    db.close()
