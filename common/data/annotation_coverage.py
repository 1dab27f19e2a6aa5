"""How much of each class an annotation covers, and how much of it is right."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["coverage_of", "joint_counts"]


def joint_counts(mask: np.ndarray, drawn: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the pixels of each slice by their class and by what is drawn on them.

    Args:
        mask: dense masks ``[Z, H, W]`` of 0..C-1.
        drawn: annotations ``[Z, H, W]`` of 0..C, C being "not annotated".
        num_classes: number of classes C with background.

    Returns:
        int64 ``[Z, C, C + 1]``: by slice, class and drawn value.
    """
    shape = (len(mask), num_classes, num_classes + 1)
    slices = np.arange(len(mask)).reshape(-1, 1, 1)
    cells = np.ravel_multi_index((slices, mask.astype(np.intp), drawn.astype(np.intp)), shape)
    return np.bincount(cells.ravel(), minlength=int(np.prod(shape))).reshape(shape)


def coverage_of(counts: np.ndarray, *, negative: bool = False) -> list[dict[str, Any]]:
    """Sum up what is drawn of each class.

    Args:
        counts: counts ``[Z, C, C + 1]`` of all slices of one or many volumes, see :func:`joint_counts`.
        negative: the drawings are negative ones, which hold for a pixel a class that it is not.

    Returns:
        For each class: ``image_percent`` and ``image_percent_std`` (what is drawn of it, in percent of the slice, mean
        and standard deviation over all slices), ``class_percent`` (in percent of the class's own pixels, of the other
        classes' for negative drawings; None where there are none), ``right_percent`` (what of the drawing is true; None
        where nothing is drawn), ``slices`` (with the class) and ``annotated_slices`` (in which it is drawn).
    """
    rows = []
    pixels = np.maximum(counts.sum(axis=(1, 2)), 1)
    for index in range(counts.shape[1]):
        is_class, drawn = counts[:, index].sum(axis=1), counts[:, :, index].sum(axis=1)
        true = counts[:, index, index]
        if negative:
            is_class, true = pixels - is_class, drawn - true
        shares = 100 * drawn / pixels
        rows.append(
            {
                "image_percent": float(shares.mean()),
                "image_percent_std": float(shares.std()),
                "class_percent": _percent(true.sum(), is_class.sum()),
                "right_percent": _percent(true.sum(), drawn.sum()),
                "slices": int(np.count_nonzero(counts[:, index].sum(axis=1))),
                "annotated_slices": int(np.count_nonzero(drawn)),
            }
        )
    return rows


def _percent(part: int, whole: int) -> float | None:
    return float(100 * part / whole) if whole else None
