"""Finding label files, in a folder, by a pattern, or one by its name, and naming their cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .case_names import label_role
from .found_files import Found, find_images
from .label_volume import EXTENSIONS
from .naming_cases import name_images

__all__ = ["LabelFile", "find_label_files"]

_SIMULATED = re.compile(r"_(scribble|coarse|not)(_\d+)?$", re.IGNORECASE)


class LabelFile(NamedTuple):
    """A label file and the name of its case."""

    path: Path
    case: str


def find_label_files(source: str, *, option: str, roles: Sequence[str] = ("mask", "either")) -> list[LabelFile]:
    """Find label files.

    The name of a file's case is without the end that tells its role, see :mod:`.case_names`; where all files are
    called alike their folders name the cases. In a folder with files whose names tell a role and others, which then
    are images, only the former are taken. What simulated annotations are called is no dense mask, so that these can
    be written to the folder of the masks.

    Args:
        source: a folder, a pattern or a file, see :func:`~.found_files.find_images`.
        option: the option that names them, for messages.
        roles: the roles looked for, see :func:`~.case_names.label_role`.

    Returns:
        The files, sorted by their case.

    Raises:
        UserError: there is none, the folder is unreadable, or two files are of the same case.
    """
    found = [entry for entry in find_images(source) if entry.path.name.lower().endswith(EXTENSIONS)]
    if Path(source).expanduser().is_dir():
        found = _of_roles(found, roles)
    if not found:
        ends = "such as _gt, _mask or _seg" if "mask" in roles else "such as _scribble or _label"
        raise UserError(
            f"{source}: no label file found; give a folder of files ending in {', '.join(EXTENSIONS)}, or a pattern "
            f"(their names may have ends {ends})"
        )
    cases = name_images(found, option=option)
    return [LabelFile(cases[case].path, case) for case in sorted(cases)]


def _of_roles(found: Sequence[Found], roles: Sequence[str]) -> list[Found]:
    if "scribble" not in roles:
        found = [entry for entry in found if not _SIMULATED.search(entry.stem)]
    named = [entry for entry in found if label_role(entry.stem) in roles]
    return named or list(found)
