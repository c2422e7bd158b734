"""Catalogs from an attacker: cells of the catalog's tables are changed, then everything is called.

    python catalogs.py COUNT SEED FOLDER

Each catalog may only cause SQL errors: no crash, no hang, no file touched outside the archive folder, no hot
row lost. It stops at the first that does otherwise, and says by which seed it was made.
"""

import collections
import faulthandler
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from conftest import LIBRARY, archive, connect  # noqa: E402

SECONDS = 60
# A copy, if the library is built anew meanwhile.
TESTED = pathlib.Path(os.environ.get("HOSTILE_LIBRARY", LIBRARY))
HOT = 15

NUMBERS = [0, 1, -1, 2, 7, 255, 65536, 2**31 - 1, 2**31, 2**32 + 1, 2**45, 2**63 - 1, -(2**63)]
REALS = [0.5, -1.0, 1e18, 1e300, float("inf"), 7.0]
TEXTS = ["", "x", "t", "T", "main", "0", "-5", "running", "done", "env:HOME", "env:", "a" * 70_000]
TEXTS += ["../../victim/kept.parquet", "/etc/passwd", "t/../../../victim/kept.parquet", ".", "t", "\0"]
TEXTS += ["2020-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "-4713-01-01", "not a time"]
TEXTS += ["{}", "[]", "null", "{", '[{"id":1}]', '{"where":"1"}', '{"where":"1) OR (1"}', "[" * 5000]
TEXTS += ['{"grace_hours":1e99,"batch_size":-1}', '{"expire_days":0}', '{"priority":"x"}', "1); DROP TABLE t; --"]

CALLS = """
    SELECT count(*), sum(id), max(v) FROM cold_t
    SELECT count(*), count(v), min(ts) FROM all_t
    SELECT * FROM all_t WHERE id = 17
    SELECT * FROM all_t ORDER BY ts DESC LIMIT 3
    SELECT count(v) FROM all_u WHERE v > 5
    SELECT archive_verify()
    SELECT archive_verify('t')
    SELECT archive_restore('t', '{"dry_run":true}')
    SELECT archive_restore('t')
    SELECT archive_restore('u', '{"on_conflict":"ignore"}')
    SELECT archive_table('t', 9000)
    SELECT archive_table('t', 9000, '{"dry_run":true}')
    SELECT archive_table('u', 9000)
    SELECT archive_run()
    SELECT archive_run('{"dry_run":true}')
    SELECT archive_gc('{"retention_days":0}')
    SELECT archive_attach()
    SELECT archive_adopt('t')
    SELECT archive_config('max_workers', 1)
    SELECT * FROM archive_files('t')
    SELECT * FROM archive_history
    SELECT archive_rename('t', 'u')
    SELECT * FROM archive_status
    SELECT archive_config()
    SELECT archive_version()
"""
CALLS = [line.strip() for line in CALLS.strip().splitlines()]


def build(folder):
    """A database with two archived tables, tombstones, staged files and a policy; its hot rows."""
    path = folder / "test.db"
    db = connect(path, TESTED)
    for table in ["t", "u"]:
        db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, v)")
        for number in range(60):
            day = f"20{number % 3 + 10}-01-0{number % 9 + 1}"
            db.execute(f"INSERT INTO {table} (ts, v) VALUES (?, ?)", (day, [number, "text", None, b"b"][number % 4]))
        archive(db, table, 7, {"partition": "year"} if table == "u" else {})
        recent = ("2999-01-01",)
        db.executemany(f"INSERT INTO {table} (ts, v) VALUES (?, 'hot')", [recent] * HOT)
    db.execute("SELECT archive_restore('t', '{\"where\":\"id < 4\"}')")
    db.execute("UPDATE t SET ts = '2999-01-01'")
    db.execute("INSERT INTO u (ts, v) VALUES ('2013-01-01', 'staged')")
    archive(db, "u", 7, {"grace_hours": 24})
    db.execute("SELECT archive_policy('t', 9000, '{\"priority\":2}')")
    hot = {table: db.execute(f"SELECT id, ts, v FROM {table}").fetchall() for table in ["t", "u"]}
    db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    return path, hot


def other(rng, present):
    """A value in the place of `present`."""
    kind = rng.randrange(8)
    if kind == 0:
        return None
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice(REALS)
    if kind == 3:
        return rng.choice(TEXTS)
    if kind == 4:
        return rng.randbytes(rng.choice([0, 1, 7, 8, 16, 64]))
    if isinstance(present, int):
        return max(-(2**63), min(2**63 - 1, present + rng.choice([-1, 1, 2**31, -(2**40)])))
    if isinstance(present, str) and present:
        place = rng.randrange(len(present))
        return present[:place] + rng.choice(["", "9", '"', "\0", "é", "{", "-"]) + present[place + 1 :]
    if isinstance(present, bytes) and present:
        place = rng.randrange(len(present))
        return present[:place] + rng.randbytes(1) + present[place + rng.randrange(2) :]
    return rng.choice(NUMBERS + TEXTS)


