"""The protocols on the real track table of MARS: counts that were published or counted apart."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from keyreid.retrieval.metrics import chance
from keyreid.retrieval.protocols import (
    TrackTable,
    ask_by,
    count_pairs,
    one_per_frame,
    side_by_side,
    to_table,
)


@pytest.fixture(scope="module")
def mars() -> TrackTable:
    "The test half of MARS, junk included."
    root = Path(__file__).resolve().parents[1]
    metadata = Path(os.environ.get("KEYREID_METADATA", root.parent / "shared" / "metadata"))
    folder = metadata / "mars"
    if not (folder / "tracks_test_info.mat").is_file():
        pytest.skip(f"KEYREID_METADATA: no mars/tracks_test_info.mat in {metadata}")
    rows = loadmat(folder / "tracks_test_info.mat")["track_test_info"].astype(int)
    queries = loadmat(folder / "query_IDX.mat")["query_IDX"].ravel().astype(int) - 1
    return TrackTable(rows[:, 2], rows[:, 3] - 1, rows[:, 1] - rows[:, 0] + 1, queries)


def test_sizes_of_both_galleries(mars: TrackTable):
    "1980 queries; 11310 tracklets in the gallery, or 9330 without the queries."
    for name, n in (("mars/official", 11310), ("mars/without_queries", 9330)):
        queries, gallery, labels = ask_by(name, mars)
        assert [len(x) for x in (queries, gallery, *labels)] == [1980, n, 1980, n, 1980, n]
        assert (mars.pids[gallery] != -1).all()


def test_valid_queries(mars: TrackTable):
    "With the queries in the gallery all count; without them 140 have nobody left to find."
    assert count_pairs("mars/official", mars).n_valid == 1980
    assert count_pairs("mars/without_queries", mars) == (6066, 0, 16761, 0, 1840)


def test_list_of_one_camera_per_frame(mars: TrackTable):
    "The two lists are as long as the frames that are read: clips of four, at most 41."
    queries, gallery, labels = ask_by("mars/as_released", mars)
    lists = [one_per_frame(mars.camids[r], mars.n_frames[r]) for r in (queries, gallery)]
    assert [len(x) for x in lists] == [110_860, 512_048]
    assert np.unique(labels[3]).tolist() == [0]
    assert (labels[3] != mars.camids[gallery]).mean() == pytest.approx(0.82, abs=0.01)


def test_what_the_list_does_to_the_pairs(mars: TrackTable):
    "4660 of 6066 easy pairs stay (76.8 %), 23.6 % of true pairs are lost, 1518 queries count."
    pairs = count_pairs("mars/as_released", mars)
    assert (pairs.own_camera_kept, pairs.own_camera, pairs.n_valid) == (4660, 6066, 1518)
    assert round(pairs.cross_camera_lost / pairs.cross_camera, 3) == 0.236


def test_rank_1_rises_on_the_same_descriptors(mars: TrackTable):
    "Person + camera + noise, by all protocols: the counts are exact, of the shares only the order."
    rng = np.random.default_rng(0)
    people, cameras = rng.normal(size=(1600, 64)), rng.normal(size=(6, 64))
    strangers = rng.normal(size=(len(mars.pids), 64))
    who = np.where((mars.pids < 1)[:, None], strangers, people[mars.pids])
    x = who + 0.5 * cameras[mars.camids] + 0.9 * rng.normal(size=who.shape)
    table = to_table(side_by_side(x.astype("f"), mars)).set_index("protocol")
    assert table.n_valid.to_dict() == {
        "mars/official": 1980,
        "mars/without_queries": 1840,
        "same_camera_kept": count_pairs("same_camera_kept", mars).n_valid,
        "mars/as_released": 1518,
    }
    assert table.n_gallery.tolist() == [11310, 9330, 9330, 9330]
    assert table.R1["mars/as_released"] > table.R1["mars/official"] + 0.02
    assert table.mAP["mars/as_released"] > table.mAP["mars/official"] + 0.02
    assert table.mAP.min() > 10 * chance(*ask_by("mars/official", mars).labels)
