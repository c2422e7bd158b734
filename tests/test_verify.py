"""archive_verify finds and names whatever is wrong with a cold file or with its rows in the catalog."""

import json
import shutil
import sqlite3

import pytest

import tombstones
from conftest import archive, connect


def fill(db, path, name="t", rows=200, options=None):
    """A table with two cold files; their paths in the catalog, and on disk."""
    db.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, ts TEXT, v TEXT, n REAL)")
    db.execute(f"""WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows})
            INSERT INTO {name} SELECT n, '2020-01-0' || (1 + n % 2) || ' 01:02:03', 'value ' || n || hex(randomblob(6)),
                iif(n % 5, n / 7.0, NULL) FROM c""")
    db.execute(f"INSERT INTO {name} VALUES (99999, '2999-01-01', 'hot', 1)")
    archive(db, name, 7, options or {})
    sql = """SELECT path FROM _archive_file f JOIN _archive_table t ON t.id = f.table_id
             WHERE t.name = ? ORDER BY f.id"""
    paths = [path for (path,) in db.execute(sql, (name,))]
    return paths, [path.parent / "archive" / "parquet" / file for file in paths]


def verify(db, *table):
    marks = "?" if table else ""
    (text,) = db.execute(f"SELECT archive_verify({marks})", table).fetchone()
    return json.loads(text)


def problem(db, *words):
    """The one problem there is, which has all these words in it."""
    found = verify(db)
    assert found["files"] >= 2 and len(found["problems"]) == 1, found
    assert all(word in found["problems"][0] for word in words), found
    return found["problems"][0]


def test_nothing_is_wrong(db, path):
    """A healthy archive of two tables has no problems; files with hot rows are read, too."""
    fill(db, path)
    fill(db, path, "u")
    assert verify(db) == {"files": 4, "rows": 400, "problems": []}
    assert verify(db, "u") == {"files": 2, "rows": 200, "problems": []}
    tombstones.bury(db, 1, [7])
    assert verify(db) == {"files": 4, "rows": 399, "problems": []}


def test_a_table_that_was_renamed(db, path):
    """It goes by the name that it has now, before any run has looked; the old one is known while it is free."""
    fill(db, path)
    fill(db, path, "u", rows=100)
    db.execute("DROP VIEW all_t")
    db.execute("ALTER TABLE t RENAME TO new")
    assert verify(db, "new") == verify(db, "t") == {"files": 2, "rows": 200, "problems": []}
    db.execute("DROP VIEW all_u")
    db.execute("ALTER TABLE u RENAME TO t")
    assert verify(db, "t")["rows"] == verify(db, "u")["rows"] == 100
    with pytest.raises(sqlite3.OperationalError, match="never been archived"):
        verify(db, "other")


@pytest.mark.parametrize(
    "values, declared",
    [
        (["2020-01-02T03:04:05.678Z", "2020-01-03"], "TEXT"),
        ([1577934245, 1577934246.5], "NUMERIC"),
        ([1577934245678, 1577934245679], "INTEGER"),
        ([1577934245678901234], "INTEGER"),
        ([2458850.5, 2458851], ""),
    ],
)
def test_every_format_of_time_is_known(db, values, declared):
    """The catalog's times are those of the time column, whatever its format."""
    db.execute(f"CREATE TABLE t (ts {declared}, v)")
    db.executemany("INSERT INTO t VALUES (?, x'00')", [(value,) for value in values])
    db.execute("INSERT INTO t VALUES (NULL, 1)")
    archive(db, "t", 7)
    assert verify(db)["rows"] == len(values) and verify(db)["problems"] == []
    db.execute("UPDATE _archive_file SET time_max = '2020-01-03T07:07:07Z'")
    assert "time_max" in " ".join(verify(db)["problems"])


def flip(file):
    """Changes one bit in the midst."""
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(data)


