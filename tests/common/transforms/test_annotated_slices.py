"""Which slices an annotator with little time draws on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from common.transforms.annotated_slices import choose_annotated_slices


def stack(with_classes: int, without: int) -> np.ndarray:
    """Slices with a class in the middle, between slices without."""
    mask = np.zeros((with_classes + without, 3, 4), np.uint8)
    mask[without // 2 : without // 2 + with_classes, 1, 1] = 2
    return mask


def choose(mask: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    return choose_annotated_slices(mask, share, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("with_classes", "without", "share", "chosen"),
    [
        (6, 4, 1.0, 10),
        (6, 4, 0.5, 5),
        (6, 4, 0.25, 3),  # 2.5, halves up
        (6, 4, 0.24, 2),  # 2.4
        (6, 4, 0.01, 1),  # at least one
        (0, 7, 0.5, 4),  # 3.5, halves up
        (7, 0, 0.3, 2),  # 2.1
        (1, 0, 0.1, 1),
    ],
)
def test_the_share_is_exact(with_classes: int, without: int, share: float, chosen: int) -> None:
    for seed in range(5):
        assert choose(stack(with_classes, without), share, seed).sum() == chosen


def test_both_kinds_of_slices_get_the_share() -> None:
    # places of 6 slices with classes: 0, 1/6 ... 5/6; of 4 without: 1/8, 3/8, 5/8, 7/8. The first 5 are 0, 1/8, 1/6,
    # 1/3, 3/8: three with classes, two without
    mask = stack(6, 4)
    holds = mask.any(axis=(1, 2))
    for seed in range(5):
        chosen = choose(mask, 0.5, seed)
        assert (chosen & holds).sum() == 3
        assert (chosen & ~holds).sum() == 2
    for with_classes in range(1, 9):
        mask = stack(with_classes, 9 - with_classes)
        for total in range(1, 10):
            found = (choose(mask, total / 9) & mask.any(axis=(1, 2))).sum()
            assert abs(found - total * with_classes / 9) < 1
            assert found >= 1


def test_a_smaller_share_is_a_part_of_a_larger_one() -> None:
    for with_classes in range(7):
        mask = stack(with_classes, 7 - with_classes)
        before = np.zeros(7, bool)
        for share in np.linspace(0.05, 1, 20):
            chosen = choose(mask, float(share), seed=3)
            assert (chosen | ~before).all()
            before = chosen
        assert before.all()


def test_the_source_decides() -> None:
    mask = stack(10, 10)
    assert np.array_equal(choose(mask, 0.5, 1), choose(mask, 0.5, 1))
    assert len({choose(mask, 0.5, seed).tobytes() for seed in range(8)}) > 4


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), True, "0.5", None])
def test_shares_out_of_range(share: Any) -> None:
    with pytest.raises(UserError, match=f"^slice_share is {re.escape(repr(share))}; give a number over 0 and up to 1$"):
        choose_annotated_slices(stack(2, 2), share, np.random.default_rng(0))
