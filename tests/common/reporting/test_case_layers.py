"""The voxels of a case as a report shows them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.reporting.case_layers import load_layers

# columns run to the left and rows to the back, so nothing is turned; pixels of 1.5 x 2 mm
LPS = np.diag([-1.5, -2.0, 8.0, 1.0])


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = LPS) -> str:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return str(path)


def volumes() -> tuple[np.ndarray, np.ndarray]:
    shape = (40, 30, 5)
    image = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    label[10:16, 12:20, 2:4] = 1
    label[30, 25, 3] = 2
    return image, label


def test_slices_come_first_rows_next_and_the_view_is_cropped(tmp_path: Path) -> None:
    image, label = volumes()
    files = {"reference": [save(tmp_path / "l.nii.gz", label)]}
    found = load_layers(save(tmp_path / "i.nii.gz", image), files, num_classes=3)
    # columns 10..30, 21 wide, and 12 % of it on each side: 21 * 1.24 = 26.04, so 2.52 -> 3 more; rows 12..25, 14 high,
    # 14 * 1.24 = 17.36, so 1.68 -> 2 more
    assert found.image.shape == (5, 18, 27)
    np.testing.assert_array_equal(found.labels["reference"], label.transpose(2, 1, 0)[:, 10:28, 7:34])
    low, high = np.percentile(image[7:34, 10:28], (1, 99))
    expected = 255 * np.clip((image.transpose(2, 1, 0)[:, 10:28, 7:34] - low) / (high - low), 0, 1)
    assert np.abs(found.image - expected).max() <= 0.5 + 1e-3
    assert (list(found.numbers), found.total, found.start) == ([1, 2, 3, 4, 5], 5, 3)  # the fourth has a voxel more
    assert found.pixel_mm == pytest.approx((2.0, 1.5))


def test_view_is_never_cropped_to_a_keyhole(tmp_path: Path) -> None:
    image, _ = volumes()
    label = np.zeros(image.shape, np.uint8)
    label[20, 15, 2] = 1
    files = {"reference": [save(tmp_path / "l.nii.gz", label)]}
    height, width = load_layers(save(tmp_path / "i.nii.gz", image), files, num_classes=2).image.shape[1:]
    assert height >= 0.35 * 30
    assert width >= 0.35 * 40


def test_any_orientation_looks_the_same(tmp_path: Path) -> None:
    image, label = volumes()
    upright = load_layers(
        save(tmp_path / "i.nii.gz", image), {"reference": [save(tmp_path / "l.nii.gz", label)]}, num_classes=3
    )
    turned = np.array([[0, 0, 1.5, 0], [2.0, 0, 0, 0], [0, 8.0, 0, 0], [0, 0, 0, 1]])
    # stored as [back to front, slices, left to right]: rows and columns swapped and flipped
    swap = [np.ascontiguousarray(each.transpose(1, 2, 0)[::-1, :, ::-1]) for each in (image, label)]
    files = {"reference": [save(tmp_path / "tl.nii.gz", swap[1], turned)]}
    other = load_layers(save(tmp_path / "ti.nii.gz", swap[0], turned), files, num_classes=3)
    np.testing.assert_array_equal(other.image, upright.image)
    np.testing.assert_array_equal(other.labels["reference"], upright.labels["reference"])


def test_annotators_complete_each_other_and_odd_values_are_no_annotation(tmp_path: Path) -> None:
    image = np.zeros((16, 16, 2), np.float32)
    first, second = np.full((2, 16, 16, 2), 2, np.uint8)
    first[4, 4, 0], first[5, 5, 0] = 0, 255
    second[4, 4, 0], second[6, 6, 0] = 1, 1
    files = {"annotation": [save(tmp_path / "a.nii.gz", first), save(tmp_path / "b.nii.gz", second)]}
    found = load_layers(save(tmp_path / "i.nii.gz", image), files, num_classes=2).labels["annotation"]
    # 0 of the first annotator stands; what is left is one voxel of class 1
    assert np.bincount(found.ravel(), minlength=3).tolist()[:2] == [1, 1]
    assert found.max() == 2


def test_of_many_slices_even_steps_through_the_anatomy_are_shown(tmp_path: Path) -> None:
    image, label = np.zeros((8, 8, 60), np.float32), np.zeros((8, 8, 60), np.uint8)
    label[2:6, 2:6, 20:41] = 1
    affine = np.diag([-1.0, -1.0, 5.0, 1.0])
    files = {"prediction-0": [save(tmp_path / "l.nii.gz", label, affine)]}
    found = load_layers(save(tmp_path / "i.nii.gz", image, affine), files, num_classes=2, most_slices=5)
    assert list(found.numbers) == [21, 26, 31, 36, 41]
    assert found.total == 60


def test_pictures_keep_their_colours(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "i.png")
    label = np.zeros((12, 20), np.uint8)
    label[0, 0] = label[11, 19] = 1
    Image.fromarray(label).save(tmp_path / "l.png")
    found = load_layers(str(tmp_path / "i.png"), {"reference": [str(tmp_path / "l.png")]}, num_classes=2)
    np.testing.assert_array_equal(found.image, pixels[None])
    np.testing.assert_array_equal(found.labels["reference"], label[None])


def test_images_of_nan_and_of_one_value_are_drawn(tmp_path: Path) -> None:
    for value in (np.nan, 7.0):
        image = np.full((8, 8, 2), value, np.float32)
        assert load_layers(save(tmp_path / "i.nii.gz", image), {}, num_classes=2).image.max() == 0


@pytest.mark.parametrize("fault", ["shape", "affine", "missing", "channels"])
def test_files_that_do_not_belong_together_are_named(tmp_path: Path, fault: str) -> None:
    image, label = volumes()
    path = tmp_path / "l.nii.gz"
    if fault == "shape":
        save(path, label[:-1])
    elif fault == "affine":
        save(path, label, LPS + np.eye(4) * [0.5, 0, 0, 0])
    elif fault == "channels":
        save(path, np.stack([label, label], axis=-1))
    with pytest.raises(UserError, match=r"l\.nii\.gz"):
        load_layers(save(tmp_path / "i.nii.gz", image), {"reference": [str(path)]}, num_classes=3)


@pytest.mark.parametrize("name", ["i.nii.gz", "l.nii.gz"])
def test_a_file_damaged_in_the_middle_is_named(tmp_path: Path, name: str) -> None:
    image, label = volumes()
    files = [save(tmp_path / "i.nii.gz", image), save(tmp_path / "l.nii.gz", label)]
    stored = bytearray(gzip.compress(gzip.decompress((tmp_path / name).read_bytes()), 0))  # as it is, in a gzip file
    stored[len(stored) // 2] ^= 1  # another voxel, which the reader gives without a word
    (tmp_path / name).write_bytes(stored)
    with pytest.raises(UserError, match=rf"{name}: is damaged or cut short; copy or export it again"):
        load_layers(files[0], {"reference": files[1:]}, num_classes=3)


def test_an_image_without_voxels_is_told(tmp_path: Path) -> None:
    for name, shape in (("a.nii.gz", (4, 5, 0)), ("b.nii.gz", (4, 5, 0, 2))):
        with pytest.raises(UserError, match=rf"{name}: has the shape .*; a report shows slices and volumes of them"):
            load_layers(save(tmp_path / name, np.zeros(shape, np.float32)), {}, num_classes=3)
