"""What is drawn on a slice, in units of its own."""

from __future__ import annotations

import numpy as np
import torch

from common.transforms.drawn_area import drawn_area


def test_by_slice_and_value_up_to_the_highest_one() -> None:
    slices = torch.tensor([[[0, 2], [2, 2]], [[0, 0], [0, 0]]])
    # voxels of 1.5 x 2 x 8 mm, one axis turned the other way: 24 mm³ each
    affine = np.array([[0, 2.0, 0, 5], [-1.5, 0, 0, 5], [0, 0, 8, 5], [0, 0, 0, 1]])
    found = drawn_area(slices, affine)
    np.testing.assert_allclose(found, [[24.0, 0.0, 72.0], [96.0, 0.0, 0.0]])
    assert {type(area) for row in found for area in row} == {float}  # which the cache of volumes may read back


def test_annotators_count_together_and_masks_as_one() -> None:
    two = torch.tensor([[[[0, 1]], [[1, 1]]]])
    assert drawn_area(two, np.eye(4)) == [[1.0, 3.0]]
    assert drawn_area(torch.tensor([[True, False]]), np.eye(4)) == [[1.0, 1.0]]


def test_no_voxels() -> None:
    assert drawn_area(torch.zeros(2, 0, 3), np.eye(4)) == [[0.0], [0.0]]
    assert drawn_area(torch.zeros(0, 4, 3), np.eye(4)) == []
