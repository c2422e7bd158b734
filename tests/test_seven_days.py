"""Double write over simulated days: rows arrive, change and go while a nightly run copies them, waits a
day and moves them. A plain database that gets the same writes says what has to be there."""

import datetime
import json
import os
import random
import signal
import sqlite3
from contextlib import closing

import pyarrow.parquet
import pytest

from conftest import FAULTS_LIBRARY, archive, connect, process

MIDNIGHT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NOW = "SQLITE_COLD_NOW"

# Each kind of key, with the columns that are it, and how the table writes down its times.
TABLES = {
    "auto": ("id", "(id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v)", "iso"),
    "plain": ("id", "(id INTEGER PRIMARY KEY, created_at INTEGER, v)", "unix"),
    "pair": ("a, b", "(a TEXT, b, created_at TEXT, v, PRIMARY KEY (a, b)) WITHOUT ROWID", "iso"),
    "bare": ("rowid", "(created_at DATETIME, v)", "iso"),
}
# Texts, numbers and blobs that compare as equal in part, which does not make them the same.
VALUES = [None, 0, 0.0, -0.0, 1, 1.0, "1", "", "é\U0001f600", b"", b"1", 2**53 + 1, "x" * 300]
POINTS = ["run.begin", "plan.chunk", "read.rows", "file.write", "file.sync", "file.verify"]
POINTS += ["publish.begin", "publish.delete", "publish.catalog", "publish.commit", "run.end"]

CHILD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.enable_load_extension(True)
db.load_extension(sys.argv[2])
print(db.execute("SELECT archive_run(?)", [sys.argv[3]]).fetchone()[0])
"""


def night(path, now, fault="", **options):
    """The nightly run at a time: its summary, or None if it was killed on the way."""
    os.environ[NOW] = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    text = json.dumps({"backup": False, **options})
    if fault:
        with process(CHILD, path, FAULTS_LIBRARY.with_suffix(""), text, fault=fault) as child:
            output, errors = child.communicate(timeout=60)
            if child.returncode == -signal.SIGKILL:
                return None
            assert child.returncode == 0, errors
    else:
        with closing(connect(path, FAULTS_LIBRARY)) as db:
            (output,) = db.execute("SELECT archive_run(?)", [text]).fetchone()
    summary = json.loads(output)
    assert summary["errors"] == [], summary
    return summary


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Takes the clock back when a test is over."""
    monkeypatch.setenv(NOW, "2026-01-01T00:00:00Z")


