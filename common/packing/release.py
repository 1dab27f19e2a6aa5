"""What a release of a bundle holds: its own files, and what it reaches of the library, as a package of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monai.bundle import ConfigParser

from ..errors import UserError
from ..handlers.atomic_checkpoint import load_weights
from .code_closure import Closure, closure, names_in, undeclared
from .config_keys import check_keys, files_with_code, merged
from .installed_bundle import own_package
from .large_files import LIMIT, NAME, large_files_text, read_large_files
from .metadata_check import check_metadata, check_version
from .readme_commands import check_readme
from .renaming import package_name, renamed, renamed_paths
from .strict_json import parse_document, read_document

__all__ = ["Release", "check_dependencies", "check_weights", "make_release", "required_files"]

_WEIGHTS = "models/model.pt"
_REQUIRED = ["LICENSE", "configs/metadata.json", "configs/train.json", "configs/inference.json", "docs/README.md"]
_REQUIRED += ["configs/logging.conf", "docs/data_license.txt"]
_TEXTS = {".json", ".md", ".txt"}
_WHERE = "Run from the root of the repository"


@dataclass(frozen=True)
class Release:
    """One release, ready to be written.

    Args:
        name: of the zip file, without its ending.
        package: name of its own package.
        files: content by path, which begins with the bundle's name.
        left_out: large files that the release only points to, with their addresses.
    """

    name: str
    package: str
    files: dict[str, bytes]
    left_out: dict[str, str]


def make_release(
    bundle: Path,
    library: Path,
    *,
    programs: Mapping[str, set[str]],
    version: str | None = None,
    weights_url: str | None = None,
) -> Release:
    """Check a bundle and gather what its release holds.

    Args:
        bundle: folder of the bundle, which is called like it.
        library: folder of the library's package.
        programs: options of the project's programs, which the README may call.
        version: by default that of the metadata; the release's metadata say this one.
        weights_url: where weights of more than 25 MB can be downloaded, unless ``large_files.yml`` tells.

    Raises:
        UserError: a file is missing, damaged or too large; keys are dead or there twice; the changelog does not tell of
            the version; the README names a key that does not exist; the code needs packages that are not declared; or
            the weights do not load.
    """
    for name in required_files(bundle):
        raise UserError(f"{bundle / name}: is missing; a bundle needs it")
    if own_package(bundle).is_dir():
        raise UserError(f"{bundle}: is a release already, with its own code; pack the bundle that it was made from")
    meta_file = bundle / "configs" / "metadata.json"
    metadata = read_document(meta_file)
    version = str(metadata.get("version", "")) if version is None else version
    check_version(metadata, version, str(meta_file))
    check_metadata(metadata, str(meta_file))
    check_keys(bundle)
    check_readme(bundle, programs)
    check_weights(bundle)
    reached = check_dependencies(bundle, library, library.name)
    package = package_name(bundle.name, version)
    if not package.isidentifier():
        raise UserError(f"{bundle.name}: cannot name a package of code; rename the bundle to a word such as maag")
    own = _own_files(bundle, library.parent)
    left_out = _leave_out_weights(bundle, own, weights_url)
    for name, content in own.items():
        if Path(name).suffix in _TEXTS:
            own[name] = _adapted(name, content.decode("utf-8"), bundle.name, library.name, package, reached).encode()
    own["configs/metadata.json"] = _with_version(own["configs/metadata.json"].decode(), version).encode()
    for path in sorted(reached.files):
        content = (library / path).read_bytes()
        if path.suffix == ".py":
            content = renamed(content.decode("utf-8"), library.name, package, reached.files).encode()
        own[f"{package}/{path.as_posix()}"] = content
    own[f"{package}/LICENSE"] = own["LICENSE"]
    for name, content in own.items():
        if len(content) > LIMIT:
            raise UserError(f"{name}: has {len(content) / 2**20:.0f} MB; 25 is the most, but for weights")
    files = {f"{bundle.name}/{name}": content for name, content in own.items()}
    return Release(f"{bundle.name}_v{version}", package, files, left_out)


def required_files(bundle: Path) -> list[str]:
    """The files that a bundle has to have and does not; weights may be those that ``large_files.yml`` tells of."""
    missing = [name for name in _REQUIRED if not (bundle / name).is_file()]
    if not (bundle / _WEIGHTS).is_file() and _WEIGHTS not in read_large_files(bundle):
        missing.append(_WEIGHTS)
    return missing


def check_weights(bundle: Path) -> None:
    """Load the weights into the network of ``inference.json``, as the bundle describes it.

    Raises:
        UserError: they do not fit, cannot be read, or are not what ``large_files.yml`` says.
    """
    weights = bundle / _WEIGHTS
    entry = read_large_files(bundle).get(_WEIGHTS)
    if not weights.is_file() and entry is not None:
        raise UserError(
            f"{weights}: is not there yet; python -m monai.bundle download_large_files --bundle_path {bundle}"
        )
    parser: ConfigParser = merged([bundle / "configs" / "inference.json"])
    parser["bundle_root"], parser["weights"] = str(bundle), str(weights)
    load_weights(parser.get_parsed_content("network_def"), weights)


def check_dependencies(bundle: Path, root: Path, library: str) -> Closure:
    """Find the code that a bundle's configurations reach, and refuse packages that the metadata do not declare.

    Args:
        bundle: folder of the bundle.
        root: folder of the package of code.
        library: name that the configurations call it by.

    Raises:
        UserError: a name leads to no module, or a package is not declared.
    """
    metadata = read_document(bundle / "configs" / "metadata.json")
    configs = [read_document(path) for path in files_with_code(bundle)]
    reached = closure(root, set().union(*(names_in(config, library) for config in configs)))
    declared = {"monai", "torch", "numpy", *metadata.get("required_packages_version", {})}
    for line in undeclared(reached, declared):
        raise UserError(f"{bundle / 'configs' / 'metadata.json'}: {line}; add it to required_packages_version")
    return reached


def _own_files(bundle: Path, project: Path) -> dict[str, bytes]:
    """The bundle's files by their paths, without what runs and servers left in its folder."""
    paths = [bundle / "LICENSE", bundle / "configs" / "metadata.json", *files_with_code(bundle)]
    paths += [bundle / "configs" / "logging.conf", bundle / _WEIGHTS, bundle / "models" / "model.json"]
    paths += [path for path in (bundle / "docs").rglob("*") if not path.name.startswith(".")]
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in paths if path.is_file()}
    notices = [path for folder in (project, bundle) for path in folder.glob("THIRD_PARTY*") if path.is_file()]
    return files | {path.name: path.read_bytes() for path in notices}


