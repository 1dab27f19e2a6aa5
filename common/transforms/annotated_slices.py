"""Which slices of a volume an annotator with little time draws on."""

from __future__ import annotations

import math

import numpy as np

from ..errors import UserError

__all__ = ["choose_annotated_slices"]


def choose_annotated_slices(mask: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose an exact share of the slices: the same share of those with classes and of those without, to a slice.

    Args:
        mask: dense masks ``[Z, H, W]``, 0 being background.
        share: share of the slices, over 0 and up to 1. ``share * Z`` slices are chosen, rounded (halves up), at least
            one; where there are any with classes, one of them.
        rng: the source of all draws. The same state and a smaller share give a part of the same slices.

    Returns:
        boolean ``[Z]``.

    Raises:
        UserError: the share is out of its range.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise UserError(f"slice_share is {share!r}; give a number over 0 and up to 1")
    holds = mask.reshape(len(mask), -1).any(axis=1)
    kinds = [rng.permutation(np.flatnonzero(kind)) for kind in (holds, ~holds)]
    order = np.concatenate(kinds)
    # each kind spread evenly over the order of choice, so that every beginning of it has the share of both
    places = np.concatenate(
        [(np.arange(len(kind)) + late) / max(len(kind), 1) for kind, late in zip(kinds, (0, 0.5), strict=True)]
    )
    total = max(1, math.floor(share * len(mask) + 0.5))
    chosen = np.zeros(len(mask), bool)
    chosen[order[np.argsort(places, kind="stable")[:total]]] = True
    return chosen
