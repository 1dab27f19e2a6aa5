"""``large_files.yml``: where a bundle's files of more than 25 MB are, as MONAI's model zoo keeps them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..errors import UserError

__all__ = ["LIMIT", "NAME", "large_files_text", "read_large_files"]

LIMIT = 25 * 2**20
"""The largest file in bytes that a bundle may hold by itself."""

NAME = "large_files.yml"


def read_large_files(bundle: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """The entries of a bundle's ``large_files.yml`` by their paths; none where there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(bundle) / NAME
    if not path.exists():
        return {}
    try:
        entries = ConfigParser.load_config_file(str(path))["large_files"]
        return {str(entry["path"]): {**entry, "url": str(entry["url"])} for entry in entries}
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read; write large_files: with - path:, url:, hash_val:, hash_type: for each file"
        ) from error


def large_files_text(entries: dict[str, dict[str, Any]]) -> str:
    """The text of ``large_files.yml``.

    Args:
        entries: ``url`` and ``hash_val``, a SHA-256, by path.
    """
    lines = ["large_files:"]
    for path, entry in sorted(entries.items()):
        lines += [
            f"  - path: {json.dumps(path)}",
            f"    url: {json.dumps(entry['url'])}",
            f"    hash_val: {json.dumps(entry['hash_val'])}",
            '    hash_type: "sha256"',
        ]
    return "\n".join(lines) + "\n"
