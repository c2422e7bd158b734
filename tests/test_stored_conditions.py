"""A policy's `where` comes with the database, maybe a stranger's: it looks at a row, and does nothing else."""

import contextlib
import json
import os
import random
import re
import sqlite3
import subprocess

import pytest
from conftest import LIBRARY, ROOT, connect, load

# Functions that hosts are known to add; each is one more way out if it can be called.
HOST = ["edit", "writefile", "readfile", "lsdir", "fts3_tokenizer", "eval", "regexp", "match", "shell"]
HOST += ["sha3", "sqlar_uncompress", "usleep", "shell_escape_crnl", "zipfile", "myfunction", "import"]
SCHEMA = """
    CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, status TEXT, v, "a b",
                    g AS (v + 1));
    INSERT INTO t (created_at, status, v) VALUES ('2020-01-01', 'done', 1), ('2020-01-02', 'open', 2);
    CREATE TABLE one (x); CREATE TABLE planned (_archive_k1 PRIMARY KEY) WITHOUT ROWID; CREATE TABLE edit (x); CREATE VIEW a_view AS SELECT 1 AS x;
    CREATE TABLE pragma_function_list (name, narg, builtin, flags);
    CREATE VIRTUAL TABLE f USING fts5 (x);
"""


@pytest.fixture
def called():
    """The names of the application's functions that were called."""
    return []


@pytest.fixture
def db(path, called):
    """A table, and a host whose functions say so when they are called."""
    connection = connect(path)
    connection.executescript(SCHEMA)
    for name in HOST:
        connection.create_function(name, -1, lambda *_, name=name: called.append(name))
    yield connection
    connection.close()


def register(db, where):
    """Why archive_policy refuses a condition; None if it takes it."""
    try:
        db.execute("SELECT archive_policy('t', 7, ?)", [json.dumps({"where": where})]).fetchall()
    except sqlite3.OperationalError as error:
        return str(error)
    return None


def smuggle(db, where):
    """Writes a condition into the catalog by hand, as a stranger would."""
    options = json.dumps({"where": where})
    db.execute("UPDATE _archive_policy SET options = ? WHERE table_name = 't'", [options])


def run(db, **options):
    """What archive_run says of the table."""
    options = json.dumps({"backup": False, "vacuum": False, **options})
    (text,) = db.execute("SELECT archive_run(?)", [options]).fetchone()
    (table,) = json.loads(text)["tables"]
    return table


GOOD = [
    "json_valid(status) OR json_extract('{\"a\":1}', '$.a') = 1",
    "status <> 'pending'",
    "status NOT IN ('open', 'pending') AND v IS NOT NULL",
    "lower(trim(status)) LIKE 'd%' OR status GLOB '[a-d]*'",
    "coalesce(v, g, id, rowid) BETWEEN 1 AND 100 -- of all",
    "CASE typeof(v) WHEN 'integer' THEN v % 2 ELSE length(\"a b\") END",
    "t.status = 'done' /* ( */ AND datetime(created_at) < datetime('now', '-1 day')",
    "max(v, 1) + min(v, 2) > abs(-1) AND iif(v, 1, 0)",
    "created_at < CURRENT_TIMESTAMP COLLATE NOCASE",
    "[status] = 'a' OR `status` = \"double\" OR 'edit(1)' <> status",
]


@pytest.mark.parametrize("where", GOOD)
def test_a_condition_that_looks_at_a_row(db, where):
    """Columns, literals, operators and SQLite's own plain functions are taken, and are evaluated."""
    assert register(db, where) is None
    assert run(db, dry_run=True)["status"] == run(db)["status"] == "done"


