"""What file names say: the case, and of a case its patient and phase."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from ..errors import UserError

__all__ = [
    "IMAGE_EXTENSIONS",
    "annotator_of",
    "case_of",
    "frame_of_case",
    "label_role",
    "patient_of_case",
    "phase_of_case",
    "stem_of",
]

IMAGE_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png")

_ROLES = {
    "scribble": "scribble",
    "scribbles": "scribble",
    "coarse": "coarse",
    "not": "not",
    "gt": "mask",
    "manual": "mask",
    "seg": "mask",
    "mask": "mask",
    "masks": "mask",
    "segmentation": "mask",
    "label": "either",
    "labels": "either",
}
# a segmentation of 3D Slicer may have both ends: p1_scribble.seg.nrrd
_ROLE_SUFFIX = re.compile(rf"[_.-]({'|'.join(_ROLES)}|scribbles?_(?P<annotator>\d+))(\.seg)?$", re.IGNORECASE)
_IMAGE_SUFFIX = re.compile(r"_(0000|image|img)$", re.IGNORECASE)
_FRAME = re.compile(r"[_-](frame\d+|ed|es|4d)$", re.IGNORECASE)


def stem_of(name: str) -> str | None:
    """A file's name without its image extension, in composed Unicode (NFC); None for a file of another sort."""
    for extension in IMAGE_EXTENSIONS:
        if name.lower().endswith(extension) and len(name) > len(extension):
            return unicodedata.normalize("NFC", name[: -len(extension)])
    return None


def label_role(stem: str) -> str | None:
    """What the end of a name says about a label file.

    Returns:
        ``"scribble"`` (``_scribble``, and ``_scribble_2`` of another annotator), ``"coarse"`` (``_coarse``, a positive
        coarse drawing), ``"not"`` (``_not``, a negative one), ``"mask"`` (``_gt``, ``_manual``, ``_seg``, ``_mask``),
        ``"either"`` (``_label``), or None for a name without such an end.
    """
    match = _ROLE_SUFFIX.search(stem)
    return _ROLES[match[1].lower().partition("_")[0]] if match else None


def is_left_out(stem: str, endings: Sequence[str] | None = None) -> bool:
    """Whether a file in a folder of images is none to be segmented, by its name without the extension.

    Args:
        stem: the file name without its extension.
        endings: the ends of names that are left out; None for labels (see :func:`label_role`) and 4D series (``_4d``).

    Raises:
        UserError: ``endings`` is no list of texts.
    """
    if endings is None:
        return label_role(stem) is not None or stem.lower().endswith("_4d")
    if not isinstance(endings, list | tuple) or not all(isinstance(ending, str) for ending in endings):
        raise UserError(f"exclude must be null or a list of ends of file names such as ['_gt'], got {endings!r}")
    return stem.endswith(tuple(endings))


def annotator_of(stem: str) -> str:
    """The number of the annotator in the name of a scribble file, such as ``_scribble_2``; empty without one."""
    match = _ROLE_SUFFIX.search(stem)
    return (match["annotator"] or "") if match else ""


def case_of(stem: str) -> str:
    """The name of the case: without the end that says what the file is (``_gt``, nnU-Net's ``_0000``, ``_image``)."""
    for suffix in (_ROLE_SUFFIX, _IMAGE_SUFFIX):
        stem = suffix.sub("", stem) or stem
    return stem


def patient_of_case(case: str, pattern: str | None = None) -> str:
    """The name of a case's patient.

    Args:
        case: name of the case.
        pattern: regular expression to find in it; its first group is the patient, without a group all that it
            matches. None takes the case's name without a frame (``_frame01``, ``_ED``, ``_ES``, ``_4d``).

    Raises:
        UserError: the pattern is no regular expression, or is not found.
    """
    if pattern is None:
        return _FRAME.sub("", case) or case
    try:
        match = re.search(pattern, case)
    except re.error as error:
        raise UserError(f"--patient_pattern {pattern!r} is no regular expression: {error}") from error
    found: Sequence[str | None] = (match.groups() or (match[0],)) if match else ()
    if not found or not found[0]:
        raise UserError(f"--patient_pattern {pattern!r} finds no patient in the name of case {case}; correct it")
    return found[0]


def frame_of_case(case: str, number: int) -> str:
    """The name of a frame as a case of its own, from 1 on; :func:`patient_of_case` leads back."""
    return f"{case}_frame{number:02d}"


def phase_of_case(case: str) -> str | None:
    """ED or ES where the case's name ends in it, else None."""
    match = _FRAME.search(case)
    return match[1].upper() if match and match[1].upper() in ("ED", "ES") else None
