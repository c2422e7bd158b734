"""A migration tool that does not know the catalog's tables: alembic, as it comes and told to keep off."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from conftest import archive, connect

INI = """
[alembic]
script_location = migrations
sqlalchemy.url = sqlite:///test.db
"""

ENV = """
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, Text, engine_from_config, pool

metadata = MetaData()
Table("t", metadata, Column("id", Integer, primary_key=True), Column("ts", Text))


def include_name(name, type_, parent_names):
    return type_ != "table" or not name.startswith("_archive_")


engine = engine_from_config(
    context.config.get_section("alembic"), prefix="sqlalchemy.", poolclass=pool.NullPool
)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata OPTION)
    with context.begin_transaction():
        context.run_migrations()
"""

TEMPLATE = '''
from alembic import op
import sqlalchemy as sa

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}
'''


def call(db, sql):
    return json.loads(db.execute(f"SELECT {sql}").fetchone()[0])


def migrate(folder, *arguments):
    command = [sys.executable, "-m", "alembic", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)


def autogenerate(folder, option):
    """What a developer runs after a change of the models: here there is none."""
    migrations = folder / "migrations"
    (migrations / "versions").mkdir(parents=True)
    (folder / "alembic.ini").write_text(INI)
    (migrations / "env.py").write_text(ENV.replace(" OPTION", option))
    (migrations / "script.py.mako").write_text(TEMPLATE)
    migrate(folder, "revision", "--autogenerate", "-m", "change")
    migrate(folder, "upgrade", "head")
    (script,) = (migrations / "versions").glob("*.py")
    return script.read_text()


@pytest.fixture
def archived(path):
    """A database with cold rows, some of which came back, a policy, and the files' names."""
    with closing(connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY NOT NULL, ts TEXT)")
        days = [(f"20{year}-{month:02}-01",) for year in range(18, 24) for month in range(1, 13)]
        db.executemany("INSERT INTO t (ts) VALUES (?)", days)
        archive(db, "t", None, {"before": "2023-01-01"})
        call(db, "archive_restore('t', '{\"from\":\"2020-01-01\",\"to\":\"2020-04-01\"}')")
        call(db, "archive_policy('t', 1000)")
        rows = db.execute("SELECT * FROM all_t ORDER BY id").fetchall()
    assert len(rows) == 72
    return rows


def files(path):
    return sorted((path.parent / "archive").rglob("*.parquet"))


def test_alembic_as_it_comes(path, archived):
    """It drops the catalog. Nothing is removed, everything says what to do, and all rows come back."""
    before = files(path)
    assert len(before) == 60
    assert "op.drop_table('_archive_file')" in autogenerate(path.parent, "")
    with closing(sqlite3.connect(path)) as plain:
        names = plain.execute("SELECT name FROM sqlite_schema WHERE name LIKE '~_archive%' ESCAPE '~'")
        assert names.fetchall() == []
    for _ in range(5):
        with closing(connect(path)) as db:
            for sql in ("archive_policy('t', 1000)", "archive_run()"):
                with pytest.raises(sqlite3.OperationalError, match=r"57 rows .* archive_recover\(\)"):
                    call(db, sql)
        assert files(path) == before
    with closing(connect(path)) as db:
        done = call(db, "archive_recover()")
        assert (done["rows"], done["problems"], done["new_files"]) == (57, [], 0)
        assert db.execute("SELECT * FROM all_t ORDER BY id").fetchall() == archived
        assert call(db, "archive_run('{\"backup\":false}')")["status"] == "done"
        assert db.execute("SELECT * FROM all_t ORDER BY id").fetchall() == archived


def test_alembic_that_keeps_off(path, archived):
    """With the README's `include_name` it does not see the catalog's tables."""
    script = autogenerate(path.parent, ", include_name=include_name")
    assert "_archive_" not in script and "pass" in script
    with closing(connect(path)) as db:
        assert db.execute("SELECT * FROM all_t ORDER BY id").fetchall() == archived
        assert call(db, "archive_run('{\"backup\":false}')")["status"] == "done"
