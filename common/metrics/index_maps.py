"""Index maps as the scores need them: integer arrays of one shape that hold class numbers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = ["index_maps", "one_channel_pairs"]


def index_maps(
    prediction: ArrayLike | torch.Tensor,
    reference: ArrayLike | torch.Tensor,
    num_classes: int,
    ignore_index: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Check a prediction and its reference and return both as integer arrays.

    Args:
        prediction: index map of any shape and number type, of values 0 .. ``num_classes`` - 1.
        reference: index map of the same shape; may hold ``ignore_index`` too.
        num_classes: number of classes C with the background.
        ignore_index: value of the reference's voxels that are not annotated; None where there are none.

    Returns:
        Both maps as int64 arrays on the CPU.

    Raises:
        UserError: the shapes differ, a map holds fractions, or a value is no class number.
    """
    predicted = _index_map(prediction, "prediction", num_classes, None)
    truth = _index_map(reference, "reference", num_classes, ignore_index)
    if predicted.shape != truth.shape:
        raise UserError(
            f"the prediction has the shape {predicted.shape} and the reference {truth.shape}: "
            "bring the prediction back to the reference's grid before it is scored"
        )
    return predicted, truth


def one_channel_pairs(
    output: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Go through an engine's predictions and references.

    Args:
        output: two lists of as many index maps ``[1, ...]``.

    Yields:
        A prediction and its reference, both ``[1, ...]``.

    Raises:
        ValueError: the lists differ in length, or a map has more channels than one.
    """
    for prediction, reference in zip(*output, strict=True):
        if len(prediction) != 1 or len(reference) != 1:
            raise ValueError(
                f"expected index maps of one channel, got the shapes {tuple(prediction.shape)} and "
                f"{tuple(reference.shape)}: take the arg-max over the classes first"
            )
        yield prediction, reference


def _index_map(volume: ArrayLike | torch.Tensor, name: str, num_classes: int, ignore_index: int | None) -> np.ndarray:
    # by its method, so that scoring files does not wait seconds for an import of torch
    array = volume.detach().cpu().numpy() if hasattr(volume, "detach") else np.asarray(volume)
    if not np.issubdtype(array.dtype, np.integer):
        with np.errstate(invalid="ignore"):
            whole = array.astype(np.int64)
        if not np.array_equal(whole, array):
            raise UserError(f"the {name} holds fractions: it must be an index map, resampled by nearest neighbour")
        array = whole
    array = array.astype(np.int64, copy=False)
    wrong = (array < 0) | (array >= num_classes)
    if ignore_index is not None:
        wrong &= array != ignore_index
    if wrong.any():
        raise UserError(
            f"the {name} holds the value {array[wrong][0]}, which is none of the {num_classes} classes "
            f"(0 to {num_classes - 1}): check num_classes, ignore_index and the file"
        )
    return array
