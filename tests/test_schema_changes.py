"""ALTER TABLE, DROP TABLE and friends with rows on both sides: queries go on, or say what to do."""

import json
import re
import sqlite3
from contextlib import closing

import pytest

from conftest import archive, connect

COLUMNS = "(head TEXT, id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, mid, tail TEXT)"
TABLE = f"CREATE TABLE t {COLUMNS};"
REBUILD = f"""CREATE TABLE t_new {COLUMNS}; INSERT INTO t_new SELECT * FROM t; DROP TABLE t;
              ALTER TABLE t_new RENAME TO t;"""
REBUILD_OLD = f"""ALTER TABLE t RENAME TO t_old; {TABLE} INSERT INTO t SELECT * FROM t_old;
                  DROP TABLE t_old;"""
SWAP = "ALTER TABLE t RENAME TO t_old; ALTER TABLE other RENAME TO t;"
ADOPT = "SELECT archive_adopt('t')"
TAIL = """SELECT archive_adopt('t', '{"columns":{"tail":"r"}}')"""
AGAIN = "dropped and created again.*archive_adopt.*archive_rename"

# What is done; the table's name then; if queries do not go on, what their error says, and what to do.
CHANGES = {
    "add": ("ALTER TABLE t ADD COLUMN extra", "t", None, None),
    "add with default": ("ALTER TABLE t ADD COLUMN extra NOT NULL DEFAULT 'x'", "t", None, None),
    "drop first": ("ALTER TABLE t DROP COLUMN head", "t", None, None),
    "drop middle": ("ALTER TABLE t DROP COLUMN mid", "t", None, None),
    "drop last": ("ALTER TABLE t DROP COLUMN tail", "t", None, None),
    "rename first": ("ALTER TABLE t RENAME COLUMN head TO r", "t", None, None),
    "rename key": ("ALTER TABLE t RENAME COLUMN id TO r", "t", None, None),
    "rename time": ("ALTER TABLE t RENAME COLUMN created_at TO r", "t", None, None),
    "rename middle": ("ALTER TABLE t RENAME COLUMN mid TO r", "t", None, None),
    "rename last": (
        "ALTER TABLE t RENAME COLUMN tail TO r",
        "t",
        "not certain.*archive_adopt",
        TAIL,
    ),
    "rename table": ("ALTER TABLE t RENAME TO u", "u", None, None),
    "rebuild": (REBUILD, "t", AGAIN, ADOPT),
    "rebuild by renaming": (REBUILD_OLD, "t", AGAIN, ADOPT),
    "create again": (f"DROP TABLE t; {TABLE}", "t", AGAIN, ADOPT),
    "swap": (SWAP, "t_old", None, None),
}


def insert(db, table, day, first=0):
    """Three rows of a day; columns by their positions, as they may have other names by now."""
    width = len(db.execute(f"PRAGMA main.table_info({table})").fetchall())
    names = [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]
    for n in range(first, first + 3):
        values = {"id": n, "created_at": f"2024-01-{day:02} 12:00", "mid": n * 1.5, "tail": f"t{n}"}
        row = [values.get(name, f"{name}{n}") for name in names]
        if "created_at" not in names:
            row[2] = values["created_at"]
        if "id" not in names:
            row[1] = n
        db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * width)})", row)


def call(db, sql):
    return json.loads(db.execute(sql).fetchone()[0])


def rows(db, table):
    """The rows of a table, and the names of its columns."""
    found = db.execute(f"SELECT * FROM {table}")
    return [column[0] for column in found.description], sorted(found.fetchall(), key=repr)


def prepare(path, staged):
    """Day 1 is cold, day 2 is staged if wanted, days 3, 4 and 28 are hot; returns a plain copy of all."""
    twin = sqlite3.connect(path.with_name("twin.db"), isolation_level=None)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for one in (db, twin):
            one.executescript(f"""CREATE TABLE first (a, b); CREATE INDEX first_a ON first (a);
                                  CREATE VIRTUAL TABLE words USING fts5 (word);
                                  {TABLE} CREATE TABLE other {COLUMNS};""")
            for day in (1, 2, 3, 4, 28):
                insert(one, "t", day, day * 10)
            insert(one, "other", 1, 900)
    with closing(connect(path)) as db:
        assert archive(db, "t", None, {"before": "2024-01-02"})["rows"] == 3
        if staged:
            staging = {"before": "2024-01-03", "grace_hours": 24}
            assert archive(db, "t", None, staging)["staged"] == 3
    return twin


