"""The published codes' rules for classes that a map lacks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.errors import UserError
from common.metrics.case_scores import count_slices, score_case
from common.metrics.published_rules import RULES, apply_rule, patient_dice
from common.metrics.segmentation_scores import summarise

NAMES = ["background", "scored", "missed", "invented", "absent"]


def rows() -> list[dict]:
    """A class for each outcome."""
    reference, prediction = np.zeros((9, 8, 2), dtype=np.uint8), np.zeros((9, 8, 2), dtype=np.uint8)
    reference[1:3], prediction[2:4] = 1, 1
    reference[5], prediction[7] = 2, 3
    found = score_case(prediction, reference, class_names=NAMES, spacing=(1, 1, 1))
    assert [row["outcome"] for row in found] == NAMES[1:]
    return [{"case": "a", **row} for row in found]


def values(rule: str | None, score: str) -> list[float]:
    return [row[score] for row in apply_rule(rows(), rule)]


NAN = float("nan")


@pytest.mark.parametrize(
    ("rule", "dice", "hd95", "mean_dice"),
    [
        # two rows of which one is shared: Dice 0.5; both miss a row by 1 mm
        (None, [0.5, 0, 0, NAN], [1, NAN, NAN, NAN], 0.5 / 3),
        ("maag", [0.5, 0, 0, NAN], [1, NAN, NAN, NAN], 0.5 / 3),
        ("cyclemix", [0.5, 0, 0, 1], [1, NAN, NAN, NAN], 1.5 / 4),
        ("attenscribble", [0.5, 0, 0, 0], [1, 0, 0, 0], 0.5 / 4),
    ],
)
def test_rules(rule, dice, hd95, mean_dice):
    assert values(rule, "dice") == pytest.approx(dice, nan_ok=True)
    assert values(rule, "hd95") == pytest.approx(hd95, nan_ok=True)
    assert values(rule, "iou") == pytest.approx([1 / 3, 0, 0, NAN], nan_ok=True)
    assert summarise(apply_rule(rows(), rule), NAMES)["all"]["dice"]["mean"] == pytest.approx(mean_dice)


def test_penalised_distances_and_the_rows_themselves_stay():
    before = rows()
    for rule in RULES:
        after = apply_rule(before, rule)
        for one, other in zip(before, after, strict=True):
            assert one["hd95_penalised"] == pytest.approx(other["hd95_penalised"], nan_ok=True)
    assert math.isnan(before[3]["dice"])


def test_without_distances():
    bare = [{"case": "a", "class_index": 1, "outcome": "missed", "dice": 0.0}]
    assert apply_rule(bare, "attenscribble") == bare


def test_unknown_rule():
    with pytest.raises(UserError, match="the known ones are maag, cyclemix, attenscribble"):
        apply_rule(rows(), "unet")


def test_patients_count_alike_whatever_their_number_of_slices():
    volumes = [("a", "p", 0.5), ("b", "p", 1.0), ("c", "q", 0.25), ("d", None, 0.75)]
    each = [{"case": case, "patient": patient, "pooled_slice_dice": dice} for case, patient, dice in volumes] * 2
    # p: 2 slices of 0.5 and 6 of 1.0: 7 / 8
    found = patient_dice(each, {"a": 2, "b": 6, "c": 9, "d": 1})
    assert found == pytest.approx({"p": 0.875, "q": 0.25, "d": 0.75})


def test_a_patient_without_scored_slices():
    each = [{"case": "a", "patient": "p", "pooled_slice_dice": NAN}]
    assert math.isnan(patient_dice(each, {"a": 0})["p"])


def test_slices():
    volume, spacing = np.zeros((3, 4, 5)), (1.0, 1.0, 5.0)
    assert (count_slices(volume, spacing), count_slices(volume[..., 0], spacing[:2])) == (5, 1)
    volume[..., 1:3] = 7
    volume[0, 0, 2] = 0
    assert count_slices(volume, spacing, 7) == 4
    assert count_slices(volume[..., 1], spacing[:2], 7) == 0


def test_ignored_voxels_count_as_background_and_empty_slices_not_at_all():
    reference, prediction = np.zeros((4, 4, 2), dtype=np.uint8), np.ones((4, 4, 2), dtype=np.uint8)
    reference[:2, :, 0], reference[2:, :, 0], reference[..., 1] = 1, 9, 9
    (row,) = score_case(prediction, reference, class_names=NAMES[:2], spacing=(1, 1, 1), ignore_index=9)
    # what is annotated is right; the second slice has nothing annotated
    assert (row["dice"], row["hd95"], row["pooled_slice_dice"]) == (1, 0, 1)
    prediction[0, :, 0] = 0
    (row,) = score_case(prediction, reference, class_names=NAMES[:2], spacing=(1, 1, 1), ignore_index=9)
    # 4 of 8 voxels: Dice 2 * 4 / 12
    assert (row["dice"], row["pooled_slice_dice"]) == pytest.approx((2 / 3, 2 / 3))
