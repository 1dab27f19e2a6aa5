"""A picture of each validation for TensorBoard: image, label and prediction of one slice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.handlers import TensorBoardHandler
from monai.utils import CommonKeys
from monai.utils.enums import MetaKeys

from ..reporting.palette import class_colour

__all__ = ["ValidationPicture"]

_LARGEST = 256
"""Pixels of the longer side; larger slices are thinned out."""
_GREYS = 32
"""Levels of grey: with all 256, noise would fill the event file."""
_GAP = 4
_NOT_ANNOTATED = (128, 128, 128)


class ValidationPicture(TensorBoardHandler):
    """Show the middle slice of the first validated volume: the image, its label and the prediction, side by side.

    Of each item of a decollated batch, ``engine.state.output`` holds ``image``, as the network sees it, ``pred``, an
    index map ``[1, H, W, D]`` (or ``[1, H, W]``) on the native grid, and ``label`` likewise, where there is one. Label
    and prediction are looked up at the image's pixels by their affines. The background is white, what is not annotated
    is grey, classes have the colours of the reports. MONAI's TensorBoardImageHandler shows the last volume, as an
    animation of all its slices, in greys that are stretched anew for each slice.

    Args:
        log_dir: folder of the event file.
        num_classes: number of classes C with the background; other values are shown as not annotated.
        tag: name of the picture; its step is the epoch.
    """

    def __init__(
        self, log_dir: str | os.PathLike, num_classes: int, *, tag: str = "val_image_label_prediction"
    ) -> None:
        super().__init__(log_dir=str(log_dir))
        self.tag = tag
        # one colour more, for whatever is no class
        colours = [*(class_colour(index) for index in range(num_classes)), _NOT_ANNOTATED]
        self._colours = np.array(colours, dtype=np.uint8)

    def attach(self, engine: Engine) -> None:
        """Serve an evaluator that validates during a training."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Draw the first batch of a validation."""
        state: Any = engine.state
        if state.iteration == 1:
            self._writer.add_image(self.tag, self.picture(state.output[0]), state.epoch, dataformats="HWC")
            self._writer.flush()

    def picture(self, item: Mapping[str, Any]) -> np.ndarray:
        """Draw an item.

        Args:
            item: ``image`` ``[C, H, W, D]`` (or ``[C, H, W]``), ``pred`` and, maybe, ``label``, see the class.

        Returns:
            uint8 ``[rows, columns, 3]``, rows along the image's second axis.
        """
        image = item[CommonKeys.IMAGE]
        shape = (*image.shape[1:], 1)[:3]
        step = -(-max(shape[:2]) // _LARGEST)
        rows, columns = np.meshgrid(np.arange(0, shape[0], step), np.arange(0, shape[1], step), indexing="ij")
        places = np.stack([rows, columns, np.full_like(rows, shape[2] // 2), np.ones_like(rows)]).astype(np.float64)
        maps = [self._classes(item.get(key), image, places) for key in (CommonKeys.LABEL, CommonKeys.PRED)]
        panels = [_grey(_looked_up(image, image, places)[0]), *(self._colours[found] for found in maps)]
        gap = np.zeros((_GAP, panels[0].shape[1], 3), dtype=np.uint8)
        joined = np.concatenate([panels[0], gap, panels[1], gap, panels[2]])
        return joined.transpose(1, 0, 2)

    def _classes(self, volume: torch.Tensor | None, image: torch.Tensor, places: np.ndarray) -> np.ndarray:
        other = len(self._colours) - 1
        if volume is None:
            return np.full(places.shape[1:], other)
        values, inside = _looked_up(volume, image, places)
        found = values[0]
        return np.where(inside & (found >= 0) & (found < other), found, other).astype(int)


def _looked_up(volume: torch.Tensor, image: torch.Tensor, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Look up a volume's nearest voxels.

    Args:
        volume: ``[C, X, Y, Z]`` or ``[C, X, Y]``.
        image: whose voxels the places are.
        places: homogeneous indices ``[4, H, W]`` into the image.

    Returns:
        the values ``[C, H, W]``, and where they are within the volume ``[H, W]``.
    """
    if _has_directions(volume):
        matrix = np.linalg.solve(_affine(volume), _affine(image))
    else:
        scales = np.array(volume.shape[1:3]) / np.array(image.shape[1:3])
        matrix = np.diag([*scales, 1.0, 1.0])
        matrix[:2, 3] = (scales - 1) / 2
    index = np.rint(np.einsum("ij,jhw->ihw", matrix, places)[:3]).astype(int)
    shape = np.array((*volume.shape[1:], 1)[:3]).reshape(3, 1, 1)
    inside = ((index >= 0) & (index < shape)).all(axis=0)
    index = np.clip(index, 0, shape - 1)
    bare = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
    bare = bare.reshape(len(bare), *shape.ravel().tolist())
    x, y, z = torch.from_numpy(index).to(bare.device)
    return bare[:, x, y, z].float().cpu().numpy(), inside


def _has_directions(volume: torch.Tensor) -> bool:
    """Whether an affine tells where the voxels lie; that of a picture file, such as PNG, does not."""
    return volume.ndim == 4 or MetaKeys.ORIGINAL_AFFINE in getattr(volume, "meta", {})


def _affine(volume: torch.Tensor) -> np.ndarray:
    affine = volume.affine.cpu().double().numpy() if isinstance(volume, MetaTensor) else np.eye(4)
    return to_affine_nd(3, affine)


def _grey(values: np.ndarray) -> np.ndarray:
    """Scale ``[C, H, W]`` to colours ``[H, W, 3]``: three channels as red, green and blue, else the first as grey."""
    values = np.nan_to_num(values if len(values) == 3 else np.repeat(values[:1], 3, axis=0))
    low, high = np.percentile(values, [1, 99])
    scaled = (values - low) / (high - low if high > low else 1.0)
    levels = np.rint((_GREYS - 1) * scaled.clip(0, 1)) / (_GREYS - 1)
    return np.rint(255 * levels).astype(np.uint8).transpose(1, 2, 0)
