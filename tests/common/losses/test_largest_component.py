from __future__ import annotations

import pytest
import torch

from common.losses.largest_component import largest_components

# two blobs of class 1, of 3 and 2 pixels; class 2 touches the larger one by its corner alone, and the smaller one
TWO_BLOBS = [
    [1, 1, 0, 0, 0],
    [1, 0, 2, 0, 0],
    [0, 0, 0, 0, 0],
    [0, 0, 0, 2, 1],
    [0, 0, 2, 2, 1],
]


def kept(labels: list[list[int]], num_classes: int = 3, **options: bool) -> list[list[int]]:
    return largest_components(torch.tensor([labels]), num_classes, **options)[0].tolist()


def test_each_class_keeps_its_largest_blob() -> None:
    assert kept(TWO_BLOBS, of_union=False) == [
        [1, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 2, 0],
        [0, 0, 2, 2, 0],
    ]


def test_and_only_what_lies_in_the_largest_blob_of_all_classes() -> None:
    # together the blobs have 3, 1 and 5 pixels; class 1's largest blob is not in the third, and goes
    assert kept(TWO_BLOBS) == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 2, 0],
        [0, 0, 2, 2, 0],
    ]


def test_corners_do_not_connect() -> None:
    assert kept([[1, 0, 1], [0, 1, 1]]) == [[0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("of_union", [False, True])
def test_of_equal_blobs_the_first_stays(of_union: bool) -> None:
    assert kept([[0, 1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0]], of_union=of_union) == [[0, 0, 0, 1], [0, 0, 0, 1], [0] * 4]


@pytest.mark.parametrize("of_union", [False, True])
def test_background_alone_and_a_whole_class_stay(of_union: bool) -> None:
    assert kept([[0, 0], [0, 0]], of_union=of_union) == [[0, 0], [0, 0]]
    assert kept([[2, 2], [2, 2]], of_union=of_union) == [[2, 2], [2, 2]]


@pytest.mark.parametrize("of_union", [False, True])
def test_items_of_a_batch_do_not_touch(of_union: bool) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (6, 17, 23))
    together = largest_components(labels, 4, of_union=of_union)
    alone = [largest_components(item[None], 4, of_union=of_union) for item in labels]
    assert torch.equal(together, torch.cat(alone))
    assert together.dtype == labels.dtype
    assert (together == labels)[together > 0].all()
    for value in range(1, 4):
        assert (together == value).any()