class Twins:
    """Tables in a database that is archived every night, and the same tables in one that is not."""

    def __init__(self, path, seed):
        self.chance = random.Random(seed)
        self.path, self.plain_path = path, path.with_name("plain.db")
        self.next, self.undo = 1, []
        encoding = "UTF-16le" if seed % 3 == 2 else "UTF-8"
        for file in (self.path, self.plain_path):
            with closing(sqlite3.connect(file, isolation_level=None)) as db:
                db.execute(f"PRAGMA encoding = '{encoding}'")
                db.execute(f"PRAGMA journal_mode = {'wal' if seed % 2 else 'delete'}")
                for table, (_, columns, _) in TABLES.items():
                    db.execute(f"CREATE TABLE {table} {columns}")
                # With an index VACUUM keeps the rowids of a table that has no key.
                db.execute("CREATE INDEX bare_by_time ON bare (created_at)")
        with closing(connect(self.path, FAULTS_LIBRARY)) as db:
            db.execute("SELECT archive_config('vacuum_free_percent', 0)")
            for table in TABLES:
                options = {"batch_size": self.chance.choice([5, 40, 1000])}
                if seed % 2 and self.chance.random() < 0.5:
                    options["grace_hours"] = 48
                db.execute("SELECT archive_policy(?, 1, ?)", [table, json.dumps(options)])
        self.app = sqlite3.connect(self.path, isolation_level=None)
        self.plain = sqlite3.connect(self.plain_path, isolation_level=None)
        for db in (self.app, self.plain):
            db.execute("PRAGMA synchronous = OFF")

    def close(self):
        self.app.close()
        self.plain.close()

    def write(self, sql, values):
        """The same for both; neither connection has the extension."""
        changed = [db.execute(sql, values).rowcount for db in (self.app, self.plain)]
        assert changed == [1, 1], f"{sql}: {changed}"

    def time(self, table, moment):
        """A time as the table writes it down; now and then there is none."""
        if self.chance.random() < 0.03:
            return None
        unix = TABLES[table][2] == "unix"
        return int(moment.timestamp()) if unix else f"{moment:%Y-%m-%dT%H:%M:%SZ}"

    def value(self):
        return self.chance.choice(VALUES)

    def insert(self, table, key, values):
        names = TABLES[table][0]
        marks = ", ".join("?" * (len(key) + 2))
        self.write(
            f"INSERT INTO {table} ({names}, created_at, v) VALUES ({marks})", [*key, *values]
        )

    def update(self, table, key, values):
        sql = (
            f"UPDATE {table} SET created_at = ?, v = ? WHERE ({TABLES[table][0]}) = ({marks(key)})"
        )
        self.write(sql, [*values, *key])

    def delete(self, table, key):
        self.write(f"DELETE FROM {table} WHERE ({TABLES[table][0]}) = ({marks(key)})", key)

    def arrive(self, day):
        """New rows, at several times of a day; some are late by days."""
        for table in TABLES:
            for _ in range(self.chance.randrange(2, 9)):
                late = self.chance.choice([0, 0, 0, 0, 2, 5])
                moment = day + datetime.timedelta(days=-late, seconds=self.chance.randrange(86400))
                key = [f"k{self.next % 3}", self.next] if table == "pair" else [self.next]
                self.next += 1
                self.insert(table, key, [self.time(table, moment), self.value()])

    def hot(self, table):
        """The hot rows by their keys."""
        names = TABLES[table][0]
        sql = f"SELECT {names}, created_at, v FROM {table} ORDER BY {names}"
        return [(row[:-2], row[-2:]) for row in self.app.execute(sql)]

    def meddle(self, day):
        """Hot rows, most of which have copies by now, are changed, changed back, and deleted."""
        for table, key, before, after in [u for u in self.undo if self.chance.random() < 0.6]:
            self.undo.remove((table, key, before, after))
            if (key, after) in self.hot(table):
                self.update(table, key, before)
        for table in TABLES:
            rows = self.hot(table)
            # The newest row keeps an id from being handed out again; it is not for us to delete.
            for key, before in self.chance.sample(rows[:-1], min(len(rows) - 1, 6)):
                back = datetime.timedelta(days=self.chance.randrange(6), seconds=1)
                after = self.chance.choice(
                    [
                        (before[0], self.value()),
                        (self.time(table, day - back), before[1]),
                        (self.time(table, day - back), self.value()),
                    ]
                )
                match self.chance.randrange(6):
                    case 0:
                        self.delete(table, key)
                    case 1:
                        self.update(table, key, after)
                    case 2:
                        self.update(table, key, after)
                        self.undo.append((table, key, before, after))
                    case 3:
                        self.update(table, key, after)
                        self.update(table, key, before)
                    case 4:
                        self.delete(table, key)
                        self.insert(table, key, before)
                    case _:
                        self.delete(table, key)
                        self.insert(table, key, after)

    def check(self):
        """Every row is there once with its newest values, and no row has two copies that wait."""
        with closing(connect(self.path, FAULTS_LIBRARY)) as db:
            for table in TABLES:
                whole = db.execute(
                    "SELECT 1 FROM temp.sqlite_schema WHERE name = ?", [f"all_{table}"]
                )
                source = f"all_{table}" if whole.fetchone() else table
                assert contents(db, source) == contents(self.plain, table), table
                staged = [key for file in copies(self.path, table) for key in file]
                assert len(staged) == len(set(staged)), f"{table}: a row was copied twice"
            assert json.loads(db.execute("SELECT archive_verify()").fetchone()[0])["problems"] == []
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def marks(values):
    return ", ".join("?" * len(values))


