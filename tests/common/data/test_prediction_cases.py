"""What a prediction is to segment, and what its cases are called."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from common.data.prediction_cases import list_cases
from common.errors import UserError
from common.transforms.save_segmentation import segmentation_path

Writer = Callable[..., None]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    for name in ("p1/t2.nii.gz", "p2/t2.nii.gz", "p2/t2_gt.nii.gz", "a b/ü.NRRD", "x.mha", "y.nii", "photo.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write_series(folder: Path, writer: Writer, series: str, count: int = 3, **tags: Any) -> None:
    for number in range(count):
        path = folder / f"{series}_{number}.dcm"
        writer(path, np.zeros((4, 6), np.uint16), number=number, spacing=8.0, series=series)
        header = pydicom.dcmread(path)
        for tag, value in tags.items():
            setattr(header, tag, value)
        header.save_as(path)


def names(source: Path | str, **options: Any) -> list[str]:
    return [case.name for case in list_cases(str(source), output_dir=Path("/nowhere"), **options)]


def test_label_maps_are_named_as_the_bundles_name_them(scans: Path) -> None:
    cases = list_cases(str(scans), output_dir=Path("/nowhere"))
    assert [case.name for case in cases] == ["a b/ü", "p1/t2", "p2/t2", "photo", "x", "y"]
    for case in cases:
        expected = segmentation_path(case.source, output_dir="out", data_root_dir=scans)
        assert [Path("out", name) for name in case.files(dicom_seg=True)] == [expected]


def test_a_single_file_and_a_pattern(scans: Path) -> None:
    assert names(scans / "p2" / "t2_gt.nii.gz") == ["t2_gt"]
    assert names(f"{scans}/p*/t2.nii.gz") == ["p1/t2", "p2/t2"]


def test_results_are_not_searched_unless_they_go_to_the_images(scans: Path) -> None:
    (scans / "out").mkdir()
    (scans / "out" / "z.nii.gz").touch()
    cases = list_cases(str(scans), output_dir=scans / "out")
    assert "out/z" not in [case.name for case in cases]
    for source in (str(scans), f"{scans}/*/t2.nii.gz"):
        assert "p1/t2" in [case.name for case in list_cases(source, output_dir=scans)]


def test_files_of_one_name_get_their_extension(scans: Path) -> None:
    (scans / "p1" / "t2.nrrd").touch()
    assert [name for name in names(scans) if name.startswith("p1")] == ["p1/t2_nii_gz", "p1/t2_nrrd"]
    (scans / "p1" / "t2_nrrd.nii").touch()
    with pytest.raises(UserError, match=r"have one name, p1/t2_nrrd: rename one of them"):
        names(scans)


def test_a_folder_with_one_series_is_a_case(tmp_path: Path, dicom_writer: Writer) -> None:
    write_series(tmp_path / "in" / "p1" / "IMG", dicom_writer, "1.2")
    [case] = list_cases(str(tmp_path / "in"), output_dir=tmp_path / "out")
    assert (case.name, case.source, case.problem) == ("p1/IMG", tmp_path / "in" / "p1" / "IMG", None)
    assert [file.name for file in case.slices] == ["1.2_0.dcm", "1.2_1.dcm", "1.2_2.dcm"]
    assert case.files(dicom_seg=True) == ["p1/IMG_seg.nii.gz", "p1/IMG_seg.dcm"]
    assert case.files(dicom_seg=False) == ["p1/IMG_seg.nii.gz"]
    assert names(tmp_path / "in" / "p1" / "IMG") == ["IMG"]
    (tmp_path / "in" / "p1" / "IMG.mha").touch()
    assert names(tmp_path / "in") == ["p1/IMG_dicom", "p1/IMG_mha"]


def test_of_a_folder_with_several_series_each_is_a_case(tmp_path: Path, dicom_writer: Writer) -> None:
    folder = tmp_path / "in" / "p1"
    write_series(folder, dicom_writer, "1.2", SeriesNumber=3, SeriesDescription="T2 SPIR/../x")
    write_series(folder, dicom_writer, "1.3", SeriesNumber=12)
    write_series(folder, dicom_writer, "1.4", SeriesNumber=1, SeriesDescription="Localizer")
    cases = list_cases(str(tmp_path / "in"), output_dir=tmp_path / "out")
    assert [case.name for case in cases] == ["p1/001_Localizer", "p1/003_T2_SPIR_.._x", "p1/012"]
    assert [case.problem is None for case in cases] == [False, True, True]
    assert names(folder) == ["001_Localizer", "003_T2_SPIR_.._x", "012"]
    write_series(folder, dicom_writer, "1.5", SeriesNumber=12)
    twins = [name for name in names(folder) if name.startswith("012")]
    assert len(set(twins)) == 2
    assert all(len(name) == len("012_123456") for name in twins)


def test_a_folder_with_a_damaged_file_is_a_bad_case_among_others(tmp_path: Path, dicom_writer: Writer) -> None:
    write_series(tmp_path / "good", dicom_writer, "1.2")
    write_series(tmp_path / "bad", dicom_writer, "1.3")
    (tmp_path / "bad" / "1.3_2.dcm").write_text("no DICOM")
    bad, good = list_cases(str(tmp_path), output_dir=Path("/nowhere"))
    assert (bad.name, good.name, good.problem) == ("bad", "good", None)
    assert bad.problem is not None
    assert bad.problem.startswith(f"{tmp_path}/bad/1.3_2.dcm: cannot be read as DICOM")


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        ([], "", r"no image found; expected files ending in"),
        (["a_gt.nii", "b_seg.nrrd"], "", r"no image found but names that mark labels or 4D series; name the folder"),
        (["a.dcm.txt"], "a.dcm.txt", r"a\.dcm\.txt: not an image file; .*, or the folder of a DICOM series"),
        ([], "nowhere", r"nowhere: no such file or folder"),
        ([], "*.nii", r"\*\.nii: no image found"),
    ],
)
def test_nothing_to_segment(tmp_path: Path, files: list[str], source: str, message: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=message):
        list_cases(os.path.join(tmp_path, source), output_dir=Path("/nowhere"))
