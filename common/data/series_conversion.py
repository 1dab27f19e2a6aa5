"""Turning DICOM series into NIfTI files, all of them or none."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib

from ..errors import UserError
from ..files import writable_folder
from .dicom_series import read_series, sort_series
from .nifti_writer import nifti_volume

__all__ = ["convert_series"]

_STAGING = ".converting_"


def convert_series(series: Mapping[str, Sequence[Path]], folder: Path) -> dict[str, Path]:
    """Write each series as ``<name>.nii.gz`` with its true orientation and spacing.

    All series are looked at before the first is read, and the files appear together once all could be read. A series
    that was converted before, with the same slices' sizes and times, is not read again.

    Args:
        series: the files of one slice each, by the name of the case.
        folder: where the NIfTI files go.

    Returns:
        The file of each name.

    Raises:
        UserError: a series has missing, duplicate or unevenly spaced slices or cannot be read (see
            :mod:`.dicom_series`), or the folder cannot be written to.
    """
    targets = {name: folder / f"{name}.nii.gz" for name in series}
    marks = {name: _fingerprint(files) for name, files in series.items()}
    todo = [name for name in series if _mark_of(targets[name]) != marks[name]]
    for name in todo:
        sort_series(series[name], _title(name, series[name]))
    if not todo:
        return targets
    writable_folder(folder)
    try:
        for left in folder.glob(f"{_STAGING}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=_STAGING, ignore_cleanup_errors=True) as staging:
            for name in todo:
                voxels, affine = read_series(series[name], _title(name, series[name]))
                volume = nifti_volume(voxels, affine)
                volume.header["descrip"] = marks[name]
                nib.save(volume, Path(staging) / targets[name].name)
            for name in todo:
                os.replace(Path(staging) / targets[name].name, targets[name])
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); choose another --output") from error
    return targets


def _title(name: str, files: Sequence[Path]) -> str:
    return f"{files[0].parent} (case {name})"


def _fingerprint(files: Sequence[Path]) -> bytes:
    """What tells a series from another, or from itself after a change, short enough for a NIfTI header."""
    try:
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(files)]
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); restore the series") from error
    return hashlib.sha256(repr(stats).encode()).hexdigest().encode()


def _mark_of(file: Path) -> bytes | None:
    try:
        return bytes(nib.Nifti1Image.from_filename(file).header["descrip"].item())
    except Exception:  # missing, or damaged in one of many ways: it is written anew
        return None
