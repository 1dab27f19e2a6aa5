"""Scores of a volume, their summary, and mutations of a right prediction that must all be punished."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from common.errors import UserError
from common.metrics.segmentation_scores import class_dice, pooled_slice_dice, score_volume, summarise

SPACING = (1.5, 1.25, 8.0)
NAMES = ["background", "RV", "MYO", "LV"]
NAN = float("nan")


def heart(shape=(64, 56, 8)) -> np.ndarray:
    """LV (3) within MYO (2), RV (1) beside them; the first and the last slice are empty."""
    x, y, _ = np.ogrid[: shape[0], : shape[1], : shape[2]]
    scale = shape[0] / 64
    radius = np.hypot(x - shape[0] // 2, y - shape[1] // 2) / scale
    aside = np.hypot(x - shape[0] // 2 + 20 * scale, y - shape[1] // 2) / scale
    volume = np.zeros(shape, dtype=np.uint8)
    volume[np.broadcast_to((aside < 9) & (radius >= 12), shape)] = 1
    volume[np.broadcast_to(radius < 12, shape)] = 2
    volume[np.broadcast_to(radius < 8, shape)] = 3
    volume[..., [0, -1]] = 0
    return volume


def score(prediction, reference, **options):
    return score_volume(prediction, reference, num_classes=4, spacing=SPACING, **options)


class TestByHand:
    def test_overlap_and_volume(self):
        prediction, reference = np.zeros((4, 6, 5), dtype=int), np.zeros((4, 6, 5), dtype=int)
        reference[0, 0, :4] = 1
        prediction[0, 0, 2:5] = 1
        (row,) = score_volume(prediction, reference, num_classes=2, spacing=(1, 2, 3))
        # 2 shared voxels of 3 and 4: Dice 4 / 7, IoU 2 / 5; a voxel holds 6 mm^3 = 0.006 ml.
        assert row["dice"] == pytest.approx(4 / 7)
        assert row["iou"] == pytest.approx(2 / 5)
        assert row["prediction_ml"] == pytest.approx(0.018)
        assert row["reference_ml"] == pytest.approx(0.024)
        # To the reference 0, 0, 3 mm; back 6, 3, 0, 0 mm. Sorted 0 0 0 0 3 3 6: position 0.95 * 6 = 5.7: 3 + 0.7 * 3;
        # directed means 1 and 2.25.
        assert row["hd95"] == row["hd95_penalised"] == pytest.approx(5.1)
        assert row["assd"] == row["assd_penalised"] == pytest.approx(1.625)
        assert row["outcome"] == "scored"

    def test_perfect(self):
        for row in score(heart(), heart()):
            assert (row["dice"], row["iou"], row["hd95"], row["assd"]) == (1, 1, 0, 0)

    def test_disjoint(self):
        prediction, reference = np.zeros((9, 9, 1), dtype=int), np.zeros((9, 9, 1), dtype=int)
        prediction[:2], reference[6:] = 1, 1
        (row,) = score_volume(prediction, reference, num_classes=2, spacing=(1, 1, 1))
        assert (row["dice"], row["iou"], row["outcome"]) == (0, 0, "scored")
        # Rows 0 and 1 lie 6 and 5 from row 6; rows 6, 7, 8 lie 5, 6, 7 from row 1 (one slice: every voxel is surface).
        assert row["assd"] == pytest.approx((5.5 + 6) / 2)

    @pytest.mark.parametrize("outcome", ["missed", "invented"])
    def test_misses_both_ways(self, outcome):
        full, empty = np.zeros((4, 6, 5), dtype=int), np.zeros((4, 6, 5), dtype=int)
        full[1:3, 1:3, 1:3] = 1
        pair = (empty, full) if outcome == "missed" else (full, empty)
        (row,) = score_volume(*pair, num_classes=2, spacing=(1, 2, 3))
        assert row["outcome"] == outcome
        assert row["dice"] == row["iou"] == 0
        assert math.isnan(row["hd95"])
        assert math.isnan(row["assd"])
        # The image measures 4 x 12 x 15 mm: sqrt(16 + 144 + 225) = sqrt(385)
        assert row["hd95_penalised"] == row["assd_penalised"] == pytest.approx(math.sqrt(385))
        # 8 voxels of 6 mm^3
        volumes = (0, 0.048) if outcome == "missed" else (0.048, 0)
        assert (row["prediction_ml"], row["reference_ml"]) == pytest.approx(volumes)

    def test_absent(self):
        (row,) = score_volume(np.zeros((4, 4, 2)), np.zeros((4, 4, 2)), num_classes=2, spacing=(1, 1, 1))
        assert row["outcome"] == "absent"
        assert all(
            math.isnan(row[name]) for name in ("dice", "iou", "hd95", "hd95_penalised", "assd", "assd_penalised")
        )

    def test_without_surface(self):
        row = score(heart(), heart(), surface=False)[0]
        assert set(row) == {"class_index", "outcome", "dice", "iou", "prediction_ml", "reference_ml"}

    def test_tensors_of_any_number_type(self):
        moved = np.roll(heart(), 2, axis=0)
        assert score(torch.as_tensor(moved).float(), torch.as_tensor(heart())) == score(moved, heart())


def lose_class(volume):
    return np.where(volume == 1, 0, volume)


def swap_classes(volume):
    return np.array([0, 2, 1, 3])[volume]


def drop_slice(volume):
    mutant = volume.copy()
    mutant[..., 3] = 0
    return mutant


def dilate_class(volume):
    grown = binary_dilation(volume == 1, np.ones((5, 5, 1)))
    return np.where(grown, 1, volume)


def add_speck(volume):
    mutant = volume.copy()
    mutant[:4, -4:, :] = 1
    return mutant


MUTATIONS = {
    "shifted by 1 row": lambda volume: np.roll(volume, 1, axis=0),
    "shifted by 3 columns": lambda volume: np.roll(volume, 3, axis=1),
    "shifted by a slice": lambda volume: np.roll(volume, 1, axis=2),
    "mirrored": lambda volume: volume[::-1],
    "empty": np.zeros_like,
    "one class lost": lose_class,
    "classes swapped": swap_classes,
    "slice dropped": drop_slice,
    "dilated": dilate_class,
    "eroded": lambda volume: np.where(binary_dilation(volume != 1, np.ones((3, 3, 1))) & (volume == 1), 0, volume),
    "far speck": add_speck,
}


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_mutations_are_punished(mutate):
    """Each mutation touches the RV: its Dice falls, its distances grow, and so do the other scores."""
    right, wrong = score(heart(), heart())[0], score(mutate(heart()), heart())[0]
    assert wrong["dice"] < right["dice"] - 0.01
    assert wrong["iou"] < right["iou"] - 0.01
    assert wrong["hd95_penalised"] > 1
    assert wrong["assd_penalised"] > 0.1
    assert pooled_slice_dice(mutate(heart()), heart(), 4) < pooled_slice_dice(heart(), heart(), 4) - 0.01
    assert class_dice(mutate(heart()), heart(), 4)[0] == pytest.approx(wrong["dice"])


def test_larger_errors_score_worse():
    shifts = [score(np.roll(heart(), step, axis=0), heart())[0] for step in range(5)]
    dice, distance = ([row[name] for row in shifts] for name in ("dice", "hd95"))
    assert dice == sorted(dice, reverse=True)
    # Each row is 1.5 mm: no surface voxel moves by more than the shift.
    assert distance == sorted(distance)
    assert all(value <= 1.5 * step + 1e-9 for step, value in enumerate(distance))
    assert distance[4] > 1.5


def test_wrong_spacing_changes_the_distance():
    moved = np.roll(heart(), 1, axis=2)
    right, wrong = (score_volume(moved, heart(), num_classes=4, spacing=s)[0] for s in (SPACING, (8.0, 1.5, 1.25)))
    assert right["hd95"] == pytest.approx(8)
    assert wrong["hd95"] < 8


class TestPooledSliceDice:
    prediction = np.zeros((2, 2, 3), dtype=int)
    reference = np.zeros((2, 2, 3), dtype=int)
    # Slice 0 is empty in both: 1. Slice 1 shares 1 voxel of 2 and 2: 2 / 4. Slice 2 has the wrong class: 0 / 4.
    prediction[0, :, 1], reference[:, 0, 1] = 1, 1
    prediction[0, :, 2], reference[0, :, 2] = 1, 2

    def test_by_hand(self):
        assert pooled_slice_dice(self.prediction, self.reference, 3) == pytest.approx((1 + 0.5 + 0) / 3)

    def test_one_slice(self):
        assert pooled_slice_dice(self.prediction[..., 1], self.reference[..., 1], 3) == pytest.approx(0.5)

    def test_foreground_channels_are_pooled(self):
        # Class 1 agrees on 3 voxels, class 2 on none of 1 and 1: pooled 6 / 8, not the mean of 1 and 0.
        prediction, reference = np.array([[[1], [1], [1], [2], [0]]]), np.array([[[1], [1], [1], [0], [2]]])
        assert pooled_slice_dice(prediction, reference, 3) == pytest.approx(6 / 8)

    def test_ignored_voxels_are_left_out(self):
        reference = self.reference.copy()
        reference[:, :, 0] = 3  # nothing annotated: the slice does not count
        reference[1, :, 1] = 3  # leaves row 0: prediction (1, 1), reference (1, 0): 2 / 3
        assert pooled_slice_dice(self.prediction, reference, 3, ignore_index=3) == pytest.approx((2 / 3 + 0) / 2)

    def test_everything_ignored(self):
        assert math.isnan(pooled_slice_dice(self.prediction, np.full((2, 2, 3), 3), 3, ignore_index=3))

    def test_agrees_with_one_hot_sums(self):
        rng = np.random.default_rng(0)
        prediction, reference = rng.integers(0, 4, (2, 7, 6, 5))
        p, y = (np.eye(4)[volume][..., 1:] for volume in (prediction, reference))
        sums = [((2 * (p * y)).sum((0, 1, 3)) + 1e-12) / (p.sum((0, 1, 3)) + y.sum((0, 1, 3)) + 1e-12)]
        assert pooled_slice_dice(prediction, reference, 4) == pytest.approx(np.mean(sums))

    def test_channel_axis(self):
        with pytest.raises(ValueError, match=r"\(1, 2, 2, 3\)"):
            pooled_slice_dice(self.prediction[None], self.reference[None], 3)


class TestClassDice:
    def test_ignored_voxels_are_left_out(self):
        prediction, reference = np.array([1, 1, 2, 2, 0]), np.array([1, 3, 2, 0, 3])
        # Left: (1, 1), (2, 2), (2, 0). Class 1: 1; class 2: 2 / 3.
        assert class_dice(prediction, reference, 3, ignore_index=3) == pytest.approx([1, 2 / 3])

    def test_absent_class(self):
        assert class_dice([0, 2], [0, 2], 3) == pytest.approx([NAN, 1], nan_ok=True)


class TestSummary:
    rows = tuple(
        dict(zip(("case", "phase", "class_index", "outcome", "dice", "hd95", "pooled_slice_dice"), values, strict=True))
        for values in (
            ("a", "ED", 1, "scored", 0.8, 2.0, 0.9),
            ("a", "ED", 2, "scored", 0.6, 4.0, 0.9),
            ("b", "ES", 1, "scored", 0.4, 6.0, 0.5),
            ("b", "ES", 2, "absent", NAN, NAN, 0.5),
            ("c", "ES", 1, "missed", 0.0, NAN, 0.4),
            ("c", "ES", 2, "invented", 0.0, NAN, 0.4),
        )
    )
    summary = summarise(rows, ["background", "RV", "MYO"])

    def test_per_class(self):
        # RV: 0.8, 0.4, 0: mean 0.4, variance (0.16 + 0 + 0.16) / 3; HD95 2 and 6.
        right_ventricle = self.summary["classes"]["RV"]
        assert right_ventricle["dice"] == pytest.approx(
            {"mean": 0.4, "std": math.sqrt(0.32 / 3), "median": 0.4, "n": 3}
        )
        assert right_ventricle["hd95"] == pytest.approx({"mean": 4, "std": 2, "median": 4, "n": 2})
        assert (right_ventricle["missed"], right_ventricle["invented"], right_ventricle["absent"]) == (1, 0, 0)
        # MYO: 0.6, left out, 0
        assert self.summary["classes"]["MYO"]["dice"] == pytest.approx({"mean": 0.3, "std": 0.3, "median": 0.3, "n": 2})

    def test_over_all(self):
        # Class-means of the volumes: 0.7, 0.4, 0. Mean 1.1 / 3; sum of squares 0.65, variance 0.65 / 3 - (1.1 / 3)^2.
        overall = self.summary["all"]
        spread = math.sqrt(0.65 / 3 - (1.1 / 3) ** 2)
        assert overall["dice"] == pytest.approx({"mean": 1.1 / 3, "std": spread, "median": 0.4, "n": 3})
        assert overall["hd95"] == pytest.approx({"mean": 4.5, "std": 1.5, "median": 4.5, "n": 2})  # 3 and 6
        assert overall["pooled_slice_dice"]["mean"] == pytest.approx(0.6)
        assert overall["pooled_slice_dice"]["n"] == self.summary["cases"] == 3
        assert (overall["missed"], overall["invented"], overall["absent"]) == (1, 1, 1)

    def test_per_phase(self):
        assert set(self.summary["phases"]) == {"ED", "ES"}
        early, late = self.summary["phases"]["ED"], self.summary["phases"]["ES"]
        assert (early["cases"], late["cases"]) == (1, 2)
        assert early["all"]["dice"]["mean"] == pytest.approx(0.7)
        assert late["classes"]["RV"]["dice"]["mean"] == pytest.approx(0.2)
        assert late["classes"]["MYO"]["hd95"]["n"] == 0
        assert math.isnan(late["classes"]["MYO"]["hd95"]["mean"])

    def test_unknown_phases(self):
        assert "phases" not in summarise([{**row, "phase": None} for row in self.rows], ["background", "RV", "MYO"])


class TestMistakes:
    def test_shapes(self):
        with pytest.raises(UserError, match="reference's grid"):
            score(heart()[:-1], heart())

    @pytest.mark.parametrize("value", [-1, 4])
    def test_no_class_number(self, value):
        wrong = heart().astype(int)
        wrong[0, 0, 0] = value
        with pytest.raises(UserError, match=f"the prediction holds the value {value}"):
            score(wrong, heart())
        with pytest.raises(UserError, match=f"the reference holds the value {value}"):
            score(heart(), wrong)

    def test_prediction_may_not_ignore(self):
        with pytest.raises(UserError, match="the prediction holds the value 3"):
            class_dice([0, 3], [0, 3], 3, ignore_index=3)

    @pytest.mark.parametrize("value", [0.5, float("nan")])
    def test_fractions(self, value):
        wrong = heart().astype(float)
        wrong[0, 0, 0] = value
        with pytest.raises(UserError, match="nearest neighbour"):
            score(wrong, heart())

    def test_spacing_even_where_nothing_is_measured(self):
        with pytest.raises(UserError, match="3 positive numbers"):
            score_volume(heart(), heart(), num_classes=4, spacing=(1, 0, 1), surface=False)


def test_speed():
    """One volume of ACDC's size, three classes, one core: under half a second."""
    reference = heart((256, 216, 10))
    prediction = np.roll(reference, 3, axis=1)
    seconds = []
    for _ in range(4):
        start = time.process_time()
        score(prediction, reference)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5


