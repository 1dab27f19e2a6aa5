"""Slices of a DICOM series: their order, their grid and what is refused."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from monai.data import ITKReader
from monai.transforms import LoadImage

from common.data.dicom_series import read_series, sort_series
from common.errors import UserError

Writer = Callable[..., None]
HEIGHTS = {"b": 3, "d": 0, "a": 2, "c": 1}  # file name and place along the normal, as mixed as public series are


def series(folder: Path, writer: Writer, heights: dict[str, float] | None = None, **options: Any) -> list[Path]:
    """Write slices of 12 rows and 10 columns, 8 mm apart, with pixel values 1000 * height + 10 * row + column."""
    pixels = 10 * np.arange(12)[:, None] + np.arange(10)
    for name, height in (heights or HEIGHTS).items():
        slab = (1000 * height + pixels).astype(np.uint16)
        writer(folder / f"{name}.dcm", slab, number=height, spacing=8.0, **options)
    return sorted(folder.glob("*.dcm"))


def edit(path: Path, **tags: Any) -> None:
    header = pydicom.dcmread(path)
    for tag, value in tags.items():
        setattr(header, tag, value)
    header.save_as(path)


def test_order_voxels_and_affine(tmp_path: Path, dicom_writer: Writer) -> None:
    files = series(tmp_path, dicom_writer)
    assert [file.stem for file in sort_series(files, "x")] == ["d", "c", "a", "b"]
    voxels, affine = read_series(files[::-1], "x")
    assert voxels.dtype == np.int16
    assert voxels.shape == (10, 12, 4)  # columns, rows, slices
    assert voxels[7, 5, 2] == 2000 + 10 * 5 + 7
    # In the scanner's directions (left, posterior, superior) rows run along (.96, .28, 0), 1.25 mm a column, columns
    # along (-.168, .576, .8), 1.5 mm a row; their cross product is (.224, -.768, .6), 8 mm a slice; the first pixel
    # lies at (-30, 12, 5). RAS changes the signs of the first two numbers.
    expected = [[-1.2, 0.252, -1.792, 30], [-0.35, -0.864, 6.144, -12], [0, 1.2, 4.8, 5], [0, 0, 0, 1]]
    np.testing.assert_allclose(affine, expected, atol=1e-5)


def test_as_monai_reads_the_folder(tmp_path: Path, dicom_writer: Writer) -> None:
    voxels, affine = read_series(series(tmp_path, dicom_writer), "x")
    image = LoadImage(reader=ITKReader, image_only=True)(tmp_path)
    np.testing.assert_array_equal(image.numpy(), voxels)
    np.testing.assert_array_equal(image.affine.numpy(), affine)


def test_series_identifiers_do_not_matter(tmp_path: Path, dicom_writer: Writer) -> None:
    files = series(tmp_path / "one", dicom_writer)
    others = series(tmp_path / "many", dicom_writer)
    for number, file in enumerate(others):
        edit(file, SeriesInstanceUID=f"1.9.{number}", InstanceNumber=9 - number)
    np.testing.assert_array_equal(read_series(others, "x")[0], read_series(files, "x")[0])


def test_each_slice_is_rescaled_as_its_header_says(tmp_path: Path, dicom_writer: Writer) -> None:
    files = series(tmp_path, dicom_writer)
    for file, slope in zip(files, ("2", "1", "0.5", "1"), strict=True):  # a at 2, b at 3, c at 1, d at 0
        edit(file, RescaleSlope=slope, RescaleIntercept="-3")
    voxels, _ = read_series(files, "x")
    assert voxels.dtype == np.float32  # halves are no int16
    assert voxels[1, 0].tolist() == [1 - 3, 1001 / 2 - 3, 2001 * 2 - 3, 3001 - 3]


@pytest.mark.parametrize(
    ("heights", "message"),
    [
        ({"a": 0}, r"x: has 1 DICOM slices; a series needs at least 2, restore its files"),
        ({"a": 0, "b": 1, "c": 1, "d": 2}, r"x: b\.dcm and c\.dcm are duplicate slices of one place; remove one.*"),
        ({"a": 0, "b": 1, "c": 3, "d": 4}, r"x: 1 slices are missing between b\.dcm and c\.dcm; restore their files"),
        ({"a": 0, "b": 1, "c": 4}, r"x: 2 slices are missing between b\.dcm and c\.dcm; restore their files"),
        (
            {"a": 0, "b": 1, "c": 2.3, "d": 3.3},
            r"x: slices are not evenly spaced, 10\.40 mm between b\.dcm and c\.dcm.*",
        ),
    ],
)
def test_irregular_series(tmp_path: Path, dicom_writer: Writer, heights: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        read_series(series(tmp_path, dicom_writer, heights), "x")


def test_small_rounding_of_positions_is_accepted(tmp_path: Path, dicom_writer: Writer) -> None:
    files = series(tmp_path, dicom_writer, {"a": 0, "b": 1.005, "c": 2})  # 8.04 and 7.96 mm
    assert len(sort_series(files, "x")) == 3


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            {"PixelSpacing": ["1.5", "1.3"]},
            r"x: slice c\.dcm differs in pixel spacing \[1\.5, 1\.3\] mm from a\.dcm; .*",
        ),
        ({"ImageOrientationPatient": list("100010")}, r"x: slice c\.dcm differs in direction from a\.dcm; .*"),
        ({"Rows": 10, "Columns": 12}, r"x: slice c\.dcm differs in size \(10, 12\) from a\.dcm; .*"),
        ({"ImagePositionPatient": ["-20", "12", "5"]}, r"x: slice c\.dcm lies \d+\.\d\d mm beside the stack.*"),
        (
            {"ImageOrientationPatient": list("100110")},
            r".*/c\.dcm: its position, directions or pixel spacing make no .*",
        ),
        ({"PixelSpacing": ["1.5", "0"]}, r".*/c\.dcm: its position, directions or pixel spacing make no grid; .*"),
        ({"PixelSpacing": ["1.5"] * 3}, r".*/c\.dcm: its position, directions or pixel spacing make no grid; .*"),
        ({"NumberOfFrames": 7}, r".*/c\.dcm: is a multi-frame object, not one file a slice; convert it to NIfTI first"),
        ({"ImagePositionPatient": None}, r".*/c\.dcm: has no ImagePositionPatient, so its place is unknown; .*"),
    ],
)
def test_slices_that_do_not_belong(tmp_path: Path, dicom_writer: Writer, tags: dict[str, Any], message: str) -> None:
    files = series(tmp_path, dicom_writer)
    edit(tmp_path / "c.dcm", **tags)
    with pytest.raises(UserError, match=f"^{message}$"):
        read_series(files, "x")


def test_damaged_files(tmp_path: Path, dicom_writer: Writer) -> None:
    files = series(tmp_path, dicom_writer)
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:-50])
    reason = "its DICOM pixels cannot be read, it is cut short or damaged; copy it again"
    with pytest.raises(UserError, match=f"^{re.escape(str(files[1]))}: {reason}$"):
        read_series(files, "x")
    header = pydicom.dcmread(io.BytesIO(whole))
    header.PixelData = header.PixelData[:2]
    header.save_as(files[1])
    with pytest.raises(UserError, match=f"^{re.escape(str(files[1]))}: {reason}$"):
        read_series(files, "x")
    for file in files:  # pixels that no memory holds
        header = pydicom.dcmread(file)
        header.Rows = header.Columns = 60_000
        header.save_as(file)
    with pytest.raises(UserError, match=f"{reason}$"):
        read_series(files, "x")
    files[1].write_text("no DICOM")
    with pytest.raises(UserError, match=f"^{re.escape(str(files[1]))}: cannot be read as DICOM; copy it again$"):
        read_series(files, "x")
