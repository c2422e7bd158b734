"""A database from a stranger, and callers that do odd things: nothing runs, hangs or lies."""

import os
import sqlite3
import subprocess
import sys
import time

import pyarrow
import pyarrow.parquet
import pytest
import xxhash
from conftest import FAULTS_LIBRARY, LIBRARY, archive, connect


def fill(db, columns="v", rows=20):
    """A table of which all rows are old."""
    db.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, {columns})")
    for i in range(rows):
        db.execute("INSERT INTO t (ts) VALUES (?)", [f"2020-01-{i % 9 + 1:02}"])


def load_in_shell(path, *commands):
    """What the sqlite3 shell prints when it loads the extension into a database."""
    load = f".load {LIBRARY.with_suffix('')}"
    command = ["sqlite3", str(path), load, *commands]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def test_a_default_is_not_run(db, path, tmp_path):
    """Loading the extension runs no SQL of the schema: a DEFAULT only counts if it is a literal."""
    fill(db)
    archive(db, "t", 7)
    db.close()
    plain = sqlite3.connect(path)
    default = f"writefile('{tmp_path}/pwned', 'owned')"
    plain.execute("DROP TABLE t")
    plain.execute(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, v, w DEFAULT ({default}))"
    )
    plain.commit()
    plain.close()
    commands = ["SELECT archive_adopt('t')", "SELECT count(*), count(w) FROM all_t"]
    result = load_in_shell(path, *commands)
    assert (
        result.stdout == '{"table":"t","problems":[]}\n20|0\n' and not (tmp_path / "pwned").exists()
    )


def test_literal_defaults_show_in_old_rows(db):
    """Rows from before ADD COLUMN show its default as SQLite would: with the column's affinity."""
    fill(db)
    db.execute("CREATE TABLE plain AS SELECT * FROM t")
    archive(db, "t", 7)
    added = ["a TEXT DEFAULT 5", "b INT DEFAULT '7'", "c REAL DEFAULT 3", "d DEFAULT x'00ff'"]
    added += ["e TEXT DEFAULT 'it''s'", "f DEFAULT -1.5", "g DEFAULT NULL", "h INT DEFAULT 'x'"]
    for column in added:
        db.execute(f"ALTER TABLE t ADD COLUMN {column}")
        db.execute(f"ALTER TABLE plain ADD COLUMN {column}")
    db.execute("SELECT archive_attach()")
    shown = (
        "SELECT DISTINCT quote(a), quote(b), quote(c), quote(d), quote(e), quote(f), g, quote(h)"
    )
    assert (
        db.execute(f"{shown} FROM all_t").fetchall() == db.execute(f"{shown} FROM plain").fetchall()
    )


def test_a_catalog_of_views_is_refused(db, path):
    """A catalog name that is a view could run for ever: it is not read."""
    db.execute(
        "CREATE VIEW _archive_meta AS WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
        " SELECT 'x' || n AS key, n AS value FROM r"
    )
    assert load_in_shell(path, "SELECT 1").stdout == "1\n"
    with pytest.raises(sqlite3.OperationalError, match="catalog is damaged"):
        db.execute("SELECT archive_attach()")


@pytest.mark.parametrize(
    "changes",
    [
        ["DROP COLUMN v", "ADD COLUMN w"],
        ["DROP COLUMN v", "ADD COLUMN v INT DEFAULT 0"],
        ["RENAME COLUMN u TO x", "RENAME COLUMN v TO u", "RENAME COLUMN x TO v"],
    ],
)
def test_a_column_never_shows_the_values_of_another(db, path, changes):
    """P3: where it is not certain which column is which, queries over cold rows fail and say so."""
    fill(db, "u, v")
    db.execute("UPDATE t SET u = 'u', v = 'v'")
    archive(db, "t", 7)
    db.close()
    plain = sqlite3.connect(path)
    for change in changes:
        plain.execute(f"ALTER TABLE t {change}")
    plain.close()
    again = connect(path)
    with pytest.raises(sqlite3.DatabaseError, match="not certain which is which"):
        again.execute("SELECT * FROM all_t").fetchall()


