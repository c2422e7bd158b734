"""Ids of a table without AUTOINCREMENT: SQLite hands them out again where the largest row is gone."""

import json
import sqlite3
from contextlib import closing

import pytest

from conftest import archive, connect

CUTOFF = {"before": "2024-02-01"}
LATER = {"before": "2024-02-01", "grace_hours": 24}


def call(db, sql):
    return json.loads(db.execute(sql).fetchone()[0])


@pytest.fixture(params=["id INTEGER PRIMARY KEY", "Id INTEGER PRIMARY KEY NOT NULL, more"])
def ten(db, request):
    """Rows 1 to 10, of which all but the last are cold."""
    db.execute(f"CREATE TABLE t ({request.param}, at TEXT, note UNIQUE)")
    for n in range(1, 11):
        db.execute("INSERT INTO t (id, at, note) VALUES (?, '2024-01-01', ?)", (n, f"old {n}"))
    assert archive(db, "t", None, {**CUTOFF, "time_column": "at"})["rows"] == 9
    return db


def ids(db, table="t"):
    return [id for (id,) in db.execute(f"SELECT id FROM {table} ORDER BY id")]


def add(db, note, at="2024-03-01"):
    """The id that SQLite gives to a new row."""
    insert = "INSERT INTO t (at, note) VALUES (?, ?) RETURNING id"
    return db.execute(insert, (at, note)).fetchall()[0][0]


def run(db, **options):
    return archive(db, "t", None, {**CUTOFF, "time_column": "at", **options})


@pytest.mark.parametrize("grace", [0, 24])
def test_the_largest_cold_id_comes_back(ten, grace):
    """When the application has deleted the row that kept it, another takes its part at the next run."""
    ten.execute("DELETE FROM t WHERE id = 10")
    assert run(ten, dry_run=True)["restored_rows"] == 1 and ids(ten) == []
    done = run(ten, grace_hours=grace)
    assert (done["restored_rows"], done["rows"], done["staged"], done["shared_ids"]) == (1, 0, 0, 0)
    assert (ids(ten), ids(ten, "cold_t"), ids(ten, "all_t")) == (
        [9],
        [*range(1, 9)],
        [*range(1, 10)],
    )
    assert add(ten, "new") == 10
    done = run(ten, grace_hours=grace)
    # It need not stay any longer.
    assert (done["restored_rows"], done["rows"], done["staged"]) == (0, grace == 0, grace > 0)
    assert call(ten, "SELECT archive_verify()")["problems"] == []
    assert ids(ten, "all_t") == [*range(1, 11)]


def test_it_comes_back_in_the_callers_transaction(ten):
    """ROLLBACK takes it away again; no trigger fires, and no other row is touched."""
    ten.executescript("""CREATE TABLE log (x); CREATE TRIGGER seen AFTER INSERT ON t
                         BEGIN INSERT INTO log VALUES (new.id); END; DELETE FROM t;""")
    ten.execute("BEGIN")
    assert run(ten)["restored_rows"] == 1 and ids(ten) == [9]
    ten.execute("ROLLBACK")
    assert (ids(ten), ids(ten, "all_t")) == ([], [*range(1, 10)])
    assert run(ten)["restored_rows"] == 1
    assert ten.execute("SELECT * FROM log").fetchall() == []


def test_rows_that_do_not_count_do_not_come_back(ten):
    """The largest id of the cold rows that are left, not of those that were restored and deleted."""
    ten.execute("""SELECT archive_restore('t', '{"where":"id > 6"}')""")
    ten.execute("DELETE FROM t WHERE id > 6")
    assert run(ten)["restored_rows"] == 1 and ids(ten) == [6]
    assert run(ten)["restored_rows"] == 0


def test_a_row_that_does_not_fit_stays_cold(ten):
    """Another constraint is in the way: the run goes on, and the row stays where it is."""
    ten.execute("DELETE FROM t")
    ten.execute("INSERT INTO t (id, at, note) VALUES (1, '2024-03-01', 'old 9')")
    done = run(ten)
    assert (done["restored_rows"], done["shared_ids"]) == (0, 1)
    assert len(ids(ten, "cold_t")) == 9


