"""A table that stands at the head of a report, made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Overview"]


class Overview(NamedTuple):
    """A heading, paragraphs below it, and a table of texts, each row as long as the header."""

    title: str
    notes: Sequence[str]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