def test_where_sees_only_the_table(db):
    """The option where means the same when rows are chosen and when they are read."""
    db.execute("CREATE TABLE t (time TEXT, k1, part, p, v DEFAULT 'part')")
    db.executemany("INSERT INTO t (time, k1) VALUES (?, 1)", [("2020-01-01",), ("1990-01-01",)])
    options = {"where": "time > '2000' AND k1 = 1 AND part IS NULL AND v = \"part\""}
    assert archive(db, "t", 7, options)["rows"] == 0
    options = {"where": "time > '2000' AND k1 = 1 AND part IS NULL"}
    assert archive(db, "t", 7, options)["rows"] == 1


def test_a_lock_that_is_no_file_is_refused(db, path):
    """A FIFO in place of the lock file does not hang the call."""
    fill(db)
    archive(db, "t", 7)
    (lock,) = (path.parent / "archive/parquet").glob(".*.lock")
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(sqlite3.OperationalError, match="not a regular file"):
        archive(db, "t", 7)


@pytest.mark.parametrize("link", ["archive", "archive/parquet"])
def test_an_archive_folder_that_is_a_link_out_is_refused(db, path, tmp_path, link):
    """A database that comes with a link for its archive folder does not make us write elsewhere."""
    fill(db)
    elsewhere = tmp_path.parent / (tmp_path.name + "-elsewhere")
    elsewhere.mkdir()
    if link == "archive/parquet":
        (path.parent / "archive").mkdir()
    (path.parent / link).touch()
    for target in (elsewhere, elsewhere / "gone"):
        (path.parent / link).unlink()
        (path.parent / link).symlink_to(target)
        with pytest.raises(sqlite3.OperationalError, match="leads away"):
            archive(db, "t", 7)
        assert not list(elsewhere.iterdir())


def test_a_statement_in_the_way_is_told_at_once(db):
    """INSERT ... SELECT archive_table(...) cannot commit; it says so without waiting for itself."""
    fill(db)
    db.execute("CREATE TABLE log (result)")
    start = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="statements in progress"):
        db.execute("INSERT INTO log SELECT archive_table('t', 7)")
    assert time.monotonic() - start < 5
    assert db.execute("SELECT count(*) FROM t").fetchone() == (20,)


def test_what_moved_before_an_error_is_seen(path, monkeypatch):
    """If a first run fails half-way, its connection sees the rows that had moved."""
    db = connect(path, FAULTS_LIBRARY)
    fill(db)
    monkeypatch.setenv("SQLITE_COLD_FAULT", "publish.commit:3:error")
    with pytest.raises(sqlite3.OperationalError, match="fault at publish.commit"):
        archive(db, "t", 7, {"batch_size": 2})
    hot, cold = (db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("t", "cold_t"))
    assert hot < 20 and hot + cold == 20
    assert db.execute("SELECT count(*) FROM all_t").fetchone() == (20,)
    db.close()


def cold_file(db, path):
    """A cold file, and its name in the catalog."""
    ((name,),) = db.execute("SELECT path FROM archive_files('t') LIMIT 1").fetchall()
    return path.parent / "archive/parquet" / name, name


def forge(db, name, content):
    """Puts the size and the checksums of a file into the catalog."""
    blocks = [content[start : start + 65536] for start in range(0, len(content), 65536)]
    sums = b"".join(xxhash.xxh3_64_digest(block)[::-1] for block in blocks)
    db.execute(
        "UPDATE _archive_file SET bytes = ?1, blocks = ?2, checksum = ?3 WHERE path = ?4",
        [len(content), sums, xxhash.xxh3_128_digest(content), name],
    )


def replace_cold_file(db, path, table, **options):
    """Puts a crafted table in the place of a cold file, catalog row and all."""
    file, name = cold_file(db, path)
    metadata = pyarrow.parquet.read_metadata(file).metadata
    table = table.replace_schema_metadata({b"sqlite_cold": metadata[b"sqlite_cold"]})
    pyarrow.parquet.write_table(table, file, row_group_size=table.num_rows, **options)
    forge(db, name, file.read_bytes())
    db.execute(
        "UPDATE _archive_file SET rows = ?1, row_groups = 1, published = ?1 WHERE path = ?2",
        [table.num_rows, name],
    )


