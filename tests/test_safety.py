"""What others do while a run is on its way, or between a dead run and the next: nothing is lost."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from conftest import FAULTS_LIBRARY, archive, connect

CUTOFF = "2024-01-01"

# Moves rows of the table `t` in a process of its own, which a fault point may stop for a second or kill.
CHILD = """
import sqlite3, sys
path, library, call, options = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=10)
connection.enable_load_extension(True)
connection.load_extension(library)
print(connection.execute(f"SELECT {call}", [options]).fetchone()[0])
"""


def command(path, restores=False, **options):
    """The command that archives the table, or brings its rows back."""
    call = "archive_restore('t', ?)" if restores else "archive_table('t', NULL, ?)"
    options = options if restores else {"before": CUTOFF, **options}
    library = str(FAULTS_LIBRARY.with_suffix(""))
    return [sys.executable, "-c", CHILD, str(path), library, call, json.dumps(options)]


def is_running(path):
    """Whether the catalog knows of a run that goes on."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        try:
            sql = "SELECT EXISTS (SELECT 1 FROM _archive_run WHERE status = 'running')"
            return connection.execute(sql).fetchone() == (1,)
        except sqlite3.OperationalError:
            return False


@contextlib.contextmanager
def stopped_at(path, fault, **options):
    """A run that waits a second at a fault point, which it has reached when the body begins. At the
    end `run.result` is its JSON or its error."""
    run = subprocess.Popen(
        command(path, **options),
        env={**os.environ, "SQLITE_COLD_FAULT": f"{fault}:sleep"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not is_running(path):
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.01)
        # From here it is milliseconds to the fault point.
        time.sleep(0.3)
        assert run.poll() is None
        yield run
        output, errors = run.communicate(timeout=30)
        run.result = json.loads(output) if output else errors.splitlines()[-1]
    finally:
        run.kill()
        run.communicate()


def killed_at(path, fault, *tracer, **options):
    """A run that dies of `kill -9` at a fault point, perhaps under a tracer."""
    environment = {**os.environ, "SQLITE_COLD_FAULT": f"{fault}:kill"}
    run = subprocess.run(
        [*tracer, *command(path, **options)],
        env=environment,
        capture_output=True,
        timeout=30,
    )
    assert run.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), run.stderr


