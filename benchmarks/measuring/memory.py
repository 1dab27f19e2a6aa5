"""The memory that the benchmarks measure."""

from __future__ import annotations

import resource
import sys

import torch


def peak_mib(device: str = "cpu") -> float:
    """The largest memory of this process so far in MiB: on a GPU what PyTorch took, else the resident set."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    # counted in KiB, on a Mac in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