def change(path, rng):
    """Changes one to three things of the catalog, as a program could that writes the database file."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA ignore_check_constraints = ON")
    names = "SELECT name FROM sqlite_schema WHERE name LIKE '\\_archive%' ESCAPE '\\' AND type = 'table'"
    tables = [name for (name,) in db.execute(names)]
    for _ in range(rng.randint(1, 3)):
        table = rng.choice(tables + ["_archive_file"] * 6 + ["_archive_range", "_archive_tombstone"] * 2)
        columns = [(row[1], row[5]) for row in db.execute(f"PRAGMA table_info({table})")]
        rows = db.execute(f"SELECT * FROM {table}").fetchall()
        try:
            if not rows or rng.randrange(12) == 0:
                marks = ", ".join("?" * len(columns))
                base = rng.choice(rows) if rows else [None] * len(columns)
                db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", [
                    other(rng, value) if rng.randrange(3) == 0 else value for value in base
                ])
                continue
            row = rng.choice(rows)
            where = " AND ".join(f'"{name}" IS ?' for name, _ in columns)
            if rng.randrange(12) == 0:
                db.execute(f"DELETE FROM {table} WHERE {where}", row)
            else:
                place = rng.randrange(len(columns))
                db.execute(
                    f'UPDATE OR REPLACE {table} SET "{columns[place][0]}" = ? WHERE {where}',
                    [other(rng, row[place]), *row],
                )
        except sqlite3.Error:
            # A constraint of the table itself.
            continue
    db.close()


def lost(db, hot):
    """The hot rows that are no more in their table, nor among the cold ones."""
    gone = []
    for table, rows in hot.items():
        present = set(db.execute(f"SELECT id, ts, v FROM {table}"))
        missing = [row for row in rows if row not in present]
        if missing:
            try:
                present |= set(db.execute(f"SELECT id, ts, v FROM cold_{table}"))
            except sqlite3.Error as error:
                gone.append((table, str(error)))
        gone += [(table, row) for row in missing if row not in present]
    return gone


def attack(seed, template, hot, folder, outcomes):
    """Tries one catalog."""
    rng = random.Random(seed)
    shutil.rmtree(folder / "work", ignore_errors=True)
    shutil.copytree(template, folder / "work")
    path = folder / "work" / "test.db"
    change(path, rng)
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    calls = rng.sample(CALLS, 4)
    db = None
    try:
        db = connect(path, TESTED)
    except sqlite3.Error as error:
        outcomes[re.sub(r"\d+", "", str(error))[:90]] += 1
    for call in calls if db else []:
        try:
            db.execute(call).fetchall()
            outcomes["an answer"] += 1
        except sqlite3.Error as error:
            assert "internal error" not in str(error), f"seed {seed}: {call}: {error}"
            outcomes[re.sub(r"[\d'/].*", "", str(error))[:60]] += 1
    if db:
        assert not db.in_transaction, f"seed {seed}: a transaction is open after {calls}"
        gone = lost(db, hot)
        assert not gone, f"seed {seed}: lost {gone} after {calls}"
        db.close()
    faulthandler.cancel_dump_traceback_later()
    victims = {file.name: file.read_bytes() for file in (folder / "victim").iterdir()}
    assert victims == {"kept.parquet": b"kept"}, f"seed {seed}: {victims} after {calls}"
    beside = {entry.name for entry in (folder / "work").iterdir()} - {"test.db", "archive", "backup"}
    assert not beside, f"seed {seed}: {beside} was made by {calls}"


def main(count, first, folder):
    folder = pathlib.Path(folder)
    (folder / "victim").mkdir()
    (folder / "victim/kept.parquet").write_bytes(b"kept")
    (folder / "template").mkdir()
    _, hot = build(folder / "template")
    outcomes = collections.Counter()
    for seed in range(first, first + count):
        print(seed, file=open(folder / "seed", "w"))
        attack(seed, folder / "template", hot, folder, outcomes)
    print(json.dumps({"catalogs": count, "seed": first, "calls": outcomes.total(), "answers": outcomes["an answer"]}))
    if count > 1000:
        for text, number in outcomes.most_common(60):
            print(f"{number:7} {text}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
