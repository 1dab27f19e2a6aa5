"""Largest pieces by hand-made maps; with a bundle's configurations they are tested beside the bundles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms.largest_pieces import KeepLargestPieces, KeepLargestPiecesd

MAP = [
    [1, 1, 0, 0, 0, 2, 2, 2],
    [1, 2, 0, 0, 0, 2, 2, 2],
    [0, 0, 2, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 1],
]
"""A body of 1 and 2, whose last pixel hangs on by a corner, a larger one of 2 alone, and a pixel of 1."""
EXPECTED = {
    (None, None): MAP,
    (1, None): [[0, 0, 0, 0, 0, 2, 2, 2], [0, 0, 0, 0, 0, 2, 2, 2], [0] * 8, [0] * 8],
    (2, None): [MAP[0], MAP[1], MAP[2], [0] * 8],
    (None, 1): [[1, 1, 0, 0, 0, 2, 2, 2], [1, 0, 0, 0, 0, 2, 2, 2], [0] * 8, [0] * 8],
    (2, 1): [[1, 1, 0, 0, 0, 2, 2, 2], [1, 0, 0, 0, 0, 2, 2, 2], [0] * 8, [0] * 8],
    (1, 2): [[0, 0, 0, 0, 0, 2, 2, 2], [0, 0, 0, 0, 0, 2, 2, 2], [0] * 8, [0] * 8],
    (None, 2): MAP,
    (3, 9): MAP,
}


@pytest.mark.parametrize(("numbers", "expected"), EXPECTED.items(), ids=str)
def test_a_map_by_hand(numbers: tuple[int | None, int | None], expected: list[list[int]]) -> None:
    bodies, components = numbers
    keep = KeepLargestPieces(3, bodies=bodies, components=components)
    given = torch.tensor([MAP])
    assert keep(given)[0].tolist() == expected
    assert given[0].tolist() == MAP


def test_slices_are_connected_to_their_neighbours_and_classes_above_the_last_stay() -> None:
    labels = np.zeros((1, 4, 4, 5), np.uint8)
    labels[0, 0, 0, 0] = labels[0, 1, 1, 1] = labels[0, 2, 2, 2] = 1
    labels[0, 3, 3, 4] = 1
    labels[0, 0, 3, 4] = 2
    kept = KeepLargestPieces(2, components=1)(labels)
    assert isinstance(kept, np.ndarray)
    assert kept.dtype == np.uint8
    assert [int(kept[0, ..., z].sum()) for z in range(5)] == [1, 1, 1, 0, 2]
    assert kept[0, 0, 3, 4] == 2  # no class of the network: left for the scoring to refuse


def test_an_empty_map_and_one_of_a_single_slice() -> None:
    keep = KeepLargestPieces(4, bodies=1, components=1)
    assert not keep(torch.zeros(1, 5, 6, 1)).any()
    assert keep(torch.tensor([MAP])[..., None])[0, ..., 0].sum() == 12


def test_probabilities_pass() -> None:
    probabilities = torch.rand(3, 5, 6, 2).softmax(0)
    assert KeepLargestPieces(3, bodies=1, components=1)(probabilities) is probabilities


def test_items_keep_their_metadata() -> None:
    affine = torch.diag(torch.tensor([2.0, 2.0, 8.0, 1.0]))
    item = {"pred": MetaTensor(torch.tensor([MAP])[..., None].float(), affine=affine), "case": "p1"}
    kept = KeepLargestPiecesd("pred", 3, bodies=1)(item)
    assert isinstance(kept["pred"], MetaTensor)
    assert torch.equal(kept["pred"].affine, affine.double())
    assert kept["pred"].dtype == torch.float32
    assert kept["pred"].sum() == 12
    assert item["pred"].sum() == sum(map(sum, MAP))
    assert KeepLargestPiecesd("pred", 3, bodies=1, allow_missing_keys=True)({"case": "p1"}) == {"case": "p1"}
    with pytest.raises(KeyError):
        KeepLargestPiecesd("pred", 3, bodies=1)({"case": "p1"})
