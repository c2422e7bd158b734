"""cold_t and all_t: when they are there, what making them costs, and names that others have."""

import json
import sqlite3
import textwrap

import pytest

from conftest import LIBRARY, archive, connect, load, process

DAY = "2020-01-01"
CREATE_VTABLE = 29


def fill(db, *names, columns="id INTEGER PRIMARY KEY, created_at TEXT"):
    """Tables with two old rows and a new one."""
    for name in names:
        quoted = '"' + name.replace('"', '""') + '"'
        db.execute(f"CREATE TABLE main.{quoted} ({columns})")
        db.execute(f"INSERT INTO main.{quoted} (id, created_at) VALUES (1, ?), (2, ?), (3, '2999-01-01')", (DAY, DAY))


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def attach(db):
    (text,) = db.execute("SELECT archive_attach()").fetchone()
    return json.loads(text)


def count(db, name):
    return db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]


def temporary(db):
    """The names in TEMP, but for the library's own lists."""
    names = db.execute("SELECT name FROM temp.sqlite_schema WHERE name NOT GLOB '_archive_*' ORDER BY name")
    return [name for (name,) in names]


def traced(db, body):
    """The statements that a call runs, but for those by which SQLite itself reads a schema."""
    statements = []
    db.set_trace_callback(statements.append)
    body()
    db.set_trace_callback(None)
    # Statements that run inside others are shown as comments.
    statements = [sql.removeprefix("-- ") for sql in statements]
    return [sql for sql in statements if not sql.startswith('SELECT*FROM"')]


def loading(path):
    """A connection, and what loading the library into it runs."""
    db = sqlite3.connect(path, isolation_level=None)
    return db, traced(db, lambda: load(db))


# --- making them ---


def test_constructors_run_no_sql(db, path):
    """Whatever SQL xCreate ran could meet a new schema, and SQLite would free the table it is making."""
    fill(db, "t", "u")
    archive(db, "t", 7)
    archive(db, "u", 7)
    _, statements = loading(path)
    first = next(n for n, sql in enumerate(statements) if sql.startswith("CREATE"))
    made = [sql.split('"')[0] for sql in statements[first:]]
    assert made == ["CREATE VIRTUAL TABLE temp.", "CREATE TEMP VIEW "] * 2 + ["COMMIT"]


def test_a_schema_that_changes_while_tables_are_made(db, path):
    """Another connection's DDL at the very moment that a virtual table is made harms nothing."""
    db.execute("PRAGMA journal_mode=WAL")
    fill(db, "t", "u")
    archive(db, "t", 7)
    archive(db, "u", 7)
    for name in ("t", "u"):
        db.execute(f"DROP VIEW temp.all_{name}")
        db.execute(f"DROP TABLE temp.cold_{name}")
    other = sqlite3.connect(path, isolation_level=None)
    changes = []

    def change(action, *_):
        if action == CREATE_VTABLE:
            changes.append(action)
            other.execute(f"CREATE TABLE new_{len(changes)} (a, b, c)")
        return sqlite3.SQLITE_OK

    db.set_authorizer(change)
    result = attach(db)
    db.set_authorizer(None)
    assert (result, len(changes)) == ({"tables": ["t", "u"], "problems": []}, 2)
    assert (count(db, "all_t"), count(db, "cold_u")) == (3, 2)


def test_loading_beside_constant_changes_of_the_schema(db, path):
    """Processes that load the library while another one changes the schema all the time. SQLite gives up
    a query that meets too many changes, over plain tables, too: it is asked again."""
    db.execute("PRAGMA journal_mode=WAL")
    fill(db, *(f"t{n}" for n in range(5)))
    for n in range(5):
        archive(db, f"t{n}", 7)
    changer = """
        import sqlite3, sys
        db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
        print(flush=True)
        while True:
            db.execute("CREATE TABLE IF NOT EXISTS x (a, b)")
            db.execute("DROP TABLE x")
    """
    loader = """
        import sqlite3, sys
        for n in range(40):
            db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
            db.enable_load_extension(True)
            db.load_extension(sys.argv[2])
            while True:
                try:
                    assert db.execute("SELECT count(*) FROM all_t0, cold_t4").fetchone() == (6,)
                    break
                except sqlite3.OperationalError as error:
                    assert str(error) == "database schema has changed", error
            db.close()
    """
    with process(textwrap.dedent(changer), path) as changing:
        changing.stdout.readline()
        with process(textwrap.dedent(loader), path, LIBRARY.with_suffix("")) as loading_process:
            _, errors = loading_process.communicate(timeout=120)
            assert (loading_process.returncode, errors) == (0, "")
        assert changing.poll() is None


