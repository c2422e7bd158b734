"""Files and catalogs of an attacker, made at random from honest ones; `make hostile` tries many more.

The programs are in tests/hostile. Each says by which seed it made what breaks a promise."""

import os
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT

FOLDER = ROOT / "tests/hostile"
# How many times more than in `make test`.
TIMES = int(os.environ.get("HOSTILE_TIMES", 1))


def run(program, count, seed, folder):
    """Runs a program, whose end is its own: a crash is a failure."""
    pathlib.Path(folder).mkdir(exist_ok=True)
    arguments = [str(count * TIMES), str(seed), str(folder)]
    command = [sys.executable, FOLDER / program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    print(result.stdout)
    last = (folder / "seed").read_text().strip()
    assert result.returncode == 0, f"seed {last}: {result.returncode}\n{result.stderr[-3000:]}"


def test_changed_files_are_read_within_bounds():
    """Read by the library's own reader, in a program that counts the memory in use."""
    command = [ROOT / "dist/hostile", "read", str(2000 * TIMES), "1"]
    result = subprocess.run(command, capture_output=True, text=True)
    print(result.stdout)
    assert result.returncode == 0, f"{result.returncode}\n{result.stderr[-3000:]}"


@pytest.mark.parametrize("seed", [1, 500_000_000])
def test_changed_files_are_errors_or_answers(tmp_path, seed):
    """Through SQLite: queried, verified and restored."""
    run("files.py", 300, seed, tmp_path)


@pytest.mark.parametrize("seed", [1, 500_000_000])
def test_changed_catalogs_are_errors_or_answers(tmp_path, seed):
    """No call crashes, hangs, touches a file elsewhere or loses a hot row."""
    run("catalogs.py", 300, seed, tmp_path)
