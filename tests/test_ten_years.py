"""Ten years in 3,650 daily files: a query opens the files that its rows are in, and no other."""

import datetime
import random

import pytest

from conftest import archive, connect

FIRST_DAY = datetime.date(2010, 1, 1)
DAYS = 3_650
HOT_DAYS = 7
PER_DAY = 60
PAGE = 50
# The day d has the ids from 100 d + 1 on, without the 31st, so each day and each gap can be named.
HOLE = 30
TOTAL = DAYS * PER_DAY

# Each query has a connection of its own, and the exact ones have days that no other test looks at:
# nothing is in a cache, whether that is the connection's or the process's.
PICKED = random.Random(10).sample(range(10, DAYS - 10), 36)
POINTS, WHOLE_DAYS, PAGES = PICKED[:12], PICKED[12:24], PICKED[24:]


def ids(day):
    """The ids of a day, in order."""
    return [100 * day + 1 + n + (n >= HOLE) for n in range(PER_DAY)]


COLD = [id for day in range(DAYS) for id in ids(day)]
ALL = COLD + [id for day in range(DAYS, DAYS + HOT_DAYS) for id in ids(day)]


def date(day):
    return str(FIRST_DAY + datetime.timedelta(days=day))


def moment(id):
    """When the row was created: the first of a day at midnight sharp, the others after it."""
    day, position = divmod(id - 1, 100)
    n = position - (position > HOLE)
    hours, minutes = divmod(n * 24 * 60 // PER_DAY, 60)
    return f"{date(day)} {hours:02}:{minutes:02}:00"


def row(id):
    return (id, f"kind {id % 20}", id / 7, f"note {id}", moment(id))


@pytest.fixture(scope="module")
def ten_years(tmp_path_factory):
    """A database with a cold file for each day of ten years, and a week of hot rows after them."""
    path = tmp_path_factory.mktemp("ten_years") / "test.db"
    db = connect(path)
    db.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
        "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, value REAL, note TEXT,"
        " created_at TEXT)"
    )
    db.execute("BEGIN")
    db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", map(row, ALL))
    db.execute("COMMIT")
    result = archive(db, "events", None, {"before": date(DAYS)})
    assert (result["files"], result["rows"]) == (DAYS, TOTAL)
    db.close()
    return path


class Answer:
    """The rows of a query on a new connection, and what its cold scans did, newest first."""

    def __init__(self, path, sql, *parameters):
        db = connect(path)
        self.rows = db.execute(sql, parameters).fetchall()
        cursor = db.execute("SELECT * FROM archive_scan_stats")
        names = [column[0] for column in cursor.description]
        self.scans = [dict(zip(names, values)) for values in cursor]
        db.close()
        assert {scan["table"] for scan in self.scans} <= {"events"}, self.scans

    def total(self, counter):
        return sum(scan[counter] for scan in self.scans)

    @property
    def opened(self):
        # An answer with no scan at all would prove nothing.
        assert self.scans
        return self.total("files_opened")


@pytest.mark.parametrize("table", ["cold_events", "all_events"])
def test_a_point_query_opens_one_file(ten_years, table):
    """A row by its id: the first, any or the last of a day, from the first day to the last."""
    half = len(POINTS) // 2
    days = [0, *POINTS[:half]] if table == "cold_events" else [*POINTS[half:], DAYS - 1]
    for number, day in enumerate(days):
        id = ids(day)[(0, -1, HOLE, HOLE - 1)[number % 4]]
        answer = Answer(ten_years, f"SELECT * FROM {table} WHERE id = ?", id)
        assert answer.rows == [row(id)]
        assert (answer.opened, answer.total("rows_returned")) == (1, 1), id


@pytest.mark.parametrize("table", ["cold_events", "all_events"])
def test_a_day_opens_one_file(ten_years, table):
    """A day from midnight to midnight: the next day's first row, at midnight sharp, is not in it."""
    half = len(WHOLE_DAYS) // 2
    days = [1, *WHOLE_DAYS[:half]] if table == "cold_events" else [*WHOLE_DAYS[half:], DAYS - 2]
    sql = f"SELECT * FROM {table} WHERE created_at >= ? AND created_at < ? ORDER BY id"
    for number, day in enumerate(days):
        bounds = date(day), date(day + 1)
        if number % 2:
            # The next file's least time is the bound itself.
            bounds = moment(ids(day)[0]), moment(ids(day + 1)[0])
        answer = Answer(ten_years, sql, *bounds)
        assert answer.rows == [row(id) for id in ids(day)]
        assert (answer.opened, answer.total("rows_returned")) == (1, PER_DAY), day


@pytest.mark.parametrize("table", ["cold_events", "all_events"])
@pytest.mark.parametrize(
    "missing",
    [
        *(ids(day)[-1] + 20 for day in PAGES[:3]),
        0,
        -1,
        -(2**63),
        2**63 - 1,
        ids(DAYS - 1)[-1] + 1,
        ids(DAYS + HOT_DAYS)[-1],
    ],
)
def test_an_id_that_no_file_can_hold_opens_none(ten_years, table, missing):
    """Before the first file, after the last, or between two: no file is opened."""
    answer = Answer(ten_years, f"SELECT * FROM {table} WHERE id = ?", missing)
    assert answer.rows == []
    assert answer.opened == 0


def test_a_missing_id_opens_only_the_file_that_could_hold_it(ten_years):
    """An id between two of a day's."""
    answer = Answer(ten_years, "SELECT * FROM cold_events WHERE id = ?", ids(5)[HOLE] - 1)
    assert answer.rows == []
    assert answer.opened <= 1
    assert answer.total("rows_returned") == 0


