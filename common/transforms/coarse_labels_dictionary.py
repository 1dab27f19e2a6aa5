"""Coarse labels in a chain of MONAI transforms: simulated from dense masks, and their unpainted part."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy

from .coarse_drawing import CoarseDrawing, MorphoDrawing
from .coarse_label_simulation import check_coarse_options, simulate_coarse_labels

__all__ = ["UNKNOWN", "FillUnpaintedd", "SimulateCoarseLabelsd"]

UNKNOWN = "unknown"
"""The key under which a simulation leaves, where there are any, the pixels of which even the mask knows nothing."""


class SimulateCoarseLabelsd(MapTransform):
    """Replace a dense mask by a positive coarse drawing and add the negative one, slice by slice.

    What is drawn depends on ``seed``, the item's name and the slice's number alone, as if an annotator had drawn each
    slice once. Items that do not say ``"supervision": "simulated"`` are left as they are: they bring drawings, or a
    dense mask to be learned from as such.

    The arguments ``drawing`` to ``swap`` are those of
    :func:`~common.transforms.coarse_label_simulation.simulate_coarse_labels`.

    Args:
        keys: the key of the dense mask ``[1, H, W]`` or ``[1, H, W, D]``, which becomes the positive drawing.
        num_classes: number of classes C; pixels of value C, of which nothing is known, stay unpainted.
        complement: key of the negative drawing.
        drawing: how a class is drawn; None for MorphoDrawing with its defaults.
        ratio: share of each drawing's area to keep.
        distance: ``"geodesic"`` or ``"euclidean"``.
        others: ``"coarse"`` or ``"ignore"``.
        background: class 0 is background.
        swap: probability that two classes are mistaken for one another.
        seed: seed of the drawings.
        name: the item's key that names it; items without it are named by the mask's file, and by nothing else.
        allow_missing_keys: let items without the mask pass.

    Raises:
        UserError: an option is out of its range.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        *,
        complement: str = "complement",
        drawing: CoarseDrawing | None = None,
        ratio: float = 1.0,
        distance: str = "geodesic",
        others: str = "coarse",
        background: bool = True,
        swap: float = 0.0,
        seed: int = 0,
        name: str = "case",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_coarse_options(ratio=ratio, distance=distance, others=others, swap=swap)
        self.num_classes = num_classes
        self.complement = complement
        self.options: dict[str, Any] = {
            "drawing": drawing or MorphoDrawing(),
            "ratio": ratio,
            "distance": distance,
            "others": others,
            "background": background,
            "swap": swap,
        }
        self.seed = seed
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with both drawings, in the mask's type and with its metadata."""
        item = dict(data)
        if item.get("supervision") != "simulated":
            return item
        for key in self.key_iterator(item):
            mask = item[key]
            planes = convert_to_numpy(mask)[0]
            values = np.rint(planes).astype(np.int64).reshape(*planes.shape[:2], -1)
            label, complement = np.empty_like(values), np.empty_like(values)
            name = zlib.crc32(str(item.get(self.name) or _file_name(mask)).encode())
            for number in range(values.shape[2]):
                rng = np.random.default_rng([self.seed, name, number])
                label[..., number], complement[..., number] = simulate_coarse_labels(
                    values[..., number], self.num_classes, rng, **self.options
                )
            if (values == self.num_classes).any():
                item[UNKNOWN] = mask == self.num_classes
            item[key], item[self.complement] = (
                convert_to_dst_type(drawn.reshape(1, *planes.shape), mask)[0] for drawn in (label, complement)
            )
        return item


class FillUnpaintedd(MapTransform):
    """Take the unpainted part of a drawing for a statement: a positive drawing's is background.

    Zhang et al., "Positive and negative coarse labels", take the loss over all pixels. A positive drawing then says
    "background" where nothing is painted; a negative drawing of two classes says "not background" where "not the
    object" is not painted. Of more classes, the negative drawing's unpainted part has no such meaning and stays. So do
    the pixels of which a dense mask, or that behind simulated drawings, knows nothing, such as those around the round
    field of view of a photograph.

    This belongs on the loaded drawing, before it is cropped, padded, resampled or augmented: later, what lies outside
    the image could not be told from what is unpainted, nor a missing drawing from an empty one.

    Args:
        keys: keys of the drawings.
        num_classes: number of classes C, the value of unpainted pixels.
        complement: key of the negative drawing.
        allow_missing_keys: let items without a drawing pass.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        *,
        complement: str = "complement",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.num_classes = num_classes
        self.complement = complement

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the unpainted pixels of its drawings filled with class 0."""
        item = dict(data)
        unknown = item.pop(UNKNOWN, False)
        if item.get("supervision") == "dense":
            return item
        for key in self.key_iterator(item):
            if key != self.complement or self.num_classes == 2:
                drawn = item[key]
                item[key] = drawn * ((drawn != self.num_classes) | unknown)
        return item


def _file_name(mask: Any) -> str:
    return str(getattr(mask, "meta", {}).get("filename_or_obj", ""))
