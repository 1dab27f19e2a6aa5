"""Slices with positive and negative drawings: image, label and complement."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from common.data.slice_dataset import SliceDataset
from common.errors import UserError

KEYS = ("image", "label", "complement")


def volume(item: dict[str, Any]) -> dict[str, Any]:
    """Three slices; the label is drawn on the first, the complement on the last. "lacks" names what there is not."""
    label, complement = torch.full((1, 6, 5, 3), 2.0), torch.full((1, 6, 5, 3), 2.0)
    label[0, 1, 1, 0] = 1
    complement[0, 2, 2, 2] = 0
    prepared = {"image": torch.rand(1, 6, 5, 3), "label": label, "complement": complement}
    for key in item.get("lacks", ()):
        del prepared[key]
    return prepared


def items(*lacks: tuple[str, ...], **extra: Any) -> list[dict[str, Any]]:
    return [{"case": f"case{n}", "lacks": missing, **extra} for n, missing in enumerate(lacks)]


def test_complement_is_served_as_labels_are() -> None:
    dataset = SliceDataset(items(()), volume, keys=KEYS)
    batch = dataset.__getitems__([2, 0])
    assert {key: (tuple(batch[key].shape), batch[key].dtype) for key in KEYS} == {
        "image": ((2, 1, 6, 5), torch.float32),
        "label": ((2, 1, 6, 5), torch.uint8),
        "complement": ((2, 1, 6, 5), torch.uint8),
    }
    assert batch["complement"][0, 0, 2, 2] == 0
    assert batch["label"][1, 0, 1, 1] == 1


def test_slices_with_either_drawing_are_kept() -> None:
    dataset = SliceDataset(items(()), volume, keys=KEYS, ignore_index=2)
    assert dataset.cases == ["case0, slice 0", "case0, slice 2"]


def test_either_drawing_may_be_missing_and_then_is_not_annotated() -> None:
    dataset = SliceDataset(items(("complement",), ("label",), ()), volume, keys=KEYS, ignore_index=2)
    assert dataset.cases == ["case0, slice 0", "case1, slice 2", "case2, slice 0", "case2, slice 2"]
    assert (dataset.slices["complement"][0] == 2).all()
    assert (dataset.slices["label"][1] == 2).all()
    assert dataset.slices["complement"].dtype == dataset.slices["label"].dtype == torch.uint8


def test_dense_masks_beside_coarse_drawings_have_a_channel_of_their_own() -> None:
    coarse, dense = items((), ("complement",))
    dense["supervision"] = "dense"
    dataset = SliceDataset([coarse, dense], volume, keys=KEYS, ignore_index=2)
    assert dataset.slices["label"].shape == (3, 2, 6, 5)
    assert dataset.slices["complement"].shape == (3, 1, 6, 5)
    assert (dataset.slices["label"][:2, 1] == 2).all()
    assert (dataset.slices["label"][2, 0] == 2).all()
    assert dataset.slices["label"][2, 1, 1, 1] == 1


def test_what_cannot_be_filled_is_an_error() -> None:
    with pytest.raises(UserError, match='case0: has no "image"'):
        SliceDataset(items(("image",)), volume, keys=KEYS, ignore_index=2)
    with pytest.raises(UserError, match='case0: has no "complement"'):
        SliceDataset(items(("complement",)), volume, keys=KEYS)
    with pytest.raises(UserError, match='case0: has no "label"'):
        SliceDataset(items(("label",)), volume, ignore_index=2)
