"""MAAG's validation criterion as an ignite metric: one minus the pooled Dice per slice."""

from __future__ import annotations

import torch

from .segmentation_scores import pooled_slice_dice
from .volume_metric import VolumeMetric

__all__ = ["PooledSliceDiceLoss"]


class PooledSliceDiceLoss(VolumeMetric):
    """One minus the pooled Dice per slice, averaged over the slices of a volume, then over the volumes.

    The quantity on which MAAG stops and keeps its best checkpoint (Valvano, Leo and Tsaftaris, IEEE TMI 2021); see
    :func:`~.segmentation_scores.pooled_slice_dice` for the formula. **Smaller is better**: as the key metric of an
    evaluator it needs ``"metric_cmp_fn": "$lambda current, best: current < best"``.

    The arguments are those of :class:`~.volume_metric.VolumeMetric`.
    """

    def score(self, prediction: torch.Tensor, reference: torch.Tensor) -> float:
        """Return the loss of one volume, 0 .. 1; NaN where every voxel is ignored."""
        return 1 - pooled_slice_dice(prediction, reference, self.num_classes, ignore_index=self.ignore_index)
