"""What a report finds in the folder of a run: scores, predictions, and what the training wrote."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_text

__all__ = ["COMPARISON", "EVENTS", "METRICS", "Run", "find_runs", "named_folders", "read_json", "with_folders"]

METRICS, COMPARISON, EVENTS = "metrics.json", "comparison.json", "events.out.tfevents.*"
_PREDICTIONS = "predictions"
_NUMBERS = ("dice", "iou", "hd95", "hd95_penalised", "assd", "assd_penalised", "pooled_slice_dice")


@dataclass(frozen=True)
class Run:
    """A method as a report sees it.

    ``document`` is its metrics.json; ``rows`` are those of its metrics.csv, None without one. ``predictions`` and
    ``training`` are the folders of the label maps and of the training's output, None where there is none.
    """

    name: str
    document: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] | None
    scores: Path
    predictions: Path | None
    training: Path | None

    @property
    def class_names(self) -> list[str]:
        """Names of all classes, the background first."""
        return list(self.document["class_names"])

    @property
    def summary(self) -> Mapping[str, Any]:
        """Means, deviations and medians by class, see :func:`~..metrics.segmentation_scores.summarise`."""
        return self.document["summary"]

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the evaluation says of itself."""
        return self.document["meta"]


def find_runs(runs: str | Mapping[str, Path]) -> list[Run]:
    """Read the runs of a report.

    A run's scores lie in its folder or in a subfolder; the training's output in its folder, in the one above the scores
    or beside the weights that were evaluated. A folder with a comparison.json, which ``evaluate`` writes for several
    methods, stands for all of these.

    Args:
        runs: folders by name, or in a text with commas between them, each ``folder`` or ``name=folder``.

    Raises:
        UserError: a folder is missing, holds no scores or several, a file of scores is damaged, two runs have one name,
            or the runs have different classes.
    """
    found: list[Run] = []
    for name, folder in (named_folders(runs, option="runs") if isinstance(runs, str) else runs).items():
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: no such folder; name the folder of a run")
        if (folder / COMPARISON).is_file():
            methods = sorted(path.parent for path in folder.glob(f"*/{METRICS}"))
            found += [_read_run(method.name, method, method) for method in methods]
        else:
            found.append(_read_run(name, folder, _scores_folder(folder)))
    names = [run.name for run in found]
    for run in found:
        if names.count(run.name) > 1:
            raise UserError(f"--runs: two runs are called {run.name}; write name=folder for each")
        if run.class_names != found[0].class_names:
            classes = f"{', '.join(run.class_names)}, those of {found[0].name} {', '.join(found[0].class_names)}"
            raise UserError(f"--runs: the classes of {run.name} are {classes}; report runs of one task together")
    return found


def with_folders(
    runs: Sequence[Run], *, predictions: Mapping[str, Path] | None = None, training: Mapping[str, Path] | None = None
) -> list[Run]:
    """Return the runs with folders that were named on their own.

    Args:
        runs: the runs.
        predictions: folder of the label maps by the run's name.
        training: folder of the training's output by the run's name.

    Raises:
        UserError: there is no such run or folder.
    """
    names = [run.name for run in runs]
    for option, folders in (("predictions", predictions or {}), ("training", training or {})):
        for name, folder in folders.items():
            if name not in names:
                raise UserError(f"--{option} {name}={folder}: no run is called {name}; they are {', '.join(names)}")
            if not os.path.isdir(folder):
                raise UserError(f"--{option}: {folder} is no folder; correct the path")
    return [
        Run(
            run.name,
            run.document,
            run.rows,
            run.scores,
            (predictions or {}).get(run.name, run.predictions),
            (training or {}).get(run.name, run.training),
        )
        for run in runs
    ]


