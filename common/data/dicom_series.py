"""DICOM slices of one volume: put in order by their place in the scanner, checked, and read with their true grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK

from ..errors import UserError
from .dicom_header import check_length, read_header
from .library_noise import quiet_readers

__all__ = ["read_series", "sort_series"]

_GAP_TOLERANCE = 0.02
"""Largest deviation of a distance between neighbouring slices, as a share of their (lower) median."""

_SAME_PLACE = 1e-3
_SAME_GRID = 1e-4
_RIGHT_ANGLE = 1e-2
_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")


class _Slice(NamedTuple):
    """A slice's file and its grid: where its first pixel lies [3] in mm, and what all slices must share."""

    file: Path
    position: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray
    size: tuple[int, int]

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.orientation[:3], self.orientation[3:])


def sort_series(files: Sequence[Path], name: str) -> list[Path]:
    """Put the slices of one volume in the order of their places along the slices' normal.

    File names, instance numbers and series identifiers do not matter; in some public data sets they are of no use.

    Args:
        files: DICOM files of one slice each.
        name: what to call the series in messages.

    Returns:
        The files in ascending order along the normal, which is the cross product of a row's and a column's direction.

    Raises:
        UserError: there are fewer than two slices, one cannot be read or lacks its grid, slices differ in size,
            spacing or direction, two lie at one place, one is missing between others, or their distances are uneven.
    """
    if len(files) < 2:
        raise UserError(f"{name}: has {len(files)} DICOM slices; a series needs at least 2, restore its files")
    slices = [_header(file) for file in files]
    first = slices[0]
    for other in slices[1:]:
        _check_same_grid(other, first, name)
    offsets = np.stack([item.position for item in slices]) - first.position
    heights = offsets @ first.normal
    order = np.argsort(heights, kind="stable")
    aside = np.linalg.norm(offsets - heights[:, None] * first.normal, axis=1)
    if aside.max() > min(first.spacing) / 2:
        file = slices[int(aside.argmax())].file
        raise UserError(
            f"{name}: slice {file.name} lies {aside.max():.2f} mm beside the stack of the others; slices must lie on "
            "one straight line, remove those of another series"
        )
    _check_gaps(np.diff(heights[order]), [files[index] for index in order], name)
    return [files[index] for index in order]


def read_series(files: Sequence[Path], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the slices of one volume, see :func:`sort_series` for their order and what is refused.

    Args:
        files: DICOM files of one slice each.
        name: what to call the series in messages.

    Returns:
        The voxels ``[X, Y, Z]`` (X along a slice's rows, Y along its columns), int16 where that holds all values and
        else float32, and their affine ``[4, 4]`` in mm towards right, anterior and superior.

    Raises:
        UserError: the series is refused by :func:`sort_series`, or its pixels cannot be read.
    """
    ordered = sort_series(files, name)
    for file in ordered:
        check_length(file)
    try:
        with quiet_readers():
            image = SimpleITK.ReadImage([str(file) for file in ordered], SimpleITK.sitkFloat32)
    except RuntimeError as error:
        raise UserError(f"{name}: DICOM pixels cannot be read, a file is cut short; copy the series again") from error
    voxels = SimpleITK.GetArrayFromImage(image).T
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine[:2] *= -1  # from DICOM's left and posterior to right and anterior
    limits = np.iinfo(np.int16)
    whole = limits.min <= voxels.min() and voxels.max() <= limits.max and np.array_equal(voxels, np.rint(voxels))
    return voxels.astype(np.int16 if whole else np.float32), affine


def _header(file: Path) -> _Slice:
    try:
        header = read_header(file, [*_TAGS, "NumberOfFrames"])
        frames = int(header.get("NumberOfFrames") or 1)
        absent = next((tag for tag in _TAGS if not header.get(tag)), None)
        if absent is None:
            position, orientation, spacing = (np.array(header.get(tag), dtype=float) for tag in _TAGS[:3])
            size = (int(header.Rows), int(header.Columns))
    except Exception as error:  # what pydicom raises on damaged bytes depends on where in it they lead
        raise UserError(f"{file}: cannot be read as DICOM; copy it again") from error
    if frames > 1:
        raise UserError(f"{file}: is a multi-frame object, not one file a slice; convert it to NIfTI first")
    if absent is not None:
        raise UserError(f"{file}: has no {absent}, so its place is unknown; use the original file")
    item = _Slice(file, position, orientation, spacing, size)
    _check_grid(item)
    return item


def _check_grid(item: _Slice) -> None:
    """Whether the grid is one: two directions at right angles, of length 1, and spacings over 0."""
    lengths = (item.position.shape, item.orientation.shape, item.spacing.shape)
    values = np.concatenate([part.ravel() for part in (item.position, item.orientation, item.spacing)])
    if lengths == ((3,), (6,), (2,)) and np.isfinite(values).all() and item.spacing.min() > 0:
        directions = item.orientation.reshape(2, 3)
        if np.allclose(directions @ directions.T, np.eye(2), atol=_RIGHT_ANGLE):
            return
    raise UserError(
        f"{item.file}: its position, directions or pixel spacing make no grid; use the original file, or leave it out"
    )


def _check_same_grid(other: _Slice, first: _Slice, name: str) -> None:
    differences = {
        f"size {other.size}": other.size != first.size,
        f"pixel spacing {other.spacing.tolist()} mm": not np.allclose(other.spacing, first.spacing, atol=_SAME_GRID),
        "direction": not np.allclose(other.orientation, first.orientation, atol=_SAME_GRID),
    }
    found = [what for what, differs in differences.items() if differs]
    if found:
        raise UserError(
            f"{name}: slice {other.file.name} differs in {found[0]} from {first.file.name}; remove what belongs to "
            "another series"
        )


def _check_gaps(gaps: np.ndarray, ordered: Sequence[Path], name: str) -> None:
    """Whether the distances between neighbouring slices, in mm, are all the same."""
    closest = int(gaps.argmin())
    if gaps[closest] < _SAME_PLACE:
        twins = " and ".join(sorted(file.name for file in ordered[closest : closest + 2]))
        raise UserError(f"{name}: {twins} are duplicate slices of one place; remove one of them")
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])  # of two gaps the smaller one: the larger may lack a slice
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) <= _GAP_TOLERANCE * usual:
        return
    between = f"between {ordered[worst].name} and {ordered[worst + 1].name}"
    count = gaps[worst] / usual
    if round(count) >= 2 and abs(count - round(count)) <= _GAP_TOLERANCE * count:
        raise UserError(f"{name}: {round(count) - 1} slices are missing {between}; restore their files")
    raise UserError(
        f"{name}: slices are not evenly spaced, {gaps[worst]:.2f} mm {between} and {usual:.2f} mm elsewhere; such a "
        "series has no regular grid, restore its files or leave the patient out"
    )
