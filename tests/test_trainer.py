"""The trainer as a process among others: killed and resumed, and as two ranks."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from keyreid.data.walkers import Walkers, write_walkers
from keyreid.learning.branch_losses import BranchObjective
from keyreid.learning.checkpoints import load_state

SCRIPT = Path(__file__).with_name("train_walkers.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
EPOCHS = 12
TWO_RANKS = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]


@pytest.fixture(scope="module")
def walkers(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("walkers") / "small"
    knobs = Walkers(n_train=8, n_test=2, n_cams=2, n_frames=(3, 5), size=(32, 16))
    return write_walkers(root, preset=knobs)


def run(*words) -> None:
    done = subprocess.run(list(map(str, words)), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def straight(walkers, tmp_path_factory) -> dict[str, Path]:
    "Runs that nobody disturbed."
    outs = {kind: tmp_path_factory.mktemp(kind) for kind in ("vit", "branches")}
    for kind, out in outs.items():
        run(sys.executable, SCRIPT, walkers, out, "--epochs", EPOCHS, "--kind", kind)
    return outs


def kill_at(step: int, words: list, out: Path) -> None:
    "Start a training and kill it as soon as it has begun `step`."
    log = out / "steps.txt"
    log.unlink(missing_ok=True)
    child = subprocess.Popen(list(map(str, words)), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (log.exists() and any(int(n) >= step for n in log.read_text().split("\n")[:-1])):
            assert child.poll() is None, f"the training ended before step {step}"
            assert time.monotonic() < deadline, f"step {step} was not reached in two minutes"
            time.sleep(0.002)
    finally:
        child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


@pytest.mark.parametrize(("kind", "workers"), [("vit", 0), ("vit", 2), ("branches", 0)])
def test_a_killed_training_ends_as_if_nobody_had_killed_it(
    walkers, straight, tmp_path, kind, workers
):
    undisturbed = straight[kind]
    steps = int((undisturbed / "steps.txt").read_text().split()[-1])
    first, second = sorted(random.sample(range(1, steps), 2))
    print(f"killed at steps {first} and {second} of {steps}")
    words = [sys.executable, SCRIPT, walkers, tmp_path, "--epochs", EPOCHS, "--kind", kind]
    words += ["--workers", workers, "--pause", 0.02, "--resume"]
    kill_at(first, words, tmp_path)
    kill_at(second, words, tmp_path)
    run(*words)
    resumed_from = int((tmp_path / "steps.txt").read_text().split()[0])
    replayed = f"killed at {first} and {second}, went on from {resumed_from}"

    expected, _ = load_state(undisturbed / "end.safetensors")
    found, _ = load_state(tmp_path / "end.safetensors")
    names = [n for n in expected if not n.startswith("gradient.")]
    assert len(names) > 40
    tables = [n for n in names if n.startswith("objective.")]
    assert len(tables) == (2 if kind == "branches" else 0)
    for name in names:
        assert torch.equal(expected[name], found[name]), f"{name} differs ({replayed})"
    history = [json.loads((p / "end.json").read_text())["history"] for p in (undisturbed, tmp_path)]
    assert history[0] == history[1], replayed


def test_another_run_is_refused(walkers, straight, tmp_path):
    words = [sys.executable, SCRIPT, walkers, straight["vit"], "--epochs", EPOCHS + 1, "--resume"]
    done = subprocess.run(list(map(str, words)), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "checkpoint.safetensors" in last and "epochs is 12 instead of 13" in last, last


@pytest.mark.parametrize(("kind", "n_gradients"), [("plain", 4), ("branches", 30)])
def test_two_processes_equal_one(walkers, tmp_path, kind, n_gradients):
    one, two = tmp_path / "one", tmp_path / "two"
    run(sys.executable, SCRIPT, walkers, one, "--kind", kind, "--epochs", 3)
    run(*TWO_RANKS, SCRIPT, walkers, two, "--kind", kind, "--epochs", 3)
    losses = [json.loads((p / "end.json").read_text())["losses"] for p in (one, two)]
    assert len(losses[0]) == len(losses[1]) >= 3
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    alone, _ = load_state(one / "end.safetensors")
    shared, _ = load_state(two / "end.safetensors")
    gradients = [n for n in alone if n.startswith("gradient.")]
    assert len(gradients) == n_gradients
    assert all(alone[n].abs().max() > 1e-4 for n in gradients)
    for name in alone:  # float32 sums in another order
        torch.testing.assert_close(alone[name], shared[name], rtol=1e-4, atol=2e-6, msg=name)


def test_centres_move_and_are_not_averaged(straight):
    expected, _ = load_state(straight["branches"] / "end.safetensors")
    torch.manual_seed(100)
    start = BranchObjective(8, 8, 5).state_dict()
    for name, table in start.items():
        assert (expected[f"objective.{name}"] - table).norm(dim=1).min() > 0.1, name
    assert not [n for n in expected if n.startswith("average.") and "centre" in n]


def test_two_processes_agree_on_the_length_of_a_timed_training(walkers, tmp_path):
    run(*TWO_RANKS, SCRIPT, walkers, tmp_path, "--kind", "plain", "--minutes", 0.05)
    steps = [int((tmp_path / f"steps.rank{rank}.txt").read_text()) for rank in (0, 1)]
    assert steps[0] == steps[1] > 20
