"""Seconds that a report on the poses of all of MARS takes, measured in one run.

Nothing here can fail; it prints what this machine does (a minute, 0.4 GB of disk):

    python tests/benchmarks/pose_quality.py

The table is invented and has the size of MARS. "rows" is the time to look up the rows of all
frames by their names, which is done once; "faults" is the report itself, with the rows known. Both
are seconds of the processor, so that a busy machine does not count.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from keyreid.data.poses import Poses, write_poses
from keyreid.keypoints import COCO17, HALPE26
from keyreid.pose.quality import pose_quality
from keyreid.settings import rng_at
from keyreid.tracklets import Tracklet

LENGTH = 59  # frames of a tracklet, the mean of MARS


def measured(home: Path, n: int, names: tuple[str, ...]) -> tuple[float, float]:
    "Seconds for the rows and for the faults of n frames."
    paths = [f"{i // LENGTH:06d}/F{i % LENGTH:03d}.jpg" for i in range(n)]
    joints = rng_at(31).uniform(0, 128, (n, len(names), 3)).astype(np.float32)
    write_poses(home, paths, joints, names, "test", full_score=128.0)
    chunks = range(0, n, LENGTH)
    tracklets = [Tracklet(0, i % 6, tuple(home / p for p in paths[i : i + LENGTH])) for i in chunks]
    poses, start = Poses(home, home), time.process_time()
    for tracklet in tracklets:
        poses.rows(tracklet)
    known = time.process_time()
    pose_quality(poses, tracklets, (256, 128))
    return known - start, time.process_time() - known


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How fast a report on poses is.")
    parser.add_argument("--frames", type=int, default=1_191_003)
    asked = parser.parse_args()
    for names in (COCO17, HALPE26):
        with TemporaryDirectory() as folder:
            rows, faults = measured(Path(folder) / "table", asked.frames, names)
        print(f"{len(names)} joints: rows {rows:.1f} s, faults {faults:.1f} s")
