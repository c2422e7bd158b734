"""Whole numbers given as REALs, as drivers for JavaScript give all of them."""

import json
import sqlite3

import pytest
from conftest import archive
from test_nightly import fill, policy, run


def number_options(value):
    """Options of archive_table that are whole numbers; each has this value or one that it can have."""
    keys = ["batch_size", "compression_level", "grace_hours", "pause_ms", "max_rows_per_second"]
    return [*({key: value} for key in keys), {"expire_days": 5000 + value}]


def test_seven_is_seven(db):
    """hot_days, options of each kind, settings and policies: 7.0 is 7, and is stored so."""
    fill(db, "t")
    assert archive(db, "t", 7.0, {"dry_run": True})["rows"] == 20
    for options in number_options(7.0):
        assert archive(db, "t", 7.0, {"dry_run": 1.0, **options})["dry_run"] is True
    assert archive(db, "t", 7.0, {"dry_run": 0.0})["rows"] == 20
    restored = {"batch_size": 7.0, "pause_ms": 0.0, "max_rows_per_second": 0.0}
    sql = "SELECT archive_restore('t', ?) ->> 'rows'"
    assert db.execute(sql, [json.dumps(restored)]).fetchone() == (20,)
    gc = db.execute("SELECT archive_gc('{\"retention_days\":7.0,\"dry_run\":0.0}')").fetchone()
    assert json.loads(gc[0])["retention_days"] == 7

    made = policy(db, "t", 7.0, priority=3.0, enabled=1.0, batch_size=7.0, grace_hours=0.0)
    assert repr((made["hot_days"], made["priority"])) == "(7, 3)"
    stored = "SELECT typeof(hot_days), typeof(priority), typeof(enabled) FROM _archive_policy"
    assert db.execute(stored).fetchone() == ("integer",) * 3
    assert run(db, backup=0.0, vacuum=0.0)["rows"] == 20

    def shown(*arguments):
        marks = ", ".join("?" * len(arguments))
        (text,) = db.execute(f"SELECT archive_config({marks})", arguments).fetchone()
        return json.loads(text)["value"]

    for key, value in (("batch_size", 7.0), ("backup_keep", 0.0), ("hot_days_task", 9.0)):
        assert shown(key, value) == value and "." not in json.dumps(shown(key))
    assert shown("query_cache_enabled", 0.0) is False
    assert shown("query_cache_enabled", 1.0) is True


def test_numbers_in_the_catalog(db):
    """Written there as REALs by hand."""
    fill(db, "t")
    policy(db, "t", 7)
    db.execute("SELECT archive_config('batch_size', 5)").fetchall()
    db.execute("UPDATE _archive_policy SET hot_days = 7.0")
    db.execute("UPDATE _archive_config SET value = 7.0")
    assert run(db, backup=False, vacuum=False)["tables"][0]["staged"] == 20
    (text,) = db.execute("SELECT archive_config('batch_size')").fetchone()
    assert json.loads(text)["value"] == 7
    db.execute("UPDATE _archive_policy SET hot_days = 7.5")
    assert "whole number" in run(db, backup=False, vacuum=False)["errors"][0]


def test_what_is_not_whole(db):
    """7.5, and what is too large, is refused; infinity is not NULL, which would take the setting back."""
    fill(db, "t")
    db.execute("SELECT archive_config('batch_size', 5)").fetchall()
    for wrong in (7.5, 1e300, -7.0, 9e999):
        calls = [("archive_table", "t", wrong), ("archive_config", "batch_size", wrong)]
        calls += [("archive_policy", "t", wrong)]
        if wrong != 9e999:
            calls += [("archive_table", "t", 7, json.dumps(o)) for o in number_options(wrong)[:-1]]
        for function, *arguments in calls:
            marks = ", ".join("?" * len(arguments))
            with pytest.raises(sqlite3.OperationalError, match=f"^{function}: .*number|negative"):
                db.execute(f"SELECT {function}({marks})", arguments).fetchall()
    (text,) = db.execute("SELECT archive_config('batch_size')").fetchone()
    assert json.loads(text)["value"] == 5
    with pytest.raises(sqlite3.OperationalError, match="expire_days must be a whole number"):
        archive(db, "t", 7, {"expire_days": 5000.5})
    with pytest.raises(sqlite3.OperationalError, match="priority must be a whole number"):
        policy(db, "t", 7, priority=1.5)