@pytest.fixture
def other(path):
    """An application without the extension: 300 rows of three old days, and three new rows."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
    days = [f"2020-01-0{n // 100 + 1}" for n in range(300)] + ["2999-01-01"] * 3
    connection.executemany("INSERT INTO t (ts, v) VALUES (?, 'value')", [[day] for day in days])
    yield connection
    connection.close()


def rows(path, sql="SELECT id, ts FROM all_t ORDER BY id"):
    """What a new connection finds."""
    with closing(connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_a_file_that_was_not_kept_is_not_published(path, other):
    """P2: a file whose bytes are not those that were written is found before a row is deleted."""
    with stopped_at(path, "file.verify:1") as run:
        (file,) = path.parent.rglob("*day=01/*.parquet")
        bad = bytearray(file.read_bytes())
        bad[40] ^= 1
        file.write_bytes(bad)
    assert "its bytes are not those that were written" in run.result
    assert other.execute("SELECT count(*) FROM t").fetchone() == (303,)
    assert other.execute("SELECT count(*) FROM _archive_file").fetchone() == (0,)


def test_a_column_added_during_a_run_keeps_its_values(path, other):
    """P2: a schema change during the run ends it; no value of the new column is lost."""
    with stopped_at(path, "publish.begin:2", batch_size=50) as run:
        other.execute("ALTER TABLE t ADD COLUMN extra")
        other.execute("UPDATE t SET extra = 'precious'")
        (changed,) = other.execute("SELECT count(*) FROM t").fetchone()
    assert "changed the schema of t during the run" in run.result
    assert 0 < changed < 303
    assert rows(path, "SELECT count(*), count(extra) FROM all_t") == [(303, changed)]


OTHERS_DDL = {
    "a new table": "CREATE TABLE unrelated (x)",
    "an index of the table": "CREATE INDEX t_v ON t (v)",
    "a policy of a newer table": "SELECT archive_policy('newer', 7)",
}


@pytest.mark.parametrize("ddl", OTHERS_DDL.values(), ids=OTHERS_DDL)
def test_what_others_make_does_not_stop_a_run(path, other, ddl):
    """Only a change of the table itself does."""
    with closing(connect(path)) as connection:
        archive(connection, "t", None, {"before": "2000-01-01"})
        other.execute("CREATE TABLE newer (id INTEGER PRIMARY KEY, ts TEXT)")
        other.execute("INSERT INTO newer (ts) VALUES ('2020-01-01')")
        with stopped_at(path, "publish.begin:2", batch_size=50) as run:
            connection.execute(ddl).fetchall()
    assert run.result["rows"] == 300
    assert len(rows(path)) == len(set(rows(path))) == 303


@pytest.mark.parametrize("ddl", OTHERS_DDL.values(), ids=OTHERS_DDL)
def test_what_others_make_does_not_stop_a_restore(path, other, ddl):
    """Nor does it stop rows on their way back."""
    with closing(connect(path)) as connection:
        archive(connection, "t", None, {"before": CUTOFF})
        other.execute("CREATE TABLE newer (id INTEGER PRIMARY KEY, ts TEXT)")
        other.execute("INSERT INTO newer (ts) VALUES ('2020-01-01')")
        with stopped_at(path, "restore.commit:2", restores=True, batch_size=50) as run:
            connection.execute(ddl).fetchall()
    assert run.result["rows"] == 300
    assert len(rows(path)) == len(set(rows(path))) == 303


def test_a_column_added_during_a_restore_ends_it(path, other):
    """What its rows would have in the new column was not looked at."""
    with closing(connect(path)) as connection:
        archive(connection, "t", None, {"before": CUTOFF})
    with stopped_at(path, "restore.commit:2", restores=True, batch_size=50, pause_ms=1000) as run:
        other.execute("ALTER TABLE t ADD COLUMN extra")
    assert "changed the schema of t during the run" in run.result
    assert len(rows(path, "SELECT id FROM all_t")) == 303


def test_a_table_of_the_same_text_does_not_take_part_in_a_run(path, other):
    """It is another table, whose rows are its own."""
    (sql,) = other.execute("SELECT sql FROM sqlite_schema WHERE name = 't'").fetchone()
    with stopped_at(path, "publish.begin:2", batch_size=50) as run:
        hot = other.execute("SELECT * FROM t").fetchall()
        other.executescript(f"BEGIN; DROP TABLE t; {sql};")
        other.executemany("INSERT INTO t VALUES (?, ?, ?)", hot)
        other.execute("COMMIT")
    assert "changed the schema of t during the run" in run.result
    assert other.execute("SELECT count(*) FROM t").fetchone() == (len(hot),)


def test_a_column_added_after_a_killed_run_keeps_its_values(path, other):
    """P2: a run that resumes a file of before an ALTER TABLE leaves its other rows hot."""
    killed_at(path, "publish.begin:2", batch_size=50)
    other.execute("ALTER TABLE t ADD COLUMN extra")
    (changed,) = other.execute("SELECT count(*) FROM t").fetchone()
    other.execute("UPDATE t SET extra = 'precious'")
    with closing(connect(path)) as connection:
        archive(connection, "t", None, {"before": CUTOFF})
    assert changed == 253
    assert rows(path, "SELECT count(*), count(extra) FROM all_t") == [(303, changed)]


@pytest.mark.parametrize("fault", ["plan.chunk:1", "file.verify:1"])
def test_a_row_that_is_referred_to_during_a_run_stays(path, other, fault):
    """A foreign key that comes to refer to an old row during the run keeps that row hot."""
    other.execute("CREATE TABLE child (t_id REFERENCES t)")
    other.execute("PRAGMA foreign_keys = ON")
    with stopped_at(path, fault) as run:
        other.execute("INSERT INTO child VALUES (120)")
    assert (run.result["rows"], run.result["kept_rows"]) == (299, 1)
    assert other.execute("PRAGMA foreign_key_check").fetchall() == []
    assert len(rows(path)) == len(set(rows(path))) == 303


@pytest.mark.parametrize("fault", ["plan.chunk:1", "file.verify:1"])
def test_an_id_is_not_reused_if_the_newest_rows_go_during_a_run(path, other, fault):
    """Ids are not reused: the row that is the newest when rows are deleted stays hot."""
    with stopped_at(path, fault):
        other.execute("DELETE FROM t WHERE ts = '2999-01-01'")
    assert other.execute("SELECT id FROM t").fetchall() == [(300,)]
    other.execute("INSERT INTO t (ts) VALUES ('2999-01-01')")
    assert [row[0] for row in rows(path)] == [*range(1, 302)]


def test_rows_that_change_after_the_plan_stay(path, other):
    """Rows that no longer qualify, or belong to another day, when they are read stay hot."""
    with stopped_at(path, "plan.chunk:1", where="v = 'value'") as run:
        other.execute("UPDATE t SET v = 'pending' WHERE id = 7")
        other.execute("UPDATE t SET ts = '2999-01-01' WHERE id = 8")
        other.execute("UPDATE t SET ts = '2020-01-02' WHERE id = 9")
    assert run.result["rows"] == 297
    assert other.execute("SELECT id FROM t WHERE id < 301").fetchall() == [(7,), (8,), (9,)]
    assert len(rows(path)) == 303


def test_a_file_none_of_whose_rows_moved_is_not_in_the_catalog(path, other):
    """All rows of one day change between reading and deleting: their file does not stay, nor count."""
    with stopped_at(path, "file.verify:1") as run:
        other.execute("UPDATE t SET v = 'changed' WHERE ts = '2020-01-02'")
        other.execute("UPDATE t SET v = 'changed' WHERE id = 1")
    result = run.result
    assert (result["rows"], result["kept_rows"], result["files"]) == (199, 101, 2)
    files = other.execute("SELECT path, dead FROM _archive_file ORDER BY path").fetchall()
    assert [dead for _, dead in files] == [1, 0] and "day=02" not in str(files)
    history = other.execute("SELECT rows, files, bytes FROM _archive_run").fetchall()
    assert history == [(199, 2, result["parquet_bytes"])]
    assert rows(path, "SELECT sum(bytes) FROM archive_files('t')") == [(result["parquet_bytes"],)]
    assert len(rows(path)) == 303
    (removed,) = other.execute("SELECT path FROM _archive_removed").fetchone()
    assert "day=02" in removed
    with closing(connect(path)) as connection:
        assert archive(connection, "t", None, {"before": CUTOFF})["rows"] == 101
    assert len(rows(path)) == 303


def test_one_query_over_cold_rows_alone_sees_one_state(path, other):
    """P1: a statement that names only cold_t has one snapshot from its first row to its last."""
    with closing(connect(path)) as connection, closing(connect(path)) as reader:
        archive(connection, "t", None, {"before": "2020-01-02"})
        reader.execute("SELECT archive_attach()").fetchone()
        cursor = reader.execute(
            "SELECT (SELECT count(*) FROM cold_t b WHERE b.id > -a.id) FROM cold_t a"
        )
        counts = {cursor.fetchone()}
        assert archive(connection, "t", None, {"before": CUTOFF})["rows"] == 200
        counts.update(cursor)
        assert counts == {(100,)}
        assert reader.execute("SELECT count(*) FROM cold_t").fetchone() == (300,)


def test_leftovers_of_other_runs_wait_for_the_retention_period(path, other):
    """A file that the catalog does not explain is not touched by a run that cleans up after a dead
    one: a backup may still refer to it."""
    killed_at(path, "publish.begin:2", batch_size=50)
    (file,) = path.parent.rglob("*day=01/*.parquet")
    owner, run, number = file.name.split("-")
    unexplained = file.with_name("-".join([owner, run[::-1], number]))
    shutil.copy(file, unexplained)
    with closing(connect(path)) as connection:
        assert archive(connection, "t", None, {"before": CUTOFF})["rows"] == 250
        assert unexplained.exists()
        # Not even what failed itself cleans up more than its own.
        connection.execute("INSERT INTO t VALUES (1000, '2020-01-03', 1)")
    assert len(rows(path)) == 304


def can_trace(tmp_path):
    """Whether there is strace, and it may trace."""
    test = ["strace", "-f", "-o", str(tmp_path / "test.trace"), "true"]
    return shutil.which("strace") and subprocess.run(test, capture_output=True).returncode == 0


@pytest.mark.parametrize("place", ["beside", "elsewhere"])
def test_files_and_folders_are_durable_before_they_are_published(
    path, other, tmp_path, monkeypatch, place
):
    """P2: before the first publishing transaction the file was fsynced, and so was each folder above it
    that is new, and the one that those are in."""
    if not can_trace(tmp_path):
        pytest.skip("strace is not there, or may not trace")
    other.execute("DELETE FROM t WHERE ts <> '2020-01-01'")
    log = tmp_path / "trace"
    home = path.parent
    if place == "elsewhere":
        home = tmp_path / "other"
        home.mkdir()
        monkeypatch.setenv("ARCHIVE_DIR", str(home / "a" / "b" / "c" / "d"))
    killed_at(path, "publish.begin:1", *("strace", "-f", "-y", "-e", "trace=fsync", "-o", log))
    (file,) = home.rglob("*.parquet")
    traced = log.read_text()
    for place in (file, *file.parents):
        assert f"<{place}>)" in traced, place
        if place == home:
            break


def test_a_catalog_path_with_dots_is_refused_wherever_it_leads(path, other):
    """A catalog path has no `..` even if it ends up inside the archive folder again."""
    with closing(connect(path)) as connection:
        archive(connection, "t", None, {"before": CUTOFF})
        connection.execute("UPDATE _archive_file SET path = '../parquet/' || path")
        with pytest.raises(sqlite3.DatabaseError, match="outside the archive folder"):
            connection.execute("SELECT * FROM cold_t").fetchall()


def test_a_row_that_changes_in_a_later_row_group_stays(path, other):
    """P1: in a file of several row groups the copy that does not count is the changed row's."""
    other.execute("DELETE FROM t")
    sql = "INSERT INTO t (ts, v) VALUES (?, zeroblob(1 << 20))"
    other.executemany(sql, [["2020-01-01"]] * 30 + [["2999-01-01"]])
    with stopped_at(path, "file.verify:1") as run:
        other.execute("UPDATE t SET v = 'changed' WHERE id = 20")
    assert (run.result["rows"], run.result["files"]) == (29, 1)
    expected = [(id, 7 if id == 20 else 1 << 20) for id in range(1, 32)]
    assert rows(path, "SELECT id, length(v) FROM all_t ORDER BY id") == expected