DAMAGES = {
    "missing": (lambda file: file.unlink(), "is missing"),
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "the catalog says"),
    "lengthened": (lambda file: file.write_bytes(file.read_bytes() + b"\0"), "the catalog says"),
    "flipped": (flip, "not those that were written"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(db, path, damage):
    """A file that is gone, or not what was written, is named with what is wrong with it."""
    _, (first, second) = fill(db, path)
    damage, words = DAMAGES[damage]
    damage(second)
    problem(db, str(second), words)
    assert verify(db)["rows"] == 100


def test_a_large_file_is_read_to_the_last_byte(db, path):
    """Every bit of a file counts: of filters, indexes and gaps that no value is in, too."""
    _, (first, _) = fill(db, path, rows=60_000)
    good = first.read_bytes()
    assert len(good) > 4 * 65_536
    for position in range(0, len(good), len(good) // 40):
        bad = bytearray(good)
        bad[position] ^= 1
        first.write_bytes(bad)
        problem(db, str(first))
    first.write_bytes(good)
    assert verify(db)["problems"] == []


def test_swapped_files(db, path):
    """Two files that were exchanged are both named, each with the one it is."""
    paths, (first, second) = fill(db, path)
    kept = first.with_name("kept")
    first.rename(kept)
    second.rename(first)
    kept.rename(second)
    problems = verify(db)["problems"]
    assert len(problems) == 2
    assert str(first) in problems[0] and f"it is the file {paths[1]}" in problems[0]
    assert str(second) in problems[1] and f"it is the file {paths[0]}" in problems[1]


# What is done to the row of the first file, and what the problem says.
WRONG = [
    ("rows = 99, published = 99", "rows in"),
    ("rows = 101", "rows in"),
    ("rows = 'many'", "rows"),
    ("row_groups = 2", "row groups"),
    ("row_groups = x'01'", "row_groups"),
    ("published = 101", "its published"),
    ("published = -1", "its published"),
    ("dead = 101", "its dead"),
    ("dead = -1", "its dead"),
    ("dead = 'x'", "its dead"),
    ("bytes = bytes + 1", "the catalog says"),
    ("bytes = -5", "bytes"),
    ("checksum = zeroblob(16)", "its checksum is not the catalog's"),
    ("checksum = x'01'", "checksum"),
    ("blocks = zeroblob(length(blocks))", "checksums of its blocks"),
    ("blocks = zeroblob(0)", "no checksums"),
    ("blocks = blocks || x'01'", "blocks"),
    ("blocks = NULL", "blocks"),
    ("time_min = '2019-12-31T01:02:03Z'", "time_min"),
    ("time_max = '2020-01-02T01:02:04Z'", "time_max"),
    ("time_max = x'00'", "time_max"),
    ("path = '../' || path", "outside the archive folder"),
    ("path = 't/nothing.parquet'", "its path is not one that its run wrote"),
    ("path = (SELECT max(path) FROM _archive_file WHERE table_id = 2) || ''", "its run"),
    ("path = replace(path, '/', '//')", "is the same file"),
    ("path = CAST(path AS BLOB)", "its path"),
    ("schema_id = 99", "no row of _archive_schema"),
    ("schema_id = 2", "schema_id is of another table"),
    ("table_id = 99", "its table_id is of no table"),
    ("table_id = 2", "is of another table"),
    ("run_id = 99", "its run_id is of no run"),
    ("run_id = 2", "its run_id is of another table"),
    ("hot_bytes = hot_bytes + 1", "hot_bytes"),
    ("hot_bytes = 'x'", "hot_bytes"),
    ("staged_at = 'yesterday'", "staged_at"),
]


def loosen(db, table):
    """Takes away what SQLite itself would refuse, as a tool or a flipped bit might."""
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA ignore_check_constraints = ON")
    columns = ", ".join(f'"{row[1]}"' for row in db.execute(f"PRAGMA table_info({table})"))
    db.executescript(f"""CREATE TABLE loose ({columns}); INSERT INTO loose SELECT * FROM {table};
            DROP TABLE {table}; ALTER TABLE loose RENAME TO {table};""")


@pytest.mark.parametrize("change, words", WRONG, ids=[change for change, _ in WRONG])
def test_wrong_rows_of_files(db, path, change, words):
    """A wrong row of _archive_file is a problem that names the file, and the others are still read."""
    (first, _), _ = fill(db, path)
    fill(db, path, "u")
    loosen(db, "_archive_file")
    if "//" in change:
        db.execute("INSERT INTO _archive_file SELECT * FROM _archive_file WHERE id = 1")
        db.execute("UPDATE _archive_file SET id = 9 WHERE rowid = last_insert_rowid()")
        db.execute(
            """INSERT INTO _archive_range SELECT schema_id, "column", 9, kinds, min, max, ascending
               FROM _archive_range WHERE file_id = 1"""
        )
        db.execute(f"UPDATE _archive_file SET {change} WHERE id = 9")
    else:
        db.execute(f"UPDATE _archive_file SET {change} WHERE id = 1")
    found = verify(db)
    (named,) = db.execute("SELECT CAST(path AS TEXT) FROM _archive_file WHERE id = 1").fetchone()
    about = [text for text in found["problems"] if named in text or first in text]
    assert any(words in text for text in about), found
    # One problem for the file; rows of _archive_range may be without their file besides.
    others = [text for text in found["problems"] if "_archive_range" not in text]
    assert len(others) <= 1 or "schema_id" in change, found
    assert found["files"] == (5 if "//" in change else 4)
    assert found["rows"] >= 300


def bitmap(file, chunk, rows, dead=None):
    """SQL that adds a bitmap, and sets the number of rows that it ought to be with the others."""
    sql = f"INSERT INTO _archive_tombstone VALUES ({file}, {chunk}, x'{tombstones.encode(rows).hex()}')"
    return sql + (
        "" if dead is None else f"; UPDATE _archive_file SET dead = {dead} WHERE id = {file}"
    )


RANGES = [
    (
        "UPDATE _archive_range SET min = 100 WHERE \"column\" = 'id'",
        "column id has a value outside",
    ),
    (
        "UPDATE _archive_range SET max = 100 WHERE \"column\" = 'id'",
        "column id has a value outside",
    ),
    ("UPDATE _archive_range SET max = 'a' WHERE \"column\" = 'v'", "column v has a value outside"),
    ("UPDATE _archive_range SET kinds = 4 WHERE \"column\" = 'n'", "column n has a value outside"),
    ("UPDATE _archive_range SET kinds = 4000 WHERE \"column\" = 'n'", "is wrong for column n"),
    ("UPDATE _archive_range SET ascending = 1 WHERE \"column\" = 'v'", "column v does not ascend"),
    ("UPDATE _archive_range SET ascending = 'x' WHERE \"column\" = 'v'", "is wrong for column v"),
    ("DELETE FROM _archive_range WHERE \"column\" = 'v'", "no row for its column v"),
    (
        "INSERT INTO _archive_range VALUES (1, 'other', 1, 1, NULL, NULL, 0)",
        "has the unknown column other",
    ),
    (
        "INSERT INTO _archive_range VALUES (7, 'id', 1, 1, NULL, NULL, 0)",
        "1 rows of _archive_range that are not of its columns",
    ),
    (bitmap(1, 0, [0]), "has 1 tombstones where dead is 0"),
    (bitmap(1, 0, [0], dead=2), "has 1 tombstones where dead is 2"),
    ("UPDATE _archive_file SET dead = 1 WHERE id = 1", "has 0 tombstones where dead is 1"),
    (bitmap(1, 0, [99, 100], dead=2), "has tombstones for rows that are hot"),
    (bitmap(1, 1, [5], dead=1), "has tombstones that cannot be read"),
    (bitmap(1, 0, [65536], dead=1), "has tombstones that cannot be read"),
    (bitmap(1, -1, [5], dead=1), "has tombstones that cannot be read"),
    ("INSERT INTO _archive_tombstone VALUES (1, 0, x'')", "has tombstones that cannot be read"),
    ("INSERT INTO _archive_tombstone VALUES (1, 'x', x'3a30')", "has tombstones that cannot be"),
    ("INSERT INTO _archive_tombstone VALUES (1, 0, 'text')", "has tombstones that cannot be read"),
    ("INSERT INTO _archive_tombstone VALUES (1, 0, zeroblob(9000))", "that cannot be read"),
]


@pytest.mark.parametrize("change, words", RANGES, ids=[change for change, _ in RANGES])
def test_wrong_rows_of_ranges_and_tombstones(db, path, change, words):
    """What the catalog says of a file's values and rows is held against the file."""
    (first, _), _ = fill(db, path)
    change = change + " AND file_id = 1" if "_range" in change and "WHERE" in change else change
    db.executescript(change)
    problem(db, first, words)


def test_rows_of_no_file(db, path):
    """Ranges and tombstones of a file that is not in the catalog are problems."""
    fill(db, path)
    db.execute("PRAGMA foreign_keys = OFF")
    db.executescript(bitmap(77, 0, [0]))
    db.execute("INSERT INTO _archive_range VALUES (1, 'id', 78, 1, NULL, NULL, 0)")
    problems = verify(db)["problems"]
    assert len(problems) == 2 and "77" in problems[0] and "78" in problems[1]
    # They are of no table.
    assert verify(db, "t")["problems"] == []


@pytest.mark.parametrize(
    "columns", ["'[]'", "'not JSON'", "x'00'", "replace(columns, '\"v\"', '\"w\"')"]
)
def test_wrong_columns(db, path, columns):
    """Columns in the catalog that are not those of the files are a problem of each file."""
    paths, _ = fill(db, path)
    db.execute(f"UPDATE _archive_schema SET columns = {columns}")
    problems = [text for text in verify(db)["problems"] if "unknown column" not in text]
    assert len(problems) == 2
    assert all(path in text for path, text in zip(paths, problems))


def test_staged_files_are_read(db, path):
    """A file whose rows are all hot still is checked, and adds no rows."""
    _, (first, _) = fill(db, path)
    db.execute("UPDATE _archive_file SET published = 0, staged_at = '2020-02-02T00:00:00.000Z'")
    assert verify(db) == {"files": 2, "rows": 0, "problems": []}
    flip(first)
    problem(db, str(first))


def test_a_copied_file(db, path):
    """A copy of another cold file in the place of one is named as that."""
    paths, (first, second) = fill(db, path)
    shutil.copy(first, second)
    problem(db, str(second), f"it is the file {paths[0]}")


class At:
    """Does something at the nth statement of a connection, from a connection of its own."""

    def __init__(self, db, step, act):
        self.step, self.act, self.count = step, act, 0
        db.set_trace_callback(self)

    def __call__(self, _):
        self.count += 1
        if self.count == self.step:
            self.act()


@pytest.mark.parametrize("what", ["rename", "restore"])
def test_what_others_change_meanwhile_is_no_problem(db, path, what):
    """A table that is renamed, and files that are removed once nothing refers to them any more."""
    db.execute("PRAGMA journal_mode = wal")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT)")
    rows = [(n, f"2020-01-0{n % 3 + 1}") for n in range(1, 20)]
    db.executemany("INSERT INTO t VALUES (?, ?)", rows)
    archive(db, "t", 7)
    other = sqlite3.connect(path, isolation_level=None) if what == "rename" else connect(path)

    def act():
        if what == "rename":
            other.execute("ALTER TABLE t RENAME TO u")
        else:
            other.execute("SELECT archive_restore('t')").fetchall()
            other.execute("SELECT archive_gc('{\"retention_days\":0}')").fetchall()

    def undo():
        if what == "rename":
            other.execute("ALTER TABLE u RENAME TO t")
        else:
            archive(other, "t", 7)

    steps = At(db, 0, act)
    db.execute("SELECT archive_verify()").fetchall()
    for step in range(1, steps.count + 1):
        tried = At(db, step, act)
        (found,) = db.execute("SELECT archive_verify() ->> 'problems'").fetchone()
        db.set_trace_callback(None)
        assert found == "[]", step
        if tried.count >= step:
            undo()
    other.close()