def test_a_giant_row_group_is_refused(db, path):
    """A cold file cannot ask for memory without bound by what its footer says."""
    fill(db)
    archive(db, "t", 7)
    types = {"id": pyarrow.int64(), "ts": pyarrow.string(), "v": pyarrow.string()}
    columns = {name: pyarrow.nulls(200_000, type) for name, type in types.items()}
    replace_cold_file(db, path, pyarrow.table(columns))
    with pytest.raises(sqlite3.DatabaseError, match="impossible size"):
        db.execute("SELECT count(*) FROM cold_t").fetchone()


def test_a_deeply_nested_schema_is_refused(db, path):
    """A cold file cannot overflow the stack of the host by the depth of its schema."""
    fill(db)
    archive(db, "t", 7)
    nested = pyarrow.int64()
    for _ in range(50):
        nested = pyarrow.struct([("x", nested)])
    replace_cold_file(db, path, pyarrow.table({"id": pyarrow.nulls(1, nested)}))
    with pytest.raises(sqlite3.DatabaseError, match="nested too deeply"):
        db.execute("SELECT count(*) FROM cold_t").fetchone()


def bomb(count, rows):
    """A column with the same 45,000 bytes in its first `count` rows, and NULL in the others."""
    keys = pyarrow.array([0] * count + [None] * (rows - count), pyarrow.int32())
    return pyarrow.DictionaryArray.from_arrays(keys, pyarrow.array([b"b" * 45_000], pyarrow.binary()))


def test_a_dictionary_bomb_is_refused(db, path):
    """A file of some kilobytes whose rows all refer to one long value would be 2.9 GB in memory."""
    db.execute("CREATE TABLE t (ts TEXT, v BLOB)")
    db.executemany("INSERT INTO t VALUES ('2020-01-01', ?)", [(b"x",), (b"y",)])
    archive(db, "t", 7)
    rows = 65_000
    columns = {
        "ts": pyarrow.array([None] * rows, pyarrow.int32()).cast(pyarrow.date32()),
        "v": bomb(100, rows),
        "_archive_rowid": pyarrow.array(range(rows), pyarrow.int64()),
    }
    options = {"compression": "zstd", "write_page_index": True}
    replace_cold_file(db, path, pyarrow.table(columns), **options)
    assert db.execute("SELECT count(v) FROM cold_t").fetchone() == (100,)
    columns["v"] = bomb(rows, rows)
    replace_cold_file(db, path, pyarrow.table(columns), **options)
    assert cold_file(db, path)[0].stat().st_size < 400_000
    message, peak = ask(db, path, "SELECT count(v) FROM cold_t")
    assert "more values than its file can have" in message
    assert peak < 256_000


@pytest.mark.parametrize("kind", ["split", "unmarked", "honest"])
def test_text_of_a_file_is_utf8(db, path, kind):
    """Text that is not UTF-8 does not get into Rust's strings: neither two values that share a character,
    which the reader of a delta encoding lets pass, nor in a column that is not marked as text."""
    db.execute("CREATE TABLE t (ts TEXT, v TEXT)")
    db.executemany("INSERT INTO t VALUES ('2020-01-01', ?)", [("x",), ("é",)])
    archive(db, "t", 7)
    data, kind_of = ("né".encode(), pyarrow.string()) if kind != "unmarked" else (b"n\xff", pyarrow.binary())
    end = 1 if kind == "honest" else 2
    offsets = b"".join(n.to_bytes(4, "little") for n in [0, end, len(data)])
    buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(data)]
    columns = {
        "ts": pyarrow.array([18262, 18262], pyarrow.int32()).cast(pyarrow.date32()),
        "v": pyarrow.Array.from_buffers(kind_of, 2, buffers),
        "_archive_rowid": pyarrow.array([1, 2], pyarrow.int64()),
    }
    options = {"compression": "zstd", "write_page_index": True, "use_dictionary": False}
    options["column_encoding"] = {"v": "DELTA_LENGTH_BYTE_ARRAY"}
    replace_cold_file(db, path, pyarrow.table(columns), **options)
    if kind == "honest":
        assert db.execute("SELECT v FROM cold_t").fetchall() == [("n",), ("é",)]
    else:
        with pytest.raises(sqlite3.DatabaseError, match="not what .* description says"):
            db.execute("SELECT v FROM cold_t WHERE v LIKE 'n%' OR length(v) = 1").fetchall()


