from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.transforms.mask_morphology import fractured, mean_thickness, on_finer_grid, resized_strokes


def bar(width: int, length: int = 60, size: tuple[int, int] = (40, 80)) -> np.ndarray:
    """A horizontal bar in the middle of an image."""
    mask = np.zeros(size, bool)
    top, left = (size[0] - width) // 2, (size[1] - length) // 2
    mask[top : top + width, left : left + length] = True
    return mask


def test_mean_thickness_of_a_bar_and_a_disc() -> None:
    # the middle line of 9 rows is 5 pixels from the first row outside, its ends are nearer
    assert mean_thickness(bar(9)) == pytest.approx(2 * 5, rel=0.1)
    assert mean_thickness(np.zeros((5, 5), bool)) == 0.0
    assert mean_thickness(np.ones((9, 60), bool)) == pytest.approx(2 * 5, rel=0.1)  # outside the image is outside


def test_thicker_and_thinner_by_half_the_mean_thickness() -> None:
    mask = bar(9)
    radius = mean_thickness(mask) / 2  # a bit less than 5
    rows = [resized_strokes(mask, amount)[:, 40].sum() for amount in (-0.5, 0.0, 0.5, 1.0)]
    # a column loses or gains the whole pixels within the radius above and below
    assert rows == [9 - 2 * int(0.5 * radius), 9, 9 + 2 * int(0.5 * radius), 9 + 2 * int(radius)]
    assert rows == [5, 9, 13, 17]


def test_thickening_is_by_a_disc() -> None:
    mask = bar(9)
    radius = mean_thickness(mask) / 2
    rows, columns = np.indices(mask.shape)
    corner = np.hypot(rows - 15, columns - 10) <= radius  # around the bar's first pixel
    np.testing.assert_array_equal(resized_strokes(mask, 1.0)[:15, :10], corner[:15, :10])


def test_nothing_and_everything_stay() -> None:
    for mask in (np.zeros((6, 7), bool), np.ones((6, 7), bool)):
        for amount in (-1.0, 1.0):
            np.testing.assert_array_equal(resized_strokes(mask, amount), mask)


def test_a_stroke_that_leaves_the_image_is_not_eroded_there() -> None:
    mask = np.zeros((20, 30), bool)
    mask[6:15] = True
    thin = resized_strokes(mask, -0.5)
    assert thin[:, 0].sum() == thin[:, 15].sum() < 9


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_finer_grid_gives_the_mask_back(scale: int) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((30, 41)), 2) > 0
    shapes = []
    result = on_finer_grid(mask, scale, lambda fine: shapes.append(fine.shape) or fine)
    assert shapes == [(30 * scale, 41 * scale)]
    assert (result != mask).mean() < 0.01


def test_a_finer_grid_keeps_lines_of_one_pixel_and_averages_down() -> None:
    mask = np.zeros((6, 6), bool)
    mask[2] = True
    np.testing.assert_array_equal(on_finer_grid(mask, 4, lambda fine: fine), mask)
    half = np.zeros((24, 24), bool)
    half[8:10] = True  # half of the pixels of row 2
    half[12:13] = True  # a quarter of row 3
    np.testing.assert_array_equal(on_finer_grid(mask, 4, lambda fine: half), mask)


def cut(mask: np.ndarray, seed: int = 0, **options: float) -> np.ndarray:
    settings = {"count": 1, "width": 3.0, "clearance": 8.0, "reach": 2.0} | options
    return fractured(mask, np.random.default_rng(seed), **settings)


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_parts_a_bar_at_right_angles(seed: int) -> None:
    mask = bar(9)
    left = cut(mask, seed)
    assert ndimage.label(left)[1] == 2
    gone = mask & ~left
    rows, columns = np.nonzero(gone)
    assert set(rows) == set(range(15, 24))
    assert np.ptp(columns) + 1 == 3  # as wide as asked for: one pixel and one to either side
    assert gone.sum() == 9 * 3
    assert 10 + 8 < columns.mean() < 69 - 8  # away from the ends


def test_a_cut_follows_the_direction_of_the_stroke() -> None:
    rows, columns = np.indices((80, 80))
    diagonal = (np.abs(rows - columns) < 7) & (np.abs(rows + columns - 79) < 60)
    left = cut(diagonal)
    assert ndimage.label(left)[1] == 2
    gone = np.argwhere(diagonal & ~left)
    spread = np.linalg.eigh(np.cov(gone.T))
    # the cut's long side runs along (1, -1)
    assert abs(spread[1][:, 1] @ np.array([1, -1])) / np.sqrt(2) > 0.99


def test_cuts_keep_clear_of_forks_and_spare_a_disc() -> None:
    cross = bar(5, 60, (80, 80)) | bar(5, 60, (80, 80)).T
    for seed in range(10):
        gone = np.argwhere(cross & ~cut(cross, seed, clearance=12.0))
        assert len(gone)
        assert np.abs(gone - 39.5).max(axis=1).min() > 8
    rows, columns = np.indices((41, 41))
    disc = np.hypot(rows - 20, columns - 20) < 12
    np.testing.assert_array_equal(cut(disc, clearance=20.0), disc)
    np.testing.assert_array_equal(cut(np.zeros((9, 9), bool)), np.zeros((9, 9), bool))


def test_a_cut_does_not_reach_a_neighbouring_stroke() -> None:
    two = np.zeros((60, 80), bool)
    two[10:19, 10:70] = two[30:39, 10:70] = True  # eleven pixels apart
    left = cut(two)
    assert ndimage.label(left)[1] == 3


def test_the_generator_alone_decides() -> None:
    mask = bar(9)
    np.testing.assert_array_equal(cut(mask, 3, count=3), cut(mask, 3, count=3))
    assert (cut(mask, 3, count=3) != cut(mask, 4, count=3)).any()
