"""Checks of image and label files: one fixture per mistake, with its exact line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from common.data.checks import check_items, inspect_item
from common.errors import UserError

SPACING = (1.5, 1.5, 10.0)
Item = dict[str, Any]


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> str:
    affine = np.diag([*SPACING, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(data, affine), path)
    return str(path)


def strokes() -> np.ndarray:
    """4 x 5 x 2 = 40 voxels, 4 classes: 4 voxels background, 2 of class 1, 1 of class 3, 33 not annotated."""
    label = np.full((4, 5, 2), 4, np.uint8)
    label[:, 0, 0] = 0
    label[:2, 1, 0] = 1
    label[3, 3, 1] = 3
    return label


@pytest.fixture
def item(tmp_path: Path) -> Item:
    rng = np.random.default_rng(0)
    image = save(tmp_path / "image.nii.gz", rng.integers(0, 900, (4, 5, 2)).astype(np.int16))
    return {"image": image, "label": save(tmp_path / "label.nii.gz", strokes()), "case": "toy"}


def dense(item: Item) -> Item:
    save(Path(item["label"]), strokes() % 4)
    return item


def message(item: Item, kind: str = "scribble") -> str:
    with pytest.raises(UserError) as caught:
        check_items([item], num_classes=4, kind=kind)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_is_found_in_good_scribbles(item: Item) -> None:
    found = inspect_item(item, num_classes=4, kind="scribble")
    voxels = np.random.default_rng(0).integers(0, 900, (4, 5, 2))
    assert found.pop("image_checksum") == zlib.crc32(voxels.astype(np.int16).tobytes(order="F"))
    assert [line.partition(": ")[2] for line in found.pop("warnings")] == [
        "has only 4 of class 0, 2 of class 1, 1 of class 3 (voxels); draw longer strokes, or remove a slip of the pen"
    ]
    assert found == {
        "shape": (4, 5, 2),
        "spacing": SPACING,
        "orientation": "RAS",
        "intensity_range": (voxels.min(), voxels.max()),
        "annotated_share": {0: 4 / 40, 1: 2 / 40, 2: 0.0, 3: 1 / 40},
        "problems": [],
    }
    check_items([item, item], num_classes=4, kind="scribble")


def test_good_items_of_the_other_kinds(item: Item) -> None:
    check_items([{"image": item["image"]}], num_classes=4, kind="image")
    dense(item)
    check_items([item], num_classes=4, kind="dense")
    check_items([{"label": item["label"]}], num_classes=4, kind="mask")
    assert inspect_item({"label": item["label"]}, num_classes=4, kind="mask")["spacing"] == SPACING


def test_as_many_names_as_classes(item: Item) -> None:
    check_items([item], num_classes=4, kind="scribble", class_names=["background", "a", "b", "c"])
    with pytest.raises(UserError, match=r"^--class_names: 3 names \(background, a, b\) where --num_classes is 4"):
        check_items([item], num_classes=4, kind="scribble", class_names=["background", "a", "b"])


def test_mixed_supervision(item: Item) -> None:
    dense(item)["supervision"] = "dense"
    check_items([item], num_classes=4, kind="scribble")
    save(Path(item["label"]), strokes())
    assert message(item).startswith(f"{item['label']}: holds 4 (not annotated) where a dense mask")
    item["supervision"] = "full"
    assert message(item) == f'{item["label"]}: "supervision" is \'full\'; write "scribble" or "dense"'


def test_unknown_kind(item: Item) -> None:
    with pytest.raises(
        ValueError, match=r"^kind must be one of scribble, dense, either, coarse, image, mask, got 'masks'$"
    ):
        check_items([item], num_classes=4, kind="masks")


def test_either_sort_of_label(item: Item) -> None:
    check_items([item], num_classes=4, kind="either")
    dense(item)
    check_items([item], num_classes=4, kind="either")
    assert message(item, "scribble").startswith(f"{item['label']}: a dense mask is given")
    save(Path(item["label"]), strokes() + 1)
    assert message(item, "either") == (
        f"{item['label']}: unknown label value 5; allowed are 0..3 and 4 (not annotated)"
    )


@pytest.fixture
def coarse(item: Item, tmp_path: Path) -> Item:
    """A positive drawing, 1 and 3 painted alone, and a negative one, which says "not 2" of two voxels."""
    positive, negative = strokes(), np.full((4, 5, 2), 4, np.uint8)
    positive[positive == 0] = 4
    negative[0, 2:4, 1] = 2
    save(Path(item["label"]), positive)
    return item | {"complement": save(tmp_path / "complement.nii.gz", negative)}


def test_coarse_drawings(coarse: Item) -> None:
    check_items([coarse], num_classes=4, kind="coarse")
    found = inspect_item(coarse, num_classes=4, kind="coarse")
    assert (found["shape"], found["spacing"], found["problems"]) == ((4, 5, 2), SPACING, [])
    assert found["annotated_share"] == {0: 0.0, 1: 2 / 40, 2: 0.0, 3: 1 / 40}  # of the positive drawing
    for key in ("label", "complement"):
        check_items([{name: coarse[name] for name in ("image", key)}], num_classes=4, kind="coarse")
    dense(coarse)["supervision"] = "dense"
    check_items([coarse], num_classes=4, kind="coarse")


@pytest.mark.parametrize("key", ["label", "complement"])
def test_faulty_coarse_drawings(coarse: Item, key: str) -> None:
    values = strokes()
    values[0, 0, 0] = 5
    save(Path(coarse[key]), values)
    expected = f"{coarse[key]}: unknown label value 5; allowed are 0..3 and 4 (not annotated)"
    assert message(coarse, "coarse") == expected
    save(Path(coarse[key]), strokes()[:3])
    expected = f"{coarse[key]}: shape (3, 5, 2) differs from the image's (4, 5, 2); save the label on the grid of "
    assert message(coarse, "coarse") == expected + coarse["image"]
    affine = np.diag([*SPACING, 1.0])
    affine[1, 3] = 2.0
    save(Path(coarse[key]), strokes(), affine)
    assert message(coarse, "coarse").startswith(f"{coarse[key]}: affine differs from the image's by 2.000 mm")
    save(Path(coarse[key]), strokes().astype(np.float32) / 2)
    assert message(coarse, "coarse").startswith(f"{coarse[key]}: label value 0.5 is no integer")
    Path(coarse[key]).unlink()
    assert message(coarse, "coarse") == f"{coarse[key]}: no such file; correct the path or restore the file"


def test_coarse_items_without_or_with_too_many_drawings(coarse: Item) -> None:
    bare = {key: coarse[key] for key in ("image", "case")}
    assert message(bare, "coarse") == 'toy: has no "label"; add the path of its file'
    several = coarse | {"label": [coarse["label"]] * 2}
    assert message(several, "coarse") == 'toy: lists 2 files as "label"; give the one of the positive drawing'


def test_every_annotator_is_checked(item: Item, tmp_path: Path) -> None:
    second = save(tmp_path / "second.nii.gz", strokes())
    several = {**item, "label": [item["label"], second]}
    found, alone = (inspect_item(given, num_classes=4, kind="scribble") for given in (several, item))
    assert [line.partition(": ")[0] for line in found.pop("warnings")] == several["label"]
    alone.pop("warnings")
    assert found == alone
    save(Path(second), strokes()[:3])
    assert message(several) == (
        f"{second}: shape (3, 5, 2) differs from the image's (4, 5, 2); save the label on the grid of {item['image']}"
    )


def test_channels_and_frames(item: Item) -> None:
    save(Path(item["image"]), np.zeros((4, 5, 2, 7), np.int16))
    check_items([item], num_classes=4, kind="scribble", in_channels=7)
    check_items([{**item, "frames": "all"}], num_classes=4, kind="image", in_channels=1)
    split = "give each frame a file, such as p01_frame01, or, only if the fourth axis is channels, set --in_channels 7"
    with pytest.raises(UserError) as caught:
        check_items([item], num_classes=4, kind="image", in_channels=1)
    assert str(caught.value) == f"{item['image']}: has 7 channels or frames where --in_channels is 1; {split}"
    # also where no number is told, as in tools check, since a training takes one channel by default
    assert message(item) == f"{item['image']}: has 7 channels or frames; {split}"
    check_items([{**item, "frames": "all"}], num_classes=4, kind="image")


def test_channels_that_are_no_frames(item: Item, tmp_path: Path) -> None:
    """Components of NRRD and colours of pictures are channels, whether or not their number is told."""
    vectors = SimpleITK.GetImageFromArray(np.zeros((2, 5, 4, 3), np.float32), isVector=True)
    SimpleITK.WriteImage(vectors, str(tmp_path / "image.nrrd"))
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "image.png")
    for name in ("image.nrrd", "image.png"):
        image = {"image": str(tmp_path / name)}
        for in_channels in (None, 3):
            check_items([image], num_classes=4, kind="image", in_channels=in_channels)
        with pytest.raises(UserError, match=r"has 3 channels or frames where --in_channels is 1; set --in_channels 3$"):
            check_items([image], num_classes=4, kind="image", in_channels=1)


def test_raw_values_of_another_program(item: Item) -> None:
    """Of 40 voxels 36 are 0, where nothing is painted, and one each is 1, 2, 3 and 4, the background's stroke."""
    voxels = np.zeros((4, 5, 2), np.uint8)
    voxels[:, 0, 0] = range(1, 5)
    save(Path(item["label"]), voxels)
    assert message(item) == (
        f"{item['label']}: 90% of the voxels are 0, drawn background, and few are 4, not annotated; if 0 is what was "
        "not painted, bring it to this project's values by `python -m tools import_labels`, else give its item "
        '"supervision": "scribble"'
    )
    check_items([item | {"supervision": "scribble"}], num_classes=4, kind="scribble")
    for kind in ("either", "coarse"):
        check_items([item], num_classes=4, kind=kind)
    save(Path(item["label"]), voxels[1:])  # on another grid, which is told alone
    assert len(inspect_item(item, num_classes=4, kind="scribble")["problems"]) == 1


