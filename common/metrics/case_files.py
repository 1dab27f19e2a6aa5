"""Which prediction file belongs to which reference file."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.case_names import IMAGE_EXTENSIONS, stem_of
from ..data.datalist import load_datalist
from ..data.found_files import find_images
from ..errors import UserError

__all__ = ["DEFAULT_SECTION", "Reference", "find_references", "listed", "match_predictions"]

DEFAULT_SECTION = "test"
"""The section of a datalist whose labels are the references."""

_PREDICTION_MARKS = ("_seg",)
_REFERENCE_MARKS = ("_gt", "_manual")


@dataclass(frozen=True)
class Reference:
    """A reference label: its case, its file, names that a prediction of it may bear, and what is known of it.

    ``image`` is its image's file, on whose grid a label that other programs drew is brought.
    """

    case: str
    path: str
    names: tuple[str, ...]
    patient: str | None = None
    phase: str | None = None
    image: str | None = None


def find_references(references: str | os.PathLike[str], section: str | None = None) -> list[Reference]:
    """List the reference labels of a folder or of a datalist's section.

    Args:
        references: a folder, searched with its subfolders for ``<case>_gt`` or ``<case>_manual``, else, where no file
            is called so, for ``<case>``; or a datalist, whose items are known by ``"case"`` or by their image's name.
        section: section of the datalist; by default ``DEFAULT_SECTION``.

    Returns:
        The references, sorted by case.

    Raises:
        UserError: there is none, two are of one case, or the datalist is faulty.
    """
    path = Path(os.path.expanduser(references))
    if path.is_dir():
        if section is not None:
            raise UserError(f"--section {section}: {references} is a folder; name a datalist.json or leave section out")
        found = _references_of_folder(path)
    elif path.suffix == ".json":
        found = _references_of_datalist(path, section or DEFAULT_SECTION)
    else:
        raise UserError(f"{references}: neither a folder nor a datalist.json; correct --references")
    cases: dict[str, str] = {}
    for reference in found:
        if reference.case in cases:
            other = cases[reference.case]
            raise UserError(f"{other} and {reference.path} are both of the case {reference.case}; rename or remove one")
        cases[reference.case] = reference.path
    return sorted(found, key=lambda reference: reference.case)


def match_predictions(
    folder: str | os.PathLike[str], references: Sequence[Reference]
) -> tuple[dict[str, str], list[str]]:
    """Find the prediction of each reference.

    A prediction ``<subfolders>/<case>_seg.nii.gz`` or ``<subfolders>/<case>.nii.gz`` belongs to the reference of which
    a name, with its subfolders, equals it as far as both go. Where none does, the subfolders do not count, provided
    that they are not needed to tell references apart: many programs write each prediction into a folder of its own.

    Args:
        folder: folder of the predictions, searched with its subfolders.
        references: as from :func:`find_references`.

    Returns:
        The prediction file by case, and the names of the predictions that belong to no reference.

    Raises:
        UserError: there is no prediction, none belongs to a reference, or one of two cases or two of one case.
    """
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder of the predictions")
    files = _label_files(root, _PREDICTION_MARKS)
    by_stem: dict[str, list[str]] = {}
    for name in files:
        by_stem.setdefault(name.rpartition("/")[2], []).append(name)

    case_of: dict[str, str] = {}
    found: dict[str, str] = {}
    for reference in references:
        candidates = {
            file for name in reference.names for file in by_stem.get(name.rpartition("/")[2], []) if _agree(file, name)
        } or set(by_stem.get(reference.case, []))
        if len(candidates) > 1:
            two = " and ".join(str(files[name]) for name in sorted(candidates)[:2])
            raise UserError(f"{two} are both predictions of the case {reference.case}; keep one of them")
        for name in candidates:
            if name in case_of:
                both = f"{case_of[name]} and of {reference.case}"
                raise UserError(f"{files[name]} may be a prediction of {both}; keep the images' subfolders")
            case_of[name] = reference.case
            found[reference.case] = str(files[name])
    unmatched = [name for name in files if name not in case_of]
    if not found:
        raise UserError(
            f"{folder}: no prediction belongs to a reference; predictions are {listed(unmatched, 3)}, references "
            f"{listed([reference.case for reference in references], 3)}: name predictions <case>_seg.nii.gz"
        )
    return found, unmatched


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names with commas between them, only the first ones where there are more than ``most``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _references_of_folder(folder: Path) -> list[Reference]:
    files = _label_files(folder, _REFERENCE_MARKS, marked_first=True)
    stems = [name.rpartition("/")[2] for name in files]
    counts = Counter(stems)
    short = [stem if counts[stem] == 1 else name for stem, name in zip(stems, files, strict=True)]
    return [Reference(case, str(path), (name,)) for case, (name, path) in zip(short, files.items(), strict=True)]


def _references_of_datalist(datalist: Path, section: str) -> list[Reference]:
    found = []
    for item in load_datalist(datalist, section):
        if not isinstance(item["label"], str):
            raise UserError(f'{datalist}: an item of "{section}" lists several labels; name a section with one each')
        image = Path(item["image"])
        stem = stem_of(image.name) or image.name
        case = str(item.get("case") or stem)
        names = (unicodedata.normalize("NFC", case), unicodedata.normalize("NFC", (image.parent / stem).as_posix()))
        known = {key: None if item.get(key) is None else str(item[key]) for key in ("patient", "phase")}
        found.append(Reference(case, item["label"], names, image=str(image), **known))
    return found


def _label_files(folder: Path, marks: Sequence[str], *, marked_first: bool = False) -> dict[str, Path]:
    """The label files below a folder by subfolders and name without mark and ending.

    With ``marked_first``, files without a mark are taken only where none has one: they are images beside their labels.
    """
    found = []
    for entry in find_images(str(folder)):
        if not entry.slices:  # a DICOM series is no label map
            mark = next((mark for mark in marks if entry.stem.endswith(mark) and entry.stem != mark), "")
            name = "/".join((*entry.folders, entry.stem.removesuffix(mark)))
            found.append((unicodedata.normalize("NFC", name), bool(mark), entry.path))
    if marked_first and any(marked for _, marked, _ in found):
        found = [file for file in found if file[1]]
    if not found:
        raise UserError(f"{folder}: holds no label map; expected files ending in {', '.join(IMAGE_EXTENSIONS)}")
    files: dict[str, Path] = {}
    for name, _, path in found:
        if name in files:
            raise UserError(f"{files[name]} and {path} are both of the case {name}; keep one of them")
        files[name] = path
    return files


def _agree(one: str, two: str) -> bool:
    """Whether two names with subfolders are equal from their end on, as far as both go."""
    shorter, longer = sorted((one.split("/"), two.split("/")), key=len)
    return longer[-len(shorter) :] == shorter
