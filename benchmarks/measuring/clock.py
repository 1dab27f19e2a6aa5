"""The clock of the benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def now() -> float:
    """The time in seconds, once the GPU, where there is one, has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def median_seconds(work: Callable[[], Any], repeat: int) -> float:
    """The median seconds of ``repeat`` calls of ``work``, after one that warms up (with 0: of that one)."""
    seconds: list[float] = []
    once = timed(work, seconds)
    for _ in range(repeat + 1):
        once()
    return statistics.median(seconds[1:] or seconds)


def timed(function: Any, spent: list[float]) -> Any:
    """A function that also notes the seconds that each call takes."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = now()
        result = function(*args, **kwargs)
        spent.append(now() - started)
        return result

    return wrapper
