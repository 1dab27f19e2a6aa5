"""The layout of the project's JSON files, which read well and diff well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .errors import UserError

__all__ = ["MAX_COLUMNS", "format_text"]

MAX_COLUMNS = 110
INDENT = " " * 4


class _Number(str):
    """A number as its author spelled it, so that 1e-4 does not become 0.0001."""


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
