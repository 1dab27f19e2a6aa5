"""Surface distances: values worked out by hand, and a slow second implementation that shares no code."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from common.errors import UserError
from common.metrics.surface_distance import assd, hd95, hd95_and_assd, surface_distances


def surface_points_by_loops(mask: np.ndarray, spacing) -> np.ndarray:
    """Positions in mm of the mask voxels with a face neighbour that is background or outside the image."""
    points = []
    for position in itertools.product(*(range(n) for n in mask.shape)):
        if not mask[position]:
            continue
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            neighbour = list(position)
            neighbour[axis] += step
            outside = neighbour[axis] < 0 or neighbour[axis] >= mask.shape[axis]
            if outside or not mask[tuple(neighbour)]:
                points.append(position)
                break
    return np.array(points) * np.array(spacing)


def brute_force(a: np.ndarray, b: np.ndarray, spacing) -> tuple[np.ndarray, np.ndarray]:
    pairs = cdist(surface_points_by_loops(a, spacing), surface_points_by_loops(b, spacing))
    return pairs.min(axis=1), pairs.min(axis=0)


def blob(rng: np.random.Generator, shape, threshold: float = 0.0) -> np.ndarray:
    return gaussian_filter(rng.standard_normal(shape), 1.5) > threshold


def line_and_its_first_voxel() -> tuple[np.ndarray, np.ndarray]:
    line = np.ones((10, 1, 1), dtype=bool)
    first = np.zeros_like(line)
    first[0] = True
    return first, line


class TestByHand:
    def test_two_voxels_on_an_anisotropic_grid(self):
        a, b = np.zeros((4, 4, 4), dtype=bool), np.zeros((4, 4, 4), dtype=bool)
        a[0, 0, 0] = b[1, 2, 3] = True
        # sqrt((1 * 2)^2 + (2 * 1)^2 + (3 * 5)^2) = sqrt(4 + 4 + 225)
        forth, back = surface_distances(a, b, (2, 1, 5))
        assert forth == pytest.approx([math.sqrt(233)])
        assert back == pytest.approx([math.sqrt(233)])

    def test_spacing_belongs_to_the_axes_in_their_order(self):
        a, b = np.zeros((3, 3, 3), dtype=bool), np.zeros((3, 3, 3), dtype=bool)
        a[0, 0, 0] = b[0, 0, 2] = True
        assert hd95(a, b, (1, 2, 10)) == pytest.approx(20)
        assert hd95(np.moveaxis(a, 2, 0), np.moveaxis(b, 2, 0), (1, 2, 10)) == pytest.approx(2)

    def test_hd95_pools_both_directions(self):
        # forth: 0; back: 0, 2, ..., 18. Pooled and sorted: 0, 0, 2, ..., 18 (11 values); position 0.95 * 10 = 9.5 lies
        # halfway between 16 and 18. The larger of the directed percentiles would be 16 + 0.55 * 2 = 17.1.
        assert hd95(*line_and_its_first_voxel(), (2, 1, 1)) == pytest.approx(17)

    def test_assd_is_the_mean_of_the_directed_means(self):
        # (0 + (0 + 2 + ... + 18) / 10) / 2 = 4.5; the mean of the pooled distances would be 90 / 11 = 8.18
        assert assd(*line_and_its_first_voxel(), (2, 1, 1)) == pytest.approx(4.5)

    def test_voxels_at_the_image_border_are_surface(self):
        full, core = np.ones((5, 5, 5), dtype=bool), np.zeros((5, 5, 5), dtype=bool)
        core[1:4, 1:4, 1:4] = True
        forth, back = surface_distances(full, core, (1, 1, 1))
        assert (len(forth), len(back)) == (5**3 - 3**3, 3**3 - 1)
        assert back == pytest.approx(np.ones(26))
        assert forth.max() == pytest.approx(math.sqrt(3))  # from the corners

    def test_edges_and_corners_do_not_make_a_voxel_surface(self):
        # A 3 x 3 square without one corner: its centre has four face neighbours inside, so it is no surface.
        square = np.ones((3, 3), dtype=bool)
        square[0, 0] = False
        forth, _ = surface_distances(square, square, (1, 1))
        assert len(forth) == 7

    def test_equal_masks(self):
        mask = blob(np.random.default_rng(0), (12, 9, 5))
        assert hd95_and_assd(mask, mask, (1.4, 1.4, 10)) == (0, 0)

    def test_two_dimensions(self):
        a, b = np.zeros((8, 8), dtype=np.uint8), np.zeros((8, 8), dtype=np.uint8)
        a[2:5, 2:5] = b[2:5, 4:7] = 3
        # A square has 8 surface pixels. Those of a lie from column 4 of b: in column 2 (three) 1 mm, in column 3
        # (two; its centre is no surface) 0.5 mm, in column 4 (three) 0 mm; b's by symmetry the same. Both ways: six 0,
        # four 0.5, six 1; position 0.95 * 15 = 14.25, so 1 mm; mean (3 * 1 + 2 * 0.5) / 8 = 0.5 mm.
        distance, mean = hd95_and_assd(a, b, (2, 0.5))
        assert distance == pytest.approx(1)
        assert mean == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("shape", "spacing"), [((11, 13, 6), (1.37, 0.83, 8.0)), ((17, 14), (0.5, 2.0))])
def test_agrees_with_brute_force(seed, shape, spacing):
    """Random blobs, which touch the image's border too."""
    rng = np.random.default_rng(seed)
    a, b = blob(rng, shape, 0.05), blob(rng, shape, -0.02)
    expected = brute_force(a, b, spacing)
    for measured, right in zip(surface_distances(a, b, spacing), expected, strict=True):
        np.testing.assert_allclose(measured, right, atol=1e-6)
    assert hd95(a, b, spacing) == pytest.approx(np.percentile(np.concatenate(expected), 95), abs=1e-6)
    assert assd(a, b, spacing) == pytest.approx((expected[0].mean() + expected[1].mean()) / 2, abs=1e-6)