def test_loading_looks_once(db, path):
    """What loading runs, but for the objects it makes, does not depend on how many tables there are."""
    fill(db, "t")
    archive(db, "t", 7)
    _, one = loading(path)
    fill(db, *(f"t{n}" for n in range(9)))
    for n in range(9):
        archive(db, f"t{n}", 7)
    _, ten = loading(path)
    looks = [[sql for sql in run if not sql.startswith("CREATE")] for run in (one, ten)]
    assert looks[0] == looks[1]
    assert len(ten) - len(looks[1]) == 20


def test_attaching_again_makes_nothing(db):
    """archive_attach() with everything in place only looks."""
    fill(db, "t", "u")
    archive(db, "t", 7)
    archive(db, "u", 7)
    statements = traced(db, lambda: attach(db))
    assert [sql for sql in statements if sql.startswith(("CREATE", "DROP"))] == []
    db.execute("ALTER TABLE u ADD COLUMN note TEXT DEFAULT 'none'")
    statements = traced(db, lambda: attach(db))
    changes = [sql.split(" AS ")[0][:27] for sql in statements if sql.startswith(("CREATE", "DROP"))]
    assert changes == ["DROP table temp.\"cold_u\"", "CREATE VIRTUAL TABLE temp.\"", "DROP view temp.\"all_u\"", "CREATE TEMP VIEW \"all_u\""]
    assert db.execute("SELECT DISTINCT note FROM cold_u").fetchall() == [("none",)]


def test_statements_of_others_are_refused(db):
    """Only archive_attach() makes such tables: in temp, with a shape that can be read."""
    fill(db, "t")
    archive(db, "t", 7)
    (made,) = db.execute("SELECT sql FROM temp.sqlite_schema WHERE name = 'cold_t'").fetchone()
    using = made.partition("USING ")[2]
    for statement in (
        f"CREATE VIRTUAL TABLE main.cold_t USING {using}",
        f"CREATE VIRTUAL TABLE temp.other USING {using}",
        "CREATE VIRTUAL TABLE temp.cold_x USING archive_cold(1, joined, '{}')",
        "CREATE VIRTUAL TABLE temp.cold_x USING archive_cold(1, joined)",
        "CREATE VIRTUAL TABLE temp.cold_x USING archive_cold(1, joined, '{\"columns\":[[]],\"key\":null,\"encoding\":\"UTF-8\"}')",
        "CREATE VIRTUAL TABLE temp.cold_x USING archive_cold",
    ):
        with pytest.raises(sqlite3.OperationalError, match="archive_attach"):
            db.execute(statement)
    wrong = made.replace('"cold_t"', "temp.cold_y").replace('"alias":0', '"alias":99')
    db.execute(wrong)
    assert count(db, "cold_y") == 2


def test_undone_with_the_transaction(db):
    """ROLLBACK brings back the table and the view of it that were there."""
    fill(db, "t")
    archive(db, "t", 7)
    db.execute("BEGIN")
    db.execute("ALTER TABLE t ADD COLUMN a DEFAULT 5")
    attach(db)
    assert db.execute("SELECT a FROM all_t WHERE id = 1").fetchone() == (5,)
    db.execute("ROLLBACK")
    assert len(db.execute("SELECT * FROM all_t WHERE id = 1").fetchone()) == 2


# --- policies ---


def test_a_policy_is_enough(db, path):
    """Connections that are opened after archive_policy see the rows once they are cold."""
    fill(db, "t")
    db.execute("SELECT archive_policy('t', 7, '{\"grace_hours\":0}')")
    pool = [connect(path) for _ in range(3)]
    for connection in [db, *pool]:
        assert (count(connection, "all_t"), count(connection, "cold_t")) == (3, 0)
    db.execute("SELECT archive_run('{\"backup\":false}')")
    for connection in [db, *pool]:
        assert (count(connection, "all_t"), count(connection, "cold_t"), count(connection, "t")) == (3, 2, 1)
        assert connection.execute("SELECT id FROM all_t ORDER BY created_at").fetchall() == [(1,), (2,), (3,)]


