"""Cityscapes: masks, drawings and datalist built from the official layout."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.checks import check_items
from common.data.cityscapes import CLASS_NAMES, build_cityscapes_datalist
from common.data.datalist import load_datalist, write_datalist
from common.errors import UserError

SHAPE = (6, 34)
"""Rows and columns of the made-up pictures."""

TRAIN_IDS = [*[19] * 7, 0, 1, 19, 19, 2, 3, 4, 19, 19, 19, 5, 19, *range(6, 16), 19, 19, 16, 17, 18]
"""The classes of the label numbers 0 to 33 as the owners define them, 19 for none."""


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def masks() -> tuple[np.ndarray, np.ndarray]:
    """A fine mask with a column for each label number, and coarse polygons that leave out the last three rows."""
    fine = np.tile(np.arange(34, dtype=np.uint8), (SHAPE[0], 1))
    coarse = fine.copy()
    coarse[3:] = 0
    return fine, coarse


def write_picture(
    root: Path, part: str, city: str, number: int, kinds: tuple[str, ...] = ("gtFine", "gtCoarse")
) -> None:
    stem = f"{city}_{number:06d}_000019"
    files = {
        "leftImg8bit": ("leftImg8bit", np.random.default_rng(number).integers(0, 255, (*SHAPE, 3), dtype=np.uint8))
    }
    files |= {kind: (f"{kind}_labelIds", mask) for kind, mask in zip(("gtFine", "gtCoarse"), masks(), strict=True)}
    for kind, (ending, values) in files.items():
        if kind == "leftImg8bit" or kind in kinds:
            (root / kind / part / city).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / kind / part / city / f"{stem}_{ending}.png")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three pictures of Aachen, two of Bochum, one of Zürich; three of two validation cities, without polygons."""
    root = tmp_path / "cityscapes"
    for city, count in (("aachen", 3), ("bochum", 2), ("zurich", 1)):
        for number in range(count):
            write_picture(root, "train", city, number)
    for city, count in (("lindau", 2), ("munster", 1)):
        for number in range(count):
            write_picture(root, "val", city, number, ("gtFine",))
    return root


def counts(content: dict[str, list[dict[str, str]]]) -> list[int]:
    return [len(content[section]) for section in ("training", "unpaired_masks", "unlabelled", "validation", "test")]


def test_the_datalist(tree: Path, tmp_path: Path) -> None:
    content = build_cityscapes_datalist(tree, tmp_path / "out")
    assert (content["name"], content["num_classes"], content["class_names"]) == ("cityscapes", 19, list(CLASS_NAMES))
    assert counts(content) == [3, 0, 0, 2, 3]
    assert content["training"][1] == {
        "image": str(tree / "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png"),
        "case": "aachen_000001_000019",
        "patient": "aachen_000001_000019",
        "label": str(tmp_path / "out/masks/aachen_000001_000019.png"),
        "supervision": "dense",
    }
    assert [item["case"][:6] for item in content["validation"] + content["test"]] == [
        *["bochum"] * 2,
        *["lindau"] * 2,
        "munste",
    ]
    assert not any("supervision" in item for item in content["validation"] + content["test"])
    assert len(list((tmp_path / "out").rglob("*.png"))) == 8
    for section in ("training", "validation", "test"):
        check_items(content[section], num_classes=19, kind="either", in_channels=3)
    write_datalist(tmp_path / "out" / "datalist.json", content)
    assert len(load_datalist(tmp_path / "out" / "datalist.json", "training")) == 3


def test_label_numbers_become_classes(tree: Path, tmp_path: Path) -> None:
    content = build_cityscapes_datalist(tree, tmp_path / "out")
    for section in ("training", "validation", "test"):
        mask = pixels(content[section][0]["label"])
        assert (mask.shape, mask.dtype) == (SHAPE, np.uint8)
        np.testing.assert_array_equal(mask, np.tile(TRAIN_IDS, (SHAPE[0], 1)))
    shown = {number: CLASS_NAMES[TRAIN_IDS[number]] for number in (7, 11, 17, 19, 21, 23, 24, 26, 33)}
    assert shown == {
        7: "road",
        11: "building",
        17: "pole",
        19: "traffic light",
        21: "vegetation",
        23: "sky",
        24: "person",
        26: "car",
        33: "bicycle",
    }


def test_polygons(tree: Path, tmp_path: Path) -> None:
    (tree / "gtFine/train/aachen/aachen_000002_000019_gtFine_labelIds.png").unlink()
    content = build_cityscapes_datalist(tree, tmp_path / "out", form="polygons")
    assert counts(content) == [3, 0, 0, 2, 3]
    first, _, last = content["training"]
    assert first["label"] == str(tmp_path / "out/drawings/aachen_000000_000019.png")
    assert first["dense_label"] == str(tmp_path / "out/masks/aachen_000000_000019.png")
    assert "dense_label" not in last  # fine masks are extra here
    assert not any("supervision" in item for item in content["training"])
    drawn, fine = pixels(first["label"]), pixels(first["dense_label"])
    np.testing.assert_array_equal(drawn[:3], fine[:3])
    assert (drawn[3:] == 19).all()
    np.testing.assert_array_equal(fine, np.tile(TRAIN_IDS, (SHAPE[0], 1)))
    assert len(list((tmp_path / "out" / "drawings").iterdir())) == 3
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 2 + 2 + 3
    write_datalist(tmp_path / "out" / "datalist.json", content)
    assert len(load_datalist(tmp_path / "out" / "datalist.json", "training")) == 3


