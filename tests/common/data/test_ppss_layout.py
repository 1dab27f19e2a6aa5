"""PPSS: pictures, scribbles and datalist built from the official layout."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged
from PIL import Image

from common.data.checks import check_items, inspect_item
from common.data.ppss import build_ppss_datalist
from common.data.slice_dataset import SliceDataset
from common.errors import UserError
from common.transforms.orient_slices import OrientSlicesd
from common.transforms.scribble_skeleton import skeleton_scribble

SECTIONS = ("training", "unpaired_masks", "validation", "test")


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture
def own_tree(ppss_tree: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(ppss_tree, tmp_path / "tree"))


def test_the_datalist(ppss_tree: Path, tmp_path: Path) -> None:
    content = build_ppss_datalist(ppss_tree, tmp_path)
    assert content["num_classes"] == 7
    assert content["class_names"] == ["background", "hair", "face", "upper clothes", "arms", "legs", "shoes"]
    # two pictures of each camera; of four cameras to train one validates, two have scribbles and one gives masks
    assert [len(content[section]) for section in (*SECTIONS, "unlabelled")] == [4, 2, 2, 4, 4]
    cameras = [{item["patient"] for item in content[section]} for section in SECTIONS]
    assert set.union(*cameras[:3]) == {"train001", "train002", "train003", "train004"}
    assert [len(names) for names in cameras] == [2, 1, 1, 2]
    assert cameras[3] == {"test101", "test102"}
    for section, kind in zip((*SECTIONS, "unlabelled"), ("scribble", "mask", "dense", "dense", "image"), strict=True):
        check_items(content[section], num_classes=7, kind=kind)
    assert inspect_item(content["training"][0], num_classes=7, kind="scribble")["shape"] == (80, 160)
    assert len(list(tmp_path.rglob("*.png"))) == 3 * 4 + 2 + 2 * 2 + 2 * 4


def test_classes_and_sizes(ppss_tree: Path, tmp_path: Path) -> None:
    for item in build_ppss_datalist(ppss_tree, tmp_path)["test"]:
        image, mask = pixels(item["image"]), pixels(item["label"])
        assert image.shape == (160, 80, 3)  # rows, columns
        # From row 10 on, every 22 rows: hair 9, face 19, upper clothes 29, lower clothes 39, legs 60, shoes 62; the
        # last two kinds of legs are one class.
        assert mask[[5, 20, 40, 60, 80, 100, 130, 150], 40].tolist() == [0, 1, 2, 3, 5, 5, 6, 0]
        assert mask[70, 15] == 4  # an arm
        # the made-up picture is twice the grey value and noise of 0 to 59 (30 on average), squeezed and stored as JPEG
        assert image[82:92, 30:50].mean() == pytest.approx(2 * 39 + 29.5, abs=4)
        assert image[60:72, 30:50].mean() == pytest.approx(2 * 29 + 29.5, abs=4)


@pytest.mark.parametrize("form", ["skeleton", "thick", "hull"])
def test_scribbles_are_the_skeletons_of_the_mask(ppss_tree: Path, tmp_path: Path, form: str) -> None:
    options: dict[str, Any] = {"skeleton": {}, "thick": {"thicken": True}, "hull": {"background": "hull"}}[form]
    for item in build_ppss_datalist(ppss_tree, tmp_path, form=form)["training"]:
        expected = skeleton_scribble(pixels(item["dense_label"]), 7, **options)
        np.testing.assert_array_equal(pixels(item["label"]), expected)
        assert set(np.unique(expected)) == set(range(8))


def test_pictures_pass_the_preprocessing(ppss_tree: Path, tmp_path: Path) -> None:
    items = build_ppss_datalist(ppss_tree, tmp_path)["training"]
    load = LoadImaged(["image", "label"], ensure_channel_first=True)
    orient = OrientSlicesd(["image", "label"], pixdim=[1.0, 1.0])
    dataset = SliceDataset(items, Compose([load, orient]), ignore_index=7)
    assert len(dataset) == 4
    batch = dataset.__getitems__([0, 1])
    assert tuple(batch["image"].shape) == (2, 3, 80, 160)  # a picture's width comes first, as in a volume
    assert tuple(batch["label"].shape) == (2, 1, 80, 160)
    np.testing.assert_array_equal(batch["label"][0, 0].numpy().T, pixels(items[0]["label"]))
    np.testing.assert_array_equal(batch["image"][0].numpy().transpose(2, 1, 0), pixels(items[0]["image"]))


def test_running_again_gives_the_same_files(ppss_tree: Path, tmp_path: Path) -> None:
    first = build_ppss_datalist(ppss_tree, tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert build_ppss_datalist(ppss_tree, tmp_path) == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert len({str(build_ppss_datalist(ppss_tree, tmp_path, seed=seed)["validation"]) for seed in range(6)}) > 1


def test_twin_folders_and_folders_of_cameras(own_tree: Path, ppss_tree: Path, tmp_path: Path) -> None:
    expected = build_ppss_datalist(ppss_tree, tmp_path / "one")
    for name in ("TrainData", "TestData"):
        for file in list((own_tree / name).iterdir()):
            camera, number = file.stem.removesuffix("_m").split("_")
            kind = "SegmentationMasks" if file.stem.endswith("_m") else "Images"
            (own_tree / name / kind / camera).mkdir(parents=True, exist_ok=True)
            file.rename(own_tree / name / kind / camera / f"{number}{file.suffix}")
    content = build_ppss_datalist(own_tree.parent, tmp_path / "two")  # the folder around them will do as well
    for section in SECTIONS:
        assert [item["case"] for item in content[section]] == [item["case"] for item in expected[section]]
        for one, two in zip(content[section], expected[section], strict=True):
            np.testing.assert_array_equal(pixels(one["label"]), pixels(two["label"]))


def test_a_mask_of_another_size_is_resampled(own_tree: Path, tmp_path: Path) -> None:
    expected = pixels(build_ppss_datalist(own_tree, tmp_path / "one")["test"][0]["label"])
    mask = own_tree / "TestData" / "101_0001_m.png"
    Image.open(mask).resize((160, 320), Image.Resampling.NEAREST).save(mask)
    np.testing.assert_array_equal(pixels(build_ppss_datalist(own_tree, tmp_path / "two")["test"][0]["label"]), expected)


def test_what_is_missing_is_named(own_tree: Path, tmp_path: Path) -> None:
    for name in ("1_0001", "3_0002"):
        (own_tree / "TrainData" / f"{name}_m.png").unlink()
    message = f"{own_tree}: lacks 2 masks (1_0001_m.png, 3_0002_m.png); restore them or remove their pictures"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_ppss_datalist(own_tree, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for file in (own_tree / "TestData").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"TestData: holds no pictures; restore its files$"):
        build_ppss_datalist(own_tree, tmp_path / "out")
    shutil.rmtree(own_tree / "TestData")
    with pytest.raises(
        UserError, match=r"has no folders TrainData and TestData; name the folder of the PPSS download$"
    ):
        build_ppss_datalist(own_tree, tmp_path / "out")


def test_faulty_pictures(own_tree: Path, tmp_path: Path) -> None:
    mask, image = (own_tree / "TestData" / f"101_0001{ending}" for ending in ("_m.png", ".jpg"))
    whole = mask.read_bytes()
    Image.fromarray(np.full((160, 80), 61, np.uint8)).save(mask)
    with pytest.raises(
        UserError, match=r"holds 12800 pixels of value 61; a mask has the values 0, 9, 19, 29, 50, 39, 60"
    ):
        build_ppss_datalist(own_tree, tmp_path / "out")
    mask.write_bytes(whole)
    image.write_bytes(image.read_bytes()[:300])
    with pytest.raises(UserError, match=rf"^{image}: cannot be read as a picture, it is cut short or damaged"):
        build_ppss_datalist(own_tree, tmp_path / "out")
    shutil.copy(own_tree / "TestData" / "102_0001.jpg", image)
    shutil.copy(image, image.with_suffix(".png"))
    with pytest.raises(UserError, match=r"1 pictures are there twice, first test_101_0001; keep one of each$"):
        build_ppss_datalist(own_tree, tmp_path / "out")
    image.with_suffix(".png").rename(image.with_name("somebody.png"))
    with pytest.raises(UserError, match=r"somebody\.png: has no number in its name that tells its camera"):
        build_ppss_datalist(own_tree, tmp_path / "out")


def test_wrong_form(ppss_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'^unknown form "x" of PPSS scribbles; choose one of skeleton, thick, hull$'):
        build_ppss_datalist(ppss_tree, tmp_path, form="x")