def named_folders(text: str, *, option: str) -> dict[str, Path]:
    """Read ``name=folder,name=folder``; a folder alone, or one whose own name holds such signs, is known by its name.

    Raises:
        UserError: a part is empty, or two have one name.
    """
    folders: dict[str, Path] = {}
    # a text may be too long for a name of a file, which pathlib raises at
    for part in [text] if os.path.isdir(os.path.expanduser(text)) else text.split(","):
        name, sign, folder = part.strip().partition("=")
        if not sign or os.path.isdir(os.path.expanduser(part.strip())):
            folder = part.strip()
            name = os.path.basename(os.path.abspath(os.path.expanduser(folder)))
        name, folder = name.strip(), folder.strip()
        if not name or not folder:
            raise UserError(f"--{option} {text!r}: write folder or name=folder, with commas between several")
        if name in folders:
            raise UserError(f"--{option}: two folders are called {name}; write name=folder for each")
        folders[name] = Path(folder).expanduser()
    return folders


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file cannot be read or holds none.
    """
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON; write it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; write it again")
    return content


def _scores_folder(folder: Path) -> Path:
    if (folder / METRICS).is_file():
        return folder
    below = sorted(path.parent for path in folder.glob(f"*/{METRICS}"))
    if len(below) > 1:
        names = " and ".join(str(path) for path in below[:2])
        raise UserError(f"{folder}: holds the scores of several evaluations, {names}; name one of these folders")
    if not below:
        raise UserError(f"{folder}: holds no {METRICS}, not in a subfolder either; evaluate the run first")
    return below[0]


def _read_run(name: str, folder: Path, scores: Path) -> Run:
    path = scores / METRICS
    document = read_json(path)
    document.setdefault("meta", {})
    if not _is_evaluation(document):
        raise UserError(f"{path}: is no summary of an evaluation; write it by `evaluate`")
    table = scores / "metrics.csv"
    rows = _read_rows(table, document["class_names"]) if table.is_file() else None
    recorded = document["meta"].get("predictions")
    candidates = [Path(recorded)] if isinstance(recorded, str) else []
    candidates += [folder / _PREDICTIONS, scores / _PREDICTIONS, scores.parent / _PREDICTIONS]
    predictions = next((candidate for candidate in candidates if candidate.is_dir()), None)
    weights = document["meta"].get("weights")
    trained = [folder, scores.parent, *([Path(weights).parent] if isinstance(weights, str) else [])]
    training = next((each for each in trained if any(each.glob(EVENTS))), None)
    return Run(name, document, rows, scores, predictions, training)


def _is_evaluation(document: Mapping[str, Any]) -> bool:
    """Whether all is there that a report reads, in the form that it expects."""
    names, summary, meta = document.get("class_names"), document.get("summary"), document["meta"]
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        return False
    if not isinstance(summary, dict) or not isinstance(meta, dict) or type(summary.get("cases")) is not int:
        return False
    phases = summary.get("phases", {})
    return isinstance(phases, dict) and all(
        isinstance(part, dict)
        and isinstance(part.get("classes"), dict)
        and all(_is_group(group) for group in [*part["classes"].values(), part.get("all")])
        for part in (summary, *phases.values())
    )


def _is_group(group: Any) -> bool:
    """Whether it holds a score or more, each with its statistics, which are null where there are none."""
    scores = [value for value in group.values() if isinstance(value, dict)] if isinstance(group, dict) else []
    whole = bool(scores) and all(isinstance(group.get(name, {}), dict) for name in _NUMBERS)
    keys = ("mean", "std", "median", "n")
    return whole and all(key in of and _is_statistic(of[key]) for of in scores for key in keys)


def _is_statistic(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _read_rows(path: Path, class_names: Sequence[str]) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
        for row in rows:
            row["class_index"] = class_names.index(row["class_name"])
            row |= {name: float(row[name]) for name in _NUMBERS if name in row}
            if not row["case"] or "dice" not in row:
                raise ValueError("no case")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: is no table of an evaluation; write it by `evaluate`") from error
    return rows
