"""What a federation starts from: weights, and the settings that all sites share."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser

from ..bundle import apply_preset, check_overrides
from ..data.class_names import check_number_of_names
from ..errors import UserError
from ..handlers.atomic_checkpoint import load_weights
from ..model_settings import read_settings, writer

__all__ = ["StartingPoint", "inference_weights", "starting_point"]

_OF_ROUNDS = ("max_epochs", "resume", "publish")
_LENGTH = "train::trainer::max_epochs"
"""Where MONAI's client puts the epochs of a single round."""


class StartingPoint(NamedTuple):
    """What a federation starts from.

    Attributes:
        weights: state dict of the network, and of what else is exchanged.
        settings: what network and preprocessing are built with, by key, which is written beside weights.
        overrides: values of the bundle's keys for every site, these settings among them.
        class_names: names of the classes; None if they are not given and the datalist is not on this machine.
    """

    weights: dict[str, torch.Tensor]
    settings: dict[str, Any]
    overrides: dict[str, Any]
    class_names: list[str] | None


def starting_point(
    bundle: Path, overrides: Mapping[str, Any], *, weights: Path | None, datalist: str, epochs: int
) -> StartingPoint:
    """Build a bundle's network and fix the settings that sites must not differ in.

    Args:
        bundle: the bundle's folder.
        overrides: values of the bundle's keys, as on a command line; ``preset`` is put in as the keys that it sets.
        weights: file of the weights to start from, whose settings count before the bundle's own; None draws new ones.
        datalist: datalist of one of the sites, which tells the number of classes if it is on this machine.
        epochs: epochs of all rounds together, which count in keys that follow from the length of a training, such as
            ``schedule_epochs``.

    Raises:
        UserError: a key is unknown or has no place in a federation, or the weights do not fit.
    """
    for key in _OF_ROUNDS:
        if key in overrides:
            raise UserError(f"--{key}: has no place in a federation; its length is --rounds x --local_epochs")
    parser = _parser(bundle, {})
    checked = check_overrides(parser, {key: value for key, value in overrides.items() if key != "preset"})
    if "preset" in overrides:
        parser["preset"] = overrides["preset"]
        apply_preset(parser)
        checked = parser["presets"].get(overrides["preset"], {}) | checked
    shared = (read_settings(weights) if weights is not None else {}) | checked
    whole = _parser(bundle, shared | {_LENGTH: epochs})
    length = f"@{_LENGTH.replace('::', '#')}"
    tied = [key for key, value in whole.get().items() if isinstance(value, str) and length in value]
    shared |= {key: whole.get_parsed_content(key) for key in tied}

    parser = _parser(bundle, shared | {"datalist": datalist, "device": "cpu"})
    handlers = parser["train::handlers"]
    place = writer(bundle / "configs" / "train.json", handlers)
    settings = parser.get_parsed_content(f"train::handlers::{place}::settings")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(parser.get_parsed_content("seed"))
        network = parser.get_parsed_content("network_def")
        exchanged = parser.get_parsed_content("train::trainer::network")
    if weights is not None:
        load_weights(network, weights)
    state = {key: value.contiguous() for key, value in (network.state_dict() | exchanged.state_dict()).items()}
    known = "class_names" in shared or os.path.isfile(datalist)
    names = check_number_of_names(parser.get_parsed_content("class_names"), settings["num_classes"]) if known else None
    return StartingPoint(state, settings, shared | settings, names)


def inference_weights(bundle: Path, settings: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Take a network's weights out of all that a federation exchanged.

    Args:
        bundle: the bundle's folder.
        settings: what network and preprocessing are built with.
        weights: the weights on the server, by name.

    Returns:
        the state dict of the network as ``inference.json`` loads it.

    Raises:
        UserError: weights are missing or do not fit.
    """
    network = _parser(bundle, dict(settings)).get_parsed_content("network_def")
    own = {key: torch.as_tensor(value) for key, value in weights.items() if key in network.state_dict()}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the federation's weights do not fit the network of {bundle} ({reason})") from error
    return dict(network.state_dict())


def _parser(bundle: Path, values: Mapping[str, Any]) -> ConfigParser:
    if str(bundle) not in sys.path:
        sys.path.insert(0, str(bundle))  # the code of a packed bundle lies in its folder
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    for key, value in values.items():
        parser[key] = value
    return parser
