"""archive_run: every table with a policy, each on its own, and what the owner gets to know of it."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pyarrow.parquet
import pytest
from receiver import Authority, Receiver

from conftest import LIBRARY, ROOT, archive, connect

FOUR = ["task_queue", "rule_logs", "audit_logs", "media_signatures"]

# Runs archive_run in a process with another environment.
NIGHT = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.enable_load_extension(True)
db.load_extension(sys.argv[2])
print(db.execute("SELECT archive_run()").fetchone()[0])
"""


def run(db, **options):
    """Calls archive_run and returns its JSON as a dictionary."""
    (text,) = db.execute("SELECT archive_run(?)", [json.dumps(options)]).fetchone()
    return json.loads(text)


def policy(db, table, hot_days, **options):
    """Calls archive_policy and returns its JSON as a dictionary."""
    sql = "SELECT archive_policy(?, ?, ?)"
    return json.loads(db.execute(sql, [table, hot_days, json.dumps(options)]).fetchone()[0])


def fill(db, table, old=20, new=3):
    """A table with old rows, of days long ago, and new ones."""
    db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT, v)")
    days = [f"2024-01-{n % 9 + 1:02}" for n in range(old)] + ["2999-01-01"] * new
    rows = [(day, f"{table} {n}") for n, day in enumerate(days)]
    db.execute("BEGIN")
    db.executemany(f"INSERT INTO {table} (created_at, v) VALUES (?, ?)", rows)
    db.execute("COMMIT")


def count(db, table):
    return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def by_table(summary):
    return {table["table"]: table for table in summary["tables"]}


def dump(path):
    """The whole database as SQL, and the names of all files beside it."""
    with closing(sqlite3.connect(path)) as plain:
        files = sorted(str(file) for file in path.parent.rglob("*") if file.is_file())
        return list(plain.iterdump()), [
            f for f in files if not f.endswith((".lock", "-wal", "-shm"))
        ]