def run(path, sql, loaded, vacuum):
    """Does the change in a connection of its own, which is left open if the extension is loaded."""
    db = connect(path) if loaded else sqlite3.connect(path, isolation_level=None)
    if loaded:
        db.execute("SELECT * FROM all_t").fetchall()
        # SQLite checks every view of the connection: the way that the README says.
        db.execute("DROP VIEW all_t")
    db.executescript(sql + (";VACUUM" if vacuum else ""))
    if not loaded:
        db.close()
    return db


def assert_right_or_refused(db, name, twin, message):
    """The rows of all_t, in the columns that the connection knows, or an error; never anything else."""
    stale = "no such (table|column): |archive_attach"
    try:
        columns, found = rows(db, f"all_{name}")
    except sqlite3.DatabaseError as error:
        assert re.search(f"{message}|{stale}" if message else stale, str(error)), error
    else:
        names = ", ".join(f"t.{column}" for column in columns)
        plain = twin.execute(f"SELECT {names} FROM {name} AS t").fetchall()
        assert found == sorted(plain, key=repr) and not message


@pytest.mark.parametrize("staged", [False, True], ids=["", "staged"])
@pytest.mark.parametrize("vacuum", [False, True], ids=["", "vacuum"])
@pytest.mark.parametrize("loaded", [False, True], ids=["plain", "loaded"])
@pytest.mark.parametrize("change", CHANGES)
def test_change(path, change, loaded, vacuum, staged):
    """Queries, archiving and restoring go on after a change, at once or after what the error says."""
    sql, name, message, way_out = CHANGES[change]
    twin = prepare(path, staged)
    with closing(connect(path)) as reader:
        reader.execute("SELECT * FROM all_t").fetchall()
        doer = run(path, sql, loaded, vacuum)
        # What was cold is all that DROP TABLE leaves.
        lost = "DELETE FROM t WHERE created_at >= '2024-01-02'"
        twin.executescript(lost if change == "create again" else sql)
        with closing(connect(path)) as fresh:
            everybody = [fresh, reader] + [doer] * loaded
            for db in everybody:
                assert_right_or_refused(db, name, twin, message)
            if name != "t":
                with pytest.raises(sqlite3.OperationalError, match="no such table|archive_attach"):
                    reader.execute("SELECT * FROM all_t").fetchall()
            if message:
                for refused in (f"SELECT * FROM all_{name}", f"SELECT archive_table('{name}', 7)"):
                    with pytest.raises(sqlite3.DatabaseError, match=message):
                        fresh.execute(refused).fetchall()
                fresh.execute(way_out).fetchall()
            for db in everybody:
                assert call(db, "SELECT archive_attach()")["problems"] == []
                assert rows(db, f"all_{name}") == rows(twin, name)
                sql = "SELECT count(*) FROM temp.sqlite_schema WHERE name IN ('cold_t', 'all_t')"
                assert db.execute(sql).fetchone() == (2 if name == "t" else 0,)
            go_on(fresh, name, change, twin)
            for db in everybody:
                db.execute("SELECT archive_attach()").fetchall()
                assert rows(db, f"all_{name}") == rows(twin, name)
        if loaded:
            doer.close()


def go_on(db, name, change, twin):
    """More rows come, more become cold, all are as they should be, and all come back."""
    for one in (db, twin):
        insert(one, name, 3, 100)
    options = {"before": "2024-01-04", "time_column": "r" if "time" in change else "created_at"}
    moved = archive(db, name, None, options)["rows"]
    assert moved == (3 if change == "create again" else 9)
    assert rows(db, f"all_{name}") == rows(twin, name)
    verified = call(db, "SELECT archive_verify()")
    assert (verified["rows"], verified["problems"]) == (moved + 3, [])
    assert call(db, f"SELECT archive_restore('{name}')")["cold_rows"] == 0
    assert rows(db, name) == rows(db, f"all_{name}") == rows(twin, name)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


NEEDS_NO_VIEW = ["rebuild", *(c for c in CHANGES if c.startswith("drop "))]


