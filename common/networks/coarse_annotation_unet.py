"""The coarse-label method's pair of networks: one segments, the other one models the annotations' mistakes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import UserError
from .confusion_matrices import FORMS, ConfusionHead, LearnedTransition
from .instance_norm_unet import InstanceNormUNet

__all__ = ["CoarseAnnotationUNet"]


class CoarseAnnotationUNet(nn.Module):
    """Segmentation network and coarse annotation network (Zhang et al., "Positive and negative coarse labels", Fig. 1).

    Both are heads of one U-Net: a 1 x 1 convolution gives the logits of the true classes, and each kind of annotation,
    the positive and the negative drawing, has a head that estimates its confusion matrices at every pixel.

    In eval mode and under TorchScript the network returns the logits ``[B, C, H, W]`` alone. In train mode it returns
    a tuple: the logits, the matrices of the positive annotation, those of the negative one (if there is one), and with
    ``transition="learned"`` the complementary transition matrix ``[C, C]``. Matrices are ``[B, C, C, H, W]``, or
    ``[B, 2 C, H, W]`` in the rank-1 form; see :mod:`~common.networks.confusion_matrices`.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes C.
        filters: channels at full resolution; they double with each depth.
        depth: how often the size is halved.
        confusion: ``"full"``; ``"rank1"`` for many classes: for 19 of them 38 instead of 361 values a pixel;
            ``"none"`` leaves the annotation network out, so that train mode returns the logits alone (ablation).
        negative: estimate the negative annotation's matrices too (ablation: without negative annotation).
        separate: give the annotation network a U-Net of its own instead of the segmentation network's features.
        reliability: diagonal of the first confusion matrices, between 1 / C and 1.
        transition: ``"uniform"``: the loss' own; ``"learned"``: weights of this network. It needs ``negative``.
        checkpointing: in training keep the blocks' inputs alone and compute the rest again for the gradient: a third
            more time for a fraction of the memory.
        dropout: probability of a Monte Carlo dropout of the segmentation network's deepest maps, see
            :func:`~.unet_blocks.monte_carlo_dropout`.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        filters: int = 24,
        depth: int = 3,
        confusion: str = "full",
        negative: bool = True,
        separate: bool = False,
        reliability: float = 0.9,
        transition: str = "uniform",
        checkpointing: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if out_channels < 2:
            raise UserError(f"out_channels counts the background and must be at least 2, got {out_channels}")
        if confusion not in (*FORMS, "none"):
            raise UserError(f"confusion must be one of {', '.join(FORMS)}, none, got {confusion!r}")
        if transition not in ("uniform", "learned"):
            raise UserError(f"transition must be 'uniform' or 'learned', got {transition!r}")
        annotated = confusion != "none"
        if transition == "learned" and not (annotated and negative):
            raise UserError("transition 'learned' needs the negative annotation's confusion matrices")
        options: dict[str, Any] = {"filters": filters, "depth": depth, "checkpointing": checkpointing}
        self.backbone = InstanceNormUNet(in_channels, dropout=dropout, **options)
        self.output = nn.Conv2d(filters, out_channels, kernel_size=1)
        self.annotation_backbone = InstanceNormUNet(in_channels, **options) if separate and annotated else None
        kinds = (["positive"] + ["negative"] * negative) if annotated else []
        self.confusion_heads = nn.ModuleDict(
            {
                kind: ConfusionHead(
                    filters, out_channels, form=confusion, reliability=reliability, checkpointing=checkpointing
                )
                for kind in kinds
            }
        )
        self.transition = LearnedTransition(out_channels) if transition == "learned" else None

    # without a return annotation, so that TorchScript infers the single tensor
    def forward(self, x: torch.Tensor):  # type: ignore[no-untyped-def]
        """Segment images ``[B, in_channels, H, W]`` of any size."""
        features = self.backbone(x)
        logits = self.output(features)
        if torch.jit.is_scripting():
            return logits
        if not self.training or not self.confusion_heads:
            return logits
        matrices = self._matrices(x, features)
        return (logits, *matrices) if self.transition is None else (logits, *matrices, self.transition())

    @torch.jit.unused
    def confusion_matrices(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Estimate the confusion matrices for images ``[B, in_channels, H, W]``, in either mode, for pictures of them.

        Returns:
            those of the positive and of the negative annotation, as far as the network has them.
        """
        return self._matrices(x, self.backbone(x))

    @torch.jit.unused
    def _matrices(self, x: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.annotation_backbone is not None:
            features = self.annotation_backbone(x)
        return tuple(head(features) for head in self.confusion_heads.values())
