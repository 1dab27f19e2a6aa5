"""Loading images for a training: every format gives what MONAI's readers give, whatever the type of its voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from monai.data import ITKReader
from monai.transforms import LoadImage, LoadImaged
from monai.utils import ImageMetaKey, MetaKeys

from common.data.volume_loading import LoadImagesd, volume_loader
from common.errors import UserError

VOXELS = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3)
# towards right, anterior and superior: the first axis runs right, 2 mm a voxel, the second to posterior, 3 mm
AFFINE = np.array([[2.0, 0, 0, 5], [0, -3, 0, 7], [0, 0, 4, -11], [0, 0, 0, 1]])
KINDS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def write(path: Path, voxels: np.ndarray = VOXELS, *, channels: int = 1, origin: float = -5) -> str:
    stored = voxels.T if channels == 1 else np.stack([voxels.T + number for number in range(channels)], axis=-1)
    image = SimpleITK.GetImageFromArray(stored, isVector=channels > 1)
    image.SetSpacing((2, 3, 4)[: voxels.ndim])
    image.SetDirection(np.diag([-1.0, 1, 1])[: voxels.ndim, : voxels.ndim].ravel())
    image.SetOrigin((origin, -7, -11)[: voxels.ndim])
    SimpleITK.WriteImage(image, str(path), useCompression=True)
    return str(path)


def load(path: str):
    return LoadImagesd("image")({"image": path})["image"]


@pytest.mark.parametrize("name", ["a.nii.gz", "ä b.nrrd", "a.mha", "a.mhd", "A.NRRD"])
def test_every_format_gives_the_same_image(tmp_path: Path, name: str) -> None:
    path = str(Path(write(tmp_path / name.lower())).rename(tmp_path / name))
    image = load(path)
    np.testing.assert_array_equal(image, VOXELS[None])
    assert (image.dtype, image.affine.dtype) == (load(write(tmp_path / "b.nii")).dtype, load(path).affine.dtype)
    np.testing.assert_allclose(image.affine, AFFINE)
    np.testing.assert_allclose(image.meta[MetaKeys.ORIGINAL_AFFINE], AFFINE)
    assert tuple(image.meta[MetaKeys.SPATIAL_SHAPE])[:3] == (5, 4, 3)
    assert image.meta[ImageMetaKey.FILENAME_OR_OBJ] == path


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_voxels_of_every_type(tmp_path: Path, kind: str, channels: int, ending: str) -> None:
    image = load(write(tmp_path / f"a.{ending}", VOXELS.astype(kind), channels=channels))
    np.testing.assert_array_equal(image, np.stack([VOXELS + number for number in range(channels)]))
    np.testing.assert_allclose(image.affine, AFFINE)


def test_flat_images_and_frames(tmp_path: Path) -> None:
    image = load(write(tmp_path / "flat.nrrd", VOXELS[..., 0]))
    np.testing.assert_array_equal(image, VOXELS[None, ..., 0])
    np.testing.assert_allclose(image.affine, [[2, 0, 5], [0, -3, 7], [0, 0, 1]])
    cine = SimpleITK.JoinSeries([SimpleITK.ReadImage(write(tmp_path / "a.mha", VOXELS + number)) for number in (0, 9)])
    SimpleITK.WriteImage(cine, str(tmp_path / "cine.nrrd"))
    image = load(str(tmp_path / "cine.nrrd"))
    np.testing.assert_array_equal(image, np.stack([VOXELS, VOXELS + 9]))
    np.testing.assert_allclose(image.affine, AFFINE)


def test_several_files_become_channels(tmp_path: Path) -> None:
    files = [write(tmp_path / name, VOXELS + number) for number, name in enumerate(["a.nrrd", "b.mha", "c.nii.gz"])]
    np.testing.assert_array_equal(volume_loader()(files), np.stack([VOXELS, VOXELS + 1, VOXELS + 2]))
    files = [write(tmp_path / "a.nrrd", channels=2), write(tmp_path / "b.nrrd", VOXELS + 2)]
    with pytest.raises(UserError, match=r"b\.nrrd: lies on another grid than .*a\.nrrd; save both"):
        volume_loader()(files)
    files[1] = write(tmp_path / "b.nrrd", VOXELS + 2, channels=2)
    np.testing.assert_array_equal(volume_loader()(files), np.stack([VOXELS + number for number in range(4)]))
    with pytest.raises(UserError, match="another grid"):
        volume_loader()([files[0], write(tmp_path / "c.nrrd", channels=2, origin=-6)])


def test_absent_keys_and_damaged_files(tmp_path: Path) -> None:
    assert LoadImagesd("image", allow_missing_keys=True)({"label": 1}) == {"label": 1}
    with pytest.raises(KeyError, match="image"):
        LoadImagesd("image")({"label": 1})
    path = Path(write(tmp_path / "a.nrrd"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"a\.nrrd: cannot be read, it is cut short, damaged or no image"):
        load(str(path))
    assert isinstance(LoadImagesd("image"), LoadImaged)  # by which MONAI Label knows what loads


@pytest.mark.parametrize("ending", ["nrrd", "mha", "nii.gz"])
def test_itks_own_package_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(ITKReader, "read", lambda *_: pytest.fail("read by ITK's package"))
    np.testing.assert_array_equal(load(write(tmp_path / f"a.{ending}")), VOXELS[None])


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("voxels", [VOXELS, VOXELS[..., 0]], ids=["volume", "slice"])
def test_the_same_as_monais_reader(tmp_path: Path, voxels: np.ndarray, channels: int, ending: str) -> None:
    path = write(tmp_path / f"a.{ending}", voxels.astype(np.float32), channels=channels)
    loaded, wanted = volume_loader()(path), LoadImage(ITKReader, ensure_channel_first=True)(path)
    np.testing.assert_array_equal(loaded, wanted)
    assert (loaded.shape, loaded.dtype) == (wanted.shape, wanted.dtype)
    assert (loaded.affine.shape, loaded.affine.dtype) == (wanted.affine.shape, wanted.affine.dtype)
    np.testing.assert_allclose(loaded.affine, wanted.affine)
    for key in (MetaKeys.ORIGINAL_AFFINE, MetaKeys.SPATIAL_SHAPE, MetaKeys.SPACE, ImageMetaKey.FILENAME_OR_OBJ):
        np.testing.assert_array_equal(loaded.meta[key], wanted.meta[key])
