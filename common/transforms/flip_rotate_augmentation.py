"""The flips, right-angle turns and small rotations with which scribble benchmarks train."""

from __future__ import annotations

import math

import torch

from ..errors import UserError

__all__ = ["FlipRotateAugmentation"]


class FlipRotateAugmentation:
    """Flip and turn by right angles, or rotate by a small angle, each item of a batch by draws of its own.

    The augmentation of Luo et al. (MICCAI 2022) and Tian et al. (2023), as their code has it: with probability 1/2 an
    item is turned by a random multiple of 90 degrees and then mirrored along a random axis; otherwise, with
    probability 1/2, it is rotated about its centre by an angle drawn uniformly from -rotation .. rotation. A quarter
    of the items stays as it is. Values are moved, never interpolated: flips and right-angle turns are exact, and
    rotations take the nearest pixel for image and label alike. What a rotation brings in from outside is 0 in the
    image and ``ignore_index`` in the label.

    A quarter turn would change the size of an image that is not square; such images are turned by 0 or 180 degrees.

    All draws come from torch's global generator, so a seed fixed before a step fixes its augmentation.

    Args:
        ignore_index: label value of pixels that are not annotated.
        right_angles: flip and turn by right angles; without it these items stay as they are, as in the CHAOS
            experiments of Tian et al., and a quarter of the items is rotated.
        rotation: largest angle in degrees.
        noise: standard deviation of the Gaussian noise added to the image. The paper mentions random noise, the code
            has none.

    Raises:
        UserError: for a negative option.
    """

    def __init__(
        self, *, ignore_index: int, right_angles: bool = True, rotation: float = 20.0, noise: float = 0.0
    ) -> None:
        for name, value in {"rotation": rotation, "noise": noise}.items():
            if value < 0:
                raise UserError(f"{name} must not be negative, got {value}")
        self.ignore_index = ignore_index
        self.right_angles = right_angles
        self.rotation = rotation
        self.noise = noise

    def __call__(
        self, image: torch.Tensor | None, label: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Augment a batch; either part may be missing.

        Args:
            image: ``[B, C, H, W]``, normalised intensities.
            label: index map ``[B, 1, H, W]``, any integer type.

        Returns:
            both, of the same shapes and types.
        """
        given = image if image is not None else label
        if given is None:
            return None, None
        height, width = given.shape[-2:]
        source, inside = _source_pixels(*self._draw(given.shape[0], height == width, given.device), height, width)
        if image is not None:
            image = _take(image, source, inside, 0)
            if self.noise:
                image = image + self.noise * torch.randn_like(image)
        if label is not None:
            label = _take(label, source, inside, self._outside(label))
        return image, label

    def _outside(self, label: torch.Tensor) -> torch.Tensor | int:
        """What comes into the label from outside: a number, or one for each of its channels ``[B, A, 1]``."""
        return self.ignore_index

    def _draw(self, batch: int, square: bool, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw every item's cosine and sine ``[B]`` and its mirroring of the two axes ``[2, B]``, 1 or -1."""
        draw = torch.rand(5, batch, device=device)
        turned = draw[0] < 0.5
        rotated = ~turned & (draw[1] < 0.5)
        angle = (2.0 * draw[2] - 1.0) * (self.rotation * math.pi / 180)
        cos = torch.where(rotated, torch.cos(angle), 1.0)
        sin = torch.where(rotated, torch.sin(angle), 0.0)
        mirror = torch.ones(2, batch, device=device)
        if self.right_angles:
            quarters = (draw[3] * 4).long() if square else 2 * (draw[3] * 2).long()
            # whole numbers, as the cosine of 90 degrees is not exactly 0; no table, which a GPU would have to wait for
            cos = torch.where(turned, (quarters == 0).float() - (quarters == 2).float(), cos)
            sin = torch.where(turned, (quarters == 1).float() - (quarters == 3).float(), sin)
            first_axis = draw[4] < 0.5
            mirror[0] -= 2.0 * (turned & first_axis)
            mirror[1] -= 2.0 * (turned & ~first_axis)
        return cos, sin, mirror


def _source_pixels(
    cos: torch.Tensor, sin: torch.Tensor, mirror: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for every pixel ``[B, 1, H * W]`` the flat index of its source, and whether that lies in the image."""
    # sums of whole and half numbers, not a matrix product: right angles come out exactly on every device
    y = mirror[0].view(-1, 1, 1) * (torch.arange(height, device=cos.device) - (height - 1) / 2).view(1, -1, 1)
    x = mirror[1].view(-1, 1, 1) * (torch.arange(width, device=cos.device) - (width - 1) / 2).view(1, 1, -1)
    cos, sin = cos.view(-1, 1, 1), sin.view(-1, 1, 1)
    row = (cos * y + sin * x + (height - 1) / 2).round().long()
    column = (cos * x - sin * y + (width - 1) / 2).round().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    source = row.clamp_(0, height - 1) * width + column.clamp_(0, width - 1)
    return source.flatten(1).unsqueeze(1), inside.flatten(1).unsqueeze(1)


def _take(values: torch.Tensor, source: torch.Tensor, inside: torch.Tensor, fill: torch.Tensor | int) -> torch.Tensor:
    moved = values.flatten(2).gather(2, source.expand(-1, values.shape[1], -1))
    return torch.where(inside, moved, fill).to(values.dtype).view(values.shape)
