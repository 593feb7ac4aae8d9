"""Frames per second of the pose estimators, and of what is done before the network.

Weights are random, so it says how fast a network of that size is and nothing about joints. The
stand-in for RTMPose-m is a network of the same kind and size (timm's cs3darknet_m, 1.6 GMACs at
256 × 192, and two profiles of 26 joints). Nothing here can fail; run it on a quiet machine:

    python tests/benchmarks/pose.py [--device cpu] [--threads 2] [--frames 32]
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn
from transformers import (
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
    VitPoseImageProcessor,
)

from keyreid.pose.letterbox import fit_whole, network_input
from keyreid.pose.rtmpose import RTMPose
from keyreid.pose.simcc import write_dots
from keyreid.pose.vitpose import ViTPose

SIZE, INPUT = (256, 128), (256, 192)
WIDTHS = {"ViTPose-S": (384, 12), "ViTPose-B": (768, 12)}  # width, heads; 12 layers


class SimCC(nn.Module):
    "A body of RTMPose-m's size with two profiles of 26 joints."

    def __init__(self):
        super().__init__()
        self.body = timm.create_model("cs3darknet_m", features_only=True, out_indices=(-1,))
        self.joints = nn.Conv2d(768, 26, 7, padding=3)
        self.across, self.down = (nn.Linear(48, 2 * n) for n in INPUT[::-1])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.joints(self.body(x)[0]).flatten(2)
        return self.across(maps), self.down(maps)


def write_simcc(path: Path) -> Path:
    "The stand-in as an ONNX file for any number of pictures."
    names = dict(input_names=["input"], output_names=["simcc_x", "simcc_y"])
    axes = {name: {0: "batch"} for name in ("input", "simcc_x", "simcc_y")}
    blank = torch.zeros(2, 3, *INPUT)
    with warnings.catch_warnings(action="ignore"):  # the newer exporter needs one package more
        torch.onnx.export(SimCC().eval(), blank, path, dynamo=False, dynamic_axes=axes, **names)
    return path


def write_vitpose(path: Path, width: int, heads: int) -> Path:
    "A random ViTPose of 12 layers."
    backbone = VitPoseBackboneConfig(
        image_size=list(INPUT), hidden_size=width, num_attention_heads=heads, out_indices=[12]
    )
    config = VitPoseConfig(backbone_config=backbone, num_labels=17)
    VitPoseForPoseEstimation(config).save_pretrained(path)
    return path


def report(
    what: str,
    work: Callable[[], object],
    n_frames: int,
    repeats: int = 3,
) -> None:
    "Print frames per second and processor time per frame, medians after one run to warm up."
    work()
    runs = []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        work()
        runs.append((time.perf_counter() - start, time.process_time() - used))
    seconds, busy = (statistics.median(column) for column in zip(*runs, strict=True))
    rate, cost = n_frames / seconds, 1000 * busy / n_frames
    print(f"{what:32} {rate:8.1f} frames/s {cost:8.2f} ms of processor time a frame", flush=True)


def main(device: str, n_frames: int, folder: Path) -> None:
    "Print one line a way and batch size."
    frames = np.random.default_rng(0).integers(0, 256, (n_frames, *SIZE, 3), dtype=np.uint8)
    fit = fit_whole(SIZE, INPUT)
    report("letterbox and colours", lambda: network_input(frames, fit, device).cpu(), n_frames)
    some, box = list(frames[:8]), [[[0.0, 0.0, float(SIZE[1]), float(SIZE[0])]]] * 8
    theirs = VitPoseImageProcessor()
    report("the processor of transformers", lambda: theirs(some, boxes=box), 8)
    files = {"dots": (RTMPose, write_dots(folder / "dots.onnx", 26))}
    files["RTMPose-m stand-in"] = (RTMPose, write_simcc(folder / "simcc.onnx"))
    for name, knobs in WIDTHS.items():
        files[name] = (ViTPose, write_vitpose(folder / name, *knobs))
    for name, (kind, path) in files.items():
        for batch_size in (1, 8, 32):
            estimator = kind(path, device=device, batch_size=batch_size)
            report(f"{name}, batch {batch_size}", lambda: estimator(frames), n_frames)  # noqa: B023


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda ... (ONNX needs a build for it)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as home:
        main(given.device, given.frames, Path(home))
