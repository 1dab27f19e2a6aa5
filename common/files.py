"""Writing files whole or not at all, and reading those that have an end."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

from .errors import UserError

__all__ = [
    "NIFTI_EXTENSIONS",
    "atomic_file",
    "claim_folder",
    "read_text",
    "remove_leftovers",
    "remove_leftovers_below",
    "staged_folder",
    "writable_folder",
    "write_json",
]

NIFTI_EXTENSIONS = (".nii.gz", ".nii")
"""Ends of the names of NIfTI files, the longer one first."""

_UNIQUE = f".{'[0-9a-f]' * 12}."
"""How a temporary name begins, as a pattern."""


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to; at the end it is flushed to the disk and renamed to ``path``.

    The temporary name keeps the ending of ``path``, which libraries choose the format by. Whatever goes wrong, an
    older file stays as it was and the temporary one goes.

    Args:
        path: the file; its folder is made where it is missing.

    Raises:
        UserError: if it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: Any, *, indent: int | None = None) -> None:
    """Write values that JSON knows to a file, whole or not at all.

    Raises:
        UserError: if it cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def read_text(path: str | os.PathLike[str], *, encoding: str = "utf-8") -> str:
    """Read a text file, but no pipe or device, whose end may never come.

    Raises:
        OSError: there is no such file, or it cannot be read.
        UnicodeDecodeError: it holds no text of this encoding.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return path.read_text(encoding=encoding)


def remove_leftovers(*paths: str | os.PathLike) -> None:
    """Remove the temporary files beside ``paths`` that a process killed in the middle of :func:`atomic_file` left.

    Only for files that no other process writes.
    """
    for path in map(Path, paths):
        for temporary in path.parent.glob(f"{_UNIQUE}{glob.escape(path.name)}"):
            with contextlib.suppress(OSError):
                temporary.unlink()


def remove_leftovers_below(folder: str | os.PathLike[str]) -> None:
    """Remove all such temporary files in a folder and its subfolders, to which no other process writes."""
    for temporary in list(Path(folder).rglob(f"{_UNIQUE}*")):
        with contextlib.suppress(OSError):
            temporary.unlink()


def writable_folder(path: str | os.PathLike) -> str:
    """Make a folder if it is missing and prove that files can be written there.

    Returns:
        the folder.

    Raises:
        UserError: if not.
    """
    folder = os.path.expanduser(path)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot write there ({error.strerror}); choose another output_dir") from error
    return str(folder)


_claimed: dict[tuple[int, int], int] = {}


def claim_folder(folder: str | os.PathLike[str]) -> Callable[[], None]:
    """Keep a folder for this process, until it ends or gives the folder back.

    No file tells of it, and of a process that was killed nothing is left. File systems and machines that know no such
    locks let every process have the folder. A process may claim what it has.

    Args:
        folder: the folder, which exists.

    Returns:
        What gives it back; of a folder that the process had already, nothing.

    Raises:
        UserError: another process has it.
    """
    held = os.stat(folder)
    key = (held.st_dev, held.st_ino)
    if fcntl is None or key in _claimed:
        return lambda: None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            fix = "wait for it, or give another output_dir"
            raise UserError(f"{folder}: another training writes there; {fix}") from error
        return lambda: None
    _claimed[key] = descriptor

    def give_back() -> None:
        if _claimed.pop(key, None) is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # processes that were forked meanwhile have the descriptor too
            os.close(descriptor)

    return give_back


@contextlib.contextmanager
def staged_folder(folder: Path, is_made: Callable[[], bool]) -> Iterator[Path]:
    """A folder to fill beside another one, which it then replaces as a whole.

    Args:
        folder: the folder, whose parent is made where it is missing.
        is_made: whether the folder is what it should be already; a process beside this one may have made it meanwhile.

    Raises:
        UserError: the parent cannot be written to.
    """
    parent = writable_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{folder.name}.", ignore_cleanup_errors=True) as place:
        staging = Path(place) / folder.name
        yield staging
        if not is_made():
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(staging, folder)