def test_all_cities(tree: Path, tmp_path: Path) -> None:
    content = build_cityscapes_datalist(tree, tmp_path / "out", split="all")
    assert counts(content) == [4, 0, 0, 2, 3]
    assert {item["case"].partition("_")[0] for item in content["training"]} == {"aachen", "zurich"}


def test_running_again_gives_the_same_files(tree: Path, tmp_path: Path) -> None:
    first = build_cityscapes_datalist(tree, tmp_path / "out", form="polygons")
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert build_cityscapes_datalist(tree, tmp_path / "out", form="polygons") == first
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == files


@pytest.mark.parametrize("form", ["simulated", "polygons"])
def test_missing_partners_are_named(tree: Path, tmp_path: Path, form: str) -> None:
    kind = {"simulated": "gtFine", "polygons": "gtCoarse"}[form]
    missing = [f"aachen_00000{number}_000019_{kind}_labelIds.png" for number in (0, 2)]
    for name in missing:
        (tree / kind / "train" / "aachen" / name).unlink()
    word = {"simulated": "fine", "polygons": "coarse"}[form]
    message = f"{tree}: lacks 2 {word} masks ({', '.join(missing)}); restore them"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_cityscapes_datalist(tree, tmp_path / "out", form=form)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["simulated", "polygons"])
def test_held_out_pictures_need_fine_masks(tree: Path, tmp_path: Path, form: str) -> None:
    (tree / "gtFine/val/munster/munster_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"lacks 1 fine masks \(munster_000000_000019_gtFine_labelIds\.png\)"):
        build_cityscapes_datalist(tree, tmp_path / "out", form=form)


def test_an_unknown_number(tree: Path, tmp_path: Path) -> None:
    label = tree / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    values = masks()[0]
    values[0, :2] = 255
    Image.fromarray(values).save(label)
    with pytest.raises(UserError, match=rf"^{re.escape(str(label))}: holds 2 pixels of value 255; a mask has the"):
        build_cityscapes_datalist(tree, tmp_path / "out")


def test_a_mask_of_another_size(tree: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 33), np.uint8)).save(
        tree / "gtCoarse/train/aachen/aachen_000000_000019_gtCoarse_labelIds.png"
    )
    with pytest.raises(UserError, match=r"drawings/aachen_000000_000019\.png: shape \(33, 6\) differs"):
        build_cityscapes_datalist(tree, tmp_path / "out", form="polygons")


def test_missing_cities(tree: Path, tmp_path: Path) -> None:
    images = tree / "leftImg8bit"
    shutil.rmtree(images / "train" / "aachen")
    message = f"{images / 'train' / 'aachen'}: holds no *_leftImg8bit.png; restore the city's pictures"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_cityscapes_datalist(tree, tmp_path / "out")
    shutil.rmtree(images / "train" / "zurich")
    with pytest.raises(UserError, match=r"train: has no cities for the section training; restore the folder$"):
        build_cityscapes_datalist(tree, tmp_path / "out", split="all")
    shutil.rmtree(images / "val")
    write_picture(tree, "train", "aachen", 0)
    with pytest.raises(UserError, match=r"val: has no cities for the section test; restore the folder$"):
        build_cityscapes_datalist(tree, tmp_path / "out")
    write_picture(tree, "val", "lindau", 0)
    shutil.rmtree(images / "train" / "bochum")
    with pytest.raises(UserError, match=r"bochum: holds no \*_leftImg8bit\.png; restore the city's pictures$"):
        build_cityscapes_datalist(tree, tmp_path / "out")
    with pytest.raises(
        UserError, match=r"has no leftImg8bit/train/<city>; name the folder of the Cityscapes download$"
    ):
        build_cityscapes_datalist(images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "x"}, 'unknown Cityscapes split "x"; choose one of aachen, all'),
        ({"form": "x"}, 'unknown form of Cityscapes drawings "x"; choose one of simulated, polygons'),
    ],
)
def test_options_that_do_not_fit(options: dict[str, str], message: str, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_cityscapes_datalist(tree, tmp_path / "out", **options)


def test_real_cityscapes(data_root: Path, tmp_path: Path) -> None:
    if not (data_root / "cityscapes").is_dir():
        pytest.skip("SCRIBBLE_DATA_ROOT has no cityscapes: this test reads real data")
    content = build_cityscapes_datalist(data_root / "cityscapes", tmp_path)
    assert counts(content) == [174, 0, 0, 96, 500]
    assert pixels(content["training"][0]["label"]).shape == (1024, 2048)
