"""The keys of a bundle's configurations: which files are merged with which, what refers to what, what is dead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import BundlePropertyConfig

from ..errors import UserError
from .strict_json import read_document

__all__ = ["check_keys", "config_files", "dead_keys", "files_with_code", "merged", "stack_of", "tracking_file"]

# what MONAI itself reads, and what `bundle.start` does
_ENTRIES = {"imports", "initialize", "run", "finalize", "preset", "presets", "_meta_"}
_PROPERTIES = {
    str(item[BundlePropertyConfig.ID]).replace(ID_SEP_KEY, "#")
    for properties in (TrainProperties, InferProperties)
    for item in properties.values()
}
_REFERENCE = re.compile(r"[@%](\w+(?:(?:#|::)\w+)*)")
_TRACKING = "tracking.json"
_NO_CONFIG = {"metadata.json", "monailabel_train.json", _TRACKING}


def config_files(bundle: Path) -> list[Path]:
    """The configurations of a bundle, sorted; not the metadata, settings of tracking, or what a server leaves."""
    return sorted(path for path in (bundle / "configs").rglob("*.json") if path.name not in _NO_CONFIG)


def tracking_file(bundle: Path) -> Path | None:
    """The settings that a bundle has for ``--tracking``, which name handlers for its configurations."""
    path = bundle / "configs" / _TRACKING
    return path if path.is_file() else None


def files_with_code(bundle: Path) -> list[Path]:
    """The files of a bundle that may name code: its configurations and its settings of tracking."""
    tracking = tracking_file(bundle)
    return [*config_files(bundle), *([tracking] if tracking else [])]


def stack_of(path: Path) -> list[Path]:
    """The files that a configuration is merged with, in order and with itself.

    A file that says where the bundle is stands alone; any other is laid over ``train.json``, and
    ``multi_gpu_evaluate.json`` over ``evaluate.json`` as well.

    Raises:
        UserError: the file cannot be read.
    """
    if "bundle_root" in read_document(path):
        return [path]
    folder = next(parent for parent in path.parents if parent.name == "configs")
    below = [folder / "train.json"]
    if path.name == "multi_gpu_evaluate.json":
        below.append(folder / "evaluate.json")
    return [*(file for file in below if file.is_file()), path]


def merged(files: Sequence[Path]) -> ConfigParser:
    """Merge files as MONAI does, each read strictly before.

    Raises:
        UserError: a file cannot be read, has a key twice, or sets a part of a key that is not there.
    """
    for file in files:
        read_document(file)
    try:
        return ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    except KeyError as error:
        reason = str(error.args[0]).removeprefix("query key: ")
        raise UserError(f"{files[-1]}: sets a key below {reason!r}, which no file before it has; mend it") from error


def dead_keys(path: Path) -> list[str]:
    """The keys that a configuration defines and nothing refers to in the files it is merged with.

    Looked at are its top-level keys, and those in top-level dicts that only group others (without ``_target_``, and
    never referred to as a whole). What MONAI and MONAI Label ask for by name is alive.

    Raises:
        UserError: the file cannot be read, or has a key twice.
    """
    whole = merged(stack_of(path)).get()
    used = set(_references(whole))
    parts = {"#".join(name.split("#")[:length]) for name in used for length in (1, 2)}
    dead = []
    for key in _defined(read_document(path), whole):
        section = key.partition("#")[0]
        below_an_entry = section in _ENTRIES or any(key == name or name.startswith(f"{key}#") for name in _PROPERTIES)
        if not below_an_entry and key not in parts and (key == section or section not in used):
            dead.append(key)
    return dead


def check_keys(bundle: Path) -> None:
    """Refuse a bundle whose configurations have dead keys.

    Raises:
        UserError: naming file and key.
    """
    for path in config_files(bundle):
        for key in dead_keys(path):
            raise UserError(f"{path}: nothing refers to {key!r}; remove the key, or use it")


def _defined(document: dict[str, Any], whole: dict[str, Any]) -> Iterator[str]:
    """Top-level keys, and ``section#key`` for those in dicts that group others."""
    for key, value in document.items():
        name = key.lstrip("+").replace(ID_SEP_KEY, "#")
        if "#" in name:
            yield "#".join(name.split("#")[:2])
        elif isinstance(value, dict) and "_target_" not in whole.get(name, {}) and name not in _ENTRIES:
            yield name
            yield from (f"{name}#{child}" for child in value)
        else:
            yield name


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str):
        for name in _REFERENCE.findall(value):
            yield name.replace(ID_SEP_KEY, "#")
