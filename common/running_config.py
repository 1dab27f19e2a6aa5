"""The configuration that is being run, for expressions of it that have to see more than their own references."""

from __future__ import annotations

import copy
import os
import traceback
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

__all__ = ["executed", "is_computed", "is_given", "is_plain_value", "parameters", "running_folder", "running_parser"]

_UNRESOLVED = ("$", "@", "%")
_NO_SETTINGS = {"imports", "initialize", "run", "finalize"}
_NO_SETTINGS |= {"tracking_uri", "experiment_name", "run_name", "is_not_rank0", "save_execute_config"}


def running_parser() -> ConfigParser:
    """Find the parser that evaluates the expression which called us.

    MONAI hands an expression its references but not the parser, and only the parser can change other keys.

    Raises:
        RuntimeError: no parser is at work.
    """
    for frame, _ in traceback.walk_stack(None):
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
    raise RuntimeError(f"to be called by an expression of a configuration alone (MONAI {monai.__version__})")


def running_folder() -> Path | None:
    """The folder of the configuration that is being run, or None where it is not run from files.

    That is the folder of the first file, by ``python -m monai.bundle run`` and ``monai.bundle.create_workflow``.
    """
    for frame, _ in traceback.walk_stack(None):
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigWorkflow):
            return Path(owner.config_root_path).resolve()
    return None


def parameters() -> dict[str, Any]:
    """Return the keys that say how a run was set up, with their final values; for expressions of the configuration.

    These are top-level numbers, texts, switches and lists of such, given or computed. Keys that are, or refer to, a
    part that describes objects are left out, and nothing is built for them.
    """
    parser = running_parser()
    found = {}
    for key in parser.get():
        if key in _NO_SETTINGS or key.startswith("_") or not _is_plain(parser, key, set()):
            continue
        value = parser.get_parsed_content(key)
        if isinstance(value, (os.PathLike, torch.device)):
            value = str(value)
        if value is None or isinstance(value, (bool, int, float, str)) or _is_list_of_values(value):
            found[key] = value
    return found


def executed() -> dict[str, Any]:
    """Return the whole configuration as it is being run, with what the command line and presets changed."""
    return copy.deepcopy(running_parser().get())


def is_computed(value: Any) -> bool:
    """Whether a value of a configuration is a text that MONAI replaces by something else: ``$``, ``@`` or ``%``."""
    return isinstance(value, str) and value.startswith(_UNRESOLVED)


def is_plain_value(value: Any) -> bool:
    """Whether a value of a configuration is a number, a switch, a text to be taken literally, or a list of such."""
    if isinstance(value, list):
        return all(is_plain_value(item) and not isinstance(item, list) for item in value)
    return isinstance(value, str | int | float | bool) and not is_computed(value)


def is_given(key: str) -> bool:
    """Whether a key of the running configuration holds a value, such as MONAI Label's items, and no expression."""
    value = running_parser().get(key.replace("#", ID_SEP_KEY))
    return not is_computed(value)


def _is_list_of_values(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, (bool, int, float, str)) for item in value)


def _is_plain(parser: ConfigParser, key: str, seen: set[str]) -> bool:
    """Whether a key, and whatever it refers to, is a value or an expression of values."""
    if key in seen or key not in parser:
        return key in seen
    value = parser.get(key)
    if isinstance(value, list):
        return not any(isinstance(item, (dict, list)) or is_computed(item) for item in value)
    if not isinstance(value, str):
        return not isinstance(value, dict)
    references = ReferenceResolver.match_refs_pattern(value)
    return all(_is_plain(parser, reference, seen | {key}) for reference in references)
