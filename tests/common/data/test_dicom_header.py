"""DICOM headers whose lengths may be wrong."""

from __future__ import annotations

import contextlib
import io
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from common.data.dicom_header import check_length, read_header
from common.errors import UserError

NAMES = ["Rows", "Columns", "PixelSpacing"]


@pytest.fixture
def scan(tmp_path: Path, dicom_writer: Callable[..., None]) -> Path:
    """A slice of 8 x 6 pixels of 16 bits."""
    path = tmp_path / "a.dcm"
    dicom_writer(path, np.arange(48, dtype=np.uint16).reshape(8, 6), number=0, spacing=8.0)
    return path


def peak() -> int:
    """The most address space that this process ever had, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmPeak"))


def test_a_whole_file(scan: Path) -> None:
    header = read_header(scan, NAMES)
    assert (header.Rows, header.Columns, header.PixelSpacing) == (8, 6, [1.5, 1.25])
    assert "PixelData" not in header
    assert {element.keyword for element in header} == set(NAMES)
    check_length(scan)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory by /proc")
@pytest.mark.parametrize("keyword", ["TransferSyntaxUID", "Modality", "PixelSpacing"])
def test_a_length_of_4_gb_takes_no_memory(scan: Path, keyword: str) -> None:
    tag = pydicom.datadict.tag_for_keyword(keyword)
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    content = scan.read_bytes()
    at = content.index(start, 128)
    # the kind "UN" has lengths of 32 bits, from the eighth byte on
    scan.write_bytes(content[:at] + start + b"UN\0\0" + struct.pack("<I", 0xFFFFFFF0) + content[at + 12 :])
    before = peak()
    with contextlib.suppress(pydicom.errors.InvalidDicomError):  # it may be read as far as it goes
        read_header(scan, NAMES)
    with pytest.raises(UserError, match=f"^{re.escape(str(scan))}: "):
        check_length(scan)
    assert peak() - before < 500


@pytest.mark.parametrize("missing", [1, 40])
def test_a_file_that_is_cut_short(scan: Path, missing: int) -> None:
    scan.write_bytes(scan.read_bytes()[:-missing])
    with pytest.raises(UserError, match=r"a\.dcm: its DICOM pixels cannot be read, it is cut short or damaged"):
        check_length(scan)


def test_fewer_pixels_than_rows_and_columns(scan: Path) -> None:
    header = pydicom.dcmread(scan)
    header.Rows = 9  # 9 * 6 * 2 = 108 bytes, and there are 96
    header.save_as(scan)
    with pytest.raises(UserError, match="its DICOM pixels cannot be read"):
        check_length(scan)


def test_compressed_pixels_have_no_length_of_their_own(scan: Path) -> None:
    header = pydicom.dcmread(scan)
    header.compress(pydicom.uid.RLELossless)
    header.save_as(scan)
    check_length(scan)
    plain = io.BytesIO(scan.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
    scan.write_bytes(plain.getvalue())  # as if the pixels were not compressed
    with pytest.raises(UserError, match="its DICOM pixels cannot be read"):
        check_length(scan)


def test_no_pixels_at_all(scan: Path) -> None:
    header = pydicom.dcmread(scan)
    del header.PixelData
    header.save_as(scan)
    with pytest.raises(UserError, match="has a damaged header"):
        check_length(scan)
