"""The configuration of one run of a benchmark: a bundle's training with everything decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser

from ..bundle import apply_preset, check_overrides
from ..errors import UserError
from ..packing.bundle_folder import bundle_folder
from ..running_config import is_plain_value

__all__ = ["CONFIG", "changed_settings", "plain_settings", "resolved_config"]

CONFIG = "config.json"
"""The file of a run's folder that holds its configuration."""

VALIDATIONS = 4
"""Validations of a training, for its curve; each of them costs time."""

_WITHOUT_EFFECT = {"imports", "initialize", "run", "finalize", "preset", "rank", "world_size", "num_workers", "compile"}
_WITHOUT_EFFECT |= {"seed", "deadline", "resume", "publish", "progress", "images"}


def resolved_config(
    bundle: str, overlays: Sequence[str], keys: Mapping[str, Any], *, steps: int, seed: int
) -> dict[str, Any]:
    """Merge a bundle's training with overlays and keys, so that what is run stands in one file.

    Presets are applied and done with. The number of epochs becomes an expression that gives the steps wanted, rounded
    up to whole epochs, whatever the batches of an epoch; validations are few. A handler that ends the training in time
    comes last.

    Args:
        bundle: name of the bundle.
        overlays: files below its ``configs``.
        keys: values by key, as on the command line.
        steps: optimiser steps.
        seed: seed of the run.

    Raises:
        UserError: a file or a key is faulty.
    """
    configs = bundle_folder(bundle) / "configs"
    files = [configs / "train.json", *(configs / name for name in overlays)]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such configuration; a row of a suite names it")
    content = ConfigParser.load_config_files([str(file) for file in files])
    parser = ConfigParser(content)
    length = f"$-(-{steps} // len(@train#dataloader))"
    rare = f"$max(1, @train#trainer#max_epochs // {VALIDATIONS})"
    fixed = {"max_epochs": length, "val_interval": rare, "seed": seed, "progress": False, "publish": False}
    checked = check_overrides(ConfigParser(content), {**keys, **fixed})
    for key, value in checked.items():
        parser[key] = value
    apply_preset(parser, checked)
    parser["preset"] = "default"  # or the run would apply it once more, over the keys
    parser["deadline"] = None
    limit = {"_target_": "common.handlers.time_limit.TimeLimit", "deadline": "@deadline"}
    parser["train"]["handlers"].append(limit)
    return dict(parser.get())


def plain_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a run's configuration that shape its result and whose values stand there as they are.

    These are numbers, switches, words and lists of them; nothing that is computed, and nothing that says only how the
    training is run.

    Args:
        content: a configuration of :func:`resolved_config`.
    """
    shaping = {key: value for key, value in content.items() if key not in _WITHOUT_EFFECT}
    return {key: value for key, value in shaping.items() if value is None or is_plain_value(value)}


def changed_settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where two :func:`plain_settings` differ, as ``(then, now)``; a key that one of them lacks does not count."""
    return {key: (then[key], now[key]) for key in then if key in now and then[key] != now[key]}
