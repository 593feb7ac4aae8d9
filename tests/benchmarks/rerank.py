"""How long re-ranking takes and how much memory: `python tests/benchmarks/rerank.py --help`.

Each measurement runs in a fresh process that makes its inputs, warms up, and then works once.
Printed are medians and ratios: to `np.argsort` of a matrix as large as the result, to the bare
product of all descriptors with all, and, at a smaller size, to the dense definition. On a busy
machine look at the seconds of the processor, summed over threads; the ratios are made of them.
Memory is the peak of the process above what it held when its inputs were ready; the result
[Q, G] is part of it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median

MARS, SMALL, LARGE = (1980, 11310), (300, 1700), (2000, 50_000)


def descriptors(n_queries: int, n_gallery: int, kind: str, width: int = 768):
    "Queries and gallery: `people` have about 21 tracklets each, `random` ones nothing in common."
    import numpy as np

    rng, n = np.random.default_rng(0), n_queries + n_gallery
    x = rng.standard_normal((n, width), dtype=np.float32)
    if kind == "people":
        people = rng.standard_normal((n // 21 + 1, width), dtype=np.float32)
        for i, person in enumerate(rng.integers(0, len(people), n)):
            x[i] = 3 * x[i] + people[person]
    return x[:n_queries], x[n_queries:]


def dense(queries, gallery, k1: int = 20, k2: int = 6, blend: float = 0.3):
    "The definition with all N x N matrices in double precision, row by row."
    import numpy as np

    n_queries, x = len(queries), np.concatenate([queries, gallery]).astype(np.float64)
    lengths = np.einsum("nd,nd->n", x, x)
    squared = lengths[:, None] + lengths - 2 * x @ x.T
    np.fill_diagonal(squared, 0)
    original = squared / squared.max(axis=1, keepdims=True)
    order = np.argsort(squared - np.eye(len(x)), axis=1)
    half = round(k1 / 2)

    def mutual(i: int, k: int):
        near = order[i, : k + 1]
        return near[(order[near, : k + 1] == i).any(axis=1)]

    weights = np.zeros_like(original)
    for i in range(len(x)):
        near = mutual(i, k1)
        circles = [mutual(j, half) for j in near]
        joined = [c for c in circles if 3 * np.isin(c, near).sum() > 2 * len(c)]
        members = np.unique(np.concatenate([near, *joined]))
        weights[i, members] = np.exp(-original[i, members])
        weights[i] /= weights[i].sum()
    weights = np.stack([weights[row[:k2]].mean(axis=0) for row in order])
    shared = np.stack([np.minimum(row, weights[n_queries:]).sum(1) for row in weights[:n_queries]])
    return (1 - blend) * (1 - shared / (2 - shared)) + blend * original[:n_queries, n_queries:]


def product(queries, gallery) -> None:
    "Nothing; all inner products block by block, the least that any method has to compute."
    import torch

    x = torch.cat([torch.from_numpy(queries), torch.from_numpy(gallery)])
    for rows in x.split(1000):
        rows @ x.T


def measure(what: str, n_queries: int, n_gallery: int, kind: str) -> dict[str, float]:
    "Seconds of clock and processor and MB above the inputs that one piece of work takes here."
    import numpy as np
    import psutil

    from keyreid.retrieval.rerank import k_reciprocal

    queries, gallery = descriptors(n_queries, n_gallery, kind)
    if what == "argsort":
        queries = np.random.default_rng(1).random((n_queries, n_gallery), dtype=np.float32)
    jobs = {
        "k_reciprocal": k_reciprocal,
        "dense": dense,
        "product": product,
        "argsort": lambda matrix, _: np.argsort(matrix, axis=1),
    }
    jobs[what](queries[:30], gallery[:70])
    before = psutil.Process().memory_info().rss
    start, cpu = time.perf_counter(), time.process_time()
    jobs[what](queries, gallery)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"seconds": seconds, "cpu": cpu, "megabytes": (peak - before) / 1e6}


def repeat(what: str, size: tuple[int, int], kind: str, repeats: int) -> float:
    "Median seconds of the processor over fresh processes; one line is printed."
    command = [sys.executable, __file__, "--child", what, *map(str, size), kind]
    outputs = [subprocess.run(command, check=True, capture_output=True) for _ in range(repeats)]
    found = [json.loads(output.stdout) for output in outputs]
    seconds, cpu, megabytes = (median(f[k] for f in found) for k in found[0])
    shape, times = f"{size[0]} x {size[1]}", f"{seconds:8.2f} s {cpu:8.2f} s cpu"
    print(f"{what:13} {shape:13} {kind:7} {times} {megabytes:8.0f} MB", flush=True)
    return cpu


def main(repeats: int, large: bool) -> None:
    "Nothing; prints the table."
    print(f"medians of {repeats} processes, 768 numbers per descriptor, single precision")
    sort = repeat("argsort", MARS, "people", repeats)
    bare = repeat("product", MARS, "people", repeats)
    for kind in ("people", "random"):
        ours = repeat("k_reciprocal", MARS, kind, repeats)
        print(f"  k_reciprocal / argsort {ours / sort:.1f}, / product {ours / bare:.1f}")
    slow = repeat("dense", SMALL, "people", repeats)
    ours = repeat("k_reciprocal", SMALL, "people", repeats)
    print(f"  dense / k_reciprocal {slow / ours:.1f}")
    if large:
        repeat("k_reciprocal", LARGE, "people", 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="processes per line (3)")
    parser.add_argument("--large", action="store_true", help="2000 x 50000 as well, once")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, n_queries, n_gallery, kind = arguments.child
        print(json.dumps(measure(what, int(n_queries), int(n_gallery), kind)))
    else:
        main(arguments.repeats, arguments.large)
