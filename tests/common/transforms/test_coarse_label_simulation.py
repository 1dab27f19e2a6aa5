from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from common.transforms.coarse_drawing import MorphoDrawing, SquareDrawing
from common.transforms.coarse_label_simulation import simulate_coarse_labels

RATIOS = (1.0, 0.8, 0.5, 0.3, 0.01)


class Exact:
    """An annotator without mistakes."""

    def positive(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return region

    def negative(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return ~region


def heart() -> np.ndarray:
    """A pool (3) in a ring (2) beside a crescent (1), on background."""
    rows, columns = np.indices((64, 72))
    radius = np.hypot(rows - 32, columns - 40)
    mask = np.zeros((64, 72), np.uint8)
    mask[np.hypot(rows - 32, columns - 24) < 14] = 1
    mask[radius < 18] = 2
    mask[radius < 11] = 3
    return mask


def digit() -> np.ndarray:
    mask = np.zeros((28, 28), np.uint8)
    mask[4:24, 12:16] = 1
    mask[4:8, 6:16] = 1
    return mask


def simulate(mask: np.ndarray, num_classes: int, seed: int = 0, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    return simulate_coarse_labels(mask, num_classes, np.random.default_rng(seed), **options)


def test_an_annotator_without_mistakes_of_two_classes() -> None:
    label, complement = simulate(digit(), 2, drawing=Exact())
    np.testing.assert_array_equal(label, np.where(digit() == 1, 1, 2))
    np.testing.assert_array_equal(complement, np.where(digit() == 0, 1, 2))  # "not the object" on background
    assert label.dtype == complement.dtype == np.uint8


def test_an_annotator_without_mistakes_of_several_classes() -> None:
    mask, targets = heart(), set()
    for seed in range(12):
        label, complement = simulate(mask, 4, seed, drawing=Exact())
        np.testing.assert_array_equal(label, np.where(mask == 0, 4, mask))
        (target,) = set(np.unique(complement)) - {4}
        np.testing.assert_array_equal(complement == target, mask != target)
        targets.add(int(target))
    assert targets == {1, 2, 3}


def test_others_may_be_left_unpainted() -> None:
    for seed in range(6):
        label, complement = simulate(heart(), 4, seed, drawing=Exact(), others="ignore")
        (target,) = set(np.unique(complement)) - {4}
        np.testing.assert_array_equal(label == target, heart() == target)
        assert set(np.unique(label)) == {target, 4}


def test_without_background_class_0_is_drawn_like_the_others() -> None:
    targets = set()
    for seed in range(20):
        label, complement = simulate(heart(), 4, seed, drawing=Exact(), background=False)
        np.testing.assert_array_equal(label, heart())
        targets |= {int(value) for value in np.unique(complement)} - {4}
    assert targets == {0, 1, 2, 3}


def test_swapped_classes() -> None:
    label, _ = simulate(heart(), 4, drawing=Exact(), swap=1.0)
    areas = {index: int((heart() == index).sum()) for index in (1, 2, 3)}
    found = {index: int((label == index).sum()) for index in (1, 2, 3)}
    assert sorted(found.values()) == sorted(areas.values())
    assert sum(found[index] != areas[index] for index in (1, 2, 3)) == 2
    swapped = [(simulate(heart(), 4, seed, drawing=Exact(), swap=0.3)[0] != label).any() for seed in range(50)]
    assert 0 < sum(swapped) < 50
    np.testing.assert_array_equal(simulate(digit(), 2, drawing=Exact(), swap=1.0)[0], np.where(digit(), 1, 2))


@pytest.mark.parametrize("drawing", [MorphoDrawing(), SquareDrawing(radius=2)])
@pytest.mark.parametrize("distance", ["geodesic", "euclidean"])
@pytest.mark.parametrize(("mask", "num_classes"), [(digit(), 2), (heart(), 4)])
def test_every_ratio_is_a_part_of_the_same_drawings_exact_to_a_pixel(drawing, distance, mask, num_classes) -> None:
    options = {"drawing": drawing, "distance": distance}
    whole = simulate(mask, num_classes, 3, **options)
    for ratio in RATIOS:
        for full, part in zip(whole, simulate(mask, num_classes, 3, ratio=ratio, **options), strict=True):
            painted = part != num_classes
            np.testing.assert_array_equal(part[painted], full[painted])
            for index in set(np.unique(full)) - {num_classes}:
                area = int((full == index).sum())
                assert (part == index).sum() == max(1, int(ratio * area + 0.5))


@pytest.mark.parametrize("drawing", [MorphoDrawing(), SquareDrawing()])
def test_drawings_are_noisy_and_no_value_is_invented(drawing) -> None:
    wrong, run_over = [], []
    for seed in range(8):
        label, complement = simulate(heart(), 4, seed, drawing=drawing)
        assert set(np.unique(label)) <= {1, 2, 3, 4}
        assert set(np.unique(complement)) < {1, 2, 3, 4}
        painted = label != 4
        wrong.append((label[painted] != heart()[painted]).mean())
        run_over.append((complement == heart()).any())  # "not k" painted on k
    assert 0 < np.mean(wrong) < 0.5
    assert 0 < sum(run_over) < 8


def test_unknown_pixels_stay_unpainted() -> None:
    mask = heart()
    mask[:, :30] = 4
    for seed in range(3):
        for drawn in simulate(mask, 4, seed):
            assert (drawn[:, :30] == 4).all()


def test_an_image_of_background_alone_gets_a_negative_drawing_alone() -> None:
    label, complement = simulate(np.zeros((20, 20), np.uint8), 2, drawing=MorphoDrawing(fractures=0))
    assert (label == 2).all()
    assert (complement == 1).all()


def test_the_generator_alone_decides() -> None:
    for first, again in zip(simulate(heart(), 4, 7), simulate(heart(), 4, 7), strict=True):
        assert first.tobytes() == again.tobytes()
    assert any((a != b).any() for a, b in zip(simulate(heart(), 4, 7), simulate(heart(), 4, 8), strict=True))


@pytest.mark.parametrize(
    ("mask", "options", "error", "message"),
    [
        (digit(), {"others": "some"}, UserError, "coarse_others must be 'coarse' or 'ignore', got 'some'"),
        (digit(), {"swap": 2.0}, UserError, r"coarse_swap must lie in 0 .. 1, got 2\.0"),
        (digit(), {"ratio": 0.0}, UserError, r"over 0 and at most 1, got 0\.0"),
        (digit()[None], {}, ValueError, r"\[H, W\], got shape \(1, 28, 28\)"),
        (digit() + 2, {}, ValueError, r"0\.\.2, got 2\.\.3"),
    ],
)
def test_wrong_input(mask: np.ndarray, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        simulate(mask, 2, **options)


def test_drawings_of_real_digits(data_root: Path) -> None:
    file = data_root / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    pixels = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    masks = (pixels[:30] > 127).astype(np.uint8)
    drawn = [simulate(mask, 2, seed) for seed, mask in enumerate(masks)]
    painted = np.stack([label == 1 for label, _ in drawn])
    marked = np.stack([complement == 1 for _, complement in drawn])
    truth = masks == 1
    # over-segmentation with gaps: too large, a part of it wrong, a part of the digits missed
    assert 1.1 < painted.sum() / truth.sum() < 1.7
    assert 0.15 < (painted & ~truth).sum() / painted.sum() < 0.5
    assert 0.03 < (truth & ~painted).sum() / truth.sum() < 0.2
    # the negative drawing runs over digits and leaves background out
    assert 0.03 < (marked & truth).sum() / truth.sum() < 0.3
    assert 0.02 < (~marked & ~truth).sum() / (~truth).sum() < 0.2
