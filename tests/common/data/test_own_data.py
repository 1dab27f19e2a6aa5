"""Dividing one's own cases into the sections of a datalist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.data.found_files import Found
from common.data.own_cases import OwnCase
from common.data.own_data import build_own_datalist, divide, parse_class_names, patients_before
from common.errors import UserError

NAMES = ["background", "liver"]


def case(name: str, files: str, phase: str | None = None) -> OwnCase:
    """A case ``<patient>-<frame>`` with an image, scribbles and a mask if ``files`` holds i, s and m."""
    image = Found(Path(f"/i/{name}.nii"), ()) if "i" in files else None
    strokes = tuple(Path(f"/s/{name}_{number}.nii") for number in range(files.count("s")))
    mask = Path(f"/m/{name}.nii") if "m" in files else None
    return OwnCase(name, name.partition("-")[0], phase, image, strokes, mask)


def build(cases: list[OwnCase], held: dict[str, str], **options: Any) -> dict[str, Any]:
    options = {"name": "n", "description": "d", "class_names": NAMES, "converted": {}} | options
    return build_own_datalist(cases, held, **options)


def test_every_case_has_its_section() -> None:
    cases = [
        case("a-1", "ism", "ED"),
        case("a-2", "is"),
        case("a-3", "im"),  # the mask of a patient with scribbles is not of another patient
        case("a-4", "i"),
        case("a_4d", "i"),
        case("b-1", "im"),
        case("b-2", "m"),
        case("c-1", "m"),
        case("d-1", "ism", "ES"),
        case("d-2", "is"),  # a held-out patient's
        case("d-3", "i"),
        case("d-4", "m"),
        case("e-1", "iss"),
    ]
    content = build(cases, {"d": "validation"})
    assert (content["num_classes"], content["class_names"]) == (2, NAMES)
    listed = {section: [item["case"] for item in content[section]] for section in ("training", "unpaired_masks")}
    assert listed == {"training": ["a-1", "a-2", "e-1"], "unpaired_masks": ["b-1", "b-2", "c-1"]}
    assert content["training"][0] == {
        "image": "/i/a-1.nii",
        "label": "/s/a-1_0.nii",
        "dense_label": "/m/a-1.nii",
        "case": "a-1",
        "patient": "a",
        "phase": "ED",
    }
    assert content["training"][1] == {"image": "/i/a-2.nii", "label": "/s/a-2_0.nii", "case": "a-2", "patient": "a"}
    assert content["training"][2]["label"] == ["/s/e-1_0.nii", "/s/e-1_1.nii"]
    assert content["unpaired_masks"][0] == {"label": "/m/b-1.nii", "case": "b-1", "patient": "b"}
    assert content["unlabelled"] == [
        {"image": "/i/a-4.nii", "case": "a-4", "patient": "a"},
        {"image": "/i/a_4d.nii", "case": "a_4d", "patient": "a_4d", "frames": "all"},
    ]
    assert content["validation"] == [
        {"image": "/i/d-1.nii", "label": "/m/d-1.nii", "case": "d-1", "patient": "d", "phase": "ES"}
    ]
    assert content["test"] == []


def test_converted_images_are_named_instead_of_the_series() -> None:
    content = build([case("a-1", "is"), case("b-1", "i")], {}, converted={"a-1": Path("/o/a-1.nii.gz")})
    assert (content["training"][0]["image"], content["unlabelled"][0]["image"]) == ("/o/a-1.nii.gz", "/i/b-1.nii")


def test_patients_with_image_and_mask_are_held_out_by_what_they_have() -> None:
    cases = [case(f"both{number}-1", "ism") for number in range(10)]
    cases += [case(f"dense{number}-{frame}", "im") for number in range(5) for frame in (1, 2)]
    cases += [case(f"strokes{number}-1", "is") for number in range(30)]
    cases += [case(f"mask{number}-1", "m") for number in range(30)]
    held, moved = divide(cases, shares={"validation": 0.2, "test": 0.2}, seed=3)  # 15 patients: 3 and 3
    kinds = sorted((section, patient.rstrip("0123456789")) for patient, section in held.items())
    assert kinds == [(section, kind) for section in ("test", "validation") for kind in ("both", "both", "dense")]
    assert moved == []


def test_groups_are_strata() -> None:
    cases = [case(f"p{number}-1", "ism") for number in range(20)]
    groups = {f"p{number}": "sick" if number % 4 == 0 else "well" for number in range(20)}  # 5 and 15
    held, _ = divide(cases, shares={"validation": 0.4}, seed=0, groups=groups)
    assert sorted(groups[patient] for patient in held) == ["sick"] * 2 + ["well"] * 6
    del groups["p7"]
    with pytest.raises(UserError, match=r"^--stratify: 1 patients have no group, first p7; add their lines$"):
        divide(cases, shares={"validation": 0.4}, seed=0, groups=groups)


def test_an_earlier_datalist_is_kept_to() -> None:
    cases = [case(f"p{number}-1", "ism") for number in range(5)]
    before = {"p0": "validation", "p1": "test", "p2": "training", "p3": "unlabelled"}
    held, moved = divide(cases, shares={"validation": 0.4, "test": 0.2}, seed=0, before=before)
    assert (held, moved) == ({"p0": "validation", "p1": "test", "p4": "validation"}, [])
    held, moved = divide(cases[2:4], shares={"validation": 0.5}, seed=0, before={"p2": "training", "p3": "training"})
    assert list(held.values()) == ["validation"]
    assert moved == list(held)


@pytest.mark.parametrize("files", ["is", "m", None])
def test_a_held_out_patient_may_not_lose_its_mask(files: str | None) -> None:
    cases = [case("a-1", "ism")] + ([case("v-1", files)] if files else [])
    with pytest.raises(UserError) as caught:
        divide(cases, shares={"validation": 0.5}, seed=0, before={"v": "validation"})
    assert str(caught.value) == (
        "patient v is in validation of the datalist that is there, but has no image with a dense mask now; restore "
        "the files, or take the patient's lines out of the datalist"
    )


def test_sections_of_an_earlier_datalist() -> None:
    item = {"image": "x"}
    content = {
        "training": [item | {"patient": "a"}, item],
        "unlabelled": [item | {"patient": "a"}, item | {"patient": "b"}, item | {"patient": "c"}],
        "validation": [item | {"patient": "b"}],
    }
    assert patients_before(content) == {"a": "unlabelled", "b": "validation", "c": "unlabelled"}


def test_class_names() -> None:
    assert parse_class_names("background, left kidney,Niere rechts") == ["background", "left kidney", "Niere rechts"]
    for text in ("background", "background,,liver", "background,liver,liver", ""):
        with pytest.raises(UserError, match="give at least two different names"):
            parse_class_names(text)
    with pytest.raises(UserError, match=r'^--class_names begins with "RV"; value 0 is the background, begin with'):
        parse_class_names("RV,LV")
