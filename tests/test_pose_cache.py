"""A table of joints that is being filled: killed, read, wanted by two, and out of room."""

import json
import multiprocessing
import os
import resource
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import deadly_at
from PIL import Image

import keyreid.pose.cache as cache
from keyreid.data.poses import Poses
from keyreid.pose.cache import extract_poses, n_done
from keyreid.settings import rng_at
from keyreid.tracklets import Tracklet

# One process imports torch, and each writer is a fork of it.
WRITERS = multiprocessing.get_context("forkserver")
WRITERS.set_forkserver_preload(["keyreid.pose.cache", "PIL.Image", "pytest"])
N, BLOCK = 60, 7
NAMES = [f"{i % 5:04d}/F{i:03d}.png" for i in range(N)]


class Bright:
    "The brightest pixel of each colour; every frame that is estimated leaves a line in a file."

    name, keypoint_names, full_score = "bright", ("a", "b", "c"), 255.0

    def __init__(self, log: Path | None = None, seconds: float = 0.0):
        self.log, self.seconds = log, seconds
        self.fingerprint = {"estimator": "bright", "version": (1, 2)}

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds * len(frames))
        pixels = frames.reshape(len(frames), -1, 3)
        y, x = np.divmod(pixels.argmax(1), frames.shape[2])
        if self.log:
            with open(self.log, "a") as file:
                file.writelines(f"{row.tobytes().hex()}\n" for row in pixels[:, :4])
        return np.stack([x, y, pixels.max(1)], -1).astype(np.float32)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "Noise of two sizes, all different."
    root = tmp_path_factory.mktemp("frames")
    for i, name in enumerate(NAMES):
        (root / name).parent.mkdir(exist_ok=True)
        picture = rng_at(i).integers(0, 256, (9, 5 + i % 2, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / name)
    return root


@pytest.fixture(scope="module")
def straight(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    "The files of a run that nobody disturbed."
    folder = tmp_path_factory.mktemp("straight") / "poses"
    return contents(write(frames, folder))


def contents(folder: Path) -> dict[str, bytes]:
    "Name and bytes of each file, the lock and the date of the note apart."
    found = {path.name: path.read_bytes() for path in folder.glob("[!.]*")}
    meta = json.loads(found["meta.json"])
    return found | {"meta.json": json.dumps({k: v for k, v in meta.items() if k != "date"})}


def write(root: Path, folder: Path, log: Path | None = None, seconds: float = 0.0) -> Path:
    "Fill the table in small blocks."
    sizes = dict(batch_size=3, block_size=BLOCK, progress=False)
    return extract_poses(Bright(log, seconds), root, NAMES, folder, **sizes)


def die_at(call: int, root: Path, folder: Path, log: Path) -> None:
    "Fill the table and be killed at the given call that changes the disk, or writes a block."
    deadly = deadly_at(call)
    os.fsync, os.replace, os.rename = map(deadly, (os.fsync, os.replace, os.rename))
    cache._put, cache.start_table = deadly(cache._put), deadly(cache.start_table)
    write(root, folder, log)


def write_after(begins, *arguments) -> None:
    "Say that the work begins, and begin."
    begins.set()
    write(*arguments)


def write_with(together, *arguments) -> None:
    "Begin when all others are ready."
    together.wait(60)
    write(*arguments)


def run(target, *arguments) -> int:
    "Exit code of a process; -9 if it was killed."
    process = WRITERS.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def estimated_twice(log: Path) -> int:
    "How many frames were estimated again."
    lines = log.read_text().split()
    return len(lines) - len(set(lines))


def test_killed_at_every_step(frames: Path, straight: dict, tmp_path: Path):
    for call in range(1, 100):
        folder, log = tmp_path / f"at{call}" / "poses", tmp_path / f"log{call}"
        code = run(die_at, call, frames, folder, log)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        done = n_done(folder) if folder.exists() else 0
        assert done % BLOCK == 0 or done == N
        write(frames, folder, log)
        assert contents(folder) == straight
        assert estimated_twice(log) <= BLOCK
        assert len(set(log.read_text().split())) == N
    assert call > 2 * N // BLOCK, "each block is written and flushed, each a moment to be killed"
    assert contents(folder) == straight


def test_killed_at_random(frames: Path, straight: dict, tmp_path: Path):
    for seed in range(4):
        folder, log, rng = tmp_path / f"{seed}" / "poses", tmp_path / f"log{seed}", rng_at(seed)
        n_kills = 0
        while not (folder.exists() and json.loads((folder / "meta.json").read_text())["complete"]):
            begins = WRITERS.Event()
            process = WRITERS.Process(target=write_after, args=(begins, frames, folder, log, 0.002))
            process.start()
            assert begins.wait(60)
            process.join(float(rng.uniform(0.03, 0.2)))
            if process.is_alive():
                process.kill()
                process.join()
                n_kills += 1
        assert contents(folder) == straight
        assert n_kills and estimated_twice(log) <= n_kills * BLOCK


def test_torn_row_is_done_again(frames: Path, straight: dict, tmp_path: Path):
    folder = write(frames, tmp_path / "poses")
    for row, joint, axis in ((20, 2, 2), (33, 0, 0), (59, 1, 1)):
        table = np.lib.format.open_memmap(folder / "keypoints.npy", "r+")
        table[row, joint, axis] = np.nan
        del table
        meta = json.loads((folder / "meta.json").read_text()) | {"complete": False}
        (folder / "meta.json").write_text(json.dumps(meta))
        log = tmp_path / f"log{row}"
        write(frames, folder, log)
        assert len(log.read_text().split()) == N - row
        assert contents(folder) == straight


def read_along(together, root: Path, folder: Path, expected: bytes) -> None:
    "Read what is done until all is done; each row is open or right."
    right, seen = np.frombuffer(expected, np.float32).reshape(N, 3, 3), set()
    tracklets = [Tracklet(0, 0, (root / name,)) for name in sorted(NAMES)]
    scale = np.float32([1, 1, 1 / 255])
    together.wait(60)
    while not folder.exists():
        time.sleep(0.001)
    while N not in seen:
        poses = Poses(root, folder, allow_partial=True)
        done = poses.done
        for i, tracklet in enumerate(tracklets):
            if done[i]:
                assert np.allclose(poses(tracklet)[0], right[i] * scale)
        seen.add(int(done.sum()))
    assert len(seen) > 3, f"the table was seen with {seen} rows"


def test_two_read_while_one_writes(frames: Path, straight: dict, tmp_path: Path):
    folder = tmp_path / "poses"
    together, expected = WRITERS.Barrier(3), straight["keypoints.npy"][-N * 36 :]
    writer = WRITERS.Process(target=write_with, args=(together, frames, folder, None, 0.03))
    own = together, frames, folder, expected
    processes = [writer, *(WRITERS.Process(target=read_along, args=own) for _ in "ab")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert contents(folder) == straight


def test_second_writer_is_sent_away_and_a_dead_one_is_not_in_the_way(
    frames: Path, straight: dict, tmp_path: Path
):
    folder = tmp_path / "poses"
    writer = WRITERS.Process(target=write, args=(frames, folder, None, 0.05))
    writer.start()
    while not (folder.exists() and n_done(folder)):
        time.sleep(0.01)
    with pytest.raises(RuntimeError, match=r"another process is filling .*; wait for it"):
        write(frames, folder)
    writer.kill()
    writer.join()
    assert n_done(folder) < N
    write(frames, folder)
    assert contents(folder) == straight


def test_two_begin_at_once(frames: Path, straight: dict, tmp_path: Path):
    for attempt in range(5):
        folder = tmp_path / f"{attempt}" / "poses"
        pair = [WRITERS.Process(target=write, args=(frames, folder, None, 0.005)) for _ in "ab"]
        for process in pair:
            process.start()
        for process in pair:
            process.join(60)
        assert sorted(p.exitcode for p in pair) == [0, 1]
        assert contents(folder) == straight
        assert [p.name for p in folder.parent.iterdir()] == ["poses"]


def with_limit(root: Path, folder: Path, said: Path) -> None:
    "Begin where a file may not grow beyond 1000 bytes."
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        write(root, folder)
    except OSError as error:
        message = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        said.write_text(message)


def test_no_room_for_the_table_is_known_at_once(frames: Path, tmp_path: Path):
    folder, said = tmp_path / "full" / "poses", tmp_path / "said"
    assert run(with_limit, frames, folder, said) == 0
    assert "cannot be written (File too large)" in said.read_text()
    assert list((tmp_path / "full").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_in_the_middle(frames: Path, straight: dict, tmp_path: Path, monkeypatch):
    folder, real, calls = tmp_path / "poses", cache.open if hasattr(cache, "open") else open, []

    def third_is_full(path, mode="r", *rest, **more):
        calls.append(mode)
        is_full = mode == "r+b" and calls.count("r+b") == 3
        return real("/dev/full" if is_full else path, mode, *rest, **more)

    monkeypatch.setattr(cache, "open", third_is_full, raising=False)
    with pytest.raises(OSError, match=r"No space left on device.*start again"):
        write(frames, folder)
    monkeypatch.undo()
    assert n_done(folder) == 2 * BLOCK
    write(frames, folder)
    assert contents(folder) == straight


def test_stopped_by_hand(frames: Path, straight: dict, tmp_path: Path, monkeypatch):
    folder, put, calls = tmp_path / "poses", cache._put, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        put(*arguments)

    monkeypatch.setattr(cache, "_put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(frames, folder)
    monkeypatch.undo()
    assert n_done(folder) == 3 * BLOCK
    write(frames, folder)  # the lock is free, too
    assert contents(folder) == straight


def test_skipped_frames_stay_on_the_list_through_kills(frames: Path, tmp_path: Path):
    root, names = tmp_path / "root", sorted(NAMES)
    bad = [names[i] for i in (3, 21, 59)]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        data = (frames / name).read_bytes()
        (root / name).write_bytes(data[:40] if name in bad else data)
    skip = dict(block_size=BLOCK, unreadable="skip", quota=0.05, progress=False)
    work = partial(extract_poses, Bright(), root, NAMES, **skip)
    for n_blocks in range(9):
        folder, put, calls = tmp_path / f"{n_blocks}", cache._put, []

        def stop(*arguments, put=put, calls=calls, n_blocks=n_blocks):
            calls.append(1)
            if len(calls) > n_blocks:
                raise KeyboardInterrupt
            put(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cache, "_put", stop)
            with pytest.raises(KeyboardInterrupt):
                work(folder)
        with pytest.warns(UserWarning, match="3 of 60 frames are unreadable"):
            work(folder)
        meta = json.loads((folder / "meta.json").read_text())
        assert meta["unreadable"] == bad and meta["complete"]
        empty = ~np.load(folder / "keypoints.npy").any((1, 2))
        assert [names[i] for i in np.flatnonzero(empty)] == bad
