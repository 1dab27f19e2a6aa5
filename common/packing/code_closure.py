"""Which part of a library a bundle's configurations reach: modules, their data files, and packages of others."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..errors import UserError

__all__ = ["Closure", "closure", "names_in", "undeclared"]


@dataclass
class Closure:
    """Files that belong together, by their paths within the library, and what they import from elsewhere.

    Args:
        files: modules and data files.
        foreign: top-level names of other packages, without the standard library's, with a module that imports each.
    """

    files: set[Path] = field(default_factory=set)
    foreign: dict[str, Path] = field(default_factory=dict)


def names_in(config: Any, library: str) -> set[str]:
    """The dotted names of a library in the targets and expressions of a configuration.

    Args:
        config: a configuration or a part of one.
        library: name of the library's package.
    """
    if isinstance(config, dict):
        return set().union(*(names_in(value, library) for value in config.values()))
    if isinstance(config, list):
        return set().union(*(names_in(value, library) for value in config))
    pattern = rf"(?<![\w.]){re.escape(library)}(?:\.\w+)+"
    return set(re.findall(pattern, config)) if isinstance(config, str) else set()


def closure(root: Path, names: Iterable[str]) -> Closure:
    """Follow imports from dotted names through a library.

    Args:
        root: folder of the library's package.
        names: names of modules, or of what is in them, that begin with the library's.

    Raises:
        UserError: a name leads to no module.
    """
    found = Closure()
    waiting = [_module_of(root, name) for name in sorted(names)]
    while waiting:
        module = waiting.pop()
        if module in found.files:
            continue
        found.files.add(module)
        packages = (folder / "__init__.py" for folder in module.parents)
        waiting += [package for package in packages if (root / package).is_file()]
        tree = ast.parse((root / module).read_text(encoding="utf-8"))
        waiting += _siblings(root, module, tree)
        for name in _absolute(tree) - set(sys.stdlib_module_names):
            found.foreign.setdefault(name, module)
        found.files.update(_data_files(root, module, tree))
    return found


def undeclared(found: Closure, declared: Iterable[str]) -> list[str]:
    """Tell which imports of other packages the declared ones do not bring, a line for each.

    Args:
        found: what is reached.
        declared: names of distributions; those that they require count too.
    """
    present = _with_requirements(declared)
    owners = _owners()
    lines = []
    for name, module in sorted(found.foreign.items()):
        distributions = {canonicalize_name(owner) for owner in owners.get(name, [name])}
        if not distributions & present:
            lines.append(f"{module} imports {name} of {', '.join(sorted(distributions))}")
    return lines


def _module_of(root: Path, name: str) -> Path:
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        path = Path(*parts[:length])
        for module in (path.with_suffix(".py"), path / "__init__.py"):
            if not (root / module).is_file():
                continue
            inner = parts[length : length + 1]
            if all(re.search(rf"\b{word}\b", (root / module).read_text(encoding="utf-8")) for word in inner):
                return module
    raise UserError(f"{name}: nothing in {root} is called so; mend the configuration that names it")


def _siblings(root: Path, module: Path, tree: ast.AST) -> Iterator[Path]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        package = module.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        inside = [package / f"{alias.name}.py" for alias in node.names]
        modules = [path for path in inside if (root / path).is_file()]
        candidates = modules or [package.with_suffix(".py"), package / "__init__.py"]
        yield from (path for path in candidates if (root / path).is_file())


def _absolute(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


def _data_files(root: Path, module: Path, tree: ast.AST) -> Iterator[Path]:
    """What lies beside a module that looks for its own place, and is named in it: a file, or a folder of files."""
    nodes = list(ast.walk(tree))
    if not any(isinstance(node, ast.Name) and node.id == "__file__" for node in nodes):
        return
    for node in nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if not re.fullmatch(r"\w[\w.-]{0,99}", node.value) or node.value.endswith(".py"):
            continue
        place = root / module.parent / node.value
        if place.is_file():
            yield place.relative_to(root)
        elif place.is_dir() and not (place / "__init__.py").is_file():
            yield from (path.relative_to(root) for path in place.rglob("*") if path.is_file() and path.suffix != ".pyc")


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    """The distributions that bring each top-level name; looked up once, which takes a second."""
    return importlib.metadata.packages_distributions()


def _with_requirements(names: Iterable[str]) -> set[str]:
    present: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in present:
            continue
        present.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        requirements = map(Requirement, lines)
        waiting += [
            canonicalize_name(requirement.name)
            for requirement in requirements
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
    return present
