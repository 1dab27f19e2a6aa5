"""What the values of a bundle's keys must be in, looked at before anything is read or built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from .errors import UserError
from .model_settings import is_number
from .running_config import is_computed

__all__ = ["PATHS", "check_device", "check_limits", "check_path"]

PATHS = ("output_dir", "dataset_dir", "datalist", "cache_dir", "weights")
"""Keys whose values are paths, also where they look like a number."""

_AT_LEAST = {
    0: """seed subset_seed coarse_seed num_workers learning_rate learning_rate_low learning_rate_power
        learning_rate_decay learning_rate_step learning_rate_gamma momentum weight_decay instance_noise a1 a2 a3""",
    1: """batch_size max_epochs val_interval patience learning_rate_period discriminator_filters
        attention_heads attention_layers attention_dim_qk attention_dim_v crf_radius crf_downsample atn_radius
        drawing_scale square_radius""",
}
_ABOVE_ZERO = "atn_sigma crf_sigma_position crf_sigma_intensity"
_PAIRS = {"pixdim": "in-plane spacings in mm", "roi_size": "numbers of pixels"}
_INTERPOLATIONS = ("bilinear", "nearest", "nearest-exact")
_PIECES = ("keep_bodies", "keep_components")
_DEVICES = ("device", "data_device")


def check_limits(config: Mapping[str, Any]) -> None:
    """Check the values of keys by their names; those that a configuration computes are left out.

    Args:
        config: values by key.

    Raises:
        UserError: for the first value that is out of its range, with the key.
    """
    for least, keys in _AT_LEAST.items():
        for key in keys.split():
            value = config.get(key)
            if is_number(value) and not value >= least:
                raise UserError(f"--{key}: must be at least {least}, got {value}")
    for key in _ABOVE_ZERO.split():
        value = config.get(key)
        if is_number(value) and not value > 0:
            raise UserError(f"--{key}: must be above 0, got {value}")
    for key, what in _PAIRS.items():
        value = config.get(key)
        if key not in config or isinstance(value, str) or (value is None and key != "roi_size"):
            continue
        if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(is_number(v) and v > 0 for v in value):
            raise UserError(f"--{key}: must be two positive {what} such as [2,2], got {value!r}")
    percentiles = config.get("clip_percentiles", [0, 100])
    if not is_computed(percentiles) and not _are_percentiles(percentiles):
        raise UserError(
            "--clip_percentiles: must be two percentiles from 0 to 100 such as [0,99], the lower first, "
            f"got {percentiles!r}; [0,100] clips nothing"
        )
    mode = config.get("image_interpolation", _INTERPOLATIONS[0])
    if not is_computed(mode) and not _is_interpolation(mode):
        raise UserError(
            f"--image_interpolation: must be one of {', '.join(_INTERPOLATIONS)}, or the order of a spline such as "
            f"'$3', got {mode!r}"
        )
    for key in _PIECES:
        pieces = config.get(key)
        if pieces is not None and not is_computed(pieces) and not (type(pieces) is int and pieces > 0):
            raise UserError(f"--{key}: must be a number of pieces to keep, such as 1, or null for all, got {pieces!r}")
    low, high = config.get("learning_rate_low"), config.get("learning_rate")
    if is_number(low) and is_number(high) and low > high:
        raise UserError(f"--learning_rate: {high} is below learning_rate_low, {low}; lower that too")
    names, number = config.get("class_names"), config.get("num_classes")
    if isinstance(names, str) and not is_computed(names):
        raise UserError(f"--class_names: must be a list of names such as [background,liver], got {names!r}")
    if isinstance(names, (list, tuple)) and is_number(number) and len(names) != number:
        raise UserError(
            f"--class_names: names {len(names)} classes where num_classes is {number}; name each of them once"
        )
    for key in _DEVICES:
        value = config.get(key, "cpu")
        if not isinstance(value, torch.device) and not is_computed(value):
            check_device(key, value)


def check_path(key: str, value: Any) -> str:
    """Return a path as a text, with a home folder, ``~``, that no shell has replaced written out.

    Raises:
        UserError: it has a character that configurations read as the end of a key.
    """
    if "#" in str(value):
        raise UserError(f"--{key}: {str(value)!r} has a #, which configurations read as the end of a key; rename it")
    text = str(value)
    return os.path.expanduser(text) if text.startswith("~") else text


def check_device(key: str, value: Any) -> None:
    """Refuse a device that PyTorch does not find.

    Args:
        key: name of the key, for the message.
        value: such as ``cuda:1``.

    Raises:
        UserError: there is no such device, or ``value`` names none.
    """
    try:
        torch.empty(0, device=torch.device("none" if value is None else value))
    except Exception as error:  # what PyTorch raises depends on the device and on how it was built
        raise UserError(f"--{key}: PyTorch finds no device {value!r} here; give cpu, cuda or cuda:1") from error


def _is_interpolation(mode: Any) -> bool:
    return mode in _INTERPOLATIONS if isinstance(mode, str) else is_number(mode) and mode in range(6)


def _are_percentiles(values: Any) -> bool:
    if not isinstance(values, (list, tuple)) or len(values) != 2 or not all(map(is_number, values)):
        return False
    return 0 <= values[0] < values[1] <= 100
