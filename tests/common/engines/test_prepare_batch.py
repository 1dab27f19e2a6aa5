from __future__ import annotations

from typing import Any

import pytest
import torch

from common.engines.prepare_batch import AugmentingPrepareBatch
from common.transforms.batch_augmentation import BatchAugmentation
from common.transforms.flip_rotate_augmentation import FlipRotateAugmentation

AUGMENTATIONS = pytest.mark.parametrize(
    "augmentation",
    [
        BatchAugmentation(ignore_index=5, rotation=60, translation=0.2, scale=0.2, flip=True),
        FlipRotateAugmentation(ignore_index=5, rotation=60),
    ],
)


def batch(**parts: torch.Tensor) -> dict[str, Any]:
    """A batch with names, as the loader gives it."""
    return {"image": torch.rand(24, 1, 20, 20), "case": ["a"] * 24, **parts}


def labels(channels: int = 1) -> torch.Tensor:
    return torch.randint(0, 5, (24, channels, 20, 20), dtype=torch.uint8)


@AUGMENTATIONS
@pytest.mark.parametrize("channels", [1, 2])
def test_label_and_complement_move_by_the_same_draw(augmentation: Any, channels: int) -> None:
    torch.manual_seed(0)
    drawn = labels(channels)
    _, target = AugmentingPrepareBatch(augmentation)(batch(label=drawn, complement=drawn[:, -1:]))
    assert set(target) == {"label", "complement"}
    assert target["label"].shape == drawn.shape
    assert target["label"].dtype == target["complement"].dtype == torch.uint8
    assert torch.equal(target["label"][:, -1:], target["complement"])
    assert (target["complement"] != drawn[:, -1:]).any()
    assert (target["complement"] == 5).any()  # what a rotation brings in is not annotated


@AUGMENTATIONS
def test_the_complement_changes_no_draw(augmentation: Any) -> None:
    given, complement = batch(label=labels()), labels()
    torch.manual_seed(1)
    image, label = AugmentingPrepareBatch(augmentation)(given)
    torch.manual_seed(1)
    again, target = AugmentingPrepareBatch(augmentation)({**given, "complement": complement})
    assert torch.equal(image, again)
    assert torch.equal(label, target["label"])


@AUGMENTATIONS
def test_a_complement_without_label(augmentation: Any) -> None:
    _, target = AugmentingPrepareBatch(augmentation)(batch(complement=labels()))
    assert target["label"] is None
    assert target["complement"].shape == (24, 1, 20, 20)


def test_without_augmentation_and_with_the_image_in_the_target() -> None:
    given = batch(label=labels(), complement=labels())
    image, target = AugmentingPrepareBatch(image_in_target=True)(given)
    assert set(target) == {"label", "complement", "image"}
    assert target["image"] is image
    assert torch.equal(target["complement"], given["complement"])
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_batches_without_complement_are_as_before() -> None:
    given = batch(label=labels())
    image, label = AugmentingPrepareBatch()(given)
    assert torch.equal(image, given["image"])
    assert torch.equal(label, given["label"])
    assert AugmentingPrepareBatch()({"image": given["image"]})[1] is None
    _, target = AugmentingPrepareBatch(image_in_target=True)({**given, "dense_label": labels()})
    assert set(target) == {"label", "image", "dense"}
