"""Rotations by any angle, with nearest neighbours: as an augmentation, and there and back."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from .flip_rotate_augmentation import FlipRotateAugmentation

__all__ = ["RotateAugmentation", "rotated"]


class RotateAugmentation(FlipRotateAugmentation):
    """Rotate every item by any angle, and mirror some: CycleMix' augmentation (Zhang and Zhuang, CVPR 2022), as code.

    Half of the items are flipped left to right and upside down, each with probability 1/2, and turned by a random
    multiple of 90 degrees; then all are rotated about their centre by an angle drawn uniformly from 0 .. 360 degrees.
    The turns, and both flips together, are rotations themselves, so a quarter of the items is mirrored and the angle
    remains uniform: item by item, one warp does it all.

    Values are moved, never interpolated. What comes in from outside is 0 in the image and ``ignore_index`` in the
    label, or ``outside`` in every channel of it that has annotated pixels. All draws come from torch's global
    generator, so a seed fixed before a step fixes its augmentation.

    Args:
        ignore_index: label value of pixels that are not annotated.
        outside: label value of what comes in; None for ``ignore_index``.
    """

    def __init__(self, *, ignore_index: int, outside: int | None = None) -> None:
        super().__init__(ignore_index=ignore_index, rotation=180.0)
        self.outside = ignore_index if outside is None else outside

    def _outside(self, label: torch.Tensor) -> torch.Tensor:
        # a channel that an item does not fill, of another annotator or a dense mask, says nothing anywhere
        annotated = (label != self.ignore_index).flatten(2).any(dim=2, keepdim=True)
        return torch.where(annotated, self.outside, self.ignore_index).to(label.dtype)

    def _draw(self, batch: int, square: bool, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw every item's cosine and sine ``[B]`` and its mirroring of the two axes ``[2, B]``, 1 or -1."""
        draw = torch.rand(4, batch, device=device)
        angle = (2.0 * draw[0] - 1.0) * (self.rotation * math.pi / 180)
        mirror = 1.0 - 2.0 * ((draw[1] < 0.5) & (draw[2:] < 0.5))
        return torch.cos(angle), torch.sin(angle), mirror


def rotated(values: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Rotate every item about its centre, with nearest neighbours and 0 from outside; gradients pass.

    Args:
        values: ``[B, C, H, W]``, float.
        angle: ``[B]`` in radians; the opposite angle turns back, but for what left the image and for rounding.
    """
    height, width = values.shape[-2:]
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    # grid_sample's coordinates run from -1 to 1 along either axis
    theta = torch.stack([cos, -sin * (height / width), zero, sin * (width / height), cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(values.shape), align_corners=False)
    return F.grid_sample(values, grid, mode="nearest", padding_mode="zeros", align_corners=False)