BAD = {
    "edit('x', 'touch y')": "edit",
    "\"edit\"('x')": "edit",
    "[edit] ('x') IS NULL": "edit",
    "v + (SELECT edit('x'))": "edit",
    "CASE WHEN 0 THEN eval('x') END": "eval",
    "v IN (1, writefile('a', 'b'))": "writefile",
    "status REGEXP 'a'": "REGEXP",
    "status MATCH 'a'": "match",
    "load_extension('x') = 1": "must not call load_extension",
    "\"LOAD_EXTENSION\" ('x')": "must not call load_extension",
    "random() > 0": "must not call random",
    "last_insert_rowid()": "must not call",
    "sqlite_version() > ''": "must not call",
    "zeroblob(1000000000) IS NULL": "must not call zeroblob",
    "printf('%1000000000d', 1)": "must not call",
    "v IN (SELECT archive_run())": "archive_run",
    "archive_backup('/tmp/x') IS NULL": "archive_backup",
    "(SELECT 1)": "must not have a query",
    "EXISTS (SELECT 1)": "must not have a query",
    "v IN (SELECT v FROM t)": "no such table",
    "v IN t": "no such table",
    "v IN one": "no such table",
    "v IN row": "no such table",
    "v IN main.row": "no such table",
    "v IN sqlite_schema": "must not|columns",
    "v IN (SELECT name FROM sqlite_schema)": "must not",
    "v IN (SELECT x FROM f)": "no such table",
    "v IN (SELECT name FROM pragma_function_list)": "must not",
    "v IN (SELECT * FROM pragma_journal_mode('off'))": "must not",
    "v IN pragma_table_info('t')": "must not",
    "v IN (SELECT value FROM json_each('[1]'))": "must not",
    "v IN json_each('[1]')": "must not",
    "v IN (SELECT row FROM archive_query('SELECT 1'))": "no such table",
    "v IN (VALUES (1))": "must not have a query",
    "v IN (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)": "must not",
    "count(*) > 0": "must not call count",
    "sum(v) OVER () > 0": "must not call sum",
    "max(v) > 0": "misuse",
    "v = ?": "parameters",
    "v = :end": "parameters",
    "v = 1; DROP TABLE t": "one SQL expression",
    "1) FROM t; --": "one SQL expression",
    "one.x = 1": "no such column",
    "status = 'a' COLLATE mine": "no such collation",
    "RAISE(ABORT, 'x')": "RAISE",
    "v = 1\0": "one SQL expression",
    "v = 1) IS TRUE) --\0": "one SQL expression",
    "v /*": "one SQL expression",
    "": "one SQL expression",
}


@pytest.mark.parametrize("where", BAD)
def test_a_condition_that_does_more(db, path, called, where):
    """It is refused when it is registered and, if it is in the catalog already, by every run and dry run."""
    assert register(db, "status <> 'pending'") is None
    message = register(db, where)
    assert message and message.startswith("archive_policy: option where of a policy must")
    assert re.search(BAD[where], message), message
    smuggle(db, where)
    for result in (run(db, dry_run=True), run(db)):
        assert result["status"] == "failed" and re.search(BAD[where], result["error"])
    assert called == [] and db.execute("SELECT count(*) FROM t").fetchone() == (2,)
    assert not list(path.parent.rglob("*.parquet"))


def test_the_owners_own_condition_is_free(db, called):
    """What is given to archive_table is the caller's: it may call what the caller may."""
    options = json.dumps({"where": "myfunction(v) IS NULL AND v IN (SELECT 1)", "dry_run": True})
    (text,) = db.execute("SELECT archive_table('t', 7, ?)", [options]).fetchone()
    assert json.loads(text)["rows"] == 1 and called == ["myfunction"] * 2


def test_a_function_in_the_place_of_sqlites_own(db, path, called):
    """An application's `upper` is the application's: a stranger's database must not call it, unless the
    application itself says that it may."""
    where = "upper(status) = 'done'"
    assert register(db, where) is None
    db.create_function("UPPER", 1, lambda text: called.append(text))
    assert "must not call upper while this connection has one" in register(db, where)
    assert "upper" in run(db)["error"] and called == []
    assert register(db, "status LIKE 'd%'") is None
    db.create_function("like", 2, lambda *_: called.append("like"), deterministic=True)
    assert "must not call like" in register(db, "status LIKE 'd%'") and called == []


