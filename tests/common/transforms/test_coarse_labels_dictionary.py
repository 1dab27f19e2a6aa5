from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.errors import UserError
from common.transforms.coarse_drawing import SquareDrawing
from common.transforms.coarse_label_simulation import simulate_coarse_labels
from common.transforms.coarse_labels_dictionary import FillUnpaintedd, SimulateCoarseLabelsd


def volume(slices: int = 3) -> torch.Tensor:
    """A mask [1, 24, 20, D] of two classes and background."""
    mask = torch.zeros(1, 24, 20, slices)
    mask[:, 5:15, 4:9] = 1
    mask[:, 10:20, 10:17] = 2
    return mask


def item(**extra: Any) -> dict[str, Any]:
    return {"label": MetaTensor(volume(), affine=torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0]))), "case": "a", **extra}


def test_slices_are_drawn_one_by_one_from_seed_name_and_number() -> None:
    simulate = SimulateCoarseLabelsd("label", 3, drawing=SquareDrawing(), seed=5)
    drawn = simulate(item())
    assert set(drawn) == {"label", "complement", "case"}
    for key in ("label", "complement"):
        assert drawn[key].shape == (1, 24, 20, 3)
        assert drawn[key].dtype == torch.float32
        assert isinstance(drawn[key], MetaTensor)
        torch.testing.assert_close(drawn[key].affine, item()["label"].affine)
        assert set(drawn[key].unique().tolist()) <= {1, 2, 3}
    again = SimulateCoarseLabelsd("label", 3, drawing=SquareDrawing(), seed=5)(item())
    others = [
        SimulateCoarseLabelsd("label", 3, drawing=SquareDrawing(), seed=6)(item()),
        simulate(item(case="b")),
    ]
    for key in ("label", "complement"):
        assert torch.equal(drawn[key], again[key])
    for other in others:
        assert any((drawn[key] != other[key]).any() for key in ("label", "complement"))
    assert any((drawn[key][..., 0] != drawn[key][..., 1]).any() for key in ("label", "complement"))


def test_options_reach_the_simulation() -> None:
    options = {"ratio": 0.5, "distance": "euclidean", "others": "ignore", "background": False, "swap": 0.5}
    drawn = SimulateCoarseLabelsd("label", 3, drawing=SquareDrawing(), **options)(item(case=""))
    expected = simulate_coarse_labels(
        volume()[0, ..., 1].numpy().astype(int), 3, np.random.default_rng([0, 0, 1]), drawing=SquareDrawing(), **options
    )
    for key, wanted in zip(("label", "complement"), expected, strict=True):
        np.testing.assert_array_equal(drawn[key][0, ..., 1], wanted)


def test_an_item_without_name_is_named_by_its_file() -> None:
    simulate = SimulateCoarseLabelsd("label", 3, drawing=SquareDrawing())
    drawings = [
        simulate({"label": MetaTensor(volume(), meta={"filename_or_obj": name})})["label"] for name in ("x", "y", "x")
    ]
    assert torch.equal(drawings[0], drawings[2])
    assert not torch.equal(drawings[0], drawings[1])


def test_a_plane_alone_and_numpy() -> None:
    simulate = SimulateCoarseLabelsd("label", 3, drawing=SquareDrawing())
    plane = volume()[..., 0].numpy().astype(np.uint8)
    drawn = simulate({"label": plane, "case": "a"})
    assert isinstance(drawn["complement"], np.ndarray)
    assert drawn["label"].dtype == np.uint8
    np.testing.assert_array_equal(drawn["label"], simulate(item())["label"][..., 0].numpy())


def test_dense_supervision_and_missing_masks_pass() -> None:
    simulate = SimulateCoarseLabelsd("label", 3, allow_missing_keys=True)
    dense = simulate(item(supervision="dense"))
    assert torch.equal(dense["label"], volume())
    assert "complement" not in dense
    assert simulate({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        SimulateCoarseLabelsd("label", 3)({"image": 1})
    with pytest.raises(UserError, match="others must be"):
        SimulateCoarseLabelsd("label", 3, others="all")(item())


def test_unpainted_pixels_of_two_classes_are_background_and_not_background() -> None:
    label = MetaTensor(torch.tensor([[[1.0, 2.0], [2.0, 0.0]]]), affine=torch.eye(4))
    filled = FillUnpaintedd(("label", "complement"), 2)({"label": label, "complement": label.clone()})
    for key in ("label", "complement"):
        assert filled[key].tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
        assert isinstance(filled[key], MetaTensor)
    assert label.tolist() == [[[1.0, 2.0], [2.0, 0.0]]]


def test_of_more_classes_the_negative_drawing_stays() -> None:
    drawn = torch.tensor([[[1, 3], [2, 0]]], dtype=torch.uint8)
    filled = FillUnpaintedd(("label", "complement"), 3)({"label": drawn, "complement": drawn})
    assert filled["label"].tolist() == [[[1, 0], [2, 0]]]
    assert filled["label"].dtype == torch.uint8
    assert filled["complement"].tolist() == drawn.tolist()


def test_a_missing_drawing_stays_missing() -> None:
    drawn = np.full((1, 2, 2), 2, np.uint8)
    filled = FillUnpaintedd(("label", "complement"), 2, allow_missing_keys=True)({"label": drawn})
    assert set(filled) == {"label"}
    assert not filled["label"].any()  # an empty drawing says that all is background
