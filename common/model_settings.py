"""The settings that weights were trained with, in a file beside them, so that nobody has to repeat them.

``model.pt`` has ``model.json``, ``model_best.pt`` has ``model_best.json``: a training writes both, and a configuration
asks for a value by ``$settings.of(@weights, 'filters', 64)``.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from .errors import UserError
from .files import atomic_file

__all__ = [
    "check_settings",
    "default_of",
    "departures",
    "is_number",
    "names_in",
    "of",
    "read_settings",
    "read_training",
    "settings_file",
    "settings_text",
    "trained_names",
    "write_settings",
    "writer",
]

_EXPRESSION = re.compile(r"\$\s*settings\.of\(\s*@weights\s*,\s*'\w+'\s*,\s*(.+)\)\s*", re.DOTALL)


def of(weights: str | os.PathLike, key: str, default: Any) -> Any:
    """The value of a setting that weights were trained with.

    Args:
        weights: the file of the weights, which need not exist.
        key: name of the setting.
        default: the value where nothing is known; it also tells the type. A list of numbers, such as a size, may be
            None and the other way round; a text may be a whole number, as MONAI has it for modes of interpolation.

    Raises:
        UserError: the file of the settings is damaged, or the value of another type.
    """
    value = read_settings(weights).get(key, default)
    if not _fits(value, default):
        raise UserError(
            f"{settings_file(weights)}: {key} is {value!r}, which cannot stand for {default!r}; restore the file, or "
            f"remove it and give the settings of the training by hand"
        )
    return value


def read_settings(weights: str | os.PathLike) -> dict[str, Any]:
    """All settings that weights were trained with, by key; none where no file tells.

    Raises:
        UserError: the file is damaged.
    """
    return _read(weights, "settings")


def read_training(weights: str | os.PathLike) -> dict[str, Any]:
    """What else is known of the training of weights, such as its seed and classes; nothing where no file tells.

    Raises:
        UserError: the file is damaged.
    """
    return _read(weights, "training")


def _read(weights: str | os.PathLike, part: str) -> dict[str, Any]:
    path = settings_file(weights)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError):
        content = None
    parts: dict[str, Any] = content if isinstance(content, dict) else {}
    if not isinstance(parts.get("settings"), dict) or not isinstance(parts.get("training", {}), dict):
        raise UserError(
            f"{path}: cannot be read as the settings of the weights beside it; restore the file, or remove it and give "
            "the settings of the training by hand"
        )
    return dict(parts.get(part, {}))


def trained_names(weights: str | os.PathLike) -> list[str]:
    """The names of the classes of weights, background first; none where no file tells.

    Raises:
        UserError: the file is damaged.
    """
    names = read_training(weights).get("class_names")
    if isinstance(names, str):  # as a command line may have had them
        return names_in(names)
    return [str(name) for name in names] if isinstance(names, list) else []


def names_in(text: str) -> list[str]:
    """The names of a text with commas, with or without brackets."""
    return [name.strip() for name in text.strip().removeprefix("[").removesuffix("]").split(",")]


def writer(train: Path, handlers: Sequence[Mapping[str, Any]]) -> int:
    """The place, among the handlers of a training, of the one that writes weights and tells their settings.

    Args:
        train: the file that they were read from.
        handlers: their definitions, as in ``train#handlers``.

    Raises:
        UserError: there is none, or more than one.
    """
    places = [place for place, each in enumerate(handlers) if str(each.get("_target_")).endswith(".AtomicCheckpoint")]
    if len(places) != 1:
        raise UserError(
            f"{train}: has {len(places)} AtomicCheckpoint handlers, which tell the weights' settings; need 1"
        )
    return places[0]


def departures(weights: str | os.PathLike, config: Mapping[str, Any]) -> list[str]:
    """Tell in which settings a configuration departs from the training of the weights, a line for each.

    Args:
        weights: the file of the weights.
        config: values by key, as the configuration holds them; computed ones are not looked at.

    Raises:
        UserError: the file of the settings is damaged.
    """
    found = []
    for key, trained in read_settings(weights).items():
        given = config.get(key, trained)
        given = list(given) if isinstance(given, tuple) else given
        if given != trained and not (isinstance(given, str) and given.startswith("$")):
            found.append(f"{key} is {given!r}, and was {trained!r} in the training of {weights}")
    return found


def settings_file(weights: str | os.PathLike) -> Path:
    """The file beside weights that holds their settings: called alike, with the ending ``.json``."""
    path = Path(str(weights))
    return path.parent / f"{path.stem}.json"


def write_settings(weights: str | os.PathLike, settings: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Write ``{"settings", "versions", "training"}`` beside weights, whole or not at all.

    Args:
        weights: the file of the weights.
        settings: what a network and its preprocessing are built with, by key; no paths, no names of cases.
        training: what else a reader may want to know of the training.

    Raises:
        UserError: the file cannot be written.
    """
    from monai.config import get_config_values  # programs that read such files alone do not wait for MONAI

    parts = {"settings": settings, "versions": get_config_values(), "training": training}
    with atomic_file(settings_file(weights)) as temporary:
        temporary.write_text(settings_text(parts), encoding="utf-8")


def settings_text(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a file of settings, with a line for each key of its parts."""
    document = ",\n".join(f'    "{name}": {_lines(part)}' for name, part in parts.items())
    return f"{{\n{document}\n}}\n"


def check_settings(settings: Mapping[str, Any]) -> None:
    """Find out before a training, rather than at its end, whether settings can be written.

    Raises:
        UserError: a value is none that JSON knows.
    """
    for key, value in settings.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(f"{key}: {value!r} cannot be written as JSON; give numbers, texts or lists") from error


def default_of(value: Any) -> Any:
    """What a configuration's value is where nothing is known of the weights.

    Args:
        value: a value as the configuration's file has it.

    Returns:
        the default of a ``$settings.of(@weights, ...)`` whose default is a literal; any other value as it is.
    """
    found = _EXPRESSION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    try:
        return ast.literal_eval(found[1])
    except (ValueError, SyntaxError):
        return value


def _lines(part: Mapping[str, Any]) -> str:
    """JSON with one key a line, which Python's own indent would not leave a list on."""
    return (
        "{\n" + ",\n".join(f"        {json.dumps(key)}: {json.dumps(value)}" for key, value in part.items()) + "\n    }"
    )


def _fits(value: Any, default: Any) -> bool:
    if value is None or default is None:
        sizes = default if value is None else value
        return sizes is None or (isinstance(sizes, list) and all(is_number(size) for size in sizes))
    if isinstance(default, list):
        return (
            isinstance(value, list)
            and len(value) == len(default)
            and all(_fits(each, like) for each, like in zip(value, default, strict=True))
        )
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, float):
        return is_number(value)
    if isinstance(default, str) and isinstance(value, str):
        return True
    return type(value) is int


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number, and no switch."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