def _leave_out_weights(bundle: Path, own: dict[str, bytes], url: str | None) -> dict[str, str]:
    """Put an address in the place of weights that are too large; return what was left out."""
    if len(own[_WEIGHTS]) <= LIMIT:
        if url is not None:
            raise UserError(f"--weights_url: the weights of {bundle.name} are small enough to come along; leave it out")
        return {}
    url = url or read_large_files(bundle).get(_WEIGHTS, {}).get("url")
    if not url:
        size = len(own[_WEIGHTS]) / 2**20
        raise UserError(
            f"{bundle / _WEIGHTS}: has {size:.0f} MB, and 25 is the most; upload it and say where with --weights_url"
        )
    digest = hashlib.sha256(own.pop(_WEIGHTS)).hexdigest()
    own[NAME] = large_files_text({_WEIGHTS: {"url": url, "hash_val": digest}}).encode()
    return {_WEIGHTS: url}


def _adapted(name: str, text: str, bundle: str, library: str, package: str, reached: Closure) -> str:
    """A text of the bundle as it is right in the release, whose folder stands by itself."""
    text = renamed(text, library, package, reached.files)
    if name == "configs/train.json":
        text = re.sub(r'("publish": )false', r"\1true", text)
    if not name.startswith("docs/"):
        return text
    text = renamed_paths(text, library, package, reached.files).replace(f"bundles/{bundle}/", "")
    text = text.replace("| `publish` | false |", "| `publish` | true |")
    note = (
        "Run from this folder, in an environment with the packages of `configs/metadata.json`. The bundle's code is\n"
        f"`{package}`. Programs called `python -m tools`, and files that are not here, are those of its repository.\n"
        "A training replaces `models/model.pt` at its end, unless it has `--publish false`."
    )
    return re.sub(rf"^{_WHERE}.*?(?=\n\n)", note, text, flags=re.DOTALL | re.MULTILINE)


def _with_version(text: str, version: str) -> str:
    """The metadata with another version, and else as they were written."""
    changed = re.sub(r'("version":\s*)"[^"]*"', rf'\g<1>"{version}"', text, count=1)
    if parse_document(changed, "metadata.json") != parse_document(text, "metadata.json") | {"version": version}:
        raise UserError('metadata.json: "version" has to stand before other keys of that name; move it to the top')
    return changed