def test_a_function_marked_innocuous(path):
    """ICU's `upper` and the like are marked so, and are taken."""
    apsw = pytest.importorskip("apsw")
    db = load(apsw.Connection(str(path)))
    for sql in SCHEMA.split(";\n"):
        db.execute(sql)
    calls = []
    flags = apsw.SQLITE_INNOCUOUS | apsw.SQLITE_DETERMINISTIC
    db.create_scalar_function("upper", lambda x: calls.append(x) or "done", 1, flags=flags)
    options = json.dumps({"where": "upper(status) = 'done'"})
    db.execute("SELECT archive_policy('t', 7, ?)", [options]).fetchall()
    assert run(db, dry_run=True)["rows"] == 2 and calls
    db.create_scalar_function("upper", lambda x: x, 1, flags=apsw.SQLITE_DIRECTONLY)
    with pytest.raises(apsw.SQLError, match="must not call upper"):
        db.execute("SELECT archive_policy('t', 7, ?)", [options]).fetchall()
    db.close()


def test_the_applications_authorizer_stays(db):
    """The check has an authorizer of its own, elsewhere."""
    db.set_authorizer(lambda *what: sqlite3.SQLITE_DENY if "one" in what else sqlite3.SQLITE_OK)
    assert register(db, "status = 'done'") is None and register(db, "edit()") is not None
    with pytest.raises(sqlite3.DatabaseError, match="prohibited"):
        db.execute("SELECT x FROM one")


def test_the_shell_runs_no_program(path, tmp_path):
    """`edit` of the sqlite3 shell starts a program: not for a policy, by hand, dry or nightly."""
    mark = tmp_path / "mark"
    with contextlib.closing(connect(path)) as db:
        db.executescript(SCHEMA)
        assert register(db, "status = 'done'") is None
        smuggle(db, f"edit('x', 'touch {mark};') IS NOT 5")
    load = f".load {LIBRARY.with_suffix('')}\n"
    for script in (
        load + "SELECT archive_run('{\"dry_run\":true}');",
        load + "SELECT archive_run();",
        (ROOT / "sql" / "nightly.sql").read_text(),
    ):
        command = ["sqlite3", str(path)]
        shell = subprocess.run(command, input=script, cwd=ROOT, capture_output=True, text=True)
        assert "edit" in shell.stdout + shell.stderr and not mark.exists()


class Maker:
    """Random conditions, most of them nearly right."""

    def __init__(self, seed, functions):
        self.random = random.Random(seed)
        self.functions = functions

    def name(self, name):
        case = self.random.choice([str, str.upper, str.title])(name)
        plain = case.isidentifier()
        quotes = ['"{}"', "[{}]", "`{}`"] + ["{}"] * (5 if plain else 0)
        return self.random.choice(quotes).format(case)

    def space(self):
        return self.random.choice([" ", "\n", "/* edit( */", " -- (SELECT\n", "\t"])

    def column(self):
        names = ["id", "created_at", "status", "v", "a b", "g", "rowid", "t", "x", "true", "edit"]
        prefix = self.random.choice(["", "", "", "t.", "main.t.", "one.", "temp."])
        return prefix + self.name(self.random.choice(names))

    def leaf(self):
        literals = ["1", "0", "NULL", "'a'", "x'00'", "-1.5e3", "TRUE", "FALSE", "''", "'it''s'"]
        literals += ["CURRENT_TIMESTAMP", "current_date", "?", ":end", "'edit(1)'", '"nope"']
        return self.column() if self.random.random() < 0.6 else self.random.choice(literals)

    def query(self, depth):
        table = self.random.choice(
            ["t", "one", "f", "a_view", "sqlite_schema", "json_each('[1]')", "pragma_function_list"]
            + ["pragma_user_version", "pragma_table_info('t')", "archive_status", "archive_history"]
            + ["main.t", "row", "dbstat", "(SELECT 1)", "generate_series(1, 2)"]
        )
        return self.random.choice(
            [
                f"SELECT {self.expression(depth)}",
                f"SELECT {self.expression(depth)} FROM {table}",
                f"VALUES ({self.expression(depth)})",
                f"WITH w AS (SELECT {self.expression(depth)} AS x) SELECT x FROM w",
                table,
            ]
        )

    def expression(self, depth=0):
        pick = self.random.random()
        if depth > 4 or pick < 0.25:
            return self.leaf()
        inner = lambda: self.expression(depth + 1)
        if pick < 0.5:
            name = self.name(self.random.choice(self.functions))
            arguments = [inner() for _ in range(self.random.randrange(4))]
            over = self.random.choice([""] * 12 + [" OVER ()", " FILTER (WHERE 1)"])
            return f"{name}{self.random.choice(['', ' '])}({', '.join(arguments)}){over}"
        if pick < 0.75:
            operators = "AND OR = <> < >= + - * / % || & | << IS GLOB LIKE REGEXP MATCH -> ->>".split()
            return f"{inner()}{self.space()}{self.random.choice(operators)} {inner()}"
        if pick < 0.85:
            return self.random.choice(
                [
                    f"{inner()} IN ({inner()}, {inner()})",
                    f"CASE WHEN {inner()} THEN {inner()} ELSE {inner()} END",
                    f"NOT {inner()}",
                    f"({inner()})",
                    f"CAST({inner()} AS TEXT)",
                    f"{inner()} COLLATE {self.random.choice(['NOCASE', 'mine'])}",
                    f"{inner()} BETWEEN {inner()} AND {inner()}",
                    f"{inner()} ISNULL",
                    f"0 AND {inner()}",
                ]
            )
        if pick < 0.9:
            return self.random.choice(["{} IN ({})", "{} IN {}", "{} AND EXISTS ({})", "{} = ({})"]).format(
                inner(), self.query(depth + 1)
            )
        if pick < 0.93:
            return inner() + self.random.choice([";", ")", "--", "/*", "'", ") OR (1", "; DELETE FROM t"])
        return f"({inner()}){self.space()}"


