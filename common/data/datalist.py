"""Datalists: which files a bundle trains, validates and tests on.

A datalist is one JSON file, the same for every bundle and data set::

    {"name": "acdc", "description": "...", "num_classes": 4, "class_names": ["background", "RV", "MYO", "LV"],
     "training": [{"image": "...", "label": "<scribbles>", "case": "...", "patient": "...", "phase": "ED"}],
     "unpaired_masks": [{"label": "<dense mask>", "case": "...", "patient": "..."}],
     "unlabelled": [{"image": "...", "case": "...", "patient": "..."}],
     "validation": [{"image": "...", "label": "<dense mask>", "case": "...", "patient": "..."}],
     "test": [...]}

Sections may be absent or empty. Paths are absolute or relative to the datalist's folder.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .datalist_writer import FILE_KEYS, write_datalist
from .phantom import default_phantom_dir, ensure_phantom

__all__ = ["companion_items", "datalist_info", "keep_fraction", "load_datalist", "write_datalist"]

_REQUIRED_KEYS: dict[str, tuple[str, ...]] = {"unpaired_masks": ("label",), "unlabelled": ("image",)}


def load_datalist(datalist: str | os.PathLike[str], section: str, *, required: bool = True) -> list[dict[str, Any]]:
    """Read one section of a datalist.

    The datalist of the default phantom is made, with its images, when it does not exist yet.

    Args:
        datalist: the JSON file.
        section: ``"training"``, ``"unpaired_masks"``, ``"unlabelled"``, ``"validation"`` or ``"test"``.
        required: whether an absent or empty section is an error; otherwise it gives ``[]``.

    Returns:
        The section's items with absolute paths under ``"image"`` and ``"label"``; all of these files exist.

    Raises:
        UserError: the datalist is missing, is no valid JSON, lacks the section or one of an item's keys, or lists
            files that do not exist.
    """
    items = _section(datalist, _read(datalist), section)
    if required and not items:
        raise UserError(f'{datalist}: section "{section}" is missing or empty; list at least one item there')
    files = list(dict.fromkeys(item[key] for item in items for key in FILE_KEYS if key in item))
    missing = [file for file in files if not os.path.exists(file)]
    if missing:
        raise UserError(
            f'{datalist}: {len(missing)} of {len(files)} files listed under "{section}" do not exist, first '
            f"{missing[0]}; correct the paths or prepare the data again"
        )
    return items


def companion_items(
    training_items: Sequence[Mapping[str, Any]], datalist: str | os.PathLike[str], section: str
) -> list[dict[str, Any]]:
    """Items of another section, as companions of the training items: they are used only with the datalist's own.

    A caller may replace a bundle's training items by a list of its own, as MONAI Label does. Masks or images of the
    datalist then belong to other data and are left out; the default phantom is not even made.

    Args:
        training_items: the items that the bundle trains on.
        datalist: the JSON file that the bundle names.
        section: such as ``"unpaired_masks"`` or ``"unlabelled"``.

    Returns:
        The section's items if the images of ``training_items`` are all among the datalist's training images, else
        ``[]``. Where that leaves ``"unlabelled"`` empty, the training images without their labels (keys ``image``,
        ``case`` and ``patient``).

    Raises:
        UserError: the datalist is missing or damaged, see :func:`load_datalist`.
    """
    items = load_datalist(datalist, section, required=False) if _are_own(training_items, datalist) else []
    if items or section != "unlabelled":
        return items
    return [{key: item[key] for key in ("image", "case", "patient") if key in item} for item in training_items]


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
    if not isinstance(names, list) or len(names) != num_classes:
        raise UserError(f'{datalist}: "class_names" must list {num_classes} names ("num_classes"), background first')
    return info


def keep_fraction(items: Sequence[Mapping[str, Any]], fraction: float, *, seed: int) -> list[dict[str, Any]]:
    """Keep a share of the items by whole patients, for experiments with fewer annotated patients.

    The patients are put into one order by the seed alone, and the first of them are kept: with the same seed a
    smaller share is part of a larger one, and all frames of a patient stay together.

    Args:
        items: datalist items; those without ``"patient"`` count as a patient of their own.
        fraction: share of the patients, over 0 and at most 1; at least one patient is kept.
        seed: seed of the order.

    Returns:
        The items of round(fraction · patients) patients, in their given order.

    Raises:
        UserError: ``fraction`` is out of its range.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"the share of labelled images is {fraction}; give a number over 0 and at most 1")
    patients = sorted({_patient(item) for item in items})
    count = max(1, math.floor(fraction * len(patients) + 0.5))
    order = np.random.default_rng(seed).permutation(len(patients))
    kept = {patients[index] for index in order[:count]}
    return [dict(item) for item in items if _patient(item) in kept]


def _read(datalist: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object, after making the default phantom where that is what is missing."""
    path = Path(datalist)
    if _is_missing_phantom(path):
        ensure_phantom(path.parent)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such datalist; correct the path or prepare the data first") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path}: invalid JSON at {where}: {error.msg}; correct the file") from error
    except (OSError, UnicodeDecodeError) as error:
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
        for key in _REQUIRED_KEYS.get(section, FILE_KEYS):
            if key not in item:
                raise UserError(f'{datalist}: item {number} of "{section}" has no "{key}"; add the path of its file')
        paths = {key: item[key] for key in FILE_KEYS if key in item}
        for key, path in paths.items():
            if not isinstance(path, str) or not path:
                raise UserError(f'{datalist}: "{key}" of item {number} of "{section}" is {path!r}; give a path')
        resolved.append(item | {key: os.path.abspath(os.path.join(folder, path)) for key, path in paths.items()})
    return resolved


def _are_own(training_items: Sequence[Mapping[str, Any]], datalist: str | os.PathLike[str]) -> bool:
    """Whether the items are the datalist's own training items, or some of them."""
    if not training_items or _is_missing_phantom(Path(datalist)):
        return False
    return _images(training_items) <= _images(_section(datalist, _read(datalist), "training"))


def _is_missing_phantom(path: Path) -> bool:
    return not path.exists() and path.parent.resolve() == Path(default_phantom_dir()).resolve()


def _images(items: Iterable[Mapping[str, Any]]) -> set[str]:
    return {os.path.realpath(item["image"]) for item in items}


def _patient(item: Mapping[str, Any]) -> str:
    return str(item.get("patient") or item.get("case") or item.get("image") or item["label"])
