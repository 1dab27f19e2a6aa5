"""What a folder of predictions holds and how it was made, so that a run can go on where another stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_text, remove_leftovers, write_json

__all__ = ["RECORD", "PredictionRecord", "digest", "file_digest", "source_marks"]

RECORD = "predictions.json"
"""The record's file name in the folder of the predictions."""
_NOTED = ("files", "before")
"""Where a case has check sums: of its files, and of those that they replaced."""


class PredictionRecord:
    """The record of a folder: of each case its source, its files with their check sums, and how they were made.

    A file that is not in it, or was changed since, is somebody's work, and not to be replaced without being asked.

    Args:
        folder: the folder of the predictions.
        head: what is true of all cases of the coming run, such as the bundle's name; replaces that of earlier runs.

    Raises:
        UserError: the folder's record cannot be read.
    """

    def __init__(self, folder: Path, head: dict[str, Any]) -> None:
        self.path = folder / RECORD
        self._head = head
        self._cases: dict[str, dict[str, Any]] = _read(self.path)

    def is_finished(self, case: str, files: Sequence[str], made: str) -> bool:
        """Whether all files of a case are there, unchanged, and were made in this way.

        Args:
            case: name of the case.
            files: its files, below the folder.
            made: a digest of everything that the files depend on.
        """
        entry = self._cases.get(case, {})
        return entry.get("made") == made and all(
            name in entry["files"] and entry["files"][name] == self._digest(name) for name in files
        )

    def foreign_file(self, case: str, files: Sequence[str]) -> str | None:
        """The first of a case's files that is there and is not as it was written, None where there is none."""
        for name in files:
            if os.path.lexists(self.path.parent / name) and self._own_digest(case, name) is None:
                return name
        return None

    def start(self) -> None:
        """Note how the coming run makes its cases, before the first is written.

        Raises:
            UserError: the record cannot be written.
        """
        remove_leftovers(self.path)
        self._write()

    def finish(self, case: str, files: Mapping[str, Path], made: str, **details: Any) -> None:
        """Note a case's files just before they are put in place.

        A run that is stopped in between leaves older files there, whose check sums stay noted for this.

        Args:
            case: name of the case.
            files: its files by their names below the folder, written whole, under other names for now.
            made: a digest of everything that the files depend on.
            details: what else to tell.

        Raises:
            UserError: the record cannot be written.
        """
        entry = self._cases.get(case, {})
        earlier = {name: self._own_digest(case, name) for key in _NOTED for name in entry.get(key, {})}
        self._cases[case] = {
            **details,
            "files": {name: file_digest(path) for name, path in files.items()},
            "before": {name: found for name, found in earlier.items() if found is not None},
            "made": made,
        }
        self._write()

    def _own_digest(self, case: str, name: str) -> str | None:
        """The check sum of a file that is as it was written, None for any other."""
        entry = self._cases.get(case, {})
        noted = [entry[key][name] for key in _NOTED if name in entry.get(key, {})]
        found = self._digest(name)
        # without a check sum, in older records, it is the file of a run that was stopped
        return found if found in noted or None in noted else None

    def _digest(self, name: str) -> str | None:
        path = self.path.parent / name
        return file_digest(path) if path.is_file() else None

    def _write(self) -> None:
        content = {**self._head, "cases": dict(sorted(self._cases.items()))}
        write_json(self.path, content, indent=1)


def digest(*parts: Any) -> str:
    """The SHA-256 of values that JSON can hold, or of how they are written where it cannot."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); restore it or correct its permissions") from error


def source_marks(files: Iterable[Path]) -> list[list[Any]]:
    """What tells a source from itself after a change: names, sizes in bytes and times of its files.

    Raises:
        UserError: a file is gone.
    """
    try:
        return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(files)]
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); restore it") from error


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        cases = json.loads(read_text(path))["cases"]
        if all(isinstance({"before": {}, **entry}[key], dict) for entry in cases.values() for key in _NOTED):
            return dict(cases)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise UserError(f"{path}: is no record of predictions; remove it or choose another --output")