ASK = """
import sqlite3, sys
path, library, sql = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None)
db.enable_load_extension(True)
db.load_extension(library)
try:
    print(db.execute(sql).fetchall())
except sqlite3.Error as error:
    print(error)
# Not what getrusage says: that starts with what the parent had.
with open("/proc/self/status") as status:
    (peak,) = [line.split()[1] for line in status if line.startswith("VmHWM")]
print(peak)
"""


def ask(db, path, sql="SELECT count(*) FROM cold_t"):
    """What a process of its own says to a query, and how many KB it had at most."""
    db.close()
    command = [sys.executable, "-c", ASK, str(path), str(LIBRARY.with_suffix("")), sql]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    *message, peak = result.stdout.splitlines()
    return "\n".join(message), int(peak)


def test_a_schema_that_claims_two_billion_columns_is_refused(db, path):
    """The reader of Parquet makes room for as many children as a group says it has."""
    fill(db)
    archive(db, "t", 7)
    file, name = cold_file(db, path)
    content = file.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    body, footer = content[: -8 - length], content[-8 - length : -8]
    children = footer.index(b"arrow_schema\x15") + len(b"arrow_schema\x15")
    footer = footer[:children] + b"\xfe\xff\xff\xff\x0f" + footer[children + 1 :]
    content = body + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    file.write_bytes(content)
    forge(db, name, content)
    message, peak = ask(db, path)
    assert "its footer is malformed" in message and peak < 256_000


def test_a_catalog_that_claims_two_billion_row_groups_is_refused(db, path):
    """A scan makes a list of the row groups, and asks the catalog how many there are."""
    fill(db)
    archive(db, "t", 7)
    db.execute("UPDATE _archive_file SET row_groups = 0x7fffffff")
    message, peak = ask(db, path)
    assert "row_groups of the file t/" in message and peak < 256_000


def test_huge_rows_are_read_back(db):
    """A row that is larger than all that a page may be decompressed to is kept as it is: its bytes are in the
    file, so that no claim has to be believed."""
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, v, w)")
    size = 34_000_000
    db.execute("INSERT INTO t (ts, v, w) VALUES ('2020-01-01', zeroblob(?), printf('%.*c', ?, 'x'))", [size, size])
    db.execute("INSERT INTO t (ts, v, w) VALUES ('2020-01-01', zeroblob(?), NULL)", [size // 2])
    assert archive(db, "t", 7)["rows"] == 2
    sums = "SELECT sum(length(v)), sum(length(w)), sum(v = zeroblob(length(v))) FROM cold_t"
    assert db.execute(sums).fetchone() == (size + size // 2, size, 2)
    assert db.execute("SELECT archive_verify() ->> 'problems'").fetchone() == ("[]",)
    assert db.execute("SELECT archive_restore('t') ->> 'rows'").fetchone() == (2,)


PANIC = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.enable_load_extension(True)
db.load_extension(sys.argv[2])
try:
    db.execute("SELECT archive_table('t', 7)")
except sqlite3.OperationalError as error:
    print(error)
db.execute("SELECT archive_attach()")
print(db.execute("SELECT count(*) FROM t").fetchone()[0])
print(db.execute("SELECT archive_table('t', 7) ->> 'rows'").fetchone()[0])
print(db.execute("SELECT count(*) FROM all_t").fetchone()[0])
"""


@pytest.mark.parametrize("point", ["plan.chunk", "file.write", "file.verify", "publish.delete"])
def test_a_panic_becomes_an_error(db, path, point):
    """P6: a panic, in a callback of SQLite or on the worker's thread, neither ends the host nor
    prints; it is an error of the call, no row is lost, and the connection goes on."""
    fill(db)
    command = [sys.executable, "-c", PANIC, str(path), str(FAULTS_LIBRARY.with_suffix(""))]
    environment = {**os.environ, "SQLITE_COLD_FAULT": f"{point}:1:panic"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    error, hot, moved, all_rows = result.stdout.splitlines()
    assert "internal error" in error and f"fault at {point}" in error
    assert (hot, moved, all_rows) == ("20", "20", "20") and result.stderr == ""
