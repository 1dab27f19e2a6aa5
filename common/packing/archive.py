"""Zip files that are the same byte for byte wherever they are made, and unpacking that stays in its folder."""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..files import atomic_file

__all__ = ["checksum", "unpack", "write_archive"]

_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644
_LARGEST = 4 * 2**30


def write_archive(path: str | os.PathLike, files: Mapping[str, bytes]) -> str:
    """Write a zip file, and beside it its SHA-256 as ``sha256sum --check`` reads it.

    Entries are sorted, with one date and one mode, and stored as they are: compression differs between versions of
    zlib, and weights hardly shrink.

    Args:
        path: the file, ending in ``.zip``.
        files: content by name; folders are parted by ``/``.

    Returns:
        the SHA-256 in hexadecimal digits.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(path)
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _FIRST_DAY)
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = _MODE << 16
            archive.writestr(entry, files[name])
    digest = checksum(path)
    with atomic_file(path.with_name(f"{path.name}.sha256")) as temporary:
        temporary.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    return digest


def checksum(path: str | os.PathLike) -> str:
    """The SHA-256 of a file in hexadecimal digits.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def unpack(path: str | os.PathLike, folder: str | os.PathLike) -> Path:
    """Unpack a bundle's zip file, after a look at every name in it.

    Args:
        path: the zip file, which holds one folder.
        folder: an existing folder that has none of that name.

    Returns:
        the unpacked folder.

    Raises:
        UserError: it is no zip file or damaged; an entry has an absolute path, one that leaves the folder or is there
            twice, or is no plain file; it holds more than one folder, or more than 4 GiB; or the folder exists.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            top = _check(Path(path), entries)
            target = Path(folder) / top
            if target.exists():
                raise UserError(f"{target}: is there already; remove it or choose another folder")
            for entry in entries:
                archive.extract(entry, folder)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path}: is no zip file that can be read ({error}); get it anew") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be unpacked to {folder} ({error.strerror or error})") from error
    return target


def _check(path: Path, entries: list[zipfile.ZipInfo]) -> str:
    """Refuse names that lead elsewhere; return the one folder that all are in."""
    tops, seen = set(), set()
    for entry in entries:
        name = entry.filename
        kind = stat.S_IFMT(entry.external_attr >> 16)
        pure = PurePosixPath(name)
        # names of other systems too: a backslash or a colon means something on Windows
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name or not pure.parts:
            raise UserError(f"{path}: holds the path {name!r}, which leads out of its folder; do not use this file")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{path}: holds {name!r}, which is a link or no plain file; do not use this file")
        if pure in seen:
            raise UserError(f"{path}: holds {name!r} twice; do not use this file")
        seen.add(pure)
        tops.add(pure.parts[0])
        if len(pure.parts) == 1 and not entry.is_dir():
            raise UserError(f"{path}: holds {name!r} outside of a folder; a bundle's zip file is one folder")
    if len(tops) != 1:
        raise UserError(f"{path}: holds {len(tops)} folders; a bundle's zip file is one folder")
    if sum(entry.file_size for entry in entries) > _LARGEST:
        raise UserError(f"{path}: would take more than 4 GiB unpacked; do not use this file")
    return tops.pop()
