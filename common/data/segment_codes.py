"""What a segment's name means, in the codes that DICOM programs understand."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..files import read_text

__all__ = ["Code", "SegmentCode", "code_segments", "read_segment_codes"]

_TABLE = Path(__file__).with_name("segment_codes.json")
_KEYS = {"aliases", "category", "type", "modifier"}
_LONGEST = {"value": 16, "scheme": 16, "meaning": 64}


class Code(NamedTuple):
    """An entry of a coding scheme, such as ``("87878005", "SCT", "Left ventricle")`` of SNOMED CT."""

    value: str
    scheme: str
    meaning: str


class SegmentCode(NamedTuple):
    """What a segment is: a name to show, the category of what it shows, the thing itself, and its side, if it has."""

    label: str
    category: Code
    type: Code
    modifier: Code | None = None


_ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
_TISSUE = Code("85756007", "SCT", "Tissue")


def read_segment_codes(path: str | os.PathLike[str] | None = None) -> dict[str, dict[str, Any]]:
    """Read the table of codes, ``segment_codes.json`` beside this file, and one whose entries come before its own.

    A table is a JSON object of entries by name: ``{"left kidney": {"type": ["64033007", "SCT", "Kidney"], "modifier":
    ["7771000", "SCT", "Left"], "aliases": ["kidney left"]}}``. A code is its value, its scheme and its meaning;
    ``category`` may be left out for anatomy, and so may ``modifier`` and ``aliases``. Upper and lower case are the
    same, and so are spaces, underscores and hyphens.

    Args:
        path: the user's table, None for no other.

    Returns:
        The entries by plain name, aliases included.

    Raises:
        UserError: the user's table cannot be read or is no such table.
    """
    entries = _read(_TABLE)
    return entries if path is None else entries | _read(Path(path).expanduser())


def code_segments(class_names: Sequence[str], table: Mapping[str, Mapping[str, Any]]) -> list[SegmentCode]:
    """Give each class but the first, the background, its codes; "Tissue" to those that the table does not have.

    Args:
        class_names: names of the C classes, background first.
        table: see :func:`read_segment_codes`.

    Returns:
        The codes of the classes 1 to C - 1, with the classes' names as labels.
    """
    codes = []
    for name in class_names[1:]:
        entry = table.get(_plain(name))
        if entry is None:
            codes.append(SegmentCode(name, _TISSUE, _TISSUE))
        else:
            codes.append(SegmentCode(name, entry.get("category", _ANATOMY), entry["type"], entry.get("modifier")))
    return codes


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.strip())).casefold()


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a JSON file of segment codes") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON ({error}); correct it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no table of segment codes; write a JSON object of entries by segment name")
    entries: dict[str, dict[str, Any]] = {}
    for name, entry in content.items():
        checked = _check_entry(entry, f"{path}: {name!r}")
        for each in (name, *checked.pop("aliases", ())):
            if entries.setdefault(_plain(each), checked) is not checked:
                raise UserError(f"{path}: {each!r} is named twice; remove one")
    return entries


def _check_entry(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict) or "type" not in entry or not set(entry) <= _KEYS:
        raise UserError(f'{where}: must be an object with "type" and, if wanted, "category", "modifier" and "aliases"')
    aliases = entry.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise UserError(f"{where}: aliases must be a list of names")
    codes = {key: _code(entry[key], f"{where}: {key}") for key in ("category", "type", "modifier") if key in entry}
    return {**codes, "aliases": aliases}


def _code(value: Any, where: str) -> Code:
    fits = isinstance(value, list) and len(value) == len(_LONGEST) and all(isinstance(part, str) for part in value)
    if not fits or not all(value):
        raise UserError(f'{where}: must be [value, scheme, meaning], such as ["10200004", "SCT", "Liver"]')
    for part, (name, most) in zip(value, _LONGEST.items(), strict=True):
        if len(part) > most:
            raise UserError(f"{where}: its {name} {part!r} is longer than the {most} characters that DICOM allows")
    return Code(*value)
