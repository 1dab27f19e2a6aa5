"""The MR part of the CHAOS data set: from the official DICOM series and mask pictures to volumes and a datalist.

Layout (Kavur et al., Medical Image Analysis 2021): ``Train_Sets/MR/<patient>/`` holds ``T1DUAL/DICOM_anon/InPhase``,
``T1DUAL/DICOM_anon/OutPhase`` and ``T2SPIR/DICOM_anon`` with one ``*.dcm`` a slice, and ``T1DUAL/Ground`` and
``T2SPIR/Ground`` with one ``*.png`` a slice. As in Valvano et al. (IEEE TMI 2021, section IV-A) T1 stands for the
in-phase images. Picture n in the order of the file names belongs to slice n in the order of the file names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..transforms.scribble_skeleton import FORMS, skeleton_scribble
from .dicom_series import read_series, sort_series
from .patient_split import split_patients
from .picture_mask import read_picture_mask
from .prepared_case import empty_datalist, write_case

__all__ = ["CLASS_NAMES", "SEQUENCES", "build_chaos_datalist", "load_splits"]

CLASS_NAMES = ("background", "liver", "right kidney", "left kidney", "spleen")
SEQUENCES: dict[str, tuple[str, str]] = {"t1": ("T1DUAL", "DICOM_anon/InPhase"), "t2": ("T2SPIR", "DICOM_anon")}
"""The folder of each sequence and the folder of its images in it."""

# Kavur et al. give 63, 126, 189 and 252, and these ranges, since pictures were resaved.
_CODES = {range(1): 0, range(55, 71): 1, range(110, 136): 2, range(175, 201): 3, range(240, 256): 4}
_SPLITS_FILE = Path(__file__).with_name("splits") / "chaos.json"


class _Patient(NamedTuple):
    """A patient's files of one sequence, both in the order of their names."""

    name: str
    images: list[Path]
    masks: list[Path]


def load_splits() -> dict[str, dict[str, Any]]:
    """The published protocols by name: ``description``, ``source``, ``form`` and the patient ids of each section."""
    return json.loads(_SPLITS_FILE.read_text(encoding="utf-8"))["protocols"]


