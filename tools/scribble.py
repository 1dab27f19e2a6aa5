"""Simulate scribbles or coarse labels from dense masks.

    python -m tools scribble --masks masks/ --output scribbles/ --form strokes --width 2 --slice_share 0.5

The annotations hold 0 on the background's strokes, 1 to C - 1 on the classes' and C (the number of classes) where
nothing is annotated. What they cover of each class is printed and written to <output>/coverage.json.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.data.annotated_datalist import annotated_datalist, masks_of_datalist
from common.data.annotation_coverage import coverage_of
from common.data.datalist import datalist_info
from common.data.datalist_writer import write_datalist
from common.data.label_files import earlier_annotations, find_label_files
from common.data.scribble_cases import Annotation, annotate_cases, check_drawing, highest_label
from common.errors import UserError
from common.files import remove_leftovers, writable_folder, write_json

COVERAGE = "coverage.json"


def main(
    *,
    masks: str,
    output: str,
    form: str = "strokes",
    num_classes: int | None = None,
    annotators: int = 1,
    slice_share: float = 1.0,
    width: int | None = None,
    length: float | None = None,
    moves: str | None = None,
    steps: int | None = None,
    ratio: float | None = None,
    slices_axis: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
) -> None:
    """Draw annotations of dense masks, write them as NIfTI on the masks' grids, and tell what they cover.

    What is drawn depends on the seed, the case's name and the mask alone. Each mask's case is its file's name without
    an end such as _gt, _mask, _manual, _seg or _label; where all files are called alike it is their folders' name.
    Files of an earlier run are replaced.

    Args:
        masks: dense masks with values 0 to C - 1: a folder, a pattern in quotes such as "data/*_gt.nii.gz", or a
            datalist, whose training items have them as "dense_label" or else "label". Of a datalist, a new one is
            written to the output folder under the same name: with the annotations as "label" and the masks as
            "dense_label".
        output: the folder that gets <case>_scribble.nii.gz, of the form coarse <case>_coarse.nii.gz (positive labels)
            and <case>_not.nii.gz (negative ones).
        form: strokes (the default: through each class and along its border), walk (random walks), skeleton (middle
            lines of every class and of the background), hull (the same, the background's near the classes), thick
            (the skeletons, wider), coarse (positive and negative coarse labels).
        num_classes: C, background included; by default the datalist's, or the highest value in the masks plus one.
        annotators: strokes, walk: how many annotators draw each mask, to <case>_scribble_1.nii.gz and so on.
        slice_share: share of the slices that are annotated, over 0 and up to 1.
        width: strokes: width in voxels (default 1).
        length: strokes: length of the strokes as a share of the usual one, over 0 and up to 1 (default 1).
        moves: walk: diag (the default), four or king, or v2 for the authors' later, shorter and thicker walk.
        steps: walk: number of steps (2500 by default).
        ratio: coarse: share of each drawing's area to keep (default 1); 0.01 makes a scribble.
        slices_axis: axis across the slices, 0 to 2; by default the one with the largest spacing, or the last one.
        seed: seed of all draws.
        jobs: number of processes; by default as many as there are CPUs. The results do not depend on it.

    Raises:
        UserError: an option is out of its range, or a mask is missing, damaged or holds other values.
    """
    given = {"width": width, "length": length, "moves": moves, "steps": steps, "ratio": ratio}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    how: dict[str, Any] = {"form": form, "seed": seed, "annotators": annotators, "slice_share": slice_share} | options
    check_drawing(num_classes, slices_axis=slices_axis, jobs=jobs, **how)
    datalist = Path(os.path.expanduser(masks)) if masks.endswith(".json") else None
    info = datalist_info(datalist) if datalist else {}
    if datalist and os.path.realpath(datalist) == os.path.realpath(Path(os.path.expanduser(output)) / datalist.name):
        raise UserError(f"{datalist}: lies in the output folder and would be replaced; choose another --output")
    found = masks_of_datalist(datalist) if datalist else find_label_files(masks, option="--masks")
    folder = writable_folder(output)
    classes = num_classes or info.get("num_classes") or max(2, highest_label(found, jobs=jobs) + 1)
    if info and classes != info["num_classes"]:
        raise UserError(f"{datalist}: has {info['num_classes']} classes; leave out --num_classes {num_classes}")
    drawn = annotate_cases(found, folder, num_classes=classes, slices_axis=slices_axis, jobs=jobs, **how)
    annotations = list(drawn)
    names = info.get("class_names") or ["background", *(f"class {index}" for index in range(1, classes))]
    _write_coverage(Path(folder) / COVERAGE, annotations, names, how)
    if datalist:
        path = Path(folder) / datalist.name
        remove_leftovers(path)
        write_datalist(path, annotated_datalist(datalist, annotations))
        print(f"{path}: {len(annotations)} training items with new labels")
    written = [file for annotation in annotations for paths in annotation.files.values() for file in paths]
    print(f"{folder}: {len(written)} files of {len(annotations)} cases, form {form}, seed {seed}")
    for warning in earlier_annotations(Path(folder), [annotation.case for annotation in annotations], written):
        print(f"warning: {warning}")
    for kind in annotations[0].files:
        print(_table(kind, coverage_of(_counts(annotations, kind), negative=kind == "not"), names))


def _counts(annotations: Sequence[Annotation], kind: str) -> np.ndarray:
    return np.concatenate([counts for annotation in annotations for counts in annotation.counts[kind]])


def _write_coverage(path: Path, annotations: Sequence[Annotation], names: Sequence[str], how: dict[str, Any]) -> None:
    """Write what the annotations cover of each class, of all files together and of each one."""
    content: dict[str, Any] = {**how, "class_names": list(names), "all": {}, "files": {}}
    for kind in annotations[0].files:
        negative = kind == "not"
        content["all"][kind] = _by_name(_counts(annotations, kind), names, negative=negative)
        for annotation in annotations:
            for file, counts in zip(annotation.files[kind], annotation.counts[kind], strict=True):
                name = Path(file).relative_to(os.path.abspath(path.parent)).as_posix()
                content["files"][name] = _by_name(counts, names, negative=negative)
    remove_leftovers(path)
    write_json(path, content, indent=1)


def _by_name(counts: np.ndarray, names: Sequence[str], *, negative: bool) -> dict[str, Any]:
    return dict(zip(names, coverage_of(counts, negative=negative), strict=True))


def _table(kind: str, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Lines to read: a class each, in percent of the slice (mean and deviation) and of what could be drawn."""
    names = [f"not {name}" if kind == "not" else name for name in names]
    width = max(map(len, (*names, kind)))
    lines = [f"{kind:{width}}  % of slice (std)  % of class  % right  slices"]
    for name, row in zip(names, rows, strict=True):
        of_class, right = ("-" if row[key] is None else f"{row[key]:.2f}" for key in ("class_percent", "right_percent"))
        share = f"{row['image_percent']:.3f} ({row['image_percent_std']:.3f})"
        lines.append(f"{name:{width}}  {share:>16}  {of_class:>10}  {right:>7}  {row['annotated_slices']}")
    return "\n".join(lines)
