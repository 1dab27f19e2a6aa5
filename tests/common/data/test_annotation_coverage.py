"""How much of each class is annotated, and how much of that is right."""

from __future__ import annotations

import numpy as np
import pytest

from common.data.annotation_coverage import coverage_of, joint_counts

# two slices of 2 x 5 pixels with three classes, 3 being "not annotated"
MASK = np.array([[[0, 0, 0, 1, 1], [0, 0, 1, 1, 2]], [[0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]])
DRAWN = np.array([[[0, 3, 3, 1, 1], [3, 3, 3, 2, 2]], [[0, 0, 0, 3, 3], [3, 3, 3, 3, 3]]])


def test_counts_by_slice_class_and_drawn_value() -> None:
    counts = joint_counts(MASK.astype(np.uint8), DRAWN.astype(np.uint8), 3)
    assert counts.shape == (2, 3, 4)
    assert counts.tolist() == [
        [[1, 0, 0, 4], [0, 2, 1, 1], [0, 0, 1, 0]],  # one pixel of class 1 is drawn as 2
        [[3, 0, 0, 6], [0, 0, 0, 1], [0, 0, 0, 0]],
    ]


def test_coverage_by_hand() -> None:
    background, first, second = coverage_of(joint_counts(MASK, DRAWN, 3))
    # 1 of 10 pixels and 3 of 10: mean 20 %, deviation 10 %; of 5 + 9 pixels of background 4 are drawn
    assert background == pytest.approx(
        {
            "image_percent": 20.0,
            "image_percent_std": 10.0,
            "class_percent": 400 / 14,
            "right_percent": 100.0,
            "slices": 2,
            "annotated_slices": 2,
        }
    )
    # 2 of 10 and 0 of 10; of 4 + 1 pixels of the class 2 are drawn
    assert first == pytest.approx(
        {
            "image_percent": 10.0,
            "image_percent_std": 10.0,
            "class_percent": 40.0,
            "right_percent": 100.0,
            "slices": 2,
            "annotated_slices": 1,
        }
    )
    # 2 of 10 and 0 of 10, half of which are of class 1
    assert second == pytest.approx(
        {
            "image_percent": 10.0,
            "image_percent_std": 10.0,
            "class_percent": 100.0,
            "right_percent": 50.0,
            "slices": 1,
            "annotated_slices": 1,
        }
    )


def test_negative_drawings_count_what_is_not_the_class() -> None:
    rows = coverage_of(joint_counts(MASK, DRAWN, 3), negative=True)
    # "not class 2" is drawn on 2 pixels, one of which is of class 2; 9 + 10 pixels are of other classes
    assert rows[2]["image_percent"] == pytest.approx(10)
    assert rows[2]["class_percent"] == pytest.approx(100 / 19)
    assert rows[2]["right_percent"] == pytest.approx(50)
    # "not background" on 4 pixels of the background: none is right, of 5 + 1 pixels of other classes
    assert rows[0]["class_percent"] == 0
    assert rows[0]["right_percent"] == 0
    assert (rows[2]["slices"], rows[2]["annotated_slices"]) == (1, 1)


def test_what_cannot_be_said() -> None:
    mask = np.zeros((1, 2, 2), np.uint8)
    background, other = coverage_of(joint_counts(mask, mask + 2, 2))
    assert (background["class_percent"], background["right_percent"]) == (0, None)
    assert (other["class_percent"], other["right_percent"]) == (None, None)
    assert (other["slices"], other["annotated_slices"]) == (0, 0)
    # what is not background: there is no such pixel
    assert coverage_of(joint_counts(mask, mask + 2, 2), negative=True)[0]["class_percent"] is None


def test_volumes_of_other_slices_are_put_together() -> None:
    small = joint_counts(MASK[:1], DRAWN[:1], 3)
    large = joint_counts(np.zeros((1, 20, 10), np.uint8), np.full((1, 20, 10), 3, np.uint8), 3)
    rows = coverage_of(np.concatenate([small, large]))
    assert rows[0]["image_percent"] == pytest.approx(5)  # 10 % of one slice, 0 % of the other, whatever their size
    assert rows[0]["class_percent"] == pytest.approx(100 / 205)  # 1 of 5 + 200 pixels