def build_chaos_datalist(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    sequence: str,
    split: str = "maag",
    form: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write the volumes, masks and scribbles of all patients of one sequence, and build their datalist.

    The scribbles are skeletons and depend on the masks alone. One patient at a time is held in memory; files of an
    earlier run are replaced.

    Args:
        source: the folder of the download, or its ``Train_Sets``, or ``MR`` itself.
        output: the folder that gets a folder for each patient.
        sequence: ``"t1"`` (in-phase) or ``"t2"``.
        split: ``"maag"``, drawn by :func:`~.patient_split.split_patients` from the patients that are there, or a name
            from :func:`load_splits`.
        form: a name in :data:`~common.transforms.scribble_skeleton.FORMS`; by default that of the split, which is
            ``"skeleton"`` for ``"maag"``.
        seed: seed of the split ``"maag"``.

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`.

    Raises:
        UserError: an option is unknown, patients or files are missing or damaged, picture and slice differ in size,
            or a series is no regular stack of slices.
    """
    known = load_splits()
    if sequence not in SEQUENCES:
        raise UserError(f'unknown CHAOS sequence "{sequence}"; choose one of {", ".join(SEQUENCES)}')
    if split != "maag" and split not in known:
        raise UserError(f'unknown CHAOS split "{split}"; choose one of maag, {", ".join(known)}')
    form = form or known.get(split, {}).get("form", "skeleton")
    if form not in FORMS:
        raise UserError(f'unknown form "{form}" of CHAOS scribbles; choose one of {", ".join(FORMS)}')
    root, folder = Path(os.path.abspath(source)), Path(os.path.abspath(output))
    patients = _find_patients(root, sequence)
    if split == "maag":
        sections = split_patients(list(patients), seed=seed)
        rule, origin = f"split 70/15/15 with seed {seed}", "CHAOS challenge, https://chaos.grand-challenge.org"
    else:
        sections = _published(known[split], patients, root)
        rule, origin = f"split {split}. {known[split]['description']}", known[split]["source"]
    content = empty_datalist(
        f"chaos_{sequence}",
        description=f"CHAOS MR {sequence.upper()}{' in-phase' if sequence == 't1' else ''}, skeletons ({form}) as "
        f"scribbles, {rule}",
        source=origin,
        class_names=CLASS_NAMES,
    )
    for section, names in sections.items():
        for name in names:
            item = _write_patient(folder / name, section, patients[name], sequence, form)
            content[section].append(item)
            if section == "training":
                content["unlabelled"].append({key: item[key] for key in ("image", "case", "patient")})
    return content


def _find_patients(root: Path, sequence: str) -> dict[str, _Patient]:
    """The patients of the training set by name, each with as many pictures as slices."""
    inner, images = SEQUENCES[sequence]
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the folder of the CHAOS download")
    for folder in (root, root / "MR", root / "Train_Sets" / "MR", root / "CHAOS_Train_Sets" / "Train_Sets" / "MR"):
        found = sorted(
            (path for path in folder.glob("[0-9]*/") if path.name.isdigit()), key=lambda path: int(path.name)
        )
        if found:
            break
    else:
        raise UserError(f"{root}: has no Train_Sets/MR/<patient> folders; name the folder of the CHAOS download")
    patients = {}
    for path in found:
        name = f"patient{int(path.name):02d}"
        files = [_files(path / inner / images, ".dcm"), _files(path / inner / "Ground", ".png")]
        patients[name] = _Patient(name, *files)
    faults = [
        f"{path.name} has {len(patient.images)} slices and {len(patient.masks)} masks"
        for path, patient in zip(found, patients.values(), strict=True)
        if not patient.images or len(patient.images) != len(patient.masks)
    ]
    if faults:
        shown = ", ".join(faults[:3]) + (", …" if len(faults) > 3 else "")
        raise UserError(
            f"{folder}: {len(faults)} patients lack files of {inner} ({shown}); restore {inner}/{images}/*.dcm and "
            f"{inner}/Ground/*.png"
        )
    return patients


def _files(folder: Path, ending: str) -> list[Path]:
    """The files of a folder in the order of the numbers in their names."""
    found = [path for path in folder.glob("*") if path.suffix.lower() == ending]
    return sorted(found, key=lambda path: [int(number) for number in re.findall(r"\d+", path.stem)] or [0])


def _published(split: Mapping[str, Any], patients: Mapping[str, _Patient], root: Path) -> dict[str, list[str]]:
    sections = {
        section: [f"patient{number:02d}" for number in split[section]]
        for section in ("training", "unpaired_masks", "validation", "test")
    }
    absent = [name for names in sections.values() for name in names if name not in patients]
    if absent:
        shown = ", ".join(absent[:3]) + (", …" if len(absent) > 3 else "")
        raise UserError(
            f"{root}: lacks {len(absent)} patients of this split ({shown}); restore them or take split maag"
        )
    return sections


def _write_patient(folder: Path, section: str, patient: _Patient, sequence: str, form: str) -> dict[str, str]:
    """Write a patient's files; gives its item."""
    series = f"{patient.name} {sequence}"
    ordered = sort_series(patient.images, series)
    namesakes = [file.stem for file in patient.images] == [file.stem for file in patient.masks]
    if not namesakes and ordered not in (patient.images, patient.images[::-1]):
        raise UserError(
            f"{series}: its slices do not follow one another in the order of their file names, so their masks cannot "
            "be told; restore the original names"
        )
    image, affine = read_series(ordered, series)
    planes = dict(zip(patient.images, patient.masks, strict=True))
    mask = np.stack([_read_mask(planes[file], image.shape[1::-1]).T for file in ordered], axis=-1)
    names = {"case": f"{patient.name}_{sequence}", "patient": patient.name}
    draw = partial(skeleton_scribble, num_classes=len(CLASS_NAMES), **FORMS[form])
    return write_case(
        folder, section, names, image=image, mask=mask, affine=affine, num_classes=len(CLASS_NAMES), draw=draw
    )


def _read_mask(file: Path, size: tuple[int, ...]) -> np.ndarray:
    mask = read_picture_mask(file, _CODES)
    if mask.shape != size:
        raise UserError(f"{file}: has {mask.shape} pixels and its DICOM slice {tuple(size)}; restore the file")
    return mask
