"""What a report says of how its runs were made: settings, data and versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..model_settings import settings_file
from ..running_config import is_plain_value
from .run_folder import Run, read_json

__all__ = ["SettingsRow", "program_versions", "settings_table"]

_CONFIGS = "config*.json"
_META = "_meta_"
_BUNDLE_KEYS = ("name", "version", "monai_version", "pytorch_version", "numpy_version")
_PACKAGES = ("scribble-bundles", "monai", "torch", "pytorch-ignite", "numpy", "scipy", "nibabel")


class SettingsRow(NamedTuple):
    """A setting: its name, its value for each run (empty where unknown), and whether the runs differ in it."""

    name: str
    values: list[str]
    differs: bool


def settings_table(runs: Sequence[Run], *, epochs: Mapping[str, int]) -> tuple[list[SettingsRow], list[str]]:
    """List the settings of all runs.

    They are what an evaluation writes of itself, the epochs that were logged, and the plain values at the top level of
    the last ``config*.json`` in a training's folder or beside the scores, such as MONAI's experiment tracking writes,
    with the bundle's versions. Without such a file they are what lies beside the weights that were evaluated, or beside
    ``model.pt`` in the training's folder, see :mod:`~..model_settings`.

    Args:
        runs: the runs.
        epochs: the last epoch logged by run.

    Returns:
        The settings, and a line for each run that has neither.
    """
    columns: list[dict[str, str]] = []
    notes: list[str] = []
    for run in runs:
        values = {f"evaluation: {key}": _text(value) for key, value in run.meta.items() if value is not None}
        if run.name in epochs:
            values["training: epochs logged"] = str(epochs[run.name])
        values |= _recorded(run, notes)
        columns.append(values)
    names = dict.fromkeys(name for values in columns for name in values)
    order = sorted(names, key=lambda name: ("bundle", "config", "training", "evaluation").index(name.partition(":")[0]))
    rows = [[values.get(name, "") for values in columns] for name in order]
    return [SettingsRow(name, row, len(set(row)) > 1) for name, row in zip(order, rows, strict=True)], notes


def program_versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that are installed where the report is made."""
    found = {"Python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _recorded(run: Run, notes: list[str]) -> dict[str, str]:
    try:
        recorded = _of_config(run) or _of_weights(run)
    except UserError as error:
        notes.append(f"{run.name}: {error}")
        return {}
    if not recorded:
        notes.append(
            f"{run.name}: no {_CONFIGS} in its folders and no settings beside its weights, so only what the evaluation "
            "says is listed"
        )
    return recorded


def _of_config(run: Run) -> dict[str, str]:
    folders: list[Path] = [folder for folder in (run.training, run.scores) if folder is not None]
    files = next((found for folder in folders if (found := sorted(folder.glob(_CONFIGS)))), [])
    if not files:
        return {}
    config = read_json(files[-1])
    bundle = config.get(_META, {})
    bundle = bundle if isinstance(bundle, dict) else {}
    values = {f"bundle: {key}": _text(bundle[key]) for key in _BUNDLE_KEYS if key in bundle}
    settings = {key: value for key, value in config.items() if not key.startswith("_") and is_plain_value(value)}
    return values | {f"config: {key}": _text(value) for key, value in settings.items()}


def _of_weights(run: Run) -> dict[str, str]:
    weights = run.meta.get("weights")
    files = [settings_file(weights)] if isinstance(weights, str) else []
    files += [run.training / "model.json"] if run.training is not None else []
    file = next((each for each in files if each.is_file()), None)
    if file is None:
        return {}
    content = read_json(file)
    parts = {"config": "settings", "training": "training", "bundle": "versions"}
    return {
        f"{group}: {key}": _text(value)
        for group, name in parts.items()
        if isinstance(part := content.get(name), dict)
        for key, value in part.items()
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
