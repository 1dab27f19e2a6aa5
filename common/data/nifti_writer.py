"""Writing a volume as NIfTI, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from ..files import atomic_file

__all__ = ["write_nifti"]


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume under a temporary name that then replaces ``path``.

    Args:
        path: the file, ending in ``.nii.gz``; its folder is made where it is missing.
        voxels: voxels [X, Y, Z], or [X, Y, Z, T] for the frames of a cine series.
        affine: affine [4, 4] in mm towards right, anterior and superior.

    Raises:
        UserError: the file cannot be written.
    """
    volume = nib.Nifti1Image(voxels, affine)
    volume.header.set_xyzt_units("mm")
    volume.set_qform(affine, code=1)
    volume.set_sform(affine, code=1)
    with atomic_file(path) as temporary:
        nib.save(volume, temporary)
