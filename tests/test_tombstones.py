"""Rows of cold files that do not count: compact, read where they are needed, and never in doubt."""

import contextlib
import json
import sqlite3

import pytest

import tombstones
from conftest import archive, connect

DAY = 90_000


def fill(db, days=2, rows=DAY):
    """Archives rows of some days, numbered from 0: one file for each."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT)")
    db.execute(
        """WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 * ?2 - 1)
           INSERT INTO t SELECT i, date('2020-01-01', (i / ?2) || ' days') FROM n""",
        (days, rows),
    )
    result = archive(db, "t", 7, {"partition": "day"})
    assert (result["rows"], result["files"]) == (days * rows, days)


def restore(db, where, **options):
    """Brings rows back, and returns the call's result."""
    (text,) = db.execute(
        "SELECT archive_restore('t', ?)", [json.dumps({"where": where, **options})]
    ).fetchone()
    return json.loads(text)


def cold(db):
    return [id for (id,) in db.execute("SELECT id FROM cold_t ORDER BY id")]


def check(db, gone):
    """Compares the cold rows and what is counted of them with what is left without `gone`."""
    left = [id for id in range(2 * DAY) if id not in gone]
    assert cold(db) == left
    assert db.execute("SELECT cold_rows FROM archive_status").fetchone() == (len(left),)
    (report,) = db.execute("SELECT archive_verify()").fetchone()
    assert json.loads(report)["rows"] == len(left) and json.loads(report)["problems"] == []


def test_bitmaps_are_compact_and_exact(db):
    """Rows that come back in several calls, across chunks, are those in the bitmaps, which are small."""
    fill(db)
    gone = set()
    steps = [
        ("id % 2 = 1", lambda id: id % 2 == 1, 8300),
        ("id BETWEEN 60000 AND 80000", lambda id: 60000 <= id <= 80000, 8300),
        ("id < 70000", lambda id: id < 70000, 8300),
        ("id % 1000 = 0", lambda id: id % 1000 == 0, 8300),
    ]
    for where, matches, limit in steps:
        more = {id for id in range(2 * DAY) if matches(id)} - gone
        gone |= more
        assert restore(db, where)["rows"] == len(more)
        check(db, gone)
        assert tombstones.total(db) == len(gone)
        sizes = db.execute("SELECT length(rows) FROM _archive_tombstone").fetchall()
        assert len(sizes) == 4 and max(sizes) <= (limit,)
    first, second = [id for (id,) in db.execute("SELECT id FROM _archive_file ORDER BY path")]
    assert tombstones.buried(db, first) == [id for id in range(DAY) if id in gone]
    assert tombstones.buried(db, second) == [id - DAY for id in range(DAY, 2 * DAY) if id in gone]
    # A run of rows takes next to nothing.
    (length,) = db.execute(
        "SELECT length(rows) FROM _archive_tombstone WHERE file_id = ? AND chunk = 0", (first,)
    ).fetchone()
    assert length < 20
    # The last rows of a file take it out of the catalog.
    result = restore(db, f"id < {DAY}")
    assert result["files"] == 1
    assert db.execute("SELECT id FROM _archive_file").fetchall() == [(second,)]
    assert db.execute("SELECT DISTINCT file_id FROM _archive_tombstone").fetchall() == [(second,)]


def test_small_batches_add_to_the_same_bitmaps(db):
    """Many transactions bury rows of one chunk one after the other."""
    fill(db, rows=1000)
    assert restore(db, "id % 3 = 0", batch_size=7)["rows"] == 667
    assert tombstones.total(db) == 667
    assert db.execute("SELECT count(*) FROM _archive_tombstone").fetchone() == (2,)
    assert cold(db) == [id for id in range(2000) if id % 3]


DAMAGE = ["x''", "x'3a300000'", "zeroblob(100)", "'text'", "7", "zeroblob(1000000)"]


@pytest.mark.parametrize("rows", DAMAGE)
def test_only_the_bitmaps_that_are_needed_are_read(db, rows):
    """A query reads the bitmaps of the files it opens, whatever was written before; one that is damaged
    is an error there, and nowhere else."""
    fill(db, days=3, rows=100)
    restore(db, "id % 2 = 0")
    files = [id for (id,) in db.execute("SELECT id FROM _archive_file ORDER BY path")]
    db.execute(f"UPDATE _archive_tombstone SET rows = {rows} WHERE file_id <> ?", (files[1],))
    assert db.execute("SELECT id FROM cold_t WHERE id = 151").fetchall() == [(151,)]
    assert db.execute("SELECT count(*) FROM cold_t WHERE id BETWEEN 100 AND 199").fetchone() == (
        50,
    )
    for sql in ("SELECT id FROM cold_t WHERE id = 1", "SELECT count(*) FROM cold_t"):
        with pytest.raises(
            sqlite3.OperationalError, match="the archive catalog is damaged: .*day=0"
        ):
            db.execute(sql).fetchall()
    with pytest.raises(sqlite3.OperationalError, match="the archive catalog is damaged"):
        restore(db, "true")
    assert db.execute("SELECT count(*) FROM t").fetchone() == (150,)


