"""Turning a loader's batch into the network's input and target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.utils import CommonKeys

__all__ = ["COMPLEMENT", "Augmentation", "AugmentingPrepareBatch"]

Augmentation = Callable[[torch.Tensor | None, torch.Tensor | None], tuple[torch.Tensor | None, torch.Tensor | None]]

COMPLEMENT = "complement"
"""The key of negative drawings, which hold for each pixel a class that it is not."""


class AugmentingPrepareBatch:
    """Move a batch of slices to the device and augment it there, for MONAI's trainers.

    A batch with a ``complement``, the negative drawings, gives the target ``{"label", "complement"}``; one draw of the
    augmentation moves image, label and complement alike.

    Args:
        augmentation: takes and returns image and label together; None for none.
        image_in_target: make the target ``{"label", "image"}``, for losses that look at the image. If the batch has a
            ``dense_label``, the target holds it as ``dense``; it is not augmented, since losses use its classes only.
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
        image, label, complement = (
            batchdata[key].to(device, non_blocking=non_blocking, **kwargs) if key in batchdata else None
            for key in (CommonKeys.IMAGE, CommonKeys.LABEL, COMPLEMENT)
        )
        if self.augmentation is not None:
            drawn = [part for part in (label, complement) if part is not None]
            image, moved = self.augmentation(image, torch.cat(drawn, dim=1) if drawn else None)
            if moved is not None:
                label = None if label is None else moved[:, : label.shape[1]]
                complement = None if complement is None else moved[:, moved.shape[1] - complement.shape[1] :]
        if image is not None:
            image = image.contiguous(memory_format=torch.channels_last)
        if complement is None and not self.image_in_target:
            return image, label
        target: dict[str, Any] = {CommonKeys.LABEL: label}
        if complement is not None:
            target[COMPLEMENT] = complement
        if self.image_in_target:
            target[CommonKeys.IMAGE] = image
            if "dense_label" in batchdata:
                target["dense"] = batchdata["dense_label"].to(device, non_blocking=non_blocking, **kwargs)
        return image, target
