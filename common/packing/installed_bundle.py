"""A packed bundle made ready for a MONAI Label server: its training follows its weights, its classes are the user's."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..data.class_names import names_in_metadata
from ..errors import UserError
from ..files import atomic_file, write_json
from ..model_settings import read_settings, settings_file, write_settings, writer
from .archive import checksum
from .config_keys import merged
from .renaming import package_name
from .strict_json import read_document

__all__ = [
    "WEIGHTS",
    "class_names_of",
    "draw_weights",
    "has_classes",
    "keep_weights",
    "own_package",
    "prepare_for_server",
    "weights_state",
]

WEIGHTS = Path("models", "model.pt")
_METADATA = Path("configs", "metadata.json")
_TRAIN = Path("configs", "train.json")
_INFERENCE = Path("configs", "inference.json")
_STATE = "installed_weights"
_UNTRAINED = "Installed with untrained weights, until a training replaces them (models/model.json tells its steps). "


def own_package(bundle: Path) -> Path:
    """The folder of a packed bundle's own code, whether or not it is there, and whatever the bundle's folder is called.

    Raises:
        UserError: the metadata cannot be read.
    """
    version = str(read_document(bundle / _METADATA).get("version"))
    expected = bundle / package_name(bundle.name, version)
    found = sorted(path.parent for path in bundle.glob(f"*{package_name('', version)}/__init__.py"))
    return expected if expected.is_dir() or not found else found[0]


def class_names_of(bundle: Path) -> list[str]:
    """The names of a bundle's classes, background first.

    Raises:
        UserError: the metadata cannot be read, or name none.
    """
    return names_in_metadata(bundle / _METADATA)


def weights_state(bundle: Path) -> str:
    """What a bundle's weights are: ``"none"``, ``"untrained"``, ``"installed"``, or ``"trained"`` since then.

    The metadata tell the SHA-256 of the weights that were installed, so that the mark of untrained ones ends with the
    first training that replaces them.

    Raises:
        UserError: the metadata or the weights cannot be read.
    """
    weights = bundle / WEIGHTS
    if not weights.is_file():
        return "none"
    mark = read_document(bundle / _METADATA).get(_STATE)
    if not isinstance(mark, dict) or mark.get("sha256") != checksum(weights):
        return "trained"
    return "installed" if mark.get("trained") else "untrained"


def prepare_for_server(bundle: Path) -> None:
    """Let a bundle train in a MONAI Label server as its weights were trained.

    MONAI Label reads ``train.json`` alone and knows no presets, so that the settings of the weights go into it, and the
    number of classes, for which no datalist is asked. The weights of a training are published, which is what the
    server runs next, and there is no progress bar.

    Args:
        bundle: folder of a packed bundle with weights.

    Raises:
        UserError: a file cannot be read or written.
    """
    train = read_document(bundle / _TRAIN)
    settings = {"num_classes": len(class_names_of(bundle)), **read_settings(bundle / WEIGHTS)}
    settings |= {"publish": True, "progress": False}
    train |= {key: value for key, value in settings.items() if key in train}
    write_json(bundle / _TRAIN, train, indent=4)
    if weights_state(bundle) != "untrained":
        _mark(bundle, trained=True)


def has_classes(bundle: Path, class_names: Sequence[str]) -> bool:
    """Whether a bundle's classes are called so, in upper or lower case.

    Raises:
        UserError: the metadata cannot be read.
    """
    return [name.lower() for name in class_names] == [name.lower() for name in class_names_of(bundle)]


def draw_weights(bundle: Path, *, seed: int, class_names: Sequence[str] | None = None) -> None:
    """Replace a bundle's weights by freshly drawn ones of the same settings, marked as untrained in the metadata.

    This runs the bundle's own code.

    Args:
        bundle: folder of a packed bundle.
        seed: seed of the draw.
        class_names: other classes for it, background first.

    Raises:
        UserError: a file cannot be read or written, or the network cannot be built.
    """
    names = list(class_names or class_names_of(bundle))
    document = read_document(bundle / _TRAIN)
    handlers = document.get("train", {}).get("handlers", [])
    found = handlers[writer(bundle / _TRAIN, handlers)]
    parser: ConfigParser = merged([bundle / _INFERENCE])
    parser["bundle_root"], parser["num_classes"] = str(bundle), len(names)
    with _own_modules(bundle), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            settings = {key: parser.get_parsed_content(key) for key in found["settings"]}
            state = parser.get_parsed_content("network_def").state_dict()
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{bundle}: its network cannot be built ({reason}); install the bundle anew") from error
    training = {"bundle": document.get("provenance", {}).get("bundle", bundle.name), "seed": seed}
    if not has_classes(bundle, names):
        _rename_classes(bundle, names)
    with atomic_file(bundle / WEIGHTS) as temporary:
        torch.save(state, temporary)
        write_settings(bundle / WEIGHTS, settings, {**training, "epochs": 0, "iterations": 0})
    _mark(bundle, trained=False)


def keep_weights(bundle: Path) -> Path:
    """Copy a bundle's weights and their settings to its folder ``replaced``, from where no server takes them.

    Raises:
        UserError: they cannot be copied.
    """
    folder, number = bundle / "replaced", 1
    while (folder / f"model_{number}.pt").exists():
        number += 1
    kept = folder / f"model_{number}.pt"
    for old, new in ((settings_file(bundle / WEIGHTS), settings_file(kept)), (bundle / WEIGHTS, kept)):
        if old.is_file():
            with atomic_file(new) as temporary:
                shutil.copyfile(old, temporary)
    return kept


def _rename_classes(bundle: Path, class_names: Sequence[str]) -> None:
    metadata, train = read_document(bundle / _METADATA), read_document(bundle / _TRAIN)
    listed = ", ".join(f"{value} {name}" for value, name in enumerate(class_names))
    metadata["task"] = f"Segmentation of {', '.join(class_names[1:])}"
    metadata["label_classes"] = f"single-channel label maps: {listed}, {len(class_names)} not annotated"
    metadata["pred_classes"] = f"{len(class_names)} logits: {', '.join(class_names)}"
    channels = {str(value): name for value, name in enumerate(class_names)}
    _prediction(metadata).update({"num_channels": len(class_names), "channel_def": channels})
    write_json(bundle / _METADATA, metadata, indent=4)
    write_json(bundle / _TRAIN, train | {"num_classes": len(class_names)}, indent=4)


def _mark(bundle: Path, *, trained: bool) -> None:
    """Note in the metadata which weights are those of the installation, and whether they are any good."""
    metadata = read_document(bundle / _METADATA)
    metadata[_STATE] = {"sha256": checksum(bundle / WEIGHTS), "trained": trained}
    metadata["description"] = str(metadata.get("description", "")).removeprefix(_UNTRAINED)
    if not trained:
        metadata["description"] = _UNTRAINED + metadata["description"]
        metadata["eval_metrics"] = {}
    write_json(bundle / _METADATA, metadata, indent=4)


def _prediction(metadata: dict[str, Any]) -> dict[str, Any]:
    return metadata["network_data_format"]["outputs"]["pred"]


@contextmanager
def _own_modules(bundle: Path) -> Iterator[None]:
    """Let the bundle's package be imported from its folder, and forget it again: another one may be called alike."""
    package = own_package(bundle).name

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]

    forget()
    sys.path.insert(0, str(bundle))
    try:
        yield
    finally:
        sys.path.remove(str(bundle))
        forget()
