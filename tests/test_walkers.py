"""Walkers as files: the same bytes from two processes, the same pictures as those stored."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keyreid.data.drawing import background
from keyreid.data.readers import read_mars
from keyreid.data.walkers import Walkers, cameras, draw_track, walker_tracks, write_walkers

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample"
STORED = Path(__file__).with_name("sample_frames.npz")  # before any JPEG
SMALL = Walkers(n_train=2, n_test=2, n_cams=2, n_frames=(3, 4), n_distractors=1, n_junk=1)


def digest(root: Path) -> str:
    "One number for all files of a benchmark but the day it was made."
    total = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.name == "meta.json":
            content = json.dumps({**json.loads(content), "date": ""}).encode()
        elif path.suffix == ".mat":  # its header holds the time of writing
            content = content[128:]
        total.update(path.relative_to(root).as_posix().encode() + content)
    return total.hexdigest()


@pytest.mark.parametrize("layout", ["mars", "ilids_vid"])
def test_two_processes_write_the_same_bytes(tmp_path, layout):
    roots = []
    for n_threads in ("1", "2"):
        roots.append(tmp_path / f"threads{n_threads}")
        code = (
            "from keyreid.data.walkers import write_walkers;"
            f"write_walkers({str(roots[-1])!r}, {layout!r}, n_ids=3, n_cams=2, seed=5)"
        )
        environment = os.environ | {"OMP_NUM_THREADS": n_threads}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert digest(roots[0]) == digest(roots[1])


AT_ONCE = """
import sys, time
from pathlib import Path
from keyreid.data.walkers import Walkers, write_walkers

place, name = Path(sys.argv[1]), sys.argv[2]
(place / f"ready{name}").touch()
while len(list(place.glob("ready*"))) < 3:
    time.sleep(0.001)
write_walkers(place / "walkers" / "once", preset=Walkers(n_train=2, n_test=2, size=(32, 16)))
"""


def test_three_processes_at_once_write_one_folder(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", AT_ONCE, str(tmp_path)]
    processes = [subprocess.Popen([*command, name], env=environment) for name in "abc"]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    assert [path.name for path in (tmp_path / "walkers").iterdir()] == ["once"]
    assert len(read_mars(tmp_path / "walkers" / "once").query) == 6


def test_the_sample_reads_and_is_what_we_would_draw_today():
    tracks, eyes = walker_tracks(SMALL, 0), cameras(SMALL, 0)
    streets = [background(c.scene, SMALL.size, 0) for c in eyes]
    stored = np.load(STORED)
    assert len(stored.files) == 3
    for name in stored.files:
        track = tracks[int(name)]
        drawn = draw_track(track, SMALL, eyes[track.camid], streets[track.camid], 0)
        difference = np.abs(drawn.frames.numpy().astype(int) - stored[name])
        assert difference.max() <= 1, f"tracklet {name} differs by {difference.max()} grey levels"
    benchmark = read_mars(SAMPLE)
    parts = (benchmark.train, benchmark.query, benchmark.gallery)
    assert [len(part) for part in parts] == [4, 4, 5]
    assert write_walkers(SAMPLE, preset=SMALL, seed=0) == SAMPLE  # the same knobs: nothing is drawn