def test_warnings_are_logged(item: Item, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "common.data.checks")
    check_items([item], num_classes=4, kind="scribble")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert caplog.messages[0].startswith(f"{item['label']}: has only 4 of class 0, ")
    caplog.clear()
    check_items([item] * 7, num_classes=4, kind="scribble")
    assert len(caplog.messages) == 6
    assert caplog.messages[-1] == "2 more such lines: `python -m tools check` tells all"


@pytest.mark.parametrize("key", ["image", "label"])
def test_axes_of_one_that_loading_keeps(item: Item, key: str) -> None:
    save(Path(item[key]), strokes()[..., None])
    check_items([item], num_classes=4, kind="scribble")
    save(Path(item[key]), strokes()[..., None, None])
    assert message(item) == (
        f"{item[key]}: its shape is (4, 5, 2, 1, 1); save a volume [X, Y, Z], or [X, Y, Z, T] of frames or channels"
    )


def test_an_image_without_voxels(item: Item) -> None:
    save(Path(item["image"]), np.zeros((4, 5, 0), np.int16))
    assert "image.nii.gz: has no voxels, its shape is (" in message(item, "image")


def missing_label(item: Item) -> str:
    Path(item["label"]).unlink()
    return f"{item['label']}: no such file; correct the path or restore the file"


