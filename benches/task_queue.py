"""A task queue that looks like a real one: 234,033 rows, about 140 MB, half a year of history.

The rows are the same each time (seeded), but their times count back from today.
"""

import datetime
import json
import pathlib
import random
import sqlite3

ROWS = 234_033
DAYS = 180

SCHEMA = """
CREATE TABLE task_queue (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    task_type     TEXT NOT NULL,
    status        TEXT NOT NULL,
    priority      INTEGER NOT NULL DEFAULT 0,
    payload       TEXT NOT NULL,
    unique_key    TEXT,
    retry_count   INTEGER NOT NULL DEFAULT 0,
    error_message TEXT,
    created_at    TEXT NOT NULL,
    started_at    TEXT,
    completed_at  TEXT
);
CREATE INDEX task_queue_status ON task_queue (status, priority);
"""

TYPES = ["process_message", "forward_media", "send_digest", "clean_cache", "sync_rules"]
STATUSES = ["completed", "failed", "skipped"]
ERRORS = [
    "TimeoutError: no answer from upstream after %d ms",
    "FloodWaitError: a wait of %d seconds is required",
    "PeerIdInvalidError: peer %d is not known to this session",
    "sqlite3.OperationalError: database is locked (attempt %d)",
]
WORDS = """the a of to and in for on with is are was will new more about from after before over time
people year day report market price news city team game season market update version release fix
server error channel message user group link photo video document sticker album caption reply
forward rule filter keyword media download upload queue worker retry delay limit quota account
today tomorrow yesterday morning evening weekly monthly public private local global open closed
first last next best early late high low fast slow small large good bad free paid sale offer deal
weather rain sun wind storm temperature traffic road train flight station airport hotel ticket
music film book story author review interview concert festival museum school university student
teacher course exam result science research study data model system network security password
health doctor hospital patient medicine vaccine food recipe kitchen water coffee bread market
bank money credit loan rate percent growth decline stock share fund budget tax law court police
government minister president election vote party debate treaty border region country world""".split()


def sentence(rng):
    """Words of very different frequency, as in real text."""
    count = rng.randrange(8, 40)
    words = [WORDS[int(len(WORDS) * rng.random() ** 1.7)] for _ in range(count)]
    return " ".join(words).capitalize() + rng.choice([".", ".", "!", "?"])


def message(rng, number):
    """A message that came in: what the tasks it causes have in common."""
    document = {
        "chat_id": -1_001_000_000_000 - rng.randrange(400) * 7_919,
        "message_id": 100_000 + number,
        "text": " ".join(sentence(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))),
        "sender": {"id": 5_000_000 + rng.randrange(3_000) * 13, "is_bot": rng.random() < 0.1},
        "has_media": False,
    }
    if rng.random() < 0.25:
        document["has_media"] = True
        document["media"] = {
            "type": rng.choice(["photo", "video", "document"]),
            "size": rng.randrange(10_000, 50_000_000),
            "mime": rng.choice(["image/jpeg", "video/mp4", "application/pdf"]),
        }
    return document


def payloads(rng):
    """The arguments of tasks as their application would store them: a message causes a task for
    each of the rules that match it."""
    number = 0
    while True:
        number += 1
        document = message(rng, number)
        for rule in rng.sample(range(1, 120), rng.choice([1, 2, 3, 3, 4, 6])):
            target = -1_002_000_000_000 - rule * 104_729
            yield json.dumps({"rule_id": rule, "target_chat_id": target, **document})


def rows(count, days, seed=1):
    """Rows from the oldest to the newest; the last one is of today."""
    rng = random.Random(seed)
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None, microsecond=0)
    step = datetime.timedelta(days=days) / count
    tasks = payloads(rng)
    for number in range(count):
        created = now - step * (count - number)
        started = created + datetime.timedelta(milliseconds=rng.randrange(50, 30_000))
        completed = started + datetime.timedelta(milliseconds=rng.randrange(20, 9_000))
        status = rng.choices(STATUSES, [90, 4, 6])[0]
        failed = status == "failed"
        kind = rng.choices(TYPES, [60, 25, 8, 4, 3])[0]
        yield (
            kind,
            status,
            rng.choice([0, 0, 0, 5, 10, 50]),
            next(tasks),
            f"{kind}:{number // 4}:{rng.randrange(1000)}" if rng.random() < 0.7 else None,
            rng.randrange(1, 6) if failed else 0,
            rng.choice(ERRORS) % rng.randrange(100_000) if failed else None,
            created.isoformat(" ", "seconds"),
            started.isoformat(" ", "milliseconds"),
            completed.isoformat(" ", "milliseconds"),
        )


def create(path, count=ROWS, days=DAYS):
    """Writes a new database with the table, in WAL mode as servers have it."""
    path = pathlib.Path(path)
    for old in path.parent.glob(path.name + "*"):
        old.unlink()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; BEGIN;" + SCHEMA)
    connection.executemany(
        "INSERT INTO task_queue (task_type, status, priority, payload, unique_key, retry_count,"
        " error_message, created_at, started_at, completed_at) VALUES (?,?,?,?,?,?,?,?,?,?)",
        rows(count, days),
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


if __name__ == "__main__":
    create("demo/forward.db")
