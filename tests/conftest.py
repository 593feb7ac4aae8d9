"""Which tests cannot run on this machine, and why."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def deadly_at(call: int) -> Callable[[Callable], Callable]:
    "Wraps functions; this process is killed at their given call, counted over all of them."
    calls = 0

    def deadly(work: Callable) -> Callable:
        def counted(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*arguments, **options)

        return counted

    return deadly


def has_gpu() -> bool:
    "Whether torch sees a CUDA device."
    import torch

    return torch.cuda.is_available()


# marker: (is what the test needs there?, the reason to skip it)
NEEDS = {
    "gpu": (has_gpu, "no CUDA device"),
    "real_data": (
        lambda: "KEYREID_REAL_DATA" in os.environ,
        "KEYREID_REAL_DATA names no folder with real data sets",
    ),
    "browser": (lambda: any(map(shutil.which, BROWSERS)), "Chromium is not installed"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    "Skip what this machine lacks the means for, with the reason."
    for marker, (is_there, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_there():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def root() -> Path:
    "The project's folder."
    return ROOT
