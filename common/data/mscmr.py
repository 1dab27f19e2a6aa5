"""The MSCMR data set with expert scribbles: from its released folders to a datalist.

Layout (release of Zhang and Zhuang, CVPR 2022): ``train/images/`` holds ``subject<N>_DE.nii.gz``, the late gadolinium
enhancement MR of a patient, and ``train/labels/`` its scribbles ``subject<N>_DE_scribble.nii.gz``; in the twin folders
of ``val/`` and ``TestSet/`` the labels are dense masks ``subject<N>_DE_manual.nii.gz``. A copy of it may call the last
one ``test/``. Labels are 0 background, 1 right ventricle, 2 myocardium and 3 left ventricle; in scribbles, 4 is not
annotated.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..errors import UserError
from .prepared_case import empty_datalist

__all__ = ["CLASS_NAMES", "build_mscmr_datalist"]

CLASS_NAMES = ("background", "RV", "MYO", "LV")

_LABELS = {"training": ("train", "_scribble"), "validation": ("val", "_manual")}
_TEST = ("TestSet", "test")
_ENDING = ".nii.gz"


def build_mscmr_datalist(source: str | os.PathLike[str]) -> dict[str, Any]:
    """Build the datalist of the released split; all files are used where they lie.

    ``unlabelled`` holds the training images once more. A training image with a dense mask beside its scribbles gets it
    as ``dense_label``. Test data are read from ``TestSet/``, as released, or ``test/``; without either there are none.

    Args:
        source: the folder that holds ``train/`` and ``val/``, or the folder that this folder lies in.

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`.

    Raises:
        UserError: folders are missing, images without labels or labels without images are there (the line names what
            is missing), or there is both a ``TestSet/`` and a ``test/``.
    """
    root = _root(Path(os.path.abspath(source)))
    tests = [root / name for name in _TEST if (root / name / "images").is_dir()]
    if len(tests) > 1:
        raise UserError(f"{tests[0]} and {tests[1]}: are both folders of test data; keep one")
    sections = {section: _items(root / folder, suffix) for section, (folder, suffix) in _LABELS.items()}
    sections["test"] = _items(tests[0], "_manual") if tests else []
    content = empty_datalist(
        "mscmr",
        description="MSCMRseg, late gadolinium enhancement MR, the split of CycleMix's release.",
        source="Images: Zhuang, Multivariate Mixture Model for Myocardial Segmentation Combining Multi-Source Images, "
        "IEEE TPAMI 2019. Scribbles and split: Zhang and Zhuang, CycleMix, CVPR 2022.",
        class_names=CLASS_NAMES,
    )
    training = [{key: item[key] for key in ("image", "case", "patient")} for item in sections["training"]]
    return content | sections | {"unlabelled": training}


def _root(folder: Path) -> Path:
    """The folder of ``train/`` and ``val/``."""
    for root in (folder, *sorted(folder.glob("*/"))):
        if all((root / name / "images").is_dir() for name in ("train", "val")):
            return root
    raise UserError(f"{folder}: has no train/images and val/images; name the folder of the MSCMR download")


def _items(folder: Path, suffix: str) -> list[dict[str, str]]:
    """The items of a folder with images and labels, by ascending subject."""
    images = _subjects(folder / "images", "")
    labels = _subjects(folder / "labels", suffix)
    masks = _subjects(folder / "labels", "_manual") if suffix != "_manual" else {}
    if not images:
        raise UserError(f"{folder / 'images'}: holds no subject<N>_DE.nii.gz; restore its files")
    lacking = {"labels": (suffix, images.keys() - labels.keys())}
    lacking["images"] = ("", (labels.keys() | masks.keys()) - images.keys())
    for name, (ending, numbers) in lacking.items():
        if numbers:
            missing = ", ".join(f"subject{number}_DE{ending}{_ENDING}" for number in sorted(numbers))
            raise UserError(f"{folder / name}: lacks {len(numbers)} files ({missing}); restore them")
    items = []
    for number in sorted(images):
        files = {"image": images[number], "label": labels[number]}
        files |= {"dense_label": masks[number]} if number in masks else {}
        names = {"case": f"subject{number}_DE", "patient": f"subject{number}"}
        items.append({key: str(file) for key, file in files.items()} | names)
    return items


def _subjects(folder: Path, suffix: str) -> dict[int, Path]:
    """The files of one kind by their subjects' numbers."""
    pattern = re.compile(rf"subject(\d+)_DE{suffix}{re.escape(_ENDING)}")
    return {int(match[1]): file for file in folder.glob("*") if (match := pattern.fullmatch(file.name))}
