"""Tables of many kinds, archived in several runs, and twins of them that stay plain tables.

For each table `t` there are `twin_t`, all of its rows, and `twin_cold_t`, those that are cold. The
twins are made with SQLite alone: a row is cold if it is in the twin and not in the table itself.
"""

import dataclasses
import datetime
import pathlib
import random

import pyarrow.parquet

import tombstones
from conftest import archive
from test_filters import COLUMNS, ODD, cell

# Texts on which a comparison of one's own easily goes wrong: read as numbers, cut at NUL, ordered
# differently in UTF-8 and UTF-16, with characters of LIKE and GLOB, only alike for NOCASE and RTRIM.
TEXTS = ["5\0", "a\0b", "a\0c", "A\0B", "z\uff5e", "-0", "-0.0", ".5", "5.", "1e400", "1e", "inf"]
TEXTS += [
    "+",
    "-",
    "a_b",
    "a%b",
    "A%",
    "[a]",
    "a*",
    "a?",
    "x" * 70,
    "x" * 69 + "y",
    "É ",
    "\t5",
    "ab ",
]
VALUES = [
    *ODD,
    *TEXTS,
    -5,
    2**53,
    float(2**53 + 2),
    -(2**63),
    -(2.0**63),
    0.0,
    float("-inf"),
    b"a\0",
]
KINDS = ["integer", "real", "digits", "text", "stamp", "date", "milli", "status", "long", "blob"]
KINDS += ["null", "odd", "odd"]
DAYS = [0, 2, 4, 5, 7, 9, 11]
FIRST_DAY = datetime.datetime(2020, 1, 1)


@dataclasses.dataclass
class Kind:
    """What sort of table: its key, how ids and times look, and how rows are told apart."""

    name: str
    key: str
    time: str
    code: str
    ids: str
    times: str
    end: str = ""
    fillers: int = 0
    rowid: bool = True
    options: dict = dataclasses.field(default_factory=dict)


# Ids that grow with time; random ones; text keys, times of many forms; no key, times that cannot be
# read; a composite key, and more than the 64 columns that SQLite can name one by one.
KIND_OF_TABLE = [
    Kind("a", "id INTEGER PRIMARY KEY", "TEXT", "TEXT UNIQUE", "growing", "text"),
    Kind(
        "b",
        "id INTEGER PRIMARY KEY AUTOINCREMENT",
        "DATETIME",
        "TEXT COLLATE NOCASE UNIQUE",
        "random",
        "seconds",
        options={"time_format": "unix_s"},
    ),
    Kind(
        "c",
        "k TEXT COLLATE NOCASE PRIMARY KEY, id INT",
        "TEXT COLLATE NOCASE",
        "REAL",
        "growing",
        "mixed",
        " WITHOUT ROWID",
        rowid=False,
        options={"time_format": "iso8601"},
    ),
    Kind("d", "id INT", "", "UNIQUE", "random", "odd", options={"time_format": "iso8601"}),
    Kind(
        "e",
        "g INT, k TEXT, id INT",
        "REAL",
        "NUMERIC",
        "random",
        "julian",
        ", PRIMARY KEY (g DESC, k)) WITHOUT ROWID",
        62,
        False,
        {"time_format": "julian"},
    ),
]


def any_cell(rng, kind, day):
    """A value as `cell` makes them, or one of the kinds that only these tests have."""
    if kind in ("integer", "real", "digits", "text", "stamp", "blob", "null"):
        return cell(rng, kind, day)
    return {
        "date": f"2020-01-{day + 1:02}",
        "milli": f"2020-01-{day + 1:02}T{rng.randrange(24):02}:00:00.{rng.randrange(1000):03}Z",
        "status": rng.choice(["pending", "done", "Done", "done ", "failed"]),
        "long": chr(ord("a") + day) * 70 + rng.choice("abAB"),
        "odd": rng.choice(VALUES),
    }[kind]


