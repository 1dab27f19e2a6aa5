from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from common.errors import UserError
from common.transforms.nearest_share import DISTANCES, nearest_share

RATIOS = (1.0, 0.8, 0.5, 0.3, 0.01)


def blob(seed: int = 0) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((50, 60)), 3) > 0.02


def horseshoe() -> np.ndarray:
    """Two arms three pixels apart, joined at the left."""
    region = np.zeros((9, 40), bool)
    region[1:3] = region[6:8] = region[:, :3] = True
    region[[0, 8], :3] = False
    return region


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("seed", range(3))
def test_the_area_is_exact_to_a_pixel(distance: str, ratio: float, seed: int) -> None:
    region = blob(seed)
    kept = nearest_share(region, ratio, np.random.default_rng(seed), distance=distance)
    assert kept.sum() == int(ratio * region.sum() + 0.5)
    assert not (kept & ~region).any()


def test_areas_by_hand() -> None:
    # of 5 pixels: 0.5 gives 2.5, rounded up to 3; 0.3 gives 1.5, so 2; 0.01 keeps the centre
    line = np.zeros((3, 9), bool)
    line[1, 2:7] = True
    areas = [int(nearest_share(line, ratio, np.random.default_rng(0)).sum()) for ratio in RATIOS]
    assert areas == [5, 4, 3, 2, 1]


def test_smaller_shares_are_parts_of_larger_ones_around_the_same_centre() -> None:
    kept = [nearest_share(blob(), ratio, np.random.default_rng(7)) for ratio in RATIOS]
    for larger, smaller in pairwise(kept):
        assert not (smaller & ~larger).any()


def test_geodesic_goes_around_and_euclidean_across() -> None:
    region = horseshoe()
    rng = np.random.default_rng
    seed = next(s for s in range(100) if nearest_share(region, 0.01, rng(s))[:3, 30:].any())  # a centre far out
    around = nearest_share(region, 0.25, rng(seed))
    across = nearest_share(region, 0.25, rng(seed), distance="euclidean")
    assert not around[6:].any()
    assert across[6:].any()
    assert ndimage.label(around)[1] == 1


def test_other_parts_come_after_the_centres() -> None:
    region = np.zeros((7, 20), bool)
    region[3, 0:10] = region[3, 11:20] = True
    for seed in range(20):
        kept = nearest_share(region, 0.4, np.random.default_rng(seed))  # 8 of 19 pixels, fewer than either part
        assert not (kept[:, :10].any() and kept[:, 11:].any())
        assert nearest_share(region, 0.9, np.random.default_rng(seed)).sum() == 17


def test_kept_pixels_are_the_nearest() -> None:
    region = np.ones((21, 21), bool)
    kept = nearest_share(region, 0.2, np.random.default_rng(0), distance="euclidean")
    centre = np.argwhere(nearest_share(region, 1e-9, np.random.default_rng(0)))[0]
    away = np.hypot(*(np.indices(region.shape) - centre[:, None, None]))
    assert away[kept].max() <= away[~kept].min()


def test_centres_are_all_over_the_region() -> None:
    line = np.ones((1, 8), bool)
    rng = np.random.default_rng(0)
    centres = [int(np.argmax(nearest_share(line, 0.01, rng)[0])) for _ in range(800)]
    assert np.bincount(centres, minlength=8).min() > 60


def test_empty_whole_and_seeds() -> None:
    empty = np.zeros((4, 5), bool)
    np.testing.assert_array_equal(nearest_share(empty, 0.5, np.random.default_rng(0)), empty)
    region, rng = blob(), np.random.default_rng(5)
    np.testing.assert_array_equal(nearest_share(region, 1.0, rng), region)
    assert rng.random() == np.random.default_rng(5).random()  # nothing was drawn
    first = nearest_share(region, 0.3, np.random.default_rng(1))
    np.testing.assert_array_equal(first, nearest_share(region, 0.3, np.random.default_rng(1)))
    assert (first != nearest_share(region, 0.3, np.random.default_rng(2))).any()


def test_options_out_of_range() -> None:
    for share in (0.0, 1.01, -0.5):
        with pytest.raises(UserError, match=f"over 0 and at most 1, got {share}"):
            nearest_share(blob(), share, np.random.default_rng(0))
    with pytest.raises(UserError, match="distance must be one of geodesic, euclidean, got 'taxi'"):
        nearest_share(blob(), 0.5, np.random.default_rng(0), distance="taxi")
