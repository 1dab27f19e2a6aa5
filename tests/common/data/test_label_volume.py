"""Label volumes of every format, their grids, and label files written on these."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from common.data.label_volume import Grid, read_grid, read_label_volume, write_label
from common.errors import UserError

VOXELS = (np.arange(5 * 4 * 3) % 4).astype(np.uint8).reshape(5, 4, 3)
# the first axis turned by 30 degrees towards anterior, 2 mm a voxel; cos 30 = 0.866, sin 30 = 0.5
AFFINE = np.array([[1.732051, -1.5, 0, 5], [1, 2.598076, 0, -7], [0, 0, 4, 11], [0, 0, 0, 1]])
DAMAGED = "cannot be read, it is cut short, damaged or no image; copy or export it again"


def write(path: Path, voxels: np.ndarray = VOXELS) -> Path:
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(voxels, AFFINE), path)
        return path
    turned = np.diag([-1.0, -1, 1, 1]) @ AFFINE  # ITK counts towards left and posterior
    spacing = np.linalg.norm(turned[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(voxels.T)
    if image.GetDimension() == 3:
        image.SetSpacing(spacing)
        image.SetDirection((turned[:3, :3] / spacing).ravel())
        image.SetOrigin(turned[:3, 3])
    SimpleITK.WriteImage(image, str(path), useCompression=True)
    return path


def refused(path: Path, read: Callable[[Path], object] = read_label_volume) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "ä b.nrrd", "a.mha", "a.mhd"])
def test_every_format_gives_the_same_volume(tmp_path: Path, name: str) -> None:
    label = read_label_volume(write(tmp_path / name))
    np.testing.assert_array_equal(label.layers, VOXELS[None])
    assert label.grid.shape == (5, 4, 3)
    np.testing.assert_allclose(label.grid.affine, AFFINE, atol=1e-5)
    grid = read_grid(tmp_path / name)
    assert grid.shape == (5, 4, 3)
    np.testing.assert_array_equal(grid.affine, label.grid.affine)
    assert (grid.header is not None) == ("nii" in name)


def test_layers_and_text_fields(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.stack([VOXELS, VOXELS + 1], axis=-1).transpose(2, 1, 0, 3), isVector=True)
    image.SetMetaData("Segment0_Name", "Leber ä")
    SimpleITK.WriteImage(image, str(tmp_path / "a.seg.nrrd"))
    label = read_label_volume(tmp_path / "a.seg.nrrd")
    np.testing.assert_array_equal(label.layers, np.stack([VOXELS, VOXELS + 1]))
    assert label.metadata["Segment0_Name"] == "Leber ä"
    assert label.grid.shape == (5, 4, 3)


def test_flat_labels_are_one_slice(tmp_path: Path) -> None:
    label = read_label_volume(write(tmp_path / "flat.mha", VOXELS[..., 0]))
    assert label.layers.shape == (1, 5, 4, 1)
    assert label.grid.shape == (5, 4)
    np.testing.assert_array_equal(label.layers[0, ..., 0], VOXELS[..., 0])


def test_frames(tmp_path: Path) -> None:
    cine = write(tmp_path / "cine.nii.gz", np.stack([VOXELS] * 2, axis=-1))
    assert read_grid(cine).shape == (5, 4, 3)
    assert refused(cine) == ("its shape is (5, 4, 3, 2); give a volume [X, Y, Z] or a slice [X, Y] without frames")
    one = read_label_volume(write(tmp_path / "one.nii.gz", VOXELS[..., None]))
    np.testing.assert_array_equal(one.layers, VOXELS[None])


def test_whole_numbers_in_any_type(tmp_path: Path) -> None:
    for dtype in (np.int16, np.float32, np.float64):
        label = read_label_volume(write(tmp_path / "a.nii.gz", VOXELS.astype(dtype)))
        assert label.layers.dtype.kind == "i"
        np.testing.assert_array_equal(label.layers[0], VOXELS)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (0.5, "label value 0.5 is no integer; give a label map, not an image"),
        (np.nan, "label value nan is no integer; give a label map, not an image"),
        (np.inf, "label value inf is no integer; give a label map, not an image"),
        (2.0**31, "label value 2.14748e+09 is too large; give a label map"),
    ],
)
def test_other_numbers(tmp_path: Path, value: float, line: str) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[4, 3, 2] = value
    assert refused(write(tmp_path / "a.nii.gz", voxels)) == line


def test_complex_voxels(tmp_path: Path) -> None:
    line = "holds complex64 voxels; give a label map of whole numbers"
    assert refused(write(tmp_path / "a.nii", VOXELS.astype(np.complex64))) == line


def test_what_is_no_label_file(tmp_path: Path) -> None:
    formats = ".nii.gz, .nii, .nrrd, .mha, .mhd"
    for name in ("a.png", "a.seg"):
        assert refused(tmp_path / name) == f"no known format; give a file ending in {formats}"
    assert refused(tmp_path / "a.nii") == "no such file; correct the path or restore the file"
    (tmp_path / "folder.nii").mkdir()
    assert refused(tmp_path / "folder.nii") == "no such file; correct the path or restore the file"


@pytest.mark.parametrize("read", [read_label_volume, read_grid], ids=lambda function: function.__name__)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_damaged_headers(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    path = write(tmp_path / name)
    for content in (b"", b"hello", path.read_bytes()[:20]):
        path.write_bytes(content)
        assert refused(path, read) == DAMAGED


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_voxels_cut_short(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-12])
    assert refused(path) == DAMAGED


def nifti_with(path: Path, at: int, content: bytes) -> Path:
    """A NIfTI file with some bytes of its header replaced."""
    data = bytearray(nib.Nifti1Image(VOXELS, AFFINE).to_bytes())
    data[at : at + len(content)] = content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else bytes(data))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_headers_that_promise_too_much_take_no_memory(tmp_path: Path, name: str) -> None:
    path = nifti_with(tmp_path / name, 42, np.array([30000] * 3, "<i2").tobytes())  # dim[1] to dim[3]: 27 TB
    assert refused(path) == refused(path, read_grid) == DAMAGED


def test_grids_that_are_none(tmp_path: Path) -> None:
    line = "has an affine without three directions; correct its header or export it again"
    for value in (np.nan, 0.0):  # srow_z: no voxel lies above another
        path = nifti_with(tmp_path / "a.nii", 312, np.full(4, value, "<f4").tobytes())
        assert refused(path) == refused(path, read_grid) == line
    nib.save(nib.Nifti1Image(np.zeros((5, 0, 3), np.uint8), AFFINE), tmp_path / "b.nii")
    assert refused(tmp_path / "b.nii") == "has no voxels, its shape is (5, 0, 3); export it again"


def test_a_label_is_written_on_the_grid_to_the_last_bit(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VOXELS.astype(np.float32), AFFINE)
    image.header["descrip"] = b"patient's name"
    image.header.set_slope_inter(2, 1)
    image.set_sform(AFFINE, code=2)
    nib.save(image, tmp_path / "image.nii.gz")
    write_label(tmp_path / "new" / "label.nii.gz", VOXELS, read_grid(tmp_path / "image.nii.gz"))
    written, source = (nib.load(path) for path in (tmp_path / "new" / "label.nii.gz", tmp_path / "image.nii.gz"))
    for field in ("srow_x", "srow_y", "srow_z", "pixdim", "sform_code", "qform_code", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(written.header[field], source.header[field])
    assert written.get_data_dtype() == np.uint8
    assert written.header["descrip"].item() == b""
    np.testing.assert_array_equal(np.asarray(written.dataobj), VOXELS)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["label.nii.gz"]


def test_a_label_on_the_grid_of_another_format(tmp_path: Path) -> None:
    grid = read_grid(write(tmp_path / "a.nrrd"))
    write_label(tmp_path / "label.nii.gz", VOXELS, grid)
    label = read_label_volume(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(label.layers[0], VOXELS)
    np.testing.assert_allclose(label.grid.affine, AFFINE, atol=1e-5)


def test_a_label_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_label(tmp_path / "a.nii.gz", VOXELS, Grid((5, 4, 3), AFFINE))
    before = (tmp_path / "a.nii.gz").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", full)
    with pytest.raises(UserError, match=r"a\.nii\.gz: cannot be written \(No space left on device\)"):
        write_label(tmp_path / "a.nii.gz", VOXELS, Grid((5, 4, 3), AFFINE))
    assert (tmp_path / "a.nii.gz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]
