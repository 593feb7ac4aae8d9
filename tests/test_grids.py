"""Batches of runs as processes among others: killed, started twice, shared with snakemake.

Runs that take no time, started as a person starts them. Each writes into a list when it begins and
when it ends, so the list says what was really run. tests/benchmarks/grids.py does the same with
sixty runs, more deaths and two starters.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from keyreid.runs.batches import RunBatch
from keyreid.runs.grids import read_grid
from keyreid.runs.tables import table

ROOT = Path(__file__).resolve().parents[1]
GRIDS = ROOT / "nbs" / "experiments" / "grids"
COMMAND = [sys.executable, "-c", "from keyreid.runs.cli import app; app()", "runs"]
STARTED: list[subprocess.Popen] = []
CELLS = [
    "x: int = 0\nseed: int = 0\nlist: str = ''\nseconds: float = 0.0\nout: str = ''",
    "import json\nimport time\nfrom pathlib import Path\n\n\ndef tell(word):\n"
    "    with open(list, 'a') as file:\n        file.write(f'{word} {x} {seed}\\n')",
    "tell('begin')\ntime.sleep(seconds)\nassert (x, seed) != (3, 1), 'too large'",
    "file = open(Path(out, 'result.json'), 'w')\nfile.write('{')\nfile.flush()",
    "time.sleep(seconds)\nfile.write(json.dumps({'mAP': 1 / (1 + x + seed)})[1:])\nfile.close()",
    "tell('end')",
]


def write_grid(folder: Path, n: int, seconds: float = 0.0) -> Path:
    "A grid of n runs of an experiment that writes its result in two halves; one of them fails."
    book = new_notebook(cells=[new_code_cell(cell) for cell in CELLS])
    book.cells[0].metadata["tags"] = ["parameters"]
    book.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "-"}
    nbformat.write(book, folder / "tiny.ipynb")
    fixed = {"list": str(folder / "list.txt"), "seconds": seconds}
    content = {"notebook": "tiny.ipynb", "parameters": fixed}
    content |= {"grid": {"x": list(range(n // 2))}, "seeds": [0, 1], "runs": n}
    (folder / "tiny.yaml").write_text(json.dumps(content))  # JSON is YAML
    return folder / "tiny.yaml"


def start(grid: Path, out: Path, *options: str) -> subprocess.Popen:
    "A starter of the batch, in a process group of its own."
    words = [*COMMAND, "start", str(grid), "--out", str(out), *options]
    with open(grid.with_name(f"starter{time.monotonic_ns()}.txt"), "w") as log:
        STARTED.append(subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True))
    return STARTED[-1]


@pytest.fixture(autouse=True)
def no_starter_is_left():
    "Ends the starters of a test that failed."
    yield
    while STARTED:
        starter = STARTED.pop()
        if starter.poll() is None:
            starter.terminate()
            starter.wait(120)


def wait_for(condition: Callable, what: str, minutes: float = 10):
    "The first result of the condition that is true."
    deadline = time.monotonic() + 60 * minutes
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {minutes} minutes"
        time.sleep(0.02)
    return found


def told(grid: Path, word: str) -> Counter:
    "How often each run has written a word into the list."
    file = grid.with_name("list.txt")
    lines = file.read_text().splitlines() if file.exists() else []
    return Counter(line.removeprefix(word) for line in lines if line.startswith(word))


def rows(grid: Path, out: Path) -> pd.DataFrame:
    "The table of a batch, without how long it took."
    return table(RunBatch(read_grid(grid), out)).drop(columns="seconds")


def is_sound(grid: Path, out: Path, n: int, n_killed: int) -> None:
    "Every run but the one that fails is done once, and at most `n_killed` were begun again."
    found = rows(grid, out)
    assert found.state.value_counts().to_dict() == {"done": n - 1, "failed": 1}
    bad = found[(found.x == 3) & (found.seed == 1)]
    assert "AssertionError: too large" in bad.error.iloc[0]
    assert (found.mAP.dropna() == 1 / (1 + found.x + found.seed)[found.mAP.notna()]).all()
    ends, begins = told(grid, "end"), told(grid, "begin")
    assert len(begins) == n and len(ends) == n - 1
    assert begins.total() <= n + n_killed, begins
    left = [p.name for p in out.iterdir() if p.suffix in (".partial", ".old")]
    assert not left, left


def test_a_batch_survives_a_kill(tmp_path: Path):
    "Everything is killed in the middle; the next start does the rest; snakemake adds to it."
    grid, out = write_grid(tmp_path, 8, seconds=0.2), tmp_path / "runs"
    starter = start(grid, out, "--jobs", "2")
    wait_for(lambda: told(grid, "end").total() >= 2, "two runs have ended")
    begun = told(grid, "begin").total()
    wait_for(lambda: told(grid, "begin").total() > begun, "another has begun")
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    wait_for(lambda: "running" not in set(rows(grid, out).state), "the claims are gone")
    done = rows(grid, out).query("state == 'done'")
    assert 2 <= len(done) < 8

    starter = start(grid, out, "--jobs", "2")
    assert starter.wait(1500) == 1  # one run fails
    is_sound(grid, out, n=8, n_killed=2)
    begins = told(grid, "begin")
    assert all(begins[f" {run.x} {run.seed}"] == 1 for run in done.itertuples()), begins
    whole, n_begun = rows(grid, out), told(grid, "begin").total()
    assert start(grid, out).wait(1500) == 1
    assert told(grid, "begin").total() == n_begun  # all done or failed: nothing to do

    if importlib.util.find_spec("snakemake") is None:
        pytest.skip("snakemake is not installed, see the extra sweep")
    again = [run for run in read_grid(grid).runs if run.values["x"] == 3]
    for run in again:  # the failed one and its neighbour are to be run anew
        for folder in (RunBatch(read_grid(grid), out).folder(run), out / f"{run.key}.failed"):
            if folder.exists():
                folder.rename(tmp_path / folder.name)
    words = ["-m", "snakemake", "-s", GRIDS / "sweep" / "Snakefile", "--profile"]
    words += [GRIDS / "sweep" / "laptop", "--config", f"grid={grid}", f"out={out}"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env={**os.environ, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # the same run fails
    pd.testing.assert_frame_equal(rows(grid, out), whole)
    assert told(grid, "begin").total() == n_begun + 2


# --- the grids that are shipped ---

SHIPPED = sorted(GRIDS.glob("*.yaml"))


def test_every_experiment_of_the_papers_has_a_grid():
    notebooks = {run.notebook.stem for path in SHIPPED for run in read_grid(path).runs[:1]}
    papers = {path.stem for path in (ROOT / "nbs" / "experiments").glob("*.ipynb")}
    papers -= {"quickstart", "difficulty", "results"}
    papers = {name for name in papers if name.startswith(("keyreid_", "pose_", "ablation"))}
    assert papers - notebooks == set()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_grid_is_what_it_says(path: Path):
    "It loads, its notebook takes its parameters, and count and cost are as stated."
    grid = read_grid(path)  # checks every name, every value and the number of runs
    assert "\nruns:" in path.read_text(), "say how many runs there are"
    cost = grid.cost
    assert {"seconds", "hours", "device", "measured"} <= set(cost), "say what it costs"
    if cost["seconds"] is None:
        assert cost["hours"] is None and "never run" in cost["measured"]
    else:
        assert abs(cost["hours"] - len(grid.runs) * cost["seconds"] / 3600) < 0.06 * cost["hours"]
    assert {run.notebook.is_file() for run in grid.runs} == {True}
