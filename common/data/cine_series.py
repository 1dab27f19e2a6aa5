"""A cine series in one file: its frames as volumes of their own, and their label maps as one series again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..files import NIFTI_EXTENSIONS

__all__ = ["frame_count", "join_frames", "split_frames"]


def frame_count(path: Path) -> int:
    """How many frames a 4D NIfTI file ``[X, Y, Z, T]`` has; 1 for a file of any other sort, also a damaged one."""
    if not path.name.lower().endswith(NIFTI_EXTENSIONS):
        return 1
    try:
        shape = _load(path).shape
    except Exception:  # what is wrong with it is told by whoever reads its voxels
        return 1
    return int(shape[3]) if len(shape) == 4 else 1


def split_frames(path: Path, folder: Path) -> list[Path]:
    """Write each frame of a cine series as a volume ``[X, Y, Z]`` on the same grid, with the same intensities.

    Args:
        path: a NIfTI file ``[X, Y, Z, T]``.
        folder: an empty folder, made where it is missing.

    Returns:
        the files, in the order of the frames.
    """
    series = _load(path)
    voxels = np.asanyarray(series.dataobj)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(voxels.shape[3]):
        frame = nib.Nifti1Image(voxels[..., index], series.affine, series.header)
        # a header's scale belongs to the numbers in the file, and these are scaled already
        frame.set_data_dtype(voxels.dtype)
        files.append(folder / f"frame{index + 1:03d}.nii")
        nib.save(frame, files[-1])
    return files


def join_frames(label_maps: Sequence[Path], series: Path, path: Path) -> None:
    """Write the label maps of a cine series' frames as one file ``[X, Y, Z, T]`` with the series' grid and times.

    Args:
        label_maps: a label map ``[X, Y, Z]`` for each frame, in order.
        series: the file of the cine series.
        path: the file to write.
    """
    header = _load(series).header
    frames = [_load(each) for each in label_maps]
    labels = np.stack([np.asanyarray(frame.dataobj) for frame in frames], axis=3)
    joined: Any = nib.Nifti1Image(labels, frames[0].affine, frames[0].header)
    joined.header.set_zooms((*frames[0].header.get_zooms()[:3], header.get_zooms()[3]))
    joined.header.set_xyzt_units(*header.get_xyzt_units())
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(joined, path)


def _load(path: Path) -> Any:
    return nib.load(path)
