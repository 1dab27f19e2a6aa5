"""From file to file: what the network saw as slices comes back on the input's own grid."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, decollate_batch
from PIL import Image
from scipy.spatial.transform import Rotation

PIXDIM = [1.51, 1.51]
DATA_ROOT = os.environ.get("SCRIBBLE_DATA_ROOT")

ORIENT = "common.transforms.orient_slices.OrientSlicesd"
INFERENCE: dict[str, Any] = {
    "pixdim": PIXDIM,
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True, "image_only": True},
            {"_target_": ORIENT, "keys": "image", "pixdim": "@pixdim"},
            {
                "_target_": "common.transforms.spacing.SpacingOfKeysd",
                "keys": "image",
                "pixdim": "$[*@pixdim, -1]",
                "mode": "bilinear",
            },
        ],
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "post_func": {"_target_": "AsDiscrete", "argmax": True},
            },
            {
                "_target_": "common.transforms.save_segmentation.SaveSegmentationd",
                "keys": "pred",
                "output_dir": "@output_dir",
                "data_root_dir": "@dataset_dir",
            },
        ],
    },
}
TRAINING: dict[str, Any] = {
    "pixdim": PIXDIM,
    "roi_size": [48, 48],
    "num_classes": 4,
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": ["image", "label"], "ensure_channel_first": True, "image_only": True},
            {"_target_": ORIENT, "keys": ["image", "label"], "pixdim": "@pixdim"},
            {
                "_target_": "common.transforms.spacing.SpacingOfKeysd",
                "keys": ["image", "label"],
                "pixdim": "$[*@pixdim, -1]",
                "mode": ["bilinear", "nearest"],
            },
            {"_target_": "ClipIntensityPercentilesd", "keys": "image", "lower": None, "upper": 99},
            {"_target_": "common.transforms.normalise.NormalizeIntensitiesd", "keys": "image"},
            {
                "_target_": "ResizeWithPadOrCropd",
                "keys": "image",
                "spatial_size": "$[*@roi_size, -1]",
                "mode": "edge",
            },
            {
                "_target_": "ResizeWithPadOrCropd",
                "keys": "label",
                "spatial_size": "$[*@roi_size, -1]",
                "mode": "constant",
                "value": "@num_classes",
            },
        ],
    },
}


def grid(codes: str, spacing: tuple[float, float, float], angles: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """An affine whose axes run towards ``codes`` with ``spacing`` in mm in that order, turned by ``angles`` degrees."""
    affine = np.linalg.inv(nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), (1, 1, 1)))
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ affine[:3, :3] @ np.diag(spacing)
    affine[:3, 3] = [-40.3, 17.9, 60.1]
    return affine.astype(np.float32).astype(np.float64)


def blobs(size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A smooth image that falls from 3.5 at the centre to 0, and its labels: three nested ellipsoids, values 0 to 3."""
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in size), indexing="ij"))
    image = np.clip(3.5 - 3.75 * np.sqrt((place**2).sum(0)), 0, 3.4).astype(np.float32)
    return image, np.rint(image).astype(np.int16)


def run(folder: Path, batch_size: int = 1, num_workers: int = 0, argmax_first: bool = False) -> dict[str, Path]:
    """Send every image of ``folder/in`` through the inference pipeline with a network that reads the class off it."""
    config = copy.deepcopy(INFERENCE) | {"dataset_dir": str(folder / "in"), "output_dir": str(folder / "out")}
    if argmax_first:
        invert, save = config["postprocessing"]["transforms"]
        discrete = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
        invert |= {"nearest_interp": True, "post_func": None}
        config["postprocessing"]["transforms"] = [discrete, invert, save]
    parser = ConfigParser(config)
    preprocessing = parser.get_parsed_content("preprocessing")
    postprocessing = parser.get_parsed_content("postprocessing")
    items = [{"image": str(path)} for path in sorted((folder / "in").rglob("*.*")) if path.suffix != ".raw"]
    loader = DataLoader(Dataset(items, preprocessing), batch_size=batch_size, num_workers=num_workers)
    for batch in loader:
        batch["pred"] = torch.cat([-(batch["image"][:, :1] - value).abs() for value in range(4)], dim=1)
        for item in decollate_batch(batch):
            postprocessing(item)
    return {path.name: path for path in (folder / "out").rglob("*.*")}


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """The smallest Dice of the classes of ``second``."""
    scores = []
    for value in np.unique(second)[1:]:
        a, b = first == value, second == value
        scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return float(min(scores))


