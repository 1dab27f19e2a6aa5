"""Resampling to a spacing, of the named keys and of nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Spacingd

__all__ = ["SpacingOfKeysd"]


class SpacingOfKeysd(Spacingd):
    """MONAI's Spacingd, which sees the keys that it resamples alone.

    For NIfTI images MONAI's own takes every key that begins with ``image_`` for metadata and updates it. Programs put
    other things there: MONAI Label has ``image_path``, a text, at which MONAI 1.6.1 stops.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return the item with its keys resampled, all others as they were."""
        own = {key: data[key] for key in self.keys if key in data}
        return {**data, **super().__call__(own, lazy=lazy)}
