"""DMPLS' loss: scribbles and dynamically mixed pseudo labels supervise two heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.modules.loss import _Loss

from ..errors import UserError
from ..shared_batch import first_draw
from .batch_dice import batch_dice_loss
from .batch_statistics import all_reduced, batch_mean, world_size
from .partial_cross_entropy import PartialCrossEntropyLoss

__all__ = ["MIXINGS", "DynamicPseudoLabelsLoss", "mixed_pseudo_labels"]

MIXINGS = ("random", "fixed", "cps", "cr", "none")


def mixed_pseudo_labels(first: torch.Tensor, second: torch.Tensor, alpha: float | torch.Tensor) -> torch.Tensor:
    """Mix two predictions to hard pseudo labels (Luo et al., MICCAI 2022, Eq. 2).

    PL = argmax over classes of alpha * first + (1 - alpha) * second.

    Args:
        first: probabilities ``[B, C, H, W]``.
        second: probabilities ``[B, C, H, W]``.
        alpha: weight of the first, 0 .. 1.

    Returns:
        index map ``[B, H, W]``, without gradient; of classes that tie, the lowest.
    """
    return _winners(torch.lerp(second.detach(), first.detach(), alpha))


class DynamicPseudoLabelsLoss(_Loss):
    """Scribble supervision and dynamically mixed pseudo labels (Luo et al., MICCAI 2022, Eq. 1-4).

    L = 1/2 (pCE(y1, s) + pCE(y2, s)) + pseudo_weight * L_PLS. The pseudo labels cover all pixels, scribbled ones
    included, and carry no gradient, so that none passes from one decoder to the other:
    L_PLS = 1/2 (D(PL, y1) + D(PL, y2)).

    The random alpha is drawn once per call from torch's global generator on the CPU, whatever the device: a seed set
    before each iteration fixes it. Under DDP process 0 draws it for all, as the paper has one alpha for a batch.

    After each call ``terms`` holds, detached and averaged over processes, ``l_pce_main``, ``l_pce_auxiliary`` and
    ``l_pls``; mixing ``"cr"`` calls the last ``l_cr``, ``"none"`` has none.

    Args:
        num_classes: number of classes C. Values of the target outside 0 .. C - 1 (``ignore_index`` = C) mean
            "not annotated".
        pseudo_weight: lambda, the weight of L_PLS, constant over the training.
        mixing: ``"random"`` draws alpha uniformly from 0 .. 1 (the paper), ``"fixed"`` takes 1/2; ``"cps"`` lets
            each head's own labels supervise the other one (cross pseudo supervision); ``"cr"`` replaces L_PLS by the
            mean squared difference of the two heads' probabilities, with gradients to both (consistency
            regularisation); ``"none"`` leaves L_PLS out.
        pseudo_loss: D, ``"dice"`` as the paper or ``"ce"``, the cross entropy; mixing ``"cr"`` needs none.

    Raises:
        UserError: for an option out of its range.

    Example:
        >>> loss = DynamicPseudoLabelsLoss(num_classes=2, mixing="none")
        >>> heads = (torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2))
        >>> round(float(loss(heads, torch.tensor([[[[0, 2]]]]))), 4)
        0.6931
    """

    def __init__(
        self, num_classes: int, *, pseudo_weight: float = 0.5, mixing: str = "random", pseudo_loss: str = "dice"
    ) -> None:
        super().__init__()
        if pseudo_weight < 0.0:
            raise UserError(f"pseudo_weight must not be negative, got {pseudo_weight}")
        if mixing not in MIXINGS:
            raise UserError(f"mixing must be one of {', '.join(MIXINGS)}, got {mixing!r}")
        if pseudo_loss not in ("dice", "ce"):
            raise UserError(f"pseudo_loss must be 'dice' or 'ce', got {pseudo_loss!r}")
        self.num_classes = num_classes
        self.pseudo_weight = pseudo_weight
        self.mixing = mixing
        self.pseudo_loss = pseudo_loss
        self.cross_entropy = PartialCrossEntropyLoss(num_classes)
        self.terms: dict[str, torch.Tensor] = {}

    def forward(self, input: Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            input: logits of the main and of the auxiliary head, each ``[B, C, H, W]``.
            target: index map ``[B, 1, H, W]``, or ``[B, A, H, W]`` of A annotators.

        Returns:
            scalar, at least 0.

        Raises:
            ValueError: if there are not two heads, or the shapes do not belong together.
        """
        if isinstance(input, torch.Tensor) or len(input) != 2:
            given = f"one tensor {tuple(input.shape)}" if isinstance(input, torch.Tensor) else f"{len(input)} heads"
            raise ValueError(f"expected the logits of two heads, as the network gives in train mode, got {given}")
        main, auxiliary = (self.cross_entropy(logits, target) for logits in input)
        named = {"l_pce_main": main, "l_pce_auxiliary": auxiliary}
        total = 0.5 * (main + auxiliary)
        if self.mixing != "none":
            between = self._pseudo_supervision(input)
            named["l_cr" if self.mixing == "cr" else "l_pls"] = between
            total = total + self.pseudo_weight * between
        values = batch_mean(torch.stack(list(named.values())))
        self.terms = dict(zip(named, values.unbind(), strict=True))
        return total

    def _pseudo_supervision(self, input: Sequence[torch.Tensor]) -> torch.Tensor:
        first, second = (torch.softmax(logits.float(), dim=1) for logits in input)
        if self.mixing == "cr":
            return _mean_squared_difference(first, second)
        if self.mixing == "cps":
            labels = (_winners(second.detach()), _winners(first.detach()))
        else:
            alpha = first_draw(torch.rand(()).to(first)) if self.mixing == "random" else 0.5
            labels = (mixed_pseudo_labels(first, second, alpha),) * 2
        if self.pseudo_loss == "dice":
            of_main, of_auxiliary = batch_dice_loss(first, labels[0]), batch_dice_loss(second, labels[1])
        else:
            of_main, of_auxiliary = (
                self.cross_entropy(logits, label.unsqueeze(1)) for logits, label in zip(input, labels, strict=True)
            )
        return 0.5 * (of_main + of_auxiliary)


def _winners(scores: torch.Tensor) -> torch.Tensor:
    # gives argmax's indices, several times faster than argmax on a CPU
    return scores.max(dim=1).indices


def _mean_squared_difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    values = all_reduced(torch.tensor(float(first.numel()), device=first.device)).clamp(min=1.0)
    return (first - second).square().sum() * (world_size() / values)