def names_of_functions(db):
    """Every function of this connection and of the sqlite3 shell."""
    sql = "SELECT DISTINCT name FROM temp.pragma_function_list"
    shell = subprocess.run(["sqlite3", ":memory:", sql], capture_output=True, text=True, check=True)
    own = [name for (name,) in db.execute(sql)]
    return sorted({*own, *shell.stdout.split(), *HOST, "nope"})


def allowed():
    """The functions that the source allows."""
    source = (ROOT / "src" / "schema" / "condition" / "stored.rs").read_text()
    names = re.search(r"FUNCTIONS: \[&str; \d+\] = \[(.*?)\];", source, re.S).group(1)
    return re.findall(r'"(.*?)"', names)


@pytest.mark.parametrize("seed", range(3))
def test_random_conditions(db, called, seed):
    """Whatever is taken reads columns of the table alone, and calls allowed functions alone: as the parser
    of the application's own connection says, in every place where the condition is put."""
    count = int(os.environ.get("CONDITIONS", "300"))
    plain = allowed()
    everything = names_of_functions(db)
    maker = Maker(seed, everything + [name for name in plain if name.isidentifier()] * 4)
    seen = []
    taken = set()

    def note(action, first, second, *_):
        seen.append((action, first, second))
        return sqlite3.SQLITE_OK

    for _ in range(count):
        where = maker.expression()
        if register(db, where) is not None:
            continue
        taken.add(where)
        for sql in (
            f"SELECT 1 FROM main.t AS t WHERE (({where}\n) IS TRUE)",
            f"SELECT NOT (({where}\n) IS TRUE) FROM planned p CROSS JOIN main.t t ON t.id = p._archive_k1",
        ):
            seen.clear()
            db.set_authorizer(note)
            try:
                db.execute(f"EXPLAIN {sql}").fetchall()
            finally:
                db.set_authorizer(None)
            for action, first, second in seen:
                if action == sqlite3.SQLITE_FUNCTION:
                    assert second in plain, where
                elif action == sqlite3.SQLITE_READ:
                    # The other columns are the test's own.
                    assert first == "t" or first == "planned", where
                else:
                    assert action == sqlite3.SQLITE_SELECT, (action, first, second, where)
            assert [action for action, *_ in seen].count(sqlite3.SQLITE_SELECT) == 1, where
        assert run(db, dry_run=True)["status"] in ("done", "failed")
    assert called == [] and len(taken) > count // 20
