"""The clock of the benchmarks."""

from __future__ import annotations

import time
from typing import Any

import torch


def now() -> float:
    """The time in seconds, once the GPU, where there is one, has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(function: Any, spent: list[float]) -> Any:
    """A function that also notes the seconds that each call takes."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = now()
        result = function(*args, **kwargs)
        spent.append(now() - started)
        return result

    return wrapper
