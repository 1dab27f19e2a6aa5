"""Put bundles into an app of MONAI Label, give them fresh weights, and tell which image to annotate next.

    python -m tools label install maag cyclemix --app apps/monaibundle
    python -m tools label install dmpls --app apps/monaibundle --class_names background,spleen,tumour
    python -m tools label init maag --app apps/monaibundle --force
    python -m tools label rank my_studies

docs/monai_label.md tells the whole way.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

import common
from common.data.label_ranking import rank_studies
from common.data.own_data import parse_class_names
from common.errors import UserError
from common.packing.archive import write_archive
from common.packing.bundle_folder import bundle_folder
from common.packing.installed_bundle import (
    WEIGHTS,
    class_names_of,
    draw_weights,
    keep_weights,
    own_package,
    weights_state,
)
from common.packing.label_app import Installed, check_app, install, installed_bundles
from common.packing.readme_commands import options_of_programs
from common.packing.release import make_release

_OPTIONS = {
    "install": {"app", "force", "class_names", "seed"},
    "init": {"app", "force", "class_names", "seed"},
    "rank": set[str](),
}


def main(
    action: str,
    *names: str,
    app: str | None = None,
    force: bool = False,
    class_names: str | None = None,
    seed: int = 0,
) -> None:
    """Install bundles into an app of MONAI Label, draw fresh weights for one, or rank the images of a server.

    Args:
        action: install puts bundles into <app>/model, so that the server lists them, runs them and trains them. All
            are installed or none, and their code is not run, unless they get other classes. init replaces the weights
            of an installed bundle by freshly drawn ones, to train from scratch; the metadata call them untrained.
            rank lists the images without a label, the least certain first, after a scoring run of the server.
        names: of install, bundles of this project, zip files that pack made, or their unpacked folders. Of init, one
            installed bundle's folder, or its name and app. Of rank, the server's folder of images (--studies).
        app: folder of a copy of MONAI Label's sample app monaibundle.
        force: of install, replace bundles that are there; those that were trained there are moved to <app>/replaced.
            Of init, replace trained weights; those of a training there are copied to the bundle's folder replaced.
        class_names: other classes with commas, background first: "background,spleen,tumour". Weights of other classes
            are replaced by freshly drawn ones.
        seed: seed of freshly drawn weights, from 0 on.

    Raises:
        UserError: an option is wrong, a bundle or the app is none, something is there already, or a file cannot be
            read or written.
    """
    if action not in _OPTIONS:
        raise UserError(f'"{action}" is no action of label; choose {", ".join(_OPTIONS)}')
    given = {"app": app is not None, "force": force, "class_names": class_names is not None, "seed": seed != 0}
    foreign = next((key for key, used in given.items() if used and key not in _OPTIONS[action]), None)
    if foreign:
        raise UserError(f"{action} has no --{foreign}")
    if type(seed) is not int or seed < 0:
        raise UserError(f"--seed is {seed!r}; give a number from 0 on")
    classes = None if class_names is None else parse_class_names(class_names)
    if action == "install":
        _install([str(name) for name in names], app, classes, seed=seed, force=force)
        return
    if len(names) != 1:
        what = "installed bundle" if action == "init" else "folder of images"
        raise UserError(f"{action} needs one {what}, and got {len(names)}")
    if action == "init":
        _init(str(names[0]), app, classes, seed=seed, force=force)
    else:
        _rank(str(names[0]))


def _install(names: list[str], app: str | None, classes: list[str] | None, *, seed: int, force: bool) -> None:
    if not names:
        raise UserError("install needs bundles: names, zip files that pack made, or their unpacked folders")
    if app is None:
        raise UserError("install needs --app, the folder of a copy of MONAI Label's sample app monaibundle")
    folder = Path(app).expanduser()
    check_app(folder)
    with tempfile.TemporaryDirectory() as packed:
        sources = [_source(name, Path(packed)) for name in names]
        done = install(sources, folder, class_names=classes, seed=seed, force=force)
    for each in done:
        _tell(each)
    models = ",".join(installed_bundles(folder))
    command = ["monailabel", "start_server", "--app", str(folder), "--studies", "<folder of images>"]
    command += ["--conf", "models", models, "--conf", "zoo_source", "ngc", "--conf", "sam2", "false"]
    print("start the server with, in MONAI Label's environment:")
    print(shlex.join([*command, "--host", "127.0.0.1"]).replace("'<folder of images>'", "<folder of images>"))


def _source(name: str, folder: Path) -> Path:
    """A zip file or an unpacked release; a bundle of the project is packed first."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    bundle = bundle_folder(name)
    if own_package(bundle).is_dir():
        return bundle
    library = Path(str(common.__file__)).resolve().parent
    release = make_release(bundle, library, programs=options_of_programs(Path(__file__).parent))
    write_archive(folder / f"{len(list(folder.iterdir()))}_{release.name}.zip", release.files)
    return max(folder.glob(f"*_{release.name}.zip"))


def _tell(done: Installed) -> None:
    state = {"untrained": "untrained weights"}.get(weights_state(done.folder), "trained weights")
    print(f"{done.folder}: {', '.join(class_names_of(done.folder))}; {state}")
    if done.kept is not None:
        print(f"  the one before, which was trained there, is kept in {done.kept}")


def _init(name: str, app: str | None, classes: list[str] | None, *, seed: int, force: bool) -> None:
    bundle = Path(name).expanduser() if app is None else Path(app).expanduser() / "model" / name
    if not (bundle / "configs" / "metadata.json").is_file() or not own_package(bundle.resolve()).is_dir():
        raise UserError(f"{bundle}: is no installed bundle; put it there with python -m tools label install")
    bundle = bundle.resolve()
    state = weights_state(bundle)
    if state in ("installed", "trained") and not force:
        raise UserError(f"{bundle / WEIGHTS}: are trained weights; give --force to replace them")
    kept = keep_weights(bundle) if state == "trained" else None
    draw_weights(bundle, seed=seed, class_names=classes)
    print(f"{bundle / WEIGHTS}: untrained weights for {', '.join(class_names_of(bundle))}, seed {seed}")
    if kept is not None:
        print(f"the ones before are kept in {kept}")


def _rank(studies: str) -> None:
    ranked = rank_studies(studies)
    scored = [image for image in ranked if image.entropy is not None]
    for image in ranked:
        print(f"{'not scored' if image.entropy is None else f'{image.entropy:10.4f}'}  {image.name}")
    print(f"{len(ranked)} images without a label, {len(scored)} of them scored; the least certain stand first")