@pytest.mark.parametrize("change", NEEDS_NO_VIEW)
def test_a_change_that_the_view_is_in_the_way_of(path, change):
    """With the extension loaded SQLite refuses some changes; all is as before then, and can be done."""
    sql, name, _, way_out = CHANGES[change]
    twin = prepare(path, False)
    with closing(connect(path)) as db:
        db.execute("BEGIN")
        with pytest.raises(sqlite3.OperationalError, match="error in view all_t|no such table"):
            for statement in sql.split(";"):
                db.execute(statement)
        db.execute("ROLLBACK")
        assert rows(db, "all_t") == rows(twin, "t")
        db.executescript("DROP VIEW all_t;" + sql)
        twin.executescript(sql)
        db.execute(way_out or "SELECT archive_attach()").fetchall()
        db.execute("SELECT archive_attach()").fetchall()
        assert rows(db, "all_t") == rows(twin, name)


FOLLOWED = ["add", "add with default", "swap", *(c for c in CHANGES if c.startswith("rename "))]


@pytest.mark.parametrize("change", FOLLOWED)
def test_a_change_that_the_view_follows(path, change):
    """With the extension loaded and its view in place: the rows stay those of the table."""
    sql, name, _, way_out = CHANGES[change]
    twin = prepare(path, False)
    with closing(connect(path)) as db:
        db.execute("SELECT * FROM all_t").fetchall()
        db.executescript(sql)
        twin.executescript(sql)
        assert len(rows(db, "all_t")[1]) == len(rows(twin, name)[1])
        if way_out:
            call(db, way_out)
        assert call(db, "SELECT archive_attach()") == {"tables": [name], "problems": []}
        assert rows(db, f"all_{name}") == rows(twin, name)


@pytest.mark.parametrize("vacuum", ["", "VACUUM"])
def test_drop_table(path, vacuum):
    """The cold rows stay in cold_t; all_t says what to do; the table made anew can have them back."""
    twin = prepare(path, False)
    cold = twin.execute("SELECT * FROM t WHERE created_at < '2024-01-02' ORDER BY id").fetchall()
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.executescript(f"DROP TABLE t; {vacuum}")
    with closing(connect(path)) as db:
        missing = "t is no longer in the database; cold_t .* archive_rename"
        for sql in ("SELECT * FROM all_t", "SELECT archive_restore('t')"):
            with pytest.raises(sqlite3.DatabaseError, match=missing):
                db.execute(sql).fetchall()
        assert db.execute("SELECT * FROM cold_t ORDER BY id").fetchall() == cold
        db.executescript(f"{TABLE} SELECT archive_adopt('t'); SELECT archive_restore('t');")
        assert db.execute("SELECT * FROM t ORDER BY id").fetchall() == cold
        assert db.execute("SELECT count(*) FROM cold_t").fetchone() == (0,)


@pytest.mark.parametrize("vacuum", ["", "VACUUM"])
def test_other_columns_are_never_mixed(path, vacuum):
    """A table made anew with other columns: archive_adopt wants to know of each, or they stay apart."""
    twin = prepare(path, False)
    cold = twin.execute("SELECT * FROM t WHERE created_at < '2024-01-02' ORDER BY id").fetchall()
    again = "CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, body)"
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.executescript(f"DROP TABLE t; {again}; INSERT INTO t VALUES (5, '2024-01-01', 'new')")
        plain.executescript(vacuum)
    with closing(connect(path)) as db:
        for sql, words in (
            ("SELECT * FROM all_t", AGAIN),
            ("SELECT archive_adopt('t')", "not certain"),
            ("SELECT archive_rename('t', 'T')", AGAIN),
        ):
            with pytest.raises(sqlite3.DatabaseError, match=words):
                db.execute(sql).fetchall()
        assert call(db, "SELECT archive_rename('t', 'kept')")["table"] == "kept"
        assert db.execute("SELECT * FROM cold_kept ORDER BY id").fetchall() == cold
        assert archive(db, "t", None, {"before": "2024-01-02"})["kept_rows"] == 1
        assert db.execute("SELECT * FROM all_t").fetchall() == [(5, "2024-01-01", "new")]
        assert db.execute("SELECT * FROM cold_kept ORDER BY id").fetchall() == cold
        assert call(db, "SELECT archive_verify()")["problems"] == []