GRIDS = {
    "ras": (grid("RAS", (1.2, 1.2, 8.0)), (64, 60, 9)),
    "lps": (grid("LPS", (0.8, 0.8, 5.0)), (96, 96, 6)),
    "pir": (grid("PIR", (1.3, 1.3, 7.0)), (70, 70, 8)),
    "sar": (grid("SAR", (9.0, 1.1, 1.1)), (7, 65, 80)),
    "isotropic": (grid("LSA", (1.2, 1.2, 1.2)), (61, 63, 40)),
    "oblique": (grid("LPS", (1.25, 1.25, 10.0), (35, -20, 50)), (63, 65, 7)),
    "odd": (grid("PSR", (1.37, 1.37, 6.0), (10, 5, -30)), (63, 65, 7)),
    "one_slice": (grid("LPS", (1.2, 1.2, 8.0), (20, 0, 10)), (64, 71, 1)),
    "coarse": (grid("RAS", (1.9, 1.9, 8.0)), (90, 90, 5)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_nifti_comes_back_on_its_grid(tmp_path: Path, name: str) -> None:
    affine, size = GRIDS[name]
    image, labels = blobs(size)
    (tmp_path / "in/deep").mkdir(parents=True)
    nib.save(nib.Nifti1Image(image, affine), tmp_path / f"in/deep/{name}.nii.gz")
    saved = nib.load(run(tmp_path)[f"{name}_seg.nii.gz"])
    assert saved.shape == size
    np.testing.assert_array_equal(saved.affine, affine)
    assert dice(np.asarray(saved.dataobj), labels) > 0.97


@pytest.mark.parametrize("name", ["lps", "oblique", "sar"])
def test_class_indices_are_inverted_to_the_nearest(tmp_path: Path, name: str) -> None:
    affine, size = GRIDS[name]
    image, labels = blobs(size)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "in/a.nii")
    saved = nib.load(run(tmp_path, argmax_first=True)["a_seg.nii.gz"])
    assert saved.shape == size
    np.testing.assert_array_equal(saved.affine, affine)
    assert dice(np.asarray(saved.dataobj), labels) > 0.94  # the nearest neighbour costs a part of a voxel


@pytest.mark.parametrize("argmax_first", [False, True])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAR", "ILA"])
def test_without_resampling_every_voxel_comes_back(tmp_path: Path, codes: str, argmax_first: bool) -> None:
    through_plane = 0 if codes == "SAR" else 2
    spacing = [1.51, 1.51, 1.51]
    spacing[through_plane] = 8.0
    size = [23, 18, 21]
    size[through_plane] = 5
    affine = grid(codes, tuple(spacing), (12, -7, 31))
    labels = np.random.default_rng(0).integers(0, 4, size).astype(np.int16)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "in/a.nii")
    saved = nib.load(run(tmp_path, argmax_first=argmax_first)["a_seg.nii.gz"])
    np.testing.assert_array_equal(saved.affine, affine)
    np.testing.assert_array_equal(np.asarray(saved.dataobj), labels)