def test_a_count_that_is_wrong_is_told(db):
    """The number of dead rows and the bitmaps must agree."""
    fill(db, rows=100)
    restore(db, "id % 2 = 0")
    db.execute("UPDATE _archive_file SET dead = dead - 1")
    with pytest.raises(sqlite3.OperationalError, match="has 50 tombstones where dead is 49"):
        cold(db)


def test_a_row_comes_back_once(db):
    """A bitmap that has the row already means that two calls were at work: nothing is restored."""
    fill(db, rows=100)
    restore(db, "id = 5")
    before = db.execute("SELECT * FROM _archive_tombstone").fetchall()
    # The row counts while the call chooses its rows, and does not when it writes.
    db.execute("UPDATE _archive_file SET dead = 0")
    db.execute("DELETE FROM t")
    with pytest.raises(sqlite3.OperationalError, match="did not count any more"):
        restore(db, "id = 5")
    assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert db.execute("SELECT * FROM _archive_tombstone").fetchall() == before


@pytest.mark.parametrize("what", ["dead", "rows"])
def test_an_authorizer_in_the_way_is_told(db, what):
    """A change that an authorizer of the application ignores is an error, and nothing has moved."""
    fill(db, rows=100)
    restore(db, "id = 7")

    def ignore(action, table, column, *_):
        update = (sqlite3.SQLITE_UPDATE, "_archive_file", "dead")
        insert = (sqlite3.SQLITE_INSERT, "_archive_tombstone", None)
        hit = (action, table, column) == (update if what == "dead" else insert)
        return sqlite3.SQLITE_IGNORE if hit else sqlite3.SQLITE_OK

    db.set_authorizer(ignore)
    with pytest.raises(sqlite3.OperationalError, match="authorizer is in the way"):
        restore(db, "id < 50")
    db.set_authorizer(None)
    assert db.execute("SELECT id FROM t").fetchall() == [(7,)]
    assert cold(db) == [id for id in range(200) if id != 7]


def test_what_was_rolled_back_is_forgotten(db, path):
    """Queries inside a transaction that buries rows, and takes ids of files, leave nothing behind."""
    fill(db, rows=100)
    everything = list(range(200))
    assert cold(db) == everything
    for end in (["ROLLBACK"], ["ROLLBACK TO inner", "COMMIT"]):
        db.execute("BEGIN")
        db.execute("SAVEPOINT inner")
        restore(db, "id % 2 = 0")
        assert cold(db) == everything[1::2]
        restore(db, "id < 100")
        assert cold(db) == everything[101::2]
        db.execute("INSERT INTO t VALUES (1000, '2020-02-01')")
        archive(db, "t", 7, {"partition": "day"})
        assert 1000 in cold(db)
        for sql in end:
            db.execute(sql)
        assert cold(db) == everything
    # The ids of those files are used again.
    db.execute("INSERT INTO t VALUES (1001, '2020-02-01'), (1002, '2020-02-01')")
    archive(db, "t", 7, {"partition": "day"})
    assert cold(db) == [*everything, 1001, 1002]
    restore(db, "id = 1001")
    assert cold(db) == [*everything, 1002]


def test_a_backup_that_is_restored_in_place(db, path):
    """As many rows are dead as before, and they are others: the queries of a connection see those."""
    fill(db, rows=100)
    with contextlib.closing(sqlite3.connect(path)) as other, contextlib.closing(
        sqlite3.connect(":memory:")
    ) as copy:
        other.backup(copy)
        restore(db, "id < 10")
        assert cold(db) == list(range(10, 200))
        copy.backup(other)
    assert cold(db) == list(range(200))
    with contextlib.closing(connect(path)) as third:
        restore(third, "id BETWEEN 50 AND 59")
    assert cold(db) == [*range(50), *range(60, 200)]


def test_rows_that_come_back_while_they_are_read(db):
    """A connection that restores rows under its own query sees none of them twice in it, and no error."""
    fill(db, days=4, rows=100)
    restore(db, "id % 100 = 99")
    db.execute("SELECT archive_attach()")
    # Files are opened one after the other: the last two lose rows, or leave the catalog.
    cursor = db.execute("SELECT id FROM cold_t")
    seen = [cursor.fetchone()[0] for _ in range(5)]
    restore(db, "id >= 300 OR id BETWEEN 200 AND 249")
    seen += [id for (id,) in cursor]
    expected = [id for id in range(300) if id % 100 != 99 and not 200 <= id < 250]
    assert sorted(seen) == expected
    assert cold(db) == expected


def test_a_staged_file_does_not_hide_one_without_the_column(db):
    """Files from before a column was added have rows that show its default, however many files that have
    the column are waiting."""
    fill(db, days=8, rows=10)
    db.execute("ALTER TABLE t ADD COLUMN n INTEGER DEFAULT 7")
    days = [(f"2021-01-{day:02}",) for day in range(1, 21)]
    db.executemany("INSERT INTO t (ts, n) VALUES (?, 1)", days)
    archive(db, "t", 7, {"partition": "day", "grace_hours": 24})
    assert db.execute("SELECT count(*) FROM cold_t WHERE n = 7").fetchone() == (80,)
    assert db.execute("SELECT count(*) FROM cold_t WHERE n = 8").fetchone() == (0,)
