"""Scribbles that are allowed and yet unlikely."""

from __future__ import annotations

import numpy as np

from common.data.stroke_warnings import stroke_problems, stroke_warnings
from common.data.volume_reader import Volume

NOT_ANNOTATED = 3


def looked_at(voxels: np.ndarray, spacing: tuple[float, ...] = (1, 1, 8)) -> tuple[Volume, dict[float, int]]:
    values, numbers = np.unique(voxels, return_counts=True)
    counts = dict(zip(values.tolist(), numbers.tolist(), strict=True))
    return Volume(voxels, voxels.shape, np.diag([*spacing[:2], 1, 1]), spacing, 1), counts


def warned(voxels: np.ndarray, spacing: tuple[float, ...] = (1, 1, 8), **options: float) -> list[str]:
    lines = stroke_warnings("a.nii", *looked_at(voxels, spacing), NOT_ANNOTATED, **options)
    return [line.removeprefix("a.nii: ") for line in lines]


def refused(voxels: np.ndarray, spacing: tuple[float, ...] = (1, 1, 8)) -> list[str]:
    return stroke_problems("a.nii", *looked_at(voxels, spacing), NOT_ANNOTATED)


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


def test_strokes_of_a_program_that_leaves_0_where_nothing_is_drawn() -> None:
    voxels = np.zeros((10, 10, 4), np.uint8)
    voxels[2, 2:6], voxels[4, 2:6], voxels[0, :8] = 1, 2, 3  # of 100 in a slice 4, 4 and 8, which leaves 84
    assert refused(voxels) == [
        "a.nii: 84% of the voxels are 0, drawn background, and few are 3, not annotated; if 0 is what was not painted, "
        "bring it to this project's values by `python -m tools import_labels`, else give its item "
        '"supervision": "scribble"'
    ]
    assert len(refused(voxels[..., 0], (1, 1))) == 1
    voxels = np.repeat(voxels, 3, axis=2)
    voxels[..., 4] = 3  # one slice of 12 is background as a whole: (11 * 84) / (12 * 100) = 77 % remain 0
    voxels[..., 5:] = 0  # and from there on nothing is drawn: (4 * 84 + 7 * 100) / 1200 = 86 %
    assert refused(voxels)[0].startswith("a.nii: 86% of the voxels are 0")


def test_what_has_as_much_background_and_is_no_such_file() -> None:
    assert refused(strokes()) == []
    dense = np.zeros((10, 10, 12), np.uint8)
    dense[2, 2:6], dense[4, 2:6] = 1, 2
    assert refused(dense) == []  # is refused as a mask
    dense[..., -1] = NOT_ANNOTATED  # a finished mask, 92 of 100 voxels being 0 in 11 of 12 slices
    assert refused(dense) == []
    dense[2:6, :, -1] = 0  # of the last slice 4 rows are drawn
    assert refused(dense) == []
    dense[:6, :, -1] = 0
    assert len(refused(dense)) == 1