def test_text_of_a_utf16_database_is_found_in_its_own_order(path):
    """P3: where the encoding makes SQLite order text otherwise than UTF-8 does, no row is pruned."""
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, v TEXT)")
        # As bytes 00 01, which come before 62 00.
        connection.execute("INSERT INTO t (ts, v) VALUES ('2020-01-01', 'Ā')")
        counts = "SELECT count(*) FROM {} WHERE v < 'b'"
        assert connection.execute(counts.format("t")).fetchone() == (1,)
        assert archive(connection, "t", None, {"before": CUTOFF})["rows"] == 1
        assert connection.execute(counts.format("all_t")).fetchone() == (1,)


def test_numeric_text_below_text_of_a_numeric_column(path, other):
    """P3: against a NUMERIC column that holds text, the text '5' is a number and less than any."""
    other.execute("UPDATE t SET v = '5'")
    other.execute("CREATE TABLE bounds (n NUMERIC)")
    other.execute("INSERT INTO bounds VALUES ('+x')")
    count = "SELECT count(*) FROM bounds CROSS JOIN {} WHERE v < n"
    assert other.execute(count.format("t")).fetchone() == (303,)
    with closing(connect(path)) as connection:
        assert archive(connection, "t", None, {"before": CUTOFF})["rows"] == 300
        assert connection.execute(count.format("cold_t")).fetchone() == (300,)


