"""How much of what is drawn is left after preprocessing: resampling can lose a thin stroke, a crop a far one."""

from __future__ import annotations

import logging

import numpy as np
import torch
from monai.data import MetaTensor

from ..shared_batch import process_rank
from ..transforms.drawn_area import DRAWN_AREA, drawn_area

__all__ = ["KeptDrawings"]

logger = logging.getLogger(__name__)

_MOST_CASES = 5
_NAMES = {"label": "class", "complement": "not class"}


class KeptDrawings:
    """Adds up over volumes what is left of their drawings, and tells it in a line.

    A slice keeps at most what was drawn in it, so that a stroke that resampling widens makes up for none that it loses.

    Args:
        num_classes: number of classes C; values from C on are "not annotated".
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.drawn = {key: np.zeros(num_classes) for key in _NAMES}
        self.kept = {key: np.zeros(num_classes) for key in _NAMES}
        self.lost: dict[str, list[str]] = {}

    def add(self, case: str, key: str, label: torch.Tensor, slices: torch.Tensor) -> None:
        """Add a volume's drawing; one that nothing was noted of before it was resampled is left out.

        Args:
            case: the volume's name.
            key: ``"label"``, or ``"complement"`` for a negative drawing.
            label: the prepared label map.
            slices: its voxels as whole numbers 0 to 255 ``[D, ...]``.
        """
        if not isinstance(label, MetaTensor) or DRAWN_AREA not in label.meta:
            return
        before, after = self._of_classes(label.meta[DRAWN_AREA]), self._of_classes(drawn_area(slices, label.affine))
        if len(before) != len(after):  # resampled across the slices, or several frames
            before, after = before.sum(axis=0, keepdims=True), after.sum(axis=0, keepdims=True)
        self.drawn[key] += before.sum(axis=0)
        self.kept[key] += np.minimum(before, after).sum(axis=0)
        for index in np.flatnonzero(before.any(axis=0) & ~after.any(axis=0)):
            self.lost.setdefault(case, []).append(f"{_NAMES[key]} {index}")

    def log(self) -> None:
        """Tell what is left of each class, and warn of the volumes in which nothing is left of one.

        Of processes that train together, which prepare the same volumes, the first one tells.
        """
        if process_rank() > 0:
            return
        shares = [
            f"{self.kept[key][index] / area:.0%} of {name} {index}"
            for key, name in _NAMES.items()
            for index, area in enumerate(self.drawn[key])
            if area
        ]
        if shares:
            logger.info("area of the drawings that preprocessing keeps: %s", ", ".join(shares))
        if self.lost:
            told = [f"{case} ({', '.join(names)})" for case, names in list(self.lost.items())[:_MOST_CASES]]
            logger.warning(
                "preprocessing leaves nothing of a class that is drawn in %s%s; set a finer --pixdim or a larger "
                "--roi_size, or draw thicker strokes",
                ", ".join(told),
                f" and {len(self.lost) - len(told)} more volumes" if len(self.lost) > len(told) else "",
            )

    def _of_classes(self, area: list[list[float]]) -> np.ndarray:
        """The classes' columns ``[D, C]``."""
        found = np.zeros((len(area), self.num_classes))
        for columns, row in zip(found, area, strict=True):
            columns[: len(row)] = row[: self.num_classes]
        return found
