"""Label maps put on the grid of their image, voxel by voxel."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from common.data.label_volume import Grid
from common.data.voxel_transfer import onto_grid
from common.errors import UserError

SHAPE = (5, 4, 3)


def oblique_affine() -> np.ndarray:
    """Voxels of 1.4 x 1.5 x 8 mm, turned by 20 degrees around one axis and by 35 around another."""
    first, second = np.deg2rad([20, 35])
    around_z = [[np.cos(first), -np.sin(first), 0], [np.sin(first), np.cos(first), 0], [0, 0, 1]]
    around_x = [[1, 0, 0], [0, np.cos(second), -np.sin(second)], [0, np.sin(second), np.cos(second)]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(around_z) @ around_x @ np.diag([1.4, 1.5, 8])
    affine[:3, 3] = [-31.5, 12.25, 7.125]
    return affine


def random_labels(shape: tuple[int, ...] = SHAPE, layers: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, (layers, *shape)).astype(np.uint8)


TARGET = Grid(SHAPE, oblique_affine())


def test_the_same_grid() -> None:
    layers = random_labels()
    np.testing.assert_array_equal(onto_grid(layers, TARGET, TARGET), layers)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_axes_of_another_order_and_direction(order: tuple[int, ...]) -> None:
    """What nibabel turns, affine and all, comes back exactly."""
    layers = random_labels()
    for flips in itertools.product((1, -1), repeat=3):
        turn = np.array(list(zip(order, flips, strict=True)))
        turned = np.stack([nib.orientations.apply_orientation(layer, turn) for layer in layers])
        affine = TARGET.affine @ nib.orientations.inv_ornt_aff(turn, SHAPE)
        np.testing.assert_array_equal(onto_grid(turned, Grid(turned.shape[1:], affine), TARGET), layers)


def test_a_cropped_extent_goes_back_to_its_place() -> None:
    layers = random_labels((2, 1, 2), 1) + 1
    affine = TARGET.affine.copy()
    affine[:3, 3] += TARGET.affine[:3, :3] @ [3, 2, 1]  # its first voxel is voxel (3, 2, 1) of the image
    placed = onto_grid(layers, Grid((2, 1, 2), affine), TARGET)
    expected = np.zeros((1, *SHAPE), np.uint8)
    expected[:, 3:5, 2:3, 1:3] = layers
    np.testing.assert_array_equal(placed, expected)


def test_an_extent_beyond_the_image() -> None:
    layers = np.zeros((1, 9, 9, 9), np.uint8)
    layers[0, 2:7, 3:7, 4:7] = random_labels(layers=1)[0]
    affine = TARGET.affine.copy()
    affine[:3, 3] -= TARGET.affine[:3, :3] @ [2, 3, 4]
    source = Grid((9, 9, 9), affine)
    np.testing.assert_array_equal(onto_grid(layers, source, TARGET)[0], random_labels(layers=1)[0])
    layers[0, [0, 8], 0, 0] = 1
    with pytest.raises(UserError, match=r"^2 of its voxels lie outside of the image; is it the drawing of another"):
        onto_grid(layers, source, TARGET)


@pytest.mark.parametrize("shift", [[9, 0, 0], [-9, 0, 0], [0, 4, 0], [0, 0, -3]])
def test_an_extent_beside_the_image(shift: list[int]) -> None:
    affine = TARGET.affine.copy()
    affine[:3, 3] += TARGET.affine[:3, :3] @ shift
    assert not onto_grid(np.zeros((1, *SHAPE)), Grid(SHAPE, affine), TARGET).any()
    with pytest.raises(UserError, match=r"^60 of its voxels lie outside of the image"):
        onto_grid(np.ones((1, *SHAPE)), Grid(SHAPE, affine), TARGET)


def test_rounded_headers_fit_and_half_voxels_do_not() -> None:
    layers = random_labels()
    single = TARGET.affine.astype(np.float32).astype(float)
    np.testing.assert_array_equal(onto_grid(layers, Grid(SHAPE, single), TARGET), layers)
    affine = TARGET.affine.copy()
    affine[:3, 3] += TARGET.affine[:3, :3] @ [0.3, 0, 0]
    with pytest.raises(UserError, match=r"^its voxels are up to 0\.3 voxels beside the image's; export it on the"):
        onto_grid(layers, Grid(SHAPE, affine), TARGET)


def test_other_spacing_and_other_directions_are_refused() -> None:
    # voxels of twice the width: the last of 5 lies 4 voxels away from where it should be
    wide = TARGET.affine @ np.diag([2, 1, 1, 1])
    with pytest.raises(UserError, match=r"^its voxels are up to 4 voxels beside the image's"):
        onto_grid(random_labels(), Grid(SHAPE, wide), TARGET)
    with pytest.raises(UserError, match=r"^its voxels are up to .* voxels beside the image's"):
        onto_grid(random_labels(), Grid(SHAPE, np.diag([1.4, 1.5, 8, 1])), TARGET)


def test_a_slice_is_placed_whatever_the_thickness_in_its_header() -> None:
    plane = Grid((5, 4), np.eye(4))
    layers = random_labels((5, 4, 1), 1)
    thick = np.diag([1.0, 1.0, 5.0, 1.0])
    np.testing.assert_array_equal(onto_grid(layers, Grid((5, 4, 1), thick), plane), layers)
    flipped = np.diag([-1.0, 1.0, -5.0, 1.0])
    flipped[0, 3] = 4
    np.testing.assert_array_equal(onto_grid(layers[:, ::-1], Grid((5, 4, 1), flipped), plane), layers)
