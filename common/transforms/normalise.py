"""Intensity normalisations of the papers, one of them chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, convert_to_dst_type, convert_to_numpy

from ..errors import UserError

__all__ = ["NormalizeIntensitiesd"]


def _median_iqr(values: np.ndarray) -> tuple[float, tuple[float, ...]]:
    lower, median, upper = np.percentile(values, [25, 50, 75])
    # half of the volume or more may be one value
    return median, (upper - lower, values.std())


def _symmetric(values: np.ndarray) -> tuple[float, tuple[float, ...]]:
    lower, upper = values.min(), values.max()
    return (lower + upper) / 2, ((upper - lower) / 2,)


_METHODS: dict[str, Callable[[np.ndarray], tuple[float, tuple[float, ...]]]] = {
    "median_iqr": _median_iqr,
    "z_score": lambda values: (values.mean(), (values.std(),)),
    "unit": lambda values: (values.min(), (np.ptp(values),)),
    "symmetric": _symmetric,
    "maximum": lambda values: (0.0, (values.max(),)),
}


class NormalizeIntensitiesd(MapTransform):
    r"""Shift and scale the intensities of a volume: :math:`\hat{x} = (x - a) / b`.

    ================  =====================  ======================================  ==============================
    method            a                      b                                       used by
    ================  =====================  ======================================  ==============================
    ``median_iqr``    median                 interquartile range, else deviation     MAAG on ACDC and LVSC
    ``z_score``       mean                   standard deviation                      CycleMix
    ``unit``          minimum                maximum - minimum: [0, 1]               DMPLS, AttenScribble
    ``symmetric``     middle of the range    half of the range: [-1, 1]              MAAG on CHAOS
    ``maximum``       0                      maximum                                 MAAG on PPSS
    ================  =====================  ======================================  ==============================

    The figures are taken over all voxels and channels of the volume, quartiles with linear interpolation. Where b is
    zero, 1 takes its place, so the result is always finite.

    Reference: Valvano, Leo, Tsaftaris, "Learning to Segment from Scribbles using Multi-scale Adversarial Attention
    Gates", IEEE TMI 2021, section IV-A, https://arxiv.org/abs/2007.01152

    Args:
        keys: images ``[C, H, W, D]`` of any intensity range.
        method: one of the table.
        per_slice: take the figures over each slice (the last axis) by itself.
        eps: a b up to this value counts as zero.
        allow_missing_keys: skip absent keys.

    Raises:
        UserError: for an unknown method, or if an image holds NaN or infinite values.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        method: str = "median_iqr",
        per_slice: bool = False,
        eps: float = 1e-8,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if method not in _METHODS:
            raise UserError(f"--normalisation: must be one of {list(_METHODS)}, got {method!r}")
        self.method = method
        self.per_slice = per_slice
        self.eps = eps

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with float32 images, shifted and scaled."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self._normalise(item[key], key)
        return item

    def _normalise(self, image: Any, key: Hashable) -> Any:
        values = convert_to_numpy(image).astype(np.float64)
        if not np.isfinite(values).all():
            name = getattr(image, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ, f"the item's {key!r}")
            raise UserError(f"{name} holds NaN or infinite values: replace them before training or inference")
        parts = np.moveaxis(values, -1, 0) if self.per_slice else [values]
        for part in parts:
            shift, scales = _METHODS[self.method](part)
            part -= shift
            part /= next(scale for scale in (*scales, 1.0) if scale > self.eps)
        return convert_to_dst_type(values, image, dtype=np.float32)[0]
