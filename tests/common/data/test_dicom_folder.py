"""The series in a folder of DICOM files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from common.data.dicom_folder import split_series
from common.errors import UserError

Writer = Callable[..., None]


def write(folder: Path, writer: Writer, name: str, series: str, **tags: Any) -> Path:
    path = folder / f"{name}.dcm"
    writer(path, np.zeros((4, 6), np.uint16), number=0, spacing=8.0, series=series)
    header = pydicom.dcmread(path)
    for tag, value in tags.items():
        setattr(header, tag, value)
    header.save_as(path)
    return path


def test_series_are_told_apart_by_identifier_and_ordered_by_number(tmp_path: Path, dicom_writer: Writer) -> None:
    t2 = [write(tmp_path, dicom_writer, name, "1.2", SeriesNumber=7, SeriesDescription="T2 ") for name in ("a", "d")]
    t1 = [write(tmp_path, dicom_writer, name, "1.3", SeriesNumber=3) for name in ("b", "c")]
    bare = write(tmp_path, dicom_writer, "e", "1.1")
    found = split_series([t2[1], bare, *t1, t2[0]])
    assert [(each.number, each.description, each.files) for each in found] == [
        (3, "", tuple(t1)),
        (7, "T2", tuple(t2)),
        (None, "", (bare,)),
    ]
    assert all(each.problem is None for each in found)


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesDescription": "sax"},
        {"SeriesDescription": "3-plane Localiser"},
        {"SeriesDescription": "SCOUT cor"},
    ],
)
def test_localizers_are_refused_by_name(tmp_path: Path, dicom_writer: Writer, tags: dict[str, Any]) -> None:
    [series] = split_series([write(tmp_path, dicom_writer, "a", "1.2", SeriesNumber=1, **tags)])
    name = f"{tmp_path} (series 1 {tags['SeriesDescription']})"
    assert (
        series.problem == f"{name}: is a localizer, not a volume; remove it, or convert it to NIfTI first if it is none"
    )


def test_identifiers_that_are_of_no_use(tmp_path: Path, dicom_writer: Writer) -> None:
    files = [write(tmp_path, dicom_writer, f"{number}", f"1.2.{9 - number}") for number in range(3)]
    [series] = split_series(files)
    assert series.files == tuple(files)


def test_multi_frame_objects_are_refused(tmp_path: Path, dicom_writer: Writer) -> None:
    [series] = split_series([write(tmp_path, dicom_writer, "a", "1.2", NumberOfFrames=5)])
    assert series.problem == f"{tmp_path} (series 1.2): is a multi-frame object, not one file a slice; " + (
        "convert it to NIfTI first"
    )


def test_objects_without_a_scan_are_left_out(
    tmp_path: Path, dicom_writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    scan = write(tmp_path, dicom_writer, "a", "1.2")
    mask = write(tmp_path, dicom_writer, "b", "1.3", Modality="SEG")
    with caplog.at_level(logging.WARNING):
        [series] = split_series([scan, mask])
    assert series.files == (scan,)
    assert f"{mask}: left out" in caplog.text


def test_a_damaged_file_could_be_a_slice_of_any_series(tmp_path: Path, dicom_writer: Writer) -> None:
    scan = write(tmp_path, dicom_writer, "a", "1.2")
    (tmp_path / "b.dcm").write_text("no DICOM")
    with pytest.raises(UserError, match=rf"^{tmp_path}/b\.dcm: cannot be read as DICOM; copy it again, or remove it"):
        split_series([scan, tmp_path / "b.dcm"])


def test_a_header_that_is_cut_short_is_no_other_kind_of_object(tmp_path: Path, dicom_writer: Writer) -> None:
    scan = write(tmp_path, dicom_writer, "a", "1.2")
    whole = scan.read_bytes()
    scan.write_bytes(whole[:400])
    with pytest.raises(UserError, match=rf"^{scan}: is cut short, its header ends before the image; copy it again"):
        split_series([scan])


def test_raw_data_without_an_image_are_left_out(tmp_path: Path, dicom_writer: Writer) -> None:
    scan, raw = write(tmp_path, dicom_writer, "a", "1.2"), write(tmp_path, dicom_writer, "b", "1.2")
    header = pydicom.dcmread(raw)
    del header.Rows
    header.file_meta.MediaStorageSOPClassUID = pydicom.uid.RawDataStorage
    header.save_as(raw)
    [series] = split_series([scan, raw])
    assert series.files == (scan,)
