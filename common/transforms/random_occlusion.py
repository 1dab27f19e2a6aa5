"""Random occlusion: a square of every image is hidden, and with it the scribbles in it."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..errors import UserError
from ..shared_batch import first_draw, own_share, world_size

__all__ = ["RandomOcclusion"]


class RandomOcclusion:
    """Hide a square of every item of a batch (Zhang and Zhuang, CVPR 2022, Eq. 3 and 4; DeVries and Taylor, 2017).

    Each item has a square of its own, with its centre anywhere in the image and clipped by its borders. The image is
    0 there; labels become ``ignore_index``, as the equation's zeroed one-hot labels mean. The draws come from torch's
    global generator on the CPU, whatever the device, and of several processes from that of the first.

    Args:
        ignore_index: label value of pixels that are not annotated.
        size: edge of the square in pixels.
        rotated: turn every square by a random angle, as the paper has it; the authors' squares stand upright.
        hidden_label: what annotated pixels in the square become: ``"ignore"``, not annotated, or ``"background"``, as
            the paper's text says.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self, *, ignore_index: int, size: int = 32, rotated: bool = True, hidden_label: str = "ignore"
    ) -> None:
        if size < 1:
            raise UserError(f"occlusion_size must be at least 1 pixel, got {size}")
        if hidden_label not in ("ignore", "background"):
            raise UserError(f"occlusion_label must be 'ignore' or 'background', got {hidden_label!r}")
        self.ignore_index = ignore_index
        self.size = size
        self.rotated = rotated
        self.hidden_label = hidden_label

    def __call__(self, image: torch.Tensor, target: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
        """Hide a square of each item.

        Args:
            image: ``[B, C, H, W]``.
            target: a mixed target: ``label_a`` and ``label_b``, ``[B, A, H, W]``, and what else it holds.

        Returns:
            the image, and the target with ``visible`` ``[B, 1, H, W]``: 0 in the square, 1 elsewhere.
        """
        hidden = self.hidden_pixels(len(image), *image.shape[-2:]).to(image.device)
        occluded = dict(target)
        for key in ("label_a", "label_b"):
            occluded[key] = self._hide(target[key], hidden)
        occluded["visible"] = (~hidden).to(image.dtype) * target.get("visible", 1.0)
        return image.masked_fill(hidden, 0.0), occluded

    def hidden_pixels(self, batch: int, height: int, width: int) -> torch.Tensor:
        """Draw the squares of this process's items: boolean ``[B, 1, H, W]`` on the CPU."""
        centre_row, centre_column, turn = own_share(first_draw(torch.rand(3, batch * world_size(), 1, 1, 1)), dim=1)
        # pixels at half numbers: an upright square takes exactly `size` of each axis
        down = (torch.arange(height) + 0.5).view(-1, 1) - centre_row * height
        right = torch.arange(width) + 0.5 - centre_column * width
        angle = turn * (2 * math.pi) if self.rotated else torch.zeros(batch, 1, 1, 1)
        cos, sin = torch.cos(angle), torch.sin(angle)
        half = self.size / 2
        along, across = cos * down + sin * right, cos * right - sin * down
        return (along >= -half) & (along < half) & (across >= -half) & (across < half)

    def _hide(self, label: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        if self.hidden_label == "ignore":
            return label.masked_fill(hidden, self.ignore_index)
        return label.masked_fill(hidden & (label != self.ignore_index), 0)
