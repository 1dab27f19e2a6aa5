"""A bundle's metadata against MONAI's bundle specification, without the network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import UserError

__all__ = ["check_metadata", "check_version"]

_SCHEMA = Path(__file__).parent / "metadata_schema.json"
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:[.-]?(?:a|b|rc|dev)\d+)?")


def check_metadata(metadata: dict[str, Any], name: str) -> None:
    """Compare metadata with the schema beside this module, which says what the specification does.

    Args:
        metadata: content of ``metadata.json``.
        name: what messages call it.

    Raises:
        UserError: naming the key and what is wrong with it, or if jsonschema is not installed.
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise UserError("jsonschema is not installed; pip install -e '.[dev]'") from error
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    for found in Draft202012Validator(schema).iter_errors(metadata):
        place = "#".join(map(str, found.absolute_path)) or "its keys"
        raise UserError(f"{name}: {place}: {found.message[:200]}; see MONAI's bundle specification")
    data = metadata["network_data_format"]
    for kind, key in (("inputs", "image"), ("outputs", "pred")):
        if key not in data[kind]:
            raise UserError(f"{name}: network_data_format#{kind} has no {key!r}, which MONAI reads; add it")
    for kind in ("inputs", "outputs"):
        for key, tensor in data[kind].items():
            numbers = [str(number) for number in range(tensor["num_channels"])]
            if sorted(tensor["channel_def"], key=int) != numbers:
                raise UserError(
                    f"{name}: network_data_format#{kind}#{key}#channel_def describes the channels "
                    f"{', '.join(tensor['channel_def'])}, but num_channels is {tensor['num_channels']}; describe each"
                )


def check_version(metadata: dict[str, Any], version: str, name: str) -> None:
    """Refuse a version that is none, or that the changelog does not tell of.

    Args:
        metadata: content of ``metadata.json``.
        version: such as ``0.1.0``.
        name: what messages call the metadata.

    Raises:
        UserError: see above.
    """
    if not _VERSION.fullmatch(version):
        raise UserError(f"{version!r} is no version; write three numbers with points, such as 0.1.0")
    changelog = metadata.get("changelog")
    if not isinstance(changelog, dict) or not str(changelog.get(version) or "").strip():
        raise UserError(f"{name}: the changelog does not tell of version {version}; add a line for it")
