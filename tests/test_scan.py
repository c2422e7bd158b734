"""How the cold side reads: what is planned, which files are opened, what of them is decoded."""

import contextlib
import pathlib
import random
import re
import sqlite3
import types
import uuid

import pyarrow.parquet
import pytest

import tombstones
from conftest import archive, connect
from test_filters import connections

ROOT = pathlib.Path("archive/parquet")
CREATE = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, word TEXT, name TEXT COLLATE NOCASE,"
    " uuid TEXT UNIQUE, note TEXT)"
)
DAYS, PER_DAY = 10, 20
IDS = range(1, DAYS * PER_DAY + 1)


def row(id, per_day=PER_DAY):
    """The row of an id: each day has a letter, and a UUID says nothing of the day."""
    day, n = divmod(id - 1, per_day)
    letter = chr(ord("a") + day % 26)
    unique = uuid.UUID(int=random.Random(id).getrandbits(128))
    ts = f"2020-{day // 28 + 1:02}-{day % 28 + 1:02} {n * 23 // per_day:02}:00:00"
    return (id, ts, f"{letter}{n}", letter.upper(), str(unique), f"{id:0100}")


def build(path, ids=IDS, per_day=PER_DAY):
    """A database whose table t has a cold file for each day; the connection that made it."""
    db = connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(CREATE)
    db.execute("BEGIN")
    db.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", (row(id, per_day) for id in ids))
    db.execute("COMMIT")
    archive(db, "t", 7)
    return db


def config(db, key, value):
    """Sets a setting, or with None forgets it."""
    db.execute("SELECT archive_config(?, ?)", (key, value)).fetchall()


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """A database with ten small cold files, of which nothing is kept in the cache."""
    path = tmp_path_factory.mktemp("ten") / "test.db"
    with contextlib.closing(build(path)) as db:
        config(db, "query_cache_enabled", "false")
    return path


@pytest.fixture
def cold(ten):
    """A connection to the ten small files."""
    with contextlib.closing(connect(ten)) as db:
        yield db


def scans(db):
    """What the cold scans of a connection did, newest first."""
    cursor = db.execute("SELECT * FROM archive_scan_stats")
    names = [column[0] for column in cursor.description]
    return [types.SimpleNamespace(**dict(zip(names, values))) for values in cursor]


def ask(db, sql, *parameters):
    """The rows of a query with one cold scan, and what that scan did."""
    ((before,),) = list(db.execute("SELECT coalesce(max(scan), 0) FROM archive_scan_stats"))
    rows = list(db.execute(sql, parameters))
    new = [scan for scan in scans(db) if scan.scan > before]
    assert len(new) == 1
    return rows, new[0]


