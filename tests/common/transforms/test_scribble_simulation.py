from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.transforms.scribble_simulation import simulate_scribble

NUM_CLASSES = 4


def heart(size: int = 120) -> np.ndarray:
    """A pool (3) of radius 18 in a ring (2) of radius 28 beside a crescent (1), on background."""
    rows, columns = np.indices((size, size))
    centre = size // 2
    radius = np.hypot(rows - centre, columns - centre)
    mask = np.zeros((size, size), np.uint8)
    mask[np.hypot(rows - centre, columns - centre + 20) < 28] = 1
    mask[radius < 28] = 2
    mask[radius < 18] = 3
    return mask


def draw(mask: np.ndarray, seed: int = 0, **options) -> np.ndarray:
    return simulate_scribble(mask, NUM_CLASSES, np.random.default_rng(seed), **options)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_no_stroke_leaves_its_class_and_every_class_has_one(seed, width):
    mask = heart()
    scribble = draw(mask, seed, width=width)
    drawn = scribble != NUM_CLASSES
    np.testing.assert_array_equal(scribble[drawn], mask[drawn])
    assert set(np.unique(scribble)) == {0, 1, 2, 3, 4}
    assert scribble.shape == mask.shape
    assert scribble.dtype == mask.dtype


def test_thin_and_tiny_classes_are_drawn_without_leaving_them():
    mask = np.zeros((40, 50), np.int64)
    mask[5, 5] = 1  # one pixel
    mask[20, 10:30] = 2  # a line one pixel wide
    mask[30:32, 3:5] = mask[30:32, 40:42] = 3  # two parts that no path joins
    for seed in range(10):
        scribble = draw(mask, seed, width=3)
        drawn = scribble != NUM_CLASSES
        np.testing.assert_array_equal(scribble[drawn], mask[drawn])
        assert scribble[5, 5] == 1
        assert {2, 3} <= set(np.unique(scribble))


def test_the_length_follows_the_middle_line():
    # Half the ring's perimeter is (2 pi 18 + 2 pi 28) / 2 = 144.5; the length is drawn from 0.7 to 1.3 of it, and
    # chains of 12 paths may end earlier.
    full = [np.count_nonzero(draw(heart(), seed) == 2) for seed in range(8)]
    assert 90 <= np.mean(full) <= 190
    # A quarter of it: 0.25 * 144.5 * (0.7 to 1.3) = 25 to 47 pixels, one more where a path starts.
    short = [np.count_nonzero(draw(heart(), seed, length=0.25) == 2) for seed in range(8)]
    assert all(24 <= pixels <= 50 for pixels in short)


def test_strokes_keep_to_the_middle():
    mask = heart()
    depth = ndimage.distance_transform_edt(mask == 2)
    strokes = np.concatenate([depth[draw(mask, seed) == 2] for seed in range(5)])
    assert strokes.mean() > 1.25 * depth[mask == 2].mean()


def test_the_background_loop_goes_around_all_classes():
    mask = heart()
    distance = ndimage.distance_transform_edt(mask == 0)
    for seed in range(5):
        rows, columns = np.nonzero((draw(mask, seed, margin=8) == 0) & (distance < 30))
        around = np.histogram(np.arctan2(rows - 60, columns - 55), 12, (-np.pi, np.pi))[0]
        assert np.count_nonzero(around) >= 8  # at least three quarters of the turn, less one sector at the gap
        assert distance[rows, columns].min() >= 1


def test_width_makes_strokes_wider_and_nothing_else():
    mask = heart()
    thin, wide = draw(mask), draw(mask, width=3)
    drawn = thin != NUM_CLASSES
    np.testing.assert_array_equal(wide[drawn], thin[drawn])
    assert np.count_nonzero(wide != NUM_CLASSES) > 1.5 * np.count_nonzero(drawn)


def test_a_slice_without_classes_gets_background_strokes_only():
    for seed in range(5):
        scribble = draw(np.zeros((80, 90), np.uint8), seed)
        assert set(np.unique(scribble)) == {0, NUM_CLASSES}
        # two strokes of 0.1 to 0.3 times 90 pixels each, 18 to 54 together, fewer where they cross
        assert 10 <= np.count_nonzero(scribble == 0) <= 58


def test_a_slice_without_background_has_no_background_stroke():
    assert set(np.unique(draw(np.full((30, 30), 2, np.uint8)))) == {2, NUM_CLASSES}


def test_the_generator_alone_decides():
    mask = heart()
    np.testing.assert_array_equal(draw(mask, 7), draw(mask, 7))
    assert (draw(mask, 7) != draw(mask, 8)).any()


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        (np.zeros((2, 5, 5), np.uint8), {}, r"\[H, W\], got shape \(2, 5, 5\)"),
        (np.full((5, 5), 4, np.uint8), {}, r"0\.\.3, got 4\.\.4"),
        (np.full((5, 5), -1), {}, r"0\.\.3, got -1\.\.-1"),
        (heart(), {"length": 0}, "length must be over 0"),
        (heart(), {"width": 0}, "width and margin"),
        (heart(), {"margin": 0.5}, "width and margin"),
    ],
)
def test_wrong_input(mask, options, message):
    with pytest.raises(ValueError, match=message):
        draw(mask, **options)
