"""Dense supervision: cross entropy and Dice over all annotated pixels, the upper bound of scribble benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.modules.loss import _Loss

from ..errors import UserError
from .batch_dice import batch_dice_loss
from .batch_statistics import batch_mean
from .partial_cross_entropy import PartialCrossEntropyLoss

__all__ = ["DenseSupervisionLoss"]


class DenseSupervisionLoss(_Loss):
    """L = (1 - dice_weight) * CE + dice_weight * Dice, as the fully supervised row of Luo et al. (MICCAI 2022).

    The Dice loss is that of :func:`~.batch_dice.batch_dice_loss`. Pixels that are not annotated, such as those that a
    rotation brought in, have no part in either term: they are left out of all sums, and have no gradient. Several
    annotations of an image, each in a channel of the target, have terms of their own, which are summed; a channel
    without any annotated pixel in the whole batch adds nothing.

    After each call ``terms`` holds ``l_ce`` and ``l_dice``, without their weights, detached and averaged over
    processes.

    Args:
        num_classes: number of classes C. Values of the target outside 0 .. C - 1 (``ignore_index`` = C) mean
            "not annotated".
        dice_weight: weight of the Dice loss, 0 to 1.

    Raises:
        UserError: the weight is out of its range.

    Example:
        >>> loss = DenseSupervisionLoss(num_classes=2, dice_weight=0.0)
        >>> round(float(loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[[0, 1]]]]))), 4)
        0.6931
    """

    def __init__(self, num_classes: int, *, dice_weight: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= dice_weight <= 1.0:
            raise UserError(f"dice_weight must be a number from 0 to 1, got {dice_weight}")
        self.num_classes = num_classes
        self.dice_weight = dice_weight
        self.cross_entropy = PartialCrossEntropyLoss(num_classes)
        self.terms: dict[str, torch.Tensor] = {}

    def forward(self, input: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            input: logits ``[B, C, H, W]``, or several heads of which the first counts.
            target: index map ``[B, 1, H, W]``, or ``[B, A, H, W]`` of A annotators.

        Returns:
            scalar, at least 0.

        Raises:
            ValueError: if the shapes do not belong together.
        """
        logits = input if isinstance(input, torch.Tensor) else input[0]
        named = {"l_ce": self.cross_entropy(logits, target)}
        probabilities = torch.softmax(logits.float(), dim=1)
        named["l_dice"] = torch.stack([self._dice(probabilities, index) for index in target.unbind(1)]).sum()
        values = batch_mean(torch.stack([value.detach() for value in named.values()]))
        self.terms = dict(zip(named, values.unbind(), strict=True))
        return (1.0 - self.dice_weight) * named["l_ce"] + self.dice_weight * named["l_dice"]

    def _dice(self, probabilities: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        index = index.long()
        annotated = (index >= 0) & (index < self.num_classes)
        # without any annotation smooth / smooth = 1 for every class, so the loss is 0
        return batch_dice_loss(probabilities * annotated.unsqueeze(1), torch.where(annotated, index, -1))
