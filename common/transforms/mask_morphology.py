"""Making a mask thinner or thicker in proportion to its strokes, and cutting through them.

The three perturbations of Castro et al., "Morpho-MNIST" (JMLR 2019), for masks of any size. All lengths are in pixels
of the mask that is given; :func:`on_finer_grid` works with parts of pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

__all__ = ["fractured", "mean_thickness", "on_finer_grid", "resized_strokes"]

_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def on_finer_grid(mask: np.ndarray, scale: int, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Change a mask on a grid of finer pixels: upsampled linearly, changed, and averaged down again.

    Args:
        mask: boolean ``[H, W]``.
        scale: fine pixels along the edge of one; 1 for none.
        change: takes and returns a boolean mask ``[scale * H, scale * W]``.

    Returns:
        boolean ``[H, W]``: pixels of which at least half is inside.
    """
    if scale == 1 or not mask.size:
        return change(mask)
    fine = ndimage.zoom(mask.astype(np.float32), scale, order=1, mode="nearest", grid_mode=True) > 0.5
    rows, columns = mask.shape
    return change(fine).reshape(rows, scale, columns, scale).mean(axis=(1, 3)) >= 0.5


def mean_thickness(mask: np.ndarray) -> float:
    """Return twice the mean distance from the mask's middle lines to its border, 0 for an empty mask.

    Args:
        mask: boolean ``[H, W]``; what lies beyond the image counts as outside.
    """
    lines = skeletonize(mask)
    return 2.0 * float(_depth(mask)[lines].mean()) if lines.any() else 0.0


def resized_strokes(mask: np.ndarray, amount: float) -> np.ndarray:
    """Erode or dilate by a disc of ``|amount|`` times half the mean thickness.

    Args:
        mask: boolean ``[H, W]``; strokes that leave the image do not end at its border.
        amount: below 0 makes thinner, above 0 thicker: 1 doubles the width of a stroke of mean thickness.

    Returns:
        boolean ``[H, W]``.
    """
    radius = abs(amount) * mean_thickness(mask) / 2.0
    if radius == 0.0:
        return mask
    if amount > 0.0:
        return ndimage.distance_transform_edt(~mask) <= radius
    if mask.all():
        return mask
    return ndimage.distance_transform_edt(mask) > radius


def fractured(
    mask: np.ndarray, rng: np.random.Generator, *, count: int, width: float, clearance: float, reach: float
) -> np.ndarray:
    """Cut through the mask at random places of its middle lines, at right angles to them.

    Args:
        mask: boolean ``[H, W]``.
        rng: the source of the places.
        count: number of cuts.
        width: width of a cut.
        clearance: no cut is nearer than this to an end or a fork of the middle lines; a mask whose middle lines are
            all nearer, such as a disc, stays whole. So much of the line to either side tells its direction.
        reach: how far a cut goes beyond the mask's border on either side.

    Returns:
        boolean ``[H, W]``, a part of the mask.
    """
    lines = skeletonize(mask)
    ends_and_forks = lines & (_branches(lines) != 2)
    places = lines
    if ends_and_forks.any():
        places = lines & (ndimage.distance_transform_edt(~ends_and_forks) > clearance)
    candidates = np.argwhere(places)
    if not len(candidates):
        return mask
    depth, line = _depth(mask), np.argwhere(lines)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    left = mask.copy()
    for place in candidates[rng.integers(len(candidates), size=count)]:
        near = line[np.hypot(*(line - place).T) <= max(clearance, 2.0)] - place
        along = np.linalg.eigh(near.T @ near)[1][:, 1]
        from_line = np.abs((rows - place[0]) * along[1] - (columns - place[1]) * along[0])
        from_cut = np.abs((rows - place[0]) * along[0] + (columns - place[1]) * along[1])
        left &= (from_line > depth[tuple(place)] + reach) | (from_cut > width / 2.0)
    return left


def _depth(mask: np.ndarray) -> np.ndarray:
    """Distance of each of the mask's pixels to the outside, of which everything beyond the image is a part."""
    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


def _branches(lines: np.ndarray) -> np.ndarray:
    """How many lines leave each pixel: 1 at an end, 2 along a line, 3 or more at a fork."""
    rows, columns = lines.shape
    padded = np.pad(lines, 1)
    ring = np.stack([padded[1 + row : 1 + row + rows, 1 + column : 1 + column + columns] for row, column in _AROUND])
    return (ring & ~np.roll(ring, 1, axis=0)).sum(axis=0)
