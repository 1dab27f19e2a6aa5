"""Mean intersection over union as an ignite metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from numpy.typing import ArrayLike

from ..errors import UserError
from .index_maps import index_maps, one_channel_pairs

__all__ = ["MeanIoU", "confusion_counts", "mean_iou"]


def confusion_counts(
    prediction: ArrayLike | torch.Tensor,
    reference: ArrayLike | torch.Tensor,
    num_classes: int,
    *,
    ignore_index: int | None = None,
) -> np.ndarray:
    """Count the pixels of every pair of classes.

    Args:
        prediction: index map of any shape, of values 0 .. ``num_classes`` - 1.
        reference: index map of the same shape; may hold ``ignore_index`` too.
        num_classes: number of classes C.
        ignore_index: pixels where the reference has this value are not counted.

    Returns:
        integers ``[C, C]``, the reference's class before the prediction's.

    Raises:
        UserError: the shapes differ or a value is no class number.
    """
    predicted, truth = index_maps(prediction, reference, num_classes, ignore_index)
    keep = truth != ignore_index if ignore_index is not None else np.ones(truth.shape, dtype=bool)
    pairs = truth[keep] * num_classes + predicted[keep]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_iou(counts: ArrayLike, *, include_background: bool = True) -> float:
    """Return the mean over the classes of |both| / |either|, 0 .. 1.

    Args:
        counts: pixels of every pair of classes ``[C, C]``, see :func:`confusion_counts`.
        include_background: count class 0 among the classes.

    Returns:
        The mean over the classes that either map holds, NaN where there is none.
    """
    counts = np.asarray(counts, dtype=float)
    both = counts.diagonal()
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    classes = (either > 0) & (np.arange(len(counts)) >= 1 - include_background)
    return float((both[classes] / either[classes]).mean()) if classes.any() else float("nan")


class MeanIoU(Metric):
    """Mean intersection over union of the classes, all-reduced over the processes of a distributed run.

    MONAI's ``MeanIoU`` averages over images and knows no ignored pixels; published tables of natural images count the
    pixels of the whole data set first.

    Args:
        num_classes: number of classes C with the background.
        ignore_index: value of the reference's pixels that are left out; None for dense masks.
        include_background: count class 0 among the classes.
        over: ``"dataset"`` counts the pixels of all images together; ``"image"`` averages over images, of which those
            without any class to score are left out.
        output_transform: takes the engine's output and returns the two lists of :meth:`update`; in a config
            ``"$monai.handlers.from_engine(['pred', 'label'])"``.

    Raises:
        UserError: for an unknown ``over``.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_index: int | None = None,
        include_background: bool = True,
        over: str = "dataset",
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        if over not in ("dataset", "image"):
            raise UserError(f"over must be 'dataset' or 'image', got {over!r}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.include_background = include_background
        self.over = over
        self._counts = torch.zeros((num_classes, num_classes), dtype=torch.float64)
        self._of_images = torch.zeros(2, dtype=torch.float64)
        super().__init__(output_transform, skip_unrolling=True)

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all images."""
        self._counts = torch.zeros((self.num_classes, self.num_classes), dtype=torch.float64)
        self._of_images = torch.zeros(2, dtype=torch.float64)

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]) -> None:
        """Count the images of one iteration.

        Args:
            output: predictions and references, two lists of as many index maps ``[1, H, W]`` or ``[1, H, W, D]``.

        Raises:
            UserError: the shapes of a pair differ or a value is no class number.
            ValueError: the lists differ in length, or a map has more channels than one.
        """
        for prediction, reference in one_channel_pairs(output):
            counts = confusion_counts(prediction, reference, self.num_classes, ignore_index=self.ignore_index)
            self._counts += torch.from_numpy(counts)
            score = mean_iou(counts, include_background=self.include_background)
            if not np.isnan(score):
                self._of_images += torch.tensor([score, 1.0], dtype=torch.float64)

    @sync_all_reduce("_counts", "_of_images")
    def compute(self) -> float:
        """Return the mean, 0 .. 1; NaN where no image had a class to score."""
        if self.over == "image":
            return float(self._of_images[0] / self._of_images[1])  # 0 / 0 is NaN
        return mean_iou(self._counts.numpy(), include_background=self.include_background)
