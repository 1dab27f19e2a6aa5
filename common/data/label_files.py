"""Finding label files, in a folder, by a pattern, or one by its name, and naming their cases and annotations."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..files import remove_leftovers
from .case_names import label_role
from .found_files import Found, find_images
from .label_volume import EXTENSIONS
from .naming_cases import name_images

__all__ = ["LabelFile", "annotation_file", "earlier_annotations", "find_label_files", "label_entries"]

_SIMULATED = re.compile(r"_(scribble|coarse|not)(_\d+)?$", re.IGNORECASE)


class LabelFile(NamedTuple):
    """A label file and the name of its case."""

    path: Path
    case: str


def find_label_files(source: str, *, option: str, roles: Sequence[str] = ("mask", "either")) -> list[LabelFile]:
    """Find label files and name their cases.

    The name of a file's case is without the end that tells its role, see :mod:`.case_names`; where all files are
    called alike their folders name the cases.

    Args:
        source: see :func:`label_entries`.
        option: the option that names them, for messages.
        roles: see :func:`label_entries`.

    Returns:
        The files, sorted by their case.

    Raises:
        UserError: there is none, the folder is unreadable, or two files are of the same case.
    """
    cases = name_images(label_entries(source, roles=roles), option=option)
    return [LabelFile(cases[case].path, case) for case in sorted(cases)]


def label_entries(source: str, *, roles: Sequence[str], skip: Path | None = None) -> list[Found]:
    """Find label files.

    In a folder with files whose names tell a role and others, which then are images, only the former are taken. What
    simulated annotations are called is no dense mask, so that these can be written to the folder of the masks.

    Args:
        source: a folder, a pattern or a file, see :func:`~.found_files.find_images`.
        roles: the roles looked for, see :func:`~.case_names.label_role`.
        skip: a folder not to search.

    Returns:
        The files, sorted by path.

    Raises:
        UserError: there is none, or the folder is unreadable.
    """
    found = [entry for entry in find_images(source, skip=skip) if entry.path.name.lower().endswith(EXTENSIONS)]
    if os.path.isdir(os.path.expanduser(source)):
        found = _of_roles(found, roles)
    if not found:
        ends = "such as _gt, _mask or _seg" if "mask" in roles else "such as _scribble or _label"
        raise UserError(
            f"{source}: no label file found; give a folder of files ending in {', '.join(EXTENSIONS)}, or a pattern "
            f"(their names may have ends {ends})"
        )
    return found


def annotation_file(folder: Path, name: str, *sources: Path) -> Path:
    """The file that an annotation is written to, without what a killed process left beside it.

    Args:
        folder: the output folder.
        name: the file's name there.
        sources: the files that the annotation is made from, the first of them its label.

    Raises:
        UserError: the name leads out of the folder, is hidden or none, or the file is one of the sources.
    """
    path = folder / name
    if os.path.isabs(name) or ".." in Path(name).parts:
        raise UserError(f"{sources[0]}: its case {name} leads out of the output folder; rename the case")
    if any(part.startswith(".") for part in Path(name).parts):
        raise UserError(f"{sources[0]}: its case {name} would be a hidden file; rename the case")
    try:
        is_source = path.exists() and any(path.samefile(source) for source in sources)
    except OSError as error:
        raise UserError(f"{sources[0]}: no file can be called {name} ({error.strerror}); rename the case") from error
    if is_source:
        raise UserError(f"{path}: is what its annotation is made from, and would be replaced; choose another --output")
    remove_leftovers(path)
    return path


def earlier_annotations(folder: Path, cases: Iterable[str], written: Iterable[str]) -> list[str]:
    """A warning for each annotation of some cases that lies in a folder beside those written now, by its name.

    They are of an earlier run with more annotators or of another kind, or drawn by hand, so that they cannot be
    replaced unasked; found with the others, they would train as well.

    Args:
        folder: the output folder.
        cases: the cases annotated now.
        written: the files written now.
    """
    now = {os.path.abspath(path) for path in written}
    bases = {os.path.abspath(folder / case) for case in cases}
    told = []
    for parent in sorted({os.path.dirname(base) for base in bases}):
        for path in sorted(Path(parent).glob("*.nii.gz")):
            stem = str(path).removesuffix(".nii.gz")
            kind = _SIMULATED.search(stem)
            if kind and stem[: kind.start()] in bases and str(path) not in now:
                told.append(f"{path} was there before; take it away, or `datalist` finds it beside the new ones")
    return told


def _of_roles(found: Sequence[Found], roles: Sequence[str]) -> list[Found]:
    if "scribble" not in roles:
        found = [entry for entry in found if not _SIMULATED.search(entry.stem)]
    named = [entry for entry in found if label_role(entry.stem) in roles]
    return named or list(found)
