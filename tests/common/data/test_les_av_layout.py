"""LES-AV: masks and datalist built from the official layout."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.checks import check_items
from common.data.les_av import _SPLIT_FILE, build_les_av_datalist
from common.errors import UserError

SPLIT = json.loads(_SPLIT_FILE.read_text(encoding="utf-8"))
IDS = [str(number) for number in SPLIT["training"] + SPLIT["validation"]]
SHAPE = (20, 30)
"""Rows and columns of the made-up photographs."""

COLOURS = {1: (255, 0, 0), 2: (0, 0, 255), 3: (0, 255, 0), 4: (255, 255, 255)}


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def vessels() -> np.ndarray:
    """Arteries, veins, crossings and uncertain pixels, one row of each from row 4 on."""
    values = np.zeros(SHAPE, np.uint8)
    for number in COLOURS:
        values[3 + number, 2:25] = number
    return values


def write_photograph(root: Path, name: str, label: np.ndarray) -> None:
    for folder in ("images", "av_labels", "fov"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(int(name)).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(colours).save(root / "images" / f"{name}.png")
    Image.fromarray(label).save(root / "av_labels" / f"{name}.png")
    field = np.full(SHAPE, 255, np.uint8)
    field[:, 20:] = 0
    Image.fromarray(field).save(root / "fov" / f"{name}.gif")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs of the split and two others, labels as numbers; only to be read."""
    root = tmp_path_factory.mktemp("les_av")
    for name in [*IDS, "7", "1000"]:
        write_photograph(root, name, vessels())
    return root


@pytest.fixture
def own_tree(tree: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tree, tmp_path / "tree"))


def test_the_committed_split() -> None:
    assert (len(SPLIT["training"]), len(SPLIT["validation"]), len(set(IDS))) == (14, 4, 18)
    order = np.random.default_rng(0).permutation(sorted(int(name) for name in IDS)).tolist()
    assert SPLIT["training"] == sorted(order[:14])
    assert SPLIT["validation"] == sorted(order[14:])


def test_the_datalist(tree: Path, tmp_path: Path) -> None:
    content = build_les_av_datalist(tree, tmp_path)
    assert (content["name"], content["num_classes"], content["class_names"]) == ("les_av", 2, ["background", "vessel"])
    assert [item["case"] for item in content["training"] + content["validation"]] == IDS
    assert [item["case"] for item in content["test"]] == ["7", "1000"]
    assert content["test"][0] == {
        "image": str(tree / "images" / "7.png"),
        "label": str(tmp_path / "masks" / "7.png"),
        "case": "7",
        "patient": "7",
    }
    assert {item.get("supervision") for item in content["training"]} == {"dense"}
    assert not any("supervision" in item for item in content["validation"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks"]
    assert len(list((tmp_path / "masks").iterdir())) == 20
    for section in ("training", "validation", "test"):
        check_items(content[section], num_classes=2, kind="either", in_channels=3)


def test_masks(tree: Path, tmp_path: Path) -> None:
    mask = pixels(build_les_av_datalist(tree, tmp_path)["test"][0]["label"])
    assert (mask.shape, mask.dtype) == (SHAPE, np.uint8)
    assert (mask[:, 20:] == 2).all()  # outside the field of view
    assert mask[:, 10].tolist() == [0] * 4 + [1] * 4 + [0] * 12
    assert mask[4, :].tolist() == [0] * 2 + [1] * 18 + [2] * 10


@pytest.mark.parametrize("kind", ["colours", "palette", "transparent"])
def test_labels_as_colours(own_tree: Path, tmp_path: Path, kind: str) -> None:
    expected = pixels(build_les_av_datalist(own_tree, tmp_path / "one")["test"][0]["label"])
    colours = np.zeros((*SHAPE, 3), np.uint8)
    for number, colour in COLOURS.items():
        colours[vessels() == number] = colour
    picture = Image.fromarray(colours)
    picture = {"colours": picture, "palette": picture.quantize(8), "transparent": picture.convert("RGBA")}[kind]
    picture.save(own_tree / "av_labels" / "7.png")
    mask = pixels(build_les_av_datalist(own_tree, tmp_path / "two")["test"][0]["label"])
    np.testing.assert_array_equal(mask, expected)


def test_running_again_gives_the_same_files(tree: Path, tmp_path: Path) -> None:
    first = build_les_av_datalist(tree, tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert build_les_av_datalist(tree, tmp_path) == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == files


def test_what_is_missing_is_named(own_tree: Path, tmp_path: Path) -> None:
    (own_tree / "fov" / "7.gif").unlink()
    (own_tree / "av_labels" / f"{IDS[2]}.png").unlink()
    with pytest.raises(UserError, match=rf"lacks 1 labels \(av_labels/{IDS[2]}\.png\); restore these files$"):
        build_les_av_datalist(own_tree, tmp_path / "out")
    for name in (IDS[2], IDS[17]):
        (own_tree / "images" / f"{name}.png").unlink()
    message = f"{own_tree}: lacks 2 images (images/{IDS[2]}.png, images/{IDS[17]}.png); restore these files"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_les_av_datalist(own_tree, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for name in (IDS[2], IDS[17]):
        write_photograph(own_tree, name, vessels())
    with pytest.raises(UserError, match=r"lacks 1 fields of view \(fov/7\.gif\); restore these files$"):
        build_les_av_datalist(own_tree, tmp_path / "out")
    with pytest.raises(UserError, match=r"has no images/<id>\.png; name the folder of the LES-AV download$"):
        build_les_av_datalist(own_tree / "images", tmp_path / "out")


def test_faulty_pictures(own_tree: Path, tmp_path: Path) -> None:
    label, field = own_tree / "av_labels" / "7.png", own_tree / "fov" / "7.gif"
    whole = field.read_bytes()
    Image.fromarray(np.zeros((20, 29), np.uint8)).save(field)
    message = f"{field}: has 29 x 20 pixels where 30 x 20 pixels are in {label}; copy both again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build_les_av_datalist(own_tree, tmp_path / "out")
    field.write_bytes(whole)
    Image.fromarray(np.zeros((*SHAPE[::-1], 3), np.uint8)).save(own_tree / "images" / "7.png")
    with pytest.raises(UserError, match=r"7\.png: shape \(30, 20\) differs from the image's \(20, 30\)"):
        build_les_av_datalist(own_tree, tmp_path / "out")
    label.write_bytes(label.read_bytes()[:50])
    with pytest.raises(UserError, match=rf"^{re.escape(str(label))}: cannot be read as a picture, it is cut short"):
        build_les_av_datalist(own_tree, tmp_path / "out")


def test_real_les_av(data_root: Path, tmp_path: Path) -> None:
    content = build_les_av_datalist(data_root / "les_av", tmp_path)
    found = len(list((data_root / "les_av" / "images").glob("*.png")))
    assert [len(content[section]) for section in ("training", "validation", "test")] == [14, 4, found - 18]
    for item in content["validation"]:
        mask = pixels(item["label"])
        assert pixels(item["image"]).shape == (*mask.shape, 3)
        values, counts = np.unique(mask, return_counts=True)
        assert values.tolist() == [0, 1, 2]
        assert counts[2] / mask.size == pytest.approx(0.3, abs=0.01)  # the corners around a disc
        assert 0.04 < counts[1] / (counts[0] + counts[1]) < 0.15