def test_an_older_connection_attaches(db, path):
    """A connection that was opened before the policy gets the names by archive_attach()."""
    fill(db, "t")
    older = connect(path)
    db.execute("SELECT archive_policy('t', 7)")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        count(older, "all_t")
    assert attach(older) == {"tables": ["t"], "problems": []}
    assert count(older, "all_t") == 3


def test_a_policy_alone_binds_nobody(db, path):
    """A table without cold rows may be made again, renamed, and dropped, as one without a policy may."""
    fill(db, "t")
    db.execute("SELECT archive_policy('t', 7, '{\"grace_hours\":0}')")
    # As Django and Alembic rebuild a table.
    plain = sqlite3.connect(path, isolation_level=None)
    fill(plain, "new", columns="name TEXT DEFAULT 'x', id INTEGER PRIMARY KEY, created_at TEXT")
    plain.execute("DROP TABLE t")
    plain.execute("ALTER TABLE new RENAME TO t")
    fresh = connect(path)
    assert fresh.execute("SELECT name, id FROM all_t WHERE id = 1").fetchall() == [("x", 1)]
    assert attach(db) == {"tables": ["t"], "problems": []}
    db.execute("SELECT archive_policy('t', 365000, '{\"grace_hours\":0}')")
    db.execute("ALTER TABLE t RENAME TO u")
    db.execute("SELECT archive_policy('u', 7, '{\"grace_hours\":0}')")
    (text,) = db.execute("SELECT archive_run('{\"backup\":false}')").fetchone()
    assert [(table["table"], table["rows"]) for table in json.loads(text)["tables"]] == [("u", 2)]
    assert (count(db, "all_u"), count(connect(path), "all_u")) == (3, 3)


def test_a_policy_for_a_table_that_is_gone(db, path):
    """It shows nothing, and the nightly run says so until the table is there again."""
    fill(db, "t")
    db.execute("SELECT archive_policy('t', 7, '{\"grace_hours\":0}')")
    db.execute("DROP TABLE t")
    assert attach(db) == {"tables": [], "problems": []}
    assert temporary(db) == []
    (text,) = db.execute("SELECT archive_run('{\"backup\":false}')").fetchone()
    assert "archive_policy_drop" in json.loads(text)["errors"][0]
    fill(db, "t")
    assert count(connect(path), "all_t") == 3
    (text,) = db.execute("SELECT archive_run('{\"backup\":false}')").fetchone()
    assert json.loads(text)["rows"] == 2


def test_another_table_takes_the_name(db, path):
    """A renamed table with cold rows is not mixed up with one of that name that had but a policy."""
    fill(db, "t", "u")
    archive(db, "u", 7)
    db.execute("SELECT archive_policy('t', 7)")
    plain = sqlite3.connect(path, isolation_level=None)
    plain.execute("DROP TABLE t")
    plain.execute("ALTER TABLE u RENAME TO t")
    for connection in (connect(path), db):
        assert attach(connection)["problems"] == []
        assert (count(connection, "all_t"), count(connection, "cold_t")) == (3, 2)
        assert temporary(connection) == ["all_t", "cold_t"]
    db.execute("SELECT archive_run('{\"backup\":false}')")
    assert (count(db, "all_t"), count(connect(path), "all_t")) == (3, 3)


def test_dropping_a_policy(db):
    """The names go with the policy of a table that has no cold rows, and stay with those."""
    fill(db, "t", "u")
    archive(db, "u", 7)
    for name in ("t", "u"):
        db.execute("SELECT archive_policy(?, 7)", (name,))
    assert temporary(db) == ["all_t", "all_u", "cold_t", "cold_u"]
    for name in ("t", "u"):
        db.execute("SELECT archive_policy_drop(?)", (name,))
    assert temporary(db) == ["all_u", "cold_u"]
    assert db.execute("SELECT name FROM _archive_table").fetchall() == [("u",)]


