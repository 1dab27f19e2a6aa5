"""The voxels of a case as a report shows them: turned, cropped and cut into slices, image and labels alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.utils import ImageMetaKey, MetaKeys

from ..data.volume_reader import Volume, read_checked_volume
from ..errors import UserError
from ..transforms.orient_slices import OrientSlicesd
from ..transforms.volume_axes import AFFINE_TOLERANCE, affine_gap

__all__ = ["CaseLayers", "load_layers"]

_MARGIN = 0.12
"""How much is shown around the labels, as a share of their extent."""
_LEAST_SHARE = 0.35
"""The least share of an image's rows and columns that is shown."""
_COLOUR_CHANNELS = (3, 4)


@dataclass(frozen=True)
class CaseLayers:
    """A case, slices first: image ``[S, H, W]`` or, in colours, ``[S, H, W, 3]``, 0 to 255; labels ``[S, H, W]``.

    A label that is not annotated has the number of classes. ``numbers`` are the slices' numbers, from 1, of ``total``;
    ``start`` is the place among them with the most anatomy in the leading label or, without it, in any; ``pixel_mm`` is
    the height and width of a pixel.
    """

    image: np.ndarray
    labels: Mapping[str, np.ndarray]
    numbers: Sequence[int]
    total: int
    start: int
    pixel_mm: tuple[float, float]


def load_layers(
    image: str,
    labels: Mapping[str, Sequence[str]],
    *,
    num_classes: int,
    leading: str = "reference",
    most_slices: int = 32,
) -> CaseLayers:
    """Read a case.

    Slices lie and look as in the training, see :class:`~..transforms.orient_slices.OrientSlicesd`. The view is cropped
    to what the labels cover, with room around. Grey values are those from the 1st to the 99th percentile.

    Args:
        image: file of the image; of several channels that are no colours the first one is shown.
        labels: files by name, on the image's grid, of the labels; of several of one name the first that says something
            of a voxel counts.
        num_classes: number of classes with background; larger values are not annotated.
        leading: the label that decides which slice comes first into view.
        most_slices: how many slices are shown; of more, evenly chosen ones of those with anatomy.

    Raises:
        UserError: a file is missing, damaged or on another grid.
    """
    volume = read_checked_volume(image)
    channels = _channels_first(volume)
    if channels.ndim not in (3, 4) or not channels.size:
        raise UserError(f"{image}: has the shape {volume.data.shape}; a report shows slices and volumes of them")
    in_colours = image.lower().endswith(".png") and len(channels) in _COLOUR_CHANNELS
    turned, spacing = _turned(channels[:3] if in_colours else channels[:1], volume, image)
    known = {
        name: _merged([_label(file, volume, image, num_classes) for file in files], num_classes)
        for name, files in labels.items()
    }
    shown = {name: _turned(label[None], volume, image)[0][0].astype(np.int64) for name, label in known.items()}
    found = {name: (label > 0) & (label < num_classes) for name, label in shown.items()}
    anatomy = np.zeros(turned.shape[1:], dtype=bool)
    for mask in found.values():
        anatomy |= mask
    chosen = _chosen_slices(anatomy, most_slices)
    extents = found.get(leading, anatomy)[chosen].sum(axis=(1, 2))
    rows, columns = (_window(np.any(anatomy, axis=axes)) for axes in ((0, 2), (0, 1)))
    grey = turned[:, chosen][:, :, rows, columns]
    picture = np.clip(grey, 0, 255).astype(np.uint8).transpose(1, 2, 3, 0) if in_colours else _grey(grey[0])
    return CaseLayers(
        picture,
        {name: label[chosen][:, rows, columns] for name, label in shown.items()},
        [int(index) + 1 for index in chosen],
        turned.shape[1],
        int(np.argmax(extents)) if extents.any() else len(chosen) // 2,
        (spacing[1], spacing[0]),
    )


def _channels_first(volume: Volume) -> np.ndarray:
    """The voxels [C, X, Y, Z] or [C, X, Y]."""
    return np.moveaxis(volume.data.reshape(*volume.shape, volume.channels), -1, 0)


def _turned(channels: np.ndarray, volume: Volume, path: str) -> tuple[np.ndarray, tuple[float, float]]:
    """Turn [C, X, Y, Z] or [C, X, Y] to slices [C, Z, rows, columns]; mm along columns and along rows."""
    meta: dict[str, Any] = {ImageMetaKey.FILENAME_OR_OBJ: path}
    affine = np.asarray(volume.affine, dtype=np.float64)
    if not path.lower().endswith(".png"):
        meta[MetaKeys.ORIGINAL_AFFINE] = affine
    voxels = torch.from_numpy(np.ascontiguousarray(channels).astype(np.float32))
    item: dict[Hashable, Any] = {"voxels": MetaTensor(voxels, affine=torch.from_numpy(affine), meta=meta)}
    turned = OrientSlicesd("voxels")(item)["voxels"]
    across, down, _ = affine_to_spacing(turned.affine).tolist()
    return turned.as_tensor().numpy().transpose(0, 3, 2, 1), (float(across), float(down))


def _label(path: str, image: Volume, image_path: str, num_classes: int) -> np.ndarray:
    volume = read_checked_volume(path)
    data = volume.data
    if volume.channels != 1:
        raise UserError(f"{path}: has {volume.channels} channels; give a label map of one")
    if data.shape != image.shape:
        raise UserError(f"{path}: shape {data.shape} differs from {image.shape} of {image_path}; is it the same case?")
    if affine_gap(volume.affine, image.affine) > AFFINE_TOLERANCE:
        raise UserError(f"{path}: lies elsewhere than {image_path}, their affines differ; is it the same case?")
    with np.errstate(invalid="ignore"):
        known = np.where((data >= 0) & (data < num_classes), data, num_classes)
    return known.astype(np.int64)


def _merged(labels: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
    merged = labels[0]
    for label in labels[1:]:
        merged = np.where(merged == num_classes, label, merged)
    return merged


def _chosen_slices(anatomy: np.ndarray, most: int) -> np.ndarray:
    """All slices or, of too many, even steps through the part that holds anatomy."""
    if len(anatomy) <= most:
        return np.arange(len(anatomy))
    holds = np.flatnonzero(anatomy.any(axis=(1, 2)))
    first, last = (holds[0], holds[-1]) if holds.size else (0, len(anatomy) - 1)
    return np.unique(np.linspace(first, last, most).round().astype(int))


def _window(holds: Any) -> slice:
    """The rows or columns that are shown: those that hold something, room around, and a least share of all."""
    places = np.flatnonzero(holds)
    if not places.size:
        return slice(0, len(holds))
    first, last = int(places[0]), int(places[-1]) + 1
    wanted = max((last - first) * (1 + 2 * _MARGIN), _LEAST_SHARE * len(holds))
    room = int(np.ceil((wanted - (last - first)) / 2))
    return slice(max(first - room, 0), min(last + room, len(holds)))


def _grey(values: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    low, high = (float(edge) for edge in np.percentile(finite, (1, 99))) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-9)
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
