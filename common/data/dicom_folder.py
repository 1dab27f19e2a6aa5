"""A folder of DICOM files divided into its series and their frames, with what is no scan left out."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.errors import InvalidDicomError

from ..errors import UserError
from .dicom_frames import FRAME_TAGS, Slices, frames_of_series, join_stacks
from .dicom_header import read_header

__all__ = ["DicomSeries", "split_series"]

logger = logging.getLogger(__name__)

_TAGS = ("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ImageType", "NumberOfFrames", "Rows")
_NO_SCANS = ("SEG", "RTDOSE", "RTSTRUCT", "SR", "PR", "KO", "REG", "DOC")
_LOCALIZER = re.compile(r"locali[sz]er|\bscout\b|topogram", re.IGNORECASE)


class DicomSeries(NamedTuple):
    """The files of one series, what its headers say of it, and why it cannot be segmented, if so.

    Of a cine series, those of one ``frame``, from 1 on.
    """

    uid: str
    number: int | None
    description: str
    files: tuple[Path, ...]
    problem: str | None = None
    frame: int | None = None


def split_series(files: Sequence[Path]) -> list[DicomSeries]:
    """Divide the DICOM files of a folder by their series identifiers, and cine series by their frames.

    Segmentations, reports and other objects without a scan are left out. Where every file has an identifier of its own,
    as in some public data sets, all are taken for one series; so are cine series of one slice each that make a stack,
    see :mod:`.dicom_frames`. Whether the slices make a volume is not looked at, see :func:`.dicom_series.sort_series`.

    Args:
        files: DICOM files.

    Returns:
        The series, ordered by number, then by identifier and frame. A localizer, a multi-frame object and a cine series
        that lacks files have a ``problem``, a line that names folder and series.

    Raises:
        UserError: a file cannot be read. Whichever series it belongs to, that one would lack a slice.
    """
    groups: dict[str, Slices] = {}
    for file in sorted(files):
        header = _header(file)
        if header.get("Modality") in _NO_SCANS or not header.get("Rows"):
            logger.warning("%s: left out, it is no scan but a DICOM object of kind %s", file, header.get("Modality"))
        else:
            groups.setdefault(str(header.get("SeriesInstanceUID") or ""), []).append((file, header))
    if len(groups) > 1 and all(len(slices) == 1 for slices in groups.values()):
        groups = {min(groups): [slices[0] for slices in groups.values()]}
    series = [each for uid, slices in join_stacks(groups).items() for each in _describe(uid, slices)]
    return sorted(series, key=lambda each: (each.number is None, each.number, each.uid, each.frame))


def _header(file: Path) -> pydicom.Dataset:
    fix = "copy it again, or remove it if it belongs to no series"
    try:
        header = read_header(file, (*_TAGS, *FRAME_TAGS))
        header.decode()
        for tag in _TAGS:
            header.get(tag)  # values are converted, and found faulty, when they are asked for
        int(header.get("NumberOfFrames") or 1)
        kind = pydicom.uid.UID(header.file_meta.get("MediaStorageSOPClassUID", ""))
    except (InvalidDicomError, OSError) as error:
        raise UserError(f"{file}: cannot be read as DICOM; {fix}") from error
    except Exception as error:  # what pydicom raises on damaged bytes depends on where in it they lead
        raise UserError(f"{file}: has a damaged header; {fix}") from error
    if not header.get("Rows") and (not kind or "Image" in kind.name):
        raise UserError(f"{file}: is cut short, its header ends before the image; {fix}")
    return header


def _describe(uid: str, slices: Slices) -> list[DicomSeries]:
    """A series, or each frame of a cine series."""
    file, first = slices[0]
    number, description = first.get("SeriesNumber"), str(first.get("SeriesDescription") or "").strip()
    said = f"{description} {' '.join(str(kind) for _, header in slices for kind in _as_list(header.get('ImageType')))}"
    title = f"{file.parent} (series {' '.join(filter(None, [str(number or ''), description])) or uid})"
    problem, frames = None, [slices]
    if any(int(header.get("NumberOfFrames") or 1) > 1 for _, header in slices):
        problem = f"{title}: is a multi-frame object, not one file a slice; convert it to NIfTI first"
    elif _LOCALIZER.search(said):
        problem = f"{title}: is a localizer, not a volume; remove it, or convert it to NIfTI first if it is none"
    else:
        try:
            frames = frames_of_series(slices)
        except UserError as error:
            problem = f"{title}: {error}"
    series = DicomSeries(uid, None if number is None else int(number), description, (), problem)
    return [
        series._replace(files=tuple(path for path, _ in frame), frame=place if len(frames) > 1 else None)
        for place, frame in enumerate(frames, start=1)
    ]


def _as_list(value: object) -> list[object]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
