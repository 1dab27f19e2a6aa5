"""Putting packed bundles into an app of MONAI Label, all of them or none."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .archive import unpack
from .installed_bundle import (
    WEIGHTS,
    draw_weights,
    has_classes,
    own_package,
    prepare_for_server,
    weights_state,
)

__all__ = ["Installed", "check_app", "install", "installed_bundles"]

# MONAI Label takes a bundle for one of these kinds if its name says so
_OTHER_KINDS = ("deepedit", "deepgrow", "detection", "classification")
_NEEDED = ("configs/metadata.json", "configs/train.json", "configs/inference.json")


class Installed(NamedTuple):
    """A bundle in the app: its folder, and that of the one which was there before, if that was kept."""

    folder: Path
    kept: Path | None


def check_app(app: Path) -> None:
    """Refuse a folder that is no copy of MONAI Label's sample app ``monaibundle``.

    Raises:
        UserError: it is none.
    """
    try:
        known = "BundleInferTask" in (app / "main.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        known = False
    if not known:
        raise UserError(
            f"{app}: is no monaibundle app; get one with: monailabel apps --download --name monaibundle --output apps"
        )


def installed_bundles(app: Path) -> list[str]:
    """The names of the bundles in an app that a server can show, sorted."""
    folders = [path for path in (app / "model").glob("[!.]*") if (path / "configs" / "inference.json").is_file()]
    return sorted(path.name for path in folders if (path / WEIGHTS).is_file())


def install(
    sources: Sequence[Path], app: Path, *, class_names: Sequence[str] | None = None, seed: int = 0, force: bool = False
) -> list[Installed]:
    """Put bundles into ``<app>/model/<name>``.

    Each is made ready beside its place first, and only when all of them are, they are renamed.

    Args:
        sources: zip files of releases, or their unpacked folders.
        app: folder of the app.
        class_names: other classes for all of them, background first; their weights are drawn anew then.
        seed: seed of such weights.
        force: replace bundles that are there. One that was trained there is moved to ``<app>/replaced``.

    Returns:
        what was installed, in the order of the sources.

    Raises:
        UserError: the app is none, a source is none or faulty, two have one name, or a bundle is there already. Then
            everything is as before.
    """
    check_app(app)
    models = app / "model"
    with _workshop(models) as workshop:
        ready: dict[str, Path] = {}
        for source in sources:
            bundle = _unpacked(source, workshop / str(len(ready)))
            if bundle.name in ready:
                raise UserError(f"{source}: is a second bundle called {bundle.name}; install one of them")
            if (models / bundle.name).exists() and not force:
                raise UserError(f"{models / bundle.name}: is there already; give --force to replace it")
            _make_ready(bundle, class_names, seed)
            ready[bundle.name] = bundle
        return _put_in_place(ready, app, workshop)


def _unpacked(source: Path, folder: Path) -> Path:
    """A copy of a release in a folder of its own."""
    _make_folder(folder)
    if source.is_dir():
        bundle = folder / source.resolve().name
        if link := next((path for path in source.rglob("*") if path.is_symlink()), None):
            raise UserError(f"{link}: is a link; a bundle holds its own files")
        try:
            shutil.copytree(source, bundle, ignore=shutil.ignore_patterns("__pycache__", "monailabel_train.json"))
        except (OSError, shutil.Error) as error:
            raise UserError(f"{source}: cannot be copied to {folder} ({error})") from error
    else:
        bundle = unpack(source, folder)
    missing = next((name for name in _NEEDED if not (bundle / name).is_file()), None)
    if missing is not None or not own_package(bundle).is_dir():
        what = missing or f"{own_package(bundle).name}/, its code"
        raise UserError(f"{source}: has no {bundle.name}/{what}; give what python -m tools pack made")
    if kind := next((kind for kind in _OTHER_KINDS if kind in bundle.name.lower()), None):
        raise UserError(f'{source}: is called {bundle.name}, and MONAI Label takes "{kind}" for a kind; call it else')
    return bundle


def _make_ready(bundle: Path, class_names: Sequence[str] | None, seed: int) -> None:
    if class_names is not None and not has_classes(bundle, class_names):
        draw_weights(bundle, seed=seed, class_names=class_names)
    if not (bundle / WEIGHTS).is_file():
        raise UserError(
            f"{bundle.name}: its weights are not in the file; unpack it, get them with python -m monai.bundle "
            f"download_large_files --bundle_path {bundle.name}, and install the folder"
        )
    prepare_for_server(bundle)


def _put_in_place(ready: dict[str, Path], app: Path, workshop: Path) -> list[Installed]:
    """Rename all bundles to their places, and back again where one does not go."""
    undo: list[Callable[[], None]] = []
    done = []

    def move(old: Path, new: Path) -> None:
        os.rename(old, new)
        undo.append(lambda: os.rename(new, old))

    try:
        for name, bundle in ready.items():
            target, kept = app / "model" / name, None
            if target.exists():
                kept = _place_to_keep(app, name) if _has_work(target) else None
                move(target, kept or workshop / f"{name}.before")
            move(bundle, target)
            done.append(Installed(target, kept))
    except OSError as error:
        for step in reversed(undo):
            step()
        raise UserError(f"{app}: nothing was installed ({error.strerror}); see who owns its folder model") from error
    return done


def _has_work(bundle: Path) -> bool:
    """Whether somebody's training would be lost with a bundle; so it is if nobody can tell."""
    try:
        return weights_state(bundle) == "trained"
    except UserError:
        return True


def _place_to_keep(app: Path, name: str) -> Path:
    folder = app / "replaced"
    folder.mkdir(exist_ok=True)
    number = 1
    while (folder / f"{name}_{number}").exists():
        number += 1
    return folder / f"{name}_{number}"


@contextmanager
def _workshop(models: Path) -> Iterator[Path]:
    """A folder beside the bundles' places, on one file system with them, that is gone at the end."""
    folder = models / f".{uuid.uuid4().hex[:12]}.installing"
    _make_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); see who owns the app") from error
