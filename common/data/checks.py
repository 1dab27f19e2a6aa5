"""Checks of image and label files before a training starts: one line that names the file, what is wrong and the fix."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from monai.transforms import LoadImage
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from ..errors import UserError

AFFINE_TOLERANCE = 1e-3
"""Largest difference between the elements of an image's and its label's affine, in mm."""

_FILES_OF_KIND = {
    "scribble": ("image", "label"),
    "dense": ("image", "label"),
    "either": ("image", "label"),
    "image": ("image",),
    "mask": ("label",),
}
_READ_ERRORS = (OSError, EOFError, ValueError, RuntimeError, zlib.error, ImageFileError, HeaderDataError)


class _Volume(NamedTuple):
    """A file's voxels, its shape [X, Y, Z] without channels or frames, its affine and its voxel sizes in mm."""

    data: np.ndarray
    shape: tuple[int, ...]
    affine: np.ndarray
    spacing: tuple[float, ...]
    channels: int


def check_items(
    items: Iterable[Mapping[str, Any]], *, num_classes: int, kind: str, in_channels: int | None = None
) -> None:
    """Check the files of datalist items, one after the other.

    Args:
        items: datalist items with paths that can be opened.
        num_classes: number of classes C with background. Dense masks hold 0..C-1; in scribbles, 0 is annotated
            background and C is "not annotated".
        kind: ``"scribble"`` (image and scribbles; items with ``"supervision": "dense"`` bring a dense mask instead),
            ``"dense"`` (image and dense mask), ``"either"`` (image and a label of either sort), ``"image"`` (image
            alone) or ``"mask"`` (dense mask alone).
        in_channels: number of channels of each image, None for any number.

    Raises:
        UserError: the first problem found: a file is missing or unreadable, image and label differ in shape or
            affine, the image holds NaN or infinite voxels, or the label does not hold what its kind demands.
    """
    for item in items:
        problems = inspect_item(item, num_classes=num_classes, kind=kind, in_channels=in_channels)["problems"]
        if problems:
            raise UserError(problems[0])


def inspect_item(
    item: Mapping[str, Any], *, num_classes: int, kind: str, in_channels: int | None = None
) -> dict[str, Any]:
    """Look at the files of one datalist item.

    Args:
        item: the datalist item.
        num_classes: number of classes C with background.
        kind: see :func:`check_items`.
        in_channels: see :func:`check_items`.

    Returns:
        ``shape`` in voxels and ``spacing`` in mm, both of the image or else of the label (``None`` where neither can
        be read), ``annotated_share`` (class 0..C-1 to its share of all voxels, 0 to 1; empty without a label; of the
        first of several annotators), and ``problems``, a list of lines, each naming the file and the fix.

    Raises:
        ValueError: ``kind`` is unknown.
    """
    if kind not in _FILES_OF_KIND:
        raise ValueError(f"kind must be one of {', '.join(_FILES_OF_KIND)}, got {kind!r}")
    if isinstance(item.get("label"), list):
        each = [
            inspect_item({**item, "label": file}, num_classes=num_classes, kind=kind, in_channels=in_channels)
            for file in item["label"]
        ]
        return each[0] | {"problems": list(dict.fromkeys(line for found in each for line in found["problems"]))}
    problems: list[str] = []
    volumes = {key: _read(item, key, problems) for key in _FILES_OF_KIND[kind]}
    image, label = volumes.get("image"), volumes.get("label")
    if image is not None:
        problems += _image_problems(image, item, in_channels)
    if image is not None and label is not None:
        problems += _grid_problems(image, label, item)
    shares: dict[int, float] = {}
    if label is not None:
        values, counts = np.unique(label.data, return_counts=True)
        found = dict(zip(values.tolist(), counts.tolist(), strict=True))
        shares = {index: found.get(index, 0) / max(label.data.size, 1) for index in range(num_classes)}
        problems += _label_problems(list(found), item, num_classes, kind)
    shown = image or label
    return {
        "shape": shown.shape if shown else None,
        "spacing": shown.spacing if shown else None,
        "annotated_share": shares,
        "problems": problems,
    }