def shell(path, file, **environment):
    """Runs an SQL file as its header says: by the sqlite3 shell, from the top of the repository."""
    return subprocess.run(
        ["sqlite3", str(path)],
        stdin=(ROOT / "sql" / file).open(),
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def four(path):
    """A database with the four tables of sql/policies.sql, which has been run; rows move at once."""
    with closing(connect(path)) as db:
        for table in FOUR:
            fill(db, table)
        db.execute("ALTER TABLE task_queue ADD COLUMN status TEXT DEFAULT 'done'")
        db.execute("SELECT archive_config('grace_hours', 0)").fetchall()
    done = shell(path, "policies.sql")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def broken(four):
    """The archive folder of one of them is a file."""
    folder = four.parent / "archive" / "parquet"
    folder.mkdir(parents=True)
    (folder / "rule_logs").write_text("not a folder")
    return four


def assert_three_archived(path):
    """All tables but rule_logs have their old rows cold; rule_logs has all of them, hot."""
    with closing(connect(path)) as db:
        assert {t: count(db, t) for t in FOUR} == {**dict.fromkeys(FOUR, 3), "rule_logs": 23}
        for table in (t for t in FOUR if t != "rule_logs"):
            assert count(db, f"cold_{table}") == 20 and count(db, f"all_{table}") == 23


def assert_one_failed(summary):
    """A summary says which table failed, and why, and what the others came to."""
    tables = by_table(summary)
    assert list(tables) == FOUR, "not in order of priority"
    failed = tables.pop("rule_logs")
    assert failed["status"] == "failed" and "rule_logs" in failed["error"]
    assert [(t["status"], t["rows"]) for t in tables.values()] == [("done", 20)] * 3
    assert (summary["status"], summary["failed"], summary["rows"]) == ("failed", 1, 60)
    (error,) = summary["errors"]
    assert error.startswith("rule_logs: ") and failed["error"] in error


def test_unfinished_tasks_stay(four):
    """The example keeps tasks that wait, however old they are."""
    with closing(connect(four)) as db:
        db.execute("UPDATE task_queue SET status = 'pending' WHERE id <= 4")
        assert run(db)["rows"] == 76
        assert db.execute("SELECT count(*), min(id) FROM task_queue").fetchone() == (7, 1)


def test_the_scripts_say_what_to_change():
    """Each says which path is the library's; the reports name the columns that they need."""
    for script in ("policies.sql", "nightly.sql", "reports.sql"):
        text = (ROOT / "sql" / script).read_text()
        head, _, rest = text.partition("\n.bail on\n")
        assert ".load ./dist/cold\n" in rest and "change ./dist/cold below" in head
    for column in ("created_at", "status", "payload", "error_message"):
        assert column in head and column in rest


def test_a_fifth_table_is_one_line(four):
    """One line registers a table, the next run archives it, and those before it as well."""
    with closing(connect(four)) as db:
        assert list(by_table(run(db))) == FOUR
        fill(db, "chat_statistics")
        db.execute("SELECT archive_policy('chat_statistics', 180)").fetchall()
        summary = run(db)
        assert list(by_table(summary)) == [*FOUR, "chat_statistics"] and summary["errors"] == []
        assert by_table(summary)["chat_statistics"]["rows"] == summary["rows"] == 20
        assert (count(db, "chat_statistics"), count(db, "all_chat_statistics")) == (3, 23)


def test_by_default_rows_wait_a_day(db):
    """Without a word on grace_hours a run copies rows, and leaves them hot; archive_table does not."""
    for table in ("a", "b"):
        fill(db, table)
    policy(db, "a", 7)
    policy(db, "b", 7, grace_hours=0)
    tables = by_table(run(db))
    assert [(t["rows"], t["staged"]) for t in tables.values()] == [(0, 20), (20, 0)]
    assert (count(db, "a"), count(db, "cold_a"), count(db, "all_a")) == (23, 0, 23)
    assert [(t["rows"], t["staged"]) for t in run(db)["tables"]] == [(0, 0), (0, 0)]
    assert archive(db, "a", 7)["rows"] == count(db, "cold_a") == 20


def test_one_table_fails(broken, monkeypatch):
    """Three of four tables are archived; the fourth is in the return value, in the history and in the
    notification. Once it is repaired, the next run archives it, too."""
    with Receiver() as server, closing(connect(broken)) as db:
        monkeypatch.setenv("ARCHIVE_NOTIFY_URL", server.url)
        summary = run(db)
        (message,) = server.wait()
        assert summary.pop("notification") == "sent"
        assert message["body"] == summary
        assert_one_failed(summary)
        sql = 'SELECT "table", status, rows, error FROM archive_history WHERE operation = ?'
        history = {row[0]: row[1:] for row in db.execute(sql, ["archive"])}
        assert history["rule_logs"] == ("failed", 0, by_table(summary)["rule_logs"]["error"])
        assert [history[t][:2] for t in FOUR if t != "rule_logs"] == [("done", 20)] * 3
        ((table, *night),) = db.execute(sql, ["nightly"])
        assert (table, *night) == (None, "failed", 60, summary["errors"][0])
        assert_three_archived(broken)
        (broken.parent / "archive" / "parquet" / "rule_logs").unlink()
        summary = run(db)
        assert (summary["status"], summary["errors"], summary["rows"]) == ("done", [], 20)
        assert server.wait(2)[1]["body"]["status"] == "done"


def test_notified_over_tls(broken, tmp_path):
    """The same over https, to a server whose certificate a company's own authority has signed; one
    that is not trusted gets nothing, and the run has done its work all the same."""
    authority = Authority(tmp_path)
    command = [sys.executable, "-c", NIGHT, str(broken), str(LIBRARY.with_suffix(""))]

    def night(server, **environment):
        environment = {**os.environ, "ARCHIVE_NOTIFY_URL": server.url, **environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return json.loads(done.stdout)

    with Receiver(authority) as server:
        summary = night(server, **authority.trust)
        assert summary["notification"] == "sent"
        (message,) = server.wait()
        assert_one_failed(message["body"])
        assert "was not notified" in night(server)["notification"]["error"]
        assert len(server.received) == 1
    assert_three_archived(broken)


def test_exit_status_of_the_script(four):
    """The shell's exit status tells success from failure, and stderr which table it was."""
    done = shell(four, "nightly.sql")
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert summary["status"] == "done" and summary["rows"] == 80


def test_exit_status_of_a_failure(broken):
    """One table fails: the exit status is not 0, the others are archived."""
    done = shell(broken, "nightly.sql")
    assert done.returncode != 0 and "archive_run: rule_logs: " in done.stderr
    assert not any(table in done.stderr for table in FOUR if table != "rule_logs")
    assert_three_archived(broken)


def test_priority_and_enabled(db):
    """The least priority goes first, then the name; what is not enabled does not go."""
    for table in "abcde":
        fill(db, table)
    db.execute("SELECT archive_config('grace_hours', 0)")
    policy(db, "a", 7, priority=3)
    policy(db, "b", 7, priority=-1)
    policy(db, "c", 7)
    policy(db, "d", 7, priority=3)
    policy(db, "e", 7, priority=1, enabled=False)
    assert list(by_table(run(db))) == ["b", "a", "d", "c"]
    assert (count(db, "e"), count(db, "all_a")) == (23, 23)
    policy(db, "e", 7, priority=1)
    assert list(by_table(run(db))) == ["b", "e", "a", "d", "c"]
    assert count(db, "e") == 3
    db.execute("SELECT archive_policy_drop('b')")
    assert list(by_table(run(db))) == ["e", "a", "d", "c"] and count(db, "all_b") == 23


def days_ago(db, table, days):
    """A table with one row from so many days ago, at noon, and a new one."""
    fill(db, table, old=0, new=1)
    sql = f"INSERT INTO {table} (created_at) SELECT strftime('%Y-%m-%dT12:00:00Z', 'now', ?)"
    db.executemany(sql, [[f"-{day} days"] for day in days])


def test_days_from_the_environment(db, monkeypatch):
    """'env:NAME' is looked up when a run begins: archive_config before the environment before the
    default; a variable of one's own has to be set, to a number."""
    days_ago(db, "t", [3, 5, 9])
    days_ago(db, "own", [3, 5])
    monkeypatch.delenv("HOT_DAYS_TASK", raising=False)
    monkeypatch.setenv("MY_DAYS", "4")
    policy(db, "t", "env:HOT_DAYS_TASK", grace_hours=0)
    assert policy(db, "own", "env:MY_DAYS", grace_hours=0)["hot_days"] == 4
    assert run(db)["rows"] == 2 and (count(db, "t"), count(db, "own")) == (3, 2)
    monkeypatch.setenv("HOT_DAYS_TASK", "4")
    assert run(db)["rows"] == 1 and count(db, "t") == 2
    db.execute("SELECT archive_config('hot_days_task', 2)")
    assert run(db)["rows"] == 1 and count(db, "t") == 1
    assert count(db, "all_t") == 4
    db.execute("SELECT archive_config('hot_days_task', NULL)")
    monkeypatch.setenv("HOT_DAYS_TASK", "soon")
    monkeypatch.delenv("MY_DAYS")
    tables = by_table(run(db))
    assert "hot_days_task" in tables["t"]["error"] and "soon" in tables["t"]["error"]
    assert "MY_DAYS is not set" in tables["own"]["error"]
    for wrong in ("env:MY_DAYS", "env:", "env:HOT_DAYS_TASK", "env:ARCHIVE_BATCH_SIZE", "7"):
        with pytest.raises(sqlite3.OperationalError, match="^archive_policy: "):
            policy(db, "own", wrong)


def test_without_a_backup_nothing_moves(db, path):
    """A backup that cannot be made stops the run before any row moves; without one it goes on."""
    fill(db, "t")
    policy(db, "t", 7, grace_hours=0)
    (path.parent / "backup").write_text("not a folder")
    summary = run(db)
    assert (
        summary["status"] == "failed"
        and summary["tables"] == []
        and "backup" in summary["errors"][0]
    )
    assert summary["backup"]["error"] in summary["errors"][0]
    assert count(db, "t") == 23
    with pytest.raises(sqlite3.OperationalError, match="^archive_run: no backup"):
        run(db, on_error="fail")
    assert run(db, backup=False)["rows"] == 20


def test_the_backup_is_from_before(db, path):
    """The backup has the rows hot that the run makes cold."""
    fill(db, "t")
    policy(db, "t", 7, grace_hours=0)
    backup = run(db)["backup"]["path"]
    with closing(sqlite3.connect(backup)) as plain:
        assert count(plain, "t") == 23
    assert count(db, "t") == 3


def test_vacuum_runs_or_says_why(db, path):
    """The pages go back to the disk, unless that was not asked for, a reader is in the way (here the
    statement itself), or it is not worth it; none of these is an error."""
    fill(db, "t", old=2500)
    policy(db, "t", 7, grace_hours=0)
    summary = run(db, vacuum=False)
    assert summary["rows"] == 2500 and "not asked" in summary["vacuum"]["skipped"]
    (text,) = db.execute("SELECT archive_run() FROM t LIMIT 1").fetchone()
    busy = json.loads(text)
    reason = "a query of this connection is not finished"
    assert (busy["status"], busy["vacuum"]["skipped"]) == ("done", reason)
    before = path.stat().st_size
    assert run(db)["vacuum"]["bytes_after"] == path.stat().st_size < before
    assert "pages are free" in run(db)["vacuum"]["skipped"]


def test_a_dead_address_does_not_matter(db, monkeypatch):
    """An address where nobody listens, or that nobody can reach, or that takes the message and never
    answers, fails no run and takes seconds at most."""
    fill(db, "t")
    policy(db, "t", 7, grace_hours=0)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        for url in (
            f"http://127.0.0.1:{port}/x",
            "http://127.0.0.1:1/x",
            "http://no.invalid/",
            "ftp:x",
        ):
            monkeypatch.setenv("ARCHIVE_NOTIFY_URL", url)
            began = time.monotonic()
            summary = run(db, backup=False)
            assert time.monotonic() - began < 15, url
            assert "ARCHIVE_NOTIFY_URL" in summary["notification"]["error"]
            assert (summary["status"], summary["errors"]) == ("done", [])
    assert (count(db, "t"), count(db, "all_t")) == (3, 23)


@pytest.mark.parametrize("where", ["environment", "config"])
def test_the_master_switch(path, monkeypatch, where):
    """Off: no run moves anything or makes a backup, every query works, and archive_table works when
    it is called by hand."""
    with closing(connect(path)) as db:
        for table in ("t", "u"):
            fill(db, table)
            policy(db, table, 7, grace_hours=0)
        archive(db, "t", 7)
        if where == "config":
            db.execute("SELECT archive_config('auto_archive_enabled', 'false')")
    if where == "environment":
        monkeypatch.setenv("AUTO_ARCHIVE_ENABLED", "false")
    monkeypatch.setenv("CLEANUP_CRON_TIMES", "* * * * * *")
    before = dump(path)
    with closing(connect(path)) as db:
        summary = run(db)
        assert summary["status"] == "skipped" and "auto_archive_enabled" in summary["reason"]
        assert run(db, on_error="fail")["tables"] == []
        assert not json.loads(db.execute("SELECT archive_schedule()").fetchone()[0])["times"]
        assert dump(path) == before
        assert (count(db, "cold_t"), count(db, "all_t"), count(db, "u")) == (20, 23, 23)
        newest = "SELECT v FROM all_t ORDER BY id DESC LIMIT 2"
        assert db.execute(newest).fetchall() == [("t 22",), ("t 21",)]
        for listing in ("archive_status", "archive_history", "archive_files('t')"):
            assert count(db, listing) > 0
        assert archive(db, "u", 7)["rows"] == count(db, "cold_u") == 20
    done = shell(
        path, "nightly.sql", AUTO_ARCHIVE_ENABLED=os.environ.get("AUTO_ARCHIVE_ENABLED", "")
    )
    assert done.returncode == 0 and "skipped" in done.stdout


def test_dry_run_changes_nothing(db, path):
    """A dry run says what would move, to the row; only its own line in the history is new."""
    fill(db, "t")
    fill(db, "u", old=5)
    policy(db, "t", 7, grace_hours=0)
    policy(db, "u", 7, grace_hours=0, priority=1)
    before, files = dump(path)
    summary = run(db, dry_run=True)
    assert summary["dry_run"] and [t["rows"] for t in summary["tables"]] == [5, 20]
    after, files_after = dump(path)
    assert files_after == files and not set(before) - set(after)
    new = [line for line in after if line not in before]
    assert all(line.startswith("INSERT INTO") for line in new), new
    assert {line.split('"')[1] for line in new} <= {"_archive_run", "sqlite_sequence"}
    assert run(db)["rows"] == 25


def test_not_inside_a_transaction(db, path):
    """A backup and a VACUUM cannot be part of the caller's transaction: the call is refused."""
    fill(db, "t")
    policy(db, "t", 7, grace_hours=0)
    before = dump(path)
    for begin in ("BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT s"):
        db.execute(begin)
        with pytest.raises(sqlite3.OperationalError, match="archive_run.* inside a transaction"):
            run(db)
        db.execute("ROLLBACK")
    assert dump(path) == before


def test_bad_options(db, path):
    """What is not known or of the wrong type is an error that names it, and nothing has happened."""
    fill(db, "t")
    policy(db, "t", 7, grace_hours=0)
    before = dump(path)
    wrong = (
        {"tables": ["t"]},
        {"backup": "maybe"},
        {"vacuum": 3},
        {"dry_run": []},
        {"on_error": "x"},
    )
    for options in wrong:
        with pytest.raises(
            sqlite3.OperationalError, match=f"^archive_run: .*{next(iter(options))}"
        ):
            run(db, **options)
    for text in ("[]", "{", 7):
        with pytest.raises(sqlite3.OperationalError, match="^archive_run: "):
            db.execute("SELECT archive_run(?)", [text]).fetchall()
    assert dump(path) == before


def test_a_table_that_has_gone(db):
    """A policy for a table that has vanished fails by itself, with the way out."""
    for table in ("gone", "t"):
        fill(db, table)
        policy(db, table, 7, grace_hours=0)
    db.execute("DROP TABLE gone")
    summary = run(db)
    assert (
        summary["rows"] == 20
        and "archive_policy_drop('gone')" in by_table(summary)["gone"]["error"]
    )
    sql = """SELECT status FROM archive_history WHERE "table" = 'gone'"""
    assert db.execute(sql).fetchall() == [("failed",)]
    db.execute("SELECT archive_policy_drop('gone')")
    assert run(db)["errors"] == []


def test_status_and_history(db):
    """The listings have their columns, and the numbers of what was done."""
    fill(db, "t")
    fill(db, "u")
    policy(db, "t", 7, grace_hours=0)
    policy(db, "u", 7, priority=5)
    summary = run(db)
    cursor = db.execute("SELECT * FROM archive_status")
    names = [column[0] for column in cursor.description]
    t, u = (dict(zip(names, row)) for row in cursor)
    expected = {"table": "t", "hot_rows": 3, "cold_rows": 20, "staged_rows": 0, "files": 9}
    assert expected.items() <= t.items()
    bytes = by_table(summary)["t"]["parquet_bytes"]
    assert t["cold_bytes"] == bytes > 0 and t["compression_ratio"] is not None
    assert (t["oldest"][:10], t["newest"][:10]) == ("2024-01-01", "2024-01-09")
    expected = {"hot_days": 7, "priority": 100, "enabled": True, "options": {"grace_hours": 0}}
    assert json.loads(t["policy"]) == expected and t["last_run"]
    assert (u["hot_rows"], u["cold_rows"], u["staged_rows"], u["files"]) == (23, 0, 20, 0)
    assert json.loads(u["policy"])["priority"] == 5
    cursor = db.execute("SELECT * FROM archive_history")
    names = [column[0] for column in cursor.description]
    runs = [dict(zip(names, row)) for row in cursor]
    assert [(r["operation"], r["table"]) for r in runs] == [
        ("archive", "t"),
        ("archive", "u"),
        ("nightly", None),
    ]
    moved = runs[0]
    assert (moved["planned_rows"], moved["rows"], moved["files"]) == (20, 20, 9)
    assert moved["bytes"] == by_table(summary)["t"]["parquet_bytes"]
    assert (
        moved["started_at"] <= moved["finished_at"] and moved["cutoff"] and moved["error"] is None
    )
    assert runs[1]["rows"] == 0 and {r["status"] for r in runs} == {"done"}


def test_progress_of_a_running_archive(db, path):
    """Another connection sees how many rows a run is to move, and how many it has, while it runs."""
    fill(db, "t", old=600)
    policy(db, "t", 7, grace_hours=0, batch_size=20, pause_ms=40)
    command = [sys.executable, "-c", NIGHT, str(path), str(LIBRARY.with_suffix(""))]
    seen = set()
    sql = """SELECT planned_rows, rows, status FROM archive_history WHERE "table" = 't'"""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as night:
        while night.poll() is None:
            seen.update(db.execute(sql).fetchall())
        assert json.loads(night.stdout.read())["rows"] == 600
    on_the_way = {rows for planned, rows, status in seen if status == "running" and planned == 600}
    assert len(on_the_way - {0, 600}) >= 5, seen
    assert db.execute(sql).fetchall() == [(600, 600, "done")]


def elapsed(db, **options):
    """How long a run takes that has rows to move, and its summary."""
    policy(db, "t", 7, grace_hours=0, **options)
    began = time.monotonic()
    summary = run(db, backup=False, vacuum=False)
    return time.monotonic() - began, summary


def test_throttles(db):
    """A limit of rows in a second, and a pause after each transaction, are kept."""
    fill(db, "t", old=100)
    seconds, summary = elapsed(db, max_rows_per_second=80)
    assert summary["rows"] == 100 and seconds > 1.1
    db.execute("UPDATE t SET created_at = '2024-02-01' WHERE id > 100")
    db.execute("INSERT INTO t (created_at) VALUES ('2024-02-01'), ('2024-02-01')")
    seconds, summary = elapsed(db, batch_size=1, pause_ms=150)
    assert summary["rows"] == 5 and seconds > 0.7
    db.execute("SELECT archive_config('pause_ms', 400)")
    db.execute("INSERT INTO t (created_at) VALUES ('2024-02-01'), ('2024-02-01')")
    seconds, summary = elapsed(db, batch_size=1)
    assert summary["rows"] == 2 and seconds > 0.7


def test_workers_change_nothing(db, path, tmp_path, monkeypatch):
    """With no thread of its own or with four a run writes the same rows to files for the same days."""
    fill(db, "t", old=2000)
    policy(db, "t", 7, grace_hours=0)
    db.close()
    written = []
    for workers in ("0", "1", "4"):
        monkeypatch.setenv("ARCHIVE_MAX_WORKERS", workers)
        folder = tmp_path / workers
        folder.mkdir()
        shutil.copy(path, folder)
        with closing(connect(folder / path.name)) as copy:
            assert run(copy)["rows"] == 2000
        files = (folder / "archive" / "parquet").rglob("*.parquet")
        tables = {
            file.parent.name: pyarrow.parquet.ParquetFile(file).read().to_pylist() for file in files
        }
        written.append(tables)
    assert written[0] == written[1] == written[2] and len(written[0]) == 9