def plan(db, sql):
    """The plan string that EXPLAIN QUERY PLAN shows of the cold scan."""
    details = [line[3] for line in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    (found,) = [text for text in details if "VIRTUAL TABLE" in text]
    return found.split(":", 1)[1]


ALL_FILES = "files 10/10 row groups 10/10"
PLANS = [
    ("", ALL_FILES),
    ("WHERE id = 25", "files 1/10 row groups 1/10 where id = ?"),
    ("WHERE id = 0", "files 0/10 row groups 0/10 where id = ?"),
    ("WHERE id IN (1, 25)", f"{ALL_FILES} where id IN ?"),
    ("WHERE word IN ('a1', 'c1')", f"{ALL_FILES} where word IN ?"),
    # Before SQLite 3.51 only the range counts that SQLite makes of a pattern.
    ("WHERE word LIKE 'c%'", "files 3/10 row groups 3/10 where .*word (LIKE ?|BEGINS~ ?.*)"),
    ("WHERE word GLOB 'c*'", "files [12]/10 row groups [12]/10 where .*word (GLOB ?|< ?)"),
    ("WHERE name = 'C'", f"{ALL_FILES} where name =~ ?"),
    ("ORDER BY id DESC", f"{ALL_FILES} order by id desc"),
    ("ORDER BY ts, id", f"{ALL_FILES} order by ts asc id asc"),
    ("ORDER BY note", ALL_FILES),
    ("WHERE id < 50 ORDER BY id DESC LIMIT 3", "files 3/10 .*id < ? order by id desc limit ?"),
    ("LIMIT 3", f"{ALL_FILES} limit ?"),
]


@pytest.mark.parametrize("host", ["sqlite3", "apsw"])
def test_the_plan_can_be_read(ten, host):
    """EXPLAIN QUERY PLAN shows the files left, the terms and whose collation they have, the order."""
    with contextlib.closing(connections()[host](ten)) as db:
        for tail, expected in PLANS:
            found = plan(db, f"SELECT id FROM cold_t {tail}")
            assert re.fullmatch(expected.replace("?", r"\?"), found), (tail, found)


@pytest.mark.parametrize(
    ("host", "word", "opened"), [("sqlite3", "beyond", 8), ("apsw", "offset", 1)]
)
def test_an_offset(ten, host, word, opened):
    """A plain OFFSET passes over whole files unopened, where SQLite leaves it to the table."""
    db = connections()[host](ten)
    sql = "SELECT id FROM cold_t LIMIT 3 OFFSET"
    assert plan(db, f"{sql} 5") == f"{ALL_FILES} limit ? {word} ?"
    for offset, files in ((5, 1), (150, opened), (1000, 10 if word == "beyond" else 0)):
        rows, scan = ask(db, f"{sql} {offset}")
        assert rows == [(id,) for id in IDS[offset : offset + 3]]
        assert scan.files_opened == files, offset
    # With a term, which rows count is only known from the rows.
    filtered = "SELECT id FROM cold_t WHERE note > '' LIMIT 3 OFFSET 150"
    assert "beyond ?" in plan(db, filtered)
    assert ask(db, filtered)[0] == [(151,), (152,), (153,)]
    db.close()


IN = [
    ("id IN (5, 25, 200)", 3),
    ("id IN (5, 6, 7)", 1),
    ("id IN (-1, 0, 201)", 0),
    ("word IN ('a1', 'd2')", 2),
    ("id IN (SELECT n FROM k)", 2),
    ("word IN (SELECT w FROM k)", 2),
    ("word LIKE 'a%'", 1),
    ("word LIKE 'C1%'", 3),
    ("word LIKE '%c%'", 10),
    ("word GLOB 'c*'", 1 if sqlite3.sqlite_version_info >= (3, 51) else 2),
    ("word GLOB '[cd]1*'", 10),
]


@pytest.mark.parametrize(("condition", "files"), IN)
def test_lists_and_patterns_open_only_the_files_they_need(cold, condition, files):
    """IN over integers, text and a subquery; LIKE and GLOB with a beginning."""
    cold.execute("CREATE TEMP TABLE k (n INTEGER, w TEXT)")
    cold.execute("INSERT INTO k VALUES (30, 'b3'), (190, 'j9'), (NULL, 'zz')")
    cold.execute("CREATE TEMP TABLE plain AS SELECT * FROM cold_t")
    expected = cold.execute(f"SELECT id FROM plain WHERE {condition} ORDER BY id").fetchall()
    found, scan = ask(cold, f"SELECT id FROM cold_t WHERE {condition}")
    assert sorted(found) == expected
    assert bool(expected) == bool(files) and scan.files_opened == files


def test_an_applications_own_like_is_not_second_guessed(cold):
    """With a 2-argument like() of its own, LIKE prunes nothing; its answers are its own."""
    sql = "SELECT count(*) FROM cold_t WHERE word LIKE 'C1%'"
    assert ask(cold, sql)[1].files_opened == 3
    cold.create_function("like", 2, lambda pattern, value: value.endswith(pattern.strip("%")))
    sql = "SELECT count(*) FROM cold_t WHERE word LIKE '19%'"
    assert "LIKE" not in plan(cold, sql)
    rows, scan = ask(cold, sql)
    assert (rows, scan.files_opened) == ([(DAYS,)], DAYS)


def test_an_applications_like_with_escape_loses_no_rows(path):
    """A 3-argument like() of the application's own: cold rows stay, and archiving works."""
    with contextlib.closing(build(path)) as db:
        db.execute("CREATE TABLE u (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT)")
        db.execute("INSERT INTO u VALUES (1, '2020-01-01'), (2, '2020-01-02')")
    with contextlib.closing(connect(path)) as db:
        like = lambda p, v, e: v is not None and p.strip("%").lower() in v.lower()  # noqa: E731
        db.create_function("like", 3, like)
        assert db.execute("SELECT count(*) FROM all_t").fetchone() == (len(IDS),)
        assert archive(db, "u", 7)["rows"] == 2
        assert db.execute("SELECT count(*) FROM all_u").fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM cold_u").fetchone() == (2,)
        escaped = "SELECT count(*) FROM all_t WHERE word LIKE '%C1%' ESCAPE '!'"
        assert db.execute(escaped).fetchone() == (11,)


def test_a_bloom_filter_spares_the_pages_of_other_files(cold):
    """A value of a unique column could be in any file by its range, and is looked for in one."""
    opened = 0
    for id in random.Random(3).sample(IDS, 12):
        rows, scan = ask(cold, "SELECT id FROM cold_t WHERE uuid = ?", row(id)[4])
        assert rows == [(id,)]
        assert scan.pages_read <= 3 and scan.row_groups_read == 1
        opened += scan.files_opened
    assert opened > 12 * 5
    missing = str(uuid.UUID(int=random.Random("missing").getrandbits(128)))
    rows, scan = ask(cold, "SELECT id FROM cold_t WHERE uuid = ?", missing)
    assert rows == [] and scan.files_opened > 5 and scan.pages_read <= 1


def test_a_column_is_decoded_where_rows_pass(db):
    """Of a column that is only returned, the pages with rows that pass the WHERE are read."""
    db.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, kind TEXT, note TEXT)"
    )
    rng = random.Random(4)
    rows = [
        (id, "2020-01-01", rng.choice("az") + str(id % 50), f"{rng.getrandbits(64):016x}")
        for id in range(1, 40_001)
    ]
    rows[20_000] = (20_001, "2020-01-01", "m", "found")
    db.execute("BEGIN")
    db.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
    db.execute("COMMIT")
    archive(db, "t", 7)
    config(db, "query_cache_enabled", "false")
    kind_pages = ask(db, "SELECT count(kind) FROM cold_t")[1].pages_read
    note_pages = ask(db, "SELECT count(note) FROM cold_t")[1].pages_read
    assert note_pages > 3
    found, scan = ask(db, "SELECT note FROM cold_t WHERE kind = 'm'")
    assert found == [("found",)]
    assert scan.pages_read <= kind_pages + 1 and scan.pages_skipped > 0


