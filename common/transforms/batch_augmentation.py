"""Random augmentation of a whole batch of slices at once, on the batch's device."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from ..errors import UserError

__all__ = ["BatchAugmentation"]


class BatchAugmentation:
    """Rotate, shift, scale, flip and change the intensities of a batch, each item by draws of its own.

    All draws come from torch's global generator, so a seed fixed before a step fixes its augmentation. Labels are
    warped with nearest-neighbour interpolation; what the warp brings in from outside becomes ``ignore_index``, never
    background. Images are continued by their border.

    Args:
        ignore_index: label value of pixels that are not annotated.
        rotation: largest angle in degrees; drawn uniformly from -rotation .. rotation.
        translation: largest shift as a share of the image's height and width.
        scale: largest relative change of size; the factor is drawn from 1 - scale .. 1 + scale.
        right_angles: turn by a random multiple of 90 degrees (square images only).
        flip: mirror each of the two axes with probability 1/2.
        brightness: largest offset added to the image, in units of the normalised intensity.
        contrast: largest relative change of contrast; the factor is drawn from 1 - contrast .. 1 + contrast.
        noise: standard deviation of the Gaussian noise added to the image.

    Raises:
        UserError: for a negative option.
    """

    def __init__(
        self,
        *,
        ignore_index: int,
        rotation: float = 0.0,
        translation: float = 0.0,
        scale: float = 0.0,
        right_angles: bool = False,
        flip: bool = False,
        brightness: float = 0.0,
        contrast: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        options = {
            "rotation": rotation,
            "translation": translation,
            "scale": scale,
            "brightness": brightness,
            "contrast": contrast,
            "noise": noise,
        }
        for name, value in options.items():
            if value < 0:
                raise UserError(f"{name} must not be negative, got {value}")
        self.ignore_index = ignore_index
        self.rotation = rotation
        self.translation = translation
        self.scale = scale
        self.right_angles = right_angles
        self.flip = flip
        self.brightness = brightness
        self.contrast = contrast
        self.noise = noise

    def __call__(
        self, image: torch.Tensor | None, label: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Augment a batch; either part may be missing.

        Args:
            image: ``[B, C, H, W]``, normalised intensities.
            label: index map ``[B, 1, H, W]`` (``[B, A, H, W]`` of A annotators), any integer type.

        Returns:
            both, of the same shapes and types.
        """
        given = image if image is not None else label
        if given is None:
            return None, None
        if self.rotation or self.translation or self.scale or self.right_angles or self.flip:
            grid = self._grid(given.shape[0], given.shape[-2], given.shape[-1], given.device)
            if image is not None:
                image = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
            if label is not None:
                # grid_sample fills with 0 alone: shifted by ignore_index, 0 is "not annotated"
                shifted = label.to(grid.dtype) - self.ignore_index
                warped = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
                label = (warped + self.ignore_index).round().to(label.dtype)
        if image is not None:
            image = self._intensities(image)
        return image, label

    def _grid(self, batch: int, height: int, width: int, device: torch.device) -> torch.Tensor:
        """Sampling positions ``[B, H, W, 2]`` of the random affine maps, in grid_sample's coordinates."""
        angle = _uniform(batch, device, self.rotation) * (math.pi / 180)
        if self.right_angles:
            angle = angle + torch.randint(4, (batch,), device=device) * (math.pi / 2)
        factor = 1.0 + _uniform(batch, device, self.scale)
        mirror = 1.0 - 2.0 * (torch.rand(2, batch, device=device) < 0.5) if self.flip else torch.ones(2, batch)
        mirror = mirror.to(device)
        cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
        # the coordinates run from -1 to 1 along either axis: a rotation of a rectangle must undo the two scales
        aspect = height / width
        theta = torch.stack(
            [
                torch.stack(
                    [cos * mirror[0], -sin * aspect * mirror[0], 2 * _uniform(batch, device, self.translation)]
                ),
                torch.stack([sin / aspect * mirror[1], cos * mirror[1], 2 * _uniform(batch, device, self.translation)]),
            ]
        )
        return F.affine_grid(theta.permute(2, 0, 1), [batch, 1, height, width], align_corners=False)

    def _intensities(self, image: torch.Tensor) -> torch.Tensor:
        batch = image.shape[0]
        if self.contrast:
            mean = image.mean(dim=(1, 2, 3), keepdim=True)
            factor = 1.0 + _uniform(batch, image.device, self.contrast).view(-1, 1, 1, 1)
            image = (image - mean) * factor + mean
        if self.brightness:
            image = image + _uniform(batch, image.device, self.brightness).view(-1, 1, 1, 1)
        if self.noise:
            image = image + self.noise * torch.randn_like(image)
        return image


def _uniform(batch: int, device: torch.device, limit: float) -> torch.Tensor:
    return (2.0 * torch.rand(batch, device=device) - 1.0) * limit