def _read(item: Mapping[str, Any], key: str, problems: list[str]) -> _Volume | None:
    """The file under ``key``, or None after noting why it cannot be read."""
    if key not in item:
        name = item.get("case") or item.get("image") or item.get("label") or "an item"
        problems.append(f'{name}: has no "{key}"; add the path of its file')
        return None
    path = os.fspath(item[key])
    if not os.path.exists(path):
        problems.append(f"{path}: no such file; correct the path or restore the file")
        return None
    try:
        return _read_nifti(path) if path.endswith((".nii", ".nii.gz")) else _read_other(path)
    except _READ_ERRORS:
        problems.append(f"{path}: cannot be read, it is cut short, damaged or no image; copy or export it again")
        return None


def _read_nifti(path: str) -> _Volume:
    file = nib.load(path)
    data = np.asanyarray(file.dataobj)  # type: ignore[attr-defined]
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    affine = np.asarray(file.affine)  # type: ignore[attr-defined]
    channels = int(np.prod(data.shape[3:]))
    return _Volume(data, data.shape[:3], affine, _spacing(affine, data.shape[:3]), channels)


def _read_other(path: str) -> _Volume:
    tensor = LoadImage(image_only=True, ensure_channel_first=True)(path)
    data, affine = np.asarray(tensor), np.asarray(tensor.affine)
    shape = data.shape[1:]
    return _Volume(data[0] if len(data) == 1 else data, shape, affine, _spacing(affine, shape), len(data))


def _spacing(affine: np.ndarray, shape: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(float(size) for size in voxel_sizes(affine)[: len(shape)])


def _image_problems(image: _Volume, item: Mapping[str, Any], in_channels: int | None) -> list[str]:
    path = item["image"]
    problems = []
    if 0 in image.shape:
        problems.append(f"{path}: has no voxels, its shape is {image.shape}; export it again")
    if in_channels is not None and image.channels != in_channels and item.get("frames") != "all":
        problems.append(
            f"{path}: has {image.channels} channels or frames where --in_channels is {in_channels}; set in_channels or "
            "give each frame a file"
        )
    bad = int(np.count_nonzero(~np.isfinite(image.data))) if image.data.dtype.kind in "fc" else 0
    if bad:
        problems.append(f"{path}: holds {bad} NaN or infinite voxels; replace them by numbers")
    return problems


def _grid_problems(image: _Volume, label: _Volume, item: Mapping[str, Any]) -> list[str]:
    """Whether the label, which has no channels or frames, lies on the image's grid."""
    fix = f"save the label on the grid of {item['image']}"
    if label.data.shape != image.shape:
        return [f"{item['label']}: shape {label.data.shape} differs from the image's {image.shape}; {fix}"]
    gap = float(np.abs(image.affine - label.affine).max())
    if gap > AFFINE_TOLERANCE:
        return [
            f"{item['label']}: affine differs from the image's by {gap:.3f} mm (tolerance {AFFINE_TOLERANCE} mm); {fix}"
        ]
    return []


def _label_problems(values: list[Any], item: Mapping[str, Any], num_classes: int, kind: str) -> list[str]:
    """Whether the values found in a label are those that its kind of label holds."""
    path, ignored, classes = item["label"], num_classes, f"0..{num_classes - 1}"
    supervision = {"scribble": item.get("supervision", "scribble"), "either": "either"}.get(kind, "dense")
    if supervision not in ("scribble", "dense", "either"):
        return [f'{path}: "supervision" is {supervision!r}; write "scribble" or "dense"']
    broken = [value for value in values if value != np.floor(value) or not np.isfinite(value)]
    if broken:
        return [f"{path}: label value {broken[0]:g} is no integer; resample labels with nearest neighbour"]
    unknown = [value for value in values if not 0 <= value <= ignored]
    if unknown:
        also = "" if supervision == "dense" else f" and {ignored} (not annotated)"
        return [f"{path}: unknown label value {unknown[0]:g}; allowed are {classes}{also}"]
    if supervision == "either":
        return []
    if supervision == "dense":
        if ignored not in values:
            return []
        return [
            f"{path}: holds {ignored} (not annotated) where a dense mask with {classes} is expected; "
            'list scribbles under "training"'
        ]
    problems = []
    if ignored not in values:
        problems.append(
            f"{path}: a dense mask is given where scribbles are expected, no voxel is {ignored} (not annotated); give "
            'its item "supervision": "dense" or list it under "unpaired_masks", or write unannotated voxels as '
            f"{ignored}"
        )
    if 0 not in values:
        problems.append(f"{path}: has no background scribble (value 0); draw at least one stroke on the background")
    return problems
