"""Which annotations a run with coarse labels trains with: simulated ones, drawings, dense masks, and their shares."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from common.data.coarse_supervision import coarse_items
from common.errors import UserError

Items = list[dict[str, Any]]


def put(path: Path, training: Items, **content: Any) -> Path:
    head = {"name": "toy", "num_classes": 3, "class_names": ["background", "a", "b"]}
    path.write_text(json.dumps(head | {"training": training} | content))
    return path


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Ten patients of two frames with both drawings and a dense mask."""
    for name in ("p.nii", "n.nii", "d.nii"):
        (tmp_path / name).touch()
    training = []
    for patient in range(10):
        for frame in "ab":
            case = f"{patient}{frame}"
            (tmp_path / f"{case}.nii").touch()
            files = {"image": f"{case}.nii", "label": "p.nii", "complement": "n.nii", "dense_label": "d.nii"}
            training.append(files | {"case": case, "patient": f"p{patient}"})
    return put(tmp_path / "list.json", training)


def changed(toy: Path, change: Any) -> Path:
    """The datalist after a change of each of its items."""
    training = json.loads(toy.read_text())["training"]
    for item in training:
        change(item)
    return put(toy, training)


def patients(items: Items, *kinds: str | None) -> set[str]:
    """The patients of the items of some kinds of supervision, or of all."""
    return {item["patient"] for item in items if not kinds or item.get("supervision") in kinds}


def test_by_default_all_masks_are_made_coarse(toy: Path) -> None:
    items = coarse_items(toy, num_classes=3)
    assert [item["case"] for item in items] == [f"{patient}{frame}" for patient in range(10) for frame in "ab"]
    assert {item["supervision"] for item in items} == {"simulated"}
    assert {item["label"] for item in items} == {str(toy.parent / "d.nii")}


def test_a_label_may_be_the_dense_mask(toy: Path) -> None:
    def change(item: dict[str, Any]) -> None:
        item["label"] = item.pop("dense_label")
        item["supervision"] = "dense"

    items = coarse_items(changed(toy, change))
    assert {item["supervision"] for item in items} == {"simulated"}
    assert {item["label"] for item in items} == {str(toy.parent / "d.nii")}
    items = coarse_items(toy, simulate=False)  # these masks are no drawings, and no drawing goes with them
    assert {item["supervision"] for item in items} == {"dense"}
    assert not any("complement" in item for item in items)


def test_drawings(toy: Path) -> None:
    items = coarse_items(toy, simulate=False)
    assert len(items) == 20
    for item in items:
        assert "supervision" not in item
        assert item["label"] == str(toy.parent / "p.nii")
        assert item["complement"] == str(toy.parent / "n.nii")


def test_without_negative_drawings_an_image_needs_a_positive_one(toy: Path) -> None:
    def change(item: dict[str, Any]) -> None:
        if item["case"] in ("0a", "3b"):
            del item["label"]
        elif item["case"] == "1a":
            del item["complement"]

    changed(toy, change)
    assert len(coarse_items(toy, simulate=False)) == 20
    cases = [item["case"] for item in coarse_items(toy, simulate=False, negative=False)]
    assert len(cases) == 18
    assert not {"0a", "3b"} & set(cases)
    assert len(coarse_items(toy, negative=False)) == 20  # a simulation needs the mask alone
    put(toy, [{"image": "0a.nii", "complement": "n.nii"}])
    assert len(coarse_items(toy, simulate=False)) == 1
    with pytest.raises(UserError, match=r'no item of "training" has a "label", a positive drawing, which --negative'):
        coarse_items(toy, simulate=False, negative=False)


def test_shares_are_whole_patients_and_nested(toy: Path) -> None:
    some = coarse_items(toy, labelled_share=0.25, seed=3)  # floor(0.25 * 10 + 0.5) = 3 patients, 6 images
    assert len(some) == 6
    assert len(patients(some)) == 3
    assert patients(some) < patients(coarse_items(toy, labelled_share=0.5, seed=3))
    assert len(coarse_items(toy, labelled_share=0.001)) == 2  # one patient at least
    assert len({frozenset(patients(coarse_items(toy, labelled_share=0.3, seed=seed))) for seed in range(9)}) > 1


@pytest.mark.parametrize("simulate", [True, False])
def test_dense_masks_are_those_of_the_same_patients_whatever_is_drawn_on_others(toy: Path, simulate: bool) -> None:
    coarse = "simulated" if simulate else None
    alone = coarse_items(toy, labelled_share=0.0, dense_share=0.4, seed=1, simulate=simulate)
    assert patients(alone) == patients(alone, "dense")
    for share, count in ((0.001, 1), (0.2, 2), (0.6, 6)):
        mixed = coarse_items(toy, labelled_share=share, dense_share=0.4, seed=1, simulate=simulate)
        assert [item for item in mixed if item.get("supervision") == "dense"] == alone
        assert len(patients(mixed, coarse)) == count
        assert not patients(mixed, coarse) & patients(alone)
    assert len(patients(alone)) == 4
    for item in alone:
        assert item["label"] == str(toy.parent / "d.nii")
        assert "complement" not in item  # the mask is all that is known of it


def test_masks_that_are_missing_are_named_with_the_key_that_needs_them(toy: Path) -> None:
    changed(toy, lambda item: item.pop("dense_label"))
    assert len(coarse_items(toy, simulate=False)) == 20
    for options, key in (({}, "simulate"), ({"labelled_share": 0, "dense_share": 1}, "dense_share")):
        message = f'{toy}: 0a has no "dense_label", which --{key} needs; add the path of its mask'
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            coarse_items(toy, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labelled_share": 1.01}, "--labelled_share: must be a number from 0 to 1, got 1.01"),
        ({"labelled_share": float("nan")}, "--labelled_share: must be a number from 0 to 1, got nan"),
        ({"dense_share": -0.1}, "--dense_share: must be a number from 0 to 1, got -0.1"),
        (
            {"labelled_share": 0.6, "dense_share": 0.5},
            "--labelled_share 0.6 and --dense_share 0.5: together they must be over 0 and at most 1",
        ),
        (
            {"labelled_share": 0},
            "--labelled_share 0 and --dense_share 0.0: together they must be over 0 and at most 1",
        ),
        ({"num_classes": 4}, "has 3 classes where --num_classes is 4; set --num_classes 3"),
    ],
)
def test_options_out_of_range(toy: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"{re.escape(message)}$"):
        coarse_items(toy, **options)
