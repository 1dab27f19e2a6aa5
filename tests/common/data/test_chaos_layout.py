"""CHAOS: volumes, scribbles and datalist built from the official layout."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from monai.data import ITKReader
from monai.transforms import LoadImage
from PIL import Image

from common.data import chaos
from common.data.chaos import build_chaos_datalist, load_splits
from common.data.checks import check_items, inspect_item
from common.errors import UserError
from common.transforms.scribble_skeleton import skeleton_scribble

SECTIONS = ("training", "unpaired_masks", "validation", "test")
GREYS = [0, 63, 126, 189, 252]


def build(tree: Path, output: Path, **options: Any) -> dict[str, Any]:
    return build_chaos_datalist(tree, output, **({"sequence": "t1"} | options))


def voxels(path: str) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture
def own_tree(chaos_tree: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(chaos_tree, tmp_path / "tree")) / "Train_Sets" / "MR"


@pytest.mark.parametrize(("sequence", "slices"), [("t1", 4), ("t2", 3)])
def test_the_datalist(chaos_tree: Path, tmp_path: Path, sequence: str, slices: int) -> None:
    content = build(chaos_tree, tmp_path, sequence=sequence)
    assert content["name"] == f"chaos_{sequence}"
    assert content["num_classes"] == 5
    assert content["class_names"] == ["background", "liver", "right kidney", "left kidney", "spleen"]
    assert [len(content[section]) for section in (*SECTIONS, "unlabelled")] == [1, 1, 1, 1, 1]
    assert len({item["patient"] for section in SECTIONS for item in content[section]}) == 4
    for section, kind in zip((*SECTIONS, "unlabelled"), ("scribble", "mask", "dense", "dense", "image"), strict=True):
        check_items(content[section], num_classes=5, kind=kind)
        assert inspect_item(content[section][0], num_classes=5, kind=kind)["shape"] == (40, 48, slices)
    assert set(content["unpaired_masks"][0]) == {"label", "case", "patient"}
    assert content["unlabelled"][0]["image"] == content["training"][0]["image"]


@pytest.mark.parametrize("sequence", ["t1", "t2"])
def test_each_mask_lies_on_its_slice(chaos_tree: Path, tmp_path: Path, sequence: str) -> None:
    seen = set()
    for seed in range(4):  # so that patient 1, whose file names run the other way, comes by
        content = build(chaos_tree, tmp_path / str(seed), sequence=sequence, seed=seed)
        for item in [*content["validation"], *content["test"], content["training"][0] | {"label": None}]:
            image, mask = voxels(item["image"]), voxels(item["label"] or item["dense_label"])
            # The made-up image is 100 + 2 * grey + noise of 0 to 39, and the first slice's organs are smaller.
            np.testing.assert_array_equal((image - 100) // 126, mask)
            seen.add(item["patient"])
            sizes = (mask > 0).sum((0, 1))
            assert sizes.argmin() == (0 if item["patient"] == "patient01" else len(sizes) - 1)
    assert seen == {"patient01", "patient02", "patient03", "patient05"}


def test_scribbles_are_the_skeletons_of_the_mask(chaos_tree: Path, tmp_path: Path) -> None:
    for form, options in {"skeleton": {}, "thick": {"thicken": True}, "hull": {"background": "hull"}}.items():
        item = build(chaos_tree, tmp_path / form, form=form)["training"][0]
        mask, scribble = voxels(item["dense_label"]), voxels(item["label"])
        assert scribble.dtype == np.uint8
        for number in range(mask.shape[-1]):
            expected = skeleton_scribble(mask[..., number], 5, **options)
            np.testing.assert_array_equal(scribble[..., number], expected)
        assert set(np.unique(scribble)) == {0, 1, 2, 3, 4, 5}


def test_image_label_and_dicom_folder_share_one_grid(chaos_tree: Path, tmp_path: Path) -> None:
    item = build(chaos_tree, tmp_path)["training"][0]
    read = LoadImage(reader=ITKReader, image_only=True)
    image, label = read(item["image"]), read(item["label"])
    assert [int(nib.load(item["image"]).header[key]) for key in ("qform_code", "sform_code")] == [1, 1]  # scanner
    assert image.shape == label.shape
    np.testing.assert_array_equal(image.affine.numpy(), label.affine.numpy())
    number = int(item["patient"].removeprefix("patient"))
    series = read(chaos_tree / "Train_Sets" / "MR" / str(number) / "T1DUAL" / "DICOM_anon" / "InPhase")
    np.testing.assert_array_equal(image.numpy(), series.numpy())
    np.testing.assert_allclose(image.affine.numpy(), series.affine.numpy(), atol=1e-5)  # NIfTI keeps 32 bits


def test_running_again_gives_the_same_files(chaos_tree: Path, tmp_path: Path) -> None:
    first = build(chaos_tree, tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.nii.gz")}
    assert build(chaos_tree, tmp_path) == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert build(chaos_tree / "Train_Sets", tmp_path) == build(chaos_tree / "Train_Sets" / "MR", tmp_path) == first
    splits = [build(chaos_tree, tmp_path, seed=seed)["test"][0]["patient"] for seed in range(6)]
    assert len(set(splits)) > 1


def test_the_published_split() -> None:
    fold = load_splits()["attenscribble_fold1"]
    assert fold["test"] == [1, 2, 3, 5, 8, 10, 13]
    assert len(fold["training"]) == 12
    # all 20 MR patients: 1+2+3+5+8+10+13 = 42, 15+19+20+21+22+31+32 = 160, 33+34+36+37+38+39 = 217
    ids = [number for section in SECTIONS for number in fold[section]]
    assert len(set(ids)) == len(ids) == 20
    assert sum(ids) == 42 + 160 + 217


def test_a_published_split_decides_sections_and_form(
    chaos_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = load_splits()["attenscribble_fold1"]
    ids = {"training": [5, 2], "unpaired_masks": [], "validation": [1], "test": [3]}
    monkeypatch.setattr(chaos, "load_splits", lambda: {"tiny": fold | ids})
    content = build(chaos_tree, tmp_path, split="tiny")
    assert [item["patient"] for item in content["training"]] == ["patient05", "patient02"]
    assert [len(content[section]) for section in SECTIONS] == [2, 0, 1, 1]
    drawn = voxels(content["training"][0]["label"]) == 0
    assert not drawn[:, 0].any()  # the hull's background keeps away from the rim


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence": "ct"}, 'unknown CHAOS sequence "ct"; choose one of t1, t2'),
        ({"split": "x"}, 'unknown CHAOS split "x"; choose one of maag, attenscribble_fold1'),
        ({"form": "walk"}, 'unknown form "walk" of CHAOS scribbles; choose one of skeleton, thick, hull'),
        (
            {"split": "attenscribble_fold1"},
            "{tree}: lacks 16 patients of this split (patient15, patient19, patient20, …); restore them or take split "
            "maag",
        ),
    ],
)
def test_wrong_options(chaos_tree: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message.format(tree=chaos_tree))}$"):
        build(chaos_tree, tmp_path, **options)


def test_missing_folders_and_files(own_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: no such folder; name the folder of the CHAOS download$"):
        build(tmp_path / "gone", tmp_path)
    with pytest.raises(UserError, match=r"has no Train_Sets/MR/<patient> folders"):
        build(own_tree / "1" / "T1DUAL", tmp_path)
    next((own_tree / "2" / "T1DUAL" / "Ground").iterdir()).unlink()
    shutil.rmtree(own_tree / "5" / "T1DUAL" / "DICOM_anon")
    message = (
        f"{own_tree}: 2 patients lack files of T1DUAL (2 has 4 slices and 3 masks, 5 has 0 slices and 4 masks); "
        "restore T1DUAL/DICOM_anon/InPhase/*.dcm and T1DUAL/Ground/*.png"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build(own_tree, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_faulty_masks_and_slices(own_tree: Path, tmp_path: Path) -> None:
    mask = sorted((own_tree / "2" / "T1DUAL" / "Ground").iterdir())[1]
    whole = mask.read_bytes()
    Image.fromarray(np.full((48, 40), 100, np.uint8)).save(mask)
    with pytest.raises(UserError, match=rf"^{re.escape(str(mask))}: holds 1920 pixels of value 100; a mask has the"):
        build(own_tree, tmp_path / "out")
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(mask)
    with pytest.raises(UserError, match=r"has \(40, 48\) pixels and its DICOM slice \(48, 40\); restore the file$"):
        build(own_tree, tmp_path / "out")
    mask.write_bytes(whole)
    files = sorted((own_tree / "2" / "T1DUAL" / "DICOM_anon" / "InPhase").iterdir())
    files[2].write_bytes(files[1].read_bytes())
    with pytest.raises(UserError, match=rf"^patient02 t1: {files[1].name} and {files[2].name} are duplicate slices"):
        build(own_tree, tmp_path / "out")


def test_masks_of_other_names_follow_the_order_of_the_slices(own_tree: Path, tmp_path: Path) -> None:
    expected = voxels(build(own_tree, tmp_path / "first")["test"][0]["label"])
    patient = str(int(build(own_tree, tmp_path / "first")["test"][0]["patient"].removeprefix("patient")))
    for number, mask in enumerate(sorted((own_tree / patient / "T1DUAL" / "Ground").iterdir())):
        mask.rename(mask.with_name(f"mask_{number + 8}.png"))  # 10 comes after 9, not before 8
    np.testing.assert_array_equal(voxels(build(own_tree, tmp_path / "second")["test"][0]["label"]), expected)
    files = sorted((own_tree / patient / "T1DUAL" / "DICOM_anon" / "InPhase").iterdir())
    headers = [pydicom.dcmread(file) for file in files]
    for header, file in zip((headers[1], headers[0]), files, strict=False):
        header.save_as(file)
    with pytest.raises(UserError, match=r"do not follow one another in the order of their file names"):
        build(own_tree, tmp_path / "third")
