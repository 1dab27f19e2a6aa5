"""LVSC: volumes, scribbles and datalist built from the official layout."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import ITKReader
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged
from PIL import Image

from common.data.checks import check_items
from common.data.lvsc import build_lvsc_datalist
from common.data.slice_dataset import SliceDataset
from common.errors import UserError

SECTIONS = ("training", "unpaired_masks", "validation", "test")


def voxels(path: str) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture
def own_tree(lvsc_tree: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(lvsc_tree, tmp_path / "tree")) / "Training"


def test_the_datalist(lvsc_tree: Path, tmp_path: Path) -> None:
    content = build_lvsc_datalist(lvsc_tree, tmp_path)
    assert (content["name"], content["num_classes"], content["class_names"]) == ("lvsc", 2, ["background", "MYO"])
    assert [len(content[section]) for section in (*SECTIONS, "unlabelled")] == [2, 2, 2, 2, 1]
    patients = [{item["patient"] for item in content[section]} for section in SECTIONS]
    assert [len(names) for names in patients] == [1, 1, 1, 1]
    # the patient without masks is left out
    assert set.union(*patients) == {"DET0000101", "DET0000201", "DET0000301", "DET0000401"}
    for section, kind in zip((*SECTIONS, "unlabelled"), ("scribble", "mask", "dense", "dense", "image"), strict=True):
        check_items(content[section], num_classes=2, kind=kind)
    for section in SECTIONS:
        assert [item["phase"] for item in content[section]] == ["ED", "ES"]
        assert content[section][0]["case"].endswith("_ph0")
    assert not list(tmp_path.glob(f"{next(iter(patients[1]))}/*_ph?.nii.gz"))  # of a mask patient no image is kept


def test_end_systole_has_the_smallest_cavity(lvsc_tree: Path, tmp_path: Path) -> None:
    content = build_lvsc_datalist(lvsc_tree, tmp_path)
    systoles = {item["patient"]: item["case"] for section in SECTIONS for item in content[section][1:]}
    # radii of the cavity are 8, 6, 4 pixels in phases 0, 1, 2; those of DET0000201 are 8, 4, 6
    assert {case[-3:] for patient, case in systoles.items() if patient != "DET0000201"} == {"ph2"}
    assert systoles["DET0000201"] == "DET0000201_ph1"


def test_slices_are_in_order_and_under_their_masks(lvsc_tree: Path, tmp_path: Path) -> None:
    content = build_lvsc_datalist(lvsc_tree, tmp_path)
    for item in [*content["validation"], *content["test"]]:
        image, mask = voxels(item["image"]), voxels(item["label"])
        # The made-up image is 200 + 30 * height + noise of 0 to 39, and 300 more in the cavity; slice numbers 1, 2, 3
        # lie at heights 0, 2, 1.
        assert image.min((0, 1)).tolist() == pytest.approx([200, 230, 260], abs=2)
        cavity = image > 450
        assert not (cavity & (mask == 1)).any()
        # 373 pixels are less than 11 away from the middle one; the ring of the top slice is open
        assert (mask[..., :2] | cavity[..., :2]).sum((0, 1)).tolist() == [373, 373]
        assert (mask[..., 2] | cavity[..., 2]).sum() < 373


def test_the_cine_series_holds_all_phases_in_order(lvsc_tree: Path, tmp_path: Path) -> None:
    content = build_lvsc_datalist(lvsc_tree, tmp_path)
    item, frames = content["unlabelled"][0], content["training"]
    assert item["frames"] == "all"
    cine = nib.load(item["image"])
    assert cine.shape == (40, 48, 3, 3)
    for frame in frames:
        np.testing.assert_array_equal(voxels(item["image"])[..., int(frame["case"][-1])], voxels(frame["image"]))
        np.testing.assert_array_equal(cine.affine, nib.load(frame["image"]).affine)
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image", channel_dim=-1)])
    assert len(SliceDataset(content["unlabelled"], load, keys=["image"])) == 9  # three phases of three slices


@pytest.mark.parametrize("form", ["diag", "four", "king", "v2"])
def test_scribbles_stay_inside_and_depend_on_seed_and_case(lvsc_tree: Path, tmp_path: Path, form: str) -> None:
    item = build_lvsc_datalist(lvsc_tree, tmp_path / "one", form=form)["training"][0]
    mask, scribble = voxels(item["dense_label"]), voxels(item["label"])
    drawn = scribble != 2
    np.testing.assert_array_equal(scribble[drawn], mask[drawn])
    assert [set(np.unique(scribble[..., z])) for z in range(3)] == [{0, 1, 2}] * 3
    again = build_lvsc_datalist(lvsc_tree, tmp_path / "two", form=form)["training"][0]
    assert Path(again["label"]).read_bytes() == Path(item["label"]).read_bytes()


def test_other_seeds_give_other_walks(lvsc_tree: Path, tmp_path: Path) -> None:
    walks: dict[str, list[np.ndarray]] = {}
    for seed in range(6):
        item = build_lvsc_datalist(lvsc_tree, tmp_path, seed=seed)["training"][0]
        walks.setdefault(item["case"], []).append(voxels(item["label"]))
    pairs = [found for found in walks.values() if len(found) > 1]
    assert len(walks) > 1  # the split differs too
    assert pairs
    assert all((found[0] != found[1]).any() for found in pairs)


def test_image_label_and_dicom_slices_share_one_grid(lvsc_tree: Path, tmp_path: Path) -> None:
    item = build_lvsc_datalist(lvsc_tree, tmp_path / "out")["training"][1]
    read = LoadImage(reader=ITKReader, image_only=True)
    image, label = read(item["image"]), read(item["label"])
    assert image.shape == label.shape == (40, 48, 3)
    np.testing.assert_array_equal(image.affine.numpy(), label.affine.numpy())
    phase = tmp_path / "phase"
    phase.mkdir()
    for file in lvsc_tree.rglob(f"{item['patient']}_SA?_{item['case'][-3:]}.dcm"):
        shutil.copy(file, phase)
    np.testing.assert_array_equal(image.numpy(), read(phase).numpy())
    np.testing.assert_allclose(image.affine.numpy(), read(phase).affine.numpy(), atol=1e-5)  # NIfTI keeps 32 bits


def test_masks_may_lie_in_another_folder_and_endings_be_capital(own_tree: Path, tmp_path: Path) -> None:
    expected = build_lvsc_datalist(own_tree, tmp_path / "out")
    (own_tree / "masks").mkdir()
    for file in own_tree.glob("*/*_SA*.*"):
        file.rename(own_tree / "masks" / file.name if file.suffix == ".png" else file.with_suffix(".DCM"))
    assert build_lvsc_datalist(own_tree, tmp_path / "out") == expected


def test_missing_files_are_named(own_tree: Path, tmp_path: Path) -> None:
    folder = own_tree / "DET0000101"
    for name in ("SA2_ph1.dcm", "SA3_ph2.png"):
        (folder / f"DET0000101_{name}").unlink()
    message = (
        f"{own_tree}: lacks 2 LVSC files (DET0000101_SA2_ph1.dcm, DET0000101_SA3_ph2.png); restore them or leave the "
        "patients out"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_lvsc_datalist(own_tree, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_fit(own_tree: Path, tmp_path: Path) -> None:
    folder = own_tree / "DET0000101"
    mask = folder / "DET0000101_SA2_ph0.png"
    whole = mask.read_bytes()
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(mask)
    with pytest.raises(UserError, match=rf"^{mask}: has \(40, 48\) pixels and its DICOM slice \(48, 40\); restore"):
        build_lvsc_datalist(own_tree, tmp_path / "out")
    mask.write_bytes(whole)
    shutil.copy(folder / "DET0000101_SA2_ph0.dcm", folder / "DET0000101_SA3_ph0.dcm")
    with pytest.raises(
        UserError, match=r"^DET0000101 phase 0: DET0000101_SA2_ph0\.dcm and DET0000101_SA3_ph0\.dcm are"
    ):
        build_lvsc_datalist(own_tree, tmp_path / "out")
    shutil.copy(mask, own_tree / mask.name)
    with pytest.raises(UserError, match=r"is there twice, see .*; keep one of them$"):
        build_lvsc_datalist(own_tree, tmp_path / "out")


def test_a_patient_without_end_systole(own_tree: Path, tmp_path: Path) -> None:
    for file in own_tree.glob("DET0000301/*_ph[12].png"):
        Image.fromarray(np.zeros((48, 40), np.uint8)).save(file)
    with pytest.raises(UserError, match=r"^DET0000301: no myocardium in the masks of phase 0 or of all others; ED and"):
        build_lvsc_datalist(own_tree, tmp_path / "out")


def test_a_phase_without_any_mask_is_not_end_systole(own_tree: Path, tmp_path: Path) -> None:
    for file in own_tree.glob("*/*_ph1.png"):
        Image.fromarray(np.zeros((48, 40), np.uint8)).save(file)
    content = build_lvsc_datalist(own_tree, tmp_path / "out")
    assert {item["case"][-3:] for section in SECTIONS for item in content[section]} == {"ph0", "ph2"}


def test_wrong_sources_and_options(lvsc_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'^unknown form "x" of LVSC scribbles; choose one of diag, four, king, v2$'):
        build_lvsc_datalist(lvsc_tree, tmp_path, form="x")
    with pytest.raises(UserError, match=r"gone: no such folder; name the folder of the LVSC download$"):
        build_lvsc_datalist(tmp_path / "gone", tmp_path)
    with pytest.raises(UserError, match=r"no <patient>_SA<slice>_ph<phase>\.dcm with its mask \.png"):
        build_lvsc_datalist(lvsc_tree / "Training" / "DET0000501", tmp_path)
    with pytest.raises(UserError, match=r"^1 patients are too few"):
        build_lvsc_datalist(lvsc_tree / "Training" / "DET0000101", tmp_path)
