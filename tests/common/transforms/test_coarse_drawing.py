from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.errors import UserError
from common.transforms.coarse_drawing import MorphoDrawing, SquareDrawing


def ring(size: int = 28) -> np.ndarray:
    """A stroke of three to four pixels that closes on itself, as a digit 0."""
    rows, columns = np.indices((size, size))
    radius = np.hypot(rows - size / 2, columns - size / 2)
    return (radius > 6) & (radius < 9.5)


def areas(draw, count: int = 60) -> np.ndarray:
    return np.array([int(draw(ring(), np.random.default_rng(seed)).sum()) for seed in range(count)])


def test_positive_drawings_are_thicker_by_random_amounts() -> None:
    drawing = MorphoDrawing(fractures=0)
    found = areas(drawing.positive)
    assert found.min() >= ring().sum()
    # an amount of 1 adds half the thickness on both sides: the ring doubles; uniform amounts: half of that on average
    assert found.max() / ring().sum() == pytest.approx(2.0, abs=0.25)
    assert found.mean() / ring().sum() == pytest.approx(1.5, abs=0.12)
    assert len(set(found)) > 5  # the round ring's pixels lie at few distances


def test_negative_drawings_hold_back_or_run_over_the_object() -> None:
    drawing = MorphoDrawing(fractures=0)
    pixels = ring().size - areas(drawing.negative)  # what is left unpainted
    assert (pixels < 0.7 * ring().sum()).mean() > 0.1
    assert (pixels > 1.3 * ring().sum()).mean() > 0.1
    for seed in range(5):  # apart from the cuts, the unpainted part is the object, thinner or thicker
        unpainted = ~drawing.negative(ring(), np.random.default_rng(seed))
        assert ndimage.label(unpainted)[1] == 1
        assert not (unpainted & ~ndimage.binary_dilation(ring(), iterations=2)).any()


def test_fractures_cut_strokes_and_the_painted_surroundings() -> None:
    still = {"thinning": 0.0, "thickening": 0.0}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        broken = MorphoDrawing(**still).positive(ring(), rng)
        assert not (broken & ~ring()).any()
        # three cuts of 1 to 2 times 3 to 5 pixels, fewer where they overlap
        assert 3 <= (ring() & ~broken).sum() <= 30
        painted = MorphoDrawing(**still).negative(ring(), rng)
        assert not (painted & ring()).any()
        assert (~ring() & ~painted).sum() > 10
    np.testing.assert_array_equal(MorphoDrawing(**still, fractures=0).positive(ring(), rng), ring())
    np.testing.assert_array_equal(MorphoDrawing(**still, fractures=0).negative(ring(), rng), ~ring())


def test_without_variation_the_amounts_are_the_largest() -> None:
    drawing = MorphoDrawing(fractures=0, vary=False)
    assert len(set(areas(drawing.positive, 5))) == 1
    assert len(set(areas(drawing.negative, 20))) == 2  # thinned or thickened


def test_an_empty_region_is_not_painted_and_everything_is_not_it() -> None:
    empty, rng = np.zeros((12, 10), bool), np.random.default_rng(0)
    for drawing in (MorphoDrawing(fractures=0), SquareDrawing()):
        assert not drawing.positive(empty, rng).any()
        assert drawing.negative(empty, rng).all()


@pytest.mark.parametrize("scale", [1, 3])
def test_a_window_around_the_region_changes_nothing(scale: int) -> None:
    large = np.zeros((90, 100), bool)
    large[40:68, 50:78] = ring()
    for seed in range(5):
        drawing = MorphoDrawing(scale=scale)
        small = drawing.positive(np.pad(ring(), 20), np.random.default_rng(seed))
        whole = drawing.positive(large, np.random.default_rng(seed))
        np.testing.assert_array_equal(whole[20:88, 30:98], small)


def test_squares_by_hand() -> None:
    region = np.zeros((11, 11), bool)
    region[3:8, 3:8] = True
    drawing = SquareDrawing()
    found = {int(drawing.positive(region, np.random.default_rng(seed)).sum()) for seed in range(20)}
    assert found == {9, 49}  # 3 x 3 or 7 x 7
    found = {int(drawing.negative(region, np.random.default_rng(seed)).sum()) for seed in range(20)}
    assert found == {121 - 9, 121 - 49}
    found = {int(SquareDrawing(radius=2).positive(region, np.random.default_rng(seed)).sum()) for seed in range(40)}
    assert found == {1, 9, 49, 81}


def test_squares_do_not_erode_at_the_images_border() -> None:
    region = np.zeros((6, 8), bool)
    region[:, :4] = True
    found = {int(SquareDrawing().positive(region, np.random.default_rng(seed)).sum()) for seed in range(20)}
    assert found == {6 * 3, 6 * 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thinning": 1.5}, r"thinning must lie in 0 .. 1, got 1\.5"),
        ({"thickening": -0.1}, r"thickening must not be negative, got -0\.1"),
        ({"fractures": -1}, "fractures must not be negative, got -1"),
        ({"fracture_width": 0.0}, r"fracture_width must be over 0, got 0\.0"),
        ({"clearance": -2.0}, r"clearance must not be negative, got -2\.0"),
        ({"scale": 0}, "scale must be at least 1, got 0"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MorphoDrawing(**options)


def test_square_radius_out_of_range() -> None:
    with pytest.raises(UserError, match="radius must be at least 1, got 0"):
        SquareDrawing(radius=0)
