"""Whether a compressed image file is whole: readers of images do not look at the check sum that tells."""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from ..errors import UserError

__all__ = ["check_compressed"]

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 16
_MOST_DIGITS = 20
_ZLIB_OR_GZIP = 47
"""The wbits with which zlib tells the two formats apart by itself, as MetaImage's reader does."""

_META_SIZES = {"CHAR": 1, "SHORT": 2, "LONG_LONG": 8, "INT": 4, "LONG": 4, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of MetaImage's kinds of numbers; LONG is of 8 where some programs wrote it."""


def check_compressed(path: str | os.PathLike[str]) -> None:
    """Unpack a gzipped NIfTI file or the compressed voxels of a MetaImage or NRRD file, and look at their check sum.

    Of a picture (PNG), the sums of its parts are looked at.

    A flipped bit in such a file often unpacks to other voxels without any complaint. MetaImage's sum, Adler-32, misses
    one in a thousand of them where voxels are few small numbers; gzip's misses none. Files that are not compressed
    have no check sum: they are left unread, as are files that do not begin as their ending says, which no reader will
    take.

    Args:
        path: the file; voxels beside it in a file of their own (``.mhd``) are looked up there.

    Raises:
        UserError: the compressed data end too early or do not fit their check sum.
    """
    name = os.fspath(path).lower()
    try:
        with open(path, "rb") as file:
            if name.endswith(".gz"):
                _drain_gzip(file)
            elif name.endswith((".mha", ".mhd")):
                _check_meta_image(file, Path(path))
            elif name.endswith(".nrrd"):
                _check_nrrd(file)
            elif name.endswith(".png"):
                _check_picture(file)
    except (gzip.BadGzipFile, EOFError, zlib.error, SyntaxError) as error:
        raise UserError(f"{path}: is damaged or cut short; copy or export it again") from error
    except OSError:
        return  # why it cannot be opened is for the reader to say


def _check_meta_image(file: BinaryIO, path: Path) -> None:
    header: dict[str, str] = {}
    for line in _lines(file):
        key, sign, value = (part.strip() for part in line.partition("="))
        if sign:
            header[key] = value
        if key == "ElementDataFile":
            break
    voxels = header.get("ElementDataFile", "")
    if voxels.startswith("LIST") or "%" in voxels:  # ITK makes voxels up for those that it does not find
        raise UserError(f"{path}: has its voxels in several files; save it as one")
    if header.get("CompressedData", "").lower() not in ("true", "1"):
        return
    if voxels.lower() == "local":
        length, packed = _drain_zlib(file)
    elif (path.parent / voxels).is_file():
        with open(path.parent / voxels, "rb") as beside:
            length, packed = _drain_zlib(beside)
    else:
        return
    if length < _fewest_bytes(header) or 0 < _number(header.get("CompressedDataSize", "")) < packed:
        raise EOFError


def _check_picture(file: BinaryIO) -> None:
    with contextlib.suppress(UnidentifiedImageError, Image.DecompressionBombError), Image.open(file) as picture:
        picture.verify()  # a SyntaxError tells of a check sum that does not fit


def _fewest_bytes(header: Mapping[str, str]) -> int:
    """How many bytes the voxels have at least; ITK takes fewer, too, and makes the others up."""
    counts = [*header.get("DimSize", "").split(), header.get("ElementNumberOfChannels", "1")]
    item = next((size for kind, size in _META_SIZES.items() if header.get("ElementType", "").endswith(kind)), 1)
    return item * math.prod(map(_number, counts))


def _number(text: str) -> int:
    """A count in a header; what is none is for the reader to tell."""
    return int(text) if text.isdecimal() and len(text) < _MOST_DIGITS else 0


def _check_nrrd(file: BinaryIO) -> None:
    gzipped = False
    for line in _lines(file):
        if not line:
            break
        if re.match(r"(data ?file|line skip):", line, re.IGNORECASE):
            return
        gzipped |= re.fullmatch(r"encoding: *(gz|gzip)", line, re.IGNORECASE) is not None
    if gzipped:
        _drain_zlib(file)


def _lines(file: BinaryIO) -> Iterable[str]:
    """The lines of a header as far as they may be one, without what ends them."""
    while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
        yield line.decode("latin-1").strip()


def _drain_gzip(file: BinaryIO) -> None:
    with gzip.GzipFile(fileobj=file) as unpacked:
        while unpacked.read(_CHUNK):
            pass


def _drain_zlib(file: BinaryIO) -> tuple[int, int]:
    """The number of bytes that come out, and of those that they were packed to."""
    length = packed = 0
    unpacker = zlib.decompressobj(_ZLIB_OR_GZIP)
    while not unpacker.eof:
        chunk = unpacker.unconsumed_tail
        if not chunk:
            chunk = file.read(_CHUNK)
            packed += len(chunk)
        if not chunk:
            raise EOFError
        length += len(unpacker.decompress(chunk, _CHUNK))
    return length, packed - len(unpacker.unused_data)
