"""DICOM series as NIfTI files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.data import series_conversion as module
from common.data.series_conversion import convert_series
from common.errors import UserError

Series = dict[str, list[Path]]


@pytest.fixture
def series(tmp_path: Path, dicom_writer: Callable[..., None]) -> Series:
    """Two series of three slices each, 4 rows of 6 pixels, whose names run against their places."""
    rng = np.random.default_rng(0)
    found: Series = {}
    for case in ("a", "b"):
        for number in range(3):
            path = tmp_path / "dicom" / case / f"{9 - number}.dcm"
            dicom_writer(path, rng.integers(0, 900, (4, 6)).astype(np.uint16), number=number, spacing=8.0)
            found.setdefault(case, []).append(path)
    return found


def listing(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_orientation_and_spacing_are_the_series_own(series: Series, tmp_path: Path) -> None:
    files = convert_series(series, tmp_path / "out")
    assert files == {"a": tmp_path / "out" / "a.nii.gz", "b": tmp_path / "out" / "b.nii.gz"}
    assert listing(tmp_path / "out") == ["a.nii.gz", "b.nii.gz"]
    volume = nib.load(files["a"])
    assert volume.shape == (6, 4, 3)
    assert nib.affines.voxel_sizes(volume.affine) == pytest.approx((1.25, 1.5, 8.0))
    # the first pixel of the slice at place 0 lies at (-30, 12, 5) in DICOM, so at (30, -12, 5) towards right, anterior
    assert volume.affine[:3, 3] == pytest.approx((30, -12, 5))
    assert volume.header["qform_code"] == volume.header["sform_code"] == 1


def test_a_second_run_reads_only_what_changed(
    series: Series, tmp_path: Path, dicom_writer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_series(series, tmp_path / "out")
    read: list[str] = []
    real = module.read_series
    monkeypatch.setattr(module, "read_series", lambda files, name: read.append(name) or real(files, name))
    convert_series(series, tmp_path / "out")
    assert read == []
    dicom_writer(series["b"][0], np.full((4, 6), 7, np.uint16), number=0, spacing=8.0)
    (tmp_path / "out" / "a.nii.gz").write_bytes(b"damaged")
    files = convert_series(series, tmp_path / "out")
    assert [name.rpartition(" ")[2] for name in read] == ["a)", "b)"]
    assert nib.load(files["b"]).dataobj[0, 0, 0] == 7
    assert nib.load(files["a"]).shape == (6, 4, 3)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("missing", r"has 1 DICOM slices; a series needs at least 2"),
        ("duplicate", r"7\.dcm and 8\.dcm are duplicate slices of one place"),
        ("uneven", r"slices are not evenly spaced"),
        ("cut", r"DICOM pixels cannot be read|cannot be read as DICOM"),
    ],
)
def test_a_faulty_series_is_refused_by_name_and_nothing_is_left(
    series: Series, tmp_path: Path, dicom_writer: Callable[..., None], spoil: str, reason: str
) -> None:
    if spoil == "missing":
        series["b"] = series["b"][:1]
    elif spoil == "cut":
        series["b"][0].write_bytes(series["b"][0].read_bytes()[:-20])
    else:
        place = 1.0 if spoil == "duplicate" else 1.6
        dicom_writer(series["b"][2], np.zeros((4, 6), np.uint16), number=place, spacing=8.0)
    with pytest.raises(UserError, match=reason) as caught:
        convert_series(series, tmp_path / "out")
    assert str(caught.value).startswith(f"{tmp_path / 'dicom' / 'b'}")
    assert "\n" not in str(caught.value)
    assert listing(tmp_path / "out") == []


def test_an_interrupt_leaves_earlier_files_as_they_were(
    series: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_series({"a": series["a"]}, tmp_path / "out")
    before = (tmp_path / "out" / "a.nii.gz").read_bytes()
    os.utime(series["a"][0], (1, 1))  # changed, so it is to be converted again
    real = module.read_series

    def interrupted(files: list[Path], name: str) -> tuple[np.ndarray, np.ndarray]:
        if "(case b)" in name:
            raise KeyboardInterrupt
        return real(files, name)

    monkeypatch.setattr(module, "read_series", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_series(series, tmp_path / "out")
    assert listing(tmp_path / "out") == ["a.nii.gz"]
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == before


def test_a_folder_that_cannot_be_written(series: Series, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match=rf"^{tmp_path}/out: cannot write there"):
        convert_series(series, tmp_path / "out")


def test_slices_that_went_meanwhile(series: Series, tmp_path: Path) -> None:
    series["a"][0].unlink()
    with pytest.raises(UserError, match=r"9\.dcm: cannot be read \(No such file or directory\); restore the series"):
        convert_series(series, tmp_path / "out")