def no_label_key(item: Item) -> str:
    del item["label"]
    return 'toy: has no "label"; add the path of its file'


def truncated_image(item: Item) -> str:
    path = Path(item["image"])
    path.write_bytes(path.read_bytes()[:-30])
    return f"{path}: cannot be read, it is cut short, damaged or no image; copy or export it again"


def truncated_plain_image(item: Item) -> str:
    item["image"] = save(Path(item["image"]).with_name("plain.nii"), np.zeros((4, 5, 2), np.int16))
    path = Path(item["image"])
    path.write_bytes(path.read_bytes()[:-30])
    return f"{path}: cannot be read, it is cut short, damaged or no image; copy or export it again"


def no_image_at_all(item: Item) -> str:
    Path(item["image"]).write_text("hello")
    return f"{item['image']}: cannot be read, it is cut short, damaged or no image; copy or export it again"


def no_png_at_all(item: Item) -> str:
    item["image"] = str(Path(item["image"]).with_name("image.png"))
    Path(item["image"]).write_text("hello")
    return f"{item['image']}: cannot be read, it is cut short, damaged or no image; copy or export it again"


def other_shape(item: Item) -> str:
    save(Path(item["label"]), strokes()[:, :, :1])
    return (
        f"{item['label']}: shape (4, 5, 1) differs from the image's (4, 5, 2); save the label on the grid of "
        f"{item['image']}"
    )


def shifted_label(item: Item) -> str:
    affine = np.diag([*SPACING, 1.0])
    affine[0, 3] = 0.25
    save(Path(item["label"]), strokes(), affine)
    return (
        f"{item['label']}: affine differs from the image's by 0.250 mm (tolerance 0.001 mm); save the label on the "
        f"grid of {item['image']}"
    )


def unknown_value(item: Item) -> str:
    label = strokes()
    label[0, 4, 1] = 7
    save(Path(item["label"]), label)
    return f"{item['label']}: unknown label value 7; allowed are 0..3 and 4 (not annotated)"


def negative_value(item: Item) -> str:
    label = strokes().astype(np.int16)
    label[0, 4, 1] = -1
    save(Path(item["label"]), label)
    return f"{item['label']}: unknown label value -1; allowed are 0..3 and 4 (not annotated)"


def fractional_value(item: Item) -> str:
    label = strokes().astype(np.float32)
    label[0, 4, 1] = 1.5
    save(Path(item["label"]), label)
    return f"{item['label']}: label value 1.5 is no integer; resample labels with nearest neighbour"


def nan_value(item: Item) -> str:
    label = strokes().astype(np.float32)
    label[0, 4, 1] = np.nan
    save(Path(item["label"]), label)
    return f"{item['label']}: label value nan is no integer; resample labels with nearest neighbour"