@pytest.mark.parametrize(("shape", "spacing"), [((40, 35, 7), (1.37, 0.83, 8.0)), ((90, 80), (0.5, 2.0))])
def test_specks_far_apart_agree_with_brute_force(shape, spacing):
    """Few surface voxels in a wide box, which are searched in another way than many in a narrow one."""
    rng = np.random.default_rng(11)
    a, b = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    a[10:15, 10:13], b[11:16, 9:13] = True, True
    a.ravel()[rng.integers(0, a.size, 4)] = True
    b.ravel()[rng.integers(0, b.size, 3)] = True
    a.ravel()[[0, -1]] = True
    for measured, right in zip(surface_distances(a, b, spacing), brute_force(a, b, spacing), strict=True):
        np.testing.assert_allclose(measured, right, atol=1e-9)


def test_a_distance_transform_and_a_search_among_the_points_give_the_same(monkeypatch):
    rng = np.random.default_rng(13)
    a, b = blob(rng, (20, 18, 6), 0.1), blob(rng, (20, 18, 6))
    found = []
    for threshold in (0, 10**9):
        monkeypatch.setattr("common.metrics.surface_distance._VOXELS_A_POINT", threshold)
        found.append(surface_distances(a, b, (1.37, 0.83, 8.0)))
    for searched, transformed in zip(*found, strict=True):
        np.testing.assert_allclose(searched, transformed, atol=1e-9)


@pytest.mark.parametrize("margin", [0, 1, 7])
def test_the_field_of_view_does_not_matter(margin):
    rng = np.random.default_rng(3)
    a, b = blob(rng, (9, 8, 5)), blob(rng, (9, 8, 5))
    wide = [np.pad(mask, [(margin, 2 * margin), (0, margin), (margin, 0)]) for mask in (a, b)]
    for near, far in zip(surface_distances(a, b, (1, 2, 5)), surface_distances(*wide, (1, 2, 5)), strict=True):
        np.testing.assert_array_equal(near, far)


def test_swapping_the_masks_swaps_the_directions():
    rng = np.random.default_rng(5)
    a, b = blob(rng, (9, 8, 5), 0.1), blob(rng, (9, 8, 5))
    forth, back = surface_distances(a, b, (1, 2, 5))
    other_forth, other_back = surface_distances(b, a, (1, 2, 5))
    np.testing.assert_array_equal(forth, other_back)
    np.testing.assert_array_equal(back, other_forth)


def test_directed_distances_agree_with_monai():
    """MONAI pools differently, but its directed percentile and its directed mean have the same definition."""
    rng = np.random.default_rng(7)
    a, b = (np.pad(blob(rng, (12, 11, 6), 0.05), 2) for _ in range(2))
    tensors = [torch.as_tensor(mask)[None, None].float() for mask in (a, b)]
    forth, _ = surface_distances(a, b, (1.5, 1.0, 4.0))
    options = {"include_background": True, "spacing": (1.5, 1.0, 4.0)}
    percentile = compute_hausdorff_distance(*tensors, percentile=95, directed=True, **options)
    mean = compute_average_surface_distance(*tensors, symmetric=False, **options)
    assert np.percentile(forth, 95) == pytest.approx(percentile.item(), rel=1e-5)
    assert forth.mean() == pytest.approx(mean.item(), rel=1e-5)


class TestMistakes:
    @pytest.mark.parametrize("empty", [0, 1])
    def test_empty(self, empty):
        masks = [np.ones((3, 3)), np.ones((3, 3))]
        masks[empty][:] = 0
        with pytest.raises(ValueError, match="empty mask"):
            hd95(*masks, (1, 1))

    def test_shapes(self):
        with pytest.raises(UserError, match=r"\(3, 3\) and \(3, 4\)"):
            assd(np.ones((3, 3)), np.ones((3, 4)), (1, 1))

    @pytest.mark.parametrize("spacing", [(1, 0, 1), (1, -2, 1), (1, float("nan"), 1), (1, 1), (1, 1, float("inf"))])
    def test_spacing(self, spacing):
        with pytest.raises(UserError, match="3 positive numbers"):
            surface_distances(np.ones((3, 3, 3)), np.ones((3, 3, 3)), spacing)