def test_functions_on_a_table_with_only_a_policy(db, path):
    """Everything works on it as on one whose rows all came back."""
    fill(db, "t")
    db.execute("SELECT archive_policy('t', 7)")
    assert db.execute("SELECT \"table\", hot_rows, cold_rows, files FROM archive_status").fetchall() == [("t", 3, 0, 0)]
    assert db.execute("SELECT * FROM archive_files('t')").fetchall() == []
    assert json.loads(db.execute("SELECT archive_verify()").fetchone()[0])["files"] == 0
    assert json.loads(db.execute("SELECT archive_verify('t')").fetchone()[0])["files"] == 0
    for options in ({}, {"where": "id = 1"}, {"from": "2020-01-01"}):
        (text,) = db.execute("SELECT archive_restore('t', ?)", (json.dumps(options),)).fetchone()
        assert (json.loads(text)["rows"], json.loads(text)["cold_rows"]) == (0, 0)
    assert json.loads(db.execute("SELECT archive_gc()").fetchone()[0])["files"] == 0
    assert archive(db, "t", 7)["rows"] == 2


def test_the_time_format_is_found_when_there_are_times(db):
    """A policy, or a run, for a table without rows does not say what its times will look like."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, created_at)")
    db.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, created_at)")
    db.execute("SELECT archive_policy('t', 7)")
    archive(db, "u", 7)
    for name in ("t", "u"):
        db.execute(f"INSERT INTO {name} VALUES (1, 1577836800), (2, 2000000000)")
        assert archive(db, name, 7)["rows"] == 1


# --- names that others have ---


@pytest.mark.parametrize("mine", ["cold_x", "all_x", "COLD_X", "All_x"])
@pytest.mark.parametrize("kind", ["TABLE {} (a)", "VIEW {} AS SELECT 1 AS a"])
@pytest.mark.parametrize("schema", ["main", "temp", "other"])
def test_a_name_is_taken(db, schema, kind, mine):
    """Archiving, and a policy, say what to rename, and nothing of the user's is hidden or dropped."""
    db.execute("ATTACH ':memory:' AS other")
    fill(db, "x", "y")
    db.execute("CREATE " + kind.format(f"{schema}.{mine}"))
    for call in ("archive_table('x', 7)", "archive_policy('x', 7)"):
        with pytest.raises(sqlite3.OperationalError, match=f"has a {mine}" if schema == "other" else f"a {mine} of your own"):
            db.execute(f"SELECT {call}")
    assert db.execute(f"SELECT count(*) FROM {schema}.sqlite_schema WHERE name = '{mine}'").fetchone() == (1,)
    assert count(db, "x") == 3
    archive(db, "y", 7)
    assert (count(db, "all_y"), attach(db)["problems"]) == (3, [])


@pytest.mark.parametrize("mine", ["cold_x", "all_x"])
@pytest.mark.parametrize("kind", ["TABLE {} (a)", "VIEW {} AS SELECT 1 AS a WHERE 0"])
def test_a_name_is_taken_later(db, path, kind, mine):
    """A table or view that is made after x was archived is never hidden on new connections, and after
    archive_attach() on no other; the rest goes on."""
    fill(db, "w", "x", "y")
    for name in ("w", "x", "y"):
        archive(db, name, 7)
    db.execute("CREATE " + kind.format(f"main.{mine}"))
    for connection in (db, connect(path)):
        result = attach(connection)
        assert result["tables"] == ["w", "y"]
        assert len(result["problems"]) == 1 and f"a {mine} of your own" in result["problems"][0]
        assert count(connection, mine) == 0
        assert (count(connection, "all_w"), count(connection, "all_y")) == (3, 3)
    with pytest.raises(sqlite3.OperationalError, match="rename it"):
        archive(db, "x", 7)
    db.execute(f"DROP {kind.split()[0]} main.{mine}")
    assert attach(db) == {"tables": ["w", "x", "y"], "problems": []}
    assert count(db, "all_x") == 3


def test_a_temp_object_of_the_users(db, path):
    """One that is in the place of ours is left alone, and so are those that only speak of ours."""
    fill(db, "x")
    archive(db, "x", 7)
    fresh = sqlite3.connect(path, isolation_level=None)
    fresh.execute("CREATE TEMP TABLE cold_x (a)")
    load(fresh)
    assert "cold_x of your own" in attach(fresh)["problems"][0]
    assert (temporary(fresh), count(fresh, "cold_x")) == (["cold_x"], 0)
    db.execute("CREATE TEMP VIEW mine AS SELECT 'USING archive_cold(1, joined, ' AS a FROM temp.cold_x")
    db.execute("CREATE TEMP TABLE note (a DEFAULT 'FROM temp.\"cold_x\" AS cold UNION ALL USING archive_cold(1, ')")
    db.execute("ALTER TABLE x RENAME TO z")
    assert attach(db) == {"tables": ["z"], "problems": []}
    assert temporary(db) == ["all_z", "cold_z", "mine", "note"]


