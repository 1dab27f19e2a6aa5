"""Scribbles of two kinds of strokes: through the inside of a class and along its border."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import UserError
from .nearest_share import nearest_share
from .scribble_simulation import simulate_scribble

__all__ = ["boundary_stroke", "stroke_scribble"]

_INTERIOR_LENGTH = 0.75
_BORDER_SHARE = (0.1, 0.3)


def stroke_scribble(
    mask: np.ndarray, num_classes: int, rng: np.random.Generator, *, width: int = 1, length: float = 1.0
) -> np.ndarray:
    """Draw a stroke inside every class and one along its border, background included, slice by slice.

    The strokes inside are those of :func:`~.scribble_simulation.simulate_scribble`, those along the border are parts
    of it: a tenth to three tenths of its length. At a width of one pixel they cover about as much of the ACDC masks as
    the strokes of their experts do.

    Args:
        mask: dense masks ``[..., H, W]`` of integers 0..C-1, 0 being background.
        num_classes: number of classes C with background; C also marks pixels that are not annotated.
        rng: the source of all draws: the same state gives the same scribbles. Each slice has draws of its own.
        width: width of the strokes in pixels, cut where they would leave their class.
        length: length of all strokes as a share of the usual one, over 0 and up to 1.

    Returns:
        The scribbles ``[..., H, W]`` in the mask's type: 0 on the background's strokes, 1..C-1 on the classes', C
        elsewhere.

    Raises:
        UserError: the width is no whole number from 1 on, or the length out of its range.
        ValueError: the mask has fewer than two axes, or holds other values than 0..C-1.
    """
    if type(width) is not int or width < 1:
        raise UserError(f"width is {width!r}; give the strokes' width in pixels, a whole number from 1 on")
    if isinstance(length, bool) or not isinstance(length, int | float) or not 0 < length <= 1:
        raise UserError(f"length is {length!r}; give a number over 0 and up to 1")
    if mask.ndim < 2:
        raise ValueError(f"the mask must be [..., H, W], got shape {mask.shape}")
    drawn = np.empty_like(mask)
    planes = mask.reshape(-1, *mask.shape[-2:])
    for plane, stroke, draws in zip(planes, drawn.reshape(planes.shape), rng.spawn(len(planes)), strict=True):
        stroke[:] = simulate_scribble(plane, num_classes, draws, length=_INTERIOR_LENGTH * length, width=width)
        if length < 1:  # the background's loop is as long as the classes' outline, whatever the length
            loop = stroke == 0
            stroke[loop & ~nearest_share(loop, length, draws)] = num_classes
        for index in np.unique(plane):
            region = plane == index
            stroke[boundary_stroke(region, draws, share=length * draws.uniform(*_BORDER_SHARE), width=width)] = index
    return drawn


def boundary_stroke(region: np.ndarray, rng: np.random.Generator, *, share: float, width: int = 1) -> np.ndarray:
    """Follow a part of a region's border, just inside of it.

    Args:
        region: boolean ``[H, W]``. Where it meets the rim of the image it has no border.
        rng: the source of the place.
        share: share of the border's length, over 0 and up to 1.
        width: width in pixels; where the region is thinner than that, the stroke is as wide as the region.

    Returns:
        boolean ``[H, W]``, a part of the region; empty where the region has no border.
    """
    stroke = np.zeros_like(region)
    if region.all() or not region.any():
        return stroke
    depth = ndimage.distance_transform_edt(region)
    line = (depth > 0) & (depth <= 1)
    window = ndimage.find_objects(line.astype(np.uint8))[0]
    stroke[window] = nearest_share(line[window], share, rng)
    return (ndimage.distance_transform_edt(~stroke) < width) & region
