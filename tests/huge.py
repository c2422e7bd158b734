"""Tables whose cold files have many pages and several row groups, and their twins."""

import datetime
import random

from twins import FIRST_DAY, Kind, Pair, collation, others


class Huge(Pair):
    """A table whose files have many pages and several row groups, of many rows or of long ones."""

    big = True
    COLUMNS = (
        "n INTEGER, code TEXT UNIQUE, s TEXT, nc TEXT COLLATE NOCASE, x, r REAL, at TEXT, p TEXT"
    )

    def __init__(self, db, rng, name, rows, size):
        self.db, self.rng, self.name, self.size = db, rng, name, size
        self.kind = Kind(name, "id INTEGER PRIMARY KEY", "TEXT", "", "", "text")
        for table in self.tables():
            db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, ts TEXT, {self.COLUMNS})")
        self.collations = {"id": "BINARY", "ts": "BINARY"}
        self.collations |= {c.split()[0]: collation(c) for c in self.COLUMNS.split(", ")}
        self.inserted = self.asked = list(self.collations)
        self.edges = [0, 1, 8192, 16_384, 24_576, 65_536, 71_999, 72_000, rows - 200, rows // 2]
        self.options = {"compression_level": 1}
        # The ids of one table are in the order of time, those of the other are not.
        self.step = 1 if size else 7919
        written = [self.row(n, rows) for n in range(rows)]
        self.insert(written, self.tables()[:2])
        some = rng.sample(written, 60)
        self.samples = {name: list(values) for name, values in zip(self.inserted, zip(*some))}
        self.samples["rowid"] = self.samples["id"]

    def row(self, number, rows):
        """Row `number`; what `x` holds changes from page to page. The last 200 rows stay hot."""
        day = 11 if number >= rows - 200 else 0 if number < 72_000 else 2
        second = number // 3 if day != 2 else number - 72_000
        time = FIRST_DAY + datetime.timedelta(days=day, seconds=second)
        mixed = [number, f"t{number:06}", None, number / 2 if number % 2 else f"{number}"]
        return (
            number * self.step % 100_003,
            f"{time:%Y-%m-%d %H:%M:%S}",
            number,
            f"c{number}",
            f"s{number // 2:06}",
            ["pending", "done", "Done", "failed"][number * number // 5 % 4],
            mixed[number // 8192 % 4 if not self.size else number % 4],
            number / 4,
            f"2020-01-{number % 28 + 1:02}T00:00:00Z" if number % 1000 < 10 else None,
            f"{number:05}" + "ab"[number % 2] * (self.size * (number % 3 + 1)),
        )


def huge(db, seed):
    """Builds the big tables; queries are asked after each `yield`."""
    rng = random.Random(seed)
    others(db, rng)
    db.execute("BEGIN")
    pairs = [Huge(db, rng, "a", 93_000, 0), Huge(db, rng, "b", 320, 90_000)]
    db.execute("COMMIT")
    for pair in pairs:
        pair.archive(5)
    yield pairs
    for pair in pairs:
        pair.bury()
        pair.unpublish()
    yield pairs
