"""Seconds, bytes and operations of whole KeyRe-ID models, measured in turns in one run.

Nothing here can fail; it prints what this machine does (three minutes or more):

    python tests/benchmarks/whole_model.py

Weights and clips are random. ViT-B/16, four frames of 256 x 128, single precision. Forward: one
clip, eval mode. Training: two clips, forward and backward of seven cross-entropies. Bytes saved:
what the forward half of training keeps for the backward half, besides parameters and clips.
Operations are those of matrix products and convolutions; "of rate" is how much of the best rate of
a bare single precision product, taken in the same turns, they were done at. On a busy machine read
the seconds of the processor ("cpu s"), with one thread.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from released import ReleasedReading

from keyreid.learning.devices import matrix_rate
from keyreid.parts.keyreid import KeyReID, KeyReIDConfig

N_IDS, N_CAMS, SIZE, N_PATCHES = 625, 6, (256, 128), 128


class Half(nn.Module):
    "A model whose matrix products are done in bfloat16."

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> Tensor | tuple:
        device = "cuda" if given[0].is_cuda else "cpu"  # "meta" has no autocast of its own
        with torch.autocast(device, torch.bfloat16):
            return self.model(*given)


def keyreid(variant: str) -> KeyReID:
    "The package's model; cameras are not looked at, so that it can be counted without numbers."
    return KeyReID(KeyReIDConfig(N_IDS, N_CAMS, variant, unseen="zero"))


OURS = ("frames", "part_weights", "clip_camids")
# name: (builder, which of the clips' entries `forward` takes, seven logits out of what it returns)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...], Callable]] = {
    "released, literal": (
        lambda: ReleasedReading(N_IDS, N_CAMS),
        ("frames", "maps", "camids"),
        lambda out: out[0],
    ),
    "released": (lambda: keyreid("released"), OURS, lambda out: out[0]),
    "paper": (lambda: keyreid("paper"), OURS, lambda out: out[0]),
    "released, bf16": (lambda: Half(keyreid("released")), OURS, lambda out: out[0]),
    "paper, bf16": (lambda: Half(keyreid("paper")), OURS, lambda out: out[0]),
}


def clips(n_clips: int) -> dict[str, Tensor]:
    "Random frames, maps, weights, cameras and labels."
    rng = torch.Generator().manual_seed(n_clips)
    return {
        "frames": torch.randn(n_clips, 4, 3, *SIZE, generator=rng),
        "maps": 2 * torch.rand(n_clips, 4, 6, *SIZE, generator=rng) - 1,
        "part_weights": torch.rand(n_clips, 4, 6, N_PATCHES, generator=rng),
        "camids": torch.randint(N_CAMS, (n_clips * 4,), generator=rng),
        "clip_camids": torch.randint(N_CAMS, (n_clips,), generator=rng),
        "labels": torch.randint(N_IDS, (n_clips,), generator=rng),
    }


def descriptor(name: str, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    "Forward in eval mode."
    with torch.no_grad():
        return model.eval()(*(batch[key] for key in MODELS[name][1]))


def loss(name: str, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    "The sum of the cross-entropies of all seven classifiers, in train mode."
    logits = MODELS[name][2](model.train()(*(batch[key] for key in MODELS[name][1])))
    return sum(F.cross_entropy(x, batch["labels"]) for x in logits)


def train(name: str, model: nn.Module, batch: dict[str, Tensor]) -> None:
    "Forward and backward."
    loss(name, model, batch).backward()


def bytes_saved(name: str, model: nn.Module, batch: dict[str, Tensor]) -> int:
    "What lies in memory between forward and backward; tensors that share a storage count once."
    known = [*model.parameters(), *model.buffers(), *batch.values()]
    own = {tensor.untyped_storage().data_ptr() for tensor in known}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        total = loss(name, model, batch)  # it holds what was saved, so no address comes twice
    del total
    return sum(saved.values())


def operations(name: str, work: Callable, n_clips: int) -> int:
    "Floating point operations of matrix products and convolutions, counted without numbers."
    with torch.device("meta"):
        model = MODELS[name][0]()
    batch = {key: value.to("meta") for key, value in clips(n_clips).items()}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work(name, model, batch)
    return counter.get_total_flops()


def seconds(work: Callable, *given: object) -> tuple[float, float]:
    "How long one call takes by the clock, and how long the processor works, all threads together."
    start, busy = time.perf_counter(), time.process_time()
    work(*given)
    return time.perf_counter() - start, time.process_time() - busy


def measured(
    models: dict[str, nn.Module],
    repeats: int,
) -> tuple[dict[tuple[str, Callable], tuple[float, float]], dict[torch.dtype, float]]:
    "Seconds of each model's forward and training, and rates of products, all in turns."
    jobs = {(name, work): clips(n) for name in models for work, n in WORK.items()}
    times: dict = {job: [] for job in jobs}
    rates: dict = {torch.float32: [], torch.bfloat16: []}
    for _ in range(1 + repeats):  # the first turn warms up
        for dtype in rates:
            rates[dtype].append(matrix_rate(dtype, 1024))
        for (name, work), batch in jobs.items():
            times[name, work].append(seconds(work, name, models[name], batch))
            models[name].zero_grad()
    middle = {job: tuple(map(median, zip(*taken[1:], strict=True))) for job, taken in times.items()}
    return middle, {dtype: max(rate) for dtype, rate in rates.items()}


WORK = {descriptor: 1, train: 2}  # what is timed, with how many clips

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Whole KeyRe-ID models against each other.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    models = {name: builder() for name, (builder, _, _) in MODELS.items()}
    times, rates = measured(models, given.repeats)
    single, half = rates[torch.float32], rates[torch.bfloat16]
    print(f"{given.threads} threads, medians of {given.repeats}; products of 1024 x 1024:")
    print(f"single precision {single / 1e9:,.0f} Gflop/s, bfloat16 {half / 1e9:,.0f} Gflop/s")
    head = ("", "clips", "s", "cpu s", "Gflop", "of rate", "MB saved", "times faster")
    print("{:>28} {:>5} {:>7} {:>7} {:>7} {:>8} {:>9} {:>13}".format(*head))
    for (name, work), (taken, busy) in times.items():
        n_flops = operations(name, work, WORK[work])
        saved = f"{bytes_saved(name, models[name], clips(2)) / 1e6:,.0f}" if work is train else ""
        print(
            f"{name + ', ' + work.__name__:>28} {WORK[work]:>5} {taken:>7.2f} {busy:>7.2f} "
            f"{n_flops / 1e9:>7,.0f} {n_flops / taken / single:>8.0%} {saved:>9} "
            f"{times[next(iter(MODELS)), work][0] / taken:>13.2f}"
        )
