"""The names of the classes that a run trains: those of its datalist, or of its bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_text
from ..model_settings import names_in, settings_file, trained_names
from .datalist import datalist_info
from .phantom import default_phantom_dir

__all__ = ["channel_names", "check_number_of_names", "check_trained_names", "names_in_metadata", "names_of"]


def names_of(datalist: str | os.PathLike[str], metadata: str | os.PathLike[str]) -> list[str]:
    """The names of the classes, background first.

    A program that brings items of its own, as MONAI Label does, knows no datalist. It names the classes by the
    bundle's metadata.

    Args:
        datalist: the JSON file. The default phantom, whose classes are the bundle's, is neither made nor read.
        metadata: the bundle's metadata.json.

    Raises:
        UserError: the datalist is damaged, or the metadata name no classes.
    """
    path = Path(datalist)
    if os.path.lexists(path) and path.parent.resolve() != default_phantom_dir().resolve():
        return datalist_info(path)["class_names"]
    return names_in_metadata(metadata)


def names_in_metadata(metadata: str | os.PathLike[str]) -> list[str]:
    """The names of the classes that a bundle's metadata give its prediction, background first.

    Args:
        metadata: the bundle's metadata.json.

    Raises:
        UserError: it cannot be read, or names no classes.
    """
    try:
        return channel_names(json.loads(read_text(metadata)))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{metadata}: does not name the classes (network_data_format, outputs, pred, channel_def); restore it"
        ) from error


def channel_names(metadata: Any) -> list[str]:
    """The names in the content of a bundle's metadata.

    Raises:
        ValueError: it names no classes.
    """
    try:
        channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        names = [channels[str(number)] for number in range(len(channels))]
    except (KeyError, TypeError) as error:
        raise ValueError("no names") from error
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("no names")
    return names


def check_number_of_names(class_names: Sequence[str] | str, num_classes: int) -> list[str]:
    """The names as a list, which on the command line may come as a text with commas.

    Raises:
        UserError: there are not as many as classes.
    """
    names = names_in(class_names) if isinstance(class_names, str) else list(class_names)
    if len(names) != num_classes:
        raise UserError(
            f"--class_names: {len(names)} names ({', '.join(map(str, names))}) where --num_classes is {num_classes}; "
            "set both alike"
        )
    return names


def check_trained_names(weights: str | os.PathLike[str], class_names: Sequence[str]) -> None:
    """Refuse weights that give a class by another number than the labels they are to be scored against.

    A name that only one of the two has says nothing: another data set may call the same class otherwise.

    Args:
        weights: the file of the weights.
        class_names: names of the classes of the labels, background first.

    Raises:
        UserError: a name that both have is that of another number.
    """
    trained = trained_names(weights)
    for number, name in enumerate(class_names):
        if name in trained and trained.index(name) != number:
            raise UserError(
                f"{settings_file(weights)}: {name} is class {trained.index(name)} of these weights and class {number} "
                f"of the datalist ({', '.join(trained)} and {', '.join(map(str, class_names))}); score against labels "
                "with the classes in the order of the training"
            )
