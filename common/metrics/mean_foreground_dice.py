"""Mean Dice per volume and foreground class as an ignite metric."""

from __future__ import annotations

import numpy as np
import torch

from .segmentation_scores import class_dice
from .volume_metric import VolumeMetric

__all__ = ["MeanForegroundDice"]


class MeanForegroundDice(VolumeMetric):
    """Dice of each foreground class over a whole volume, averaged over its classes, then over the volumes.

    A class that neither the prediction nor the reference holds is left out; one that only one of them holds scores 0.
    MONAI's ``MeanDice`` knows no ignored voxels, which validation on scribbles alone needs.

    The arguments are those of :class:`~.volume_metric.VolumeMetric`.
    """

    def score(self, prediction: torch.Tensor, reference: torch.Tensor) -> float:
        """Return the mean Dice of one volume, 0 .. 1; NaN where neither map holds a foreground class."""
        dice = class_dice(prediction, reference, self.num_classes, ignore_index=self.ignore_index)
        present = dice[~np.isnan(dice)]
        return float(present.mean()) if present.size else float("nan")
