"""SaveSegmentationd: names, grids, PNG, and no half-written file."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, SaveImaged, SpatialPadd
from PIL import Image

from common.data.volume_loading import LoadImagesd
from common.errors import UserError
from common.transforms.orient_slices import OrientSlicesd
from common.transforms.save_segmentation import SaveSegmentationd, segmentation_path

AFFINE = np.array([[0.0, -1.5, 0.0, 4.0], [1.5, 0.0, 0.0, -7.0], [0.0, 0.0, 9.0, 2.0], [0.0, 0.0, 0.0, 1.0]])


def prediction(file: str, shape: tuple[int, ...] = (4, 5, 3), **meta) -> MetaTensor:
    labels = torch.arange(float(np.prod(shape))).reshape(1, *shape) % 4
    meta = {"filename_or_obj": file, "spatial_shape": shape, "original_affine": AFFINE} | meta
    return MetaTensor(labels, affine=torch.as_tensor(AFFINE), meta=meta)


def saver(tmp_path: Path, **options) -> SaveSegmentationd:
    return SaveSegmentationd("pred", output_dir=tmp_path / "out", data_root_dir=tmp_path / "in", **options)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("/in/a.nii.gz", "/out/a_seg.nii.gz"),
        ("/in/a.nii", "/out/a_seg.nii.gz"),
        ("/in/p1/ed/a.b.nrrd", "/out/p1/ed/a.b_seg.nii.gz"),
        ("/in/x/A.NII.GZ", "/out/x/A_seg.nii.gz"),
        ("/in/x/1.5mm.png", "/out/x/1.5mm_seg.png"),
        ("/in/../in/a.mha", "/out/a_seg.nii.gz"),
    ],
)
def test_names(image: str, expected: str) -> None:
    assert segmentation_path(image, output_dir="/out", data_root_dir="/in") == Path(expected)


def test_name_outside_the_root_and_of_a_single_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^/other/a\.nii lies outside data_root_dir /in: name a folder"):
        segmentation_path("/other/a.nii", output_dir="/out", data_root_dir="/in")
    single = tmp_path / "a.nii"
    single.touch()
    assert segmentation_path(single, output_dir="/out", data_root_dir=single) == Path("/out/a_seg.nii.gz")


def test_nifti_on_the_images_grid(tmp_path: Path) -> None:
    transform = saver(tmp_path)
    assert isinstance(transform, SaveImaged)  # what MONAI Label looks for
    assert not (tmp_path / "out").exists()
    pred = prediction(str(tmp_path / "in/p1/scan.nrrd"))
    assert transform({"pred": pred})["pred"] is pred
    assert [path.name for path in (tmp_path / "out/p1").iterdir()] == ["scan_seg.nii.gz"]
    file = nib.load(tmp_path / "out/p1/scan_seg.nii.gz")
    assert file.shape == (4, 5, 3)
    assert file.get_data_dtype() == np.uint8
    assert file.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(file.affine, AFFINE)
    np.testing.assert_allclose(file.get_qform(), AFFINE, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(file.dataobj), pred.numpy()[0])


@pytest.mark.parametrize("shape", [(4, 5, 1), (1, 5, 3), (4, 5)])
def test_axes_of_one_voxel_and_flat_files_keep_their_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    saver(tmp_path)({"pred": prediction(str(tmp_path / "in/a.nii"), shape)})
    assert nib.load(tmp_path / "out/a_seg.nii.gz").shape == shape


def turned(degrees: float, origin: list[float]) -> np.ndarray:
    """Voxels of 1.5 x 1.25 x 8 mm, turned around the third axis."""
    first, second = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[first, -second, 0], [second, first, 0], [0, 0, 1]]) @ np.diag([1.5, 1.25, 8.0])
    affine[:3, 3] = origin
    return affine


ONE, OTHER = turned(20, [-31.5, 12.25, 7.125]), turned(-70, [4.0, -9.5, 80.0])


def placed(path: Path, shape: tuple[int, ...], sform: tuple, qform: tuple) -> nib.Nifti1Image:
    """A NIfTI image whose header has these two transforms and codes."""
    image = nib.Nifti1Image((np.arange(np.prod(shape)) % 4).astype(np.int16).reshape(shape), None)
    image.header.set_zooms((1.5, 1.25, 8.0)[: len(shape)])
    image.set_sform(*sform)
    image.set_qform(*qform)
    path.parent.mkdir(exist_ok=True)
    nib.save(image, path)
    return nib.load(path)


@pytest.mark.parametrize(
    ("sform", "qform"),
    [
        ((None, 0), (None, 0)),
        ((ONE, 2), (None, 0)),
        ((None, 0), (ONE, 1)),
        ((ONE, 1), (OTHER, 1)),
        ((ONE, 4), (OTHER, 2)),
        ((np.diag([-1.0, 1, 1, 1]) @ ONE, 2), (OTHER, 0)),
    ],
    ids=["none", "sform", "qform", "contrary", "other codes", "mirrored"],
)
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_every_program_sees_it_where_it_sees_the_image(tmp_path: Path, ending: str, sform: tuple, qform: tuple) -> None:
    path = tmp_path / "in" / f"a{ending}"
    image = placed(path, (6, 5, 3), sform, qform)
    steps = Compose([LoadImagesd("image"), OrientSlicesd("image"), SpatialPadd("image", (9, 9, -1))])
    item = steps({"image": str(path)})
    item["pred"] = MetaTensor(item["image"].as_tensor(), meta=item["image"].meta)
    item = Invertd("pred", steps, orig_keys="image", nearest_interp=True)(item)
    saver(tmp_path)(item)
    saved = tmp_path / "out" / "a_seg.nii.gz"
    found = nib.load(saved)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(image.dataobj))
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(found.affine, image.affine)
    for field in ("qform_code", "sform_code", "pixdim", "quatern_b", "qoffset_x", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(found.header[field], image.header[field], err_msg=field)
    by_itk = [SimpleITK.ReadImage(str(file)) for file in (path, saved)]
    for point in ((0, 0, 0), (5, 4, 2)):
        first, second = (each.TransformIndexToPhysicalPoint(point) for each in by_itk)
        assert first == second
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(by_itk[1]).T, np.asarray(image.dataobj))


def test_headers_that_tell_nothing_of_this_grid_are_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.nii.gz"
    placed(path, (4, 5, 2), (None, 0), (None, 0))  # another number of slices
    saver(tmp_path)({"pred": prediction(str(path))})
    np.testing.assert_array_equal(nib.load(tmp_path / "out" / "a_seg.nii.gz").affine, AFFINE)
    placed(path, (4, 5, 3), (None, 0), (None, 0))
    pred = prediction(str(path))
    del pred.meta["original_affine"]  # so that nobody knows whether it is the image's
    saver(tmp_path)({"pred": pred})
    np.testing.assert_array_equal(nib.load(tmp_path / "out" / "a_seg.nii.gz").affine, AFFINE)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1)])
def test_flat_files_lie_where_their_images_do(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "in" / "A.NII.GZ"
    placed(path, shape, (None, 0), (None, 0))
    steps = Compose([LoadImagesd("image"), OrientSlicesd("image")])
    item = steps({"image": str(path)})
    item["pred"] = MetaTensor(item["image"].as_tensor(), meta=item["image"].meta)
    saver(tmp_path)(Invertd("pred", steps, orig_keys="image", nearest_interp=True)(item))
    first, second = (SimpleITK.ReadImage(str(file)) for file in (path, tmp_path / "out" / "A_seg.nii.gz"))
    assert first.GetSize() == second.GetSize()
    assert (first.GetOrigin(), first.GetSpacing()) == (second.GetOrigin(), second.GetSpacing())
    np.testing.assert_array_equal(*(SimpleITK.GetArrayFromImage(each) for each in (first, second)))


def test_png_holds_class_indices_with_the_pixels_of_the_image(tmp_path: Path) -> None:
    pred = prediction(str(tmp_path / "in/a.png"), (6, 4))
    del pred.meta["original_affine"]
    saver(tmp_path, output_postfix="labels")({"pred": pred})
    file = Image.open(tmp_path / "out/a_labels.png")
    assert (file.mode, file.size) == ("L", (6, 4))  # 6 columns, 4 rows
    np.testing.assert_array_equal(np.asarray(file), pred.numpy()[0].T)


def test_prediction_off_the_grid_is_refused(tmp_path: Path) -> None:
    pred = prediction(str(tmp_path / "in/a.nii"), spatial_shape=(8, 5, 3))
    with pytest.raises(UserError, match=r"prediction \(4, 5, 3\) is not on the grid of .*a\.nii: give Invertd"):
        saver(tmp_path)({"pred": pred})
    pred = prediction(str(tmp_path / "in/a.nii"), original_affine=np.eye(4))
    with pytest.raises(UserError, match="is not on the grid"):
        saver(tmp_path)({"pred": pred})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bad", [0.5, -1.0, 256.0, float("nan")])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_values_that_are_no_classes_are_refused(tmp_path: Path, bad: float) -> None:
    pred = prediction(str(tmp_path / "in/a.nii"))
    pred[0, 0, 0, 0] = bad
    with pytest.raises(UserError, match=r"a\.nii is no map of class indices"):
        saver(tmp_path)({"pred": pred})


def test_two_channels_or_no_name_are_refused(tmp_path: Path) -> None:
    pred = prediction(str(tmp_path / "in/a.nii"))
    with pytest.raises(UserError, match="no map of class indices"):
        saver(tmp_path)({"pred": MetaTensor(pred.repeat(2, 1, 1, 1), meta=pred.meta)})
    with pytest.raises(UserError, match="'pred' carries no file name"):
        saver(tmp_path)({"pred": torch.zeros(1, 4, 5, 3)})


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pred = prediction(str(tmp_path / "in/a.nii"))
    saver(tmp_path)({"pred": pred})
    before = (tmp_path / "out/a_seg.nii.gz").read_bytes()

    def full_disk(file: object, name: Path) -> None:
        name.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(UserError, match=r"a_seg\.nii\.gz: cannot be written \(No space left on device\)"):
        saver(tmp_path)({"pred": pred})
    assert os.listdir(tmp_path / "out") == ["a_seg.nii.gz"]
    assert (tmp_path / "out/a_seg.nii.gz").read_bytes() == before
