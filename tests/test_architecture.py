"""The floors of the house: what lies where, and who may import whom."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

# A file imports from its own folder and from lower floors; some folders share one.
FLOORS = {
    "errors": 0,
    "error_lines": 0,
    "files": 0,
    "json_layout": 0,
    "model_settings": 0,
    "distributed": 0,
    "shared_batch": 0,
    "running_config": 0,
    "setting_limits": 0,
    "bundle": 1,
    "tracking": 1,
    "transforms": 1,
    "data": 2,
    "metrics": 2,
    "handlers": 2,
    "reporting": 2,
    "packing": 2,
    "federated": 2,
    "networks": 3,
    "losses": 3,
    "engines": 4,
    "benchmarking": 5,
}
MAX_LINES = 250


def modules(repo_root: Path) -> list[Path]:
    """The files of the library, by their path within it."""
    return sorted(path.relative_to(repo_root / "common") for path in (repo_root / "common").rglob("*.py"))


def absolute_imports(source: str) -> set[str]:
    """The top-level packages that a source imports by their full names."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


def relative_imports(module: Path, source: str, existing: set[Path]) -> set[Path]:
    """The files of the library that a source imports, each by its path within the library."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        package = module.parents[node.level - 1].joinpath(*(node.module.split(".") if node.module else []))
        inside = {package / f"{alias.name}.py" for alias in node.names} & existing
        found |= inside or {package.with_suffix(".py")}
    return found


def floor(module: Path) -> int:
    return FLOORS[module.parts[0].removesuffix(".py")]


def test_imports_are_read_from_the_source() -> None:
    existing = {Path("errors.py"), Path("data/splits.py"), Path("data/phantom.py")}
    source = "import torch.nn\nfrom ..errors import UserError\n"
    source += "def f():\n    from . import splits\n    from .phantom import g\n"
    assert relative_imports(Path("data/acdc.py"), source, existing) == existing
    assert absolute_imports(source) == {"torch"}


def test_every_part_of_the_library_has_a_floor(repo_root: Path) -> None:
    parts = {module.parts[0].removesuffix(".py") for module in modules(repo_root)} - {"__init__"}
    assert parts <= set(FLOORS), "say in architecture and here on which floor the new part lives"


def test_the_library_imports_itself_relatively_and_nothing_above_it(repo_root: Path) -> None:
    for module in modules(repo_root):
        imports = absolute_imports((repo_root / "common" / module).read_text())
        assert not imports & {"common", "tools", "bundles", "tests"}, module


def test_files_import_from_their_own_floor_or_lower_ones(repo_root: Path) -> None:
    files = modules(repo_root)
    for module in files:
        for imported in relative_imports(module, (repo_root / "common" / module).read_text(), set(files)):
            assert imported in files, f"{module} imports {imported}, which is not there"
            assert floor(imported) <= floor(module), f"{module} imports {imported} of a floor above"


def test_no_imports_run_in_circles(repo_root: Path) -> None:
    files = modules(repo_root)
    graph = {
        module: relative_imports(module, (repo_root / "common" / module).read_text(), set(files)) for module in files
    }
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the circle
    assert set(order) >= set(files)


def test_tools_and_library_are_the_only_python_beside_tests_and_benchmarks(repo_root: Path) -> None:
    assert not list((repo_root / "bundles").rglob("*.py"))
    assert not list((repo_root / "tests").rglob("__init__.py"))  # tests/common/__init__.py would shadow the library


def test_test_files_have_names_of_their_own(repo_root: Path) -> None:
    names = [path.name for path in (repo_root / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("folder", ["common", "tools"])
def test_files_hold_one_idea(repo_root: Path, folder: str) -> None:
    for path in (repo_root / folder).rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MAX_LINES, path
        assert path.stem not in {"utils", "util", "misc", "helpers"}, path
