"""Matching the images, scribbles or coarse drawings, and dense masks of one's own data by the names of the cases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .case_names import label_role, patient_of_case, phase_of_case, stem_of
from .found_files import Found, find_images
from .named_labels import IMPORT, NUMBERED_BY_SEGMENT
from .naming_cases import how_to_rename, name_images, name_labels

__all__ = ["OwnCase", "find_cases"]

_OPTIONS = {"image": "--images", "scribble": "--labels", "mask": "--masks"}
_NAMES = {
    "image": "an image",
    "scribble": "scribbles (_scribble) or a coarse drawing (_coarse, _not)",
    "mask": "a dense mask (_gt, _seg)",
}
_COARSE = ("coarse", "not")
_ENDS = {"scribble": ("scribble", *_COARSE), "mask": ("mask",)}


class OwnCase(NamedTuple):
    """What there is of a case: an image, drawings or a mask, at least one of them.

    ``scribbles`` are those of several annotators, or the positive coarse drawing; ``complement`` is the negative one.
    """

    name: str
    patient: str
    phase: str | None
    image: Found | None = None
    scribbles: tuple[Path, ...] = ()
    mask: Path | None = None
    complement: Path | None = None

    @property
    def annotated(self) -> bool:
        """Whether there are drawings, scribbles or coarse ones."""
        return bool(self.scribbles or self.complement)

    @property
    def coarse(self) -> bool:
        """Whether the drawings are coarse ones."""
        return any(label_role(stem_of(path.name) or "") == "coarse" for path in self.scribbles) or bool(self.complement)


def find_cases(
    images: str,
    labels: str | None = None,
    masks: str | None = None,
    *,
    patient_pattern: str | None = None,
    skip: Path | None = None,
) -> list[OwnCase]:
    """Find the files and match them.

    A case is called as its image file, without an end such as ``_0000``; label files are called the same, with or
    without ``_scribble``, ``_gt``, ``_manual``, ``_seg``, ``_mask`` or ``_label``. Coarse drawings have to end in
    ``_coarse``, the positive one, and ``_not``, the negative one. Where all images are called alike
    (``p1/image.nii.gz``, ``p2/image.nii.gz``), and for DICOM series, the folders name the case. Where a folder is
    named for images and labels, or for scribbles and masks, these ends tell them apart.

    Args:
        images: folder or pattern, see :func:`~.found_files.find_images`.
        labels: folder or pattern of the scribbles, or of the coarse drawings.
        masks: folder or pattern of the dense masks.
        patient_pattern: see :func:`~.case_names.patient_of_case`.
        skip: a folder not to search.

    Returns:
        The cases, sorted by name. A mask need not have an image.

    Raises:
        UserError: nothing is found, a name is ambiguous, drawings have no image, scribbles and coarse drawings are
            mixed, a file has two roles, or a label file is none.
    """
    sources = {"image": images, "scribble": labels, "mask": masks}
    given = {role: source for role, source in sources.items() if source is not None}
    found = {role: _of_role(role, given, skip) for role in given}
    _check_roles(found)
    pictures = name_images(found["image"])
    drawings, complements = _drawings(found.get("scribble", []), pictures)
    contours = name_labels(found.get("mask", []), pictures, _OPTIONS["mask"])
    drawn = complements | drawings
    lost = [name for name in drawn if name not in pictures]
    if lost:
        raise UserError(
            f"scribbles of {len(lost)} of {len(drawn)} cases have no image of their name, first "
            f"{drawn[lost[0]][0].path}; {how_to_rename(lost[0], pictures)}, or complete --images"
        )
    double = next((entries for entries in contours.values() if len(entries) > 1), None)
    if double:
        raise UserError(f"{double[0].path} and {double[1].path} are masks of one case; keep one")
    return [
        OwnCase(
            name,
            patient_of_case(name, patient_pattern),
            phase_of_case(name),
            pictures.get(name),
            tuple(entry.path for entry in drawings.get(name, [])),
            contours[name][0].path if name in contours else None,
            complements[name][0].path if name in complements else None,
        )
        for name in sorted({*pictures, *contours})
    ]


def _drawings(
    found: Sequence[Found], pictures: Mapping[str, Found]
) -> tuple[dict[str, list[Found]], dict[str, list[Found]]]:
    """Scribbles or positive coarse drawings by case, and negative ones, which are of another meaning."""
    strokes, positive, negative = (
        name_labels([entry for entry in found if chosen(label_role(entry.stem))], pictures, _OPTIONS["scribble"])
        for chosen in (lambda role: role not in _COARSE, lambda role: role == "coarse", lambda role: role == "not")
    )
    coarse = negative | positive
    if strokes and coarse:
        name = next((name for name in strokes if name in coarse), next(iter(strokes)))
        other = coarse.get(name) or next(iter(coarse.values()))
        raise UserError(
            f"{strokes[name][0].path} is called like scribbles, {other[0].path} like a coarse drawing, and no training "
            "takes both; let --labels be a pattern of one sort, or call a positive coarse drawing <case>_coarse"
        )
    return positive or strokes, negative


def _of_role(role: str, sources: Mapping[str, str], skip: Path | None) -> list[Found]:
    """The files of one role: not those in another role's folder, nor those whose names tell of another role."""
    found = find_images(sources[role], skip=skip)
    folders = {key: Path(os.path.realpath(os.path.expanduser(source))) for key, source in sources.items()}
    own = folders.pop(role)
    if own.is_dir():
        inner = [folder for folder in folders.values() if folder.is_dir() and own in folder.parents]
        found = [entry for entry in found if not any(_lies_in(entry.path, folder) for folder in inner)]
    same = {key for key, folder in folders.items() if folder == own}
    if role == "image":
        found = [entry for entry in found if entry.slices or label_role(entry.stem) is None]
    elif "image" in same:
        found = [entry for entry in found if not entry.slices and label_role(entry.stem) is not None]
    if role != "image" and same - {"image"}:
        found = [entry for entry in found if label_role(entry.stem) in _ENDS[role]]
    if not found:
        raise UserError(
            f"{sources[role]}: no file there is called like {_NAMES[role]}; give {_OPTIONS[role]} as a pattern"
        )
    return found


def _lies_in(path: Path, folder: Path) -> bool:
    return folder in Path(os.path.realpath(path)).parents


def _check_roles(found: Mapping[str, Sequence[Found]]) -> None:
    """Whether each file has one role."""
    roles: dict[str, str] = {}
    for role, entries in found.items():
        for entry in entries:
            other = roles.setdefault(os.path.realpath(entry.path), role)
            if other != role:
                raise UserError(f"{entry.path}: is given as {other} and as {role}; name separate folders or patterns")
            if role != "image" and entry.slices:
                raise UserError(f"{entry.path}: is a DICOM series; save labels as NIfTI, NRRD or MetaImage")
            if role == "mask" and label_role(entry.stem) in _COARSE:
                raise UserError(
                    f"{entry.path}: is called like a coarse drawing and given as a dense mask; name it by --labels, "
                    "and let --masks be another folder or a pattern"
                )
            if role != "image" and entry.path.name.lower().endswith(".seg.nrrd"):
                raise UserError(f"{entry.path}: {NUMBERED_BY_SEGMENT}; {IMPORT}")
