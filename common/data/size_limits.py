"""How much an image file can hold: headers may promise far more, and readers take memory for all that they promise."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["bytes_at_most", "promises_too_much"]

_MOST_DENSE = 1032
"""A byte of a gzip or zlib stream never gives more bytes than this."""

_HEADROOM = 2**16


def bytes_at_most(path: str | os.PathLike[str]) -> int:
    """The most bytes that a file may hold when it is unpacked; of a ``.mhd`` header, those of its largest neighbour.

    Raises:
        OSError: the file cannot be looked at.
    """
    path = Path(path)
    ending = path.suffix.lower()
    files = [entry for entry in path.parent.iterdir() if entry.is_file()] if ending == ".mhd" else [path]
    size = max(file.stat().st_size for file in files)
    return _HEADROOM + (size if ending == ".nii" else size * _MOST_DENSE)


def promises_too_much(path: str | os.PathLike[str], shape: Sequence[int], bytes_per_voxel: int) -> bool:
    """Whether a file's header tells of more voxels than the file can hold.

    Args:
        path: the file.
        shape: number of voxels along each axis, channels and frames included.
        bytes_per_voxel: size of a voxel in bytes, or a lower bound of it.

    Raises:
        OSError: the file cannot be looked at.
    """
    return math.prod(map(int, shape)) * bytes_per_voxel > bytes_at_most(path)