def test_autoincrement_needs_nothing(db):
    """SQLite itself never gives such an id again."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT, note)")
    db.execute("INSERT INTO t (at) VALUES ('2024-01-01'), ('2024-01-01')")
    assert run(db)["rows"] == 2
    assert run(db)["restored_rows"] == 0 and add(db, "new") == 3


def test_ids_given_twice_are_reported(ten, path):
    """By archive_table, by archive_run's tables and by archive_verify, with the first ids."""
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("DELETE FROM t")
        plain.commit()
    assert [add(ten, f"new {n}") for n in range(12)] == [*range(1, 13)]
    assert run(ten)["shared_ids"] == 9
    (problem,) = call(ten, "SELECT archive_verify()")["problems"]
    assert "9 ids of t" in problem and "1, 2, 3, 4, 5, ..." in problem and "renumber" in problem
    ten.execute("""SELECT archive_policy('t', 7, '{"time_column":"at"}')""")
    summary = call(ten, """SELECT archive_run('{"backup":false,"vacuum":false}')""")
    assert summary["tables"][0]["shared_ids"] == 9


def test_ids_that_cannot_be_counted_do_not_undo_what_was_done(ten, path):
    """A damaged file of an earlier run: the rows have moved all the same, and the call says so."""
    ten.execute("INSERT INTO t (id, at) VALUES (1, '2999-01-01')")
    for file in path.parent.rglob("*.parquet"):
        file.write_bytes(bytes(len(file.read_bytes())))
    ten.execute("INSERT INTO t (id, at) VALUES (50, '2024-01-01'), (51, '2999-01-01')")
    done = run(ten)
    assert (done["rows"], done["shared_ids"], done["catalog_copy"]) == (2, None, "done")
    assert call(ten, "SELECT archive_verify('t')")["problems"] != []


def test_renumber(ten):
    """Cold rows whose id was given again come back under new ones, which no cold row has."""
    ten.execute("DROP VIEW all_t")
    ten.execute("ALTER TABLE t RENAME COLUMN id TO key")
    ten.execute("SELECT archive_attach()")
    ten.execute("DELETE FROM t")
    for n in (1, 2, 3):
        ten.execute("INSERT INTO t (at, note) VALUES ('2024-03-01', ?)", (f"new {n}",))
    restore = "SELECT archive_restore('t', json_object('on_conflict', 'renumber', 'dry_run', ?))"
    for dry in (True, False):
        done = json.loads(ten.execute(restore.replace("?", f"json('{str(dry).lower()}')")).fetchone()[0])
        assert (done["rows"], done["renumbered_rows"], done["conflicts"]) == (9, 3, 0)
    notes = ten.execute("SELECT key, note FROM t ORDER BY key").fetchall()
    assert notes[:3] == [(1, "new 1"), (2, "new 2"), (3, "new 3")]
    assert sorted(notes[9:]) == [(10, "old 1"), (11, "old 2"), (12, "old 3")]
    assert notes[3:9] == [(n, f"old {n}") for n in range(4, 10)]
    assert call(ten, "SELECT archive_verify()")["problems"] == []


def test_renumber_is_for_ids_only(ten):
    """Another constraint stops it before anything moves; other keys are no ids."""
    ten.execute("INSERT INTO t (id, at, note) VALUES (5, '2024-03-01', 'old 3')")
    renumber = """SELECT archive_restore('%s', '{"on_conflict":"renumber"}')"""
    with pytest.raises(sqlite3.OperationalError, match="1 of 9 rows .* nothing was restored"):
        ten.execute(renumber % "t")
    ten.execute("CREATE TABLE u (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT)")
    ten.execute("INSERT INTO u (at) VALUES ('2024-01-01')")
    archive(ten, "u", None, {**CUTOFF, "time_column": "at"})
    with pytest.raises(sqlite3.OperationalError, match="not AUTOINCREMENT"):
        ten.execute(renumber % "u")
