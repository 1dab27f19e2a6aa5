"""What has to hold before a bundle is given to others: the checks of MONAI's model zoo, and ours."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties
from monai.utils import BundleProperty, BundlePropertyConfig

from ..errors import UserError
from .archive import checksum
from .config_keys import check_keys, files_with_code, merged, stack_of
from .installed_bundle import own_package
from .large_files import LIMIT, read_large_files
from .metadata_check import check_metadata, check_version
from .readme_commands import check_readme
from .release import check_dependencies, required_files
from .renaming import package_name
from .strict_json import read_document

__all__ = ["verification"]

_PROGRAM = Path(__file__).parent / "trial_program.py"
_WEIGHTS = "models/model.pt"


def verification(bundle: Path, library: Path, programs: Mapping[str, set[str]]) -> Iterator[tuple[str, str | None]]:
    """Check a bundle, unpacked from a release or in the checkout.

    Args:
        bundle: its folder, whatever it is called.
        library: folder of the library's package, which a release may not need.
        programs: options of the project's programs, which the README may call.

    Yields:
        for each check what it is, and None or what is wrong.
    """
    checks: dict[str, Callable[[], None]] = {
        "required files": partial(_check_files, bundle),
        "JSON without double or dead keys": partial(check_keys, bundle),
        "metadata as specified": partial(_check_metadata, bundle),
        "version and changelog": partial(_check_version, bundle),
        "required keys": partial(_check_properties, bundle),
        "commands of the README": partial(check_readme, bundle, programs),
        "code and declared packages": partial(_check_code, bundle, library),
        "sizes and checksums": partial(_check_sizes, bundle),
    }
    for name, check in checks.items():
        try:
            check()
        except UserError as error:
            yield name, str(error)
        else:
            yield name, None
    forbidden = [library.name, "tools"] if _package(bundle).is_dir() else []
    yield from _trial(bundle, library, forbidden)


def _package(bundle: Path) -> Path:
    """The folder of a release's own code, whether or not it is there, and whether or not the metadata can be read."""
    try:
        return own_package(bundle)
    except UserError:
        return bundle / package_name(bundle.name, "")


def _check_files(bundle: Path) -> None:
    for name in required_files(bundle):
        raise UserError(f"{bundle / name}: is missing; a bundle needs it")


def _check_metadata(bundle: Path) -> None:
    path = bundle / "configs" / "metadata.json"
    check_metadata(read_document(path), str(path))


def _check_version(bundle: Path) -> None:
    path = bundle / "configs" / "metadata.json"
    metadata = read_document(path)
    check_version(metadata, str(metadata.get("version", "")), str(path))


def _check_properties(bundle: Path) -> None:
    """The keys that MONAI's programs ask for, in each way of running the bundle; nothing is built for it."""
    ways = {"train.json": TrainProperties, "evaluate.json": InferProperties, "inference.json": InferProperties}
    for name, properties in ways.items():
        path = bundle / "configs" / name
        if not path.is_file():
            continue
        parser = merged(stack_of(path))
        parser.parse(True)
        for key, item in properties.items():
            place = str(item[BundlePropertyConfig.ID])
            if item.get(BundleProperty.REQUIRED, False) and parser.get(place) is None:
                raise UserError(f"{path}: has no {place.replace('::', '#')}, which MONAI asks for; add it")
            given = _reference(parser, key, item.get(BundlePropertyConfig.REF_ID))
            if isinstance(given, str) and not given.startswith("$") and given != f"@{place}":
                raise UserError(f"{path}: {given} stands where MONAI looks for @{place}; define that key and name it")


def _reference(parser: ConfigParser, key: str, place: Any) -> Any:
    """What stands where a property of MONAI's is used; of two of them only the handler's argument is known."""
    if place is None:
        return None
    if key not in ("evaluator", "val_interval"):
        return parser.get(str(place))
    handlers = parser.get("train::handlers") or []
    found = [handler.get(str(place)) for handler in handlers if handler["_target_"] == "ValidationHandler"]
    return found[-1] if found else None


def _check_code(bundle: Path, library: Path) -> None:
    package = _package(bundle)
    if not package.is_dir():
        check_dependencies(bundle, library, library.name)
        return
    for path in [*files_with_code(bundle), *package.rglob("*.py")]:
        if f"{library.name}." in path.read_text(encoding="utf-8").replace(f".{library.name}.", ""):
            raise UserError(f"{path}: names the package {library.name}, which a release does not have")
    check_dependencies(bundle, package, package.name)


def _check_sizes(bundle: Path) -> None:
    entries = read_large_files(bundle)
    for name, entry in entries.items():
        path = bundle / name
        if path.is_file() and entry.get("hash_type") == "sha256" and checksum(path) != entry.get("hash_val"):
            raise UserError(f"{path}: is not the file that large_files.yml tells of; download it anew")
    for part in ("configs", "docs", "models", _package(bundle).name):
        for path in (bundle / part).rglob("*"):
            if path.is_file() and path.stat().st_size > LIMIT and path.relative_to(bundle).as_posix() not in entries:
                raise UserError(f"{path}: has more than 25 MB, and large_files.yml does not tell of it")


def _trial(bundle: Path, library: Path, forbidden: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Load and export in a process of its own, which sees the bundle's code alone."""
    if not (bundle / _WEIGHTS).is_file():
        hint = f"python -m monai.bundle download_large_files --bundle_path {bundle}"
        yield "weights fit the network", f"{bundle / _WEIGHTS}: is not there; {hint}"
        return
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        path = [] if forbidden else [str(library.parent)]
        program = f"import sys, runpy; sys.path[:0] = {path!r}; runpy.run_path({str(_PROGRAM)!r}, run_name='__main__')"
        words = [sys.executable, "-I", "-W", "ignore", "-c", program, str(bundle), str(report), *forbidden]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        if not report.is_file():
            yield "weights fit the network", f"the trial ended early: {done.stderr.strip()[-300:]}"
            return
        yield from json.loads(report.read_text(encoding="utf-8")).items()