def contents(db, table):
    """The rows of a table with the exact types of their values, in no order."""
    return sorted(map(repr, db.execute(f"SELECT * FROM {table}")))


def copies(path, table):
    """What waits in each staged file of a table: times and keys."""
    sql = """SELECT path FROM _archive_file JOIN _archive_table t ON t.id = table_id
             WHERE name = ? AND staged_at IS NOT NULL AND published = 0"""
    with closing(sqlite3.connect(path)) as db:
        for (name,) in db.execute(sql, [table]).fetchall():
            file = pyarrow.parquet.ParquetFile(path.parent / "archive" / "parquet" / name)
            yield [
                repr({k: v for k, v in row.items() if k != "v"}) for row in file.read().to_pylist()
            ]


@pytest.mark.parametrize("seed", range(9))
def test_days(path, seed):
    """Ten days with writes, in some seeds with runs that are killed, then four quiet ones: after each
    all rows are there once, and in the end those that are old are cold."""
    twins = Twins(path, seed)
    killed = cold = kept = 0
    for number in range(14):
        day = MIDNIGHT + datetime.timedelta(days=number)
        if number < 10:
            twins.arrive(day)
            twins.meddle(day)
            twins.arrive(day)
        # A run is at most some seconds earlier than the one before.
        seconds = twins.chance.randrange(60)
        now = day + datetime.timedelta(days=1, hours=3, minutes=30, seconds=seconds)
        point = twins.chance.choice(POINTS)
        die = seed >= 3 and number < 10 and twins.chance.random() < 0.5
        fault = f"{point}:{twins.chance.randrange(1, 6)}:kill" if die else ""
        summary = night(path, now, fault)
        killed += summary is None
        cold += summary["rows"] if summary else 0
        kept += sum(table["kept_rows"] for table in summary["tables"]) if summary else 0
        twins.check()
    assert cold > 100 and kept > 20 and (killed > 0) == (seed >= 3)
    for table in TABLES:
        hot = twins.hot(table)
        newest = [] if table in ("auto", "pair") else hot[-1:]
        assert [row for row in hot if row[1][0] is not None and row not in newest] == [], table
    twins.close()


@pytest.fixture
def staged(path):
    """A table of four old rows, all of which were copied at half past three."""
    db = connect(path, FAULTS_LIBRARY)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v)")
    rows = [("2025-12-01", v) for v in ("one", "two", "three", "four")]
    db.executemany("INSERT INTO t (created_at, v) VALUES (?, ?)", rows)
    db.execute("SELECT archive_policy('t', 7)")
    (table,) = night(path, at(0))["tables"]
    assert (table["rows"], table["staged"]) == (0, 4)
    yield db
    db.close()


def at(day, hour=3, minute=30, second=0):
    return MIDNIGHT + datetime.timedelta(days=day, hours=hour, minutes=minute, seconds=second)


def again(path, now, **options):
    """What a further night came to: rows that became cold, stayed hot, were copied."""
    (table,) = night(path, now, **options)["tables"]
    return table["rows"], table["kept_rows"], table["staged"]


def hot(db):
    return [v for (v,) in db.execute("SELECT v FROM t ORDER BY id")]


def everything(db):
    return [v for (v,) in db.execute("SELECT v FROM all_t ORDER BY id")]


def test_copies_are_invisible(staged):
    """While a row is hot, its copy does not count anywhere."""
    staged.execute("SELECT archive_attach()")
    assert everything(staged) == hot(staged) == ["one", "two", "three", "four"]
    assert staged.execute("SELECT count(*) FROM cold_t").fetchone() == (0,)
    sql = "SELECT hot_rows, cold_rows, staged_rows FROM archive_status"
    assert staged.execute(sql).fetchall() == [(4, 0, 4)]
    assert staged.execute("SELECT rows, state FROM archive_files('t')").fetchall() == [
        (0, "staged")
    ]


