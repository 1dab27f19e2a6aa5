"""Texts of which a part is generated, between two marks."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError

__all__ = ["between_marks"]


def between_marks(path: Path, text: str, begin: str, end: str, content: str) -> str:
    """Put content between the two marks of a text, in lines of its own.

    Args:
        path: the file that the text comes from, for messages.
        text: the text, with each mark once.
        begin: the mark before.
        end: the mark behind.
        content: what goes between them.

    Raises:
        UserError: the text has not each mark once, in order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(f"{path}: needs the lines {begin} and {end} once each, around what is generated")
    return f"{text.partition(begin)[0]}{begin}\n{content}\n{end}{text.partition(end)[2]}"
