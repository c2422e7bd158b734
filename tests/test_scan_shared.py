"""What cold scans share in a process: the cache, the worker threads, and the settings of both."""

import contextlib
import os
import pathlib
import re
import sqlite3
import time

import pytest

from conftest import connect
from test_filters import connections
from test_scan import DAYS, IDS, ROOT, ask, build, config

LONG_DAYS, LONG_PER_DAY = 40, 2000


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A database with forty cold files of 2,000 rows."""
    path = tmp_path_factory.mktemp("long") / "test.db"
    build(path, range(1, LONG_DAYS * LONG_PER_DAY + 1), LONG_PER_DAY).close()
    return path


WHOLE = "SELECT sum(length(note)), count(*) FROM cold_t"


def twice(path):
    """What the same query did on two connections, one after the other."""
    found = []
    for _ in range(2):
        with contextlib.closing(connect(path)) as db:
            rows, scan = ask(db, WHOLE)
            assert rows == [(100 * len(IDS), len(IDS))]
            found.append(scan)
    return found


def test_what_one_connection_read_another_finds(path):
    """The cache is the process's: the second time nothing is decoded."""
    with contextlib.closing(build(path)):
        first, second = twice(path)
    assert first.pages_read == DAYS
    assert (second.pages_read, second.files_opened) == (0, DAYS)
    assert second.cache_hits >= 2 * DAYS


OFF = [("query_cache_enabled", "false"), ("query_cache_ttl", 0), ("cache_bytes", 0)]


@pytest.mark.parametrize(("key", "value"), OFF)
def test_a_cache_that_is_switched_off(path, monkeypatch, key, value):
    """By a setting or by the environment: everything is read again."""
    with contextlib.closing(build(path)) as db:
        config(db, key, value)
        found = twice(path)
        if key != "cache_bytes":
            config(db, key, None)
            monkeypatch.setenv(f"ARCHIVE_{key.upper()}", str(value))
            found += twice(path)
        assert {(scan.pages_read, scan.cache_hits) for scan in found} == {(DAYS, 0)}


def test_what_nobody_used_for_long_is_dropped(path):
    """A lifetime of a second is over after a second."""
    with contextlib.closing(build(path)) as db:
        config(db, "query_cache_ttl", 1)
        ask(db, WHOLE)
        time.sleep(1.2)
        scan = ask(db, WHOLE)[1]
        assert (scan.pages_read, scan.cache_hits) == (DAYS, 0)


def test_a_small_cache_keeps_little(long):
    """A scan larger than the cache finds little of itself again; with room it finds everything."""
    with contextlib.closing(connect(long)) as db:
        config(db, "cache_bytes", 1_000_000)
        first, second = ask(db, WHOLE)[1], ask(db, WHOLE)[1]
        assert first.pages_read >= LONG_DAYS
        assert 0.8 * first.pages_read <= second.pages_read
        config(db, "cache_bytes", None)
        ask(db, WHOLE)
        assert ask(db, WHOLE)[1].pages_read == 0


@pytest.mark.parametrize("damaged", [False, True])
def test_a_replaced_file_is_read_again(path, damaged):
    """A cached page counts only for the very file that it was read from."""
    with contextlib.closing(build(path)) as db:
        expected = ask(db, WHOLE)[0]
        assert ask(db, WHOLE)[1].pages_read == 0
        files = [name for (name,) in db.execute("SELECT path FROM archive_files('t')")]
        file, other = sorted(path.parent / ROOT / name for name in files)[:2]
        fresh = file.with_suffix(".new")
        fresh.write_bytes((other if damaged else file).read_bytes())
        fresh.replace(file)
        if damaged:
            with pytest.raises(sqlite3.DatabaseError, match=re.escape(file.name)):
                db.execute(WHOLE).fetchall()
        else:
            rows, scan = ask(db, WHOLE)
            assert (rows, scan.pages_read) == (expected, 1)


def count():
    """The number of worker threads."""
    found = 0
    for task in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += (task / "comm").read_text().strip() == "sqlite-cold"
    return found


def workers(expected):
    """The number of worker threads, once it is as expected: names come and go a little late."""
    end = time.monotonic() + 2
    while count() != expected and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.02)
    return count()


# One core is left to SQLite itself.
SPARE = max(len(os.sched_getaffinity(0)) - 1, 1) if hasattr(os, "sched_getaffinity") else 1
MOST = min(2, SPARE)
linux = pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="reads /proc")
ROWS = "SELECT id, note FROM cold_t"


def begun(db):
    """A cursor that is some files into a long scan, and workers that wait for it."""
    cursor = db.execute(ROWS)
    assert len(cursor.fetchmany(5 * LONG_PER_DAY)) == 5 * LONG_PER_DAY
    return cursor


@linux
@pytest.mark.parametrize("most", [None, 0, 1, 3])
@pytest.mark.parametrize("environment", [False, True])
def test_threads_are_few_and_end_with_the_scan(long, monkeypatch, most, environment):
    """At most max_workers; none once a scan is closed, read to its end, or lost its connection."""
    db = connect(long)
    if environment and most is not None:
        monkeypatch.setenv("ARCHIVE_MAX_WORKERS", str(most))
    elif not environment:
        config(db, "max_workers", most)
    number = min(2 if most is None else most, SPARE)
    try:
        cursor = begun(db)
        assert workers(number) == number
        assert len(cursor.fetchall()) == (LONG_DAYS - 5) * LONG_PER_DAY
        assert workers(0) == 0
        cursor = begun(db)
        assert workers(number) == number
        cursor.close()
        assert workers(0) == 0
    finally:
        config(db, "max_workers", None)
        db.close()


@linux
def test_threads_end_with_the_connection(long):
    """A connection that is closed in the middle of a scan leaves no thread."""
    db = connections()["apsw"](long)
    cursor = db.execute(ROWS)
    for _ in range(5 * LONG_PER_DAY):
        next(cursor)
    assert workers(MOST) == MOST
    db.close(True)
    assert workers(0) == 0


@linux
def test_scans_share_the_threads(long):
    """Two scans on two connections have no more than max_workers together."""
    with contextlib.closing(connect(long)) as one, contextlib.closing(connect(long)) as other:
        first = begun(one)
        second = begun(other)
        assert workers(MOST) == MOST
        for _ in range(8):
            first.fetchmany(LONG_PER_DAY), second.fetchmany(LONG_PER_DAY)
            assert count() <= MOST
        first.close()
        assert len(second.fetchall()) == (LONG_DAYS - 13) * LONG_PER_DAY
    assert workers(0) == 0


BAD = {
    "cache_bytes": [-1, "much", 1 << 41],
    "query_cache_enabled": ["maybe", 2],
    "query_cache_ttl": [-1, "soon", 1.5],
    "max_workers": [-1, 65, "all"],
}


@pytest.mark.parametrize("key", BAD)
def test_a_bad_setting_is_named(path, monkeypatch, key):
    """Whether it is set in the database or comes from the environment."""
    with contextlib.closing(build(path)) as db:
        for value in BAD[key]:
            with pytest.raises(sqlite3.OperationalError, match=f"{key} must be"):
                config(db, key, value)
        if key != "cache_bytes":
            monkeypatch.setenv(f"ARCHIVE_{key.upper()}", str(BAD[key][0]))
            with pytest.raises(sqlite3.DatabaseError, match=f"{key} must be"):
                db.execute("SELECT count(*) FROM cold_t").fetchall()