@pytest.mark.parametrize("vacuum", ["", "VACUUM"])
def test_two_archived_tables_change_names(path, vacuum):
    """Both have cold rows: each keeps its own, also for a connection that was open before."""
    twin = prepare(path, False)
    swap = f"{SWAP} ALTER TABLE t_old RENAME TO other;"
    with closing(connect(path)) as reader:
        # The one row with the largest id stays hot in neither: ids are not handed out twice.
        archive(reader, "other", None, {"before": "2024-01-02"})
        reader.execute("SELECT * FROM all_t, all_other").fetchall()
        with closing(sqlite3.connect(path, isolation_level=None)) as plain:
            plain.executescript(swap + vacuum)
        twin.executescript(swap)
        for table in ("t", "other"):
            with pytest.raises(sqlite3.OperationalError, match="archive_attach"):
                reader.execute(f"SELECT * FROM all_{table} AS a").fetchall()
        with closing(connect(path)) as fresh:
            for db in (fresh, reader):
                db.execute("SELECT archive_attach()").fetchall()
                assert [rows(db, f"all_{t}") for t in ("t", "other")] == [
                    rows(twin, t) for t in ("t", "other")
                ]


@pytest.mark.parametrize("has_files", [True, False], ids=["archived", "policy"])
def test_a_table_takes_the_name_of_one_that_is_gone(path, has_files):
    """Its cold rows follow; those of the other have a name of their own."""
    twin = prepare(path, False)
    with closing(connect(path)) as db:
        if has_files:
            insert(db, "other", 1, 800)
            archive(db, "other", None, {"before": "2024-01-02"})
        else:
            db.execute("SELECT archive_policy('other', 7)").fetchall()
    renamed = "DROP TABLE other; ALTER TABLE t RENAME TO other;"
    twin.executescript(renamed)
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.executescript(renamed)
    with closing(connect(path)) as db:
        assert rows(db, "all_other") == rows(twin, "other")
        assert archive(db, "other", None, {"before": "2024-01-03"})["rows"] == 3
        assert rows(db, "all_other") == rows(twin, "other")
        gone = db.execute("SELECT name FROM _archive_table WHERE place IS NULL").fetchall()
        assert gone == ([("other_2",)] if has_files else [])
        if has_files:
            db.execute("SELECT archive_attach()").fetchall()
            assert db.execute("SELECT count(*) FROM cold_other_2").fetchone() == (6,)
        assert call(db, "SELECT archive_verify()")["problems"] == []


def test_cold_rows_go_to_a_table_that_only_has_a_policy(path):
    """archive_rename: what is registered without a cold row is nobody's."""
    twin = prepare(path, False)
    with closing(connect(path)) as db:
        db.execute("SELECT archive_policy('other', 7)").fetchall()
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.executescript("DELETE FROM other; INSERT INTO other SELECT * FROM t; DROP TABLE t")
    with closing(connect(path)) as db:
        assert call(db, "SELECT archive_rename('t', 'other')")["problems"] == []
        assert rows(db, "all_other") == rows(twin, "t")
        assert db.execute("SELECT table_name FROM _archive_policy").fetchall() == [("other",)]
        assert call(db, "SELECT archive_verify()")["problems"] == []


@pytest.mark.parametrize("ddl", ["CREATE TABLE x (y)", "CREATE INDEX i ON t (mid)", "VACUUM"])
@pytest.mark.parametrize("source", ["all_t", "cold_t"])
def test_a_statement_prepared_after_another_ones_ddl(path, source, ddl):
    """A connection that does nothing but query goes on, whatever the others do to the schema."""
    prepare(path, False)
    with closing(connect(path)) as reader:
        count = len(reader.execute(f"SELECT * FROM {source}").fetchall())
        for n in range(3):
            with closing(sqlite3.connect(path, isolation_level=None)) as plain:
                plain.execute("DROP INDEX IF EXISTS i")
                plain.execute("DROP TABLE IF EXISTS x")
                plain.execute(ddl)
            found = reader.execute(f"SELECT *, {n} FROM {source} WHERE id > 0 ORDER BY id")
            assert len(found.fetchall()) == count


