"""Skeletons of masks as scribbles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.errors import UserError
from common.transforms.scribble_skeleton import FORMS, skeleton_scribble

EIGHT = np.ones((3, 3))


def blobs(seed: int, num_classes: int = 3) -> np.ndarray:
    """A mask of smooth random shapes."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((60, 70)), 4)
    return np.digitize(field, np.quantile(field, np.arange(1, num_classes) / num_classes)).astype(np.uint8)


def test_lines_stay_and_bars_become_lines() -> None:
    mask = np.zeros((15, 21), np.uint8)
    mask[2, 3:18] = 1  # one pixel wide: has no border that could go
    mask[7:12, 3:18] = 2  # 5 x 15: after two borders, 1 x 11 of the middle row is left
    scribble = skeleton_scribble(mask, 3)
    np.testing.assert_array_equal(scribble[2] == 1, mask[2] == 1)
    assert np.count_nonzero(scribble == 1) == 15
    rows, columns = np.nonzero(scribble == 2)
    assert set(rows[(columns >= 6) & (columns < 15)]) == {9}  # the ends may bend towards a corner
    assert 11 <= len(rows) <= 15


@pytest.mark.parametrize("seed", range(4))
def test_parts_and_holes_are_kept(seed: int) -> None:
    mask = blobs(seed)
    scribble = skeleton_scribble(mask, 3)
    drawn = scribble != 3
    np.testing.assert_array_equal(scribble[drawn], mask[drawn])
    for index in range(3):
        region, line = mask == index, scribble == index
        labels, parts = ndimage.label(region, EIGHT)
        assert ndimage.label(line, EIGHT)[1] == parts
        assert set(labels[line]) == set(range(1, parts + 1))
        # holes are what lies outside, by edges, beside the part that reaches the rim
        holes = [ndimage.label(np.pad(~shape, 1, constant_values=True))[1] for shape in (region, line)]
        assert holes[0] == holes[1]
        assert line.sum() < 0.3 * region.sum()


def test_the_mask_alone_decides_slice_by_slice() -> None:
    stack = np.stack([blobs(0), blobs(1)])
    scribbles = skeleton_scribble(stack, 3)
    assert scribbles.shape == stack.shape
    assert scribbles.dtype == stack.dtype
    for plane, drawn in zip(stack, scribbles, strict=True):
        np.testing.assert_array_equal(skeleton_scribble(plane, 3), drawn)


def test_thick_lines_are_wider_and_stay_inside() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[4:15, 5:26] = 1
    thin, thick = skeleton_scribble(mask, 2), skeleton_scribble(mask, 2, thicken=True)
    np.testing.assert_array_equal(thick[thick != 2], mask[thick != 2])
    # A pixel and its four neighbours; the line is straight here and has no gap to close.
    column = thin[:, 15] == 1
    np.testing.assert_array_equal(thick[:, 15] == 1, ndimage.binary_dilation(column))
    narrow = np.zeros((9, 9), np.uint8)
    narrow[4, 2:7] = 1
    np.testing.assert_array_equal(skeleton_scribble(narrow, 2, thicken=True) == 1, narrow == 1)


def test_the_background_of_the_hull_form_runs_around_the_classes() -> None:
    mask = np.zeros((80, 90), np.uint8)
    mask[30:40, 30:40] = 1
    mask[30:40, 50:60] = 2
    scribble = skeleton_scribble(mask, 3, background="hull")
    # The hull of both squares is rows 30-39, columns 30-59; five pixels around it are the background that counts.
    away = ndimage.distance_transform_edt(mask == 0)
    hull = np.zeros_like(mask)
    hull[30:40, 30:60] = 1
    distance = ndimage.distance_transform_edt(hull == 0)
    line = scribble == 0
    assert 0 < distance[line].max() <= 4  # in the middle of the margin
    assert away[line].min() > 1
    assert np.count_nonzero(line & (hull == 1)) > 0  # the gap between the squares lies in the hull
    outside = ndimage.label(~line)[0]  # the line closes around both squares
    assert outside[0, 0] not in set(outside[mask > 0])
    for index in (1, 2):
        np.testing.assert_array_equal(scribble == index, skeleton_scribble(mask, 3) == index)


def test_the_hull_form_draws_four_lines_where_there_is_no_class() -> None:
    scribble = skeleton_scribble(np.zeros((30, 60), np.uint8), 4, background="hull")
    expected = np.full((30, 60), 4)
    expected[[10, 20]] = 0  # thirds of 30 rows and of 60 columns
    expected[:, [20, 40]] = 0
    np.testing.assert_array_equal(scribble, expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0, 2])
def test_slices_of_one_class_only(form: str, value: int) -> None:
    scribble = skeleton_scribble(np.full((24, 40), value, np.uint8), 3, **FORMS[form])
    assert set(np.unique(scribble)) == {value, 3}


def test_wrong_input() -> None:
    with pytest.raises(UserError, match=r"^background is 'rings'; choose one of skeleton, hull$"):
        skeleton_scribble(np.zeros((4, 4), np.uint8), 2, background="rings")
    with pytest.raises(ValueError, match=r"\[..., H, W\], got shape \(4,\)"):
        skeleton_scribble(np.zeros(4, np.uint8), 2)
    with pytest.raises(ValueError, match=r"0\.\.1, got 0\.\.2"):
        skeleton_scribble(np.diag([0, 2]), 2)