def expected_page(every, condition, descending):
    """The first rows of a page in Python's way."""
    found = [id for id in every if condition(id)]
    return [row(id) for id in (found[-PAGE:][::-1] if descending else found[:PAGE])]


@pytest.mark.parametrize("order", ["id", "created_at"])
@pytest.mark.parametrize("direction", ["", "DESC"])
@pytest.mark.parametrize("table", ["cold_events", "all_events"])
def test_an_end_opens_at_most_one_file(ten_years, table, direction, order):
    """The newest or the oldest page, of the cold rows or of all."""
    every = COLD if table == "cold_events" else ALL
    sql = f"SELECT * FROM {table} ORDER BY {order} {direction} LIMIT {PAGE}"
    answer = Answer(ten_years, sql)
    assert answer.rows == expected_page(every, lambda _: True, direction)
    assert answer.opened <= 1
    # Where the whole page is hot, a merge looks at the first cold row, and goes no further.
    limit = 1 if (table, direction) == ("all_events", "DESC") else PAGE
    assert answer.total("rows_returned") <= limit


@pytest.mark.parametrize("order", ["id", "created_at"])
@pytest.mark.parametrize("direction", ["", "DESC"])
@pytest.mark.parametrize("table", ["cold_events", "all_events"])
def test_a_deep_page_opens_at_most_two_files(ten_years, table, direction, order):
    """A page before or after a row, wherever that is; a day has more rows than a page."""
    rng = random.Random(f"{table} {direction} {order}")
    every = COLD if table == "cold_events" else ALL
    keys = [rng.choice(ids(day)) for day in rng.sample(PAGES, 3)]
    # The ends of a day, and a place between two days.
    keys += [ids(PAGES[0])[0], ids(PAGES[1])[-1], ids(PAGES[2])[-1] + 5]
    comparison = "<" if direction else ">"
    sql = f"SELECT * FROM {table} WHERE {order} {comparison} ? ORDER BY {order} {direction} LIMIT {PAGE}"
    for key in keys:
        if order == "created_at" and key not in ids(key // 100):
            continue
        value = key if order == "id" else moment(key)
        answer = Answer(ten_years, sql, value)
        condition = (lambda id: id < key) if direction else (lambda id: id > key)
        assert answer.rows == expected_page(every, condition, direction)
        assert answer.opened <= 2, key
        # SQLite may check a bound itself, so the row at the bound may be among them.
        assert PAGE <= answer.total("rows_returned") <= PAGE + 1, key


def test_a_page_without_its_order_column(ten_years):
    """The result need not have the column that it is ordered by."""
    sql = f"SELECT note FROM cold_events WHERE id < ? ORDER BY id DESC LIMIT {PAGE}"
    key = ids(PAGES[3])[HOLE]
    answer = Answer(ten_years, sql, key)
    page = expected_page(COLD, lambda id: id < key, True)
    assert answer.rows == [(note,) for _, _, _, note, _ in page]
    assert answer.opened <= 2


def test_an_offset_opens_only_what_it_passes(ten_years):
    """Three days' rows deep in the offset cost no more than those days' files."""
    sql = f"SELECT id FROM cold_events ORDER BY id DESC LIMIT {PAGE} OFFSET {3 * PER_DAY}"
    answer = Answer(ten_years, sql)
    assert answer.rows == [(id,) for id in COLD[::-1][3 * PER_DAY : 3 * PER_DAY + PAGE]]
    assert answer.opened <= 4


def test_the_largest_key_opens_one_file(ten_years):
    """max() of the key is a page of one row."""
    answer = Answer(ten_years, "SELECT max(id) FROM cold_events")
    assert answer.rows == [(COLD[-1],)]
    assert answer.opened <= 1


def test_a_join_opens_the_files_of_its_keys(ten_years):
    """One cursor for the inner side, restarted for each outer row."""

    def join(keys):
        values = ", ".join(f"({key})" for key in keys)
        sql = (
            f"WITH k(id) AS (VALUES {values})"
            " SELECT k.id, e.note FROM k CROSS JOIN cold_events e ON e.id = k.id"
        )
        answer = Answer(ten_years, sql)
        assert answer.rows == [(key, f"note {key}") for key in keys]
        assert len(answer.scans) == 1
        assert answer.opened <= len(keys)
        assert answer.total("rows_returned") == len(keys)
        return answer.total("loops")

    keys = [ids(day)[HOLE] for day in PAGES[4:9]]
    assert join(keys) - join(keys[:1]) == len(keys) - 1


def test_the_files_of_a_whole_scan(ten_years):
    """All rows are returned, from all files."""
    answer = Answer(ten_years, "SELECT count(*), sum(id), max(note) FROM cold_events")
    assert answer.rows == [(TOTAL, sum(COLD), max(f"note {id}" for id in COLD))]
    assert (answer.opened, answer.total("rows_returned")) == (DAYS, TOTAL)


def test_the_newest_scan_comes_first(ten_years):
    """Several queries on one connection each leave their line."""
    db = connect(ten_years)
    for count, day in ((1, PAGES[9]), (2, PAGES[10]), (3, PAGES[11])):
        sql = "SELECT * FROM cold_events WHERE id >= ? AND id < ?"
        first = ids(day)[0]
        assert len(db.execute(sql, [first, first + count]).fetchall()) == count
    found = db.execute("SELECT rows_returned FROM archive_scan_stats").fetchall()
    assert [count for (count,) in found] == [3, 2, 1]
    db.close()


def test_scan_stats_need_no_cold_table(path):
    """Where nothing is archived, the list is empty."""
    db = connect(path)
    assert db.execute("SELECT * FROM archive_scan_stats").fetchall() == []
    db.close()
