"""Scores of one segmented volume against its reference, and their summary over volumes, classes and phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .index_maps import index_maps
from .surface_distance import checked_spacing, hd95_and_assd

if TYPE_CHECKING:
    import torch

__all__ = ["OUTCOMES", "class_dice", "pooled_slice_dice", "score_volume", "statistics", "summarise"]

OUTCOMES = ("scored", "missed", "invented", "absent")
"""What can happen to a class in a volume: both have it, the prediction misses or invents it, neither has it."""

_SCORES = ("dice", "iou", "hd95", "hd95_penalised", "assd", "assd_penalised")
_MM3_PER_ML = 1000.0


def score_volume(
    prediction: ArrayLike | torch.Tensor,
    reference: ArrayLike | torch.Tensor,
    *,
    num_classes: int,
    spacing: Sequence[float],
    surface: bool = True,
) -> list[dict[str, Any]]:
    """Score one volume, one row per foreground class.

    Args:
        prediction: index map ``[H, W, D]`` or ``[H, W]`` of values 0 .. ``num_classes`` - 1, on the reference's grid.
        reference: dense index map of the same shape and values.
        num_classes: number of classes C with the background.
        spacing: voxel size in mm along each axis.
        surface: whether to compute the surface distances too; without, their keys are left out.

    Returns:
        One dictionary per class 1 .. C - 1:

        - ``class_index`` and ``outcome``, one of ``OUTCOMES``;
        - ``dice`` and ``iou``: 0 where ``missed`` or ``invented``, NaN where ``absent``;
        - ``hd95`` and ``assd`` in mm: NaN (to be left out and counted) where ``missed``, ``invented`` or ``absent``;
        - ``hd95_penalised`` and ``assd_penalised`` in mm: the diagonal of the whole image where ``missed`` or
          ``invented``, NaN where ``absent``;
        - ``prediction_ml`` and ``reference_ml``: volumes in ml (a 2D image counts as 1 mm thick).

    Raises:
        UserError: the shapes differ, a value is no class number, or the spacing is wrong.
    """
    predicted, truth = index_maps(prediction, reference, num_classes)
    size = checked_spacing(spacing, truth.ndim)
    diagonal = float(np.linalg.norm(size * truth.shape))
    voxel_ml = float(size.prod()) / _MM3_PER_ML
    hits, n_predicted, n_true = _overlap(predicted, truth, num_classes)

    rows = []
    for index in range(1, num_classes):
        outcome = _outcome(n_predicted[index] > 0, n_true[index] > 0)
        union = n_predicted[index] + n_true[index] - hits[index]
        row: dict[str, Any] = {
            "class_index": index,
            "outcome": outcome,
            "dice": float(2 * hits[index] / (n_predicted[index] + n_true[index])) if union else float("nan"),
            "iou": float(hits[index] / union) if union else float("nan"),
        }
        if surface:
            distances = (float("nan"), float("nan"))
            if outcome == "scored":
                distances = hd95_and_assd(predicted == index, truth == index, spacing)
            for name, distance in zip(("hd95", "assd"), distances, strict=True):
                row[name] = distance
                row[f"{name}_penalised"] = diagonal if outcome in ("missed", "invented") else distance
        row["prediction_ml"] = float(n_predicted[index] * voxel_ml)
        row["reference_ml"] = float(n_true[index] * voxel_ml)
        rows.append(row)
    return rows


def class_dice(
    prediction: ArrayLike | torch.Tensor,
    reference: ArrayLike | torch.Tensor,
    num_classes: int,
    *,
    ignore_index: int | None = None,
) -> np.ndarray:
    """Return the Dice of each foreground class over a whole volume.

    Args:
        prediction: index map of values 0 .. ``num_classes`` - 1, of any shape.
        reference: index map of the same shape; may hold ``ignore_index`` too.
        num_classes: number of classes C with the background.
        ignore_index: voxels where the reference has this value are left out of both maps.

    Returns:
        Array ``[C - 1]`` of values 0 .. 1; NaN for a class that neither map holds.

    Raises:
        UserError: the shapes differ or a value is no class number.
    """
    predicted, truth = index_maps(prediction, reference, num_classes, ignore_index)
    keep = truth != ignore_index if ignore_index is not None else np.ones(truth.shape, dtype=bool)
    hits, n_predicted, n_true = _overlap(predicted[keep], truth[keep], num_classes)
    total = (n_predicted + n_true)[1:].astype(float)
    return np.divide(2 * hits[1:], total, out=np.full(total.shape, np.nan), where=total > 0)


def pooled_slice_dice(
    prediction: ArrayLike | torch.Tensor,
    reference: ArrayLike | torch.Tensor,
    num_classes: int,
    *,
    ignore_index: int | None = None,
) -> float:
    """Return the Dice of all foreground channels pooled, per slice, averaged over the slices of a volume.

    The protocol of Table II in Valvano, Leo and Tsaftaris, "Learning to Segment from Scribbles using Multi-scale
    Adversarial Attention Gates", IEEE TMI 2021: with the one-hot maps p of the prediction and y of the reference,
    (2 Σ p·y + 1e-12) / (Σ p + Σ y + 1e-12), the sums over the voxels and foreground channels of one slice, so that a
    slice that is empty in both scores 1. It is not comparable with a Dice per class and volume.

    Args:
        prediction: index map ``[H, W, D]`` (slices along the last axis) or one slice ``[H, W]``, of values
            0 .. ``num_classes`` - 1.
        reference: index map of the same shape; may hold ``ignore_index`` too.
        num_classes: number of classes C with the background.
        ignore_index: voxels where the reference has this value are left out of both maps, and so are slices that have
            no other voxels, which would score 1 whatever the prediction.

    Returns:
        Value 0 .. 1; NaN where the ignored voxels leave nothing to score.

    Raises:
        UserError: the shapes differ or a value is no class number.
        ValueError: the maps have neither two nor three axes.
    """
    predicted, truth = index_maps(prediction, reference, num_classes, ignore_index)
    if truth.ndim not in (2, 3):
        raise ValueError(f"expected index maps [H, W, D] or [H, W], got the shape {truth.shape}")
    keep = truth != ignore_index if ignore_index is not None else np.ones(truth.shape, dtype=bool)
    p, y = (predicted > 0) & keep, (truth > 0) & keep
    hits = (predicted == truth) & y
    within_slice = (0, 1)
    dice = (2 * hits.sum(within_slice) + 1e-12) / (p.sum(within_slice) + y.sum(within_slice) + 1e-12)
    scored = np.atleast_1d(dice)[np.atleast_1d(keep.any(within_slice))]
    return float(scored.mean()) if scored.size else float("nan")


def summarise(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    """Summarise the rows of many volumes per class, over all classes, and the same per phase.

    Args:
        rows: rows of :func:`score_volume`, each with the name of its volume under ``case``; ``phase`` (where known)
            and ``pooled_slice_dice`` (the volume's) are used where present.
        class_names: names of all classes, the background first.

    Returns:
        ``{"cases": int, "classes": {name: group}, "all": group, "phases": {phase: the same without "phases"}}``; the
        last only where the rows tell phases. A group holds, for each score of the rows, ``{"mean", "std", "median",
        "n"}`` over the n volumes where it is a number, and the counts ``missed``, ``invented`` and ``absent``. The
        standard deviation is the population's (``ddof=0``). In ``all``, a volume's value is the mean over its classes
        that have one, so that ``std`` is the spread over volumes of the class-mean; its counts are sums over classes.
    """
    summary = _summarise_group(rows, class_names)
    phases = sorted({str(row["phase"]) for row in rows if row.get("phase") is not None})
    if phases:
        summary["phases"] = {
            phase: _summarise_group([row for row in rows if str(row.get("phase")) == phase], class_names)
            for phase in phases
        }
    return summary


def _summarise_group(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    scores = [name for name in _SCORES if any(name in row for row in rows)]
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)

    classes: dict[str, dict[str, Any]] = {}
    for index, class_name in enumerate(class_names[1:], start=1):
        of_class = [row for row in rows if row["class_index"] == index]
        classes[class_name] = {name: statistics([row[name] for row in of_class]) for name in scores}
        classes[class_name] |= _counts(of_class)

    overall: dict[str, Any] = {
        name: statistics([_mean([row[name] for row in of_case]) for of_case in by_case.values()]) for name in scores
    }
    if any("pooled_slice_dice" in row for row in rows):
        overall["pooled_slice_dice"] = statistics([of_case[0]["pooled_slice_dice"] for of_case in by_case.values()])
    return {"cases": len(by_case), "classes": classes, "all": overall | _counts(rows)}


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation (``ddof=0``) and median of the values that are not NaN, and their number n."""
    known = np.asarray([value for value in values if not np.isnan(value)], dtype=float)
    if not known.size:
        return {"mean": float("nan"), "std": float("nan"), "median": float("nan"), "n": 0}
    return {"mean": float(known.mean()), "std": float(known.std()), "median": float(np.median(known)), "n": known.size}


def _mean(values: Sequence[float]) -> float:
    return statistics(values)["mean"]


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {name: sum(row["outcome"] == name for row in rows) for name in OUTCOMES if name != "scored"}


def _outcome(predicted: bool, true: bool) -> str:
    if predicted and true:
        return "scored"
    if true:
        return "missed"
    return "invented" if predicted else "absent"


def _overlap(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per class the voxels in both maps, in the prediction and in the reference, from one confusion matrix."""
    pairs = truth.ravel() * num_classes + predicted.ravel()
    confusion = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    return confusion.diagonal(), confusion.sum(0), confusion.sum(1)
