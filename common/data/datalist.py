"""Datalists: which files a bundle trains, validates and tests on.

A datalist is one JSON file, the same for every bundle and data set::

    {"name": "acdc", "description": "...", "num_classes": 4, "class_names": ["background", "RV", "MYO", "LV"],
     "training": [{"image": "...", "label": "<scribbles>", "case": "...", "patient": "...", "phase": "ED"}],
     "unpaired_masks": [{"label": "<dense mask>", "case": "...", "patient": "..."}],
     "unlabelled": [{"image": "...", "case": "...", "patient": "..."}],
     "validation": [{"image": "...", "label": "<dense mask>", "case": "...", "patient": "..."}],
     "test": [...]}

Sections may be absent or empty. Paths are absolute or relative to the datalist's folder. Of a training item,
``"label"`` may list the files of several annotators, ``"dense_label"`` may name a dense mask for mixed supervision,
and ``"supervision": "dense"`` says that ``"label"`` itself is one. Coarse drawings are ``"label"``, the positive one,
and ``"complement"``, the negative one, which holds for each pixel a class that it is not; either may be missing.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_text
from .datalist_writer import FILE_KEYS, write_datalist
from .phantom import DATALIST as PHANTOM_DATALIST
from .phantom import default_phantom_dir, ensure_phantom

__all__ = [
    "are_own",
    "classes_of",
    "datalist_info",
    "files_of",
    "load_datalist",
    "of_fold",
    "validation_items",
    "write_datalist",
]

_NAMING_KEYS = ("case", "patient", "phase")
_REQUIRED_KEYS = {"unpaired_masks": ("label",), "unlabelled": ("image",)}


def load_datalist(
    datalist: str | os.PathLike[str], section: str, *, required: bool = True, existing: bool = True
) -> list[dict[str, Any]]:
    """Read one section of a datalist.

    The datalist of the default phantom is made, with its images, when it does not exist yet.

    Args:
        datalist: the JSON file.
        section: ``"training"``, ``"unpaired_masks"``, ``"unlabelled"``, ``"validation"`` or ``"test"``.
        required: whether an absent or empty section is an error; otherwise it gives ``[]``.
        existing: whether a missing file is an error; otherwise the caller looks for the files.

    Returns:
        The section's items with absolute paths; if ``existing``, all of their files exist.

    Raises:
        UserError: the datalist is missing, is no valid JSON, lacks the section or one of an item's keys, or lists
            files that do not exist.
    """
    items = _section(datalist, _read(datalist), section)
    if required and not items:
        raise UserError(f'{datalist}: section "{section}" is missing or empty; list at least one item there')
    files = list(dict.fromkeys(file for item in items for file in files_of(item))) if existing else []
    missing = [file for file in files if not os.path.exists(file)]
    if missing:
        raise UserError(
            f'{datalist}: {len(missing)} of {len(files)} files listed under "{section}" do not exist, first '
            f"{missing[0]}; correct the paths or prepare the data again"
        )
    return items


def validation_items(datalist: str | os.PathLike[str], training: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The items that a run validates on, which may be none.

    A program that brings training items of its own, as MONAI Label does, is not to validate them on made-up hearts
    that it never asked for; another datalist, which somebody named, holds for any training items.

    Args:
        datalist: the JSON file. The default phantom is made when it is missing and its own items are trained on.
        training: the items that the run trains on.

    Raises:
        UserError: see :func:`load_datalist`.
    """
    is_phantom = Path(datalist).parent.resolve() == default_phantom_dir().resolve()
    if is_phantom and not are_own(training, datalist):
        return []
    return load_datalist(datalist, "validation", required=False)


def are_own(training: Sequence[Mapping[str, Any]], datalist: str | os.PathLike[str]) -> bool:
    """Whether items are the datalist's own training items, or some of them.

    The default phantom is neither made nor read for items of another place.

    Args:
        training: the items.
        datalist: the JSON file.

    Raises:
        UserError: see :func:`load_datalist`.
    """
    images = {os.path.realpath(item["image"]) for item in training}
    folder = default_phantom_dir().resolve()
    is_phantom = Path(datalist).parent.resolve() == folder
    if not images or (is_phantom and not all(Path(image).is_relative_to(folder) for image in images)):
        return False
    return images <= {os.path.realpath(item["image"]) for item in load_datalist(datalist, "training", required=False)}


def files_of(item: Mapping[str, Any]) -> list[str]:
    """The files that a datalist item names."""
    values = [item[key] for key in FILE_KEYS if key in item]
    return [file for value in values for file in (value if isinstance(value, list) else [value])]


