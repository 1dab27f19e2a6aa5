"""Tables that tell what the values of a label map are called, as ITK-SNAP, 3D Slicer and people write them."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

from ..errors import UserError
from ..files import read_text
from ..transforms.named_segments import Segment
from .case_names import stem_of

__all__ = ["TABLE_EXTENSIONS", "parse_names", "read_name_table", "table_beside"]

TABLE_EXTENSIONS = (".txt", ".ctbl", ".csv", ".json")
"""Ends of the names of files that can be read."""

_ITK_SNAP_LINE = re.compile(r'\s*(\d+)(?:\s+[\d.]+){6}\s+"(.*)"\s*$')
_SLICER_LINE = re.compile(r"\s*(\d+)\s+(\S.*?)(?:\s+[\d.]+){4}\s*$")
_SLICER_TABLE = "_ColorTable"


def parse_names(text: str) -> list[Segment]:
    """Read the names of values from an option: a table's file, or ``RV=3,MYO=1``.

    Raises:
        UserError: it is neither, or the file is damaged.
    """
    path = os.path.expanduser(text)
    if text.lower().endswith(TABLE_EXTENSIONS) or os.path.isfile(path):
        return read_name_table(Path(path))
    segments = []
    for part in text.split(","):
        name, _, value = part.rpartition("=")
        try:
            segments.append(Segment(name.strip(), _whole(value)))
        except ValueError:
            name = ""
        if not name.strip():
            raise UserError(f'--names {text!r}: write the value of each name such as "RV=3,MYO=1", or name a table')
    return segments


def read_name_table(path: Path) -> list[Segment]:
    """Read a table of names.

    These are label descriptions of ITK-SNAP (``.txt``: value, colour, switches, name in quotes), colour tables of 3D
    Slicer (``.ctbl``, ``.txt``: value, name, colour; ``.csv``: the columns ``LabelValue`` and ``Name``) and JSON
    objects (``{"RV": 3, "MYO": 1}`` or ``{"3": "RV", "1": "MYO"}``; also as ``"labels"`` of such an object).

    Args:
        path: the file.

    Returns:
        The names and their values, in the file's order.

    Raises:
        UserError: the file is missing, unreadable or of none of these forms.
    """
    try:
        text = read_text(path, encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; correct the path of the table of names") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a table of names; save it as UTF-8 text") from error
    kind = path.suffix.lower()
    try:
        pairs = {".json": _json_pairs, ".csv": _csv_pairs}.get(kind, _text_pairs)(text)
        segments = [Segment(name.strip(), _whole(value)) for name, value in pairs]
    except (AttributeError, ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
        raise UserError(
            f"{path}: is no table of names; give a label description of ITK-SNAP, a colour table of 3D Slicer or a "
            'JSON object such as {"RV": 3, "MYO": 1}'
        ) from error
    if not all(segment.name for segment in segments):
        raise UserError(f"{path}: a value has an empty name; give each a name, or remove its line")
    broken = next((segment.name for segment in segments if not segment.name.isprintable()), None)
    if broken is not None:
        raise UserError(f"{path}: the name {broken!r} holds signs that cannot be printed; correct it")
    return segments


def table_beside(label: Path) -> Path | None:
    """The table that lies beside a label file and is called like it: ``p1.txt`` or, of 3D Slicer,
    ``p1_ColorTable.ctbl`` beside ``p1.nrrd``; None where there is none.
    """
    stem = stem_of(label.name) or label.stem
    names = [f"{stem}{end}{extension}" for extension in TABLE_EXTENSIONS for end in ("", _SLICER_TABLE)]
    return next((label.with_name(name) for name in names if label.with_name(name).is_file()), None)


def _text_pairs(text: str) -> list[tuple[str, object]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    pairs: list[tuple[str, object]] = []
    for line in lines:
        match = _ITK_SNAP_LINE.match(line) or _SLICER_LINE.match(line)
        if match is None:
            raise ValueError("a line of another form")
        pairs.append((match[2], match[1]))
    if not pairs:
        raise ValueError("no line")
    return pairs


def _csv_pairs(text: str) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = [
        (row["Name"] or "", row["LabelValue"]) for row in csv.DictReader(text.splitlines())
    ]
    if not pairs:
        raise ValueError("no row")
    return pairs


def _json_pairs(text: str) -> list[tuple[str, object]]:
    """The names and values of an object, each line of it, even where two have one key."""
    pairs = json.loads(text, object_pairs_hook=list)
    if isinstance(pairs, list) and "labels" in (key for key, _ in pairs):
        pairs = dict(pairs)["labels"]
    if not isinstance(pairs, list) or not pairs:
        raise ValueError("no object")
    if all(isinstance(value, str) for _, value in pairs):
        return [(name, value) for value, name in pairs]
    return pairs


def _whole(value: object) -> int:
    if isinstance(value, bool) or not (
        isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal())
    ):
        raise ValueError("no whole number")
    return int(value)
