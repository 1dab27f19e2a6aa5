"""The page of a report: its contents put into the template, with everything that comes from files escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["render_page"]

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(contents: Mapping[str, Any]) -> str:
    """Write the page.

    It holds its style, its script and its pictures. A content security policy forbids everything else: no request to
    anywhere, no frame, no form, and no script but this one, which is known by its hash.

    Args:
        contents: what the template ``report.html`` names.

    Returns:
        The HTML text, the same for the same contents.
    """
    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # our own files, which may hold what would be escaped
    style = Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8"))
    text = templates.get_template("report.html").render(
        contents, script=Markup(script), script_hash=Markup(digest), style=style
    )
    return _without_controls(text)


def _without_controls(text: str) -> str:
    """Drop what HTML does not allow: control characters, and halves of characters that UTF-8 cannot write."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "", text)
