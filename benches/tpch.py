"""TPC-H at scale factor 0.1: archive_query against plain SQLite, with DuckDB's own time beside it.

    .venv/bin/python benches/tpch.py

Prints a Markdown table. lineitem and orders are archived by month to 1998, about a tenth is hot. The
plain tables are the same database before that, with the same indexes. Every time is one execute() and
fetchall() through Python, the best of three rounds in turn. A side that was once slower than ten
seconds is not asked again, and one that is slower than a minute is given up.
"""

import math
import pathlib
import re
import shutil
import sqlite3
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import tpch
from conftest import archive, connect

ROUNDS = 3
LIMIT = 60.0
SCHEMA = (tpch.FOLDER / "schema.sql").read_text()


class Side:
    """A connection with a query of its own, and the shortest time that it took, in seconds."""

    def __init__(self, connection, sql, parameters=()):
        self.connection = connection
        self.arguments = sql, parameters
        self.best = math.inf
        self.last = 0.0

    def turn(self):
        """Asks once more, if that does not take too long."""
        if self.last > LIMIT / 6:
            return
        start = time.perf_counter()
        if isinstance(self.connection, sqlite3.Connection):
            late = start + LIMIT
            self.connection.set_progress_handler(lambda: time.perf_counter() > late, 100)
        try:
            self.connection.execute(*self.arguments).fetchall()
        except sqlite3.OperationalError as error:
            if "interrupted" not in str(error):
                raise
            self.last = math.inf
            return
        self.last = time.perf_counter() - start
        self.best = min(self.best, self.last)

    def shown(self):
        return f"{1000 * self.best:.1f}" if self.best < math.inf else f"> {1000 * LIMIT:.0f}"


def measure(folder):
    tpch.generate(folder)
    duck = tpch.truth(folder)
    duck.execute("SET threads = 2")
    plain = sqlite3.connect(folder / "plain.db", isolation_level=None)
    tpch.fill(plain, folder, SCHEMA)
    plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (folder / "archived").mkdir()
    db = connect(shutil.copy(folder / "plain.db", folder / "archived"))
    for table, column in tpch.TIME_COLUMNS.items():
        options = {"before": tpch.CUTOFF, "time_column": column, "partition": "month"}
        archive(db, table, None, options)
    print(
        "| query | archive_query ms | plain SQLite ms | ratio | SQLite over all_t ms | DuckDB ms |"
    )
    print("|---|---|---|---|---|---|")
    ratios = []
    for name in tpch.QUERIES:
        sql = tpch.text(name)
        over_all = tpch.in_common(sql)
        ours = Side(db, "SELECT row FROM archive_query(?)", [sql])
        peer = Side(plain, re.sub(r"\ball_", "", over_all))
        sides = [ours, peer, Side(db, over_all), Side(duck, sql)]
        for number in range(ROUNDS):
            for side in sides if number % 2 else reversed(sides):
                side.turn()
        ratios.append(ours.best / peer.best)
        times = [side.shown() for side in sides]
        print(f"| {name} | {times[0]} | {times[1]} | {ratios[-1]:.2f} | {' | '.join(times[2:])} |")
        sys.stdout.flush()
    print(f"\nThe geometric mean of the ratios is {math.exp(sum(map(math.log, ratios)) / 22):.2f}.")
    duck.close()
    plain.close()
    db.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="cold-tpch-") as folder:
        measure(pathlib.Path(folder))
