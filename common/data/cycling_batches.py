"""Batches of a data set that runs beside the main loader and starts over when it is used up."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .slice_dataset import SliceDataset

__all__ = ["CyclingBatches"]


class CyclingBatches:
    """The endless stream of shuffled passes over a data set, cut into batches.

    The batch of an iteration is a function of (seed, stream, iteration, rank) alone, so a resumed run goes on with
    the batches that an unbroken one would have seen, without any state to save.

    Args:
        dataset: the slices; may be empty.
        batch_size: slices in a batch of one process.
        seed: seed of the run.
        stream: name of this stream, which keeps two streams of one seed apart.
        rank: this process's number.
        world_size: number of processes.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        batch_size: int,
        *,
        seed: int = 0,
        stream: str = "",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self._entropy = [seed, *stream.encode()]
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, iteration: int) -> dict[str, Any]:
        """Return the batch of an iteration, counted from 1 as ignite's engines do."""
        first = ((iteration - 1) * self.world_size + self.rank) * self.batch_size
        positions = range(first, first + self.batch_size)
        length = len(self.dataset)
        return self.dataset.__getitems__([int(self._order(p // length)[p % length]) for p in positions])

    def _shuffled(self, number: int) -> np.ndarray:
        return np.random.default_rng([*self._entropy, number]).permutation(len(self.dataset))