def test_a_statement_reads_one_snapshot(path):
    """Rows that are archived while a statement runs are in none of its arms, or in all."""
    with contextlib.closing(build(path)) as db, contextlib.closing(connect(path)) as other:
        cursor = db.execute("SELECT 'a', id FROM cold_t UNION ALL SELECT 'b', id FROM cold_t")
        rows = [cursor.fetchone()]
        late = [(1000 + n, "2020-02-01", *row(1000 + n)[2:]) for n in range(7)]
        other.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", late)
        assert archive(other, "t", 7)["rows"] == 7
        rows += cursor.fetchall()
        for arm in "ab":
            assert sorted(id for name, id in rows if name == arm) == list(IDS), arm
        assert db.execute("SELECT count(*) FROM cold_t").fetchone() == (len(IDS) + 7,)


ORDERS = ["id", "id DESC", "ts", "ts DESC", "ts, id", "ts DESC, id DESC", "ts, id DESC", "note"]


@pytest.mark.parametrize("order", ORDERS)
def test_order_over_files_that_overlap(path, order):
    """Ids that say nothing of the time, in files with tombstones, in the order that is asked for."""
    with contextlib.closing(build(path, [])) as db:
        rng = random.Random(8)
        shuffled = rng.sample(IDS, len(IDS))
        every = {}
        for position, id in enumerate(shuffled):
            day = position // 40
            values = (id, f"2020-01-{day + 1:02} {rng.randrange(6):02}:00:00", *row(id)[2:])
            every[id] = values
            db.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", values)
        assert archive(db, "t", 7)["files"] == 5
        for number, name in db.execute("SELECT id, path FROM _archive_file").fetchall():
            ids = pyarrow.parquet.ParquetFile(path.parent / ROOT / name).read(["id"])["id"]
            gone = rng.sample(range(len(ids)), 7)
            tombstones.bury(db, number, gone)
            for at in gone:
                del every[ids[at].as_py()]
        db.execute("CREATE TEMP TABLE plain (id INTEGER PRIMARY KEY, ts, word, name, uuid, note)")
        db.executemany("INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?)", every.values())
        key = order.split()[0]
        sql = f"SELECT {key} FROM cold_t ORDER BY {order}"
        if "," in order:
            sql = f"SELECT ts, id FROM cold_t ORDER BY {order}"
        mixed = order in ("ts, id DESC", "note")
        assert ("order by" in plan(db, sql)) is not mixed
        for limit in ("", " LIMIT 5", " LIMIT 30 OFFSET 60"):
            expected = db.execute(sql.replace("cold_t", "plain") + limit).fetchall()
            assert expected and db.execute(sql + limit).fetchall() == expected
        assert db.execute("SELECT count(*) FROM cold_t").fetchone() == (len(IDS) - 35,)


