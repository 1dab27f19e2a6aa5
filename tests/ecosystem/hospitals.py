"""Made-up hospitals that hold different patients of one data set, and programs run for them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPO_ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ("training", "unpaired_masks", "unlabelled", "validation")


def found_hospitals(datalist: Path, folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give each hospital its own patients of every section of a datalist, those for testing as validation.

    Args:
        datalist: the datalist of all.
        folder: where the hospitals' folders are made.
        names: their names.

    Returns:
        the sites as ``python -m tools federate`` reads them, with results in the hospitals' folders.
    """
    content = json.loads(datalist.read_text())
    sites = {}
    for number, name in enumerate(names):
        own = content | {"test": []}
        for section in SECTIONS:
            items = content[section] + (content["test"] if section == "validation" else [])
            patients = sorted({item["patient"] for item in items})[number :: len(names)]
            own[section] = [_absolute(item, datalist.parent) for item in items if item["patient"] in patients]
        file = folder / name / "datalist.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(own))
        sites[name] = {"datalist": str(file), "output_dir": str(folder / name / "run")}
    return sites


def _absolute(item: dict[str, str], folder: Path) -> dict[str, str]:
    return {key: str(folder / value) if (folder / value).is_file() else value for key, value in item.items()}


def called(python: Path, folder: Path, words: Sequence[str], *, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program of an environment in a folder, with ``path`` as its PYTHONPATH."""
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(python), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
