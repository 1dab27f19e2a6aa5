"""The rows of one volume: hand-worked scores in mm, names and order, and voxels that are not annotated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.metrics.case_scores import count_slices, score_case

NAMES = ["background", "RV", "LV"]
SPACING = (2.0, 1.5, 5.0)
COLUMNS = [
    "class_name",
    "class_index",
    "outcome",
    "dice",
    "iou",
    "hd95",
    "hd95_penalised",
    "assd",
    "assd_penalised",
    "prediction_ml",
    "reference_ml",
    "pooled_slice_dice",
]


def bars() -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a reference ``[10, 4, 2]``: RV a bar of one voxel's width, moved by a voxel; LV invented."""
    prediction, reference = np.zeros((10, 4, 2), np.uint8), np.zeros((10, 4, 2), np.uint8)
    reference[1:5, 0, 0] = 1
    prediction[2:6, 0, 0] = 1
    prediction[9, 3, 1] = 2
    return prediction, reference


def test_by_hand():
    right, left = score_case(*bars(), class_names=NAMES, spacing=SPACING)
    assert list(right) == list(left) == COLUMNS
    assert (right["class_name"], right["class_index"], right["outcome"]) == ("RV", 1, "scored")
    # 3 of 4 and 4 voxels are shared, 5 in all
    assert right["dice"] == pytest.approx(6 / 8)
    assert right["iou"] == pytest.approx(3 / 5)
    # Each way three voxels meet and one is 2 mm off: sorted 0 0 0 0 0 0 2 2; position 0.95 * 7 = 6.65 lies between two
    # 2 mm; both directed means are 0.5 mm.
    assert right["hd95"] == right["hd95_penalised"] == pytest.approx(2)
    assert right["assd"] == right["assd_penalised"] == pytest.approx(0.5)
    # a voxel holds 2 * 1.5 * 5 mm^3 = 0.015 ml
    assert (right["prediction_ml"], right["reference_ml"]) == pytest.approx((0.06, 0.06))
    assert (left["class_name"], left["class_index"], left["outcome"]) == ("LV", 2, "invented")
    assert (left["dice"], left["iou"]) == (0, 0)
    assert math.isnan(left["hd95"])
    assert math.isnan(left["assd"])
    # the image measures 20 x 6 x 10 mm: sqrt(400 + 36 + 100)
    assert left["hd95_penalised"] == left["assd_penalised"] == pytest.approx(math.sqrt(536))
    assert (left["prediction_ml"], left["reference_ml"]) == pytest.approx((0.015, 0))
    # the first slice 6 / 8, the second, where LV is invented, 0
    assert right["pooled_slice_dice"] == left["pooled_slice_dice"] == pytest.approx(0.375)


def test_spacing_is_that_of_the_axes():
    """The bar lies along the first axis: its error grows with that axis' spacing alone."""
    (row, _) = score_case(*bars(), class_names=NAMES, spacing=(7.0, 1.5, 5.0))
    assert (row["hd95"], row["assd"]) == pytest.approx((7, 1.75))
    (row, _) = score_case(*bars(), class_names=NAMES, spacing=(2.0, 9.0, 50.0))
    assert (row["hd95"], row["assd"]) == pytest.approx((2, 0.5))


def test_one_slice():
    prediction, reference = (volume[..., 0] for volume in bars())
    right, left = score_case(torch.as_tensor(prediction), reference, class_names=NAMES, spacing=SPACING[:2])
    assert (right["dice"], right["hd95"], right["pooled_slice_dice"]) == pytest.approx((0.75, 2, 0.75))
    assert right["reference_ml"] == pytest.approx(4 * 3 / 1000)  # 1 mm thick
    assert left["outcome"] == "absent"


def test_without_surface():
    rows = score_case(*bars(), class_names=NAMES, spacing=SPACING, surface=False)
    assert [list(row) for row in rows] == 2 * [[name for name in COLUMNS if name.partition("_")[0] not in distances()]]
    assert rows[0]["dice"] == pytest.approx(0.75)


def distances() -> tuple[str, ...]:
    return ("hd95", "assd")


@pytest.mark.parametrize("ignored", [3, 255, -1])
def test_voxels_that_are_not_annotated(ignored):
    prediction, reference = (volume.astype(np.int16) for volume in bars())
    reference[5, 0, 0] = ignored  # where the prediction's bar is a voxel too long
    reference[..., 1] = ignored  # the slice of the invented LV
    before = reference.copy()
    right, left = score_case(prediction, reference, class_names=NAMES, spacing=SPACING, ignore_index=ignored)
    # 3 voxels in 3 and 4: Dice 6 / 7; to the reference 0 0 0, back 2 0 0 0: assd (0 + 0.5) / 2
    assert (right["dice"], right["iou"], right["assd"]) == pytest.approx((6 / 7, 3 / 4, 0.25))
    # sorted 0 0 0 0 0 0 2: position 0.95 * 6 = 5.7 has 0.7 of the way to 2 mm
    assert right["hd95"] == pytest.approx(1.4)
    assert left["outcome"] == "absent"
    assert right["pooled_slice_dice"] == pytest.approx(6 / 7)  # of the one slice that is annotated
    assert np.array_equal(reference, before)
    assert count_slices(reference, SPACING, ignored) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p, r: (p[:-1], r), r"the prediction has the shape \(9, 4, 2\) and the reference \(10, 4, 2\)"),
        (lambda p, r: (np.where(p == 2, 3, p), r), "the prediction holds the value 3, which is none of the 3 classes"),
        (lambda p, r: (p, np.where(r == 1, 7, r)), "the reference holds the value 7, which is none of the 3 classes"),
        (lambda p, r: (p * 0.5, r), "the prediction holds fractions"),
        (lambda p, r: (np.where(p == 2, np.nan, p), r), "the prediction holds fractions"),
        (lambda p, r: (np.where(p == 2, np.inf, p), r), "the prediction holds fractions"),
    ],
)
def test_mistakes(change, told):
    with pytest.raises(UserError, match=told):
        score_case(*change(*bars()), class_names=NAMES, spacing=SPACING)


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (float("nan"), 1.0, 1.0), (1.0, 1.0)])
def test_faulty_spacing(spacing):
    with pytest.raises(UserError, match="3 positive numbers in mm"):
        score_case(*bars(), class_names=NAMES, spacing=spacing)


def test_slices_are_those_across_the_wide_axis_wherever_it_is_stored():
    generator = np.random.default_rng(0)
    prediction, reference = (generator.integers(0, 3, (6, 5, 4)) for _ in range(2))
    rows = score_case(prediction, reference, class_names=NAMES, spacing=(1.2, 1.2, 8.0))
    for axes in [(2, 0, 1), (0, 2, 1)]:
        spacing = np.array([1.2, 1.2, 8.0])[list(axes)].tolist()
        moved = (volume.transpose(axes) for volume in (prediction, reference))
        again = score_case(*moved, class_names=NAMES, spacing=spacing)
        assert [row["pooled_slice_dice"] for row in again] == pytest.approx([row["pooled_slice_dice"] for row in rows])
        assert count_slices(reference.transpose(axes), spacing) == 4