def moment(rng, times, day):
    """A time of a day as a table has it. Few times, so that many rows share one."""
    second = rng.choice([0, 0, 3600, 43_200, 86_399, rng.randrange(86_400)])
    time = FIRST_DAY + datetime.timedelta(days=day, seconds=second)
    unix = 1_577_836_800 + day * 86_400 + second
    if times == "seconds":
        return unix + rng.choice([0, 0, 0, 0.5])
    if times == "julian":
        return 2_440_587.5 + unix / 86_400
    plain = f"{time:%Y-%m-%d %H:%M:%S}"
    if times == "text":
        return plain
    if times == "odd" and rng.random() < 0.15:
        return rng.choice([None, None, "", "yesterday", b"2020-01-01", 1.5, 20200101, "2020-13-01"])
    east = f"{time + datetime.timedelta(minutes=90):%Y-%m-%d %H:%M:%S}+01:30"
    short = f"{time:%Y-%m-%d %H:%M}" if second else f"{time:%Y-%m-%d}"
    return rng.choice([plain, plain, f"{time:%Y-%m-%dT%H:%M:%S}Z", plain + ".250", east, short])


class Pair:
    """A table, the twin of all its rows, and the twin of its cold rows."""

    big = False

    def __init__(self, db, kind, rng):
        self.db, self.kind, self.rng, self.name = db, kind, rng, kind.name
        columns = {"code": kind.code, **COLUMNS}
        keys = [part.split()[0] for part in kind.key.split(", ")]
        fillers = [f"f{n}" for n in range(kind.fillers)]
        body = ", ".join(
            [kind.key, f"ts {kind.time}", *fillers]
            + [f"{name} {type_}" for name, type_ in columns.items()]
        )
        end = kind.end if kind.end.startswith(",") else ")" + kind.end
        for table in self.tables():
            db.execute(f"CREATE TABLE {table} ({body}{end}")
        if rng.random() < 0.5:
            db.execute(f"CREATE INDEX {self.name}_by_time ON {self.name} (ts)")
        # Every column as `SELECT *` shows it, and its collation; those that queries ask about.
        declared = [*keys, "ts", *fillers, *columns]
        types = {**columns, "ts": kind.time, "k": kind.key}
        self.collations = {name: collation(types.get(name, "")) for name in declared}
        self.asked = [*keys, "ts", *columns, *fillers[-1:]]
        self.inserted = [
            *(["rowid"] if "PRIMARY" not in kind.key and kind.rowid else []),
            *declared,
        ]
        self.samples = {name: [] for name in [*declared, "rowid"]}
        self.kinds = {name: [rng.choice(KINDS) for _ in range(12)] for name in columns}
        self.next_id = -3
        self.pool = rng.sample(range(-20, 2000), 400)
        if kind.name == "b":
            self.pool += [2**53 + 1, 2**53 + 2, 2**62]
            rng.shuffle(self.pool)
        self.options = {"partition": rng.choice(["day", "month", "month"]), "compression_level": 1}
        self.options |= kind.options

    def tables(self):
        return [self.name, f"twin_{self.name}", f"twin_cold_{self.name}"]

    def written(self):
        """All columns that can be written, also those that were added."""
        return ", ".join(self.inserted + [n for n in self.collations if n not in self.inserted])

    def new_id(self):
        """The next id: greater than all before, or any that is left."""
        if self.kind.ids == "random":
            return self.pool.pop()
        self.next_id += self.rng.randrange(1, 4)
        return self.next_id

    def row(self, day, time):
        """A new row, with a value for each column that is inserted."""
        rng, number = self.rng, self.new_id()
        row = {name: any_cell(rng, kinds[day], day) for name, kinds in self.kinds.items()}
        # Unique, and for some tables of several storage classes.
        codes = [f"c{number}", f"C{number}", number / 4, f"{number}", number, number + 0.5]
        which = {"TEXT UNIQUE": [0], "REAL": [2], "UNIQUE": [0, 4, 5]}.get(self.kind.code, [0, 1])
        key = {"c": f"{rng.choice('kK')}{number}", "e": f"{rng.choice('pqP')}{number}"}
        row |= {"id": number, "ts": time, "code": codes[rng.choice(which)]}
        row |= {"k": key.get(self.name), "g": rng.randrange(3), "rowid": number * 7 % 4001}
        return [row.get(name, day + number) for name in self.inserted]

    def insert(self, rows, tables):
        """The same rows into each of `tables`."""
        marks = ", ".join("?" * len(self.inserted))
        names = ", ".join(self.inserted)
        for table in tables:
            self.db.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)

    def grow(self, days, count):
        """Adds rows of some days to the table and its twin, in the order of their time."""
        times = [
            (day, second, moment(self.rng, self.kind.times, day))
            for day in days
            for second in range(count)
        ]
        if self.kind.times == "text":
            times.sort(key=lambda time: time[2])
        rows = [self.row(day, time) for day, _, time in times]
        self.insert(rows, self.tables()[:2])
        for row in rows:
            for name, value in zip(self.inserted, row):
                self.samples[name].append(value)
        if "rowid" not in self.inserted:
            self.samples["rowid"] = self.samples["id"]

    def both(self, statement):
        """The same change of the hot rows and of their twins: `{t}` is the table."""
        self.db.execute(statement.format(t=f"twin_{self.name}"))
        self.db.execute(statement.format(t=self.name))

    def change(self):
        """Updates and deletes hot rows."""
        hot = f"id IN (SELECT id FROM {self.name} WHERE id % {self.rng.randrange(5, 9)} = 1)"
        self.both(f"UPDATE {{t}} SET n = 77, s = 'changed', r = NULL WHERE {hot}")
        hot = f"id IN (SELECT id FROM {self.name} WHERE id % {self.rng.randrange(9, 12)} = 2)"
        self.both(f"DELETE FROM {{t}} WHERE {hot}")

    def malform(self, encoding):
        """Makes some texts malformed in the database's encoding."""
        raw = malformed(encoding)
        for name, value in zip(["s", "nc", "x"], raw * 3):
            self.both(f"UPDATE {{t}} SET {name} = {value} WHERE id % 13 = {self.rng.randrange(4)}")

    def archive(self, before, by=None):
        """Moves the rows before a day, perhaps by another connection, and tells their twin."""
        options = {**self.options, "before": f"2020-01-{before + 1:02}"}
        archive(by or self.db, self.name, None, options)
        self.refresh()

    def refresh(self):
        """Fills the twin of the cold rows: those of the twin that are not hot."""
        names = self.written()
        table, twin, cold = self.tables()
        self.db.execute(f"DELETE FROM {cold}")
        self.db.execute(
            f"INSERT INTO {cold} ({names}) SELECT {names} FROM {twin}"
            f" WHERE id NOT IN (SELECT id FROM {table})"
        )

    def add_column(self, name, declaration):
        """ALTER TABLE ADD COLUMN, after which old files lack the column."""
        for table in self.tables():
            self.db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {declaration}")
        self.db.execute("SELECT archive_attach()").fetchall()
        self.collations[name] = collation(declaration)
        self.asked += [name, name]
        self.samples[name] = [7, 7.0, "7", "aB", "AB", "ab", None, -1.5]
        for rest, value in enumerate(["8", "'Ab'"]):
            hot = f"id IN (SELECT id FROM {self.name} WHERE id % 3 = {rest})"
            self.both(f"UPDATE {{t}} SET {name} = {value} WHERE {hot}")

    def files(self):
        """The cold files: id, path, and the ids of their rows in file order."""
        ((main,),) = [
            row[2:] for row in self.db.execute("PRAGMA database_list") if row[1] == "main"
        ]
        root = pathlib.Path(main).parent / "archive" / "parquet"
        sql = "SELECT f.id, f.path, f.published FROM _archive_file f JOIN _archive_table t"
        sql += " ON t.id = f.table_id WHERE t.name = ? ORDER BY f.id"
        for number, path, published in self.db.execute(sql, (self.name,)).fetchall():
            # Not as a dataset, whose folder names would become columns.
            with pyarrow.parquet.ParquetFile(root / path) as file:
                ids = file.read(columns=["id"]).column(0).to_pylist()
            yield number, ids, published

    def bury(self):
        """Gives some cold rows tombstones, as if they had been changed or deleted on their way."""
        columns = self.written()
        table, twin, _ = self.tables()
        for file, ids, published in list(self.files()):
            rows = self.rng.sample(range(published), min(published - 1, 3))
            tombstones.bury(self.db, file, rows)
            for row in rows:
                if self.rng.random() < 0.5:
                    self.db.execute(f"DELETE FROM {twin} WHERE id = ?", (ids[row],))
                    continue
                self.db.execute(f"UPDATE {twin} SET n = -1, s = 'late' WHERE id = ?", (ids[row],))
                copy = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {twin} WHERE id = ?"
                self.db.execute(copy, (ids[row],))
        self.refresh()

    def unpublish(self):
        """Leaves the newest file published in part, as a crash does; its other rows are hot."""
        columns = self.written()
        table, twin, _ = self.tables()
        file, ids, published = list(self.files())[-1]
        keep = self.rng.randrange(1, published) if published > 1 else published
        buried = tombstones.buried(self.db, file)
        tombstones.write(self.db, file, [row for row in buried if row < keep])
        self.db.execute("UPDATE _archive_file SET published = ? WHERE id = ?", (keep, file))
        for row in range(keep, published):
            if row not in buried:
                copy = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {twin} WHERE id = ?"
                self.db.execute(copy, (ids[row],))
        self.refresh()


