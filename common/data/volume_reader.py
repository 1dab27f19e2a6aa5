"""Reading an image or label file for a look at it: its voxels and its grid, or one line that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import SimpleITK
from nibabel.affines import voxel_sizes

from ..errors import UserError
from ..files import NIFTI_EXTENSIONS
from .compressed_files import check_compressed
from .itk_header import ITK_EXTENSIONS, read_itk_header
from .library_noise import quiet_readers
from .size_limits import promises_too_much

__all__ = ["Volume", "check_loadable", "read_checked_volume", "read_volume"]

_META = (".mha", ".mhd")


class Volume(NamedTuple):
    """A file's voxels, with channels or frames last, its shape [X, Y, Z] without them, its affine and voxel sizes."""

    data: np.ndarray
    shape: tuple[int, ...]
    affine: np.ndarray
    spacing: tuple[float, ...]
    channels: int

    @property
    def orientation(self) -> str:
        """The closest direction of each axis, such as LPS; a question mark where the affine gives none."""
        if not np.isfinite(self.affine).all():
            return "?" * len(self.shape)
        codes = nib.aff2axcodes(self.affine)
        return "".join(code or "?" for code in codes[: len(self.shape)])


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Read a NIfTI, NRRD, MetaImage or picture file.

    Args:
        path: the file.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise UserError(f"{name}: no such file; correct the path or restore the file")
    if not os.access(name, os.R_OK):
        raise UserError(f"{name}: may not be read; correct its permissions")
    ending = os.path.splitext(name)[1]
    if ending != ending.lower() and ending.lower() in _META:
        raise UserError(f"{name}: ITK reads such files only by an ending in small letters; call it {ending.lower()}")
    try:
        if not os.path.isfile(name):
            raise ValueError("a folder, or a pipe or device, whose end may never come")
        with quiet_readers():
            if name.endswith(NIFTI_EXTENSIONS):
                return _read_nifti(name)
            return _read_itk(name) if name.lower().endswith(ITK_EXTENSIONS) else _read_picture(name)
    except UserError:
        raise
    except Exception as error:  # what a reader raises on damaged bytes depends on where in it they lead
        raise UserError(
            f"{name}: cannot be read, it is cut short, damaged or no image; copy or export it again"
        ) from error


def read_checked_volume(path: str | os.PathLike[str]) -> Volume:
    """Read a file as :func:`read_volume` does, and look at the check sum of its compressed data, which readers ignore.

    Args:
        path: the file.

    Raises:
        UserError: there is no such file, it cannot be read, or its compressed data are damaged.
    """
    volume = read_volume(path)
    check_compressed(path)
    return volume


def check_loadable(path: str, volume: Volume) -> None:
    """Check that a training or a network that segments can load a file too, which wants four axes at most.

    Args:
        path: the file.
        volume: what :func:`read_volume` gave for it.

    Raises:
        UserError: it cannot be loaded.
    """
    with quiet_readers():
        shape = nib.load(path).shape if path.endswith(NIFTI_EXTENSIONS) else volume.shape  # type: ignore[attr-defined]
    if len(shape) > (4 if path.endswith(NIFTI_EXTENSIONS) else 3):
        raise UserError(
            f"{path}: its shape is {tuple(shape)}; save a volume [X, Y, Z], or [X, Y, Z, T] of frames or channels"
        )


def _read_nifti(path: str) -> Volume:
    file = nib.load(path)
    if promises_too_much(path, file.shape, file.get_data_dtype().itemsize):  # type: ignore[attr-defined]
        raise ValueError("the header promises more voxels than the file can hold")
    # nibabel forgets the shape of an array without voxels
    data = np.asanyarray(file.dataobj).reshape(file.shape)  # type: ignore[attr-defined]
    return _volume(path, data, np.asarray(file.affine))  # type: ignore[attr-defined]


def _read_itk(path: str) -> Volume:
    header = read_itk_header(path)
    if promises_too_much(path, header.shape, header.components):
        raise ValueError("the header promises more voxels than the file can hold")
    data = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).T  # components come first
    if header.components == 1:
        return _volume(path, data, header.affine)
    shape = data.shape[1:]
    return Volume(np.moveaxis(data, 0, -1), shape, header.affine, _spacing(header.affine, shape), header.components)


def _volume(path: str, data: np.ndarray, affine: np.ndarray) -> Volume:
    """The volume of voxels [X, Y, Z], without axes of one, or of frames [X, Y, Z, T]."""
    if data.dtype.kind not in "biuf":
        raise UserError(f"{path}: holds colours or complex numbers; save one number a voxel")
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    return Volume(data, data.shape[:3], affine, _spacing(affine, data.shape[:3]), int(np.prod(data.shape[3:])))


def _read_picture(path: str) -> Volume:
    tensor = _loader()(path)
    data, affine = np.asarray(tensor), np.asarray(tensor.affine)
    shape = data.shape[1:]
    voxels = data[0] if len(data) == 1 else np.moveaxis(data, 0, -1)
    return Volume(voxels, shape, affine, _spacing(affine, shape), len(data))


@cache
def _loader() -> Callable[[str], Any]:
    # MONAI takes seconds to import, which volumes need not wait for
    from monai.transforms import LoadImage

    # its readers log, each time they are made, what they go without
    return LoadImage(image_only=True, ensure_channel_first=True)


def _spacing(affine: np.ndarray, shape: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(float(size) for size in voxel_sizes(affine)[: len(shape)])
