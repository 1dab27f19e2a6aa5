"""Sums over the whole batch of all processes, for losses whose normalisers are the batch's."""

from __future__ import annotations

import torch
import torch.distributed as dist

__all__ = ["all_reduced", "batch_mean", "labelled_counts", "world_size"]


def world_size() -> int:
    """Return the number of processes that train together, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduced(value: torch.Tensor) -> torch.Tensor:
    """Return the sum of a detached tensor over all processes; the tensor itself without a process group."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def batch_mean(value: torch.Tensor) -> torch.Tensor:
    """Return the mean of a detached tensor over all processes."""
    return all_reduced(value.detach()) / world_size()


def labelled_counts(target: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Count the annotated pixels of each class over the batch of all processes.

    Args:
        target: index map of any shape; values outside 0 .. ``num_classes`` - 1 count as not annotated.
        num_classes: number of classes C.

    Returns:
        float tensor ``[C]``, without gradient.
    """
    flat = target.detach().flatten().long()
    inside = (flat >= 0) & (flat < num_classes)
    counts = torch.bincount(torch.where(inside, flat, num_classes), minlength=num_classes + 1)[:num_classes]
    return all_reduced(counts.float())
