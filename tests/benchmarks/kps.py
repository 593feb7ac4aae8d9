"""Frames per second of part weights, and how much longer the way with full-size maps takes.

Nothing here can fail; it prints what this machine does:

    python tests/benchmarks/kps.py
"""

import statistics
import time
from collections.abc import Callable

import torch
from einops import rearrange

from keyreid.keypoints import PARTS6
from keyreid.parts.kps import part_weights

N_FRAMES, SIZE, GRID = 4096, (256, 128), (16, 8)


def from_maps(
    joints: torch.Tensor,  # [F, 17, 3]
) -> torch.Tensor:  # [F, 6, N], a joint in the middle of a patch below 1
    "Weights by way of full-size maps: draw each joint, take means over patches, then the maximum."
    (H, W), sigma = SIZE, (2 * (SIZE[1] // 11) + 1) / 4
    x, y, confidence = joints.unbind(-1)
    down = torch.exp(-(((torch.arange(H) - y[..., None]) / sigma) ** 2) / 2)
    across = torch.exp(-(((torch.arange(W) - x[..., None]) / sigma) ** 2) / 2)
    maps = down[..., None] * across[..., None, :] * (confidence > 0.1)[..., None, None]
    cells = rearrange(maps, "f v (r p) (c q) -> f v (r c) p q", r=GRID[0], c=GRID[1])
    means = cells.mean((-2, -1))
    return torch.stack([means[:, list(part)].amax(1) for part in PARTS6.values()], 1)


def seconds(
    work: Callable[[], object],
    repeats: int,
) -> tuple[float, float]:
    "Median and shortest time of `repeats` runs, after one to warm up."
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times)


if __name__ == "__main__":
    torch.set_num_threads(2)
    numbers = torch.rand(N_FRAMES // 4, 4, 17, 3, generator=torch.Generator().manual_seed(0))
    joints = numbers * torch.tensor([SIZE[1], SIZE[0], 1.0])
    some = joints[:16]  # the long way needs 2.2 MB a frame
    median, shortest = seconds(lambda: part_weights(joints), 21)
    slow = seconds(lambda: from_maps(some.flatten(0, 1)), 7)[0] / (16 * 4)
    fast, best, long = N_FRAMES / median, N_FRAMES / shortest, 1 / slow
    print(f"part weights: {fast:,.0f} frames/s (median), {best:,.0f} (best)")
    print(f"full-size maps: {long:,.0f} frames/s, {fast / long:,.0f} times as long")