def test_an_older_table_that_takes_the_name_inherits_nothing(path):
    """Not even where VACUUM has moved all and a table is missing; one that was not renamed goes on."""
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript(f"CREATE TABLE gone (x); CREATE TABLE other {COLUMNS}; {TABLE}")
        plain.executescript(TABLE.replace("TABLE t", "TABLE bystander"))
        insert(plain, "t", 1)
        insert(plain, "bystander", 1)
        plain.commit()
    with closing(connect(path)) as connection:
        for table in ("t", "bystander"):
            assert archive(connection, table, None, {"before": "2024-02-01"})["rows"] == 3
    with closing(sqlite3.connect(path)) as plain:
        insert(plain, "other", 2, first=7)
        plain.commit()
        plain.executescript("DROP TABLE t; ALTER TABLE other RENAME TO t; DROP TABLE gone; VACUUM")
    with closing(connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM all_bystander").fetchone() == (3,)
        assert connection.execute("SELECT count(*) FROM cold_t").fetchone() == (3,)
        with pytest.raises(sqlite3.OperationalError, match=AGAIN):
            connection.execute("SELECT * FROM all_t").fetchall()
        with pytest.raises(sqlite3.OperationalError, match=AGAIN):
            archive(connection, "t", 7)
        connection.execute("SELECT archive_rename('t', 't_before')").fetchall()
        assert archive(connection, "t", None, {"before": "2024-02-01"})["rows"] == 3
        ids = [id for (id,) in connection.execute("SELECT id FROM all_t ORDER BY id")]
        before = [id for (id,) in connection.execute("SELECT id FROM cold_t_before ORDER BY id")]
        assert (ids, before) == ([7, 8, 9], [0, 1, 2])


# What a table is built anew with; what archive_adopt asks for.
REBUILT = {
    "inserted where one was dropped": ("head, id, created_at, new, tail", ["mid"]),
    "dropped": ("head, id, created_at, tail", ["mid"]),
    "moved and one inserted": ("new, id, created_at, head, mid, tail", []),
    "two inserted where three were dropped": ("id, created_at, new, other", ["head", "mid", "tail"]),
}


@pytest.mark.parametrize("way", ["adopt", "rename"])
@pytest.mark.parametrize("rebuilt", REBUILT)
def test_a_table_that_was_built_anew_goes_by_names(path, rebuilt, way):
    """No column shows another's values: what is not there by its name is asked for, or told."""
    columns, asked = REBUILT[rebuilt]
    prepare(path, False)
    key = "id INTEGER PRIMARY KEY AUTOINCREMENT"
    declared = ", ".join(key if name == "id" else name for name in columns.split(", "))
    name = "t" if way == "adopt" else "renamed"
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.executescript(f"""CREATE TABLE t_new ({declared}); DROP TABLE t;
                                ALTER TABLE t_new RENAME TO {name};""")
    ask = {"adopt": "archive_adopt('t', ?)", "rename": "archive_rename('t', 'renamed', ?)"}[way]
    with closing(connect(path)) as db:
        cold = db.execute("SELECT * FROM cold_t").fetchall()
        if asked:
            what = f"not certain what became of the columns {', '.join(asked)} of {name}"
            with pytest.raises(sqlite3.OperationalError, match=f"{what}.*archive_{way}"):
                db.execute(f"SELECT {ask}", (None,)).fetchall()
            with pytest.raises(sqlite3.OperationalError):
                db.execute(f"SELECT * FROM all_{name}").fetchall()
        told = {"columns": {column: None for column in asked}}
        db.execute(f"SELECT {ask}", (json.dumps(told),)).fetchall()
        shown = db.execute(f"SELECT {columns} FROM all_{name} AS x").fetchall()
        was = {name: n for n, name in enumerate(["head", "id", "created_at", "mid", "tail"])}
        places = [was.get(column) for column in columns.split(", ")]
        expected = [tuple(None if n is None else row[n] for n in places) for row in cold]
        assert sorted(shown, key=repr) == sorted(expected, key=repr) and len(shown) == 3


def test_a_column_that_was_renamed_by_a_rebuild_is_told(path):
    """What the error says to write brings the values back under the new name."""
    prepare(path, False)
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.executescript(REBUILD.replace("mid", "middle"))
    with closing(connect(path)) as db:
        with pytest.raises(sqlite3.OperationalError) as refused:
            db.execute("SELECT archive_adopt('t')").fetchall()
        (way_out,) = re.findall(r"archive_adopt\(.*?\}\}'\)", str(refused.value))
        db.execute("SELECT " + way_out.replace("...", "middle")).fetchall()
        sql = "SELECT count(*), count(middle) FROM all_t"
        assert db.execute(sql).fetchone() == (15, 15)


# Values that the affinity of a column may turn into others.
CONVERTED = [5, "5", " 5 ", "5.0", "05", 5.0, 5.5, "abc", b"5", None, "1e2", "0x10", 2**53 + 1, 1e300, "-0", -0.0]
CONVERTED_TERMS = ["1", "x = 5", "x = '5'", "x > 4", "x < '6'", "x IN (5, 100)", "x IN ('5', '100')"]
CONVERTED_TERMS += ["x IS NULL", "x IS NOT NULL", "x LIKE '5%'", "typeof(x) = 'text'"]
AFFINITIES = ["TEXT", "INTEGER", "REAL", "NUMERIC", ""]


@pytest.mark.parametrize("now", AFFINITIES)
@pytest.mark.parametrize("then", AFFINITIES)
def test_a_column_that_a_rebuild_gives_another_type(path, then, now):
    """Cold rows show what an INSERT into the new table makes of their values, as hot rows do, and are
    found by it; where that changes nothing, files are skipped as before."""
    create = "CREATE TABLE {} (id INTEGER PRIMARY KEY, created_at TEXT, x {})"
    twin = sqlite3.connect(":memory:", isolation_level=None)
    with closing(connect(path)) as db, closing(twin) as plain:
        for connection in (db, plain):
            connection.execute(create.format("t", then))
            rows = [(f"2024-01-0{1 + n % 3}", value) for n, value in enumerate(CONVERTED)]
            rows.append(("2024-05-01", 1))
            connection.executemany("INSERT INTO t (created_at, x) VALUES (?, ?)", rows)
        assert archive(db, "t", None, {"before": "2024-02-01"})["rows"] == len(CONVERTED)
        db.execute("DROP VIEW all_t")
        for connection in (db, plain):
            connection.executescript(
                create.format("anew", now)
                + "; INSERT INTO anew SELECT * FROM t; DROP TABLE t; ALTER TABLE anew RENAME TO t"
            )
        db.execute("SELECT archive_adopt('t')").fetchall()
        queries = [
            f"SELECT id, x, typeof(x) FROM {{}} WHERE {term} ORDER BY {order}"
            for term in CONVERTED_TERMS
            for order in ("id", "x, id", "x DESC, id")
        ]
        expected = [plain.execute(query.format("t")).fetchall() for query in queries]
        for query, rows in zip(queries, expected):
            assert db.execute(query.format("all_t")).fetchall() == rows, query
        db.execute("SELECT archive_restore('t')").fetchall()
        assert db.execute(queries[0].format("t")).fetchall() == expected[0]


def test_a_key_that_a_rebuild_gives_another_type(path):
    """A key is looked up, and put in order, as what it is now."""
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE t (id TEXT PRIMARY KEY, created_at TEXT)")
        for id in range(1, 31):
            db.execute("INSERT INTO t VALUES (?, ?)", [str(id), f"2024-01-{id:02}"])
        assert archive(db, "t", None, {"before": "2024-01-21"})["rows"] == 20
        db.execute("DROP VIEW all_t")
        db.executescript("""CREATE TABLE anew (id INTEGER PRIMARY KEY, created_at TEXT);
                            INSERT INTO anew SELECT * FROM t; DROP TABLE t; ALTER TABLE anew RENAME TO t""")
        db.execute("SELECT archive_adopt('t')").fetchall()
        ids = [id for (id,) in db.execute("SELECT id FROM all_t ORDER BY id")]
        assert ids == list(range(1, 31))
        for source in ("cold_t", "all_t"):
            found = db.execute(f"SELECT id, created_at FROM {source} WHERE id = 7").fetchall()
            assert found == [(7, "2024-01-07")]
        count = db.execute("SELECT count(*) FROM cold_t WHERE rowid BETWEEN 3 AND 12").fetchone()
        assert count == (10,)
        db.execute("SELECT archive_restore('t')").fetchall()
        assert [id for (id,) in db.execute("SELECT id FROM t ORDER BY id")] == ids


RETAKEN = [
    "DROP COLUMN b; ALTER TABLE t RENAME COLUMN c TO b",
    "DROP COLUMN c; ALTER TABLE t ADD COLUMN c REAL; ALTER TABLE t DROP COLUMN b",
]


@pytest.mark.parametrize("changes", RETAKEN)
def test_a_name_that_another_type_took_over_is_not_certain(path, changes):
    """Names and order alone would give it another column's values: ALTER TABLE never changes a type."""
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, b TEXT, c INTEGER)")
        db.execute("INSERT INTO t VALUES (1, '2024-01-01', 'b', 3), (2, '2024-05-01', 'b', 3)")
        assert archive(db, "t", None, {"before": "2024-02-01"})["rows"] == 1
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript(f"ALTER TABLE t {changes}")
    with closing(connect(path)) as db:
        with pytest.raises(sqlite3.OperationalError, match="not certain which is which"):
            db.execute("SELECT * FROM all_t").fetchall()


