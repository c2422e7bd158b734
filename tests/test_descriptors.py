"""A process that may open few files reads many of them."""

import json

import pytest
from conftest import LIBRARY, archive, connect, needs_duckdb, process

pytest.importorskip("resource")

FILES = 150
# Lowers the limit and runs a query.
CHILD = """
import json, resource, sqlite3, sys
path, library, limit, sql = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
db = sqlite3.connect(path)
db.enable_load_extension(True)
db.load_extension(library)
print(json.dumps(db.execute(sql).fetchall()))
"""


@pytest.fixture(scope="module")
def many_files(tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "test.db"
    db = connect(path)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, v INTEGER)")
    db.execute(
        """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
           INSERT INTO t SELECT i, date('2020-01-01', i || ' days'), i FROM n""",
        [FILES],
    )
    assert archive(db, "t", 7)["files"] == FILES
    db.close()
    return path


def read(path, limit, sql):
    with process(CHILD, path, LIBRARY.with_suffix(""), limit, sql) as child:
        answer, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    return json.loads(answer)


def test_a_scan(many_files):
    answer = read(many_files, 20, "SELECT count(*), sum(v) FROM all_t")
    assert answer == [[FILES, FILES * (FILES + 1) // 2]]


@needs_duckdb
def test_a_report(many_files, monkeypatch):
    """DuckDB opens files ahead of what it reads, a few for each of its threads."""
    monkeypatch.setenv("ARCHIVE_MAX_WORKERS", "2")
    sql = "SELECT row FROM archive_query('SELECT count(*) AS n, sum(v) AS v FROM all_t')"
    ((row,),) = read(many_files, 40, sql)
    assert json.loads(row) == {"n": FILES, "v": FILES * (FILES + 1) // 2}
