"""Sums over the whole batch of all processes, for losses whose normalisers are the batch's."""

from __future__ import annotations

import torch
import torch.distributed as dist

from ..shared_batch import world_size

__all__ = ["all_reduced", "batch_mean", "labelled_counts", "world_size"]


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
    if flat.is_cuda:
        # bincount has to know the largest value first, and so waits for the GPU
        counts = torch.stack([(flat == index).sum() for index in range(num_classes)])
    else:
        inside = (flat >= 0) & (flat < num_classes)
        counts = torch.bincount(torch.where(inside, flat, num_classes), minlength=num_classes + 1)[:num_classes]
    return all_reduced(counts.float())
