"""Recording of runs by MLflow, as ``--tracking`` of MONAI's bundles asks for it: made ready before a run."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from .errors import UserError
from .files import writable_folder

__all__ = ["keys_of_tracking", "prepare_tracking"]

_KEYS = {"tracking_uri", "experiment_name", "run_name", "is_not_rank0", "save_execute_config"}
_SQLITE = "sqlite:///"


def keys_of_tracking(tracking: Any) -> set[str]:
    """Return the keys that ``--tracking`` adds to a configuration, to be set on the command line too.

    Args:
        tracking: its value: ``mlflow``, or a file of settings, or several that are merged; None where it is not known.
    """
    return _KEYS | (set(_settings(tracking)["configs"]) if _is_file(tracking) else set())


def prepare_tracking(parser: ConfigParser, tracking: Any = None) -> None:
    """Check the settings of tracking, and mend those of MONAI's where they do not fit.

    In any case MLflow is told to send nothing about its use to its makers, unless the environment says otherwise
    (``MLFLOW_DISABLE_TELEMETRY``): no run opens a network connection that was not asked for.

    Of MONAI's default settings two are changed. Their record of the loss at each iteration has the name of its mean
    over the epoch, ``train_loss``, and becomes ``iteration_loss``. The path of the executed configuration is put
    together as an expression, which comes to nothing where ``output_dir`` was given as a plain text.

    Args:
        parser: the configuration.
        tracking: the value of ``--tracking``, where it is known.

    Raises:
        UserError: MLflow is not installed, its store cannot be used, or settings name an engine that they do not
            describe.
    """
    _silence_telemetry()
    if "tracking_uri" not in parser or "experiment_name" not in parser:
        return
    if importlib.util.find_spec("mlflow") is None:
        raise UserError("--tracking: needs MLflow, which is not installed; pip install mlflow")
    if _is_file(tracking):
        _check_settings(parser, tracking)
    _check_store(parser)
    for key in ("experiment_name", "run_name"):
        if parser.get(key) is not None:
            parser[key] = str(parser.get(key))
    path = parser.get("save_execute_config")
    if isinstance(path, str) and not path.startswith("$") and " + '/config_" in path:
        folder, _, name = path.partition(" + '/")
        parser["save_execute_config"] = f"{folder}/{name.rstrip(chr(39))}"
    handlers = parser.get("train::handlers")
    if isinstance(handlers, list):
        parser["train::handlers"] = [_with_name_of_its_own(handler) for handler in handlers]


def _silence_telemetry() -> None:
    switch = os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    telemetry = sys.modules.get("mlflow.telemetry")
    # imported by MONAI already, and so switched on already
    if telemetry is not None and switch.lower() in ("true", "1"):
        telemetry.set_telemetry_client()


def _is_file(tracking: Any) -> bool:
    return tracking is not None and tracking != "mlflow" and not isinstance(tracking, Mapping)


def _settings(tracking: Any) -> dict[str, Any]:
    files = list(map(str, tracking)) if isinstance(tracking, (list, tuple)) else str(tracking)
    settings = ConfigParser.load_config_files(files)
    if not all(isinstance(settings.get(name), dict) for name in ("handlers_id", "configs")):
        raise UserError(f"{tracking}: has to be a dict with handlers_id and configs, as MONAI's settings of tracking")
    return settings


def _check_settings(parser: ConfigParser, tracking: Any) -> None:
    """Refuse settings that would record nothing, which MONAI takes without a word."""
    settings = _settings(tracking)
    engines = settings["handlers_id"]
    for name, value in settings["configs"].items():
        if isinstance(value, dict) and "_target_" in value and name not in engines:
            raise UserError(
                f"{tracking}: configs has a handler {name!r}, which handlers_id does not have; name it there"
            )
    if not any(name in settings["configs"] and engine["id"] in parser for name, engine in engines.items()):
        known = ", ".join(str(engine["id"]) for engine in engines.values())
        raise UserError(
            f"{tracking}: this configuration has none of the engines of handlers_id ({known}); correct them"
        )


def _check_store(parser: ConfigParser) -> None:
    variable = "MLFLOW_TRACKING_URI"
    uri = os.environ.get(variable) or str(parser.get_parsed_content("tracking_uri"))
    name = variable if variable in os.environ else "--tracking_uri"
    if "://" not in uri or uri.startswith("file:"):
        raise UserError(
            f"{name}: MLflow keeps runs in a database or on a server, not in the folder {uri!r}; "
            f"give sqlite:///<path of a .db file> or http://<address of a server>"
        )
    # within output_dir, which is looked at by itself
    if uri.startswith(_SQLITE) and "@output_dir" not in str(parser.get("tracking_uri")):
        try:
            writable_folder(Path(uri.removeprefix(_SQLITE)).parent)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error


def _with_name_of_its_own(handler: Any) -> Any:
    if not isinstance(handler, dict) or handler.get("_target_") != "MLFlowHandler":
        return handler
    return {**handler, "tag_name": "iteration_loss"} if handler.get("tag_name") == "train_loss" else handler
