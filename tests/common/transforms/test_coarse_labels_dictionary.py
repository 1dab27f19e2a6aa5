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
    mask = MetaTensor(volume(), affine=torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0])))
    return {"label": mask, "case": "a", "supervision": "simulated", **extra}


def test_slices_are_drawn_one_by_one_from_seed_name_and_number() -> None:
    simulate = SimulateCoarseLabelsd("label", 3, drawing=SquareDrawing(), seed=5)
    drawn = simulate(item())
    assert set(drawn) == {"label", "complement", "case", "supervision"}
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
    masks = [MetaTensor(volume(), meta={"filename_or_obj": name}) for name in ("x", "y", "x")]
    drawings = [simulate({"label": mask, "supervision": "simulated"})["label"] for mask in masks]
    assert torch.equal(drawings[0], drawings[2])
    assert not torch.equal(drawings[0], drawings[1])


def test_a_plane_alone_and_numpy() -> None:
    simulate = SimulateCoarseLabelsd("label", 3, drawing=SquareDrawing())
    plane = volume()[..., 0].numpy().astype(np.uint8)
    drawn = simulate(item(label=plane))
    assert isinstance(drawn["complement"], np.ndarray)
    assert drawn["label"].dtype == np.uint8
    np.testing.assert_array_equal(drawn["label"], simulate(item())["label"][..., 0].numpy())


@pytest.mark.parametrize("supervision", [None, "dense", "scribble"])
def test_only_items_that_ask_for_it_are_drawn(supervision: str | None) -> None:
    drawing = torch.full_like(volume(), 3)
    kept = SimulateCoarseLabelsd("label", 3)(item(supervision=supervision, complement=drawing))
    assert torch.equal(kept["label"], volume())
    assert kept["complement"] is drawing
    without = {key: value for key, value in item().items() if key != "supervision"}
    assert set(SimulateCoarseLabelsd("label", 3)(without)) == {"label", "case"}


def test_a_simulated_drawing_replaces_one_that_is_there() -> None:
    simulate = SimulateCoarseLabelsd("label", 3, drawing=SquareDrawing())
    assert torch.equal(simulate(item(complement=volume()))["complement"], simulate(item())["complement"])


def test_missing_masks() -> None:
    bare = {"image": 1, "supervision": "simulated"}
    assert SimulateCoarseLabelsd("label", 3, allow_missing_keys=True)(bare) == bare
    with pytest.raises(KeyError):
        SimulateCoarseLabelsd("label", 3)(bare)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"others": "all"}, "coarse_others must be 'coarse' or 'ignore', got 'all'"),
        ({"distance": "taxi"}, "coarse_distance must be one of geodesic, euclidean, got 'taxi'"),
        ({"ratio": 0.0}, "coarse_ratio must be over 0 and at most 1, got 0.0"),
        ({"ratio": float("nan")}, "coarse_ratio must be over 0 and at most 1, got nan"),
        ({"swap": -0.1}, "coarse_swap must lie in 0 .. 1, got -0.1"),
    ],
)
def test_options_are_looked_at_before_there_is_a_mask(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        SimulateCoarseLabelsd("label", 3, **options)
    assert str(caught.value) == message


def test_unpainted_pixels_of_two_classes_are_background_and_not_background() -> None:
    label = MetaTensor(torch.tensor([[[1.0, 2.0], [2.0, 0.0]]]), affine=torch.eye(4))
    filled = FillUnpaintedd(("label", "complement"), 2)({"label": label, "complement": label.clone()})
    for key in ("label", "complement"):
        assert filled[key].tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
        assert isinstance(filled[key], MetaTensor)
    assert label.tolist() == [[[1.0, 2.0], [2.0, 0.0]]]


@pytest.mark.parametrize("container", [MetaTensor, np.asarray], ids=["tensor", "array"])
def test_what_the_mask_does_not_know_is_filled_in_neither_drawing(container: Any) -> None:
    mask = (volume() == 1).float()
    mask[:, :, 14:] = 2
    simulate = SimulateCoarseLabelsd("label", 2, drawing=SquareDrawing())
    drawn = simulate(item(label=container(mask)))
    filled = FillUnpaintedd(("label", "complement"), 2)(drawn)
    assert set(filled) == {"label", "complement", "case", "supervision"}
    for key in ("label", "complement"):
        values = torch.as_tensor(np.asarray(filled[key]))
        assert (values[:, :, 14:] == 2).all()
        assert set(values[:, :, :14].unique().tolist()) == {0, 1}
    again = FillUnpaintedd(("label", "complement"), 2)(simulate(item(label=container(mask % 2))))
    assert set(np.unique(np.asarray(again["label"]))) == {0, 1}


def test_what_a_dense_mask_does_not_know_stays_unknown() -> None:
    mask = torch.tensor([[[1, 2], [2, 0]]], dtype=torch.uint8)
    filled = FillUnpaintedd(("label", "complement"), 2, allow_missing_keys=True)(
        {"label": mask, "supervision": "dense"}
    )
    assert filled["label"].tolist() == mask.tolist()


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
