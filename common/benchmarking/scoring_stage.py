"""Scoring the label maps of a run: the tables of an evaluation, and the short form that a benchmark keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.datalist import datalist_info, load_datalist
from ..data.volume_reader import read_volume
from ..files import atomic_file
from ..metrics.case_files import Reference, find_references
from ..metrics.mean_iou import confusion_counts, mean_iou
from ..metrics.parallel_scoring import score_cases
from ..metrics.published_rules import patient_dice
from ..metrics.score_document import PROTOCOL, csv_text, json_text, score_document
from ..metrics.segmentation_scores import statistics, summarise
from ..transforms.largest_pieces import KeepLargestPieces
from .prediction_stage import prediction_file
from .results import rounded
from .suite import Suite

__all__ = ["POST_PROCESSED", "score"]

POST_PROCESSED = "last_post_processed"
"""Under which the scores of the last iterate are kept that a suite's post-processing gives."""

_MOST_CASES = 100
"""Scores of single cases are kept of test sets that are not larger."""


def score(
    suite: Suite,
    datalist: Path,
    predictions: Path,
    folder: Path,
    *,
    meta: Mapping[str, Any],
    post_processing: Mapping[str, int],
) -> dict[str, Any]:
    """Score label maps against a datalist's section and write ``metrics.csv`` and ``metrics.json``.

    Args:
        suite: tells the section and the scores.
        datalist: the datalist.
        predictions: the folder of the label maps.
        folder: the folder of the two files.
        meta: what a reader has to know of the run.
        post_processing: keys of ``inference.json`` by which the label maps are post-processed first; empty for none.

    Returns:
        The scores in short: ``volumes``, ``dice`` and ``hd95`` by class and for ``all`` as [mean, std], ``pooled`` and
        ``mean_iou`` where the suite has them, and ``cases``: [Dice, HD95] by case and class.

    Raises:
        UserError: a file is missing or does not fit.
    """
    names = datalist_info(datalist)["class_names"]
    items = {str(item["case"]): item for item in load_datalist(datalist, suite.section)}
    wanted = find_references(datalist, suite.section)
    files = {each.case: str(prediction_file(predictions, items[each.case])) for each in wanted}
    bodies, components = post_processing.get("keep_bodies"), post_processing.get("keep_components")
    scored = score_cases(
        wanted,
        {"run": files},
        class_names=names,
        ignore_index=suite.ignore_index,
        surface=suite.surface,
        post_process=KeepLargestPieces(len(names), bodies=bodies, components=components),
        jobs=os.cpu_count() or 1,
    )
    rows = [row for case in scored.values() for row in case.rows["run"]]
    summary = summarise(rows, names)
    document = score_document(
        summary, names, protocol=PROTOCOL, meta={"predictions": str(predictions), **post_processing, **meta}
    )
    for name, text in (("metrics.csv", csv_text(rows)), ("metrics.json", json_text(document))):
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")

    short: dict[str, Any] = {"volumes": summary["cases"], "class_names": names}
    groups = {**summary["classes"], "all": summary["all"]}
    for key in ("dice", "hd95") if suite.surface else ("dice",):
        short[key] = {name: [rounded(group[key]["mean"]), rounded(group[key]["std"])] for name, group in groups.items()}
    if suite.pooled:
        slices = {case: found.slices for case, found in scored.items()}
        of_patients = statistics(list(patient_dice(rows, slices).values()))
        short["pooled"] = [rounded(of_patients["mean"]), rounded(of_patients["std"])]
    if suite.score == "mean_iou":
        short["mean_iou"] = rounded(_mean_iou(wanted, files, len(names), suite.ignore_index))
    if len(wanted) <= _MOST_CASES:
        cases: dict[str, dict[str, list[float | None]]] = {}
        for row in rows:
            of_case = cases.setdefault(row["case"], {})
            of_case[row["class_name"]] = [rounded(row[key]) for key in ("dice", "hd95") if key in row]
        short["cases"] = cases
    return short


def _mean_iou(wanted: list[Reference], files: Mapping[str, str], classes: int, ignore_index: int | None) -> float:
    """Of all classes with the background, the pixels of all images together."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    for each in wanted:
        maps = read_volume(files[each.case]).data, read_volume(each.path).data
        counts += confusion_counts(*maps, classes, ignore_index=ignore_index)
    return mean_iou(counts)
