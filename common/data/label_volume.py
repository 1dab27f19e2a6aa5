"""Label volumes of any common format, with the exact grid that they lie on, and label files on that grid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import SimpleITK

from ..errors import UserError
from ..files import NIFTI_EXTENSIONS, atomic_file
from .compressed_files import check_compressed
from .itk_header import ITK_EXTENSIONS, read_itk_header
from .library_noise import quiet_readers
from .nifti_writer import write_nifti
from .size_limits import promises_too_much

__all__ = ["EXTENSIONS", "Grid", "LabelVolume", "read_grid", "read_label_volume", "write_label"]

EXTENSIONS = (*NIFTI_EXTENSIONS, *ITK_EXTENSIONS)
"""Ends of the names of files that can be read."""


class Grid(NamedTuple):
    """Where voxels lie: shape [X, Y, Z] or [X, Y], affine [4, 4] in mm towards right, anterior and superior.

    ``header`` is that of the NIfTI file that the grid is from, which holds it to the last bit.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    header: nib.Nifti1Header | None = None


class LabelVolume(NamedTuple):
    """Voxels [L, X, Y, Z] of L layers (one unless segments overlap), their grid, and the file's text fields."""

    layers: np.ndarray
    grid: Grid
    metadata: Mapping[str, str]


def read_label_volume(path: str | os.PathLike[str]) -> LabelVolume:
    """Read a label file: NIfTI, NRRD (also a segmentation of 3D Slicer, ``.seg.nrrd``) or MetaImage.

    A two-dimensional label map is read as one slice, Z being 1; its grid's shape remains [X, Y].

    Args:
        path: the file.

    Raises:
        UserError: the file is missing, of another format, cut short or damaged, has no voxels or an affine without
            three directions, has frames, or holds anything but whole numbers.
    """
    path = Path(path)
    grid, metadata, layers, too_long = _header(path)
    if too_long:
        raise _damaged(path)
    try:
        with quiet_readers():
            voxels = _voxels(path)
    except Exception as error:  # what a reader raises on damaged bytes depends on where in it they lead
        raise _damaged(path) from error
    check_compressed(path)
    if voxels.dtype.kind not in "uibf":
        raise UserError(f"{path}: holds {voxels.dtype} voxels; give a label map of whole numbers")
    if voxels.dtype.kind == "f":
        broken = voxels[~np.isfinite(voxels) | (voxels != np.rint(voxels))]
        if broken.size:
            raise UserError(f"{path}: label value {broken[0]:g} is no integer; give a label map, not an image")
        if np.abs(voxels).max() >= 2**31:
            raise UserError(f"{path}: label value {np.abs(voxels).max():g} is too large; give a label map")
        voxels = voxels.astype(np.int32)
    shape = grid.shape + (1,) * (3 - len(grid.shape))
    return LabelVolume(np.ascontiguousarray(voxels).reshape(layers, *shape), grid, metadata)


def read_grid(path: str | os.PathLike[str]) -> Grid:
    """Read where the voxels of an image lie; of a cine series, those of a frame.

    Raises:
        UserError: the file is missing, of another format or damaged, has no voxels, or an affine without three
            directions.
    """
    grid, _, _, too_long = _header(Path(path), frames=True)
    if too_long:
        raise _damaged(Path(path))
    return grid


def write_label(path: str | os.PathLike[str], voxels: np.ndarray, grid: Grid) -> None:
    """Write a label map as uint8 NIfTI on a grid, under a temporary name that then replaces ``path``.

    Args:
        path: the file, ending in ``.nii.gz``; its folder is made where it is missing.
        voxels: integers 0..255, as many as the grid has voxels.
        grid: the grid. That of a NIfTI file is repeated bit by bit; others are rounded to NIfTI's 32 bits.

    Raises:
        UserError: the file cannot be written.
    """
    path, labels = Path(path), voxels.astype(np.uint8).reshape(grid.shape)
    if grid.header is None:
        write_nifti(path, labels, grid.affine)
        return
    header = grid.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    for field in ("cal_max", "cal_min", "descrip", "aux_file", "intent_code", "intent_name"):
        header[field] = np.zeros_like(header[field])
    header.extensions.clear()
    with atomic_file(path) as temporary:
        nib.save(nib.Nifti1Image(labels, grid.affine, header), temporary)


def _voxels(path: Path) -> np.ndarray:
    """The voxels [L, X, Y, Z] or [L, X, Y]."""
    if path.name.lower().endswith(NIFTI_EXTENSIONS):
        return np.asanyarray(nib.load(path).dataobj)[None]  # type: ignore[attr-defined]
    image = SimpleITK.ReadImage(str(path))
    voxels = SimpleITK.GetArrayFromImage(image)
    voxels = np.moveaxis(voxels, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else voxels[None]
    return voxels.transpose(0, *range(voxels.ndim - 1, 0, -1))


def _header(path: Path, *, frames: bool = False) -> tuple[Grid, Mapping[str, str], int, bool]:
    """Grid, text fields, number of layers, and whether the header tells of more voxels than the file can hold."""
    name = path.name.lower()
    if not name.endswith(EXTENSIONS):
        raise UserError(f"{path}: no known format; give a file ending in {', '.join(EXTENSIONS)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file; correct the path or restore the file")
    try:
        with quiet_readers():
            read_header = _nifti_header if name.endswith(NIFTI_EXTENSIONS) else _itk_header
            grid, metadata, layers, item_size = read_header(path)
        too_long = promises_too_much(path, grid.shape, item_size)
    except Exception as error:
        raise _damaged(path) from error
    shape = grid.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    shape = shape[:3] if frames else shape
    grid = grid._replace(shape=shape)
    if len(shape) not in (2, 3):
        raise UserError(f"{path}: its shape is {shape}; give a volume [X, Y, Z] or a slice [X, Y] without frames")
    if min(shape) < 1:
        raise UserError(f"{path}: has no voxels, its shape is {shape}; export it again")
    if not np.isfinite(grid.affine).all() or abs(np.linalg.det(grid.affine[:3, :3])) < 1e-12:
        raise UserError(f"{path}: has an affine without three directions; correct its header or export it again")
    return grid, metadata, layers, too_long


def _nifti_header(path: Path) -> tuple[Grid, dict[str, str], int, int]:
    file = nib.load(path)
    header = file.header
    shape = tuple(int(extent) for extent in file.shape)  # type: ignore[attr-defined]
    exact = header.copy() if type(header) is nib.Nifti1Header else None
    item_size = header.get_data_dtype().itemsize  # type: ignore[attr-defined]
    return Grid(shape, np.asarray(file.affine, np.float64), exact), {}, 1, item_size  # type: ignore[attr-defined]


def _itk_header(path: Path) -> tuple[Grid, Mapping[str, str], int, int]:
    header = read_itk_header(path)
    return Grid(header.shape, header.affine), header.metadata, header.components, header.components


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: cannot be read, it is cut short, damaged or no image; copy or export it again")
