"""Base of the ignite metrics that score one volume at a time and average over the volumes of all processes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from .index_maps import one_channel_pairs

__all__ = ["VolumeMetric"]


class VolumeMetric(Metric):
    """Mean of a score over volumes, all-reduced over the processes of a distributed run.

    A subclass says what the score of one volume is; a volume whose score is NaN (nothing in it to score) is left out.
    Without any other volume the mean is NaN, and no error: a training that validates on such volumes goes on.
    Where the number of volumes is no multiple of the number of processes, a padding sampler repeats volumes and they
    count twice; build it with ``even_divisible=False`` to avoid this.

    Args:
        num_classes: number of classes C with the background.
        ignore_index: value of the reference's voxels that are not annotated and are left out; None for dense masks.
        output_transform: takes the engine's output and returns the two lists of :meth:`update`; in a config
            ``"$monai.handlers.from_engine(['pred', 'label'])"``.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_index: int | None = None,
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._sum = torch.zeros((), dtype=torch.float64)
        self._count = torch.zeros((), dtype=torch.float64)
        super().__init__(output_transform, skip_unrolling=True)

    @abstractmethod
    def score(self, prediction: torch.Tensor, reference: torch.Tensor) -> float:
        """Return the score of one volume.

        Args:
            prediction: index map ``[H, W, D]`` (or ``[H, W]``) of values 0 .. C - 1.
            reference: index map of the same shape; may hold ``ignore_index`` too.

        Returns:
            The score, NaN where there is nothing to score.
        """

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all volumes."""
        self._sum = torch.zeros((), dtype=torch.float64)
        self._count = torch.zeros((), dtype=torch.float64)

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]) -> None:
        """Score the volumes of one iteration.

        Args:
            output: predictions and references, two lists of as many index maps ``[1, H, W, D]`` (or ``[1, H, W]``).

        Raises:
            UserError: the shapes of a pair differ or a value is no class number.
            ValueError: the lists differ in length, or a map has more channels than one.
        """
        for prediction, reference in one_channel_pairs(output):
            score = self.score(prediction[0], reference[0])
            if not np.isnan(score):
                self._sum += score
                self._count += 1

    @sync_all_reduce("_sum", "_count")
    def compute(self) -> float:
        """Return the mean over the volumes of all processes, NaN where none had anything to score."""
        return float(self._sum / self._count)  # 0 / 0 is NaN
