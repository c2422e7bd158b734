"""An interrupt leaves nothing half done: whatever moment `sqlite3_interrupt`, a progress handler or a
lack of memory chooses, each row is there once, no transaction stays open that the caller did not
begin, and all settings are back.

INTERRUPTS says at how many steps of SQLite's machine each call is interrupted (`all` is every one), and
INTERRUPTS_RANDOM at how many random moments from another thread.
"""

import json
import os
import random
import shutil
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from conftest import LIBRARY, archive, connect, process

MOMENTS = os.environ.get("INTERRUPTS", "3")
RANDOM_MOMENTS = int(os.environ.get("INTERRUPTS_RANDOM", "300"))
SEED = int(os.environ.get("INTERRUPTS_SEED", "11"))

KINDS = {
    "rowid": "CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)",
    "without": "CREATE TABLE t (id TEXT PRIMARY KEY, ts TEXT, v) WITHOUT ROWID",
    "keyless": "CREATE TABLE t (id, ts TEXT, v)",
}
CUTOFF = {"before": "2020-01-07"}


def nothing(db):
    """Nothing was archived yet."""


def cold(db):
    """Most rows are cold."""
    archive(db, "t", None, CUTOFF)


def staged(db):
    """Most rows have a copy, and wait for the end of their grace period."""
    archive(db, "t", None, {**CUTOFF, "grace_hours": 1})


def policy(db):
    """There is a policy, and nothing was archived yet."""
    db.execute("SELECT archive_policy('t', 7, '{\"grace_hours\":0}')")


def database(db):
    """The path of the database."""
    return db.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()[0]


def without_library(db, script):
    """Lets a program that does not know the library change the database."""
    with closing(sqlite3.connect(database(db))) as other:
        other.executescript(script)


def rebuilt(db):
    """The table was made again, as migration tools do, and waits to be adopted."""
    cold(db)
    (sql,) = db.execute("SELECT sql FROM main.sqlite_schema WHERE name = 't'").fetchone()
    sql = sql.replace("TABLE t", "TABLE made_again")
    without_library(db, f"""
        {sql};
        INSERT INTO made_again SELECT * FROM t;
        DROP TABLE t;
        ALTER TABLE made_again RENAME TO t;
        """)


def renamed(db):
    """The table had another name when it was archived, and it cannot be told which one it is."""
    without_library(db, "CREATE TABLE first (n); ALTER TABLE t RENAME TO earlier")
    archive(db, "earlier", None, CUTOFF)
    without_library(db, "ALTER TABLE earlier RENAME TO t; DROP TABLE first; VACUUM")


def lost(db):
    """Another program has dropped the catalog but for `_archive_meta`, which tells of copied databases."""
    cold(db)
    names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB '_archive*'"
    names = [name for (name,) in db.execute(names) if name != "_archive_meta"]
    without_library(db, ";".join(f"DROP TABLE {name}" for name in names))



