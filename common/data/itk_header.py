"""What the header of a NRRD or MetaImage file says, with the grid in this project's directions."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK

__all__ = ["ITK_EXTENSIONS", "ItkHeader", "meta_image_data", "read_itk_header"]

ITK_EXTENSIONS = (".nrrd", ".mha", ".mhd")
"""Ends of the names of NRRD and MetaImage files."""


class ItkHeader(NamedTuple):
    """Shape [X, Y, ...], affine [4, 4] in mm towards right, anterior and superior, text fields and components."""

    shape: tuple[int, ...]
    affine: np.ndarray
    metadata: Mapping[str, str]
    components: int


def read_itk_header(path: str | os.PathLike[str]) -> ItkHeader:
    """Read a header without the voxels.

    Args:
        path: a file that ITK can read.

    Raises:
        RuntimeError: ITK cannot read it, or its text fields are no text.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    reader.ReadImageInformation()
    metadata = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if _is_text(key)}
    if len(metadata) < len(reader.GetMetaDataKeys()) or not all(map(_is_text, metadata.values())):
        raise RuntimeError("the header is no text")
    axes = reader.GetDimension()
    directions = np.array(reader.GetDirection()).reshape(axes, axes) * np.array(reader.GetSpacing())
    kept = min(axes, 3)
    affine = np.eye(4)
    affine[:kept, :kept] = directions[:kept, :kept]
    affine[:kept, 3] = reader.GetOrigin()[:kept]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's axes run towards left and posterior
    return ItkHeader(
        tuple(int(extent) for extent in reader.GetSize()),
        affine,
        metadata,
        int(reader.GetNumberOfComponents()),
    )


def meta_image_data(path: str | os.PathLike[str]) -> list[Path]:
    """The files of the voxels that a MetaImage header names; none of another file, or where they lie in it.

    Raises:
        OSError: the header cannot be read.
    """
    if not os.fspath(path).endswith(".mhd"):
        return []
    folder, told = Path(path).parent, Path(path).read_bytes().partition(b"ElementDataFile")[2]
    name, *more = os.fsdecode(told).lstrip(" \t=:").splitlines() or [""]
    if name.strip().upper() in ("", "LOCAL"):
        return []
    if name.split()[0] == "LIST":
        return [folder / line.strip() for line in more if line.strip()]
    if "%" in name:  # as in "slice%03d.raw 1 20 1", from the first number to the last
        return sorted(folder.glob(re.sub("%[0-9]*d", "*", name.split()[0])))
    return [folder / name.strip()]


def _is_text(value: str) -> bool:
    """Whether no bytes are in it that are no UTF-8; ITK does not take such a key back."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
