"""Readers against walkers in every layout, against the real split files, and against broken trees.

The real split files (MARS, X-MARS, iLIDS-VID, PRID2011) are looked for in KEYREID_METADATA. Frames
and name lists of the benchmarks are not there: names are made up to fit the real tables, and where
a million files would be needed, `os.listdir` is played by a stand-in. So these tests do not show
that the published name lists fit the tables, nor how long a real disk takes, nor anything about
DukeMTMC-VideoReID and LS-VID beyond the layouts as we know them.
"""

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from typer.testing import CliRunner

from keyreid.data import mars
from keyreid.data.audit import audit
from keyreid.data.layouts import LAYOUTS
from keyreid.data.readers import (
    READERS,
    read_folders,
    read_ilids_vid,
    read_ls_vid,
    read_mars,
    read_prid2011,
)
from keyreid.data.walkers import Walkers, walker_tracks, write_walkers
from keyreid.runs.cli import app
from keyreid.tracklets import Benchmark, Counts, Tracklet

KINDS = {layout: "duke_video" if layout == "duke" else layout for layout in LAYOUTS}
HERE = Path(__file__).resolve().parents[1]
METADATA = Path(os.environ.get("KEYREID_METADATA") or HERE.parent / "shared" / "metadata")


@pytest.fixture(scope="session")
def worlds(tmp_path_factory) -> dict[str, Path]:
    "Five people past two cameras, drawn in each layout."
    shelf = tmp_path_factory.mktemp("worlds")
    knobs = Walkers(n_cams=2, n_frames=(2, 11), n_tracks=1.5, n_distractors=2, n_junk=2)
    return {
        layout: write_walkers(shelf / layout, layout, knobs, n_ids=5, seed=3) for layout in LAYOUTS
    }


def split_files(name: str) -> Path:
    "A folder of real split files, or the test is skipped."
    if not (METADATA / name).is_dir():
        pytest.skip(f"no split files in {METADATA / name}; name their folder in KEYREID_METADATA")
    return METADATA / name


def parts_of(benchmark: Benchmark) -> dict[str, list[Tracklet]]:
    return {"train": benchmark.train, "query": benchmark.query, "gallery": benchmark.gallery}


def as_row(tracklet: Tracklet) -> tuple:
    return tracklet.pid, tracklet.camid, *tracklet.frames


def shuffled(seed: int) -> Callable:
    "An `os.listdir` that lists in an order of its own."
    as_it_is, dice = os.listdir, random.Random(seed)
    return lambda folder: dice.sample(names := as_it_is(folder), len(names))


# --- walkers, written and read back ---


def planted(root: Path) -> dict[str, set[tuple]]:
    "What was put on disk: person, camera and frames of each tracklet, by part."
    record = json.loads((root / "walkers.json").read_text())
    names = {field.name for field in fields(Walkers)}
    knobs = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in names}
    to_paths = LAYOUTS[record["layout"]][0]
    found = {part: set() for part in ("train", "query", "gallery")}
    for t in walker_tracks(Walkers(**knobs), record["seed"]):
        found[t.part].add((t.pid, t.camid, *(root / path for path in to_paths(t))))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_walkers_come_back(worlds, layout):
    root = worlds[layout]
    benchmark, truth = READERS[KINDS[layout]][0](root), planted(root)
    rows = {part: list(map(as_row, own)) for part, own in parts_of(benchmark).items()}
    assert all(path.is_file() for own in rows.values() for row in own for path in row[2:])
    assert all(len(set(own)) == len(own) > 0 for own in rows.values())
    if LAYOUTS[layout][2]:
        assert set().union(*map(set, rows.values())) == set().union(*truth.values())
        assert [row[:2] for row in rows["gallery"]] == [(pid, 1) for pid, *_ in rows["query"]]
        assert not {row[0] for row in rows["train"]} & {row[0] for row in rows["query"]}
        return
    assert set(rows["train"]) == truth["train"]
    assert set(rows["query"]) == truth["query"]
    junk = {row for row in truth["gallery"] if row[0] == -1}
    queries = set() if layout == "duke" else truth["query"]
    assert set(rows["gallery"]) == truth["gallery"] - junk | queries
    assert len(junk) == (2 if layout == "mars" else 0)


