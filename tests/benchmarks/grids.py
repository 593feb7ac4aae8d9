"""Sixty runs, and everything that can happen to them; the outcome is counted, as JSON.

    python tests/benchmarks/grids.py grids_measured.json --jobs 2

Each run takes about six seconds of processor time, nearly all of it the start of Python and of a
kernel; sixty take some four minutes on two free cores. Three batches of the same grid:

    straight    nobody disturbs it
    killed      the process group of the starter is killed with -9 twice, one run with -9 once, and
                one starter gets Ctrl-C; started again each time
    shared      two starters at once, one of them killed with -9 alone in the middle

All three must end with the same table, each run ended once, and no run begun again unless it was
killed.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from test_grids import is_sound, rows, start, told, wait_for, write_grid

from keyreid.settings import atomic_write


def begun(grid: Path, n: int) -> None:
    "Wait until n runs have ended and another one is in the middle of its work."
    wait_for(lambda: told(grid, "end").total() >= n, f"{n} runs have ended", minutes=60)
    before = told(grid, "begin").total()
    wait_for(lambda: told(grid, "begin").total() > before, "another has begun")


def one_of(starter) -> psutil.Process:
    "A process of a starter that runs a run."
    children = psutil.Process(starter.pid).children()
    return children[-1]


def straight(grid: Path, out: Path, jobs: str, n: int) -> int:
    "Nobody disturbs the batch; how many runs were killed."
    assert start(grid, out, "--jobs", jobs).wait() == 1
    return 0


def killed(grid: Path, out: Path, jobs: str, n: int) -> int:
    "The batch is killed and stopped in four ways; how many runs were killed at most."
    for share in (0.1, 0.3):
        starter = start(grid, out, "--jobs", jobs)
        begun(grid, int(share * n))
        os.killpg(starter.pid, signal.SIGKILL)
        starter.wait()
    starter = start(grid, out, "--jobs", jobs)
    begun(grid, int(0.5 * n))
    one_of(starter).kill()
    begun(grid, int(0.7 * n))
    stopped = {str(child.pid) for child in psutil.Process(starter.pid).children()}
    os.kill(starter.pid, signal.SIGINT)
    assert starter.wait(60) == 130
    assert not any(psutil.pid_exists(int(pid)) for pid in stopped), "a run goes on after Ctrl-C"
    hidden = [path.name for path in out.glob(".*.partial") if path.name.split(".")[2] in stopped]
    assert not hidden, hidden
    assert start(grid, out, "--jobs", jobs).wait() == 1
    return 3 * int(jobs) + 1


def shared(grid: Path, out: Path, jobs: str, n: int) -> int:
    "Two starters at once, one of them killed alone; how many runs were killed."
    starters = [start(grid, out, "--jobs", jobs) for _ in range(2)]
    begun(grid, int(0.3 * n))
    starters[0].kill()  # its runs go on, and keep their claims
    assert starters[1].wait() == 1
    return 0


def main() -> None:
    "Run the three batches and compare them."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="where the numbers go, as JSON")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--jobs", default="2")
    asked, measured, tables = parser.parse_args(), {}, {}
    for batch in (straight, killed, shared):
        with tempfile.TemporaryDirectory() as folder:
            grid, out = write_grid(Path(folder), asked.runs, seconds=0.1), Path(folder) / "runs"
            began = time.monotonic()
            n_killed = batch(grid, out, asked.jobs, asked.runs)
            is_sound(grid, out, asked.runs, n_killed)
            measured[batch.__name__] = {
                "runs": asked.runs,
                "seconds": round(time.monotonic() - began),
                "begun": told(grid, "begin").total(),
                "ended": told(grid, "end").total(),
            }
            found = rows(grid, out).reset_index(drop=True)  # the list's place is part of the key
            tables[batch.__name__] = found.to_json(orient="records")
        print(batch.__name__, measured[batch.__name__], flush=True)
    assert len(set(tables.values())) == 1, "the tables differ"
    with atomic_write(asked.file) as temporary:
        temporary.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
