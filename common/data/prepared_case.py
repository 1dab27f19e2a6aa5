"""Writing a prepared case as NIfTI: the image, the dense mask and the scribbles drawn from it, on one grid."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .checks import check_items
from .nifti_writer import write_nifti

__all__ = ["KIND_OF_SECTION", "case_generator", "empty_datalist", "write_case"]

KIND_OF_SECTION = {
    "training": "scribble",
    "unpaired_masks": "mask",
    "unlabelled": "image",
    "validation": "dense",
    "test": "dense",
}
"""A datalist's sections and the kind of files (see :mod:`.checks`) of each."""


def empty_datalist(name: str, *, description: str, source: str, class_names: Sequence[str]) -> dict[str, Any]:
    """A datalist whose sections are still to be filled."""
    head = {"name": name, "description": description, "source": source}
    classes = {"num_classes": len(class_names), "class_names": list(class_names)}
    return {**head, **classes, **{section: [] for section in KIND_OF_SECTION}}


def case_generator(seed: int, case: str) -> np.random.Generator:
    """The source of a case's draws, which depends on the seed and the case's name alone."""
    return np.random.default_rng([seed, zlib.crc32(case.encode())])


def write_case(
    folder: Path,
    section: str,
    names: Mapping[str, str],
    *,
    image: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    num_classes: int,
    draw: Callable[[np.ndarray], np.ndarray],
) -> dict[str, str]:
    """Write the files that a case needs in its section, and check them as they were written.

    Args:
        folder: the folder of the files ``<case>.nii.gz``, ``<case>_gt.nii.gz`` and ``<case>_scribble.nii.gz``.
        section: ``"training"`` (all three files), ``"unpaired_masks"`` (the mask alone), ``"validation"`` or
            ``"test"`` (image and mask).
        names: ``case``, ``patient`` and what else the datalist is to say.
        image: voxels [X, Y, Z].
        mask: dense mask [X, Y, Z], uint8 of 0..C-1.
        affine: affine [4, 4] of both, in mm towards right, anterior and superior.
        num_classes: number of classes C with background.
        draw: gives the scribbles [Z, X, Y] for the mask's slices [Z, X, Y].

    Returns:
        The item for the datalist, with absolute paths.

    Raises:
        UserError: a file cannot be written, or what was written does not hold what its section needs.
    """
    case = names["case"]
    files: dict[str, tuple[Path, np.ndarray]] = {}
    if section != "unpaired_masks":
        files["image"] = (folder / f"{case}.nii.gz", image)
    files["label"] = (folder / f"{case}_gt.nii.gz", mask)
    if section == "training":
        files["dense_label"] = files["label"]
        scribbles = np.moveaxis(draw(np.ascontiguousarray(np.moveaxis(mask, -1, 0))), 0, -1)
        files["label"] = (folder / f"{case}_scribble.nii.gz", scribbles)
    for path, voxels in files.values():
        write_nifti(path, voxels, affine)
    item = {key: str(path) for key, (path, _) in files.items()} | dict(names)
    check_items([item], num_classes=num_classes, kind=KIND_OF_SECTION[section])
    return item
