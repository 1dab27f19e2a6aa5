"""Where the files of a case lie that a report draws: image, annotation, reference and the predictions of all runs."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.case_names import IMAGE_EXTENSIONS, case_of, label_role, stem_of
from ..data.datalist import load_datalist
from ..data.found_files import find_images
from ..errors import UserError
from ..metrics.case_files import DEFAULT_SECTION, Reference, match_predictions
from .run_folder import Run

__all__ = ["CaseSources", "find_sources"]

_SCRIBBLE = "scribble"
_NEGATIVE = "not"
"""The role of a negative coarse drawing, which would be shown as if it said what a voxel is."""


@dataclass(frozen=True)
class CaseSources:
    """The files of a case.

    ``annotation`` lists those of several annotators and is empty where there is none; ``reference`` is None where only
    an annotation is known; ``predictions`` holds the runs that have one.
    """

    case: str
    image: str
    annotation: tuple[str, ...]
    reference: str | None
    predictions: Mapping[str, str]


def find_sources(
    runs: Sequence[Run], *, datalist: str | None = None, section: str | None = None, annotations: str | None = None
) -> tuple[dict[str, CaseSources], list[str]]:
    """Find the files of all cases.

    Images and references are those of ``datalist`` or, without one, of the datalist that a run was evaluated with. The
    annotation of a case is looked for in ``annotations`` (``<case>_scribble``, or ``<case>`` where no file is called
    so), else among the training items, else beside the image as ``<image>_scribble``.

    Args:
        runs: the runs.
        datalist: a datalist that names the scored images.
        section: its section; by default the one that a run was evaluated on.
        annotations: a folder of annotations.

    Returns:
        The files by case, which need not exist, and a line for each thing that was not found.

    Raises:
        UserError: ``datalist`` or its section is faulty or missing, or ``annotations`` is no folder.
    """
    notes: list[str] = []
    items = _items(runs, datalist, section, notes)
    drawn = _annotations_of_folder(annotations) if annotations is not None else None
    references = [_reference(case, item) for case, item in items.items()]
    predictions = {run.name: _predictions(run, references, notes) for run in runs} if references else {}
    found = {}
    for case, item in items.items():
        training = item.get("annotation", ())
        annotation = drawn.get(case, ()) if drawn is not None else training or _beside(item["image"])
        of_runs = {name: files[case] for name, files in predictions.items() if case in files}
        found[case] = CaseSources(case, item["image"], tuple(annotation), item.get("reference"), of_runs)
    return found, notes


def _items(
    runs: Sequence[Run], datalist: str | None, section: str | None, notes: list[str]
) -> dict[str, dict[str, Any]]:
    """Image, reference and annotation by case, of the datalist that was named or of those of the evaluations."""
    sections = [run.meta.get("section") for run in runs]
    if datalist is not None:
        wanted = section or next((name for name in sections if isinstance(name, str)), DEFAULT_SECTION)
        return _items_of(str(Path(datalist).expanduser()), wanted)
    items: dict[str, dict[str, Any]] = {}
    for run, recorded in zip(runs, sections, strict=True):
        named = [run.meta.get(key) for key in ("datalist", "references")]
        files = [name for name in named if isinstance(name, str) and name.endswith(".json") and Path(name).is_file()]
        if not files:
            notes.append(f"{run.name}: its evaluation names no datalist that is here; give --datalist")
            continue
        try:
            items = _items_of(files[0], section or recorded or DEFAULT_SECTION) | items
        except UserError as error:
            notes.append(f"{run.name}: {error}")
    return items


def _items_of(datalist: str, section: str) -> dict[str, dict[str, Any]]:
    items: dict[str, dict[str, Any]] = {}
    for item in load_datalist(datalist, section, existing=False):
        entry: dict[str, Any] = {"image": item["image"]}
        label = item.get("label")
        if section != "training":
            entry["reference"] = label
        elif item.get("supervision") != "dense" and label is not None:
            entry |= {"annotation": [label] if isinstance(label, str) else label, "reference": item.get("dense_label")}
        else:
            entry["reference"] = label
        items[_case(item)] = entry
    for item in load_datalist(datalist, "training", required=False, existing=False) if section != "training" else []:
        label = item.get("label")
        if _case(item) in items and label is not None and item.get("supervision") != "dense":
            items[_case(item)].setdefault("annotation", [label] if isinstance(label, str) else label)
    return items


def _case(item: Mapping[str, Any]) -> str:
    return str(item.get("case") or stem_of(Path(item["image"]).name) or Path(item["image"]).name)


def _reference(case: str, item: Mapping[str, Any]) -> Reference:
    """The case as the matching of predictions by name knows it."""
    image = Path(item["image"])
    names = (case, (image.parent / (stem_of(image.name) or image.name)).as_posix())
    return Reference(case, str(item.get("reference")), tuple(unicodedata.normalize("NFC", name) for name in names))


def _predictions(run: Run, references: Sequence[Reference], notes: list[str]) -> dict[str, str]:
    if run.predictions is None:
        notes.append(f"{run.name}: no folder of predictions was found; give --predictions {run.name}=FOLDER")
        return {}
    try:
        return match_predictions(run.predictions, references)[0]
    except UserError as error:
        notes.append(f"{run.name}: {error}")
        return {}


def _annotations_of_folder(folder: str) -> dict[str, list[str]]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"--annotations: {folder} is no folder; correct the path")
    found_files = [
        entry for entry in find_images(str(root)) if not entry.slices and label_role(entry.stem) != _NEGATIVE
    ]
    files = [(entry.stem, str(entry.path)) for entry in found_files]
    marked = [(stem, path) for stem, path in files if label_role(stem) == _SCRIBBLE]
    found: dict[str, list[str]] = {}
    for stem, path in marked or files:
        found.setdefault(case_of(stem), []).append(path)
    return found


def _beside(image: str) -> list[str]:
    path = Path(image)
    stem = stem_of(path.name)
    names = [path.with_name(f"{stem}_{_SCRIBBLE}{extension}") for extension in IMAGE_EXTENSIONS]
    return [str(name) for name in names if stem is not None and name.is_file()][:1]
