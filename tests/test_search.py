"""A gallery on the disk: killed in the middle of a save at every step, and at any moment."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import deadly_at

pytest.importorskip("faiss", reason="the extra `search` is not installed")
pytest.importorskip("pyarrow", reason="the extra `search` is not installed")

from keyreid.retrieval.search import Gallery
from keyreid.settings import rng_at

# One process imports torch, and each saver is a fork of it.
SAVERS = multiprocessing.get_context("forkserver")
SAVERS.set_forkserver_preload(["keyreid.runs.runs", "keyreid.retrieval.search"])
WIDTH = 32


def make_gallery(state: int, n: int = 3000) -> Gallery:
    "A gallery whose descriptors, persons and cameras all follow from `state`."
    gallery = Gallery(WIDTH, "euclidean")
    x = rng_at(state).standard_normal((n + state, WIDTH), dtype=np.float32)
    gallery.add(x, np.full(len(x), state), np.arange(len(x)), where=[f"place {state}"] * len(x))
    return gallery


def state_of(gallery: Gallery) -> int:
    "Which state a loaded gallery has; its vectors and rows must belong together."
    state = gallery.rows["pid"][0].as_py()
    expected = make_gallery(state)
    assert np.array_equal(gallery.vectors, expected.vectors)
    assert gallery.rows.equals(expected.rows)
    return state


def die_at(call: int, folder: Path) -> None:
    "Save state 1 and be killed at the given call that changes the disk for good."
    deadly = deadly_at(call)
    os.fsync, os.replace, os.unlink = map(deadly, (os.fsync, os.replace, os.unlink))
    make_gallery(1).save(folder)


def save_for_ever(folder: Path, begun: Path) -> None:
    "Save states 1, 2, 3 ... until somebody ends it."
    state = 0
    while True:
        state += 1
        gallery = make_gallery(state)
        begun.write_text(str(state))
        gallery.save(folder)


def leftovers(folder: Path) -> set[str]:
    "Files that gallery.json does not name."
    named = json.loads((folder / "gallery.json").read_text())["files"]
    return {path.name for path in folder.iterdir()} - {"gallery.json", *named}


def test_killed_at_every_step(tmp_path: Path):
    states, call = [], 0
    while not states or ended_by == -signal.SIGKILL:
        call += 1
        folder = tmp_path / str(call)
        make_gallery(0).save(folder)
        process = SAVERS.Process(target=die_at, args=(call, folder))
        process.start()
        process.join(60)
        ended_by = process.exitcode
        states.append(state_of(Gallery.load(folder)))
        make_gallery(2).save(folder)
        assert state_of(Gallery.load(folder)) == 2
        assert not leftovers(folder), f"killed at call {call}"
    # Each of three files: flush, rename, flush of the folder. Then two old files go.
    assert ended_by == 0 and len(states) >= 12
    assert states == sorted(states) and set(states) == {0, 1}


def test_killed_at_any_moment(tmp_path: Path):
    folder, begun = tmp_path / "gallery", tmp_path / "begun"
    make_gallery(0).save(folder)
    for round_ in range(6):
        begun.write_text("")
        process = SAVERS.Process(target=save_for_ever, args=(folder, begun))
        process.start()
        deadline = time.monotonic() + 60
        while begun.read_text() in ("", "1"):
            assert time.monotonic() < deadline, "no save within a minute"
            time.sleep(0.001)
        time.sleep(rng_at(round_).uniform(0, 0.03))
        process.kill()
        process.join()
        assert state_of(Gallery.load(folder)) >= 1
    make_gallery(5).save(folder)
    assert state_of(Gallery.load(folder)) == 5 and not leftovers(folder)


def test_a_killed_save_leaves_no_deleted_person_behind_after_the_next(tmp_path: Path):
    gallery = Gallery(WIDTH)
    x = rng_at(7).standard_normal((50, WIDTH), dtype=np.float32)
    gallery.add(x, np.arange(50) % 5, np.arange(50))
    gone = [row.tobytes() for row in gallery.vectors[np.arange(50) % 5 == 3]]
    gallery.save(tmp_path)
    for i, path in enumerate(tmp_path.glob("vectors-*")):  # as two killed saves leave them
        partial = tmp_path / f".partial-{i}"
        partial.mkdir()
        shutil.copy(path, partial / "vectors-00000000.npy")
        shutil.copy(path, tmp_path / "vectors-00000001.npy")
    (tmp_path / "notes.txt").write_text("mine")
    gallery.delete_identity(3)
    gallery.save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    data = b"".join(path.read_bytes() for path in files)
    assert not any(row in data for row in gone)
    assert gallery.vectors[0].tobytes() in data
    assert leftovers(tmp_path) == {"notes.txt"}


def test_a_full_disk_keeps_the_old_gallery(tmp_path: Path, monkeypatch):
    make_gallery(0).save(tmp_path)
    newer = make_gallery(1)

    def full(path, vectors):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        newer.save(tmp_path)
    monkeypatch.undo()
    assert state_of(Gallery.load(tmp_path)) == 0 and not leftovers(tmp_path)


def test_loading_does_not_read_the_vectors(tmp_path: Path):
    make_gallery(0).save(tmp_path)
    gallery = Gallery.load(tmp_path, verify=False)
    assert isinstance(gallery._store.base, np.memmap)
    gallery.add(np.ones((1, WIDTH)), [9], [0])
    assert gallery.search(np.ones((1, WIDTH)), k=1).pids == [[9]]
    gallery.save(tmp_path)  # over the file it is mapped from
    assert Gallery.load(tmp_path).rows["pid"].to_pylist() == [0] * 3000 + [9]


def test_an_empty_gallery_comes_back(tmp_path: Path):
    Gallery(WIDTH, "euclidean").save(tmp_path)
    gallery = Gallery.load(tmp_path)
    assert len(gallery) == 0 and gallery.metric == "euclidean"
    gallery.add(np.ones((2, WIDTH)), [1, 2], [0, 0])
    assert len(gallery) == 2


MISSING = """
import sys
sys.modules.update(dict.fromkeys({blocked}))  # None: as if it were not installed
from keyreid.retrieval.search import Gallery
try:
    Gallery(8).search([[1.0] * 8])
except ImportError as error:
    print(error)
"""


def test_the_error_names_the_extra():
    script = MISSING.format(blocked=["pyarrow", "faiss"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pyarrow is missing here; install keyreid[search]" in done.stdout, done.stderr
