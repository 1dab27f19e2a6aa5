"""Strokes inside of a class and along its border."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from common.errors import UserError
from common.transforms.scribble_strokes import boundary_stroke, stroke_scribble


def blobs(seed: int, num_classes: int = 3, shape: tuple[int, int] = (60, 70)) -> np.ndarray:
    """A mask of smooth random shapes."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 4)
    return np.digitize(field, np.quantile(field, np.arange(1, num_classes) / num_classes)).astype(np.uint8)


def disc(radius: float = 20, size: int = 64) -> np.ndarray:
    rows, columns = np.indices((size, size)) - size // 2
    return (np.hypot(rows, columns) < radius).astype(np.uint8)


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_a_stroke_along_a_straight_border_is_as_wide_as_said(width: int) -> None:
    region = np.zeros((40, 30), bool)
    region[:, 12:] = True  # its border is column 12; the rim of the image is none
    stroke = boundary_stroke(region, np.random.default_rng(0), share=1, width=width)
    expected = np.zeros_like(region)
    expected[:, 12 : 12 + width] = True
    np.testing.assert_array_equal(stroke, expected)


@pytest.mark.parametrize(("share", "pixels"), [(0.1, 4), (0.5, 20), (0.71, 28), (0.01, 1)])
def test_the_share_of_the_border(share: float, pixels: int) -> None:
    region = np.zeros((40, 30), bool)
    region[:, 12:] = True  # a border of 40 pixels
    stroke = boundary_stroke(region, np.random.default_rng(0), share=share)
    rows, columns = np.nonzero(stroke)
    assert len(rows) == pixels
    assert set(columns) == {12}
    assert rows.max() - rows.min() == pixels - 1  # in one piece


def test_a_stroke_around_a_disc_lies_on_its_inner_border() -> None:
    region = disc().astype(bool)
    stroke = boundary_stroke(region, np.random.default_rng(0), share=1)
    np.testing.assert_array_equal(stroke, region & ~ndimage.binary_erosion(region))
    wide = boundary_stroke(region, np.random.default_rng(0), share=1, width=4)
    depth = ndimage.distance_transform_edt(region)
    assert wide[(depth > 0) & (depth <= 3)].all()
    assert not wide[depth > 5].any()
    assert not wide[~region].any()


def test_regions_without_a_border_and_thin_ones() -> None:
    rng = np.random.default_rng(0)
    for region in (np.ones((9, 9), bool), np.zeros((9, 9), bool)):
        assert not boundary_stroke(region, rng, share=1, width=3).any()
    line = np.zeros((9, 20), bool)
    line[4] = True
    np.testing.assert_array_equal(boundary_stroke(line, rng, share=1, width=5), line)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_no_stroke_leaves_its_class_and_every_class_has_one(seed: int, width: int) -> None:
    mask = np.stack([blobs(seed), blobs(seed + 10)])
    drawn = stroke_scribble(mask, 3, np.random.default_rng(seed), width=width)
    assert drawn.dtype == mask.dtype
    np.testing.assert_array_equal(drawn[drawn != 3], mask[drawn != 3])
    for plane in drawn:
        assert set(np.unique(plane)) == {0, 1, 2, 3}


def test_every_class_has_a_stroke_inside_and_one_along_its_border() -> None:
    mask = disc()
    for seed in range(6):
        drawn = stroke_scribble(mask, 2, np.random.default_rng(seed))
        for index in (0, 1):
            depth = ndimage.distance_transform_edt(mask == index)
            border = (depth > 0) & (depth <= 1)
            # a tenth to three tenths of the border; the stroke inside may touch it here and there
            assert 0.09 < (drawn == index)[border].mean() < 0.5
            assert (drawn == index)[depth > 2].sum() > 10


@pytest.mark.parametrize("width", [2, 3, 4, 7])
def test_the_width_makes_the_same_strokes_wider_and_nothing_else(width: int) -> None:
    mask = disc(26)
    thin = stroke_scribble(mask, 2, np.random.default_rng(4))
    wide = stroke_scribble(mask, 2, np.random.default_rng(4), width=width)
    assert (wide[thin != 2] == thin[thin != 2]).all()
    for index in (0, 1):
        # a stroke inside grows to both sides, one along the border inwards only
        away = ndimage.distance_transform_edt(thin != index)
        assert away[wide == index].max() < width
        assert (wide == index).sum() > 1.3 * (thin == index).sum()


def test_the_source_decides_slice_by_slice() -> None:
    mask = np.stack([blobs(0), blobs(1)])

    def draw(stack: np.ndarray, seed: int) -> np.ndarray:
        return stroke_scribble(stack, 3, np.random.default_rng(seed))

    assert draw(mask, 5).tobytes() == draw(mask, 5).tobytes()
    assert (draw(mask, 5) != draw(mask, 6)).any(axis=(1, 2)).all()
    # what is drawn in a slice does not follow from the others
    other = np.stack([blobs(2), blobs(1)])
    np.testing.assert_array_equal(draw(other, 5)[1], draw(mask, 5)[1])
    np.testing.assert_array_equal(draw(mask[:1], 5)[0], draw(mask, 5)[0])


def test_slices_of_one_class_and_single_pixels() -> None:
    for value in (0, 1):
        drawn = stroke_scribble(np.full((40, 30), value, np.uint8), 2, np.random.default_rng(0))
        assert set(np.unique(drawn)) == {value, 2}
    mask = np.zeros((20, 20), np.uint8)
    mask[7, 9] = 1
    assert np.argwhere(stroke_scribble(mask, 2, np.random.default_rng(0), width=5) == 1).tolist() == [[7, 9]]


@pytest.mark.parametrize("width", [0, -1, 1.0, True, "2", None])
def test_widths_out_of_range(width: Any) -> None:
    message = f"^width is {re.escape(repr(width))}; give the strokes' width in pixels, a whole number from 1 on$"
    with pytest.raises(UserError, match=message):
        stroke_scribble(disc(), 2, np.random.default_rng(0), width=width)


def test_masks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\[..., H, W\], got shape \(4,\)"):
        stroke_scribble(np.zeros(4, np.uint8), 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"0\.\.1, got 0\.\.2"):
        stroke_scribble(np.diag([0, 2]), 2, np.random.default_rng(0))


@pytest.mark.parametrize("length", [0.5, 0.25])
def test_the_length_shortens_all_strokes(length: float) -> None:
    mask = disc(26)
    for seed in range(4):
        whole = stroke_scribble(mask, 2, np.random.default_rng(seed))
        short = stroke_scribble(mask, 2, np.random.default_rng(seed), length=length)
        np.testing.assert_array_equal(short[short != 2], mask[short != 2])
        for index in (0, 1):
            # the draws differ, and so do the lengths, by up to a half of their mean
            assert 0.3 * length < (short == index).sum() / (whole == index).sum() < 2.0 * length


@pytest.mark.parametrize("length", [0, -1, 1.5, True, "2", None])
def test_lengths_out_of_range(length: Any) -> None:
    with pytest.raises(UserError, match=f"^length is {re.escape(repr(length))}; give a number over 0 and up to 1$"):
        stroke_scribble(disc(), 2, np.random.default_rng(0), length=length)
