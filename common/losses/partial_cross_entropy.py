"""Cross entropy over the annotated pixels alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from ..errors import UserError
from .batch_statistics import labelled_counts, world_size

__all__ = ["PartialCrossEntropyLoss"]


class PartialCrossEntropyLoss(_Loss):
    """Partial cross entropy (Tang et al., 2018) and its class-weighted form (Valvano et al., TMI 2021, Eq. 1).

    L = 1/n_tot * sum over annotated pixels p of w_{y_p} * (-log softmax(input)_p[y_p]), where n_tot counts the
    annotated pixels of the batch (of all processes). Unannotated pixels carry neither loss nor gradient; a batch
    without any annotated pixel gives 0 with a gradient of 0. Several annotations of one image, each in a channel of
    the target, have counts and weights of their own and their losses are summed (Valvano et al., section V-E).

    Args:
        num_classes: number of classes C. Values of the target outside 0 .. C - 1 (``ignore_index`` = C) mean
            "not annotated".
        weighting: class weights w_i from the batch's own counts n_i: ``"none"`` (1: PCE), ``"frequency"``
            (1 - n_i / n_tot: the paper's WPCE) or ``"inverse"`` (n_tot / n_i: the authors' code).

    Raises:
        UserError: for an unknown weighting.

    Example:
        >>> loss = PartialCrossEntropyLoss(num_classes=2)
        >>> round(float(loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[[0, 2]]]]))), 4)
        0.6931
    """

    def __init__(self, num_classes: int, *, weighting: str = "none") -> None:
        super().__init__()
        if weighting not in ("none", "frequency", "inverse"):
            raise UserError(f"weighting must be 'none', 'frequency' or 'inverse', got {weighting!r}")
        self.num_classes = num_classes
        self.weighting = weighting

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
        if logits.shape[1] != self.num_classes:
            raise ValueError(f"expected {self.num_classes} channels of logits, got shape {tuple(logits.shape)}")
        if target.ndim != 4 or (target.shape[0], *target.shape[2:]) != (logits.shape[0], *logits.shape[2:]):
            raise ValueError(f"target {tuple(target.shape)} must be {(logits.shape[0], 'A', *logits.shape[2:])}")
        log_probabilities = F.log_softmax(logits.float(), dim=1)
        return torch.stack([self._of_one(log_probabilities, index) for index in target.unbind(1)]).sum()

    def _of_one(self, log_probabilities: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        index = index.long()
        index = torch.where((index >= 0) & (index < self.num_classes), index, self.num_classes)
        counts = labelled_counts(index, self.num_classes)
        total = F.nll_loss(
            log_probabilities, index, self._class_weights(counts), ignore_index=self.num_classes, reduction="sum"
        )
        # DDP averages gradients over processes; the sum over processes is what the batch's mean needs
        return total * (world_size() / counts.sum().clamp(min=1.0))

    def _class_weights(self, counts: torch.Tensor) -> torch.Tensor | None:
        total = counts.sum().clamp(min=1.0)
        if self.weighting == "frequency":
            return 1.0 - counts / total
        if self.weighting == "inverse":
            return total / counts.clamp(min=1.0)
        return None
