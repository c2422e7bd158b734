"""Archiving the demo table against the script one would write today, on the same rows, in turn.

    make bench          (or: .venv/bin/python benches/archive.py [--memory])

Prints time and bytes of both and their ratios, as Markdown. With --memory it also archives five
million rows and prints the peak memory of the process.
"""

import json
import pathlib
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import task_queue

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "dist" / "cold"
ROUNDS = 5

ARCHIVE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.enable_load_extension(True)
connection.load_extension(sys.argv[2])
print(connection.execute("SELECT archive_table('task_queue', 7)").fetchone()[0])
"""


def run(*command):
    """Runs a program; returns its output and how long it took."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout, elapsed


def parquet_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def compare(original):
    """Both programs in turn, each on its own fresh copy."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=original.parent) as folder:
            folder = pathlib.Path(folder)
            shutil.copy(original, folder / "ours.db")
            shutil.copy(original, folder / "theirs.db")
            _, elapsed = run("-c", ARCHIVE, folder / "ours.db", LIBRARY)
            ours.append(elapsed)
            script = ROOT / "benches" / "export_script.py"
            _, elapsed = run(script, folder / "theirs.db", folder / "export", 7)
            theirs.append(elapsed)
            sizes = parquet_bytes(folder / "archive"), parquet_bytes(folder / "export")
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    print("| archive the demo table | sqlite-cold | the script | ratio |")
    print("|---|---|---|---|")
    print(
        f"| time, best of {ROUNDS} | {min(ours):.2f} s | {min(theirs):.2f} s | {min(ours) / min(theirs):.2f} |"
    )
    print(f"| time, median of the pairs' ratios | | | {ratio:.2f} |")
    print(
        f"| Parquet | {sizes[0] / 1e6:.1f} MB | {sizes[1] / 1e6:.1f} MB | {sizes[0] / sizes[1]:.2f} |"
    )


def peak_memory(folder, rows):
    """Archives many rows of about 600 bytes in a process of their own."""
    path = folder / "large.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(f"""
        PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
        CREATE TABLE task_queue (id INTEGER PRIMARY KEY AUTOINCREMENT, status TEXT, payload TEXT,
                                 created_at TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
        INSERT INTO task_queue (status, payload, created_at)
        SELECT 'completed', hex(randomblob(60)) || printf('%0440d', i),
               datetime('now', '-' || (({rows} - i) * 365.0 * 86400 / {rows}) || ' seconds')
        FROM n;
        """)
    connection.close()
    size = path.stat().st_size
    output, elapsed = run("-c", ARCHIVE, path, LIBRARY)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    moved = json.loads(output)["rows"]
    print(
        f"\n{moved:,} of {rows:,} rows, {size / 1e9:.1f} GB, archived in {elapsed:.0f} s;"
        f" peak memory of the process {peak:.0f} MB"
    )


def main():
    with tempfile.TemporaryDirectory(dir=ROOT / "demo") as folder:
        folder = pathlib.Path(folder)
        if "--memory" in sys.argv:
            # First: the peak is that of all children so far.
            peak_memory(folder, 5_000_000)
            (folder / "large.db").unlink()
        task_queue.create(folder / "original.db")
        compare(folder / "original.db")


if __name__ == "__main__":
    (ROOT / "demo").mkdir(exist_ok=True)
    main()
