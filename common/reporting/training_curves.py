"""The curves of a training: what TensorBoard's files say of each epoch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from ..errors import UserError
from .run_folder import EVENTS

__all__ = ["Curve", "in_order", "read_curves", "thinned"]

Curve = list[tuple[int, float]]
"""Steps, which are epochs, and values; NaN where one was not finite."""

_MOST_POINTS = 400


def read_curves(folder: Path) -> dict[str, Curve]:
    """Read all scalars of a folder.

    A run that was resumed has several files; of two values of a step the later one counts. What stands behind the
    damaged part of a file, or behind the end of one that is being written, is left out.

    Args:
        folder: output folder of a training.

    Returns:
        The curve of each tag, sorted by step.

    Raises:
        UserError: a file may not be read.
    """
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for path in sorted(folder.glob(EVENTS)):
        for tag, step, wall_time, number in _scalars(path):
            steps = found.setdefault(tag, {})
            if step not in steps or wall_time >= steps[step][0]:
                steps[step] = (wall_time, number if math.isfinite(number) else math.nan)
    return {tag: [(step, number) for step, (_, number) in sorted(steps.items())] for tag, steps in found.items()}


def in_order(tags: Sequence[str]) -> list[str]:
    """Sort the names of curves: validation first, then the whole loss, then its terms."""

    def place(tag: str) -> tuple[int, str]:
        return (0 if tag.startswith("val") else 1 if tag == "train_loss" else 2, tag)

    return sorted(set(tags), key=place)


def thinned(curve: Curve, most: int = _MOST_POINTS) -> Curve:
    """Return a curve with at most ``most`` points that keeps its ends, its peaks and its gaps.

    Of each of ``most`` / 4 equal runs of points the first and the last, the lowest and the highest stay, or a NaN.
    """
    if len(curve) <= most:
        return curve
    runs = max(most // 4, 1)
    kept: Curve = []
    for run in range(runs):
        part = curve[run * len(curve) // runs : (run + 1) * len(curve) // runs]
        gaps = [point for point in part if math.isnan(point[1])]
        known = [point for point in part if not math.isnan(point[1])]
        ends = [part[0], part[-1]]
        peaks = [choose(known, key=lambda point: point[1]) for choose in (min, max)] if known else []
        middle = gaps[:1] + peaks[:1] if gaps else peaks
        kept += sorted({point[0]: point for point in [*ends, *middle]}.values())
    return kept


def _scalars(path: Path) -> Iterator[tuple[str, int, float, float]]:
    """Tag, step, time of writing and value of each scalar in a file."""
    if not os.access(path, os.R_OK) or not path.is_file():
        raise UserError(f"{path}: cannot be read; correct its permissions")
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.WhichOneof("value") == "tensor":
                array = tensor_util.make_ndarray(value.tensor)
                if not array.ndim and array.dtype.kind in "fiu":  # others are pictures, histograms and texts
                    yield value.tag, event.step, event.wall_time, float(array)
