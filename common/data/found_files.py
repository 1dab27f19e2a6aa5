"""Finding images on disk: the files of a folder or of a pattern, and folders that are DICOM series."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .case_names import IMAGE_EXTENSIONS, stem_of

__all__ = ["Found", "find_images"]

_MAGIC = "*?["
_DICOM_ENDS = (".dcm", ".ima")
_DICOM_MARK, _MARK_AT = b"DICM", 128


class Found(NamedTuple):
    """An image file, or the folder of a DICOM series with its slices' files; ``folders`` lead there from the root."""

    path: Path
    folders: tuple[str, ...]
    slices: tuple[Path, ...] = ()

    @property
    def stem(self) -> str:
        """The file's name without its extension, or the folder's name."""
        return stem_of(self.path.name) or self.path.name


def find_images(source: str, *, skip: Path | None = None) -> list[Found]:
    """Find images below a folder, or those that a pattern names.

    A folder is searched with all of its subfolders; links are followed, but never into a folder that contains them.
    A folder with DICOM files, which are known by their ending or their first bytes, counts as one series. A file
    that is found on several ways, under one name, is listed once; hidden files and folders are left out.

    Args:
        source: a folder, a file, or a pattern with ``*``, ``?``, ``[...]`` and, for any number of folders, ``**``.
        skip: a folder not to search.

    Returns:
        What was found, sorted by path.

    Raises:
        UserError: there is no such folder or nothing was found, a folder or file may not be read, a name is no valid
            Unicode, or one file is found under two names.
    """
    root, pattern = _root_and_pattern(source)
    if os.path.isfile(root):
        if stem_of(root.name) is None:
            raise UserError(f"{root}: not an image file; expected one of {', '.join(IMAGE_EXTENSIONS)}")
        return [Found(root, ())]
    if not os.path.isdir(root):
        raise UserError(f"{root}: no such file or folder; correct the path")
    depth = None if not pattern or "**" in pattern else len(pattern)
    away = None if skip is None else os.path.realpath(skip)
    found = [entry for entry in _walk(root, (), (), depth, away) if not pattern or _is_named(entry, pattern)]
    if not found:
        kinds = f"expected files ending in {', '.join(IMAGE_EXTENSIONS)}, or DICOM series"
        raise UserError(f"{source}: no image found; {kinds}")
    return _once_each(found)


def _root_and_pattern(source: str) -> tuple[Path, tuple[str, ...]]:
    """The folder to search, absolute, and the parts of the pattern below it; a path that exists is no pattern."""
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if not source:
        raise UserError("a folder or pattern of images is empty; name one")
    if os.path.exists(path):
        return path, ()
    first = next((number for number, part in enumerate(path.parts) if any(sign in part for sign in _MAGIC)), None)
    return (path, ()) if first is None else (Path(*path.parts[:first]), path.parts[first:])


def _is_named(found: Found, pattern: tuple[str, ...]) -> bool:
    """Whether the pattern names the file, or the series' folder, or one of its slices."""
    if not found.slices:
        return _matches((*found.folders, found.path.name), pattern)
    names = [(*found.folders, file.name) for file in found.slices]
    return any(_matches(parts, pattern) for parts in (found.folders, *names))


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _walk(
    folder: Path, folders: tuple[str, ...], ancestors: tuple[str, ...], depth: int | None, skip: str | None
) -> Iterator[Found]:
    """Yield what lies below a folder, at most ``depth`` names deep."""
    real = os.path.realpath(folder)
    if real in ancestors or real == skip:
        return
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        if not os.access(folder, os.X_OK):  # its names can be listed, but nothing there be opened
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); correct its permissions") from error
    slices = []
    for name in names:
        path = folder / name
        if not _is_unicode(name):
            raise UserError(f"{folder}: the name {os.fsencode(name)!r} is no valid UTF-8; rename it")
        if os.path.isdir(path):
            if depth is None or len(folders) < depth:
                yield from _walk(path, (*folders, name), (*ancestors, real), depth, skip)
        elif os.path.isfile(path) and stem_of(name) is not None:
            yield Found(path, folders)
        elif os.path.isfile(path) and _is_dicom(path):
            slices.append(path)
    if slices:
        yield Found(folder, folders, tuple(slices))


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(_DICOM_ENDS):
        return True
    if path.name == "DICOMDIR":
        return False
    try:
        with path.open("rb") as file:
            return file.read(_MARK_AT + len(_DICOM_MARK))[_MARK_AT:] == _DICOM_MARK
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error


def _once_each(found: list[Found]) -> list[Found]:
    """What was found, without second ways to one file; a second name of it would make one scan two cases."""
    known: dict[str, Found] = {}
    for entry in sorted(found, key=lambda entry: (len(entry.folders), str(entry.path))):
        real = os.path.realpath(entry.path)
        if entry.path.name != known.setdefault(real, entry).path.name:
            raise UserError(
                f"{known[real].path} and {entry.path} are one file under two names, a link; keep one of them"
            )
    return sorted(known.values(), key=lambda entry: str(entry.path))
