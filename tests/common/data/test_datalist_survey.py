"""Looking at all files of a datalist, and at the datalist as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from common.data.datalist_survey import Finding, case_of_item, list_sections, overall_warnings, survey
from common.errors import UserError

NAMES = ["background", "a", "b"]
SHAPE = (12, 12, 3)
Items = dict[str, list[dict[str, Any]]]


def save(path: Path, voxels: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(voxels, np.diag([1, 1, 5, 1])), path)
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """An image, scribbles and a dense mask of three classes."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5], mask[7:10] = 1, 2
    strokes = np.where(np.arange(12)[:, None, None] % 4 == 0, mask, 3).astype(np.uint8)
    return {
        "image": save(tmp_path / "image.nii.gz", np.arange(432, dtype=np.int16).reshape(SHAPE)),
        "scribble": save(tmp_path / "scribble.nii.gz", strokes),
        "mask": save(tmp_path / "mask.nii.gz", mask),
    }


@pytest.fixture
def sections(files: dict[str, str]) -> Items:
    image = {"image": files["image"]}
    return {
        "training": [image | {"label": files["scribble"], "case": f"t{number}"} for number in range(3)],
        "unpaired_masks": [{"label": files["mask"], "case": "m"}],
        "unlabelled": [image | {"case": "u"}],
        "validation": [image | {"label": files["mask"], "case": "v"}],
        "test": [],
    }


def problems(sections: Items, **options: Any) -> dict[str, list[str]]:
    found = survey(sections, num_classes=3, **options)
    return {finding.case: [line.partition(": ")[2] for line in finding.seen["problems"]] for finding in found}


@pytest.mark.parametrize("jobs", [1, 4])
def test_every_item_is_looked_at_in_order(sections: Items, jobs: int) -> None:
    findings = list(survey(sections, num_classes=3, jobs=jobs))
    assert [(finding.section, finding.case) for finding in findings] == [
        *[("training", "t0"), ("training", "t1"), ("training", "t2")],
        *[("unpaired_masks", "m"), ("unlabelled", "u"), ("validation", "v")],
    ]
    assert all(finding.seen["problems"] == [] for finding in findings)
    # of 12 rows, 0 and 4 and 8 are annotated: 0 is background, 4 is a and 8 is b
    assert findings[0].seen["annotated_share"] == {index: pytest.approx(1 / 12) for index in range(3)}
    assert findings[3].seen["annotated_share"] == {0: 0.5, 1: 0.25, 2: 0.25}


def test_each_section_has_its_kind_of_label(sections: Items, files: dict[str, str]) -> None:
    sections["training"][1]["label"] = files["mask"]
    for section in ("unpaired_masks", "validation"):
        sections[section][0]["label"] = files["scribble"]
    found = problems(sections)
    assert found["t1"][0].startswith("a dense mask is given where scribbles are expected")
    for case in ("m", "v"):
        assert found[case][0].startswith("holds 3 (not annotated) where a dense mask with 0..2 is expected")
    assert found["t0"] == found["t2"] == found["u"] == []


def test_kinds_that_are_asked_for(sections: Items, files: dict[str, str]) -> None:
    sections["training"][1]["label"] = files["mask"]
    dense = problems(sections, kind="dense")
    assert (bool(dense["t0"]), dense["t1"]) == (True, [])
    sections["validation"][0]["label"] = files["scribble"]
    sections["unpaired_masks"][0]["label"] = files["scribble"]
    either = problems(sections, kind="either")
    assert either["t0"] == either["t1"] == either["v"] == []
    assert either["m"]  # what a discriminator is shown as real is dense in any case


def test_a_complement_makes_coarse_labels(sections: Items, files: dict[str, str]) -> None:
    item = sections["training"][0]
    item["complement"] = item.pop("label")
    assert problems(sections)["t0"] == []
    # beside it, a drawing without background strokes is a positive one, but a dense mask has to be dense
    plain = nib.load(files["scribble"])
    stored = np.asarray(plain.dataobj)
    nib.save(nib.Nifti1Image(np.where(stored == 0, 3, stored).astype(np.uint8), plain.affine), files["scribble"])
    assert problems(sections)["t1"] == []
    sections["training"][2]["supervision"] = "dense"
    assert problems(sections)["t2"][0].startswith("holds 3 (not annotated) where a dense mask")
    del item["complement"]
    item["label"] = files["scribble"]
    assert problems(sections)["t1"][0].startswith("has no background scribble")
    item["complement"] = item.pop("label")
    assert problems(sections, kind="scribble")["t0"] == ['has no "label"; add the path of its file']


