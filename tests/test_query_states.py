"""archive_query follows whatever happens to the tables: changes, archiving, restoring, ALTER TABLE,
savepoints and rollbacks, of this connection and of another."""

import contextlib
import json
import os
import random
import sqlite3

import pytest

from conftest import archive, connect, needs_duckdb, typed

pytestmark = needs_duckdb

SEED = int(os.environ.get("SOAK_SEED", "1"))
ROUNDS, STEPS = 6, 40
TEXTS = {"timestamps": "text"}
VALUES = [None, 0, 7, -(2**62), 1.5, -0.0, "x", "2024-01-01", "2024-01-01 10:00:00", "", b"\0"]


class Play:
    """A database with two connections, the first of which asks."""

    def __init__(self, path, seed):
        self.rng = random.Random(seed)
        self.db = connect(path)
        self.other = connect(path, timeout=0)
        self.columns = ["a", "b"]
        self.added = 0
        self.depth = 0
        # Whether the open transaction has the lock; else the other one may commit meanwhile.
        self.writing = False
        self.done = []
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, a, b TEXT, z)"
        )
        self.insert(self.db)
        archive(self.db, "t", None, {"before": "2024-01-03"})

    def some(self):
        return f"id % {self.rng.randrange(2, 7)} = {self.rng.randrange(2)}"

    # What can happen.

    def insert(self, db):
        for _ in range(self.rng.randrange(1, 30)):
            when = f"2024-01-0{self.rng.randrange(1, 10)}"
            names = ", ".join(["created_at", "z", *self.columns])
            pool = VALUES if self.rng.random() < 0.5 else VALUES[:3]
            row = [when, 1, *(self.rng.choice(pool) for _ in self.columns)]
            marks = ", ".join("?" * len(row))
            db.execute(f"INSERT INTO t ({names}) VALUES ({marks})", row)

    def update(self, db):
        column, value = self.rng.choice(self.columns), self.rng.choice(VALUES)
        db.execute(f"UPDATE t SET {column} = ? WHERE {self.some()}", [value])

    def delete(self, db):
        db.execute(f"DELETE FROM t WHERE {self.some()} AND id % 3 = 1")

    def archive(self, db):
        archive(db, "t", None, {"before": f"2024-01-0{self.rng.randrange(2, 10)}"})

    def stage(self, db):
        before = f"2024-01-0{self.rng.randrange(2, 10)}"
        archive(db, "t", None, {"before": before, "grace_hours": 24})

    def restore(self, db):
        options = {"where": self.some()} if self.rng.random() < 0.8 else {}
        db.execute("SELECT archive_restore('t', ?)", [json.dumps(options)]).fetchone()

    def alter(self, db):
        """Adds or drops a column, or gives one another name; never with an open transaction."""
        if self.db.in_transaction:
            return
        self.db.execute("DROP VIEW all_t")
        kind = self.rng.randrange(3)
        if kind == 0 or len(self.columns) < 2:
            self.added += 1
            default = self.rng.choice(["", " DEFAULT 5", " DEFAULT 'x'", " DEFAULT x'00'"])
            self.columns.append(f"n{self.added}")
            self.db.execute(f"ALTER TABLE t ADD COLUMN {self.columns[-1]}{default}")
        elif kind == 1:
            column = self.columns.pop(0)
            self.db.execute(f"ALTER TABLE t DROP COLUMN {column}")
        else:
            self.added += 1
            old, self.columns[0] = self.columns[0], f"n{self.added}"
            self.db.execute(f"ALTER TABLE t RENAME COLUMN {old} TO {self.columns[0]}")
        # A run takes note of the columns, so that each change is seen by itself.
        archive(self.db, "t", None, {"before": "2020-01-01"})

    def begin(self, db):
        if db is self.db:
            self.db.execute(f"SAVEPOINT s{self.depth}")
            self.depth += 1
            if self.rng.random() < 0.5:
                self.db.execute("UPDATE t SET z = 1 WHERE id < 0")
                self.writing = True

    def end(self, db):
        if db is self.db and self.depth:
            self.depth -= 1
            if self.rng.random() < 0.5:
                self.db.execute(f"ROLLBACK TO s{self.depth}")
            self.db.execute(f"RELEASE s{self.depth}")
            self.writing = self.writing and self.db.in_transaction

    def step(self):
        rng = self.rng
        db = self.db if rng.random() < 0.75 else self.other
        whats = [self.insert, self.update, self.delete, self.archive, self.restore, self.begin]
        what = rng.choice([*whats, self.end, self.end, self.stage, self.alter])
        if self.db.in_transaction and (db is self.other or not self.writing):
            # A run would wait for the lock for half a minute.
            what = rng.choice([*whats[:3], self.end])
        self.done.append(f"{what.__name__} by {'us' if db is self.db else 'the other'}")
        try:
            what(db)
        except sqlite3.OperationalError as error:
            # The other one is locked out while we write, and we see an older state if it has written.
            wait = ("locked", "snapshot", "another", "changed the schema")
            assert any(word in str(error) for word in wait), (error, self.done)
            self.done[-1] += " failed"

    def check(self):
        """The same rows, in a report made long ago, too."""
        names = ", ".join(["id", "created_at", *self.columns])
        expected = self.db.execute(f"SELECT {names} FROM all_t ORDER BY id").fetchall()
        sql = f"SELECT {names} FROM t ORDER BY id"
        assert shown(typed(self.db, sql, options=TEXTS)) == shown(expected), self.done
        parts = "SELECT (SELECT count(*) FROM cold_t), (SELECT count(*) FROM hot_t), sum(id) FROM t"
        same = parts.replace("hot_t", "main.t").replace("FROM t", "FROM all_t")
        assert typed(self.db, parts) == self.db.execute(same).fetchall(), self.done
        old = self.db.execute("SELECT n, s FROM temp.old").fetchall()
        same = self.db.execute("SELECT count(*), count(DISTINCT created_at) FROM all_t").fetchall()
        assert old == same, self.done


def shown(rows):
    """Rows to compare, for which an integer in a column of reals is that real."""
    columns = []
    for column in zip(*rows):
        kinds = {type(value) for value in column} - {type(None)}
        exact = kinds == {int, float} and all(abs(v) <= 2**53 for v in column if type(v) is int)
        columns.append([float(v) if exact and type(v) is int else v for v in column])
    return [repr(row) for row in zip(*columns)]


@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
def test_any_history(path, seed):
    """After each step the answer is that of all_t."""
    play = Play(path, seed)
    with contextlib.closing(play.db), contextlib.closing(play.other):
        sql = "SELECT count(*) AS n, count(DISTINCT created_at) AS s FROM t"
        play.db.execute(f"CREATE VIRTUAL TABLE temp.old USING archive_query('{sql}')")
        for _ in range(STEPS):
            play.step()
            play.check()
        assert len([one for one in play.done if "failed" not in one]) > STEPS / 2
