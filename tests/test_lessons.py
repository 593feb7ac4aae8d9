"""Notes on solved exercises: made by readers' kernels, also at once, and by nobody else."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

CELLS = """from keyreid.practice import check
def twice(x): return 2 * x
def my_half(x): return x / 2
def judge(answer): return answer(3) == 6
for i in range({first}, {first} + 12):
    exec(f"def my_{{i}}(x): return x + x")
    check(globals()[f"my_{{i}}"], twice, (2,), (0.5,))
check(my_half, twice, (0,), (1,))
check(twice, twice, (1,))
my_5 = twice
check(judge, lambda answer: True, (my_half,))"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "Where a reader's solved exercises go, in a folder that is not there yet."
    monkeypatch.setenv("KEYREID_LESSONS", str(tmp_path / "deep" / "lessons.json"))
    monkeypatch.delenv("IN_TEST", raising=False)
    return tmp_path / "deep" / "lessons.json"


def read_book(code: str) -> str:
    "Run a cell as JupyterLab does, in a kernel; what the last line showed."
    notebook = new_notebook(cells=[new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    return nbformat.from_dict(notebook).cells[0].outputs[-1].data["text/plain"]


def test_two_kernels_lose_nothing(notes: Path):
    with ThreadPoolExecutor(2) as pool:
        shown = list(pool.map(read_book, (CELLS.format(first=0), CELLS.format(first=7))))
    assert all("judge(my_half): expected True, got False" in text for text in shown)
    solved = json.loads(notes.read_text())
    assert solved.keys() == {f"my_{i} = twice" for i in range(19)}
    assert len(set(solved.values())) == 1


@pytest.mark.parametrize("who", ["a script", "a kernel under test"])
def test_nothing_is_noted_for(who: str, notes: Path, monkeypatch: pytest.MonkeyPatch):
    home = notes.parent.parent / "home"
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    if who == "a script":
        subprocess.run([sys.executable, "-c", CELLS.format(first=0)], check=True)
    else:
        monkeypatch.setenv("IN_TEST", "1")
        assert "got False" in read_book(CELLS.format(first=0))
    assert not notes.exists() and not home.exists()


def test_the_command_finds_book_and_notes(notes: Path, root: Path, tmp_path: Path):
    notes.parent.mkdir()
    notes.write_text('{"my_gaps = gaps": "2026-03-31"}')
    command = [sys.executable, "-c", "from keyreid.runs.cli import app; app()", "lessons"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    for place in (root / "nbs" / "1_data", tmp_path):  # in the book, and beside the package
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        line = next(line for line in done.stdout.splitlines() if " Practice " in line)
        assert "1 of 2" in line and str(notes) in done.stdout
