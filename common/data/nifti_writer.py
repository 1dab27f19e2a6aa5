"""Writing a volume as NIfTI, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from ..files import atomic_file

__all__ = ["nifti_volume", "write_nifti"]


def nifti_volume(voxels: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """A NIfTI volume in mm that says in both of the format's ways where its voxels lie in the scanner.

    Args:
        voxels: voxels [X, Y, Z], or [X, Y, Z, T] for the frames of a cine series.
        affine: affine [4, 4] in mm towards right, anterior and superior.
    """
    volume = nib.Nifti1Image(voxels, affine)
    volume.header.set_xyzt_units("mm")
    volume.set_qform(affine, code=1)
    volume.set_sform(affine, code=1)
    return volume


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume under a temporary name that then replaces ``path``.

    Args:
        path: the file, ending in ``.nii.gz``; its folder is made where it is missing.
        voxels: voxels [X, Y, Z], or [X, Y, Z, T] for the frames of a cine series.
        affine: affine [4, 4] in mm towards right, anterior and superior.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        nib.save(nifti_volume(voxels, affine), temporary)
