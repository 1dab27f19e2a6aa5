"""JSON as a bundle's readers expect it: each key once in its dict."""

from __future__ import annotations

import json
import os
from typing import Any

from ..errors import UserError
from ..files import read_text

__all__ = ["parse_document", "read_document"]


def read_document(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON file that holds a dict.

    Raises:
        UserError: there is no such file, it is no JSON or no dict, or a dict in it has a key twice.
    """
    try:
        return parse_document(read_text(path), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text in UTF-8; save it as such") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); a bundle needs it") from error


def parse_document(text: str, name: str) -> dict[str, Any]:
    """Read a JSON dict from a text.

    Args:
        text: the document.
        name: what messages call it.

    Raises:
        UserError: see :func:`read_document`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            # readers of JSON keep the last one without a word
            raise UserError(f'{name}: key "{twice}" occurs twice in one dict; keep one')
        return document

    try:
        document = json.loads(text, object_pairs_hook=unique)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{name}: is no JSON ({error}); mend it") from error
    if not isinstance(document, dict):
        raise UserError(f"{name}: holds no dict; a bundle's JSON files are dicts of keys")
    return document
