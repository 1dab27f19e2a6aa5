"""Texts of which a part is generated, between two marks."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..files import read_text

__all__ = ["between_marks"]


def between_marks(path: Path, begin: str, end: str, content: str) -> str:
    """The text of a file with content between its two marks, in lines of its own.

    Args:
        path: the file, with each mark once.
        begin: the mark before.
        end: the mark behind.
        content: what goes between them.

    Raises:
        UserError: the file cannot be read, or has not each mark once, in order.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); name a Markdown file") from error
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(f"{path}: needs the lines {begin} and {end} once each, around what is generated")
    return f"{text.partition(begin)[0]}{begin}\n{content}\n{end}{text.partition(end)[2]}"
