"""What changed between the copy of a catalog and its recovery: columns, rows that wait, runs beside it, and
whose copy it is."""

import sqlite3
from contextlib import closing

import pytest
from conftest import archive, connect
from test_recover import call, copies, drop_catalog, fill, lose, recover, rows


def make(db, columns="id INTEGER PRIMARY KEY, ts TEXT, v"):
    db.execute(f"CREATE TABLE t ({columns})")
    days = [(n, f"2020-01-{n:02}") for n in range(1, 9)]
    db.executemany("INSERT INTO t (id, ts, v) VALUES (?, ?, 'old')", days)


def without_library(path, sql):
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.execute(sql)


# Columns


@pytest.mark.parametrize("grace", [0, 24])
@pytest.mark.parametrize("note", ["NULL", "id + 100"])
def test_a_column_that_was_dropped_before_the_catalog_was_damaged(path, grace, note):
    """The key has another position now: its values are not to be looked for in the column that had it."""
    with closing(connect(path)) as db:
        make(db, "note, id INTEGER PRIMARY KEY, ts TEXT, v")
        db.execute(f"UPDATE t SET note = {note}")
        archive(db, "t", None, {"before": "2020-01-06", "grace_hours": grace})
    without_library(path, "ALTER TABLE t DROP COLUMN note")
    with closing(connect(path)) as db:
        before, cold = rows(db, "all_t"), rows(db, "cold_t")
    without_library(path, "DROP TABLE _archive_policy")
    with closing(connect(path)) as again:
        done = recover(again)
        assert (done["rows"], done["problems"]) == (0 if grace else 5, [])
        assert (rows(again, "all_t"), rows(again, "cold_t")) == (before, cold)


def test_columns_that_cannot_be_told_are_no_reason_to_bury_rows(path):
    """A table that was made again in its place, say: the files are compared with each other alone."""
    with closing(connect(path)) as db:
        make(db, "note, id INTEGER PRIMARY KEY, ts TEXT, v")
        archive(db, "t", None, {"before": "2020-01-06"})
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("PRAGMA writable_schema = on")
        plain.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a, id INTEGER PRIMARY KEY, ts TEXT, b, c)'"
            " WHERE name = 't'"
        )
        plain.execute("DROP TABLE _archive_policy")
        plain.commit()
    with closing(connect(path)) as again:
        done = recover(again)
        assert done["rows"] == 5 and any("t" in line for line in done["problems"])
        assert again.execute("SELECT sum(published - dead) FROM _archive_file").fetchone() == (5,)


@pytest.mark.parametrize("copied", [True, False])
def test_a_column_that_was_added_between_two_files_of_a_row(db, path, copied):
    """The older file shows what the newer one has in it: it is the same row."""
    make(db)
    archive(db, "t", None, {"before": "2020-01-06"})
    db.execute("BEGIN")
    call(db, "archive_restore('t')")
    db.execute("COMMIT")
    db.execute("ALTER TABLE t ADD COLUMN w DEFAULT 5")
    db.execute("UPDATE t SET w = 6 WHERE id = 2")
    db.execute("BEGIN")
    archive(db, "t", None, {"before": "2020-01-06"})
    db.execute("COMMIT")
    before = rows(db, "all_t")
    if not copied:
        for copy in copies(path):
            copy.unlink()
    with closing(lose(db, path)) as again:
        done = recover(again)
        # Of the row that changed the copy says that the old one counts.
        assert (done["older_rows"], done["rows"]) == ((4, 6) if copied else (4, 5))
        extra = ["(2, '2020-01-02', 'old', 5)"] if copied else []
        assert rows(again, "all_t") == sorted(before + extra)


def test_a_key_is_not_compared_with_the_rowid_of_a_row_without_one(db, path):
    """The PRIMARY KEY of an ordinary table may be NULL, and such a row is told by its rowid."""
    db.execute("CREATE TABLE t (id INT PRIMARY KEY, ts TEXT, v)")
    db.execute(
        "INSERT INTO t (rowid, id, ts, v) VALUES"
        " (5, NULL, '2020-01-03', 'a'), (9, 5, '2020-01-02', 'b'), (10, 6, '2020-01-01', 'c')"
    )
    archive(db, "t", 7)
    before = rows(db, "all_t")
    for copy in copies(path):
        copy.unlink()
    with closing(lose(db, path)) as again:
        done = recover(again)
        assert done["rows"] == 3 and rows(again, "all_t") == before


# Rows that wait


def test_a_row_that_was_deleted_while_it_waited_stays_deleted_where_the_files_are_known(db, path):
    make(db)
    archive(db, "t", None, {"before": "2020-01-06", "grace_hours": 24})
    db.execute("DELETE FROM t WHERE id = 3")
    before = rows(db, "all_t")
    db.execute("DROP TABLE _archive_policy")
    db.close()
    with closing(connect(path)) as again:
        assert recover(again)["rows"] == 0
        assert rows(again, "all_t") == before


def test_a_second_recovery_brings_no_row_back_that_was_deleted_while_it_waited(db, path):
    make(db)
    archive(db, "t", None, {"before": "2020-01-06", "grace_hours": 24})
    db.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, ts TEXT)")
    db.executemany("INSERT INTO u (ts) VALUES (?)", [("2020-01-01",), ("2020-02-01",)])
    known = set((path.parent / "archive").rglob("*.parquet"))
    db.execute("BEGIN")
    archive(db, "u", None, {"before": "2020-01-06"})
    db.execute("COMMIT")
    (file,) = set((path.parent / "archive").rglob("*.parquet")) - known
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    with closing(lose(db, path)) as again:
        assert len(recover(again)["problems"]) == 1
        again.execute("DELETE FROM t WHERE id = 3")
        before = rows(again, "all_t")
        file.write_bytes(whole)
        assert recover(again)["new_files"] == 1
        assert rows(again, "all_t") == before and len(rows(again, "all_u")) == 2


