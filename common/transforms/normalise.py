"""Intensity normalisation by median and interquartile range."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, convert_to_dst_type, convert_to_numpy

from ..errors import UserError

__all__ = ["NormalizeMedianIQRd"]


class NormalizeMedianIQRd(MapTransform):
    r"""Subtract the median of the volume and divide by its interquartile range.

    .. math:: \hat{x} = \frac{x - \mathrm{median}(x)}{Q_{75}(x) - Q_{25}(x)}

    The quartiles are taken over all voxels and channels of the volume, with linear interpolation. Where they coincide
    (half of the volume or more is one value) the standard deviation takes the place of the range, and 1 where that is
    zero too, so the result is always finite.

    Reference: Valvano, Leo, Tsaftaris, "Learning to Segment from Scribbles using Multi-scale Adversarial Attention
    Gates", IEEE TMI 2021, section IV-A, https://arxiv.org/abs/2007.01152

    Args:
        keys: images ``[C, H, W, D]`` of any intensity range.
        eps: a range or deviation up to this value counts as zero.
        allow_missing_keys: skip absent keys.

    Raises:
        UserError: if an image holds NaN or infinite values.
    """

    def __init__(self, keys: KeysCollection, *, eps: float = 1e-8, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.eps = eps

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with float32 images of median 0 and interquartile range 1."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self._normalise(item[key], key)
        return item

    def _normalise(self, image: Any, key: Hashable) -> Any:
        values = convert_to_numpy(image).astype(np.float64)
        if not np.isfinite(values).all():
            name = getattr(image, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ, f"the item's {key!r}")
            raise UserError(f"{name} holds NaN or infinite values: replace them before training or inference")
        lower, median, upper = np.percentile(values, [25, 50, 75])
        scales = (upper - lower, values.std(), 1.0)
        scale = next(scale for scale in scales if scale > self.eps)
        return convert_to_dst_type((values - median) / scale, image, dtype=np.float32)[0]
