"""What scribbles may hold, and yet seldom hold on purpose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..transforms.volume_axes import through_plane_axis
from .volume_reader import Volume

__all__ = ["stroke_problems", "stroke_warnings"]

_FEWEST_VOXELS = 10
_LARGEST_SHARE = 0.5
_LARGEST_BACKGROUND = 0.8


def stroke_problems(path: str, scribbles: Volume, counts: Mapping[float, int], num_classes: int) -> list[str]:
    """Say where 0 can hardly be drawn background, but is what ITK-SNAP and 3D Slicer write where nothing is drawn.

    Their segments are numbered from 1 on, so that the strokes of the C-th have the value that means "not annotated"
    here. Nearly all voxels are 0 then, and C is drawn thinly. A finished mask of some slices may have as many of 0,
    but what is left out, C, is most of the slices where it is at all.

    Args:
        path: the file, for the lines.
        scribbles: voxels of 0..C, C being "not annotated".
        counts: number of voxels by value.
        num_classes: number of classes C with background.

    Returns:
        A line that names the file and the fix, none for other labels.
    """
    share = counts.get(0, 0) / max(scribbles.data.size, 1)
    if num_classes not in counts or share <= _LARGEST_BACKGROUND:
        return []
    if scribbles.data.ndim == 3:
        left_out = (scribbles.data == num_classes).mean(axis=_in_plane(scribbles))
        if left_out[left_out > 0].min() >= _LARGEST_SHARE:
            return []
    return [
        f"{path}: {share:.0%} of the voxels are 0, drawn background, and few are {num_classes}, not annotated; if 0 is "
        "what was not painted, bring it to this project's values by `python -m tools import_labels`, else give its "
        'item "supervision": "scribble"'
    ]


def stroke_warnings(
    path: str,
    scribbles: Volume,
    counts: Mapping[float, int],
    num_classes: int,
    *,
    background_limit: float = 0.5,
) -> list[str]:
    """Say where strokes are too few or too many to be likely.

    Where no background is drawn in a slice, nothing tells a network to stay away from what lies around the organ. A
    class of a handful of voxels is a slip of the pen, or too thin for the grid. Where most voxels are annotated, the
    file may use another value for "not annotated".

    Args:
        path: the file, for the lines.
        scribbles: voxels of 0..C, C being "not annotated".
        counts: number of voxels by value.
        num_classes: number of classes C with background.
        background_limit: share of slices without background strokes, 0 to 1, over which there is a warning.

    Returns:
        Lines that name the file, none for scribbles as usual.
    """
    warnings = []
    if scribbles.data.ndim == 3:
        drawn = (scribbles.data == 0).any(axis=_in_plane(scribbles))
        bare = int(np.count_nonzero(~drawn))
        if bare > background_limit * len(drawn):
            warnings.append(
                f"{path}: {bare} of {len(drawn)} slices have no background stroke; draw one in each slice, or organs "
                "may be seen where there are none"
            )
    thin = [value for value in range(num_classes) if 0 < counts.get(value, 0) < _FEWEST_VOXELS]
    if thin:
        listed = ", ".join(f"{counts[value]} of class {value}" for value in thin)
        warnings.append(f"{path}: has only {listed} (voxels); draw longer strokes, or remove a slip of the pen")
    annotated = 1 - counts.get(num_classes, 0) / max(scribbles.data.size, 1)
    if annotated > _LARGEST_SHARE:
        warnings.append(
            f"{path}: {annotated:.0%} of the voxels are annotated, which is much for strokes; is {num_classes} the "
            'value of all that is "not annotated"?'
        )
    return warnings


def _in_plane(scribbles: Volume) -> tuple[int, ...]:
    """The two axes along the slices of a volume."""
    axis = through_plane_axis(scribbles.spacing, scribbles.shape)
    return tuple(other for other in range(3) if other != axis)
