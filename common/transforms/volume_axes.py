"""Which axis of a volume runs across its slices, and how far the affines of one grid may differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["AFFINE_TOLERANCE", "affine_gap", "through_plane_axis"]

AFFINE_TOLERANCE = 1e-3
"""Largest difference between the elements of two affines of one grid, in mm."""

_ANISOTROPY = 1.5


def affine_gap(first: ArrayLike, second: ArrayLike) -> float:
    """Return the largest difference between the elements of two affines, in mm.

    Infinite where an element is not a number, so that a comparison with ``AFFINE_TOLERANCE`` never passes by chance.

    Args:
        first: an affine from voxels to mm.
        second: another one of the same shape.
    """
    with np.errstate(invalid="ignore"):  # of two infinite elements
        gap = float(np.abs(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)).max())
    return np.inf if np.isnan(gap) else gap


def through_plane_axis(spacing: Sequence[float], shape: Sequence[int]) -> int:
    """Find the axis across the slices of a volume.

    A lone axis of one voxel is the through-plane axis. Otherwise it is the axis with the largest spacing, if that is at
    least 1.5 times the smallest one, else the last axis as stored. Of equally wide axes the last one counts.

    Args:
        spacing: voxel size in mm, three values.
        shape: number of voxels along each of the three axes.

    Returns:
        The index of the axis, 0 to 2.
    """
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return single[0]
    widest = max(spacing)
    if widest < _ANISOTROPY * min(spacing):
        return 2
    return max(axis for axis in range(3) if spacing[axis] > 0.999 * widest)