RESTORE = "SELECT archive_restore('t', '{\"where\":\"v <> 3\"}')"
# Each call with the state it starts from.
CALLS = {
    "archive": (nothing, "SELECT archive_table('t', NULL, '{\"before\":\"2020-01-07\"}')"),
    "stage": (nothing, "SELECT archive_table('t', 7, '{\"grace_hours\":1}')"),
    "publish": (staged, "SELECT archive_table('t', NULL, '{\"before\":\"2020-01-07\"}')"),
    "expire": (cold, "SELECT archive_table('t', 30, '{\"expire_days\":30000}')"),
    "restore": (cold, "SELECT archive_restore('t')"),
    "restore some": (cold, RESTORE),
    "run": (policy, "SELECT archive_run('{\"backup\":false,\"vacuum\":false}')"),
    "policy": (nothing, "SELECT archive_policy('t', 7)"),
    "attach": (cold, "SELECT archive_attach()"),
    "gc": (cold, "SELECT archive_gc()"),
    "verify": (cold, "SELECT archive_verify()"),
    "config": (nothing, "SELECT archive_config('batch_size', 5)"),
    "backup": (cold, "SELECT archive_backup()"),
    "policy drop": (policy, "SELECT archive_policy_drop('t')"),
    "adopt": (rebuilt, "SELECT archive_adopt('t')"),
    "rename": (renamed, "SELECT archive_rename('earlier', 't')"),
    "recover": (lost, "SELECT archive_recover()"),
    "recover dry": (lost, "SELECT archive_recover('{\"dry_run\":true}')"),
}
# Calls before which the cold rows are out of reach, and the call that mends that.
MENDS = {
    "adopt": "SELECT archive_adopt('t')",
    "rename": "SELECT archive_rename('earlier', 't')",
    "recover": "SELECT archive_recover()",
    "recover dry": "SELECT archive_recover()",
}
# What can be called after a call that cannot be made twice.
AFTERWARDS = {"policy drop": "SELECT archive_policy('t', 7)"}
# What may not be called inside a transaction.
ALONE = {"run", "gc", "backup", "recover", "recover dry"}


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Makes the folder of a kind of table in a state, once; returns it and all of its rows."""
    made = {}

    def make(kind, state):
        if (kind, state) not in made:
            folder = tmp_path_factory.mktemp("state")
            with closing(connect(folder / "test.db")) as db:
                db.execute(KINDS[kind])
                db.execute("CREATE TABLE probe (n)")
                db.execute("CREATE TABLE fired (n)")
                db.execute(
                    "CREATE TRIGGER fire AFTER INSERT ON probe BEGIN"
                    " INSERT INTO fired VALUES (new.n); END"
                )
                for n in range(12):
                    row = (n, f"2020-01-{n % 9 + 1:02}T00:00:00Z", n * 1.5 if n % 2 else str(n))
                    db.execute("INSERT INTO t VALUES (?, ?, ?)", row)
                rows = sorted(map(repr, db.execute("SELECT * FROM t")))
                state(db)
            made[kind, state] = folder, rows
        return made[kind, state]

    return make


class Handler:
    """A progress handler that strikes at a step, in one of several ways."""

    def __init__(self, db, way, step):
        self.db, self.way, self.step, self.count = db, way, step, 0

    def __call__(self):
        self.count += 1
        if self.way == "flag" and self.count == self.step:
            self.db.interrupt()
        if self.way == "always":
            return self.count >= self.step
        return self.way == "once" and self.count == self.step


def check_answer(answer):
    """An interrupt is no problem among others, but where a run has failed, or all of its work is done."""
    said = str(answer)
    for last in ("catalog_copy", "notification"):
        said = said.replace(f'"{last}":{{"error":"interrupted"}}', "")
    assert "interrupted" not in said or '"status":"failed"' in said


def strike(db, sql, way, step):
    """Calls a function with a handler; returns the handler and whether the call failed."""
    handler = Handler(db, way, step)
    db.set_progress_handler(handler, 1)
    try:
        check_answer(db.execute(sql).fetchall())
        return handler, False
    except sqlite3.OperationalError as error:
        assert "interrupted" in str(error), error
        assert "ROLLBACK before anything else" not in str(error)
        return handler, True
    finally:
        db.set_progress_handler(None, 1)


def all_rows(db):
    """All rows, hot and cold."""
    views = db.execute("SELECT 1 FROM temp.sqlite_schema WHERE name = 'all_t'").fetchall()
    return sorted(map(repr, db.execute(f"SELECT * FROM {'all_t' if views else 't'}")))


def check_settings(db):
    """Triggers and foreign keys are as they were."""
    assert db.execute("PRAGMA foreign_keys").fetchone() == (1,)
    before = db.execute("SELECT count(*) FROM fired").fetchone()[0]
    db.execute("INSERT INTO probe VALUES (1)")
    assert db.execute("SELECT count(*) FROM fired").fetchone() == (before + 1,)


def check(path, rows):
    """What another process sees: all rows once, and a catalog and files that agree."""
    with closing(connect(path)) as other:
        assert all_rows(other) == rows
        report = json.loads(other.execute("SELECT archive_verify()").fetchone()[0])
        assert report["problems"] == []
        if other.execute("SELECT 1 FROM sqlite_schema WHERE name LIKE '_archive%'").fetchall():
            versions = "SELECT count(*) FROM _archive_meta WHERE key = 'schema_version'"
            assert other.execute(versions).fetchone() == (1,)


def is_whole(path, rows):
    """Whether all rows can be read."""
    with closing(connect(path)) as other:
        try:
            return all_rows(other) == rows
        except sqlite3.OperationalError:
            return False


def attempt(template, folder, name, inside, interrupt):
    """One call that `interrupt` makes and strikes, and all that must hold after it. Returns what that
    returned, the last of which is whether the call failed."""
    source, rows = template
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    path = folder / "test.db"
    sql = CALLS[name][1]
    with closing(connect(path, check_same_thread=False)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        if inside:
            db.execute("BEGIN")
            db.execute("INSERT INTO probe VALUES ('marker')")
        outcome = interrupt(db, sql)
        markers = db.execute("SELECT count(*) FROM probe").fetchone()[0]
        if inside and not outcome[-1]:
            assert db.in_transaction
        if db.in_transaction:
            # It is the caller's. The application goes on, and what is there becomes durable.
            assert inside and markers == 1
            db.execute("COMMIT")
        else:
            assert markers == 0
        check_settings(db)
        if name in MENDS:
            # Only that brings all rows back. COMMIT may have worked before the interrupt.
            sql = "SELECT 1" if is_whole(path, rows) else MENDS[name]
        else:
            check(path, rows)
            sql = AFTERWARDS.get(name, sql)
        # No lock stayed behind: the same call can be made again.
        db.execute(sql).fetchall()
        check(path, rows)
    return outcome


def steps(total):
    """The steps at which a call is interrupted."""
    if MOMENTS == "all":
        return range(1, total + 1)
    rng = random.Random(SEED)
    return sorted(rng.sample(range(1, total + 1), min(total, int(MOMENTS))))


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
@pytest.mark.parametrize("way", ["once", "always", "flag"])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_step(states, tmp_path, kind, name, way, inside):
    if inside and name in ALONE:
        pytest.skip("it is not allowed there")
    template = states(kind, CALLS[name][0])
    folder = tmp_path / "try"

    def at(step):
        return lambda db, sql: strike(db, sql, way, step)

    handler, failed = attempt(template, folder, name, inside, at(1 << 60))
    assert not failed
    for step in steps(handler.count):
        attempt(template, folder, name, inside, at(step))


def strike_later(delay):
    """Calls a function while another thread interrupts the connection after a time."""

    def interrupt(db, sql):
        began = time.monotonic()
        timer = threading.Timer(delay, db.interrupt)
        timer.start()
        try:
            check_answer(db.execute(sql).fetchall())
            return time.monotonic() - began, False
        except sqlite3.OperationalError as error:
            assert "interrupted" in str(error), error
            return time.monotonic() - began, True
        finally:
            # An interrupt that comes later must not hit what is checked.
            timer.cancel()
            timer.join()

    return interrupt


def test_random_moments(states, tmp_path):
    rng = random.Random(SEED)
    cases = [(kind, name, inside) for kind in KINDS for name in CALLS for inside in (False, True)]
    cases = [case for case in cases if not (case[2] and case[1] in ALONE)]
    lasts, struck = {}, 0
    for number in range(RANDOM_MOMENTS):
        kind, name, inside = case = cases[number % len(cases)]
        template = states(kind, CALLS[name][0])
        folder = tmp_path / "try"
        if case not in lasts:
            lasts[case], _ = attempt(template, folder, name, inside, strike_later(60))
        delay = rng.uniform(0, lasts[case])
        _, failed = attempt(template, folder, name, inside, strike_later(delay))
        struck += failed
    assert struck > RANDOM_MOMENTS / 10


# A process for each limit: it can only be lowered.
NO_MEMORY = """
import os
import sqlite3
import sys

