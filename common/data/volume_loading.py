"""Loading images and labels for networks, those in NRRD and MetaImage files by SimpleITK."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data.image_reader import ImageReader
from monai.data.utils import to_affine_nd
from monai.transforms import LoadImage, LoadImaged
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from ..errors import UserError
from ..transforms.volume_axes import AFFINE_TOLERANCE, affine_gap
from .itk_header import ITK_EXTENSIONS
from .volume_reader import Volume, read_volume

__all__ = ["LoadImagesd", "volume_loader"]


class LoadImagesd(LoadImaged):
    """MONAI's ``LoadImaged``, channel first, which reads NRRD and MetaImage files by SimpleITK.

    MONAI reads them by ITK's Python package, which a process waits for at its first file, and which lacks some types of
    voxels. Voxels ``[C, X, Y, Z]`` and affines are the same.

    Args:
        keys: keys of the image files.
        allow_missing_keys: skip absent keys.

    Raises:
        UserError: such a file cannot be read, or one of several does not lie on the grid of the first.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, ensure_channel_first=True, allow_missing_keys=allow_missing_keys)
        self.register(_SimpleItkReader())


def volume_loader() -> LoadImage:
    """Return what :class:`LoadImagesd` loads a file with, or several that become channels."""
    load = LoadImage(ensure_channel_first=True)
    load.register(_SimpleItkReader())
    return load


class _SimpleItkReader(ImageReader):
    def verify_suffix(self, filename: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> bool:
        return any(os.fspath(name).lower().endswith(ITK_EXTENSIONS) for name in ensure_tuple(filename))

    def read(self, data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **_kwargs: Any) -> list[Volume]:
        names = ensure_tuple(data)
        volumes = [read_volume(name) for name in names]
        first = volumes[0]
        for name, volume in zip(names, volumes, strict=True):
            gap = affine_gap(volume.affine, first.affine)
            if volume.data.shape != first.data.shape or gap > AFFINE_TOLERANCE:
                raise UserError(f"{name}: lies on another grid than {names[0]}; save both on the grid of their image")
        return volumes

    def get_data(self, img: Sequence[Volume]) -> tuple[np.ndarray, dict[str, Any]]:
        first = img[0]
        affine = to_affine_nd(len(first.shape), first.affine)
        has_channels = first.data.ndim > len(first.shape)
        meta: dict[str, Any] = {
            MetaKeys.ORIGINAL_AFFINE: affine,
            MetaKeys.AFFINE: affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.array(first.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if has_channels else "no_channel",
        }
        if len(img) == 1:
            return first.data, meta
        stacked = np.concatenate if has_channels else np.stack
        return stacked([volume.data for volume in img], axis=-1), meta | {MetaKeys.ORIGINAL_CHANNEL_DIM: -1}