@pytest.mark.parametrize(
    "now, moves",
    [
        (at(0, 23), False),
        (at(1, 2, 59, 59), False),
        (at(1, 3, 0, 0), True),
        (at(1, 3, 29, 55), True),
        (at(5), True),
    ],
)
def test_grace_in_whole_hours(path, staged, now, moves):
    """A copy is due after 24 hours, counted from hour to hour: a run that is some seconds early finds
    it. Until then it is neither moved nor copied again."""
    assert again(path, now) == ((4, 0, 0) if moves else (0, 0, 0))
    staged.execute("SELECT archive_attach()")
    assert everything(staged) == ["one", "two", "three", "four"]
    assert hot(staged) == ([] if moves else everything(staged))


@pytest.mark.parametrize("hours", [0, 24, 8760])
def test_a_clock_that_was_wrong(staged, monkeypatch, hours):
    """Copies of a time that is yet to come do not keep their rows hot until it comes."""
    monkeypatch.setenv(NOW, "2026-01-01T02:59:59Z")
    moved = archive(staged, "t", 7, {"grace_hours": hours})
    assert (moved["rows"], moved["staged"]) == (4, 0)


def test_copied_once(path, staged):
    """With a longer period a row waits for all of it, and is copied once."""
    staged.execute("SELECT archive_policy('t', 7, '{\"grace_hours\":96}')")
    assert [again(path, at(day)) for day in (1, 2, 3)] == [(0, 0, 0)] * 3
    assert staged.execute("SELECT count(*), sum(rows) FROM _archive_file").fetchone() == (1, 4)
    assert again(path, at(4)) == (4, 0, 0)


def test_a_changed_row_is_copied_again(path, staged):
    """What changed in the meantime stays hot, is copied anew, and moves a day later with its newest
    values. What was changed back, or deleted and came back, moves as if nothing had been."""
    staged.execute("UPDATE t SET v = 'changed' WHERE id = 1")
    staged.execute("UPDATE t SET v = 'odd' WHERE id = 2")
    staged.execute("UPDATE t SET v = 'two' WHERE id = 2")
    staged.execute("DELETE FROM t WHERE id = 3")
    staged.execute("INSERT INTO t VALUES (3, '2025-12-01', 'three')")
    staged.execute("DELETE FROM t WHERE id = 4")
    assert again(path, at(1)) == (2, 2, 1)
    staged.execute("SELECT archive_attach()")
    assert (hot(staged), everything(staged)) == (["changed"], ["changed", "two", "three"])
    staged.execute("INSERT INTO t VALUES (4, '2025-12-01', 'another')")
    assert again(path, at(2)) == (1, 0, 1)
    assert again(path, at(3)) == (1, 0, 0)
    assert (hot(staged), everything(staged)) == ([], ["changed", "two", "three", "another"])


def test_rows_that_change_every_night(path, staged):
    """Copies that are out of date when their grace period ends leave the catalog, and after a week the
    disk: after ten nights there are no more of them than after one."""
    for day in range(1, 11):
        staged.execute("UPDATE t SET v = v || '.'")
        (table,) = night(path, at(day))["tables"]
        assert (table["rows"], table["kept_rows"], table["staged"]) == (0, 4, 4)
        assert (table["files"], table["discarded_files"]) == (1, 1)
        assert staged.execute("SELECT count(*), sum(dead) FROM _archive_file").fetchone() == (1, 0)
        assert staged.execute("SELECT count(*) FROM _archive_tombstone").fetchone() == (0,)
        assert len(list(path.parent.rglob("*.parquet"))) == min(day + 1, 8)
    staged.execute("UPDATE t SET v = 'changed' WHERE id <> 1")
    assert again(path, at(11)) == (1, 3, 3)
    staged.execute("SELECT archive_attach()")
    sql = "SELECT rows, state FROM archive_files('t') ORDER BY state"
    assert staged.execute(sql).fetchall() == [(1, "published"), (0, "staged")]
    assert everything(staged) == ["one..........", "changed", "changed", "changed"]


