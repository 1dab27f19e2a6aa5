"""The evaluation table: scores of every volume in a CSV file, their summary in a JSON file and in the log."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing

from ..errors import UserError
from ..files import atomic_file
from ..metrics.case_scores import score_case
from ..metrics.score_document import csv_text, json_text, score_document, summary_table
from ..metrics.segmentation_scores import summarise
from ..shared_batch import of_all_processes, process_rank
from ..transforms.volume_axes import AFFINE_TOLERANCE, affine_gap

__all__ = ["ScoreTable"]

logger = logging.getLogger(__name__)

_REFUSED = re.compile(r"[^\w. -]")


class ScoreTable:
    """Score every volume that a MONAI evaluator predicts and write the table when it is done.

    Of each item, ``engine.state.output`` holds ``pred``, an index map ``[1, H, W, D]`` (or ``[1, H, W]``) on the
    native grid, and ``label``, the native dense reference, a ``MetaTensor`` whose affine tells the spacing;
    ``engine.state.batch`` holds ``case`` and, where known, ``patient`` and ``phase``. Files:

    - ``<name>.csv``: one row per volume and foreground class, missing numbers as ``nan``; ``pooled_slice_dice``
      belongs to the volume and stands in each of its rows;
    - ``<name>.json``: ``{"protocol", "meta", "class_names", "metrics", "summary"}``: what the evaluator's own metrics
      say, and the summary as from :func:`~..metrics.segmentation_scores.summarise`; missing numbers are ``null``.

    ``engine.state.metrics`` gets ``mean_dice``, ``pooled_slice_dice`` and per class ``dice_<class>``, with ``surface``
    also ``mean_hd95`` and ``hd95_<class>`` (misses left out), for MONAI's handlers that are attached after this one;
    of class names, characters that MLflow refuses become ``_``. Under a distributed run the rows of all processes are
    gathered, every process gets the metrics, process 0 writes; volumes that a padding sampler repeats count once.

    Args:
        output_dir: folder of the files, made if it is missing.
        class_names: names of all classes, the background first.
        name: name of the files without ending.
        ignore_index: value of the reference's voxels that are not annotated, which count as background in both; None
            where there are none.
        surface: whether to compute surface distances too.
        meta: what a reader must know of the run (supervision, choice of the checkpoint, seed ...), written as it is;
            values that JSON does not know become text.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        class_names: Sequence[str],
        *,
        name: str = "metrics",
        ignore_index: int | None = None,
        surface: bool = True,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        if len(class_names) < 2:
            raise UserError(f"class_names must name the background and at least one class, got {list(class_names)}")
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.name = name
        self.ignore_index = ignore_index
        self.surface = surface
        self.meta = dict(meta or {})
        self._rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Serve an evaluator.

        Args:
            engine: MONAI evaluator that decollates its batches. It runs no handler at all where there is nothing to
                evaluate; then no file is written.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _score(self, engine: Engine) -> None:
        state: Any = engine.state
        for batch, output in zip(state.batch, state.output, strict=True):
            self._rows += self._rows_of({**batch, **output})

    def _rows_of(self, item: Mapping[str, Any]) -> list[dict[str, Any]]:
        case = item.get("case")
        if case is None:
            raise UserError('an evaluated item has no "case": give every entry of the datalist a case name')
        if any(row["case"] == case for row in self._rows):
            raise UserError(f"two evaluated items have the case name {case}: make the names in the datalist unique")
        try:
            prediction, reference = _single_channel(item["pred"]), _single_channel(item["label"])
            spacing = _spacing(item["pred"], item["label"])
            rows = score_case(
                prediction,
                reference,
                class_names=self.class_names,
                spacing=spacing,
                ignore_index=self.ignore_index,
                surface=self.surface,
            )
        except UserError as error:
            raise UserError(f"{case}: {error}") from error
        labels = {"case": case, "patient": item.get("patient"), "phase": item.get("phase")}
        return [{**labels, **row} for row in rows]

    def _finish(self, engine: Engine) -> None:
        rows = _of_all_cases(self._rows)
        summary = summarise(rows, self.class_names)
        metrics = dict(engine.state.metrics)
        engine.state.metrics.update(_metrics(summary))
        if process_rank() > 0:
            return
        document = score_document(summary, self.class_names, meta=self.meta, metrics=metrics)
        self._write(f"{self.name}.csv", csv_text(rows))
        self._write(f"{self.name}.json", json_text(document))
        where = self.output_dir / self.name
        logger.info("scores of %d volumes (%s):\n%s", summary["cases"], where, summary_table(summary))

    def _write(self, file_name: str, text: str) -> None:
        with atomic_file(self.output_dir / file_name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


def _single_channel(volume: torch.Tensor) -> torch.Tensor:
    if len(volume) != 1:
        raise UserError(
            f"expected an index map of one channel, got the shape {tuple(volume.shape)}: "
            "take the arg-max over the classes in the postprocessing"
        )
    return volume[0]


def _spacing(prediction: torch.Tensor, reference: torch.Tensor) -> list[float]:
    if not isinstance(reference, MetaTensor):
        raise UserError("the reference has lost its affine, so its spacing is unknown: load it with LoadImaged")
    if (
        isinstance(prediction, MetaTensor)
        and affine_gap(prediction.affine.cpu(), reference.affine.cpu()) > AFFINE_TOLERANCE
    ):
        raise UserError(
            "the prediction and the reference have different affines: invert the preprocessing before it is scored"
        )
    return [float(size) for size in affine_to_spacing(reference.affine, r=reference.ndim - 1)]


def _of_all_cases(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    of_ranks = of_all_processes(rows)
    if len(of_ranks) == 1:
        return rows
    unique: dict[tuple[str, int], dict[str, Any]] = {}
    for row in (row for of_rank in of_ranks for row in of_rank):
        first = unique.setdefault((row["case"], row["class_index"]), row)
        if first["reference_ml"] != row["reference_ml"]:
            raise UserError(f"two evaluated items have the case name {row['case']}: make the datalist's names unique")
    return sorted(unique.values(), key=lambda row: (row["case"], row["class_index"]))


def _metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    metrics = {"mean_dice": summary["all"]["dice"]["mean"]}
    metrics["pooled_slice_dice"] = summary["all"]["pooled_slice_dice"]["mean"]
    if "hd95" in summary["all"]:
        metrics["mean_hd95"] = summary["all"]["hd95"]["mean"]
    for score in ("dice", "hd95"):
        for name, of in summary["classes"].items():
            if score in of:
                metrics[f"{score}_{_REFUSED.sub('_', name)}"] = of[score]["mean"]
    return metrics