@pytest.mark.parametrize("order", ["id", "id DESC", "ts, id", "ts DESC, id DESC"])
def test_an_ordered_limit_opens_what_it_needs(cold, order):
    """Where files do not overlap, one page needs one file, and a page over an edge two."""
    ids = IDS[::-1] if "DESC" in order else IDS
    for limit, files in ((5, 1), (25, 2)):
        rows, scan = ask(cold, f"SELECT id FROM cold_t ORDER BY {order} LIMIT {limit}")
        assert rows == [(id,) for id in ids[:limit]]
        assert (scan.files_opened, scan.rows_returned) == (files, limit)


def test_scan_stats(ten):
    """A line for each cursor, the newest first; a join's inner side counts its loops."""
    with contextlib.closing(connect(ten)) as db:
        assert scans(db) == []
        assert len(db.execute("SELECT * FROM cold_t").fetchall()) == len(IDS)
        assert len(db.execute("SELECT * FROM cold_t LIMIT 7").fetchall()) == 7
        union = "SELECT id FROM cold_t WHERE id = 1 UNION ALL SELECT id FROM cold_t WHERE id < 4"
        assert len(db.execute(union).fetchall()) == 4
        join = (
            "WITH k(n) AS (VALUES (3), (25), (26))"
            " SELECT n, id FROM k CROSS JOIN cold_t ON id = n"
        )
        assert db.execute(join).fetchall() == [(3, 3), (25, 25), (26, 26)]
        found = scans(db)
    assert [scan.scan for scan in found] == list(range(len(found), 0, -1))
    assert {scan.table for scan in found} == {"t"}
    inner, second, first, limited, full = found
    assert [scan.rows_returned for scan in found[1:]] == [3, 1, 7, len(IDS)]
    assert (inner.loops, inner.rows_returned, inner.files, inner.files_opened) == (3, 3, 30, 3)
    assert (full.files, full.files_opened, full.row_groups_read) == (DAYS, DAYS, DAYS)
    assert (full.loops, limited.files_opened, first.files_opened, second.files_opened) == (1,) * 4
    assert first.plan == "files 1/10 row groups 1/10 where id = ?"
    assert first.row_groups_skipped == DAYS - 1 and full.row_groups_skipped == 0
    assert full.bytes_read > first.bytes_read > 0 and full.elapsed_ms >= 0
