"""The LVSC data set: from the official cine DICOM files and mask pictures to volumes, scribbles and a datalist.

Layout of the left ventricle segmentation challenge (STACOM 2011, Cardiac Atlas Project; Suinesiaputra et al., Medical
Image Analysis 2014): a folder for each patient holds ``<patient>_SA<slice>_ph<phase>.dcm``, the short-axis slices of
all phases of the heart's cycle, long-axis slices beside them, and for the 100 patients with reference masks a picture
``<patient>_SA<slice>_ph<phase>.png`` of the same name, non-zero on the myocardium. Slice numbers need not follow the
anatomy: slices are put in order by their place in the scanner.

The masks cover all phases; as in Valvano et al. (IEEE TMI 2021, section IV-A) only end-diastole and end-systole are
used. End-diastole (ED) is the first phase, since the acquisition is triggered by the R wave. End-systole (ES) is the
phase with the smallest cavity: the pixels that the convex hull of a slice's myocardium holds beside the myocardium,
over all slices. Unlike a filled ring, the hull measures open rings at the base too.
"""

from __future__ import annotations

import logging
import os
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image

from ..errors import UserError
from ..transforms.scribble_random_walk import MOVES, random_walk_scribble, random_walk_v2
from ..transforms.volume_axes import AFFINE_TOLERANCE, affine_gap
from .checks import check_items
from .dicom_series import read_series, sort_series
from .nifti_writer import write_nifti
from .patient_split import split_patients
from .picture_mask import read_picture_mask
from .prepared_case import case_generator, empty_datalist, write_case

__all__ = ["CLASS_NAMES", "FORMS", "build_lvsc_datalist"]

CLASS_NAMES = ("background", "MYO")
FORMS = (*MOVES, "v2")
"""How scribbles are drawn: the moves of the paper's random walk, or the authors' later walk."""

_FILE = re.compile(r"(?P<patient>.+)_SA(?P<slice>\d+)_ph(?P<phase>\d+)\.(?P<kind>dcm|png)", re.IGNORECASE)
_CODES = {range(1): 0, range(1, 65536): 1}

logger = logging.getLogger(__name__)


class _Patient(NamedTuple):
    """A patient's files by (phase, slice)."""

    name: str
    images: dict[tuple[int, int], Path]
    masks: dict[tuple[int, int], Path]

    @property
    def phases(self) -> list[int]:
        return sorted({phase for phase, _ in self.images})

    def of_phase(self, phase: int) -> dict[Path, Path]:
        """The mask of each image of a phase."""
        return {image: self.masks[key] for key, image in sorted(self.images.items()) if key[0] == phase}

    def missing(self) -> list[str]:
        """The names of the files that a complete set of all slices in all phases would have besides."""
        slices = sorted({number for _, number in [*self.images, *self.masks]})
        phases = sorted({phase for phase, _ in [*self.images, *self.masks]})
        stems = {(phase, number): f"{self.name}_SA{number}_ph{phase}" for phase in phases for number in slices}
        kinds = ((".dcm", self.images), (".png", self.masks))
        return [stem + kind for key, stem in stems.items() for kind, files in kinds if key not in files]


def build_lvsc_datalist(
    source: str | os.PathLike[str], output: str | os.PathLike[str], *, form: str = "diag", seed: int = 0
) -> dict[str, Any]:
    """Write the volumes, masks and scribbles of all patients with masks, and build their datalist.

    The patients are divided by :func:`~.patient_split.split_patients`. The scribbles are random walks on the slices'
    own grid; those of a case depend on the seed and the case's name alone. ``unlabelled`` holds the training patients'
    whole cine series (``"frames": "all"``). One patient at a time is held in memory; files of an earlier run are
    replaced.

    Args:
        source: a folder with the patients' folders somewhere below it.
        output: the folder that gets a folder for each patient.
        form: one of :data:`FORMS`.
        seed: seed of the split and of the scribbles.

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`.

    Raises:
        UserError: ``form`` is unknown, there is no patient with masks or too few, files are missing or damaged, a
            mask and its slice differ in size, or a series is no regular stack of slices.
    """
    if form not in FORMS:
        raise UserError(f'unknown form "{form}" of LVSC scribbles; choose one of {", ".join(FORMS)}')
    root, folder = Path(os.path.abspath(source)), Path(os.path.abspath(output))
    patients = _find_patients(root)
    sections = split_patients(list(patients), seed=seed)
    content = empty_datalist(
        "lvsc",
        description=f"LVSC, myocardium at end-diastole and end-systole, {len(patients)} patients split 70/15/15 "
        f"with seed {seed}, half of the training patients with random walks ({form}) as scribbles.",
        source="Left ventricle segmentation challenge, STACOM 2011, Cardiac Atlas Project.",
        class_names=CLASS_NAMES,
    )
    for section, names in sections.items():
        for name in names:
            patient = patients[name]
            content[section] += _write_patient(folder / name, section, patient, form, seed)
            if section == "training":
                content["unlabelled"].append(_write_cine(folder / name, patient))
    return content