def anew(columns, names, values=None):
    """SQL that builds t anew, with the values of the old one under new names."""
    return f"""CREATE TABLE anew (id INTEGER PRIMARY KEY, created_at TEXT, {columns});
               INSERT INTO anew (id, created_at, {names}) SELECT id, created_at, {values or names} FROM t;
               DROP TABLE t; ALTER TABLE anew RENAME TO t"""


ADD = "ALTER TABLE t DROP COLUMN g; ALTER TABLE t ADD COLUMN g INT"
SWAPPED = anew("z INT, a INT, g INT AS (a + 1)", "z, a", "a, b")
# The columns of a table, what changes, and whether the values that cold rows have in g still are those of g.
COMPUTED = {
    "another expression": ("a INT, g INT AS (a + 1)", ADD + " AS (a + 100)", False),
    "the same expression": ("a INT, g INT AS (a+1)", ADD + ' AS ("a" + 1)', True),
    "no longer computed": ("a INT, g INT AS (a + 1)", ADD, True),
    "computed by now": ("a INT, g INT", ADD + " AS (a + 100)", False),
    "of a renamed column": ("a INT, g INT AS (a + 1)", "ALTER TABLE t RENAME COLUMN a TO z", True),
    "anew": ("a INT, g INT AS (a + 1)", anew("a INT, g INT AS (a + 1)", "a"), True),
    "anew, another": ("a INT, g INT AS (a + 1)", anew("a INT, g INT AS (a + 100)", "a"), False),
    "anew, computed by now": ("a INT, g INT", anew("a INT, g INT AS (a + 100) STORED", "a"), False),
    "anew, no longer": ("a INT, g INT AS (a + 1)", anew("a INT, g INT", "a, g"), True),
    "anew, of another type": ("a INT, g AS (typeof(a))", anew("a TEXT, g AS (typeof(a))", "a"), False),
    "anew, of what took its name": ("a INT, b INT DEFAULT 7, g INT AS (a + 1)", SWAPPED, False),
    "anew, of another that is": (
        "a INT, h AS (a + 1), g AS (h + 1)",
        anew("a INT, h AS (a + 100), g AS (h + 1)", "a"),
        False,
    ),
}