@pytest.mark.skipif("SCRIBBLE_DATA_ROOT" not in os.environ, reason="SCRIBBLE_DATA_ROOT is not set")
def test_acdc_references_against_shifted_copies():
    folder = Path(os.environ["SCRIBBLE_DATA_ROOT"], "acdc", "training")
    files = sorted(folder.glob("patient*/*_gt.nii.gz"))[:6]
    assert files
    for file in files:
        image = nibabel.load(file)
        reference = np.asarray(image.dataobj).astype(int)
        spacing = [float(size) for size in image.header.get_zooms()]
        perfect = score_volume(reference, reference, num_classes=4, spacing=spacing)
        shifted = score_volume(np.roll(reference, 2, axis=0), reference, num_classes=4, spacing=spacing)
        for right, wrong in zip(perfect, shifted, strict=True):
            assert (right["dice"], right["hd95"], right["assd"]) == (1, 0, 0)
            assert 0.1 < wrong["dice"] < 0.98
            assert wrong["iou"] == pytest.approx(wrong["dice"] / (2 - wrong["dice"]))
            # No voxel moves by more than the shift, and some surface does move by it.
            assert spacing[0] <= wrong["hd95"] <= 2 * spacing[0] + 1e-6
            assert 0 < wrong["assd"] < wrong["hd95"]
            assert wrong["prediction_ml"] == pytest.approx(wrong["reference_ml"])
            assert 5 < wrong["reference_ml"] < 600