def collation(type_):
    """The collation of a column of this declaration."""
    return type_.split("COLLATE ")[1].split()[0] if "COLLATE" in type_ else "BINARY"


def malformed(encoding):
    """Expressions for text that is not well-formed."""
    raw = {"UTF-8": ["61ff", "ff", "e9"], "UTF-16le": ["610000d8", "00d8", "00dc"]}
    return [f"CAST(x'{bytes_}' AS TEXT)" for bytes_ in raw.get(encoding, ["0061d800", "d800"])]


def others(db, rng):
    """A plain table to join and compare with."""
    columns = (
        "o_int INTEGER, o_real REAL, o_text TEXT, o_blob BLOB, o_any, o_nc TEXT COLLATE NOCASE"
    )
    db.execute(f"CREATE TABLE o ({columns})")
    near = [any_cell(rng, kind, day) for kind in KINDS for day in (0, 5)]
    for value in rng.sample([*VALUES, *near], 40):
        db.execute("INSERT INTO o VALUES (?1, ?1, ?1, ?1, ?1, ?1)", [value])


DEFAULTS = ["INTEGER DEFAULT '7'", "REAL DEFAULT 7", "TEXT DEFAULT 7", "DEFAULT -1.5", "NUMERIC"]
DEFAULTS += [
    "TEXT COLLATE NOCASE DEFAULT 'aB'",
    "COLLATE RTRIM DEFAULT 'ab '",
    "BLOB DEFAULT x'37'",
]


