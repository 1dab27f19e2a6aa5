"""The cases of a prediction: image files and DICOM series, each with a name that no other has."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..transforms.save_segmentation import segmentation_path
from .case_names import IMAGE_EXTENSIONS, frame_of_case, is_left_out, stem_of
from .dicom_folder import DicomSeries, split_series
from .found_files import Found, find_images

__all__ = ["PredictionCase", "list_cases"]

_POSTFIX = "_seg"
_LONGEST_DESCRIPTION = 40


class PredictionCase(NamedTuple):
    """What is to be segmented.

    Attributes:
        name: the case's name, unique, with the folders that lead to it; the label map's path without its end.
        extension: the end of the label map's file, ``.nii.gz`` or ``.png``.
        source: the image file, or the folder of the DICOM series.
        slices: the DICOM files of the series; empty for an image file.
        problem: the line that says why it cannot be segmented, if that is known already.
    """

    name: str
    extension: str
    source: Path
    slices: tuple[Path, ...] = ()
    problem: str | None = None

    def files(self, *, dicom_seg: bool) -> list[str]:
        """The files of the result, below the output folder; a series' DICOM SEG object comes last."""
        label_map = f"{self.name}{_POSTFIX}{self.extension}"
        return [label_map, f"{self.name}{_POSTFIX}.dcm"] if self.slices and dicom_seg else [label_map]


def list_cases(source: str, *, output_dir: Path, exclude: Sequence[str] | None = None) -> list[PredictionCase]:
    """List what is to be segmented: NIfTI, NRRD, MetaImage and PNG files and DICOM series.

    Label maps are named as :func:`~..transforms.save_segmentation.segmentation_path` names them. A DICOM folder with
    one series gives a case with the folder's name, one with several a folder of cases with the series' numbers and
    descriptions; each frame of a cine series is a case, ``_frame01`` and so on. Where two would have one name
    (``a.nrrd`` beside ``a.nii.gz``), all of these get their extension appended.

    Args:
        source: an image file, a folder that is searched with its subfolders, a folder of DICOM files, or a pattern.
        output_dir: the folder of the results, which is not searched, unless it is ``source`` itself.
        exclude: ends of file names, before the extension, that are left out; None as
            :func:`~.case_names.is_left_out`. A single file is never left out.

    Returns:
        The cases, sorted by name. One whose source is known to be unfit has its ``problem`` set.

    Raises:
        UserError: nothing is found, or a folder cannot be searched (see :func:`.found_files.find_images`).
    """
    path = Path(os.path.abspath(os.path.expanduser(source)))
    alone = os.path.isfile(path)
    if alone and stem_of(path.name) is None:
        kinds = f"expected one of {', '.join(IMAGE_EXTENSIONS)}, or the folder of a DICOM series"
        raise UserError(f"{path}: not an image file; {kinds}")
    found = find_images(source, skip=_to_skip(path, output_dir))
    images = [entry for entry in found if not entry.slices]
    kept = images if alone else [entry for entry in images if not is_left_out(entry.stem, exclude)]
    cases = [_image_case(entry) for entry in kept]
    cases += [case for entry in found if entry.slices for case in _series_cases(entry)]
    if not cases:
        names = "names that mark labels or 4D series" if exclude is None else f"names ending in {', '.join(exclude)}"
        others = names if images else "DICOM objects that are no scans"
        raise UserError(f"{source}: no image found but {others}; name the folder of the images")
    return sorted(_told_apart(cases), key=lambda case: case.name)


def _to_skip(path: Path, output_dir: Path) -> Path | None:
    root = path
    while not os.path.exists(root):  # of a pattern, the folder that it starts from
        root = root.parent
    return None if os.path.realpath(root) == os.path.realpath(output_dir) else output_dir


def _image_case(entry: Found) -> PredictionCase:
    label_map = segmentation_path(entry.path, output_dir=Path(os.sep, *entry.folders), data_root_dir=entry.path)
    extension = ".png" if label_map.suffix == ".png" else ".nii.gz"
    name = label_map.relative_to(os.sep).as_posix().removesuffix(f"{_POSTFIX}{extension}")
    return PredictionCase(name, extension, Path(os.path.abspath(entry.path)))


def _series_cases(entry: Found) -> list[PredictionCase]:
    own = "/".join(entry.folders)
    try:
        series = split_series(entry.slices)
    except UserError as error:
        return [PredictionCase(own or entry.path.name, ".nii.gz", entry.path, entry.slices, str(error))]
    labels = {each.uid: _series_label(each) for each in series}
    twice = Counter(labels.values())
    names = {
        uid: f"{label}_{hashlib.sha256(uid.encode()).hexdigest()[:6]}" if twice[label] > 1 else label
        for uid, label in labels.items()
    }
    cases = []
    for each in series:
        name = "/".join(filter(None, [own, names[each.uid]])) if len(names) > 1 else own or entry.path.name
        if each.frame is not None:
            name = frame_of_case(name, each.frame)
        cases.append(PredictionCase(name, ".nii.gz", entry.path, each.files, each.problem))
    return cases


def _series_label(series: DicomSeries) -> str:
    """Number and description of a series as a file may be called."""
    number = "series" if series.number is None else f"{series.number:03d}"
    words = re.sub(r"[^\w.+-]+", "_", series.description)[:_LONGEST_DESCRIPTION].strip("._")
    return f"{number}_{words}" if words else number


def _told_apart(cases: Sequence[PredictionCase]) -> list[PredictionCase]:
    """The cases with their kind of file appended to names that several have."""
    named = Counter(case.name for case in cases)
    renamed = [case._replace(name=f"{case.name}_{_kind(case)}") if named[case.name] > 1 else case for case in cases]
    taken: dict[str, PredictionCase] = {}
    for case in renamed:
        if case.name in taken:
            raise UserError(
                f"{taken[case.name].source} and {case.source} have one name, {case.name}: rename one of them"
            )
        taken[case.name] = case
    return renamed


def _kind(case: PredictionCase) -> str:
    if case.slices:
        return "dicom"
    return case.source.name[len(case.name.rpartition("/")[2]) :].lower().strip(".").replace(".", "_")
