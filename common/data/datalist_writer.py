"""Writing a datalist: one JSON file that a person can read, compare and mend."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import atomic_file

FILE_KEYS = ("image", "label", "dense_label", "complement")
"""The keys of a datalist item that name a file, or several files in a list (labels of several annotators)."""


def write_datalist(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a datalist as JSON with one item a line, under a temporary name that then replaces ``path``.

    Files below the datalist's folder are written relative to it, so that the folder can be moved; others are written
    as absolute paths. A path that comes in relative is taken as relative to the datalist's folder, as on reading.

    Args:
        path: the JSON file; its folder is made where it is missing.
        content: the datalist: scalars and lists such as ``class_names``, and sections (lists of items).

    Raises:
        UserError: the file cannot be written.
    """
    target = Path(os.path.abspath(path))
    text = "{\n" + ",\n".join(f"  {_dumps(key)}: {_block(value, target.parent)}" for key, value in content.items())
    with atomic_file(target) as temporary:
        temporary.write_text(text + "\n}\n", encoding="utf-8")


def _block(value: Any, folder: Path) -> str:
    """One top-level value; a section is spread over lines, anything else stays on its key's line."""
    if not (isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value)):
        return _dumps(value)
    return "[\n" + ",\n".join(f"    {_dumps(_relative(item, folder))}" for item in value) + "\n  ]"


def _relative(item: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The item with the files below ``folder`` named relative to it."""
    written = dict(item)
    for key in FILE_KEYS:
        if isinstance(item.get(key), list):
            written[key] = [_relative_file(file, folder) for file in item[key]]
        elif key in item:
            written[key] = _relative_file(item[key], folder)
    return written


def _relative_file(name: str, folder: Path) -> str:
    file = Path(os.path.abspath(folder / name))
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
