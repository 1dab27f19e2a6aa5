"""Lay out the bundles' JSON configs so that they read well and diff well.

    python -m tools format_configs                     every config of every bundle
    python -m tools format_configs a.json b.json       these files
    python -m tools format_configs --check             change nothing, fail if a file would change

A list or dict stands on one line where that line has at most 110 columns, and is opened up otherwise; the indent is
four spaces; the order of the keys and the spelling of the numbers stay as written. A key that occurs twice in one dict
is an error: JSON readers keep the last one without a word.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import atomic_file

REPO_ROOT = Path(__file__).resolve().parents[1]
MAX_COLUMNS = 110
INDENT = " " * 4
# Written by the MONAI Label server into the bundle it trains, and never part of it.
GENERATED = {"monailabel_train.json"}


class _Number(str):
    """A number as its author spelled it, so that 1e-4 does not become 0.0001."""


def bundle_configs(root: Path = REPO_ROOT) -> list[Path]:
    """The JSON configs of all bundles below ``root``, sorted; those that servers generate are left out."""
    return sorted(path for path in root.glob("bundles/*/configs/**/*.json") if path.name not in GENERATED)


def format_text(text: str, name: str = "config") -> str:
    """Lay out one JSON document.

    Args:
        text: a JSON document.
        name: what error messages call it, usually its path.

    Returns:
        The same document in the project's layout, ending in a newline. Formatting it again changes nothing.

    Raises:
        UserError: ``text`` is not JSON, or a dict in it has the same key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for key, value in pairs:
            if key in document:
                raise UserError(f'{name}: key "{key}" occurs twice in one dict; keep one')
            document[key] = value
        return document

    def refuse(constant: str) -> None:
        raise UserError(f"{name}: {constant} is not JSON; write it as an expression, \"$float('nan')\" say")

    try:
        document = json.loads(
            text, object_pairs_hook=unique, parse_float=_Number, parse_int=_Number, parse_constant=refuse
        )
    except json.JSONDecodeError as error:
        raise UserError(f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    return _expanded(document, depth=0) + "\n"


def _compact(value: Any) -> str:
    """``value`` on one line."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_compact(key)}: {_compact(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_compact(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _expanded(value: Any, *, depth: int) -> str:
    """``value`` with one item a line, its items on one line each where they fit."""
    if not isinstance(value, dict | list) or not value:
        return _compact(value)
    pairs: Sequence[tuple[str, Any]]
    if isinstance(value, dict):
        pairs, brackets = [(f"{_compact(key)}: ", item) for key, item in value.items()], "{}"
    else:
        pairs, brackets = [("", item) for item in value], "[]"
    indent = INDENT * (depth + 1)
    lines = []
    for prefix, item in pairs:
        line = f"{indent}{prefix}{_compact(item)}"
        # +1 is the comma, counted for the last item too, so that adding one below it does not reflow it.
        lines.append(line if len(line) + 1 <= MAX_COLUMNS else f"{indent}{prefix}{_expanded(item, depth=depth + 1)}")
    return brackets[0] + "\n" + ",\n".join(lines) + "\n" + INDENT * depth + brackets[1]


def main(*paths: str, check: bool | str = False) -> None:
    """Lay out bundle configs.

    Args:
        paths: JSON files; every config of every bundle where none is given.
        check: change nothing, and fail naming the files that would change.

    Raises:
        UserError: a file is missing or faulty, or, with ``check``, not laid out.
    """
    names = [str(path) for path in paths]
    if isinstance(check, str):  # `--check a.json`: the command line takes what follows an option for its value
        names.insert(0, check)
    files = [Path(name) for name in names] or bundle_configs()
    changed = []
    for file in files:
        try:
            before = file.read_bytes().decode("utf-8")
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: is not UTF-8 text; save it as UTF-8") from error
        after = format_text(before, str(file))
        if after == before:
            continue
        changed.append(str(file))
        if not check:
            with atomic_file(file) as temporary:
                temporary.write_bytes(after.encode("utf-8"))
    if changed and check:
        raise UserError(f"not laid out: {', '.join(changed)}; run `python -m tools format_configs`")
    for path in changed:
        print(f"laid out {path}")
    print(f"{len(files)} configs are well laid out")
