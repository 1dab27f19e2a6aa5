"""Turning a loader's batch into the network's input and target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.utils import CommonKeys

__all__ = ["Augmentation", "AugmentingPrepareBatch"]

Augmentation = Callable[
    [torch.Tensor | None, torch.Tensor | None], tuple[torch.Tensor | None, torch.Tensor | None]
]


class AugmentingPrepareBatch:
    """Move a batch of slices to the device and augment it there, for MONAI's trainers.

    Args:
        augmentation: takes and returns image and label together; None for none.
        image_in_target: make the target ``{"label", "image"}``, for losses that look at the image.
    """

    def __init__(self, augmentation: Augmentation | None = None, *, image_in_target: bool = False) -> None:
        self.augmentation = augmentation
        self.image_in_target = image_in_target

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor | None, Any]:
        """Return ``image`` ``[B, C, H, W]`` in the channels-last layout and ``label`` ``[B, A, H, W]``.

        A key that the batch lacks gives None.
        """
        image, label = (
            batchdata[key].to(device, non_blocking=non_blocking, **kwargs) if key in batchdata else None
            for key in (CommonKeys.IMAGE, CommonKeys.LABEL)
        )
        if self.augmentation is not None:
            image, label = self.augmentation(image, label)
        if image is not None:
            image = image.contiguous(memory_format=torch.channels_last)
        if self.image_in_target:
            return image, {CommonKeys.LABEL: label, CommonKeys.IMAGE: image}
        return image, label
