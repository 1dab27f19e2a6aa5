"""Reading files for a look at them: every format gives the same volume, damaged ones a line."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from common.data.volume_reader import Volume, check_loadable, read_volume
from common.errors import UserError

# towards right, anterior and superior: the first axis runs right, 2 mm a voxel, the second to posterior, 3 mm
AFFINE = np.array([[2.0, 0, 0, 5], [0, -3, 0, 7], [0, 0, 4, -11], [0, 0, 0, 1]])
VOXELS = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3)
DAMAGED = "cannot be read, it is cut short, damaged or no image; copy or export it again"


def write(path: Path, voxels: np.ndarray = VOXELS, *, vector: bool = False) -> Path:
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(voxels, AFFINE), path)
        return path
    # ITK counts towards left and posterior
    image = SimpleITK.GetImageFromArray(voxels.T, isVector=vector)
    image.SetSpacing((2, 3, 4, 1)[: image.GetDimension()])
    if image.GetDimension() == 3:
        image.SetDirection([-1, 0, 0, 0, 1, 0, 0, 0, 1])
        image.SetOrigin((-5, -7, -11))
    SimpleITK.WriteImage(image, str(path), useCompression=True)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "ä b.nrrd", "a.mha", "a.mhd", "A.NRRD"])
def test_every_format_gives_the_same_volume(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name.lower()).rename(tmp_path / name)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, VOXELS)
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert (volume.shape, volume.channels, volume.orientation) == ((5, 4, 3), 1, "RPS")
    assert volume.spacing == pytest.approx((2, 3, 4))


def test_frames_and_channels(tmp_path: Path) -> None:
    cine = np.stack([VOXELS, VOXELS + 1], axis=-1)
    volume = read_volume(write(tmp_path / "cine.nii.gz", cine))
    assert (volume.data.shape, volume.shape, volume.channels) == ((5, 4, 3, 2), (5, 4, 3), 2)
    volume = read_volume(write(tmp_path / "one.nii.gz", cine[..., :1]))
    assert (volume.data.shape, volume.channels) == ((5, 4, 3), 1)
    volume = read_volume(write(tmp_path / "two.mha", np.stack([VOXELS, VOXELS + 1]), vector=True))
    assert (volume.data.shape, volume.shape, volume.channels) == ((5, 4, 3, 2), (5, 4, 3), 2)
    np.testing.assert_array_equal(volume.data[..., 1], VOXELS + 1)


def test_more_axes_than_a_training_loads_are_told(tmp_path: Path) -> None:
    for name, voxels, vector in (
        ("a.nii.gz", VOXELS[..., None, None], False),
        ("a.mha", np.stack([np.stack([VOXELS] * 2, axis=-1)] * 3), True),
    ):
        path = str(write(tmp_path / name, voxels, vector=vector))
        with pytest.raises(UserError) as caught:
            check_loadable(path, read_volume(path))
        shape = tuple(nib.load(path).shape) if name.endswith(".nii.gz") else (5, 4, 3, 2)
        fix = "save a volume [X, Y, Z], or [X, Y, Z, T] of frames or channels"
        assert str(caught.value) == f"{path}: its shape is {shape}; {fix}"


def test_flat_images(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path / "flat.mha", VOXELS[..., 0]))
    assert (volume.shape, volume.spacing, volume.channels) == ((5, 4), (2, 3), 1)
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "picture.png")
    volume = read_volume(tmp_path / "picture.png")
    assert (volume.data.shape, volume.shape, volume.channels) == ((5, 4, 3), (5, 4), 3)


def test_an_affine_without_directions() -> None:
    affine = np.diag([1.0, 0, 1, 1])
    assert Volume(VOXELS, (5, 4, 3), affine, (1, 0, 1), 1).orientation == "R?S"
    affine[0, 0] = np.nan
    assert Volume(VOXELS, (5, 4, 3), affine, (1, 0, 1), 1).orientation == "???"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    path.write_text("hello")


@pytest.mark.parametrize("spoil", [cut, emptied, overwritten], ids=lambda function: function.__name__)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_damaged_files(tmp_path: Path, name: str, spoil) -> None:
    path = write(tmp_path / name)
    spoil(path)
    with pytest.raises(UserError) as caught:
        read_volume(path)
    assert str(caught.value) == f"{path}: {DAMAGED}"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.mha", b"DimSize = 5 4 3", b"DimSize = 90000 90000 90000"),
        ("a.nrrd", b"sizes: 5 4 3", b"sizes: 90000 90000 90000"),
    ],
)
def test_headers_that_promise_too_much_take_no_memory(tmp_path: Path, name: str, old: bytes, new: bytes) -> None:
    path = write(tmp_path / name)
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(UserError, match=DAMAGED) as caught:
        read_volume(path)
    # it is refused by what the header says, not because 729 TB could not be had
    assert "promises more voxels than the file can hold" in str(caught.value.__cause__)


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    for name in ("loop.nii", "nothing.nii.gz"):
        with pytest.raises(UserError, match=rf"{name}: no such file; correct the path or restore the file$"):
            read_volume(tmp_path / name)
    path = write(tmp_path / "a.nii")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"a\.nii: may not be read; correct its permissions$"):
        read_volume(path)


def test_metaimages_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "scan.MHA"
    path.touch()
    with pytest.raises(UserError, match=r"scan\.MHA: ITK reads such files only by an ending in small .*call it \.mha$"):
        read_volume(path)


def test_complex_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", VOXELS.astype(np.complex64))
    with pytest.raises(UserError, match="holds colours or complex numbers; save one number a voxel"):
        read_volume(path)
