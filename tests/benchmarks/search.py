"""How recall, time and memory of a gallery grow with its size: measured points, as JSON.

    python tests/benchmarks/search.py nbs/2_retrieval/search_measured.json --sizes 50000 1000000

Each size is measured in a process of its own, on one core. Times are those of the processor, so
that other work on the machine matters little. Ten million descriptors of 128 numbers need 10 GB of
memory.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import re
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np

from keyreid.retrieval.search import Gallery, nearest
from keyreid.settings import rng_at

BLOCK = 12 * 8192  # rows that are made at a time: twelve tracklets per person
PROBES = (8, 32, 128)
N_QUERIES = 200
K = 10


def tracklet_like(
    block: int,  # number of the block, 0 and up
    n: int,  # rows
    width: int,
    n_asked: int,  # queries: one more tracklet of some persons
    n_traits: int = 24,
    noise: float = 0.7,
) -> tuple[np.ndarray, np.ndarray]:  # gallery rows, queries
    "Descriptors with twelve tracklets per person: few traits, and noise on top."
    rng = rng_at(23, block)
    directions = rng_at(23).standard_normal((n_traits, width), dtype=np.float32)
    traits = rng.standard_normal((math.ceil(n / 12), n_traits), dtype=np.float32)
    people = traits @ directions / np.float32(n_traits**0.5)
    clean = np.concatenate([people[np.arange(n) // 12], people[:n_asked]])
    rows = clean + np.float32(noise) * rng.standard_normal(clean.shape, dtype=np.float32)
    return rows[:n], rows[n:]


def pure_noise(block: int, n: int, width: int, n_asked: int) -> tuple[np.ndarray, np.ndarray]:
    "Descriptors without persons."
    rows = rng_at(24, block).standard_normal((n + n_asked, width), dtype=np.float32)
    return rows[:n], rows[n:]


def private_bytes() -> int:
    "Memory of this process that no file stands behind; 0 where the system does not tell."
    status = Path("/proc/self/status")
    found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return 1024 * int(found[1]) if found else 0


def fill(gallery: Gallery, n: int, make: Callable) -> np.ndarray:
    "Add `n` descriptors to the gallery; return the queries."
    queries, starts = [], range(0, n, BLOCK)
    for block, start in enumerate(starts):
        size = min(BLOCK, n - start)
        rows, asked = make(block, size, gallery.width, math.ceil(N_QUERIES / len(starts)))
        gallery.add(rows, (start + np.arange(size)) // 12, np.arange(size) % 6)
        queries.append(asked)
    return np.concatenate(queries)[:N_QUERIES]


def seconds_each(gallery: Gallery, queries: np.ndarray, **options: int) -> float:
    "The median time of one query that comes alone."
    times = []
    for query in queries[:40, None]:
        start = time.process_time()
        gallery.search(query, K, **options)
        times.append(time.process_time() - start)
    return sorted(times)[len(times) // 2]


def recall(gallery: Gallery, queries: np.ndarray, truth: np.ndarray, **options: int) -> float:
    "The share of the true ten nearest among the ten found."
    found = gallery.search(queries, K, **options).rows
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def measure(n: int, width: int, kind: str) -> dict:
    "One point: a gallery of `n` descriptors, searched exactly and through its index."
    make = {"tracklets": tracklet_like, "pure noise": pure_noise}[kind]
    gallery = Gallery(width, exact_up_to=10**12)
    queries = fill(gallery, n, make)
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    truth = nearest(unit, gallery.vectors, K)
    point = dict(kind=kind, n=n, width=width, vector_bytes=gallery.vectors.nbytes)
    point["exact_seconds"] = seconds_each(gallery, queries)
    gallery.exact_up_to, before, start = 10_000, private_bytes(), time.process_time()
    gallery.search(queries[:1], K)
    point |= dict(build_seconds=time.process_time() - start, n_lists=math.isqrt(n))
    point["index_bytes"] = private_bytes() - before
    for n_probe in PROBES:
        for name, n_rescored in (("codes", K), ("rescored", 256)):
            options = dict(n_probe=n_probe, n_rescored=n_rescored)
            point[f"recall_{name}_{n_probe}"] = recall(gallery, queries, truth, **options)
        point[f"seconds_{n_probe}"] = seconds_each(gallery, queries, **options)
    return point


def main() -> None:
    "Measure each size and write all points after each."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30_000, 100_000, 300_000])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--kind", choices=["tracklets", "pure noise"], default="tracklets")
    given = parser.parse_args()
    packages = {name: version(name) for name in ("faiss-cpu", "numpy", "pyarrow")}
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    about = dict(date=date.today().isoformat(), machine=machine, packages=packages)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes below
    points = json.loads(given.out.read_text())["points"] if given.out.exists() else []
    for n in given.sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            point = pool.apply(measure, (n, given.width, given.kind))
        print(json.dumps(point, indent=1), flush=True)
        points = [p for p in points if (p["kind"], p["n"]) != (given.kind, n)] + [point]
        points.sort(key=lambda p: (p["kind"], p["n"]))
        given.out.write_text(json.dumps(about | {"points": points}, indent=1) + "\n")


if __name__ == "__main__":
    main()
