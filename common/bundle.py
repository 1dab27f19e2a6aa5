"""What every bundle's configuration calls before it runs: its folder, the command line, presets, error lines."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from .error_lines import one_line, tell_once
from .errors import UserError
from .model_settings import default_of, departures, names_in
from .running_config import executed, is_computed, is_given, parameters, running_folder, running_parser
from .setting_limits import PATHS, check_limits, check_path
from .tracking import keys_of_tracking, prepare_tracking

__all__ = ["apply_preset", "check_overrides", "choose", "executed", "is_given", "parameters", "root", "start"]

logger = logging.getLogger(__name__)

_RESERVED = {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}


def root(name: str) -> str:
    """Return the folder of a bundle: the one whose ``configs`` are being run, whatever it is called, wherever it lies.

    Where they are run from elsewhere, it is that of this code: in the checkout, or unpacked anywhere.

    Args:
        name: name of the bundle.
    """
    configs = running_folder()
    if configs is not None and configs.name == "configs" and (configs / "metadata.json").is_file():
        return str(configs.parent)
    parent = Path(__file__).resolve().parents[1]
    in_checkout = parent / "bundles" / name
    return str(in_checkout if in_checkout.is_dir() else parent)


def start(*, weights: str | None = None) -> None:
    """Check the command line of ``python -m monai.bundle run`` against the configuration that is being run.

    To be the first expression of ``run``. An unknown key or a value of a wrong type or out of its range stops the
    program with one line; ``true``, ``false`` and ``null``, which arrive as strings, become what they say; the keys of
    ``presets[preset]`` are set unless the command line sets them itself, or the overlay that sets the preset. From here
    on a UserError ends the process as one line without a traceback. Started by other means than that command line
    (``monai.bundle.create_workflow``, MONAI Label), only the preset is applied and ranges are checked. Settings that
    depart from those of the weights' training are logged.

    Args:
        weights: the file of the weights that are to be loaded.

    Raises:
        UserError: see above.
    """
    sys.excepthook = one_line
    _wake_loggers()
    parser = running_parser()
    overrides: dict[str, Any] = {}
    if arguments := _run_arguments(sys.argv):
        tell_once()
        if "args_file" in arguments:
            arguments = {**ConfigParser.load_config_file(arguments["args_file"]), **arguments}
        overrides = {key: value for key, value in arguments.items() if key not in _RESERVED}
        files = _as_list(arguments.get("config_file"))
        known = keys_of_tracking(arguments["tracking"]) if "tracking" in arguments else set()
        original = ConfigParser(ConfigParser.load_config_files(files))
        checked = check_overrides(original, {key: value for key, value in overrides.items() if key not in known})
        for key, value in checked.items():
            if key.startswith("+") or is_computed(value):
                continue
            if parser.get(key) != value or type(parser.get(key)) is not type(value):
                parser[key] = value
        overrides |= _beside_preset(files[1:])
    apply_preset(parser, overrides)
    check_limits(parser.get())
    prepare_tracking(parser, arguments.get("tracking"))
    for line in [] if weights is None else departures(weights, parser.get()):
        logger.warning(line)


def apply_preset(parser: ConfigParser, overrides: Iterable[str] = ()) -> None:
    """Set the keys of ``presets[preset]``.

    Args:
        parser: the configuration.
        overrides: keys that were set by hand and so stay as they are.

    Raises:
        UserError: if there is no such preset.
    """
    preset = parser.get("preset", "default")
    presets = parser.get("presets", {})
    if preset != "default" and preset not in presets:
        raise UserError(f"preset: no preset {preset!r}; choose one of {['default', *presets]}")
    for key, value in presets.get(preset, {}).items():
        if key not in overrides:
            parser[key] = value


def choose(key: str, value: str, **choices: Any) -> Any:
    """Return what a key's value stands for.

    Args:
        key: name of the key, for the message.
        value: the key's value.
        choices: what each allowed value stands for.

    Raises:
        UserError: if the value is none of the choices.
    """
    if value not in choices:
        raise UserError(f"--{key}: must be one of {list(choices)}, got {value!r}")
    return choices[value]


def check_overrides(config: ConfigParser, overrides: dict[str, Any]) -> dict[str, Any]:
    """Check overriding values against a configuration and give them the types of the values they replace.

    A key is known if the configuration has it; ``#`` and ``::`` lead into nested keys, a leading ``+`` extends. The
    type of a value that the weights' settings decide is that of its default; of a computed value, or of ``null``, it
    is not checked.

    Args:
        config: the merged configuration files, without overrides.
        overrides: values by key.

    Returns:
        the values, converted.

    Raises:
        UserError: for the first unknown key or wrong type.
    """
    converted = {}
    for key, value in overrides.items():
        name = key.lstrip("+").replace("#", ID_SEP_KEY)
        if name not in config:
            close = difflib.get_close_matches(name.split(ID_SEP_KEY)[0], list(config.get()), n=1)
            hint = f"did you mean --{close[0]}?" if close else "see the table of keys in the bundle's docs/README.md"
            raise UserError(f"--{key}: unknown key; {hint}")
        is_path = key in PATHS and value is not None and not is_computed(value)
        given = check_path(key, value) if is_path else value
        if key == "class_names" and isinstance(given, str) and not is_computed(given):
            given = names_in(given)  # where one of them has a space, fire leaves the text
        converted[key.replace("#", ID_SEP_KEY)] = _converted(key, given, default_of(config[name]))
    return converted


def _converted(key: str, value: Any, original: Any) -> Any:
    if is_computed(value) or original is None or is_computed(original):
        return value
    if value is None and isinstance(original, (str, list)):
        return None
    text = str(value).strip().lower()
    if isinstance(original, bool):
        if text in ("true", "false", "1", "0"):
            return text in ("true", "1")
    elif isinstance(original, int):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer():
            return int(value)
    elif isinstance(original, float):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(original, str):
        if not isinstance(value, (dict, list, tuple, bool)):
            return str(value)
    elif isinstance(original, (list, dict)):
        value = list(value) if isinstance(value, tuple) else value
        if isinstance(value, type(original)):
            return value
    wanted = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}
    kind = type(original).__name__
    raise UserError(f"--{key}: must be {wanted.get(kind, f'a {kind}')} such as {original!r}, got {value!r}")


def _run_arguments(argv: Sequence[str]) -> dict[str, Any]:
    """Read ``--key value`` pairs as fire does; empty unless ``argv`` is the command line of ``monai.bundle run``."""
    program = Path(argv[0] if argv else "")
    if (program.parent.name, program.name) != ("bundle", "__main__.py") or "run" not in argv[1:2]:
        return {}
    arguments: dict[str, Any] = {}
    words = list(argv[2:])
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            continue
        key, separator, value = word.lstrip("-").partition("=")
        if not separator:
            follows = bool(words) and not (words[0].startswith("-") and not _is_number(words[0]))
            value = words.pop(0) if follows else "True"
        key = key.replace("-", "_")
        read = _literal(value)
        # 2026_11_24 is a number to Python
        arguments[key] = value if key in PATHS and _is_number(value) else read
    return arguments


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _literal(text: str) -> Any:
    value = DefaultParseValue(text)
    if not isinstance(value, str):
        return list(value) if isinstance(value, tuple) else value
    bare = value.strip()
    if bare.startswith("[") and bare.endswith("]"):  # a list of paths, which fire leaves as a text
        return [_literal(part.strip()) for part in bare[1:-1].split(",")]
    return None if bare == "null" else value


def _beside_preset(overlays: Sequence[Any]) -> dict[str, Any]:
    """The values of the overlays that name a preset themselves, and so say what is different."""
    contents = [ConfigParser.load_config_file(file) for file in overlays]
    return {key: value for content in contents if "preset" in content for key, value in content.items()}


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _wake_loggers() -> None:
    # MONAI's reading of logging.conf silences every logger that exists already: ours, from a second run in a process on
    package = __name__.partition(".")[0]
    for name, existing in logging.root.manager.loggerDict.items():
        if name.startswith(f"{package}.") and isinstance(existing, logging.Logger):
            existing.disabled = False
