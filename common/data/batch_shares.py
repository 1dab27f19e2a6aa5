"""Every process's share of the batches that processes train on together."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, cast

from torch.utils.data import Dataset, DistributedSampler

from ..errors import UserError

__all__ = ["BatchShares"]


class BatchShares(DistributedSampler):
    """The shuffled order of a data set, cut into batches, and of each the part of one process.

    The order depends on seed and epoch alone. N processes of batch size B see the batches, in the same order, that one
    process of batch size N B sees: process r has the items r B to (r + 1) B - 1 of each. The rest of an epoch that
    fills no batch is left out, as far as there is any full one; otherwise there is one smaller batch, of the same size
    on each process.

    The length is a multiple of ``batch_size``.

    Args:
        dataset: the data set.
        batch_size: items of a process in a batch.
        seed: seed of the order; the epoch is set by MONAI's engines.
        rank: this process's number r.
        world_size: number N of processes.

    Attributes:
        batch_size: items of a process in a batch, no more than there are.

    Raises:
        UserError: there are fewer items than processes.
    """

    def __init__(self, dataset: Dataset, batch_size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        # of one process, so that it gives the whole order
        super().__init__(dataset, num_replicas=1, rank=0, shuffle=True, seed=seed)
        count = len(cast(Sized, dataset))
        if world_size > 1 and count < world_size:
            raise UserError(
                f"{count} slices are too few for {world_size} processes, each of which needs one in a batch; start "
                f"fewer (--nproc_per_node)"
            )
        self.batch_size = max(1, min(batch_size, count // world_size))
        self.share, self.shares = rank, world_size

    def __iter__(self) -> Iterator[Any]:
        order = list(super().__iter__())
        step = self.batch_size * self.shares
        for first in range(0, len(order) - step + 1, step):
            yield from order[first + self.share * self.batch_size : first + (self.share + 1) * self.batch_size]

    def __len__(self) -> int:
        return super().__len__() // (self.batch_size * self.shares) * self.batch_size