def test_attached_databases(db, path, tmp_path):
    """One with the same tables, archived and not, changes nothing; one whose name ours already hide is
    reported."""
    fill(db, "x")
    archive(db, "x", 7)
    (tmp_path / "b").mkdir()
    other = connect(tmp_path / "b" / "other.db")
    fill(other, "x", "y")
    archive(other, "x", 7)
    other.execute("DELETE FROM x")
    other.close()
    db.execute("ATTACH ? AS other", (str(tmp_path / "b" / "other.db"),))
    assert attach(db) == {"tables": ["x"], "problems": []}
    assert (count(db, "all_x"), count(db, "cold_x"), count(db, "other.x")) == (3, 2, 0)
    with pytest.raises(sqlite3.OperationalError, match="in the attached database other"):
        archive(db, "y", 7)
    db.execute("INSERT INTO x VALUES (0, ?)", (DAY,))
    assert archive(db, "x", 7)["rows"] == 1
    assert count(db, "all_x") == 4
    db.execute("CREATE TABLE other.cold_x (a)")
    assert "write other.cold_x" in attach(db)["problems"][0]
    assert count(db, "cold_x") == 3


@pytest.mark.parametrize(
    "name",
    [
        'quo"te', "apo'strophe", "with space", "a.b", "main.x", "[x]", "`", "-- x", "/*", "a\nb", "é", "Ä", "ключ", "emoji 🗄",
        "cold_x", "all_x", "cold_", "select", "1", "sqlite", "archive_cold", "x" * 300, "ü" * 2000, "%", "{}", "$1", "?",
    ],
)
def test_names_of_all_kinds(db, path, name):
    """A table of any name is archived, shown on every connection, and comes back."""
    fill(db, name)
    db.execute("SELECT archive_policy(?, 7)", (quoted(name),))
    assert archive(db, quoted(name), 7)["rows"] == 2
    for connection in (db, connect(path)):
        assert attach(connection) == {"tables": [name], "problems": []}
        assert count(connection, quoted("all_" + name)) == 3
        assert count(connection, quoted("cold_" + name)) == 2
    (text,) = db.execute("SELECT archive_restore(?)", (quoted(name),)).fetchone()
    assert (json.loads(text)["rows"], count(db, quoted(name))) == (2, 3)


def test_names_that_differ_by_case(db, path):
    """ASCII letters are the same in either case, as in SQLite; others are not."""
    fill(db, "Tasks", "Ärger", "ärger")
    assert archive(db, "TASKS", 7)["table"] == "Tasks"
    assert archive(db, "tasks", 7)["rows"] == 0
    assert archive(db, "Ärger", 7)["rows"] == 2
    assert archive(db, "ärger", 7)["rows"] == 2
    for connection in (db, connect(path)):
        assert count(connection, "ALL_tasks") == 3
        assert (count(connection, "all_Ärger"), count(connection, "cold_ärger")) == (3, 2)
        assert attach(connection)["problems"] == []
    db.execute("ALTER TABLE Tasks RENAME TO other")
    db.execute("ALTER TABLE other RENAME TO TASKS")
    for connection in (db, connect(path)):
        assert attach(connection)["problems"] == []
        assert count(connection, "all_tasks") == 3


def test_tables_named_like_ours(db, path):
    """cold_x and all_x may be archived themselves; then x may not."""
    fill(db, "cold_x", "all_x", "x")
    archive(db, "cold_x", 7)
    archive(db, "all_x", 7)
    for connection in (db, connect(path)):
        assert attach(connection) == {"tables": ["all_x", "cold_x"], "problems": []}
        assert (count(connection, "all_cold_x"), count(connection, "cold_all_x"), count(connection, "cold_x")) == (3, 2, 1)
    with pytest.raises(sqlite3.OperationalError, match="there is a cold_x of your own"):
        archive(db, "x", 7)