def test_dense_labels_of_training_items(sections: Items, files: dict[str, str], tmp_path: Path) -> None:
    sections["training"][0]["dense_label"] = files["mask"]
    sections["training"][1]["dense_label"] = files["scribble"]
    sections["training"][2]["dense_label"] = str(tmp_path / "gone.nii.gz")
    found = problems(sections)
    assert found["t0"] == []
    assert found["t1"][0].startswith("holds 3 (not annotated) where a dense mask with 0..2 is expected")
    assert found["t2"] == ["no such file; correct the path or restore the file"]


def test_a_problem_of_the_image_is_told_once(sections: Items, files: dict[str, str]) -> None:
    sections["training"][0]["dense_label"] = files["mask"]
    Path(files["image"]).write_text("hello")
    assert len(problems(sections)["t0"]) == 1


def test_channels(sections: Items) -> None:
    assert problems(sections, in_channels=1)["t0"] == []
    assert problems(sections, in_channels=3)["t0"][0].startswith("has 1 channels or frames where --in_channels is 3")


def test_sections_whose_files_are_missing_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": [{"image": "gone.nii", "label": "gone_too.nii"}]}))
    listed = list_sections(path)
    assert {section: len(items) for section, items in listed.items()} == {
        "training": 1,
        "unpaired_masks": 0,
        "unlabelled": 0,
        "validation": 0,
        "test": 0,
    }
    assert listed["training"][0]["image"] == str(tmp_path / "gone.nii")
    with pytest.raises(UserError, match="no such datalist"):
        list_sections(tmp_path / "no.json")


def test_names_of_items() -> None:
    assert case_of_item({"case": "p1", "image": "x/p2.nii"}) == "p1"
    assert case_of_item({"image": "x/p2.nii", "label": "x/p3.nii"}) == "p2.nii"
    assert case_of_item({"label": "x/p3.nii"}) == "p3.nii"
    assert case_of_item({"complement": "x/p4.nii"}) == "p4.nii"


def finding(
    section: str, case: str, patient: str = "", *, shares: dict[int, float] | None = None, checksum: int | None = None
) -> Finding:
    item = {"case": case, "patient": patient or case}
    return Finding(section, case, item, {"annotated_share": shares or {}, "image_checksum": checksum})


def test_a_datalist_without_fault() -> None:
    shares = {0: 0.1, 1: 0.1, 2: 0.1}
    # two frames of one patient may be alike, and a training patient's other frames serve without labels
    found = [
        finding("training", "p1_a", "p1", shares=shares, checksum=1),
        finding("unlabelled", "p1_b", "p1", checksum=1),
    ]
    assert overall_warnings([*found, finding("validation", "p2", checksum=2)], NAMES) == []


def test_empty_sections() -> None:
    assert overall_warnings([], NAMES) == [
        "training: has no items, so nothing can be trained",
        "validation: has no items with dense masks, so a training is not watched and has no best model",
    ]


def test_patients_in_two_sections() -> None:
    found = [finding("training", f"p{number}") for number in range(5)]
    found += [finding("validation", f"p{number}") for number in range(5)]
    found += [finding("unpaired_masks", "p4"), finding("test", "p9"), finding("unlabelled", "p9")]
    assert overall_warnings(found, NAMES) == [
        "training and unpaired_masks: share patient p4; keep a patient in one section",
        "training and validation: share patients p0, p1, p2 and 2 more; keep a patient in one section",
        "unpaired_masks and validation: share patient p4; keep a patient in one section",
        "unlabelled and test: share patient p9; keep a patient in one section",
    ]


def test_cases_and_images_that_are_there_twice() -> None:
    found = [finding("training", "p1", checksum=7), finding("training", "p1", checksum=7)]
    found += [finding("validation", "p2", checksum=7), finding("test", "p3", checksum=8)]
    assert overall_warnings(found, NAMES) == [
        "training: lists case p1 more than once; results would be mixed up",
        "p1 (training) and p2 (validation): have the same image voxels, but are listed as different patients",
    ]


def test_classes_that_are_seldom_annotated() -> None:
    common, rare = {0: 0.1, 1: 0.1, 2: 0.0}, {0: 0.1, 1: 0.0, 2: 0.1}
    found = [finding("training", f"p{number}", shares=common) for number in range(11)]
    found += [finding("validation", "v", shares={0: 0.5, 1: 0.2, 2: 0.3})]
    assert overall_warnings(found, NAMES) == ["training: b (2) is annotated nowhere, so it cannot be learned"]
    found.append(finding("training", "p11", shares=rare))  # 1 of 12 is less than a tenth
    assert overall_warnings(found, NAMES) == ["training: b (2) is annotated in 1 of 12 volumes only"]
    found.append(finding("training", "p12", shares=rare))  # 2 of 13 is not
    assert overall_warnings(found, NAMES) == []
