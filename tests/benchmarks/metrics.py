"""How fast is the evaluation, and how much memory does it take?

Run it on a quiet machine: `python tests/benchmarks/metrics.py`. It prints ratios, because seconds
say little about another machine: `evaluate` over NumPy's argsort of the same matrix, and
`evaluate_features` over NumPy's bare product of the two matrices, in one run, medians of 7.
Memory is the peak of a child process above its inputs (Linux). `--quick` leaves out the large
gallery.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keyreid.retrieval.metrics import evaluate, evaluate_features, pairwise_distance

SIZE, LARGE, WIDTH = (1980, 11310), (10_000, 100_000), 768
TARGETS = {"good": (0.3, 1.6), "random": (0.6, 2.5)}


def make_labels(n_queries: int, n_gallery: int) -> tuple[np.ndarray, ...]:
    "Persons and cameras as in MARS: 634 people, six cameras, 29 % of the gallery distractors."
    rng = np.random.default_rng(0)
    pids = rng.integers(1, 1 + n_gallery * 634 // 11310, n_queries + n_gallery)
    is_distractor = np.arange(len(pids)) >= n_queries + 0.71 * n_gallery
    pids, camids = np.where(is_distractor, 0, pids), rng.integers(0, 6, len(pids))
    return pids[:n_queries], pids[n_queries:], camids[:n_queries], camids[n_queries:]


def make_descriptors(labels: tuple[np.ndarray, ...], kind: str) -> tuple[np.ndarray, np.ndarray]:
    "Noise, and for good descriptors the person in it: mAP about 0.75."
    rng = np.random.default_rng(1)
    x = rng.standard_normal((len(labels[0]) + len(labels[1]), WIDTH), dtype=np.float32)
    if kind == "good":
        people = rng.standard_normal((max(labels[1]) + 1, WIDTH), dtype=np.float32)
        people[0] = 0
        x += 0.6 * people[np.concatenate(labels[:2])]
    return x[: len(labels[0])], x[len(labels[0]) :]


def median_seconds(work: Callable[[], object], n: int = 7) -> float:
    "The median time of `n` runs after one to warm up."
    seconds = []
    for _ in range(n + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds[1:])[n // 2]


def compare(kind: str) -> None:
    "Print the two ratios for one kind of descriptors."
    labels = make_labels(*SIZE)
    queries, gallery = make_descriptors(labels, kind)
    matrix = pairwise_distance(queries, gallery)
    print(f"{kind} descriptors, {evaluate(matrix, *labels)}")
    pairs = (
        ("evaluate", lambda: evaluate(matrix, *labels)),
        ("argsort", lambda: np.argsort(matrix, axis=1)),
        ("evaluate_features", lambda: evaluate_features(queries, gallery, *labels)),
        ("product", lambda: queries @ gallery.T),
    )
    seconds = {name: median_seconds(work) for name, work in pairs}
    names = list(seconds)
    for ours, theirs, target in zip(names[::2], names[1::2], TARGETS[kind], strict=True):
        ratio = seconds[ours] / seconds[theirs]
        print(
            f"  {ours} {seconds[ours]:.3f} s / {theirs} {seconds[theirs]:.3f} s"
            f" = {ratio:.2f} (target {target}){'' if ratio <= target else '  MISSED'}"
        )


def resident_mib(what: str) -> float:
    "The resident size of this process in MiB: VmRSS is that of now, VmHWM the largest so far."
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[what].split()[0]) / 1024


def measure_memory(what: str, n_queries: int, n_gallery: int) -> None:
    "Print how much one call takes above its inputs; to be run in a process of its own."
    labels = make_labels(n_queries, n_gallery)
    queries, gallery = make_descriptors(labels, "random")
    small = [part[:50] for part in labels]
    evaluate_features(queries[:50], gallery[:50], *[np.zeros(50, int)] * 3, 1 + small[3])
    if what == "evaluate":
        matrix = pairwise_distance(queries, gallery)
        work = lambda: evaluate(matrix, *labels)  # noqa: E731
    else:
        work = lambda: evaluate_features(queries, gallery, *labels)  # noqa: E731
    Path("/proc/self/clear_refs").write_text("5")  # the largest size starts anew from here
    before, start = resident_mib("VmRSS"), time.perf_counter()
    work()
    seconds, extra = time.perf_counter() - start, resident_mib("VmHWM") - before
    where = f"{extra:.0f} MiB above {before:.0f} MiB, {seconds:.1f} s"
    print(f"{what} {n_queries} x {n_gallery}, {WIDTH} numbers: {where}")


def main() -> None:
    "Compare, then measure memory in children."
    if sys.argv[1:2] == ["memory"]:
        return measure_memory(sys.argv[2], *map(int, sys.argv[3:]))
    for kind in TARGETS:
        compare(kind)
    cases = [("evaluate", *SIZE), ("evaluate_features", *SIZE)]
    cases += [] if "--quick" in sys.argv else [("evaluate_features", *LARGE)]
    for case in cases:
        subprocess.run([sys.executable, __file__, "memory", *map(str, case)], check=True)


if __name__ == "__main__":
    main()
