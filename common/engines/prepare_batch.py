"""Turning a loader's batch into the network's input and target."""

from __future__ import annotations

from typing import Any

import torch
from monai.utils import CommonKeys

from ..transforms.batch_augmentation import BatchAugmentation

__all__ = ["AugmentingPrepareBatch"]


class AugmentingPrepareBatch:
    """Move a batch of slices to the device and augment it there, for MONAI's trainers.

    Args:
        augmentation: applied to image and label together; None for none.
    """

    def __init__(self, augmentation: BatchAugmentation | None = None) -> None:
        self.augmentation = augmentation

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
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
        return image, label
