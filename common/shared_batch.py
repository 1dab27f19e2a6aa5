"""One batch that several processes share: what is drawn for it once, and what each of them holds of it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

__all__ = ["first_draw", "gathered", "of_all_processes", "own_share", "process_rank", "world_size"]


def world_size() -> int:
    """Return the number of processes that train together, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return this process's number, 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def first_draw(draw: torch.Tensor) -> torch.Tensor:
    """Return what process 0 drew, so that its generator is the one of all.

    Every process has to draw, and a tensor of the same shape and type.

    Args:
        draw: random numbers, on the CPU or on this process's device.

    Returns:
        those of process 0, on the same device; ``draw`` itself without a process group.
    """
    if world_size() == 1:
        return draw
    # NCCL carries what lies on GPUs alone
    carried = draw.cuda() if dist.get_backend() == dist.Backend.NCCL else draw.clone()
    dist.broadcast(carried, src=0)
    return carried.to(draw.device)


def gathered(values: torch.Tensor) -> torch.Tensor:
    """Join the processes' shares of a batch in the order of their numbers; gradients find their way back.

    Where DDP averages gradients, a loss that divides by the whole batch and multiplies by the number of processes
    receives those of the whole batch through this, too.

    Args:
        values: ``[B, ...]`` of any type, of the same shape on all N processes.

    Returns:
        ``[N B, ...]``; ``values`` itself without a process group.
    """
    return values if world_size() == 1 else _Gathered.apply(values)


def own_share(values: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Return what this process has of values for the whole batch; the reverse of :func:`gathered`.

    Args:
        values: the same on all N processes, of a size along ``dim`` that N divides.
        dim: the axis of the batch's items.
    """
    return values.chunk(world_size(), dim)[process_rank()]


def of_all_processes(value: Any) -> list[Any]:
    """Return the values of all processes, in the order of their numbers; of any type that can be pickled."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


class _Gathered(torch.autograd.Function):
    """All shares in a row; each process's share receives the gradients of all."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        shares = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(shares, values.contiguous())
        return torch.cat(shares)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return own_share(total)
