"""AttenScribble's objective: scribbles, a masked CRF and the attentive similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn.modules.loss import _Loss

from ..errors import UserError
from .attentive_similarity import AttentiveSimilarityLoss
from .batch_statistics import batch_mean
from .gated_crf import GatedCRFLoss
from .partial_cross_entropy import PartialCrossEntropyLoss

__all__ = ["AttenScribbleLoss"]


class AttenScribbleLoss(_Loss):
    """L = l_seg + lambda_mcrf * l_mcrf + lambda_atn * l_atn (Tian et al., 2023, Eq. 7).

    l_seg is the partial cross entropy (Eq. 1), l_mcrf the gated CRF whose destinations are the unannotated pixels,
    those that augmentation rotated in included (Eq. 4), l_atn the attentive similarity (Eq. 6). A term of weight 0 is
    not computed. All count from the first iteration on.

    After each call ``terms`` holds the terms that were computed, without their weights, detached and averaged over
    processes: ``l_seg``, ``l_mcrf``, ``l_atn``, and the ``terms`` of the attentive similarity.

    Args:
        num_classes: number of classes C. Values of the target outside 0 .. C - 1 (``ignore_index`` = C) mean
            "not annotated".
        lambda_mcrf: weight of the masked CRF, 0 for none.
        lambda_atn: weight of the attentive similarity, 0 for none.
        mask_q: take the unannotated pixels as sources of the CRF too, as the paper has it; the authors' code takes
            all pixels.
        crf: the CRF; None for the authors' settings, which are the defaults of GatedCRFLoss.
        attentive: the attentive similarity; None for the authors' settings, the defaults of AttentiveSimilarityLoss.
        attention: whether the network has the self-attention that l_atn is made of, its ``self_attention``.

    Raises:
        UserError: for a negative weight, and for ``lambda_atn`` above 0 without ``attention``.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        lambda_mcrf: float = 0.1,
        lambda_atn: float = 0.1,
        mask_q: bool = False,
        crf: GatedCRFLoss | None = None,
        attentive: AttentiveSimilarityLoss | None = None,
        attention: bool = True,
    ) -> None:
        super().__init__()
        for name, weight in {"lambda_mcrf": lambda_mcrf, "lambda_atn": lambda_atn}.items():
            if not weight >= 0:
                raise UserError(f"{name} must not be negative, got {weight}")
        if lambda_atn > 0 and not attention:
            raise UserError(
                f"lambda_atn must be 0 with self_attention false: its term is made of the attention, got {lambda_atn}"
            )
        self.num_classes = num_classes
        self.lambda_mcrf = lambda_mcrf
        self.lambda_atn = lambda_atn
        self.mask_q = mask_q
        self.cross_entropy = PartialCrossEntropyLoss(num_classes)
        self.crf = crf or GatedCRFLoss()
        self.attentive = attentive or AttentiveSimilarityLoss()
        self.terms: dict[str, torch.Tensor] = {}

    def forward(
        self, input: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor | Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Compute the loss.

        Args:
            input: what SelfAttentionUNet returns in train mode, see AttentiveSimilarityLoss; the logits
                ``[B, C, H, W]`` alone if ``lambda_atn`` is 0.
            target: ``label``: index map ``[B, 1, H, W]``, and ``image``: what the network saw, ``[B, channels, H, W]``,
                of range 0 .. 1 for the CRF's default kernel; the index map alone if ``lambda_mcrf`` is 0. The maps of
                several annotators are ``[B, A, H, W]``: their l_seg are summed, and a pixel that any of them annotated
                counts as annotated.

        Returns:
            scalar, at least 0.

        Raises:
            UserError: if a term lacks what it is made of.
            ValueError: if the shapes do not belong together.
        """
        logits = input if isinstance(input, torch.Tensor) else input[0]
        label = target["label"] if isinstance(target, Mapping) else target
        named = {"l_seg": self.cross_entropy(logits, label)}
        total = named["l_seg"]
        if self.lambda_mcrf > 0:
            if not isinstance(target, Mapping) or "image" not in target:
                raise UserError("lambda_mcrf above 0 needs the image: the target must hold 'label' and 'image'")
            named["l_mcrf"] = self._masked_crf(logits, target["image"], label)
            total = total + self.lambda_mcrf * named["l_mcrf"]
        if self.lambda_atn > 0:
            if isinstance(input, torch.Tensor):
                raise UserError("lambda_atn above 0 needs the attention: set similarity of the network to true")
            named["l_atn"] = self.attentive(input, target)
            total = total + self.lambda_atn * named["l_atn"]
        elif not isinstance(input, torch.Tensor):
            # DDP wants a gradient, if only 0, for every parameter: those of the network's SimilarityHead too
            total = total + 0.0 * input[-1].sum()
        values = batch_mean(torch.stack(list(named.values())))
        self.terms = dict(zip(named, values.unbind(), strict=True))
        if self.lambda_atn > 0:
            self.terms.update(self.attentive.terms)
        return total

    def _masked_crf(self, logits: torch.Tensor, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        unlabelled = ((label < 0) | (label >= self.num_classes)).all(dim=1, keepdim=True)
        return self.crf(logits, image, destination_mask=unlabelled, source_mask=unlabelled if self.mask_q else None)