library, folder, sql, begin = sys.argv[1:]


def open_database(limit):
    db = sqlite3.connect(f"{folder}/{limit}.db", isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(library)
    return db


def attempt(limit):
    db = open_database(limit)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT)")
    db.execute("INSERT INTO t VALUES (1, '2020-01-01'), (2, '2020-01-02'), (3, '2999-01-01')")
    db.execute(begin)
    db.execute(f"PRAGMA hard_heap_limit = {limit}")
    try:
        db.execute(sql).fetchall()
        return 0
    except (sqlite3.Error, MemoryError):
        if not db.in_transaction:
            return 1
        if not begin:
            return 2
        db.execute("COMMIT")
        return 1


outcomes = []
for limit in range(250_000, 800_000, 3_000):
    child = os.fork()
    if child == 0:
        try:
            os._exit(attempt(limit))
        except MemoryError:
            # There was none for what came before or after.
            os._exit(1)
        finally:
            os._exit(3)
    outcomes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert outcomes[-1] < 2, f"{limit}: {outcomes[-1]}"
assert set(outcomes) == {0, 1}, outcomes
for limit in range(250_000, 800_000, 3_000):
    db = open_database(limit)
    if db.execute("SELECT 1 FROM sqlite_schema").fetchone():
        db.execute("SELECT archive_table('t', 7)").fetchall()
        (found,) = db.execute("SELECT count(DISTINCT id) + count(*) FROM all_t").fetchone()
        assert found in (0, 6), (limit, found)
        assert '"problems":[]' in db.execute("SELECT archive_verify()").fetchone()[0]
    db.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("name, begin", [("archive", ""), ("policy", "BEGIN")])
def test_no_memory(tmp_path, name, begin):
    """SQLite's own memory ends at many moments of a first call, which makes the catalog and TEMP objects:
    no transaction stays open, and no half of a catalog becomes durable."""
    library = LIBRARY.with_suffix("")
    with process(NO_MEMORY, library, tmp_path, CALLS[name][1], begin) as child:
        _, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
