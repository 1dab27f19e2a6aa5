"""The frames of cine series in DICOM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from common.data.dicom_folder import split_series
from common.data.dicom_frames import frames_of_files
from common.errors import UserError

Writer = Callable[..., None]


def write(path: Path, writer: Writer, place: int, **tags: Any) -> Path:
    """A slice with these elements in its header."""
    writer(path, np.zeros((4, 6), np.uint16), number=place, spacing=8.0)
    header = pydicom.dcmread(path)
    for tag, value in tags.items():
        setattr(header, tag, value)
    header.save_as(path)
    return path


def cine(folder: Path, writer: Writer, times: dict[int, list[float]], **tags: Any) -> dict[tuple[int, float], Path]:
    """Slices of these places and trigger times, whose names follow neither."""
    files = {}
    for place, of_place in times.items():
        for time in of_place:
            path = folder / f"{hash((place, time)) % 997:03d}_{place}_{time}.dcm"
            files[place, time] = write(path, writer, place, TriggerTime=time, **tags)
    return files


def test_frames_follow_the_times_of_their_own_slice(tmp_path: Path, dicom_writer: Writer) -> None:
    """Slices of a shorter heart beat have earlier times in every frame but the first."""
    files = cine(tmp_path, dicom_writer, {0: [0, 40, 80], 1: [0, 35, 70], 2: [5, 50, 95]})
    series = split_series(list(files.values()))
    assert [(each.frame, each.problem) for each in series] == [(1, None), (2, None), (3, None)]
    expected = [[(0, 0), (1, 0), (2, 5)], [(0, 40), (1, 35), (2, 50)], [(0, 80), (1, 70), (2, 95)]]
    assert [set(each.files) for each in series] == [{files[key] for key in keys} for keys in expected]
    assert [set(frame) for frame in frames_of_files(list(files.values()))] == [set(each.files) for each in series]


def test_a_number_of_the_frame_goes_before_the_time(tmp_path: Path, dicom_writer: Writer) -> None:
    files = cine(tmp_path, dicom_writer, {0: [0, 40], 1: [0, 40]})
    for (_, time), path in files.items():
        header = pydicom.dcmread(path)
        header.TemporalPositionIdentifier = 2 if time == 0 else 1
        header.save_as(path)
    first, second = frames_of_files(list(files.values()))
    assert (set(first), set(second)) == ({files[0, 40], files[1, 40]}, {files[0, 0], files[1, 0]})


@pytest.mark.parametrize(
    "tags",
    [{}, {"TriggerTime": 3}, {"TemporalPositionIdentifier": 1}, {"TriggerTime": ""}],
    ids=["no time", "one time", "one number", "empty"],
)
def test_without_times_slices_stay_together(tags: dict[str, Any], tmp_path: Path, dicom_writer: Writer) -> None:
    """Whoever puts them in order then names the two of one place."""
    files = [write(tmp_path / f"{n}.dcm", dicom_writer, n % 2, **tags) for n in range(4)]
    [series] = split_series(files)
    assert (series.frame, set(series.files)) == (None, set(files))
    assert frames_of_files(files) == [tuple(files)]


def test_volumes_and_a_slice_that_is_there_twice_are_no_cine_series(tmp_path: Path, dicom_writer: Writer) -> None:
    files = list(cine(tmp_path, dicom_writer, {0: [0], 1: [12], 2: [7, 19]}).values())
    assert frames_of_files(files) == [tuple(files)]
    assert frames_of_files(files[:2]) == [tuple(files[:2])]


def test_two_series_of_one_place_are_no_frames(tmp_path: Path, dicom_writer: Writer) -> None:
    for number in (1, 2):
        cine(tmp_path / str(number), dicom_writer, {0: [number], 1: [number]}, SeriesInstanceUID=f"1.{number}")
    files = sorted(tmp_path.rglob("*.dcm"))
    assert frames_of_files(files) == [tuple(files)]
    assert [len(each.files) for each in split_series(files)] == [2, 2]


def test_a_frame_that_lacks_a_slice(tmp_path: Path, dicom_writer: Writer) -> None:
    files = list(cine(tmp_path, dicom_writer, {0: [0, 40, 80], 1: [0, 80]}, SeriesNumber=4).values())
    told = "has 3 frames of one slice and 2 of another; restore its files"
    [series] = split_series(files)
    assert series.problem == f"{tmp_path} (series 4): {told}"
    with pytest.raises(UserError, match=f"^{tmp_path}: {told}$"):
        frames_of_files(files)


def test_damaged_values_and_files_are_left_to_whoever_needs_them(tmp_path: Path, dicom_writer: Writer) -> None:
    files = list(cine(tmp_path, dicom_writer, {0: [0, 40], 1: [0, 40]}).values())
    header = pydicom.dcmread(files[0])
    header["TriggerTime"] = pydicom.DataElement("TriggerTime", "LO", "soon")
    header.save_as(files[0])
    assert frames_of_files(files) == [tuple(files)]
    files[0].write_bytes(b"no DICOM")
    assert frames_of_files(files) == [tuple(files)]


def test_series_of_one_slice_each_make_a_stack(tmp_path: Path, dicom_writer: Writer) -> None:
    """Two places are a stack; another direction, description or number of frames is something else."""
    stack = [
        cine(tmp_path / str(n), dicom_writer, {n: [0, 40]}, SeriesInstanceUID=f"1.{n}", SeriesNumber=n)
        for n in range(3)
    ]
    other = cine(tmp_path / "4ch", dicom_writer, {9: [0, 40]}, SeriesInstanceUID="1.9", SeriesDescription="4 chambers")
    long = cine(tmp_path / "long", dicom_writer, {8: [0, 4, 8]}, SeriesInstanceUID="1.8", SeriesNumber=7)
    turned = cine(
        tmp_path / "turned",
        dicom_writer,
        {7: [0, 40]},
        SeriesInstanceUID="1.7",
        SeriesNumber=8,
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )
    files = [path for each in (*stack, other, long, turned) for path in each.values()]
    series = split_series(files)
    assert [(each.uid, each.frame, len(each.files)) for each in series] == [
        *(("1.0", frame, 3) for frame in (1, 2)),
        *(("1.8", frame, 1) for frame in (1, 2, 3)),
        *(("1.7", frame, 1) for frame in (1, 2)),
        *(("1.9", frame, 1) for frame in (1, 2)),
    ]
    assert set(series[1].files) == {each[n, 40] for n, each in enumerate(stack)}


def test_series_of_one_place_are_no_stack(tmp_path: Path, dicom_writer: Writer) -> None:
    for number in (1, 2):
        cine(tmp_path / str(number), dicom_writer, {0: [0, 40]}, SeriesInstanceUID=f"1.{number}")
    series = split_series(sorted(tmp_path.rglob("*.dcm")))
    assert [(each.uid, each.frame) for each in series] == [("1.1", 1), ("1.1", 2), ("1.2", 1), ("1.2", 2)]