@pytest.mark.parametrize("layout", ["ilids_vid", "prid2011"])
def test_ten_splits_halve_the_people_in_ten_ways(worlds, layout):
    read, halves = READERS[KINDS[layout]][0], set()
    for split in range(10):
        benchmark = read(worlds[layout], split)
        asked, learnt = ({t.pid for t in p} for p in (benchmark.query, benchmark.train))
        assert asked | learnt == {1, 2, 3, 4, 5} and len(asked) == 2 and len(learnt) == 3
        halves.add(frozenset(asked))
    assert len(halves) > 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_order_of_the_disk_plays_no_part(worlds, layout, monkeypatch):
    read, root = READERS[KINDS[layout]][0], worlds[layout]
    expected = read(root)
    for seed in range(5):
        monkeypatch.setattr(os, "listdir", shuffled(seed))
        assert read(root) == expected
        monkeypatch.undo()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_walkers_have_one_trouble_they_are_not_the_published_data(worlds, layout):
    kind = KINDS[layout]
    found = audit(kind, worlds[layout], None)
    assert len(found.troubles) == 1 and "layout, other data: " in found.troubles[0]
    assert len(found.tried) == found.n_files == len(set(found.tried)) and not found.broken
    end = CliRunner().invoke(app, ["data", "check", kind, str(worlds[layout])])
    assert (end.exit_code, end.stdout.count("trouble: "), end.stderr) == (1, 1, "")
    assert ("withdrawn" in end.stdout) == (kind == "duke_video")


# --- the real split files ---


def made_up_names(rows: np.ndarray) -> list[list[str]]:
    "File names that fit the rows of a real table: right person and camera, invented numbers."
    number, groups = Counter(), []
    for first, last, pid, camera in rows.tolist():
        person = "00-1" if pid == -1 else f"{pid:04d}"
        number[pid] += 1
        stem = f"{person}C{camera}T{number[pid]:04d}"
        groups.append([f"{stem}F{frame:03d}.jpg" for frame in range(1, last - first + 2)])
    return groups


@pytest.fixture(scope="module")
def mars_disk(tmp_path_factory) -> Iterator[Path]:
    "MARS with real tables, made-up name lists, and 1.2 million files that only `os.listdir` sees."
    root, files = tmp_path_factory.mktemp("disk") / "MARS", {}
    shutil.copytree(split_files("mars"), root / "info")
    for part in ("train", "test"):
        table = loadmat(root / "info" / f"tracks_{part}_info.mat")[f"track_{part}_info"]
        names = [name for group in made_up_names(table) for name in group]
        (root / "info" / f"{part}_name.txt").write_bytes("\r\n".join(names).encode())
        for name in names:
            files.setdefault(str(root / f"bbox_{part}" / name[:4]), []).append(name)
    for folder in files:
        Path(folder).mkdir(parents=True)
        files[folder].reverse()
    as_it_is = os.listdir
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "listdir", lambda f: files.get(str(f)) or as_it_is(f))
        train = mars._read_part(root, root / "info", "train")
        read_part = mars._read_part

        def read_test_part(home, info, part):  # the other half is read once, which saves time
            return train if (home, part) == (root, "train") else read_part(home, info, part)

        patch.setattr(mars, "_read_part", read_test_part)
        yield root


def test_real_mars_tables_give_the_published_counts(mars_disk):
    official = read_mars(mars_disk)
    assert official.notes == tuple(
        f"{part}_name.txt is as long as the published list but not the same"
        for part in ("train", "test")
    )
    assert official.counts() == {
        "train": Counts(625, 6, 8298, 509914),
        "query": Counts(626, 6, 1980, 114493),
        "gallery": Counts(635, 6, 11310, 657709),
    }
    assert len({t.pid for t in official.gallery} - {0}) == 634
    assert set(official.query) < set(official.gallery)
    assert len({(t.pid, t.camid) for t in official.query}) == 1980
    lengths = [len(t) for t in official.train]
    assert (min(lengths), np.median(lengths), max(lengths)) == (5, 36, 900)
    assert answered(official) == 1980
    path = mars_disk / "info" / "test_name.txt"
    path.rename(path.with_suffix(".kept"))
    without = read_mars(mars_disk, gallery="without_queries")
    path.with_suffix(".kept").rename(path)
    assert without.notes[-1] == "test_name.txt is missing; rebuilt from the sorted folders"
    assert without.query == official.query and len(without.notes) == 2
    assert len(without.gallery) == 9330 and answered(without) == 1840
    assert set(without.gallery) == set(official.gallery) - set(official.query)


