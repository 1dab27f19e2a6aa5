"""Scribbles that are allowed and yet unlikely."""

from __future__ import annotations

import numpy as np

from common.data.stroke_warnings import stroke_warnings
from common.data.volume_reader import Volume

NOT_ANNOTATED = 3


def warned(voxels: np.ndarray, spacing: tuple[float, ...] = (1, 1, 8), **options: float) -> list[str]:
    volume = Volume(voxels, voxels.shape, np.diag([*spacing[:3], 1]), spacing, 1)
    values, numbers = np.unique(voxels, return_counts=True)
    counts = dict(zip(values.tolist(), numbers.tolist(), strict=True))
    return [line.removeprefix("a.nii: ") for line in stroke_warnings("a.nii", volume, counts, NOT_ANNOTATED, **options)]


def strokes() -> np.ndarray:
    """Rows of 10 voxels in each of 4 slices: one of each class, 7 of 10 not annotated."""
    voxels = np.full((10, 10, 4), NOT_ANNOTATED, np.uint8)
    voxels[:3] = np.arange(3)[:, None, None]
    return voxels


def test_usual_scribbles() -> None:
    assert warned(strokes()) == []


def test_slices_without_background() -> None:
    voxels = strokes()
    voxels[0, :, :2] = NOT_ANNOTATED
    assert warned(voxels) == []  # half of the slices is not more than half
    voxels[0, :, 2] = NOT_ANNOTATED
    assert warned(voxels) == [
        "3 of 4 slices have no background stroke; draw one in each slice, or organs may be seen where there are none"
    ]
    assert warned(voxels, background_limit=0.75) == []


def test_slices_are_those_across_the_widest_spacing() -> None:
    voxels = strokes()
    voxels[0, :, 1:] = NOT_ANNOTATED  # drawn in one of the 4 slices along the last axis, in all along the second
    assert len(warned(voxels, (1, 1, 8))) == 1
    assert warned(voxels, (1, 8, 1)) == []
    assert warned(strokes()[..., 0], (1, 1)) == []


def test_classes_of_a_handful_of_voxels() -> None:
    voxels = strokes()
    voxels[1] = NOT_ANNOTATED
    assert warned(voxels) == []  # a class that is not drawn at all is usual
    voxels[1, :9, 0] = 1
    assert warned(voxels) == ["has only 9 of class 1 (voxels); draw longer strokes, or remove a slip of the pen"]
    voxels[1, 9, 0] = 1
    assert warned(voxels) == []


def test_more_annotated_than_not() -> None:
    voxels = strokes()
    voxels[3:5] = 0
    assert warned(voxels) == []  # 5 of 10 rows
    voxels[5, :4, 0] = 0  # and 4 voxels more of 400
    assert warned(voxels) == [
        '51% of the voxels are annotated, which is much for strokes; is 3 the value of all that is "not annotated"?'
    ]
