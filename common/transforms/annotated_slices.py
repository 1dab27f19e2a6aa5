"""Which slices of a volume an annotator with little time draws on."""

from __future__ import annotations

import math

import numpy as np

from ..errors import UserError

__all__ = ["choose_annotated_slices"]


def choose_annotated_slices(mask: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose an exact share of the slices: the same share of those with classes and of those without.

    Args:
        mask: dense masks ``[Z, H, W]``, 0 being background.
        share: share of the slices, over 0 and up to 1. ``share * Z`` slices are chosen, rounded (halves up), at least
            one, and at least one with classes where there are any.
        rng: the source of all draws. The same state and a smaller share give a part of the same slices.

    Returns:
        boolean ``[Z]``.

    Raises:
        UserError: the share is out of its range.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise UserError(f"slice_share is {share!r}; give a number over 0 and up to 1")
    holds = mask.reshape(len(mask), -1).any(axis=1)
    chosen = np.zeros(len(mask), bool)
    orders = [rng.permutation(np.flatnonzero(kind)) for kind in (holds, ~holds)]
    total = min(len(mask), max(1, _rounded(share * len(mask))))
    with_classes = min(total, max(min(1, len(orders[0])), _rounded(share * len(orders[0]))))
    with_classes = max(with_classes, total - len(orders[1]))
    chosen[orders[0][:with_classes]] = True
    chosen[orders[1][: total - with_classes]] = True
    return chosen


def _rounded(number: float) -> int:
    return math.floor(number + 0.5)