def _find_patients(root: Path) -> dict[str, _Patient]:
    """The patients with masks, all of whose files are there."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the folder of the LVSC download")
    patients: dict[str, _Patient] = {}
    for parent, _, names in os.walk(root):
        for name in names:
            match = _FILE.fullmatch(name)
            if match is None:
                continue
            patient = patients.setdefault(match["patient"], _Patient(match["patient"], {}, {}))
            files = patient.images if match["kind"].lower() == "dcm" else patient.masks
            key = int(match["phase"]), int(match["slice"])
            if key in files:
                raise UserError(f"{parent}/{name}: is there twice, see {files[key]}; keep one of them")
            files[key] = Path(parent, name)
    annotated = {name: patients[name] for name in sorted(patients) if patients[name].masks}
    if not annotated:
        raise UserError(f"{root}: no <patient>_SA<slice>_ph<phase>.dcm with its mask .png; name the LVSC download")
    if len(annotated) < len(patients):
        logger.info("%d patients without masks are left out", len(patients) - len(annotated))
    missing = [file for patient in annotated.values() for file in patient.missing()]
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(f"{root}: lacks {len(missing)} LVSC files ({shown}); restore them or leave the patients out")
    return annotated


def _write_patient(folder: Path, section: str, patient: _Patient, form: str, seed: int) -> list[dict[str, str]]:
    """Write the two frames of a patient; gives their items."""
    items = []
    for label, phase in zip(("ED", "ES"), _ed_and_es(patient), strict=True):
        files = patient.of_phase(phase)
        names = {"case": f"{patient.name}_ph{phase}", "patient": patient.name, "phase": label}
        series = f"{patient.name} phase {phase}"
        ordered = sort_series(list(files), series)
        image, affine = read_series(ordered, series)
        mask = np.stack([_read_mask(files[file], image.shape[1::-1]).T for file in ordered], axis=-1)
        rng = case_generator(seed, names["case"])
        walk = random_walk_v2 if form == "v2" else partial(random_walk_scribble, moves=form)
        draw = partial(walk, num_classes=len(CLASS_NAMES), rng=rng)
        item = write_case(
            folder, section, names, image=image, mask=mask, affine=affine, num_classes=len(CLASS_NAMES), draw=draw
        )
        items.append(item)
    return items


def _ed_and_es(patient: _Patient) -> tuple[int, int]:
    """The numbers of the phases at end-diastole and end-systole."""
    diastole, *others = patient.phases
    cavities = {phase: _cavity(list(patient.of_phase(phase).values())) for phase in others}
    measured = {phase: cavity for phase, cavity in cavities.items() if cavity is not None}
    if not measured or _cavity(list(patient.of_phase(diastole).values())) is None:
        raise UserError(
            f"{patient.name}: no myocardium in the masks of phase {diastole} or of all others; ED and ES cannot be "
            "found, leave the patient out"
        )
    return diastole, min(measured, key=lambda phase: measured[phase])


def _cavity(files: list[Path]) -> int | None:
    """Pixels of the cavity in all slices of a phase; None where no slice has myocardium."""
    pixels, found = 0, False
    for file in files:
        mask = _read_mask(file).astype(bool)
        if mask.any():
            found = True
            window = mask[ndimage.find_objects(mask.astype(np.uint8))[0]]
            pixels += int((convex_hull_image(window) & ~window).sum())
    return pixels if found else None


def _read_mask(file: Path, size: tuple[int, ...] | None = None) -> np.ndarray:
    """A mask [rows, columns] of 0 and 1, of the given size."""
    mask = read_picture_mask(file, _CODES)
    if size is not None and mask.shape != tuple(size):
        raise UserError(f"{file}: has {mask.shape} pixels and its DICOM slice {tuple(size)}; restore the file")
    return mask


def _write_cine(folder: Path, patient: _Patient) -> dict[str, str]:
    """Write all phases of a patient as one series; gives its item."""
    frames: list[np.ndarray] = []
    grid: np.ndarray | None = None
    for phase in patient.phases:
        voxels, affine = read_series(list(patient.of_phase(phase)), f"{patient.name} phase {phase}")
        grid = affine if grid is None else grid
        if frames and (voxels.shape != frames[0].shape or affine_gap(affine, grid) > AFFINE_TOLERANCE):
            raise UserError(
                f"{patient.name}: phase {phase} has another grid than phase {patient.phases[0]}; leave the patient out"
            )
        frames.append(voxels)
    path = folder / f"{patient.name}_cine.nii.gz"
    write_nifti(path, np.stack(frames, axis=-1), np.asarray(grid))
    item = {"image": str(path), "frames": "all", "case": f"{patient.name}_cine", "patient": patient.name}
    check_items([item], num_classes=len(CLASS_NAMES), kind="image")
    return item