def test_types_count(path, staged):
    """A value that only compares as equal is a changed one: text or bytes, 1 or 1.0, 0.0 or -0.0."""
    values = [1, 0.0, "x", None]
    for key, v in enumerate(values, 1):
        staged.execute("UPDATE t SET v = ? WHERE id = ?", [v, key])
    assert again(path, at(1)) == (0, 4, 4)
    changed = [1.0, -0.0, b"x", ""]
    for key, v in enumerate(changed, 1):
        staged.execute("UPDATE t SET v = ? WHERE id = ?", [v, key])
    assert again(path, at(2)) == (0, 4, 4)
    assert again(path, at(3)) == (4, 0, 0)
    staged.execute("SELECT archive_attach()")
    assert [repr(v) for v in everything(staged)] == [repr(v) for v in changed]


def policy(db, hot_days, **options):
    """Changes the policy of the table."""
    db.execute("SELECT archive_policy('t', ?, ?)", [hot_days, json.dumps(options)])


def test_days_that_were_raised(path, staged):
    """Rows go by the rule of the day on which they would move: with more hot_days a copy waits on, at
    night and by hand, until its time has come."""
    policy(staged, 400)
    assert again(path, at(1)) == (0, 0, 0)
    sql = "SELECT archive_table('t', 400) ->> '$.rows'"
    assert staged.execute(sql).fetchone() == (0,) and len(hot(staged)) == 4
    assert staged.execute("SELECT state FROM archive_files('t')").fetchall() == [("staged",)]
    policy(staged, 7)
    assert again(path, at(2)) == (4, 0, 0)


def test_days_raised_within_a_file(path, staged):
    """Of one file the rows that are old enough by now move, the others stay and are copied later."""
    policy(staged, 7, partition="month")
    staged.execute("DELETE FROM t")
    assert again(path, at(1)) == (0, 4, 0)
    rows = [("2025-11-03",), ("2025-11-20",), ("2025-11-04",)]
    staged.executemany("INSERT INTO t (created_at) VALUES (?)", rows)
    assert again(path, at(2)) == (0, 0, 3)
    policy(staged, 50, partition="month")
    assert again(path, at(3)) == (2, 1, 0)
    assert staged.execute("SELECT created_at FROM t").fetchall() == [("2025-11-20",)]
    policy(staged, 7, partition="month")
    assert (again(path, at(4)), again(path, at(5))) == ((0, 0, 1), (1, 0, 0))


def test_a_condition_that_is_no_longer_so(path, staged):
    """A row that the policy's condition wants hot by now stays hot although it is the same as its copy."""
    policy(staged, 7, where="id <> 1")
    assert again(path, at(1)) == (3, 1, 0)
    assert hot(staged) == ["one"]
    policy(staged, 7)
    assert (again(path, at(2)), again(path, at(3))) == ((0, 0, 1), (1, 0, 0))
    staged.execute("SELECT archive_attach()")
    assert everything(staged) == ["one", "two", "three", "four"]


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_a_damaged_copy_is_made_again(path, damage):
    """A staged file that is gone or damaged holds nothing up: its rows are hot, and copied again."""
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT)")
        connection.execute(
            "INSERT INTO t VALUES (1, '2020-01-01'), (2, '2020-01-02'), (3, '2999-01-01')"
        )
        assert archive(connection, "t", 7, {"grace_hours": 24})["staged"] == 2
        file = next(path.parent.rglob("day=01/*.parquet"))
        content = bytearray(file.read_bytes())
        file.unlink()
        if damage == "flipped":
            content[40] ^= 1
            file.write_bytes(content)
        result = archive(connection, "t", 7, {"grace_hours": 24})
        assert (result["discarded_files"], result["staged"]) == (1, 1)
        result = archive(connection, "t", 7)
        assert (result["discarded_files"], result["rows"]) == (0, 2)
        rows = connection.execute("SELECT id FROM all_t ORDER BY id").fetchall()
        assert rows == [(1,), (2,), (3,)]
        (problems,) = connection.execute("SELECT archive_verify() ->> 'problems'").fetchone()
        assert problems == "[]"
