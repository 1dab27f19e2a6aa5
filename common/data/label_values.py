"""Which values a label file may hold, by what it is given for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["label_problems"]


def label_problems(values: list[Any], path: str, item: Mapping[str, Any], num_classes: int, kind: str) -> list[str]:
    """Whether the values found in a label are those that its kind of label holds.

    Args:
        values: the different values of its voxels.
        path: its file, for the lines.
        item: its datalist item.
        num_classes: number of classes C with background.
        kind: see :func:`~common.data.checks.check_items`.

    Returns:
        Lines that name the file and the fix, none where all is well.
    """
    ignored, classes = num_classes, f"0..{num_classes - 1}"
    supervision = {"scribble": item.get("supervision", "scribble"), "dense": "dense", "mask": "dense"}.get(
        kind, "either"
    )
    if supervision not in ("scribble", "dense", "either"):
        return [f'{path}: "supervision" is {supervision!r}; write "scribble" or "dense"']
    broken = [value for value in values if value != np.floor(value) or not np.isfinite(value)]
    if broken:
        return [f"{path}: label value {broken[0]:g} is no integer; resample labels with nearest neighbour"]
    unknown = [value for value in values if not 0 <= value <= ignored]
    if unknown:
        also = "" if supervision == "dense" else f" and {ignored} (not annotated)"
        return [f"{path}: unknown label value {unknown[0]:g}; allowed are {classes}{also}"]
    if supervision == "either":
        return []
    if supervision == "dense":
        if ignored not in values:
            return []
        return [
            f"{path}: holds {ignored} (not annotated) where a dense mask with {classes} is expected; "
            'list scribbles under "training"'
        ]
    problems = []
    if ignored not in values:
        problems.append(
            f"{path}: a dense mask is given where scribbles are expected, no voxel is {ignored} (not annotated); give "
            'its item "supervision": "dense" or list it under "unpaired_masks", or write unannotated voxels as '
            f"{ignored}"
        )
    if 0 not in values:
        problems.append(f"{path}: has no background scribble (value 0); draw at least one stroke on the background")
    return problems
