"""The short record of a finished run, small enough to be committed, from which tables are made."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import atomic_file, read_text
from ..reporting.run_folder import read_json
from ..reporting.training_curves import read_curves, thinned
from .run_config import CONFIG, plain_settings
from .run_state import RunState
from .suite import Row

__all__ = ["RESULT", "collect_result", "collect_results", "load_results", "read_result", "rounded", "write_result"]

RESULT = "result.json"
_ABOUT = ("suite", "setting", "method", "seed", "definition")
_KEYS = {*_ABOUT, "scores", "seconds", "iterations", "hardware"}
_POINTS = 40
_VALIDATION, _LOSS = "val_mean_dice", "train_loss"


def write_result(path: Path, row: Row, state: RunState, scores: Mapping[str, Any]) -> None:
    """Write the record of a run: what it was, its settings, its scores by choice of the checkpoint, length and curves.

    No path and no picture is in it; of the data, only names of cases and the SHA-256 of the datalist.

    Raises:
        UserError: the file cannot be written, or the run's configuration cannot be read.
    """
    curves = read_curves(state.folder)
    kept = {name: thinned(curves[name], _POINTS) for name in (_LOSS, _VALIDATION) if name in curves}
    points = {name: [[step, rounded(value)] for step, value in curve] for name, curve in kept.items()}
    content = {
        **state.about,
        "title": row.title,
        "supervision": row.supervision,
        "settings": plain_settings(read_json(state.folder / CONFIG)),
        "iterations": state.notes["iterations"],
        "epochs": state.notes["epochs"],
        "seconds": state.seconds,
        "hardware": state.notes["hardware"],
        "scores": dict(scores),
        "curves": points,
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    with atomic_file(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def rounded(value: float) -> float | None:
    """A number as records have it: five decimal places, and null for NaN, which JSON lacks."""
    return None if math.isnan(value) else round(float(value), 5)


def read_result(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        UserError: the file is none.
    """
    try:
        content = json.loads(read_text(path))
        missing = _KEYS - set(content)
        if missing or "last" not in content["scores"]:
            raise ValueError(f"without {', '.join(sorted(missing)) or 'scores of the last iterate'}")
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no result of a benchmark ({error}); remove it, or make it again") from error
    return content


def collect_results(output: Path, folder: Path) -> list[Path]:
    """Copy the records of all finished runs to the folder that the tables are made from.

    Args:
        output: folder of the runs.
        folder: folder of the records: ``<suite>/<method>_<setting>_seed<k>.json``.

    Returns:
        The files written.

    Raises:
        UserError: a record is damaged.
    """
    return [collect_result(path.parent, folder) for path in sorted(output.glob(f"*/*/*/*/{RESULT}"))]


def collect_result(run: Path, folder: Path) -> Path:
    """Copy the record of one finished run, given by its folder, there, and return the file written.

    Raises:
        UserError: the record is damaged.
    """
    result = read_result(run / RESULT)
    target = folder / result["suite"] / f"{result['method']}_{result['setting']}_seed{result['seed']}.json"
    with atomic_file(target) as temporary:
        shutil.copyfile(run / RESULT, temporary)
    return target


def load_results(folder: Path) -> list[dict[str, Any]]:
    """Read all records of a folder, sorted by their names.

    Raises:
        UserError: one is damaged.
    """
    return [read_result(path) for path in sorted(folder.glob("*/*.json"))]