def dense_mask(item: Item) -> str:
    dense(item)
    return (
        f"{item['label']}: a dense mask is given where scribbles are expected, no voxel is 4 (not annotated); give its "
        'item "supervision": "dense" or list it under "unpaired_masks", or write unannotated voxels as 4'
    )


def no_background(item: Item) -> str:
    label = strokes()
    label[label == 0] = 4
    save(Path(item["label"]), label)
    return f"{item['label']}: has no background scribble (value 0); draw at least one stroke on the background"


def nan_in_the_image(item: Item) -> str:
    image = np.zeros((4, 5, 2), np.float32)
    image[0, 0, 0], image[1, 1, 1] = np.nan, -np.inf
    save(Path(item["image"]), image)
    return f"{item['image']}: holds 2 NaN or infinite voxels; replace them by numbers"


@pytest.mark.parametrize(
    "spoil",
    [
        missing_label,
        no_label_key,
        truncated_image,
        truncated_plain_image,
        no_image_at_all,
        no_png_at_all,
        other_shape,
        shifted_label,
        unknown_value,
        negative_value,
        fractional_value,
        nan_value,
        dense_mask,
        no_background,
        nan_in_the_image,
    ],
    ids=lambda function: function.__name__,
)
def test_mistakes_are_told_in_one_exact_line(item: Item, spoil: Callable[[Item], str]) -> None:
    expected = spoil(item)
    assert message(item) == expected


@pytest.mark.parametrize("kind", ["dense", "mask"])
def test_scribbles_where_a_dense_mask_is_expected(item: Item, kind: str) -> None:
    assert message(item, kind) == (
        f"{item['label']}: holds 4 (not annotated) where a dense mask with 0..3 is expected; list scribbles under "
        '"training"'
    )


def test_unknown_value_in_a_dense_mask(item: Item) -> None:
    save(Path(item["label"]), strokes() + 4)
    assert message(item, "dense") == f"{item['label']}: unknown label value 5; allowed are 0..3"


def test_the_first_faulty_item_is_told(item: Item, tmp_path: Path) -> None:
    faulty = item | {"label": str(tmp_path / "no.nii.gz")}
    with pytest.raises(UserError, match=r"no\.nii\.gz: no such file"):
        check_items([item, faulty], num_classes=4, kind="scribble")


def test_all_problems_of_an_item_are_listed(item: Item) -> None:
    nan_in_the_image(item)
    shifted_label(item)
    found = inspect_item(item, num_classes=5, kind="scribble")["problems"]  # 4 is a class now: nothing left unannotated
    assert [line.rpartition(":")[2].split()[0] for line in found][:2] == ["holds", "affine"]
    assert len(found) == 3


def test_affines_within_the_tolerance(item: Item) -> None:
    affine = np.diag([*SPACING, 1.0])
    affine[0, 3] = 0.0009
    save(Path(item["label"]), strokes(), affine)
    check_items([item], num_classes=4, kind="scribble")


def test_trailing_axes_of_one_and_frames(item: Item, tmp_path: Path) -> None:
    save(Path(item["label"]), strokes()[..., None])
    check_items([item], num_classes=4, kind="scribble")
    cine = save(tmp_path / "cine.nii.gz", np.zeros((4, 5, 2, 6), np.int16))
    found = inspect_item({"image": cine, "frames": "all"}, num_classes=4, kind="image")
    assert (found["shape"], found["spacing"], found["problems"]) == ((4, 5, 2), SPACING, [])


def test_colour_pictures_with_grey_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).save(tmp_path / "image.png")
    Image.fromarray((np.arange(48) % 3).astype(np.uint8).reshape(6, 8)).save(tmp_path / "label.png")
    item = {"image": str(tmp_path / "image.png"), "label": str(tmp_path / "label.png")}
    found = inspect_item(item, num_classes=2, kind="scribble")  # 16 pixels of each value; 2 is not annotated
    assert found["problems"] == []
    assert found["shape"] == (8, 6)
    assert found["annotated_share"] == {0: 16 / 48, 1: 16 / 48}
    assert message(item | {"label": item["image"]}).startswith(
        f"{item['image']}: shape (8, 6, 3) differs from the image's (8, 6)"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["mask", "dense", "scribble"])
def test_labels_that_lie_nowhere(item: Item, kind: str, value: float) -> None:
    path = Path(save(Path(item["label"]), strokes() if kind == "scribble" else strokes() % 4))
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw[:312] + np.full(4, value, "<f4").tobytes() + raw[328:]))  # srow_z
    if kind == "mask":
        expected = "its affine does not say where the voxels lie, it is singular; correct the header"
        assert message({"label": item["label"]}, kind) == f"{item['label']}: {expected}"
    else:
        assert message(item, kind).startswith(f"{item['label']}: affine differs from the image's by ")