def answered(benchmark: Benchmark) -> int:
    "Queries with a right answer under another camera."
    seen: dict[int, set[int]] = {}
    for t in benchmark.gallery:
        seen.setdefault(t.pid, set()).add(t.camid)
    return sum(bool(seen.get(t.pid, set()) - {t.camid}) for t in benchmark.query)


def test_a_shifted_line_of_the_real_list_is_refused(mars_disk):
    path = mars_disk / "info" / "test_name.txt"
    names = path.read_text().split()
    path.write_text("\n".join([*names[1:], names[0]]))
    with pytest.raises(ValueError, match=r"row \[\d+, \d+, -1, \d\] of .*tracks_test_info.mat"):
        read_mars(mars_disk)
    path.write_text("\n".join(names))


def test_x_mars_is_refused(tmp_path):
    metadata = split_files("xmars")
    shutil.copytree(metadata, tmp_path / "info")
    (tmp_path / "bbox_train").mkdir()
    (tmp_path / "bbox_test").mkdir()
    with pytest.raises(ValueError, match=r"table of X-MARS \(7986 tracklets\)"):
        read_mars(tmp_path)
    for part, variable in (("train", "xmars_tracks_train_info"), ("test", "xmars_track_test_info")):
        path = tmp_path / "info" / f"tracks_{part}_info.mat"
        savemat(path, {f"track_{part}_info": loadmat(path)[variable]})
    assert mars.XMARS_ROWS == {"train": 7986, "test": 12492}
    with pytest.raises(ValueError, match=r"table of X-MARS \(7986 tracklets\)"):
        read_mars(tmp_path)


def test_real_splits_of_ilids_vid(tmp_path):
    metadata = split_files("ilidsvid")
    numbers = sorted(random.Random(1).sample(range(1, 320), 300))
    for number in numbers:
        for camera in ("cam1", "cam2"):
            home = tmp_path / "sequences" / camera / f"person{number:03d}"
            home.mkdir(parents=True)
            (home / f"{camera}_person{number:03d}_00001.png").touch()
    shutil.copy(metadata / "splits_ilidsvid.mat", tmp_path)
    table = loadmat(metadata / "splits_ilidsvid.mat")["ls_set"]
    for split in range(10):
        benchmark = read_ilids_vid(tmp_path, split)
        assert benchmark.notes == ()
        test = sorted(numbers[place - 1] for place in table[split].tolist()[:150])
        assert [t.pid for t in benchmark.query] == [t.pid for t in benchmark.gallery] == test
        assert {t.pid for t in benchmark.train} == set(numbers) - set(test)
    shutil.rmtree(tmp_path / "sequences" / "cam1" / f"person{numbers[7]:03d}")
    with pytest.raises(FileNotFoundError, match=f"cam1/person{numbers[7]:03d} is missing"):
        read_ilids_vid(tmp_path)
    shutil.rmtree(tmp_path / "sequences" / "cam2" / f"person{numbers[7]:03d}")
    with pytest.raises(ValueError, match="300 people up to number 300, but there are 299"):
        read_ilids_vid(tmp_path)


