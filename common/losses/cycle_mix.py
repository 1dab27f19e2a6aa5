"""CycleMix' objective: scribbles of original and mixed images, and consistency between and within predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from ..errors import UserError
from .batch_statistics import all_reduced, batch_mean, world_size
from .largest_component import largest_components

__all__ = ["CycleMixLoss"]


class CycleMixLoss(_Loss):
    """Weighted sum of L_unmix, L_mix, L_con-g and L_con-l (Zhang and Zhuang, CVPR 2022, Eq. 14).

    - L_unmix, L_mix (Eq. 5 to 8): cross entropy of the annotated pixels of the original and of the mixed images; in a
      mixed pixel weight * CE(label_a) + (1 - weight) * CE(label_b), each part where it is annotated.
    - L_con-g (Eq. 11, 12): 1 - cosine between the originals' predictions, mixed as the images were, and the prediction
      of the mixed image. Gradients pass to both. What is hidden in the mixed image adds nothing.
    - L_con-l (Eq. 13): 1 - cosine between the originals' predictions and their largest components, see
      largest_components, which carry no gradient.

    The paper's -cosine differs by the constant 1. A mixed batch holds each item once, mixed with its partner, where
    the paper writes down either order. A term of weight 0 is not computed. The defaults are those of the authors' code;
    the paper's are ``lambda_con_g`` 0.05, ``lambda_con_l`` 1, ``reduction`` "sum" and ``of_union`` False.

    After each call ``terms`` holds the terms that were computed, without their weights, detached and averaged over
    processes: ``l_unmix``, ``l_mix``, ``l_con_g``, ``l_con_l``.

    Args:
        num_classes: number of classes C. Values of labels outside 0 .. C - 1 (``ignore_index`` = C) mean "not
            annotated".
        lambda_unmix: weight of L_unmix.
        lambda_mix: weight of L_mix.
        lambda_con_g: weight of L_con-g.
        lambda_con_l: weight of L_con-l.
        reduction: of the cross entropies: ``"mean"`` over all pixels of the batch, annotated or not (the authors'
            code), or ``"sum"`` over the annotated pixels of each image, and the mean over images (the paper).
        cosine: of the class vectors of each ``"pixel"``, and the mean over all pixels, or of the predictions of a
            whole ``"image"``. The paper leaves this open.
        of_union: keep of each class's largest component what lies in that of all classes together too (the authors'
            code).

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        lambda_unmix: float = 1.0,
        lambda_mix: float = 1.0,
        lambda_con_g: float = 0.1,
        lambda_con_l: float = 0.1,
        reduction: str = "mean",
        cosine: str = "pixel",
        of_union: bool = True,
    ) -> None:
        super().__init__()
        self.weights = {
            "l_unmix": lambda_unmix,
            "l_mix": lambda_mix,
            "l_con_g": lambda_con_g,
            "l_con_l": lambda_con_l,
        }
        for name, weight in self.weights.items():
            if not weight >= 0:
                raise UserError(f"lambda_{name[2:]} must not be negative, got {weight}")
        if not any(self.weights.values()):
            raise UserError("all weights of the loss are 0: set lambda_unmix or lambda_mix")
        if reduction not in ("mean", "sum"):
            raise UserError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        if cosine not in ("pixel", "image"):
            raise UserError(f"cosine must be 'pixel' or 'image', got {cosine!r}")
        self.num_classes = num_classes
        self.reduction = reduction
        self.cosine = cosine
        self.of_union = of_union
        self.terms: dict[str, torch.Tensor] = {}

    @property
    def needs_originals(self) -> bool:
        """Whether any term looks at the predictions of the original images."""
        return any(self.weights[name] > 0 for name in ("l_unmix", "l_con_g", "l_con_l"))

    @property
    def needs_mixed(self) -> bool:
        """Whether any term looks at the predictions of the mixed images."""
        return any(self.weights[name] > 0 for name in ("l_mix", "l_con_g"))

    def forward(
        self,
        input: torch.Tensor | Sequence[torch.Tensor | None],
        target: torch.Tensor | Mapping[str, Any],
    ) -> torch.Tensor:
        """Compute the loss.

        Args:
            input: logits ``[B, C, H, W]`` of the original and of the mixed images; either may be None where no term
                needs it. One tensor alone stands for the originals.
            target: ``label``: index map of the originals, ``[B, A, H, W]`` of A annotators, whose losses are summed,
                and a mixed target as BatchMixer gives it: ``label_a``, ``label_b``, ``weight``, ``plan`` and perhaps
                ``visible``. The index map alone if no term needs the mixed images.

        Returns:
            scalar, at least 0.

        Raises:
            ValueError: if logits are missing, or shapes do not belong together.
        """
        logits, mixed_logits = (input, None) if isinstance(input, torch.Tensor) else input
        target = target if isinstance(target, Mapping) else {"label": target}
        if self.needs_originals and logits is None:
            raise ValueError("the logits of the original images are missing")
        if self.needs_mixed and (mixed_logits is None or "weight" not in target):
            raise ValueError("the logits or the target of the mixed images are missing")
        named: dict[str, torch.Tensor] = {}
        if logits is not None and self.needs_originals:
            log_original = F.log_softmax(logits.float(), dim=1)
            if self.weights["l_unmix"] > 0:
                named["l_unmix"] = self._cross_entropy(log_original, target["label"])
            if self.weights["l_con_l"] > 0:
                named["l_con_l"] = self._local_consistency(log_original.exp())
        if mixed_logits is not None and self.needs_mixed:
            log_mixed = F.log_softmax(mixed_logits.float(), dim=1)
            if self.weights["l_mix"] > 0:
                share = target["weight"][:, 0]
                own = self._cross_entropy(log_mixed, target["label_a"], share)
                named["l_mix"] = own + self._cross_entropy(log_mixed, target["label_b"], 1.0 - share)
            if self.weights["l_con_g"] > 0:
                named["l_con_g"] = self._global_consistency(log_original.exp(), log_mixed.exp(), target)
        named = {name: named[name] for name in self.weights if name in named}
        weighted = [self.weights[name] * value for name, value in named.items()]
        values = batch_mean(torch.stack(list(named.values())))
        self.terms = dict(zip(named, values.unbind(), strict=True))
        return torch.stack(weighted).sum()

    def scribble_loss(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Compute L_unmix alone, from logits ``[B, C, H, W]`` and labels ``[B, A, H, W]``."""
        return self._cross_entropy(F.log_softmax(logits.float(), dim=1), label)

    def _cross_entropy(
        self, log_probabilities: torch.Tensor, label: torch.Tensor, share: torch.Tensor | None = None
    ) -> torch.Tensor:
        batch, _, height, width = log_probabilities.shape
        if label.ndim != 4 or (label.shape[0], *label.shape[2:]) != (batch, height, width):
            raise ValueError(f"label {tuple(label.shape)} must be {(batch, 'A', height, width)}")
        total = log_probabilities.new_zeros(())
        for annotator in label.unbind(1):
            index = annotator.long()
            index = torch.where((index >= 0) & (index < self.num_classes), index, self.num_classes)
            each = F.nll_loss(log_probabilities, index, ignore_index=self.num_classes, reduction="none")
            total = total + (each if share is None else share * each).sum()
        return _per(total, batch * height * width if self.reduction == "mean" else batch)

    def _global_consistency(
        self, original: torch.Tensor, mixed: torch.Tensor, target: Mapping[str, Any]
    ) -> torch.Tensor:
        expected = target["plan"].mix(original)
        # pixels that were hidden, or to which nothing moved, expect nothing
        shown = expected.sum(dim=1) > 0
        if "visible" in target:
            shown = shown & (target["visible"][:, 0] > 0)
        return self._distance(expected, mixed, shown)

    def _local_consistency(self, probabilities: torch.Tensor) -> torch.Tensor:
        # gives argmax's indices, several times faster than argmax on a CPU
        labels = probabilities.detach().max(dim=1).indices
        kept = largest_components(labels, self.num_classes, of_union=self.of_union)
        one_hot = torch.zeros_like(probabilities).scatter_(1, kept.unsqueeze(1), 1.0)
        return self._distance(one_hot, probabilities, torch.ones_like(labels, dtype=torch.bool))

    def _distance(self, first: torch.Tensor, second: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """1 - cosine; the first map is 0 outside ``shown`` ``[B, H, W]``."""
        if self.cosine == "image":
            first = first * shown.unsqueeze(1)
            return _per((1.0 - F.cosine_similarity(first.flatten(1), second.flatten(1))).sum(), len(first))
        each = 1.0 - _cosine_of_pixels(first, second)
        return _per(torch.where(shown, each, 0.0).sum(), shown.numel())


def _cosine_of_pixels(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Cosine ``[B, H, W]`` of two class vectors ``[B, C, H, W]``, with PyTorch's least length of 1e-8.

    Over dimension 1, ``F.cosine_similarity`` takes several times as long on a CPU.
    """
    lengths = [vectors.square().sum(dim=1).clamp(min=1e-16).sqrt() for vectors in (first, second)]
    return (first * second).sum(dim=1) / (lengths[0] * lengths[1])


def _per(total: torch.Tensor, count: int) -> torch.Tensor:
    """Divide by the count over all processes; DDP averages gradients, so the sum over processes is what is needed."""
    whole = all_reduced(torch.tensor(float(count), device=total.device)).clamp(min=1.0)
    return total * (world_size() / whole)
