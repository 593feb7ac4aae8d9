"""What joints cost on the disk, and how fast rows are written and read, measured in one run.

Nothing here can fail; it prints what this machine does (a minute or two, 0.5 GB of disk):

    python tests/benchmarks/pose_cache.py
    python tests/benchmarks/pose_cache.py --frames 100000 --folder /fast/disk

The first table has the size of MARS: `start_table` makes it, it is filled in blocks of 256 rows as
`extract_poses` does, with a flush each, and `Poses` reads eight rows of a tracklet in random order.
"sparse MB" is what the disk gives to a table that was only made long. The second table are other
formats: whole tables, and a file a frame on a sample, in bytes as `du` counts them. The last lines
read pictures of 256 x 128 in 1, 2 and 4 threads, and with an estimator that keeps one thread busy
for as long as the reading of its pictures takes, with and without reading ahead.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from keyreid.data.poses import Poses, frame_listing, pose_meta
from keyreid.keypoints import COCO17, HALPE26
from keyreid.pose.cache import _blocks, _picture, _put, n_done, start_table
from keyreid.settings import rng_at
from keyreid.tracklets import Tracklet

LENGTH = 59  # frames of a tracklet, the mean of MARS


def seconds(work: Callable[[], object]) -> float:
    "How long it takes, by the clock."
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def on_disk(path: Path) -> float:
    "Megabytes that the disk gives to a file, or to all files of a folder."
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_blocks for p in files) * 512 / 1e6


def invented(n: int, n_joints: int, first: int = 0) -> np.ndarray:
    "Joints as an estimator gives them: real numbers, a tenth of them not found."
    rng = rng_at(31, first)
    rows = rng.uniform(0, 1, (n, n_joints, 3)).astype(np.float32) * np.float32([128, 256, 1])
    rows[rng.uniform(size=(n, n_joints)) < 0.1] = 0
    return rows


def microseconds(poses: Poses, tracklets: list[Tracklet], repeats: int = 3000) -> float:
    "Median of reading eight random frames of a random tracklet, its rows looked up before."
    rng, taken = rng_at(7), []
    for number in rng.integers(0, len(tracklets), repeats):
        tracklet, chosen = tracklets[number], rng.integers(0, LENGTH, 8)
        poses.rows(tracklet)
        taken.append(seconds(partial(poses, tracklet, chosen)))
    return 1e6 * median(taken)


def table(folder: Path, n: int, names: tuple[str, ...], block: int = 256) -> None:
    "Make, fill and read a table of n frames, and print what it took."
    paths = [f"{i // LENGTH:06d}/F{i % LENGTH:03d}.jpg" for i in range(n)]
    listing = frame_listing(paths)
    meta = pose_meta(listing, names, "extracted", complete=False)
    made = seconds(partial(start_table, folder, listing, meta))
    rows = invented(block, len(names))

    def fill() -> None:
        for start in range(0, n, block):
            _put(folder, start, rows[: n - start])

    filled, scanned = seconds(fill), seconds(partial(n_done, folder))
    (folder / "meta.json").write_text(json.dumps(meta | {"complete": True}))
    tracklets = [
        Tracklet(0, 0, tuple(folder / p for p in paths[i : i + LENGTH]))
        for i in range(0, n - LENGTH, LENGTH * max(1, n // LENGTH // 1000))
    ]
    opened = seconds(lambda: Poses(folder, folder))
    read = microseconds(Poses(folder, folder), tracklets)
    np.lib.format.open_memmap(folder / "holes", "w+", np.float32, (n, len(names), 3))
    print(
        f"{len(names):>6} {on_disk(folder / 'keypoints.npy'):>8.0f} "
        f"{on_disk(folder / 'frames.txt'):>9.0f} {on_disk(folder / 'holes'):>9.1f} {made:>7.1f} "
        f"{filled:>8.1f} {1e3 * filled * block / n:>9.2f} {scanned:>7.2f} {opened:>7.2f} "
        f"{read:>8.1f}"
    )


def others(folder: Path, n: int, n_joints: int = 26, part: int = 50_000) -> None:
    "Other formats, measured on a part of the frames, as megabytes and seconds of all."
    n_files = part // 10
    rows, small = invented(part, n_joints), invented(n_files, n_joints)
    half = rows.astype(np.float16)
    folder.mkdir()

    def files(write: Callable[[Path, np.ndarray], object], ending: str) -> None:
        home = folder / ending
        home.mkdir()
        for i, row in enumerate(small):
            write(home / f"{i}.{ending}", row)

    ways = {
        "float32": ("a.npy", part, lambda p: np.save(p, rows)),
        "float16": ("b.npy", part, lambda p: np.save(p, half)),
        "float32 npz": ("c.npz", part, lambda p: np.savez_compressed(p, rows)),
        "float16 npz": ("d.npz", part, lambda p: np.savez_compressed(p, half)),
        "npy a frame": ("npy", n_files, lambda p: files(np.save, "npy")),
        "JSON a frame": (
            "json",
            n_files,
            lambda p: files(lambda q, row: q.write_text(json.dumps(row.tolist())), "json"),
        ),
    }
    for name, (file, count, write) in ways.items():
        took = seconds(partial(write, folder / file))
        print(f"{name:>14} {on_disk(folder / file) * n / count:>8.0f} {took * n / count:>8.1f}")
    print(f"float64 heatmaps of six parts, 256 x 128: {n * 6 * 256 * 128 * 8 / 1e12:.2f} TB")


def reading(folder: Path, n: int = 768) -> None:
    "Pictures a second in threads, and with an estimator as slow as they are."
    folder.mkdir()
    picture = Image.fromarray(rng_at(3).integers(0, 255, (32, 16, 3), dtype=np.uint8))
    picture = picture.resize((128, 256), Image.Resampling.BICUBIC)
    names = [f"{i}.jpg" for i in range(n)]
    for name in names:
        picture.save(folder / name, quality=90)
    read = partial(_picture, folder, "raise")
    alone = seconds(lambda: [read(name) for name in names])
    print(f"one after the other: {n / alone:.0f} pictures a second")
    for workers in (1, 2, 4):
        took = seconds(lambda w=workers: list(_blocks(read, names, 0, 256, w)))
        print(f"{workers} threads: {n / took:.0f} pictures a second")

    def busy(count: int) -> None:  # as long as reading them took; multiplying lets threads go on
        end, x = time.perf_counter() + alone * count / n, torch.rand(256, 256)
        while time.perf_counter() < end:
            x @ x

    def ahead() -> None:
        for _, block in _blocks(read, names, 0, 256, 2):
            busy(len(block))

    def in_turns() -> None:
        for start in range(0, n, 256):
            busy(len([read(name) for name in names[start : start + 256]]))

    turns, overlapped = (n / seconds(way) for way in (in_turns, ahead))
    print(f"in turns: {turns:.0f}, ahead: {overlapped:.0f} pictures a second")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The cache of poses, in numbers.")
    parser.add_argument("--frames", type=int, default=1_191_003)
    parser.add_argument("--folder", type=Path, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory(dir=asked.folder) as home:
        head = ("joints", "MB", "names MB", "sparse MB", "make s", "blocks s", "ms/block", "scan s")
        print("{:>6} {:>8} {:>9} {:>9} {:>7} {:>8} {:>9} {:>7}".format(*head), " open s  read us")
        for names in (COCO17, HALPE26):
            table(Path(home) / "table", asked.frames, names)
            shutil.rmtree(Path(home) / "table")
        others(Path(home) / "others", asked.frames)
        reading(Path(home) / "pictures")
    os.sync()
