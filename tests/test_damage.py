"""A cold file that is gone or not what it was is an error that names it; no path leads outside."""

import json
import shutil
import sqlite3

import pytest

from conftest import archive, connect


def fill(db, path):
    """A table with two cold files, and the first of them."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, v TEXT)")
    for n in range(200):
        db.execute("INSERT INTO t (ts, v) VALUES (?, ?)", (f"2020-01-0{n % 2 + 1}", f"value {n}"))
    archive(db, "t", 7)
    return sorted((path.parent / "archive" / "parquet").rglob("*.parquet"))


def fails(db, sql):
    with pytest.raises(sqlite3.DatabaseError) as error:
        db.execute(sql).fetchall()
    return str(error.value)


def verify(db):
    return json.loads(db.execute("SELECT archive_verify('t')").fetchone()[0])


def remove(file):
    file.unlink()


def truncate(file):
    file.write_bytes(file.read_bytes()[:-7])


def lengthen(file):
    file.write_bytes(file.read_bytes() + b"x")


def empty(file):
    file.write_bytes(b"")


def fill_with_zeros(file):
    file.write_bytes(bytes(file.stat().st_size))


def make_folder(file):
    file.unlink()
    file.mkdir()


DAMAGES = [remove, truncate, lengthen, empty, fill_with_zeros, make_folder]


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__ for damage in DAMAGES])
def test_a_damaged_file_is_an_error_that_names_it(db, path, damage):
    """Whatever happened to a file, reading it is an error, the others stay readable."""
    first, _ = fill(db, path)
    damage(first)
    assert str(first) in fails(db, "SELECT * FROM all_t")
    assert db.execute("SELECT count(*) FROM all_t WHERE ts = '2020-01-02'").fetchone() == (100,)
    problems = verify(db)["problems"]
    assert len(problems) == 1 and str(first) in problems[0]
    again = connect(path)
    assert str(first) in fails(again, "SELECT * FROM cold_t")
    again.close()


def in_the_way(file):
    """The system cannot look for the file: its folder is a file."""
    shutil.rmtree(file.parent)
    file.parent.write_bytes(b"")


READS = [
    "SELECT * FROM all_t",
    "INSERT INTO note SELECT v FROM cold_t",
    "CREATE TABLE copied AS SELECT * FROM all_t",
    "SELECT archive_restore('t', '{\"where\":\"v > 0\"}')",
    "SELECT archive_restore('t')",
]


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("sql", READS)
@pytest.mark.parametrize("damage", [remove, fill_with_zeros, in_the_way])
def test_a_damaged_file_is_no_harm_to_a_transaction(db, path, damage, sql, mode):
    """Only the statement fails that reads it: the rest of the transaction is the application's."""
    first, _ = fill(db, path)
    db.execute(f"PRAGMA journal_mode = {mode}")
    db.execute("CREATE TABLE note (v)")
    damage(first)
    db.execute("BEGIN")
    db.execute("INSERT INTO note VALUES ('before')")
    fails(db, sql)
    assert db.in_transaction
    db.execute("INSERT INTO note VALUES ('after')")
    db.execute("COMMIT")
    assert db.execute("SELECT v FROM note").fetchall() == [("before",), ("after",)]


def test_a_replaced_file_is_an_error(db, path):
    """Another file of the same kind in its place is an error, also if the first one was read."""
    first, second = fill(db, path)
    assert db.execute("SELECT count(v) FROM cold_t").fetchone() == (200,)
    shutil.copy(second, first)
    assert str(first) in fails(db, "SELECT count(v) FROM cold_t")
    problems = verify(db)["problems"]
    assert len(problems) == 1 and str(first) in problems[0]


def test_no_flipped_bit_changes_an_answer(db, path):
    """A flipped bit anywhere: archive_verify names the file, and so does a query."""
    first, _ = fill(db, path)
    good = first.read_bytes()
    assert verify(db) == {"files": 2, "rows": 200, "problems": []}
    for position in range(0, len(good), 37):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        first.write_bytes(bad)
        problems = verify(db)["problems"]
        assert len(problems) == 1 and str(first) in problems[0]
        assert str(first) in fails(db, "SELECT * FROM cold_t")
    first.write_bytes(good)
    assert verify(db)["problems"] == []


@pytest.mark.parametrize("kind", ["..", "absolute", "inner ..", "symlink", "folder symlink"])
def test_a_catalog_path_cannot_leave_the_folder(db, path, tmp_path, kind):
    """A database from a stranger must not make us read a file elsewhere."""
    first, _ = fill(db, path)
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    secret = outside / "secret.parquet"
    shutil.copy(first, secret)
    root = path.parent / "archive" / "parquet"
    (root / "link.parquet").symlink_to(secret)
    (root / "link").symlink_to(outside)
    name = {
        "..": "../../elsewhere/secret.parquet",
        "absolute": str(secret),
        "inner ..": "t/../../../elsewhere/secret.parquet",
        "symlink": "link.parquet",
        "folder symlink": "link/secret.parquet",
    }[kind]
    db.execute("UPDATE _archive_file SET path = ? WHERE id = 1", (name,))
    assert "the archive folder" in fails(db, "SELECT * FROM cold_t")
    assert len(verify(db)["problems"]) == 1
    db.execute("SELECT archive_gc('{\"retention_days\":0}')").fetchall()
    assert secret.exists()


def test_new_files_do_not_follow_a_link_out(db, path, tmp_path):
    """A link in the archive folder must not make us write elsewhere."""
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    root = path.parent / "archive" / "parquet"
    root.mkdir(parents=True)
    (root / "t").symlink_to(outside)
    db.execute("CREATE TABLE t (ts)")
    db.execute("INSERT INTO t VALUES ('2020-01-01')")
    assert "out of the archive folder" in fails(db, "SELECT archive_table('t', 7)")
    assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)
    assert list(outside.rglob("*")) == []


@pytest.mark.parametrize("folder", ["/tmp", "../x", "a/../../x", "", 5])
def test_archive_dir_in_the_database_stays_below_it(db, path, folder):
    """archive_config and a forged setting alike are refused if they lead elsewhere."""
    with pytest.raises(sqlite3.OperationalError, match="archive_dir must be"):
        db.execute("SELECT archive_config('archive_dir', ?)", (folder,)).fetchall()
    fill(db, path)
    db.execute("INSERT INTO _archive_config VALUES ('archive_dir', ?)", (folder,))
    assert "archive_dir must be" in fails(db, "SELECT * FROM cold_t")
    assert "archive_dir must be" in fails(db, "SELECT archive_table('t', 7)")


def test_a_folder_setting_may_be_a_number(db):
    """A folder whose name is digits is text, as it was given."""
    text = db.execute("SELECT archive_config('archive_dir', '2024')").fetchone()[0]
    assert json.loads(text)["value"] == "2024"
