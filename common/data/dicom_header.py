"""Reading headers of DICOM files whose lengths may be wrong, without taking memory for what they promise."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pydicom

from ..errors import UserError

__all__ = ["check_length", "read_header"]

_LARGE = 4096
"""Bytes of a value from which on it is left in the file."""

_UNDEFINED = 0xFFFFFFFF
_PIXELS = pydicom.tag.Tag("PixelData")


def read_header(file: Path, tags: Sequence[str] | None = None, *, pixels: bool = False) -> pydicom.FileDataset:
    """Read a header.

    Args:
        file: the file.
        tags: the elements to read, by their names; all of them by default.
        pixels: whether to go on behind the header, to the pixels; long values stay in the file all the same.

    Raises:
        Exception: the file cannot be read; what pydicom raises on damaged bytes depends on where in it they lead.
    """
    with _BoundedReader(io.FileIO(file)) as opened:
        return pydicom.dcmread(
            opened,
            stop_before_pixels=not pixels,
            specific_tags=None if tags is None else list(tags),
            defer_size=_LARGE if pixels else None,
        )


class _BoundedReader(io.BufferedReader):
    """A file of which nobody reads more than it has; memory is taken for as many bytes as are asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def check_length(file: Path) -> None:
    """Look whether a file is as long as it says, and has as many pixels; ITK takes memory for all that is promised.

    Raises:
        UserError: the file is too short, or its header is damaged.
    """
    try:
        size = file.stat().st_size
        header = read_header(file, pixels=True)
        raw = {tag: item for tag, item in header.items() if isinstance(item, pydicom.dataelem.RawDataElement)}
        ends = [item.value_tell + item.length for item in raw.values() if item.length != _UNDEFINED]
        fewest = int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) // 8
        pixels, syntax = raw[_PIXELS].length, header.file_meta.TransferSyntaxUID
        fits = pixels == _UNDEFINED if syntax.is_encapsulated else fewest <= pixels < _UNDEFINED
        fits &= syntax.is_deflated or max(ends) <= size  # deflated elements are longer than their file
    except Exception as error:
        raise UserError(f"{file}: has a damaged header; copy it again") from error
    if not fits:
        raise UserError(f"{file}: its DICOM pixels cannot be read, it is cut short or damaged; copy it again")
