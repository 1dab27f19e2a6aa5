"""Cine series in DICOM: the frames of a beating heart told apart, and slices that were acquired one series each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from ..errors import UserError
from .dicom_header import read_header

__all__ = ["FRAME_TAGS", "Slices", "frames_of_files", "frames_of_series", "join_stacks"]

Slices = list[tuple[Path, pydicom.Dataset]]
"""Files of one slice each, and their headers."""

_TIMES = ("TemporalPositionIdentifier", "TriggerTime")
_GRID = ("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
FRAME_TAGS = (*_TIMES, *_GRID, "ImagePositionPatient", "SeriesInstanceUID", "SeriesDescription")
"""The elements of a header that are asked for here."""


def frames_of_series(slices: Slices) -> list[Slices]:
    """Divide the slices of a cine series by their times in the heart's cycle.

    The times are those of TemporalPositionIdentifier, or else of TriggerTime, whichever tells all files of each place
    apart. Slices are acquired one after the other in different heart beats, so that the first frame is made of the
    first of each place, and so on; their trigger times may differ.

    Args:
        slices: the files of a series.

    Returns:
        the slices of each frame, in the order of time; all in one where a place has only one, or slices of several
        series, or no tag tells them apart.

    Raises:
        UserError: the places have different numbers of frames; a line that the caller puts a name before.
    """
    places = _by_place(slices)
    counts = [len(place) for place in places]
    if min(counts, default=1) == 1:  # no cine series; a slice that is there twice is told by whoever sorts them
        return [slices]
    if any(len({header.get("SeriesInstanceUID") for _, header in place}) > 1 for place in places):
        return [slices]
    for tag in _TIMES:
        times = [[_numbers(header, tag) for _, header in place] for place in places]
        if any(() in each or len(set(each)) < len(each) for each in times):
            continue
        if min(counts) < max(counts):
            raise UserError(f"has {max(counts)} frames of one slice and {min(counts)} of another; restore its files")
        ordered = [[place[at] for at in _order(each)] for place, each in zip(places, times, strict=True)]
        return [list(frame) for frame in zip(*ordered, strict=True)]
    return [slices]


def frames_of_files(files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Divide the files of a folder that is one case as :func:`frames_of_series` does.

    Args:
        files: DICOM files of one slice each. Where one cannot be read, whoever reads its pixels tells.

    Raises:
        UserError: the places have different numbers of frames.
    """
    try:
        slices: Slices = [(file, read_header(file, FRAME_TAGS)) for file in files]
        return [tuple(file for file, _ in frame) for frame in frames_of_series(slices)]
    except UserError as error:
        raise UserError(f"{files[0].parent}: {error}") from error
    except Exception:  # what pydicom raises on damaged bytes depends on where in it they lead
        return [tuple(files)]


def join_stacks(series: Mapping[str, Slices]) -> dict[str, Slices]:
    """Put cine series of one slice each together to a stack, as scanners leave them that acquire one a breath-hold.

    They have one description, direction, pixel spacing, size and number of frames, and lie at different places.

    Args:
        series: the slices of a folder, by the identifier of the series.

    Returns:
        the same, with the slices of a stack under the first of its identifiers.
    """
    alike: dict[Any, list[str]] = defaultdict(list)
    for uid, slices in series.items():
        if len(_by_place(slices)) == 1 and len(slices) > 1:
            alike[_kind(slices)].append(uid)
    joined = dict(series)
    for uids in alike.values():
        stack = [item for uid in uids for item in series[uid]]
        if len(uids) > 1 and len(_by_place(stack)) == len(uids):
            for uid in uids[1:]:
                del joined[uid]
            joined[uids[0]] = stack
    return joined


def _by_place(slices: Slices) -> list[Slices]:
    """The slices of each place; no places if one does not say where it lies."""
    places: dict[tuple[float, ...], Slices] = defaultdict(list)
    for file, header in slices:
        position = _numbers(header, "ImagePositionPatient")
        if not position:
            return []
        places[position].append((file, header))
    return list(places.values())


def _order(times: Sequence[tuple[float, ...]]) -> list[int]:
    return sorted(range(len(times)), key=lambda at: times[at])


def _kind(slices: Slices) -> Any:
    _, header = slices[0]
    return str(header.get("SeriesDescription") or ""), len(slices), *(_numbers(header, tag) for tag in _GRID)


def _numbers(header: pydicom.Dataset, tag: str) -> tuple[float, ...]:
    """The numbers of an element, to a hundredth; none where it is missing or damaged."""
    try:
        value = header.get(tag)
        if value is None or value == "":
            return ()
        numbers = np.round(np.atleast_1d(np.array(value, dtype=float)), 2) + 0.0
        return tuple(numbers) if np.isfinite(numbers).all() else ()
    except Exception:  # what pydicom raises on damaged values depends on them; whoever needs them tells
        return ()
