"""Milliseconds, parameters and operations of the pose models, measured in turns in one run.

Nothing here can fail; it prints what this machine does (a minute or more):

    python tests/benchmarks/pose_graphs.py --threads 2
    python tests/benchmarks/pose_graphs.py --device cuda

One step is forward and backward of 32 clips of ten frames at width 256, from a random gradient of
the states, so that no readout is in the time. The baselines are timed in both forms: joint by
joint, as published, and with joints folded into the batch. "Gflop" are the operations of matrix
products and convolutions in one step, which are the same in both forms. On a busy machine read the
milliseconds that the processor works ("cpu ms"), with one thread.
"""

import argparse
import time
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from keyreid.posegraph.baselines import POSE_MODELS
from keyreid.posegraph.gcn import pose_adjacency

NAMES = {
    "rgcn": "RGCN",
    "gcn_rnn_loop": "GCN&RNN, node loop",
    "gcn_rnn": "GCN&RNN, folded",
    "lgcn": "LGCN",
    "gcn_lstm_loop": "GCN&LSTM, node loop",
    "gcn_lstm": "GCN&LSTM, folded",
    "st_gcn": "ST-GCN",
    "evolve_gcn": "EvolveGCN",
}


def step(
    model: nn.Module,
    coordinates: Tensor,  # [B, T, V, 2]
    gradient: Tensor,  # of the states, [B, T', V, width]
) -> None:
    "Forward and backward; what the machine was given to do is done."
    model(coordinates).backward(gradient)
    if coordinates.is_cuda:
        torch.cuda.synchronize()


def seconds(
    model: nn.Module,
    *given: Tensor,
) -> tuple[float, float]:
    "How long a step takes by the clock, and how long the processor works, all threads together."
    model.zero_grad()
    start, busy = time.perf_counter(), time.process_time()
    step(model, *given)
    return time.perf_counter() - start, time.process_time() - busy


def measured(
    models: dict[str, nn.Module],
    batches: dict[str, tuple[Tensor, Tensor]],
    repeats: int,
) -> dict[str, tuple[float, float]]:
    "Median seconds of a step of each model, all in turns; the first turn warms up."
    # Two steps a turn, the second counts: the first finds the memory as another model left it.
    times: dict[str, list] = {name: [] for name in models}
    for _ in range(1 + repeats):
        for name, model in models.items():
            times[name].append([seconds(model, *batches[name]) for _ in range(2)][1])
    return {name: tuple(map(median, zip(*taken[1:], strict=True))) for name, taken in times.items()}


def operations(
    model: nn.Module,
    *given: Tensor,
) -> int:
    "Operations of matrix products and convolutions in one step; those in a fused call are missed."
    with FlopCounterMode(display=False) as counter:
        step(model, *given)
    return counter.get_total_flops()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pose models against each other.")
    add = partial(parser.add_argument, type=int)
    add("--clips", default=32)
    add("--frames", default=10)
    add("--width", default=256)
    add("--repeats", default=7)
    add("--threads", default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    coordinates = torch.rand(asked.clips, asked.frames, 14, 2, device=asked.device)
    models = {name: POSE_MODELS[name](2, asked.width, pose_adjacency()) for name in NAMES}
    models = {name: model.to(asked.device) for name, model in models.items()}
    batches = {
        name: (coordinates, torch.randn_like(model(coordinates)).detach())
        for name, model in models.items()
    }
    taken = measured(models, batches, asked.repeats)
    print(f"{asked.device}, {asked.threads} threads, medians of {asked.repeats}")
    head = ("", "ms", "/ RGCN", "/ LGCN", "cpu ms", "/ RGCN", "/ LGCN", "parameters", "Gflop")
    print("{:>20} {:>7} {:>6} {:>6} {:>7} {:>6} {:>6} {:>10} {:>6}".format(*head))
    for name, label in NAMES.items():
        plain = f"{name}_loop" if f"{name}_loop" in models else name
        n_flops = operations(models[plain], *batches[plain])
        n_trained = sum(p.numel() for p in models[name].parameters() if p.requires_grad)
        columns = "".join(
            f" {1000 * own:>7.1f} {own / rgcn:>6.2f} {own / lgcn:>6.2f}"
            for own, rgcn, lgcn in zip(taken[name], taken["rgcn"], taken["lgcn"], strict=True)
        )
        print(f"{label:>20}{columns} {n_trained:>10,} {n_flops / 1e9:>6.2f}")
