"""The rows that one volume gives to an evaluation table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..transforms.volume_axes import through_plane_axis
from .index_maps import index_maps
from .segmentation_scores import pooled_slice_dice, score_volume

if TYPE_CHECKING:
    import torch

__all__ = ["count_slices", "score_case"]


def score_case(
    prediction: ArrayLike | torch.Tensor,
    reference: ArrayLike | torch.Tensor,
    *,
    class_names: Sequence[str],
    spacing: Sequence[float],
    ignore_index: int | None = None,
    surface: bool = True,
) -> list[dict[str, Any]]:
    """Score one volume, one row per foreground class.

    Args:
        prediction: index map ``[H, W, D]`` or ``[H, W]`` on the reference's grid.
        reference: index map of the same shape; may hold ``ignore_index`` too.
        class_names: names of all classes, the background first.
        spacing: voxel size in mm along each axis.
        ignore_index: value of the reference's voxels that are not annotated, which count as background in both; None
            where there are none.
        surface: whether to compute surface distances too.

    Returns:
        The rows of :func:`~.segmentation_scores.score_volume`, each with ``class_name`` in front and, at its end, the
        volume's ``pooled_slice_dice`` over its slices (see :func:`~common.transforms.volume_axes.through_plane_axis`),
        from which those without annotated voxels are left out.

    Raises:
        UserError: the shapes differ, a value is no class number, or the spacing is wrong.
    """
    num_classes = len(class_names)
    predicted, truth = index_maps(prediction, reference, num_classes, ignore_index)
    seen, true = predicted, truth
    if ignore_index is not None:
        hidden = truth == ignore_index
        seen, true = np.where(hidden, 0, predicted), np.where(hidden, 0, truth)
    rows = score_volume(seen, true, num_classes=num_classes, spacing=spacing, surface=surface)
    in_slices = _slices_last(predicted, spacing), _slices_last(truth, spacing)
    pooled = pooled_slice_dice(*in_slices, num_classes, ignore_index=ignore_index)
    return [{"class_name": class_names[row["class_index"]], **row, "pooled_slice_dice": pooled} for row in rows]


def count_slices(reference: ArrayLike, spacing: Sequence[float], ignore_index: int | None = None) -> int:
    """Count the slices of a volume that its ``pooled_slice_dice`` averages over.

    Args:
        reference: index map ``[H, W, D]`` or one slice ``[H, W]``.
        spacing: voxel size in mm along each axis.
        ignore_index: value of voxels that are not annotated; slices that hold nothing else do not count.
    """
    truth = _slices_last(np.asarray(reference), spacing)
    if ignore_index is None:
        return truth.shape[2] if truth.ndim > 2 else 1
    return int(np.count_nonzero((truth != ignore_index).any((0, 1))))


def _slices_last(volume: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    return np.moveaxis(volume, through_plane_axis(spacing, volume.shape), -1) if volume.ndim == 3 else volume
