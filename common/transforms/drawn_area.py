"""How much is drawn of each value of a label map, in units that do not depend on the grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

__all__ = ["DRAWN_AREA", "drawn_area"]

DRAWN_AREA = "drawn_area"
"""Metadata of a label map: what was drawn before anything was resampled or cropped, see :func:`drawn_area`."""


def drawn_area(slices: torch.Tensor, affine: ArrayLike) -> list[list[float]]:
    """Measure what each value covers of each slice.

    Args:
        slices: whole numbers 0 to 255 ``[D, ...]`` of D slices.
        affine: from voxels to mm, ``[4, 4]``.

    Returns:
        By slice and value, from 0 to the highest one: area times distance of the slices, in mm³.
    """
    voxel = abs(float(np.linalg.det(np.asarray(affine, dtype=float)[:3, :3])))
    rows = slices.to("cpu", torch.uint8).flatten(1).numpy()
    values = range(int(rows.max(initial=0)) + 1)
    # as fast as reading them, unlike a histogram, which wants integers of 8 bytes
    return [[voxel * int(np.count_nonzero(row == value)) for value in values] for row in rows]