@pytest.mark.parametrize("extension", ["nrrd", "mha", "mhd"])
def test_itk_formats_become_nifti_on_the_same_grid(tmp_path: Path, extension: str) -> None:
    affine, size = GRIDS["oblique"]
    field, labels = blobs(size)
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]  # ITK counts towards left and posterior
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image = sitk.GetImageFromArray(field.transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:, 3].tolist())
    (tmp_path / "in").mkdir()
    sitk.WriteImage(image, tmp_path / f"in/a.{extension}")
    saved = nib.load(run(tmp_path)["a_seg.nii.gz"])
    assert saved.shape == size
    np.testing.assert_allclose(saved.affine, affine, atol=1e-4)
    assert dice(np.asarray(saved.dataobj), labels) > 0.97
    back = sitk.ReadImage(tmp_path / "out/a_seg.nii.gz")  # and for ITK, which 3D Slicer reads with
    np.testing.assert_allclose(back.GetDirection(), image.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(back.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(back.GetSpacing(), image.GetSpacing(), atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_png_keeps_every_pixel(tmp_path: Path, mode: str) -> None:
    labels = np.random.default_rng(1).integers(0, 4, (31, 46)).astype(np.uint8)  # 31 rows, 46 columns
    (tmp_path / "in").mkdir()
    Image.fromarray(labels).convert(mode).save(tmp_path / "in/a.png")
    saved = Image.open(run(tmp_path)["a_seg.png"])
    assert saved.mode == "L"
    np.testing.assert_array_equal(np.asarray(saved), labels)


def test_flat_nifti_keeps_its_two_axes(tmp_path: Path) -> None:
    affine = grid("LPS", (1.2, 1.2, 8.0), (20, 0, 10))
    image, labels = blobs((64, 71))
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "in/a.nii")
    saved = nib.load(run(tmp_path)["a_seg.nii.gz"])
    assert saved.shape == (64, 71)
    np.testing.assert_array_equal(saved.affine, affine)
    assert dice(np.asarray(saved.dataobj), labels) > 0.97


def test_batches_from_workers_go_back_to_their_own_files(tmp_path: Path) -> None:
    affine, size = GRIDS["oblique"]
    image, labels = blobs(size)
    image[:20], labels[:20] = 0, 0
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "in/a.nii")
    nib.save(nib.Nifti1Image(image[::-1], affine), tmp_path / "in/b.nii")
    saved = run(tmp_path, batch_size=2, num_workers=2)
    assert dice(np.asarray(nib.load(saved["a_seg.nii.gz"]).dataobj), labels) > 0.97
    assert dice(np.asarray(nib.load(saved["b_seg.nii.gz"]).dataobj), labels[::-1]) > 0.97


@pytest.mark.parametrize("name", GRIDS)
def test_training_labels_hold_no_invented_values(tmp_path: Path, name: str) -> None:
    affine, size = GRIDS[name]
    image, scribbles = blobs(size)
    scribbles[scribbles == 2] = 1  # 0, 1 and 3 drawn, 2 absent: averaging 1 and 3 would invent it
    scribbles[np.random.default_rng(2).random(size) < 0.5] = 4
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "image.nii")
    nib.save(nib.Nifti1Image(scribbles, affine), tmp_path / "label.nii")
    preprocessing = ConfigParser(TRAINING).get_parsed_content("preprocessing")
    item = preprocessing({"image": str(tmp_path / "image.nii"), "label": str(tmp_path / "label.nii")})
    slices = {"sar": 7, "isotropic": 40}.get(name, size[2])
    assert item["image"].shape == item["label"].shape == (1, 48, 48, slices)
    assert set(item["label"].unique().tolist()) == {0.0, 1.0, 3.0, 4.0}
    assert torch.isfinite(item["image"]).all()
    np.testing.assert_allclose(item["image"].affine, item["label"].affine)
    np.testing.assert_allclose(np.linalg.norm(item["image"].affine[:3, :2], axis=0), 1.51, atol=1e-6)


def test_padding_of_training_items(tmp_path: Path) -> None:
    affine = grid("LPS", (1.51, 1.51, 8.0))
    nib.save(nib.Nifti1Image(np.arange(20 * 60 * 2.0).reshape(20, 60, 2), affine), tmp_path / "image.nii")
    nib.save(nib.Nifti1Image(np.ones((20, 60, 2), np.uint8), affine), tmp_path / "label.nii")
    preprocessing = ConfigParser(TRAINING).get_parsed_content("preprocessing")
    item = preprocessing({"image": str(tmp_path / "image.nii"), "label": str(tmp_path / "label.nii")})
    image, label = item["image"].as_tensor()[0], item["label"].as_tensor()[0]
    # 20 -> 48: 14 rows of padding on either side; 60 -> 48: 6 columns cut from either side
    assert (label[:14] == 4).all()
    assert (label[34:] == 4).all()
    assert (label[14:34] == 1).all()
    assert torch.equal(image[0], image[14])
    assert torch.equal(image[47], image[33])
    assert not torch.equal(image[14], image[15])


@pytest.mark.slow
@pytest.mark.skipif(DATA_ROOT is None, reason="SCRIBBLE_DATA_ROOT is not set")
@pytest.mark.parametrize("pattern", ["acdc/training/*/*_frame??_gt.nii.gz", "mscmr/val/labels/*_manual.nii.gz"])
def test_published_masks_come_back_on_their_grid(tmp_path: Path, pattern: str) -> None:
    files = sorted(Path(str(DATA_ROOT)).glob(pattern))[:10]
    assert files
    (tmp_path / "in").mkdir()
    for file in files:
        (tmp_path / "in" / file.name).symlink_to(file)
    saved = run(tmp_path)
    for file in files:
        truth, found = nib.load(file), nib.load(saved[file.name.replace(".nii.gz", "_seg.nii.gz")])
        assert found.shape == truth.shape
        np.testing.assert_allclose(found.affine, truth.affine, atol=1e-4)
        assert (np.asarray(found.dataobj) == np.asarray(truth.dataobj)).mean() > 0.99