def test_a_newer_catalog_is_refused(path, other):
    """A catalog of a newer version is neither read nor written, and the message says the way out."""
    with closing(connect(path)) as connection:
        archive(connection, "t", None, {"before": "2020-01-02"})
        other.execute("UPDATE _archive_meta SET value = value + 1 WHERE key = 'schema_version'")
        for sql in ("SELECT archive_table('t', 7)", "SELECT * FROM cold_t"):
            with pytest.raises(sqlite3.DatabaseError, match="load a newer sqlite-cold"):
                connection.execute(sql).fetchall()
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (203,)


@pytest.mark.parametrize("create", ["TABLE cold_t (mine)", "VIEW all_t AS SELECT 1 AS mine"])
def test_attaching_does_not_replace_objects_of_the_user(path, other, create):
    """archive_attach says that the user's own TEMP object is in the way, and leaves it alone."""
    with closing(connect(path)) as connection, closing(connect(path)) as reader:
        reader.execute(f"CREATE TEMP {create}")
        archive(connection, "t", None, {"before": CUTOFF})
        (attached,) = reader.execute("SELECT archive_attach()").fetchone()
        assert "rename" in json.loads(attached)["problems"][0]
        name = create.split()[1]
        cursor = reader.execute(f"SELECT * FROM {name}")
        assert [column[0] for column in cursor.description] == ["mine"]


NOTES = """
CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT);
CREATE TABLE notes (t_id);
INSERT INTO t VALUES (1, '2020-01-01'), (2, '2020-01-02'), (3, '2020-01-03');
INSERT INTO notes SELECT id FROM t;
"""


def notes(db):
    return db.execute("SELECT count(*) FROM notes").fetchone()[0]


