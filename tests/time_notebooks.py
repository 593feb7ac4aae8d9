"""Measure how long notebooks run, for `keyreid lessons`; the times go to tests/seconds.json.

    python tests/time_notebooks.py                      all of the book, in a quarter of an hour
    python tests/time_notebooks.py nbs/0_start/*.ipynb  only these

Processor time on one thread is measured, so that a busy machine does not count.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from keyreid.runs.lessons import read_lessons
from keyreid.settings import atomic_write

ROOT = Path(__file__).resolve().parents[1]
SECONDS = ROOT / "tests" / "seconds.json"


def processor_seconds() -> float:
    "Time that processes started from here have used, and their own children."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(
    paths: list[Path],  # notebooks to run
) -> int:
    "Run notebooks and note their times; the number of those that failed."
    failed = 0
    for path in tqdm(paths):
        start = processor_seconds()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            ["nbdev-test", str(path)], env=environment, stdout=subprocess.DEVNULL, cwd=ROOT
        )
        if done.returncode:
            failed += 1
            continue
        known = json.loads(SECONDS.read_text()) if SECONDS.is_file() else {}
        known[path.stem] = round(processor_seconds() - start)
        with atomic_write(SECONDS) as new:
            new.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    return failed


if __name__ == "__main__":
    named = [Path(name).resolve() for name in sys.argv[1:]]
    sys.exit(main(named or [lesson.path for lesson in read_lessons(ROOT / "nbs")]))
