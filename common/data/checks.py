"""Checks of image and label files before a training starts: one line that names the file, what is wrong and the fix."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from ..errors import UserError
from ..files import NIFTI_EXTENSIONS
from ..transforms.volume_axes import AFFINE_TOLERANCE, affine_gap
from .class_names import check_number_of_names
from .label_values import label_problems
from .named_labels import read_named_label
from .stroke_warnings import stroke_problems, stroke_warnings
from .volume_reader import Volume, check_loadable, read_checked_volume

logger = logging.getLogger(__name__)

_MOST_LINES = 5
_FILES_OF_KIND = {
    "scribble": ("image", "label"),
    "dense": ("image", "label"),
    "either": ("image", "label"),
    "coarse": ("image", "label", "complement"),
    "image": ("image",),
    "mask": ("label",),
}


def check_items(
    items: Iterable[Mapping[str, Any]],
    *,
    num_classes: int,
    kind: str,
    in_channels: int | None = None,
    class_names: Sequence[str] | None = None,
    coarse: bool = False,
) -> None:
    """Check the files of datalist items, one after the other, and log what may be meant otherwise in scribbles.

    Args:
        items: datalist items with paths that can be opened.
        num_classes: number of classes C with background. Dense masks hold 0..C-1; in scribbles, 0 is annotated
            background and C is "not annotated".
        kind: ``"scribble"`` (image and scribbles; items with ``"supervision": "dense"`` bring a dense mask instead),
            ``"dense"`` (image and dense mask), ``"either"`` (image and a label of either sort), ``"coarse"`` (image
            and a positive drawing, ``"label"``, or a negative one, ``"complement"``, or both, one file each),
            ``"image"`` (image alone) or ``"mask"`` (dense mask alone).
        in_channels: number of channels of each image; None for any number, but of NIfTI one, since more may be frames.
        class_names: names of the C classes, by which labels are mapped whose segments have names, see
            :func:`.named_labels.read_named_label`; None takes every label's values as they are.
        coarse: whether such labels are coarse drawings also where ``kind`` is not ``"coarse"``.

    Raises:
        UserError: the first problem found: a file is missing or unreadable, image and label differ in shape or
            affine, the image holds NaN or infinite voxels, or the label does not hold what its kind demands; or there
            are not C names.
    """
    if class_names is not None:
        check_number_of_names(class_names, num_classes)
    warnings: list[str] = []
    for item in items:
        options: dict[str, Any] = {"in_channels": in_channels, "class_names": class_names, "coarse": coarse}
        seen = inspect_item(item, num_classes=num_classes, kind=kind, **options)
        if seen["problems"]:
            raise UserError(seen["problems"][0])
        warnings += seen["warnings"]
    for line in warnings[:_MOST_LINES]:
        logger.info(line)  # told by a training; commands that only write such files stay silent
    if len(warnings) > _MOST_LINES:
        logger.info("%d more such lines: `python -m tools check` tells all", len(warnings) - _MOST_LINES)


def inspect_item(
    item: Mapping[str, Any],
    *,
    num_classes: int,
    kind: str,
    in_channels: int | None = None,
    background_limit: float = 0.5,
    class_names: Sequence[str] | None = None,
    coarse: bool = False,
) -> dict[str, Any]:
    """Look at the files of one datalist item.

    Args:
        item: the datalist item.
        num_classes: number of classes C with background.
        kind: see :func:`check_items`.
        in_channels: see :func:`check_items`.
        background_limit: share of slices without background strokes, 0 to 1, over which scribbles get a warning.
        class_names: see :func:`check_items`.
        coarse: see :func:`check_items`.

    Returns:
        ``shape`` in voxels, ``spacing`` in mm and ``orientation`` (the axes' closest directions, such as ``"LPS"``),
        all of the image or else of the label (``None`` where neither can be read); ``intensity_range`` (the image's
        lowest and highest finite value) and ``image_checksum`` (equal for equal voxels), both ``None`` without an
        image; ``annotated_share`` (class 0..C-1 to its share of all voxels, 0 to 1; empty without a label; of the
        first of several annotators); ``problems``, a list of lines, each naming the file and the fix; ``warnings``,
        lines about scribbles that are allowed but may be meant otherwise
        (see :func:`.stroke_warnings.stroke_warnings`).

    Raises:
        ValueError: ``kind`` is unknown.
    """
    if kind not in _FILES_OF_KIND:
        raise ValueError(f"kind must be one of {', '.join(_FILES_OF_KIND)}, got {kind!r}")
    problems: list[str] = []
    files = _files(item, kind, problems)
    volumes: list[tuple[str, str, Volume | None]] = [(key, path, _read(path, key, problems)) for key, path in files]
    named: dict[str, list[tuple[str, str, Volume | None]]] = {}
    if class_names is not None:
        options: dict[str, Any] = {"num_classes": num_classes, "coarse": coarse or kind == "coarse"}
        for key, path, volume in volumes:
            if key != "image" and volume is not None:
                named |= _by_name(key, path, item, problems, class_names=class_names, **options)
    volumes = [drawn for volume in volumes for drawn in named.get(volume[1], [volume])]
    image = next((volume for key, _, volume in volumes if key == "image"), None)
    if image is not None:
        problems += _image_problems(image, item, in_channels)
    found: dict[str, Any] = {"annotated_share": {}, "problems": problems, "warnings": []}
    first_label = next((path for key, path in files if key == "label"), None)
    for key, path, label in volumes:
        if key == "image" or label is None:
            continue
        misplaced = _place_problems(label, path) if image is None else _grid_problems(image, label, path, item["image"])
        problems += misplaced
        values, numbers = np.unique(label.data, return_counts=True)
        counts = dict(zip(values.tolist(), numbers.tolist(), strict=True))
        if path == first_label and key == "label":
            found["annotated_share"] = {
                index: counts.get(index, 0) / max(label.data.size, 1) for index in range(num_classes)
            }
        # whether background is drawn, and that 0 is not background, is settled by the names
        as_kind = "either" if path in named and kind == item.get("supervision", kind) == "scribble" else kind
        wrong = label_problems(list(counts), path, item, num_classes, as_kind)
        if as_kind == "scribble" and "supervision" not in item and not wrong and not misplaced:
            wrong = stroke_problems(path, label, counts, num_classes)
        problems += wrong
        if kind == "scribble" and item.get("supervision", kind) == kind and not wrong and not misplaced:
            found["warnings"] += stroke_warnings(path, label, counts, num_classes, background_limit=background_limit)
    shown = image or next((volume for _, _, volume in volumes if volume is not None), None)
    return {
        "shape": shown.shape if shown else None,
        "spacing": shown.spacing if shown else None,
        "orientation": shown.orientation if shown else None,
        "intensity_range": _range(image.data) if image else None,
        "image_checksum": zlib.crc32(np.ascontiguousarray(image.data.T).tobytes()) if image else None,
        **found,
    }


def _files(item: Mapping[str, Any], kind: str, problems: list[str]) -> list[tuple[str, str]]:
    """The files to look at, as pairs of key and path; what the item lacks is noted."""
    keys = _FILES_OF_KIND[kind]
    name = item.get("case") or item.get("image") or item.get("label") or "an item"
    if kind == "coarse":
        keys = ("image", *([key for key in ("label", "complement") if key in item] or ["label"]))
        if isinstance(item.get("label"), list):
            line = f'{name}: lists {len(item["label"])} files as "label"; give the one of the positive drawing'
            problems.append(line)
            return []
    problems += [f'{name}: has no "{key}"; add the path of its file' for key in keys if key not in item]
    named = [(key, item[key]) for key in keys if key in item]
    return [(key, str(path)) for key, value in named for path in (value if isinstance(value, list) else [value])]


def _read(path: str, key: str, problems: list[str]) -> Volume | None:
    """The volume, or None after noting why it cannot be read or what of it cannot be trusted."""
    try:
        volume = read_checked_volume(path)
        check_loadable(path, volume)
        return volume
    except UserError as error:
        problems.append(str(error))
        return None


def _by_name(
    key: str, path: str, item: Mapping[str, Any], problems: list[str], **options: Any
) -> dict[str, list[tuple[str, str, Volume | None]]]:
    """What a label with named segments becomes, by its path; nothing for other labels."""
    try:
        found = read_named_label(path, image=item.get("image"), **options)
    except UserError as error:
        problems.append(str(error))
        return {path: []}
    if found is None:
        return {}
    affine = found.grid.affine
    spacing = tuple(float(size) for size in voxel_sizes(affine)[: len(found.grid.shape)])
    drawings = {key: found.label, "complement": found.complement}
    return {
        path: [
            (name, path, Volume(drawn, drawn.shape, affine, spacing, 1))
            for name, drawn in drawings.items()
            if drawn is not None
        ]
    }


def _range(data: np.ndarray) -> tuple[float, float] | None:
    """The lowest and the highest finite value."""
    finite = data[np.isfinite(data)] if data.dtype.kind in "fc" else data
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _image_problems(image: Volume, item: Mapping[str, Any], in_channels: int | None) -> list[str]:
    path = item["image"]
    problems = []
    problems += _place_problems(image, path)
    # the fourth axis of NIfTI is mostly time, so that its channels have to be told
    series = image.channels > 1 and str(path).endswith(NIFTI_EXTENSIONS)
    if item.get("frames") != "all" and (series if in_channels is None else image.channels != in_channels):
        expected = "" if in_channels is None else f" where --in_channels is {in_channels}"
        split = "give each frame a file, such as p01_frame01, or, only if the fourth axis is channels, "
        fix = f"{split if series else ''}set --in_channels {image.channels}"
        problems.append(f"{path}: has {image.channels} channels or frames{expected}; {fix}")
    bad = int(np.count_nonzero(~np.isfinite(image.data))) if image.data.dtype.kind in "fc" else 0
    if bad:
        problems.append(f"{path}: holds {bad} NaN or infinite voxels; replace them by numbers")
    return problems


def _place_problems(volume: Volume, path: str) -> list[str]:
    """Whether there are voxels, and whether it is said where they lie."""
    problems = []
    if 0 in volume.shape:
        problems.append(f"{path}: has no voxels, its shape is {volume.shape}; export it again")
    if not np.isfinite(volume.affine).all() or np.linalg.det(volume.affine[:3, :3]) == 0:
        problems.append(f"{path}: its affine does not say where the voxels lie, it is singular; correct the header")
    return problems


def _grid_problems(image: Volume, label: Volume, path: str, image_path: str) -> list[str]:
    """Whether the label, which has no channels or frames, lies on the image's grid."""
    fix = f"save the label on the grid of {image_path}"
    if label.data.shape != image.shape:
        return [f"{path}: shape {label.data.shape} differs from the image's {image.shape}; {fix}"]
    gap = affine_gap(image.affine, label.affine)
    if gap > AFFINE_TOLERANCE:
        return [f"{path}: affine differs from the image's by {gap:.3f} mm (tolerance {AFFINE_TOLERANCE} mm); {fix}"]
    return []