@pytest.mark.parametrize("table", ["main.t", "t"])
def test_temp_triggers_do_not_fire_for_rows_that_move(db, table):
    """SQLite cannot switch TEMP triggers off, so a call that would fire one is refused by its name."""
    db.executescript(NOTES)
    forget = f"CREATE TEMP TRIGGER forget AFTER DELETE ON {table} BEGIN DELETE FROM notes"
    db.execute(f"{forget} WHERE t_id = old.id; END")
    with pytest.raises(sqlite3.OperationalError, match="the TEMP trigger forget would fire"):
        archive(db, "t", 7)
    with pytest.raises(sqlite3.OperationalError, match="the TEMP trigger forget would fire"):
        archive(db, "t", 7, {"grace_hours": 5})
    assert notes(db) == 3 and db.execute("SELECT count(*) FROM t").fetchone() == (3,)
    db.execute("DROP TRIGGER forget")
    assert archive(db, "t", 7)["rows"] == 2 and notes(db) == 3
    db.execute(f"CREATE TEMP TRIGGER remember AFTER INSERT ON {table} BEGIN DELETE FROM notes; END")
    with pytest.raises(sqlite3.OperationalError, match="the TEMP trigger remember would fire"):
        db.execute("SELECT archive_restore('t')")
    assert notes(db) == 3
    # Triggers are as they were.
    db.execute("INSERT INTO t VALUES (9, '2020-01-09')")
    assert notes(db) == 0


@pytest.mark.parametrize("table", ["_archive_file", "_ARCHIVE_TOMBSTONE", "_archive_run"])
def test_temp_triggers_of_the_catalog_are_refused(db, table):
    """One that ignores a change would keep it from being made, without an error."""
    db.executescript(NOTES)
    archive(db, "t", None, {"before": "2020-01-02"})
    ignore = f"CREATE TEMP TRIGGER ignore BEFORE INSERT ON main.{table} BEGIN SELECT RAISE(IGNORE); END"
    db.execute(ignore)
    for call in ("archive_table('t', 7)", "archive_restore('t')", "archive_policy('t', 7)"):
        with pytest.raises(sqlite3.OperationalError, match="TEMP trigger ignore on"):
            db.execute(f"SELECT {call}")
    db.execute("DROP TRIGGER ignore")
    db.execute("SELECT archive_restore('t')").fetchall()
    assert archive(db, "t", 7)["rows"] == 2
    assert db.execute("SELECT archive_verify()").fetchone()[0].endswith('"problems":[]}')


def test_temp_triggers_of_other_tables_are_no_obstacle(db):
    """A TEMP trigger on a TEMP table of the same name, or on another event, fires for none of our rows."""
    db.executescript(NOTES)
    db.execute("CREATE TEMP TRIGGER touch AFTER UPDATE ON main.t BEGIN DELETE FROM notes; END")
    db.execute("CREATE TEMP TABLE t (x)")
    db.execute("CREATE TEMP TRIGGER own AFTER DELETE ON temp.t BEGIN DELETE FROM notes; END")
    assert archive(db, "t", 7)["rows"] == 2
    db.execute("SELECT archive_restore('t')")
    assert notes(db) == 3


def test_a_function_that_only_the_application_has_is_no_obstacle(db, path):
    """In a CHECK or a DEFAULT: deleting rows calls neither."""
    db.create_function("own", 1, lambda value: 1, deterministic=True)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT CHECK (own(ts)))")
    db.execute("INSERT INTO t (ts) VALUES ('2020-01-01'), ('2020-01-02'), ('2999-01-01')")
    with closing(connect(path)) as nightly:
        assert archive(nightly, "t", 7)["rows"] == 2


def test_what_others_roll_back_is_not_archived(path, monkeypatch):
    """Connections that share a cache may see what others have not committed."""

    def shared():
        uri = f"{path.as_uri()}?cache=shared"
        return connect(uri, FAULTS_LIBRARY, uri=True, check_same_thread=False)

    with closing(shared()) as db, closing(shared()) as writer:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, ts TEXT, v)")
        rows = [(n, f"2020-01-{n % 9 + 10}", "committed") for n in range(90)]
        db.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        db.execute("PRAGMA read_uncommitted = 1")
        monkeypatch.setenv("SQLITE_COLD_FAULT", "read.rows:1:sleep")
        run = threading.Thread(target=archive, args=(db, "t", 7))
        run.start()
        time.sleep(0.5)
        assert run.is_alive(), "the run was over before the change"
        writer.execute("BEGIN")
        writer.execute("UPDATE t SET v = 'rolled back'")
        time.sleep(1)
        writer.execute("ROLLBACK")
        run.join()
    with closing(connect(path)) as db:
        assert db.execute("SELECT * FROM all_t ORDER BY id").fetchall() == rows