@pytest.mark.parametrize("change", COMPUTED)
def test_a_generated_column_that_is_computed_otherwise(path, change):
    """Cold rows never show what another expression had made of them."""
    columns, sql, kept = COMPUTED[change]
    twin = sqlite3.connect(":memory:", isolation_level=None)
    with closing(connect(path)) as db, closing(twin) as plain:
        for connection in (db, plain):
            create = f"CREATE TABLE t (id INTEGER PRIMARY KEY, created_at TEXT, {columns})"
            connection.execute(create)
            for n in range(1, 5):
                row = (n, f"2024-0{n}-01", n)
                connection.execute("INSERT INTO t (id, created_at, a) VALUES (?, ?, ?)", row)
        assert archive(db, "t", None, {"before": "2024-03-01"})["rows"] == 2
        db.execute("DROP VIEW all_t")
        for connection in (db, plain):
            connection.executescript(sql)
        if "anew" in sql:
            told = {"columns": {"a": "z", "b": "a"}} if sql == SWAPPED else {}
            db.execute("SELECT archive_adopt('t', ?)", [json.dumps(told)]).fetchall()
        db.execute("SELECT archive_attach()").fetchall()
        query = "SELECT id, g FROM {} ORDER BY id"
        expected = plain.execute(query.format("t")).fetchall()
        if kept:
            assert db.execute(query.format("all_t")).fetchall() == expected
        else:
            with pytest.raises(sqlite3.OperationalError, match="g of t is a generated column"):
                db.execute(query.format("all_t")).fetchall()
        db.execute("SELECT archive_restore('t')").fetchall()
        assert db.execute(query.format("t")).fetchall() == expected
