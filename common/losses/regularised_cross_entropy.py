"""Scribbles and one regulariser of the predictions: the form that most comparison methods have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn.modules.loss import _Loss

from ..errors import UserError
from .batch_statistics import batch_mean
from .partial_cross_entropy import PartialCrossEntropyLoss

__all__ = ["RegularisedCrossEntropyLoss"]


class RegularisedCrossEntropyLoss(_Loss):
    """L = pCE + weight * R(logits, image), with a regulariser R that looks at no label.

    With :class:`~.gated_crf.GatedCRFLoss` as R it is the gated CRF baseline of scribble benchmarks (Obukhov et al.,
    2019, Eq. 4): all pixels are destinations and sources, drawn ones too.

    After each call ``terms`` holds ``l_pce`` and the regulariser's value under ``name``, without its weight, detached
    and averaged over processes. A weight of 0 leaves the regulariser out.

    Args:
        num_classes: number of classes C. Values of the target outside 0 .. C - 1 (``ignore_index`` = C) mean
            "not annotated".
        regulariser: R, called with the logits ``[B, C, H, W]`` and what the network saw ``[B, channels, H, W]``; gives
            a scalar whose normaliser is the batch's, such as a mean over all pixels.
        weight: weight of R.
        name: what the logs call R.
        weighting: class weights of the cross entropy, see :class:`~.partial_cross_entropy.PartialCrossEntropyLoss`.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        regulariser: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        weight: float = 0.1,
        name: str = "l_regulariser",
        weighting: str = "none",
    ) -> None:
        super().__init__()
        if not weight >= 0.0:
            raise UserError(f"weight of {name} must not be negative, got {weight}")
        self.regulariser = regulariser
        self.weight = weight
        self.name = name
        self.cross_entropy = PartialCrossEntropyLoss(num_classes, weighting=weighting)
        self.terms: dict[str, torch.Tensor] = {}

    def forward(self, input: torch.Tensor | Sequence[torch.Tensor], target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute the loss.

        Args:
            input: logits ``[B, C, H, W]``, or several heads of which the first counts.
            target: ``label``: index map ``[B, 1, H, W]`` (``[B, A, H, W]`` of A annotators), and ``image``: what the
                network saw, ``[B, channels, H, W]``.

        Returns:
            scalar.

        Raises:
            UserError: the target has no image.
            ValueError: the shapes do not belong together.
        """
        if not isinstance(target, Mapping) or "image" not in target:
            raise UserError(f"{self.name} needs the image: set image_in_target of prepare_batch to true")
        logits = input if isinstance(input, torch.Tensor) else input[0]
        named = {"l_pce": self.cross_entropy(logits, target["label"])}
        total = named["l_pce"]
        if self.weight > 0.0:
            named[self.name] = self.regulariser(logits, target["image"])
            total = total + self.weight * named[self.name]
        values = batch_mean(torch.stack([value.detach() for value in named.values()]))
        self.terms = dict(zip(named, values.unbind(), strict=True))
        return total