# What happened beside it


def test_the_first_run_of_another_database_makes_no_lost_run_of_this_one(db, path):
    """The numbers of their schemas have nothing to do with each other."""
    fill(db)
    db.execute("BEGIN")
    archive(db, "t", 7)
    db.execute("COMMIT")
    before = rows(db, "all_t")
    (path.parent / "other").mkdir()
    with closing(connect(path.parent / "other" / "other.db")) as other:
        fill(other)
        archive(other, "t", 7)
    with closing(lose(db, path)) as again:
        with pytest.raises(sqlite3.OperationalError, match="archive_recover"):
            archive(again, "t", 7)
        recover(again)
        assert rows(again, "all_t") == before


def test_a_copy_waits_for_a_transaction_that_has_archived(db, path):
    """Else the files of that would be older than the copy, which does not know them."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA busy_timeout = 0")
    fill(db)
    db.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, ts TEXT)")
    db.executemany("INSERT INTO u VALUES (?, ?)", [(n, f"2020-01-{n:02}") for n in range(1, 9)])
    with closing(connect(path)) as other:
        ended, archived = [], []

        def between(sql):
            """The run has ended, and its copy is not yet made."""
            if "SET finished_at" in sql:
                ended.append(sql)
            elif ended and not archived and "main.sqlite_schema" in sql:
                other.execute("BEGIN IMMEDIATE")
                archived.append(archive(other, "u", None, {"before": "2020-01-06"})["rows"])
            elif archived and other.in_transaction and ("BEGIN IMMEDIATE" in sql or "_archive_anchor" in sql):
                other.execute("COMMIT")

        db.set_trace_callback(between)
        assert archive(db, "t", 7)["catalog_copy"] == "done"
        db.set_trace_callback(None)
        assert archived == [5] and not other.in_transaction
    db.execute("SELECT archive_attach()").fetchall()
    before = rows(db, "all_u")
    with closing(lose(db, path)) as again:
        recover(again)
        assert len(before) == 8 and rows(again, "all_u") == before


# Whose copy it is


def test_a_database_that_got_another_name_and_whose_newest_copy_is_damaged(db, path):
    """The one before it is as good as where the name is the old one."""
    fill(db)
    archive(db, "t", None, {"before": "2020-01-05"})
    before = rows(db, "cold_t")
    archive(db, "t", 7)
    db.close()
    new = path.rename(path.with_name("new.db"))
    drop_catalog(new)
    copies(path)[-1].write_bytes(b"nothing")
    with closing(connect(new)) as again:
        with pytest.raises(sqlite3.OperationalError, match="archive_recover"):
            archive(again, "t", 7)
        done = recover(again)
        assert len(done["problems"]) == 1 and rows(again, "cold_t") == before


def test_a_copy_that_does_not_say_where_it_is_from_is_nobodys(db, path):
    fill(db)
    archive(db, "t", 7)
    for key, value in [("database", None), ("database_id", 7)]:
        with closing(sqlite3.connect(copies(path)[-1])) as copy:
            copy.execute("UPDATE OR REPLACE _archive_meta SET value = ? WHERE key = ?", [value, key])
            copy.commit()
        with closing(connect(path.with_name(f"{key}.db"))) as beside:
            fill(beside)
            assert archive(beside, "t", 7)["rows"] == 9


@pytest.mark.parametrize("change", ["checksum = 'x'", "rows = 1 << 62, published = 1 << 62"])
def test_a_copy_that_cannot_be_right_gives_way_to_the_one_before_it(db, path, change):
    fill(db)
    archive(db, "t", None, {"before": "2020-01-05"})
    archive(db, "t", 7)
    before = rows(db, "all_t")
    with closing(sqlite3.connect(copies(path)[-1])) as copy:
        copy.execute(f"UPDATE _archive_file SET {change}")
        copy.commit()
    with closing(lose(db, path)) as again:
        with pytest.raises(sqlite3.OperationalError, match="4 cold files with 4 rows.*archive_recover"):
            archive(again, "t", 7)
        done = recover(again)
        assert len(done["problems"]) == 1 and copies(path)[-2].name in done["problems"][0]
        assert rows(again, "all_t") == before


def test_a_folder_that_two_names_lead_to_is_one(db, path, monkeypatch):
    """A copy of the database is not to remove the copies of the other's catalog."""
    folder, link = path.parent / "folder", path.parent / "link"
    folder.mkdir()
    link.symlink_to(folder)
    monkeypatch.setenv("ARCHIVE_DIR", str(folder))
    fill(db)
    archive(db, "t", None, {"before": "2020-01-05"})
    (copy,) = (folder / ".catalog").iterdir()
    beside = path.with_name("beside.db")
    db.execute("VACUUM INTO ?", [str(beside)])
    monkeypatch.setenv("ARCHIVE_DIR", str(link))
    with closing(connect(beside)) as other:
        assert archive(other, "t", 7)["catalog_copy"] == "done"
    assert copy.exists() and len(list((folder / ".catalog").iterdir())) == 2