def small(db, other, seed, encoding, raw_text):
    """Builds the tables in steps; between them, after each `yield`, queries are asked.

    `other` is another connection, which archives some of what is to be seen by the first.
    """
    rng = random.Random(seed)
    others(db, rng)
    pairs = [Pair(db, kind, rng) for kind in KIND_OF_TABLE]
    first, last = rng.choice([3, 5]), rng.choice([8, 9, 10])
    db.execute("BEGIN")
    for pair in pairs:
        pair.grow(DAYS[:5], 12)
        if raw_text:
            pair.malform(encoding)
    db.execute("COMMIT")
    for pair in pairs:
        pair.archive(first)
    yield pairs
    for pair in pairs:
        # Late rows of the same days, so that the files of two runs overlap.
        pair.grow(rng.sample(DAYS[:4], 2) + DAYS[5:], 9)
        if rng.random() < 0.6:
            pair.add_column("extra", rng.choice(DEFAULTS))
        pair.change()
        pair.archive(first)
    yield pairs
    # A run that is rolled back: its files stay on disk, and the next run takes the same ids.
    db.execute("BEGIN")
    for pair in pairs:
        pair.archive(last - 1)
    yield pairs
    db.execute("ROLLBACK")
    for pair in pairs:
        pair.archive(last, rng.choice([db, other]))
        if rng.random() < 0.6:
            pair.add_column("more", rng.choice(DEFAULTS))
        if rng.random() < 0.8:
            pair.bury()
        if rng.random() < 0.6:
            pair.unpublish()
    yield pairs