def test_real_splits_of_prid2011(tmp_path):
    metadata = split_files("prid2011")
    for camera, n in (("cam_a", 385), ("cam_b", 749)):
        for number in range(1, n + 1):
            home = tmp_path / "prid_2011" / "multi_shot" / camera / f"person_{number:04d}"
            home.mkdir(parents=True)
            (home / "0001.png").touch()
    splits = json.loads((metadata / "splits_prid2011.json").read_text())
    shutil.copy(metadata / "splits_prid2011.json", tmp_path)
    by_name = [read_prid2011(tmp_path, split) for split in range(10)]
    (tmp_path / "splits_prid2011.json").unlink()
    shutil.copy(metadata / "splits_prid.mat", tmp_path / "prid_2011")
    for split, expected in enumerate(by_name):
        assert expected.notes == ()
        assert expected == read_prid2011(tmp_path, split)
        assert [t.frames[0].parent.name for t in expected.query] == sorted(splits[split]["test"])
    assert by_name[0].counts()["train"] == Counts(89, 2, 178, 178)


# --- broken trees ---


def cut(name: str, n: int = 200) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:n])


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content)


def lose(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def loop(name: str) -> Callable[[Path], None]:
    "A link that points at itself in the place of a file or folder."

    def damage(root: Path) -> None:
        lose(name)(root)
        (root / name).symlink_to(root / name)

    return damage


def shorten(name: str) -> Callable[[Path], None]:
    "The list without its last line."

    def damage(root: Path) -> None:
        lines = (root / name).read_bytes().splitlines(keepends=True)
        (root / name).write_bytes(b"".join(lines[:-1]))

    return damage


def wrong_table(name: str, variable: str) -> Callable[[Path], None]:
    return lambda root: savemat(root / name, {variable: np.ones((3, 5))})


ILIDS = "i-LIDS-VID/sequences"
ILIDS_SPLIT = "i-LIDS-VID/train-test people splits/train_test_splits_ilidsvid.mat"
PRID, PRID_SPLIT = "prid_2011/multi_shot", "splits_prid2011.json"
LIST, QUERY = "list_sequence/list_seq_test.txt", "test/data/info_test.mat"
BROKEN = [
    ("mars", lose("info/query_IDX.mat"), "query_IDX.mat is missing"),
    ("mars", lose("info/tracks_train_info.mat"), "tracks_train_info.mat is missing"),
    ("mars", lose("bbox_test/0003"), "0003C1T0001F001.jpg; unpack bbox_test"),
    ("mars", cut("info/tracks_test_info.mat"), "tracks_test_info.mat is no readable .mat"),
    ("mars", wrong_table("info/query_IDX.mat", "query"), "query_IDX.mat has no matrix query_IDX"),
    ("mars", wrong_table("info/query_IDX.mat", "query_IDX"), "query_IDX.mat has shape (3, 5)"),
    ("mars", shorten("info/test_name.txt"), "tracks_test_info.mat asks for lines"),
    ("mars", write("info/test_name.txt", b"\xff\xd8\x00JFIF"), "line 1 of"),
    ("mars", loop("bbox_train/0001"), "0001C1T0001F001.jpg; unpack bbox_train"),
    ("ilids_vid", lose(ILIDS_SPLIT), "train_test_splits_ilidsvid.mat is missing"),
    ("ilids_vid", lose(f"{ILIDS}/cam1/person002"), "cam1/person002 is missing"),
    ("ilids_vid", cut(ILIDS_SPLIT), "ilidsvid.mat is no readable .mat"),
    ("ilids_vid", wrong_table(ILIDS_SPLIT, "ls_set"), "ilidsvid.mat is float64 of shape (3, 5)"),
    ("ilids_vid", loop(f"{ILIDS}/cam2/person002"), "cam2/person002 is a link to nowhere"),
    ("ilids_vid", write(f"{ILIDS}/cam1/a.png", b""), "cam1/a.png lies where a folder must be"),
    ("prid2011", lose(PRID_SPLIT), "splits_prid2011.json is missing"),
    ("prid2011", cut(PRID_SPLIT), "splits_prid2011.json has no split 0"),
    ("prid2011", write(PRID_SPLIT, b"\xff\xfe"), "splits_prid2011.json has no split 0"),
    ("prid2011", lose(f"{PRID}/cam_b/person_0002"), "cam_b/person_0002 is not a folder"),
    ("prid2011", loop(f"{PRID}/cam_b/person_0002"), "cam_b/person_0002 cannot be listed"),
    ("duke", lose("query"), "query is not a folder"),
    ("duke", loop("query"), "query cannot be listed"),
    ("duke", loop("train/0001/0001"), "0001/0001 is a link to nowhere"),
    ("duke", write("train/0001/0001/0001_C1_.jpg", b""), "0001_C1_.jpg came"),
    ("ls_vid", lose(LIST), "list_seq_test.txt is missing"),
    ("ls_vid", lose(QUERY), "info_test.mat is missing"),
    ("ls_vid", shorten(LIST), "info_test.mat asks for row"),
    ("ls_vid", cut(QUERY), "info_test.mat is no readable .mat"),
    ("ls_vid", write(LIST, b"\x89PNG\r\n\x1a\n"), "line 1 of"),
    ("ls_vid", lose("tracklet_test/0003"), "tracklet_test/0003 is not a folder"),
]


@pytest.mark.parametrize(("layout", "damage", "sentence"), BROKEN)
def test_a_broken_tree_gives_one_sentence(worlds, tmp_path, layout, damage, sentence):
    kind, root = KINDS[layout], Path(shutil.copytree(worlds[layout], tmp_path / "copy"))
    damage(root)
    end = CliRunner().invoke(app, ["data", "check", kind, str(root)])
    assert (end.exit_code, end.stdout) == (1, "")
    assert sentence in end.stderr and str(root) in end.stderr
    assert len(end.stderr.splitlines()) == 1 and end.stderr.startswith(f"read_{kind}: ")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_that_may_not_be_listed_is_named(worlds, layout, monkeypatch):
    read, root = READERS[KINDS[layout]][0], worlds[layout]
    home = read(root).train[0].frames[0].parent
    as_it_is = os.listdir

    def listdir(folder):
        if Path(folder) == home:
            raise PermissionError(13, "Permission denied", str(folder))
        return as_it_is(folder)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(OSError, match="Permission denied") as refused:
        read(root)
    assert str(home) in str(refused.value)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("damage", ["cut", "text", "empty", "link", "gone"])
def test_a_broken_frame_is_read_by_name_and_found_by_the_audit(worlds, tmp_path, layout, damage):
    kind, root = KINDS[layout], Path(shutil.copytree(worlds[layout], tmp_path / "copy"))
    path = READERS[kind][0](root).train[1].frames[1]
    data = path.read_bytes()
    path.unlink()
    if damage == "link":
        path.symlink_to(path)
    elif damage != "gone":
        path.write_bytes({"cut": data[: len(data) // 2], "text": b"404", "empty": b""}[damage])
    end = CliRunner().invoke(app, ["data", "check", kind, str(root), "--all"])
    assert end.exit_code == 1
    if damage != "gone":
        assert f"1 of {end.stdout.split('decoded: all of ')[1].split(',')[0]} frames" in end.stdout
        assert str(path) in end.stdout
    elif layout == "mars":  # the only benchmark with a list of frames
        assert f"first {path}" in end.stderr
    else:
        assert end.stdout.count("trouble: ") == 1


def test_windows_line_ends_make_no_difference(worlds, tmp_path):
    for layout, read, pattern in (
        ("mars", read_mars, "info/*.txt"),
        ("ls_vid", read_ls_vid, "l*/*.txt"),
    ):
        root = Path(shutil.copytree(worlds[layout], tmp_path / layout))
        before, paths = read(root), sorted(root.glob(pattern))
        assert len(paths) in (2, 3)
        for end in (b"\n", b"\r\n"):
            for path in paths:
                lines = path.read_bytes().split()
                if layout == "ls_vid":
                    lines = [b" ".join(pair) for pair in zip(lines[::2], lines[1::2], strict=True)]
                path.write_bytes(b"".join(line + end for line in lines))
            assert read(root) == before


def test_a_loop_of_folders_ends(tmp_path):
    home = tmp_path / "query" / "bo" / "1" / "a"
    home.mkdir(parents=True)
    (home / "1.jpg").touch()
    (home / "again").symlink_to(tmp_path)
    (tmp_path / "query" / "bo" / "2").symlink_to(tmp_path / "query" / "bo")
    with pytest.raises(FileNotFoundError, match="bo/2/1 holds no picture"):
        read_folders(tmp_path)
