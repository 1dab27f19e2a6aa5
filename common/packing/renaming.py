"""A library under another name: the same text with its dotted names and paths changed."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

__all__ = ["package_name", "renamed", "renamed_paths"]


def package_name(bundle: str, version: str) -> str:
    """The name of a release's own package, such as ``maag_0_1_0``.

    Two releases in one process then never share a module, as they would if each brought a package of one name.

    Args:
        bundle: name of the bundle.
        version: of the release.
    """
    return re.sub(r"\W", "_", f"{bundle}_{version}")


def renamed(text: str, library: str, package: str, files: Collection[Path]) -> str:
    """Change the dotted names of a library's modules, in code, in configurations and in prose.

    Args:
        text: any text.
        library: name of the library's package.
        package: its new name.
        files: the library's files by their paths within it; other words that follow the name are left alone.
    """
    parts = sorted({file.parts[0].removesuffix(".py") for file in files} - {"__init__"})
    return re.sub(rf"(?<![\w.]){re.escape(library)}(?=\.(?:{'|'.join(parts)})\b)", package, text)


def renamed_paths(text: str, library: str, package: str, files: Collection[Path]) -> str:
    """Change the paths of those files of a library that are there, and the name of its folder.

    Args:
        text: prose.
        library: name of the library's folder.
        package: its new name.
        files: the library's files by their paths within it.
    """

    def change(match: re.Match[str]) -> str:
        here = not match[1] or Path(match[1]) in files
        return f"{package}/{match[1]}" if here else match[0]

    return re.sub(rf"(?<![\w./]){re.escape(library)}/((?:[\w-]+/)*(?:[\w-]+\.\w+)?)", change, text)
