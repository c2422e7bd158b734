"""Cold files from an attacker, through SQLite.

    python files.py COUNT SEED FOLDER

An honest file is changed by the program that `make hostile` builds (tests/hostile/main.rs), its checksums in the
catalog are put right half of the time, and then it is queried, verified and restored. Only SQL errors and
answers may come of it, in 300 MB. It stops at the first file that does otherwise, and says by which
seed it was made.
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
import subprocess
import sys

import xxhash

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from conftest import LIBRARY, archive, connect  # noqa: E402

MUTATOR = ROOT / "dist/hostile"
SECONDS = 60
# A copy, if the library is built anew meanwhile.
TESTED = pathlib.Path(os.environ.get("HOSTILE_LIBRARY", LIBRARY))
MEGABYTES = 300
BATCH = 200

COLUMNS = "id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, n INTEGER, r REAL, status TEXT, code TEXT UNIQUE, m, b BLOB"
CALLS = """
    SELECT count(*), sum(id), max(n), sum(r), count(status), max(code), max(m), max(length(b)) FROM cold_t
    SELECT * FROM all_t WHERE id = 17
    SELECT * FROM all_t WHERE code = 'code 31' OR status = 'nowhere'
    SELECT id, m, b FROM cold_t WHERE n BETWEEN 20 AND 90 AND r < 70
    SELECT * FROM all_t ORDER BY ts DESC, id DESC LIMIT 5
    SELECT * FROM cold_t ORDER BY status, id
    SELECT count(*) FROM cold_t WHERE m IS NULL AND b > x'00'
    SELECT archive_verify()
    SELECT archive_restore('t', '{"where":"id < 50"}')
    SELECT archive_restore('t')
"""
CALLS = [line.strip() for line in CALLS.strip().splitlines()]


def build(folder):
    """A database with an archived table of every kind of column; its one cold file."""
    db = connect(folder / "test.db", TESTED)
    db.execute(f"CREATE TABLE t ({COLUMNS})")
    for number in range(400):
        mixed = [number, f"m{number}", b"m" * (number % 30), number / 3, None][number % 5]
        status = ["done", "failed", "pending"][number % 3]
        values = (f"2020-01-01 00:{number // 60:02}:{number % 60:02}", number, number / 7, status)
        values += (f"code {number}", mixed, bytes([number % 256]) * (number % 50))
        db.execute("INSERT INTO t (ts, n, r, status, code, m, b) VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    archive(db, "t", 7)
    db.execute("INSERT INTO t (ts) VALUES ('2999-01-01')")
    db.close()
    (file,) = (folder / "archive/parquet").rglob("*.parquet")
    return file.relative_to(folder)


def forge(path, content):
    """Puts the checksums of a file into the catalog."""
    blocks = [content[start : start + 65536] for start in range(0, len(content), 65536)]
    sums = b"".join(xxhash.xxh3_64_digest(block)[::-1] for block in blocks)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(
        "UPDATE _archive_file SET bytes = ?, blocks = ?, checksum = ?",
        (len(content), sums, xxhash.xxh3_128_digest(content)),
    )
    db.close()


def megabytes():
    """The most memory that this program had, where the system tells. getrusage would count that of the program
    which started it, too."""
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:"))


def attack(seed, content, template, name, folder, outcomes):
    """Tries one file."""
    rng = random.Random(seed)
    shutil.rmtree(folder / "work", ignore_errors=True)
    shutil.copytree(template, folder / "work")
    path = folder / "work/test.db"
    (folder / "work" / name).write_bytes(content)
    if rng.randrange(10):
        forge(path, content)
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    db = connect(path, TESTED)
    for call in rng.sample(CALLS, 3):
        try:
            db.execute(call).fetchall()
            outcomes["an answer"] += 1
        except sqlite3.Error as error:
            assert "internal error" not in str(error), f"seed {seed}: {call}: {error}"
            outcomes[re.sub(r".*damaged: |[\d'].*", "", str(error))[:70]] += 1
    assert not db.in_transaction and db.execute("SELECT count(*) FROM t").fetchone()[0] >= 1
    db.close()
    faulthandler.cancel_dump_traceback_later()
    assert megabytes() < MEGABYTES, f"seed {seed}: {megabytes()} MB"


def main(count, first, folder):
    folder = pathlib.Path(folder)
    for name in ["template", "files"]:
        (folder / name).mkdir()
    name = build(folder / "template")
    outcomes = collections.Counter()
    for start in range(first, first + count, BATCH):
        number = min(BATCH, first + count - start)
        command = [MUTATOR, "write", folder / "template" / name, number, start, folder / "files"]
        subprocess.run([*map(str, command)], check=True)
        for seed in range(start, start + number):
            print(seed, file=open(folder / "seed", "w"))
            file = folder / "files" / str(seed)
            attack(seed, file.read_bytes(), folder / "template", name, folder, outcomes)
            file.unlink()
    summary = {"files": count, "seed": first, "calls": outcomes.total(), "answers": outcomes["an answer"]}
    print(json.dumps(summary | {"megabytes": megabytes()}))
    if count > 1000:
        for text, number in outcomes.most_common(40):
            print(f"{number:7} {text}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
