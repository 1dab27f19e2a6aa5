"""The files that set the project up: one list of pins, one licence, one command each, and no data."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

DATA_FILE = re.compile(
    r"\.(nii|gz|dcm|ima|nrrd|mha|mhd|h5|hdf5|mat|npz|npy|pkl|gif|jpe?g|tiff?|zip|7z|tar)$", re.IGNORECASE
)


@pytest.fixture(scope="module")
def project(repo_root: Path) -> dict:
    return tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]


def dry_run(repo_root: Path, target: str) -> list[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # A make that runs the tests passes its flags down, which would change the lines.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", "-n", "-W", "pyproject.toml", target]
    return subprocess.run(
        command, cwd=repo_root, env=env, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_the_conda_environment_takes_its_packages_from_pyproject(repo_root: Path) -> None:
    environment = yaml.safe_load((repo_root / "environment.yml").read_text())
    assert environment["name"] == "scribble-bundles"
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-e .[dev]"]}]


def test_packages_are_pinned_in_pyproject(project: dict) -> None:
    assert "torch==2.13.0" in project["dependencies"]
    assert "monai==1.6.1" in project["dependencies"]
    packages = project["dependencies"] + project["optional-dependencies"]["dev"]
    loose = [package for package in packages if not re.fullmatch(r"[A-Za-z0-9-]+==[\w.]+", package)]
    assert loose == ["numpy>=2,<3"]  # the other pins bound it


def test_make_test_updates_the_environment_and_runs_the_fast_tests_in_it(repo_root: Path) -> None:
    lines = dry_run(repo_root, "test")
    installs = [line for line in lines if "pip install" in line]
    assert [line.split("install --quiet ")[1] for line in installs] == ["'torch==2.13.0'", "--editable '.[dev]'"]
    parallel = "--numprocesses auto --maxprocesses 4 --dist worksteal"
    assert lines[-1] == f'.venv/bin/python -m pytest -m "not slow and not gpu and not ecosystem" -q {parallel}'


def test_make_test_keeps_an_environment_that_works(repo_root: Path) -> None:
    [line] = [line for line in dry_run(repo_root, "test") if "-m venv" in line]
    guard, create = line.split(" || ")
    assert guard.startswith(".venv/bin/python -c ''")
    assert create == "python3 -m venv --clear .venv"


def test_every_target_of_make_is_explained(repo_root: Path) -> None:
    makefile = (repo_root / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split())
    assert phony == {
        "help",
        "env",
        "demo",
        "test",
        "test-slow",
        "test-ecosystem",
        "lint",
        "format",
        "clean",
        "benchmark",
    }
    assert set(re.findall(r"^([a-z-]+):.*  ## \w", makefile, re.MULTILINE)) == phony


def test_make_clean_spares_the_environment(repo_root: Path) -> None:
    lines = dry_run(repo_root, "clean")
    removed = {word for line in lines if line.startswith("rm ") for word in line.split()[2:]}
    assert removed == {"data", "runs", "build", ".pytest_cache", ".ruff_cache", ".mypy_cache"}
    [walk] = [line for line in lines if line.startswith("find ")]
    assert walk.startswith("find . -path ./.venv -prune -o ")


def test_ci_lints_and_tests(repo_root: Path) -> None:
    script = repo_root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert lines[-2:] == ["make lint", "make test"]


def test_the_licence_is_apache(repo_root: Path, project: dict) -> None:
    text = (repo_root / "LICENSE").read_text()
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text.splitlines()) > 195
    assert project["license"] == "Apache-2.0"
    citation = yaml.safe_load((repo_root / "CITATION.cff").read_text())
    assert citation["license"] == "Apache-2.0"


def test_the_version_is_the_newest_of_the_changelog_and_of_the_citation(repo_root: Path, project: dict) -> None:
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (repo_root / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = yaml.safe_load((repo_root / "CITATION.cff").read_text())
    assert versions[0] == project["version"] == citation["version"]


def test_the_paper_behind_each_bundle_is_cited(repo_root: Path) -> None:
    citation = yaml.safe_load((repo_root / "CITATION.cff").read_text())
    assert "10.1109/TMI.2021.3069634" in [reference.get("doi") for reference in citation["references"]]


def test_no_data_are_in_the_project(repo_root: Path) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    assert "pyproject.toml" in listing
    assert [name for name in listing if DATA_FILE.search(name)] == []
