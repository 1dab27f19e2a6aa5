"""MSCMR: datalist built from the released layout."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.data.checks import check_items
from common.data.mscmr import build_mscmr_datalist
from common.errors import UserError

SECTIONS = ("training", "unpaired_masks", "unlabelled", "validation", "test")


def write_subject(folder: Path, number: int, suffix: str) -> None:
    """An image of 4 x 4 x 2 voxels and labels 0 to 3, in scribbles with 4 as well."""
    labels = np.zeros((4, 4, 2), np.uint16)
    labels[:, 1:] = np.arange(4)[:, None, None]
    if suffix == "_scribble":
        labels[2:, 2:] = 4
    for name, voxels in (("images", labels.astype(np.int16) * 90), ("labels", labels)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        ending = suffix if name == "labels" else ""
        nib.save(
            nib.Nifti1Image(voxels, np.diag([0.75, 0.75, 5, 1])), folder / name / f"subject{number}_DE{ending}.nii.gz"
        )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three subjects to train, one to validate and two to test with."""
    root = tmp_path / "release" / "MSCMR_dataset"
    for part, numbers, suffix in (
        ("train", (2, 13, 9), "_scribble"),
        ("val", (1,), "_manual"),
        ("TestSet", (30, 3), "_manual"),
    ):
        for number in numbers:
            write_subject(root / part, number, suffix)
    return root


def test_the_datalist(tree: Path) -> None:
    content = build_mscmr_datalist(tree)
    assert (content["name"], content["num_classes"]) == ("mscmr", 4)
    assert content["class_names"] == ["background", "RV", "MYO", "LV"]
    assert [len(content[section]) for section in SECTIONS] == [3, 0, 3, 1, 2]
    assert [item["patient"] for item in content["training"]] == ["subject2", "subject9", "subject13"]
    assert [item["patient"] for item in content["test"]] == ["subject3", "subject30"]
    assert content["training"][0] == {
        "image": str(tree / "train" / "images" / "subject2_DE.nii.gz"),
        "label": str(tree / "train" / "labels" / "subject2_DE_scribble.nii.gz"),
        "case": "subject2_DE",
        "patient": "subject2",
    }
    assert content["validation"] == [
        {
            "image": str(tree / "val" / "images" / "subject1_DE.nii.gz"),
            "label": str(tree / "val" / "labels" / "subject1_DE_manual.nii.gz"),
            "case": "subject1_DE",
            "patient": "subject1",
        }
    ]
    expected = [{key: item[key] for key in ("image", "case", "patient")} for item in content["training"]]
    assert content["unlabelled"] == expected
    for section, kind in zip(SECTIONS, ("scribble", "mask", "image", "dense", "dense"), strict=True):
        check_items(content[section], num_classes=4, kind=kind)
    assert build_mscmr_datalist(tree.parent) == content  # the folder around it will do as well


def test_without_test_data(tree: Path) -> None:
    shutil.rmtree(tree / "TestSet")
    assert [len(build_mscmr_datalist(tree)[section]) for section in SECTIONS] == [3, 0, 3, 1, 0]


def test_a_copy_that_names_the_test_data_otherwise(tree: Path) -> None:
    released = build_mscmr_datalist(tree)["test"]
    assert [Path(item["image"]).parts[-3] for item in released] == ["TestSet", "TestSet"]
    (tree / "TestSet").rename(tree / "test")
    renamed = build_mscmr_datalist(tree)["test"]
    assert renamed == [{key: text.replace("TestSet", "test") for key, text in item.items()} for item in released]
    shutil.copytree(tree / "test", tree / "TestSet")
    message = f"{tree / 'TestSet'} and {tree / 'test'}: are both folders of test data; keep one"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_mscmr_datalist(tree)


def test_dense_masks_of_training_images(tree: Path) -> None:
    mask = tree / "train" / "labels" / "subject9_DE_manual.nii.gz"
    shutil.copy(tree / "val" / "labels" / "subject1_DE_manual.nii.gz", mask)
    items = build_mscmr_datalist(tree)["training"]
    assert [item.get("dense_label") for item in items] == [None, str(mask), None]
    assert items[1]["label"].endswith("subject9_DE_scribble.nii.gz")


@pytest.mark.parametrize(
    ("gone", "folder", "missing"),
    [
        (
            ["train/labels/subject13_DE_scribble", "train/labels/subject2_DE_scribble"],
            "train/labels",
            "2 files (subject2_DE_scribble.nii.gz, subject13_DE_scribble.nii.gz)",
        ),
        (["train/images/subject9_DE"], "train/images", "1 files (subject9_DE.nii.gz)"),
        (["val/labels/subject1_DE_manual"], "val/labels", "1 files (subject1_DE_manual.nii.gz)"),
        (["TestSet/images/subject30_DE"], "TestSet/images", "1 files (subject30_DE.nii.gz)"),
    ],
)
def test_missing_partners_are_named(tree: Path, gone: list[str], folder: str, missing: str) -> None:
    for name in gone:
        (tree / f"{name}.nii.gz").unlink()
    with pytest.raises(UserError, match=f"^{re.escape(f'{tree / folder}: lacks {missing}; restore them')}$"):
        build_mscmr_datalist(tree)


def test_missing_folders(tree: Path, tmp_path: Path) -> None:
    shutil.rmtree(tree / "val" / "images")
    message = f"{tree}: has no train/images and val/images; name the folder of the MSCMR download"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_mscmr_datalist(tree)
    (tree / "val" / "images").mkdir()
    with pytest.raises(UserError, match=r"val/images: holds no subject<N>_DE\.nii\.gz; restore its files$"):
        build_mscmr_datalist(tree)
    with pytest.raises(UserError, match=r"nowhere: has no train/images and val/images"):
        build_mscmr_datalist(tmp_path / "nowhere")


def test_real_mscmr(data_root: Path) -> None:
    content = build_mscmr_datalist(data_root / "mscmr")
    assert [len(content[section]) for section in SECTIONS[:4]] == [25, 0, 25, 5]
    check_items(content["validation"], num_classes=4, kind="dense")
    check_items(content["training"][:3], num_classes=4, kind="scribble")
    # Within slices, the blood pool of the left ventricle borders on nothing but the myocardium (but for stray
    # pixels), whereas the right ventricle borders on the background as well.
    borders = np.zeros((4, 4), int)
    for item in content["validation"]:
        mask = np.asarray(nib.nifti1.load(item["label"]).dataobj).astype(int)
        for one, two in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
            np.add.at(borders, (one.ravel(), two.ravel()), 1)
    borders += borders.T
    rv, myo, lv = (content["class_names"].index(name) for name in ("RV", "MYO", "LV"))
    assert borders[lv, myo] > 50 * (borders[lv, 0] + borders[lv, rv])
    assert borders[rv, 0] > borders[rv, myo] > 0
    assert borders[rv, lv] == 0