def of_fold(dataset_dir: str | os.PathLike[str], fold: int) -> str:
    """The datalist of a cross-validation's fold.

    Args:
        dataset_dir: folder of the datalists.
        fold: 1, 2, ... for ``datalist_fold<fold>.json``; 0 for ``datalist.json``.
    """
    return os.path.join(dataset_dir, f"datalist_fold{fold}.json" if fold else "datalist.json")


def datalist_info(datalist: str | os.PathLike[str]) -> dict[str, Any]:
    """What a datalist says about its labels.

    Args:
        datalist: the JSON file; the default phantom's is made when it does not exist yet.

    Returns:
        ``name``, ``num_classes`` (background included) and ``class_names`` (``num_classes`` strings, background
        first).

    Raises:
        UserError: the datalist is missing or damaged, lacks one of the keys, or they contradict each other.
    """
    content = _read(datalist)
    info = {key: content.get(key) for key in ("name", "num_classes", "class_names")}
    absent = [key for key, value in info.items() if value is None]
    if absent:
        raise UserError(f'{datalist}: has no "{absent[0]}"; add it at the top level')
    num_classes, names = info["num_classes"], info["class_names"]
    if type(num_classes) is not int or num_classes < 2:
        raise UserError(f'{datalist}: "num_classes" is {num_classes!r}; give the number of classes with background')
    if not isinstance(names, list) or len(names) != num_classes or not all(map(_is_name, names)):
        raise UserError(f'{datalist}: "class_names" must list {num_classes} names ("num_classes"), background first')
    return info | {"class_names": [str(name) for name in names]}


def classes_of(datalist: str | os.PathLike[str], *, default: int) -> int:
    """The number of classes that a datalist says, so that a run need not be told.

    Args:
        datalist: the JSON file.
        default: the number where there is no such file: the default phantom, which is not made for this, and callers
            that bring items of their own.

    Raises:
        UserError: see :func:`datalist_info`.
    """
    return int(datalist_info(datalist)["num_classes"]) if os.path.lexists(datalist) else default


def _read(datalist: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object, after making the default phantom where that is what is missing."""
    path = Path(datalist)
    if path.name == PHANTOM_DATALIST and path.parent.resolve() == default_phantom_dir().resolve():
        ensure_phantom(path.parent)
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such datalist; correct the path or prepare the data first") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path}: invalid JSON at {where}: {error.msg}; correct the file") from error
    except (OSError, ValueError, RecursionError) as error:  # other ValueErrors: no text, a number of 5000 digits
        raise UserError(f"{path}: cannot be read as a JSON file; name a datalist") from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: holds no JSON object; a datalist looks like {{"training": [...], ...}}')
    return content


def _section(datalist: str | os.PathLike[str], content: Mapping[str, Any], section: str) -> list[dict[str, Any]]:
    """The section's items with absolute paths, whether or not the files exist."""
    items = content.get(section, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UserError(f'{datalist}: section "{section}" must be a list of objects such as {{"image": "..."}}')
    folder = os.path.dirname(os.path.abspath(datalist))
    resolved = []
    for number, item in enumerate(items, start=1):
        for key in (key for key in _NAMING_KEYS if item.get(key) is not None):
            if not _is_name(item[key]):
                raise UserError(f'{datalist}: "{key}" of item {number} of "{section}" is {item[key]!r}; give a name')
        for key in _REQUIRED_KEYS.get(section, ("image", "label")):
            drawn_otherwise = section == "training" and key == "label" and "complement" in item
            if key not in item and not drawn_otherwise:
                raise UserError(f'{datalist}: item {number} of "{section}" has no "{key}"; add the path of its file')
        paths: dict[str, str | list[str]] = {}
        for key in (key for key in FILE_KEYS if key in item):
            several = isinstance(item[key], list) and section == "training" and key == "label"
            names = item[key] if several else [item[key]]
            if not names or not all(isinstance(name, str) and _is_name(name) for name in names):
                raise UserError(f'{datalist}: "{key}" of item {number} of "{section}" is {item[key]!r}; give a path')
            full = [os.path.abspath(os.path.join(folder, name)) for name in names]
            paths[key] = full if several else full[0]
        resolved.append(item | paths)
    return resolved


def _is_name(value: Any) -> bool:
    """Whether it is a text that fits into a line, or a number, which some give their patients."""
    if not isinstance(value, str):
        return type(value) is int
    return bool(value.strip()) and not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value)
