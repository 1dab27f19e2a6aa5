"""DICOM Segmentation objects: read back, where they lie, and what they refer to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest

from common.data.dicom_segmentation import Algorithm, write_dicom_segmentation
from common.data.dicom_series import read_series, sort_series
from common.data.segment_codes import code_segments, read_segment_codes
from common.errors import UserError

NAMES = ["background", "RV", "left kidney", "Höcker"]
ALGORITHM = Algorithm("A bundle", "0.1.0", "Its authors", "abc")
HEADER = {"FrameOfReferenceUID": "1.2.9", "PatientID": "p7", "PatientName": "Doe^Jane", "SeriesNumber": 4}
SHAPE = (10, 13, 4)  # columns, rows, slices; 130 pixels are no whole number of bytes


def edit(path: Path, **tags: Any) -> None:
    header = pydicom.dcmread(path)
    for tag, value in tags.items():
        if value is None:
            delattr(header, tag)
        else:
            setattr(header, tag, value)
    header.save_as(path)


@pytest.fixture
def slices(tmp_path: Path, dicom_writer: Callable[..., None]) -> list[Path]:
    """Four oblique slices in the order of their places, which is not that of their names."""
    for name, number in {"b": 3, "d": 0, "a": 2, "c": 1}.items():
        path = tmp_path / "series" / f"{name}.dcm"
        dicom_writer(path, np.full((13, 10), number, np.uint16), number=number, spacing=8.0)
        edit(path, **HEADER)
    return sort_series(sorted((tmp_path / "series").iterdir()), "x")


def write(path: Path, labels: np.ndarray, slices: list[Path], names: list[str] = NAMES) -> hd.seg.Segmentation:
    segments = code_segments(names, read_segment_codes())
    write_dicom_segmentation(path, labels, slices, segments, algorithm=ALGORITHM)
    return hd.seg.segread(path)


def some_labels() -> np.ndarray:
    """Random labels, all segments in the first slice, none in the second, and only 2 in the third."""
    labels = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    labels[:, :, 1] = 0
    labels[:, :, 2] = 2 * (labels[:, :, 2] == 2)
    return labels


def test_frames_refer_to_their_slices_and_hold_their_labels(tmp_path: Path, slices: list[Path]) -> None:
    labels = some_labels()
    object_ = write(tmp_path / "x.dcm", labels, slices)
    assert object_.NumberOfFrames == 3 + 0 + 1 + 3
    sources = [pydicom.dcmread(file).SOPInstanceUID for file in slices]
    for index in (0, 2, 3):
        pixels = object_.get_pixels_by_source_instance([sources[index]], combine_segments=True)
        np.testing.assert_array_equal(pixels[0], labels[:, :, index].T)
    stack = object_.get_pixels_by_source_instance(sources, combine_segments=True, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(stack, labels.transpose(2, 1, 0))


def test_it_lies_where_the_series_lies(tmp_path: Path, slices: list[Path]) -> None:
    labels = some_labels()
    volume = write(tmp_path / "x.dcm", labels, slices).get_volume(combine_segments=True)
    _, affine = read_series(slices, "x")
    for index in ([0, 0, 0], [9, 0, 3], [3, 12, 2]):
        right_anterior = affine @ [*index, 1]
        left_posterior = [-right_anterior[0], -right_anterior[1], right_anterior[2]]
        frame, row, column = (
            round(float(value)) for value in volume.map_reference_to_indices(np.array([left_posterior]))[0]
        )
        assert volume.map_indices_to_reference(np.array([[frame, row, column]]))[0] == pytest.approx(
            left_posterior, abs=1e-3
        )
        assert volume.array[frame, row, column] == labels[tuple(index)]


def test_each_frame_has_its_slices_geometry(tmp_path: Path, slices: list[Path]) -> None:
    object_ = write(tmp_path / "x.dcm", some_labels(), slices)
    shared = object_.SharedFunctionalGroupsSequence[0]
    first = pydicom.dcmread(slices[0])
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == first.ImageOrientationPatient
    measures = shared.PixelMeasuresSequence[0]
    assert [float(value) for value in measures.PixelSpacing] == [1.5, 1.25]
    assert (measures.SliceThickness, float(measures.SpacingBetweenSlices)) == (5, pytest.approx(8, abs=1e-4))
    places = {pydicom.dcmread(file).SOPInstanceUID: pydicom.dcmread(file).ImagePositionPatient for file in slices}
    for frame in object_.PerFrameFunctionalGroupsSequence:
        [source] = frame.DerivationImageSequence[0].SourceImageSequence
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert place == pytest.approx(places[source.ReferencedSOPInstanceUID], abs=1e-6)


def test_header(tmp_path: Path, slices: list[Path]) -> None:
    object_ = write(tmp_path / "x.dcm", some_labels(), slices)
    source = pydicom.dcmread(slices[0])
    assert object_.SOPClassUID == pydicom.uid.SegmentationStorage
    assert (object_.Modality, object_.SegmentationType) == ("SEG", "BINARY")
    for tag in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert object_[tag].value == source[tag].value
    assert object_.SeriesInstanceUID != source.SeriesInstanceUID
    assert object_.SeriesNumber == 1004
    assert (object_.Manufacturer, object_.ManufacturerModelName) == ("Its authors", "A bundle")
    right, kidney, other = object_.SegmentSequence
    assert [each.SegmentLabel for each in (right, kidney, other)] == NAMES[1:]
    assert right.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert right.SegmentedPropertyTypeCodeSequence[0].CodeValue == "53085002"
    [kind] = kidney.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeMeaning, kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("Kidney", "Left")
    assert other.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    [algorithm] = right.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("A bundle", "0.1.0")
    assert right.SegmentAlgorithmType == "AUTOMATIC"


def test_a_label_map_without_any_segment(tmp_path: Path, slices: list[Path]) -> None:
    object_ = write(tmp_path / "x.dcm", np.zeros(SHAPE, np.uint8), slices)
    assert len(object_.SegmentSequence) == 3
    sources = [pydicom.dcmread(file).SOPInstanceUID for file in slices]
    assert not object_.get_pixels_by_source_instance(sources, combine_segments=True).any()


def test_patients_without_and_with_odd_data(tmp_path: Path, slices: list[Path]) -> None:
    for file in slices:
        edit(file, PatientID=None, SeriesNumber=None, PatientSex="U", SpecificCharacterSet="ISO_IR 100")
        edit(file, PatientName="Ångström^Jöns", SliceThickness=None)
    object_ = write(tmp_path / "x.dcm", some_labels(), slices)
    assert (object_.PatientID, object_.PatientSex, object_.SeriesNumber) == ("", "", 1000)
    assert str(object_.PatientName) == "Ångström^Jöns"
    measures = object_.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == pytest.approx(8, abs=1e-4)  # the distance between slices


@pytest.mark.parametrize("tag", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_series_that_cannot_be_referred_to(tmp_path: Path, slices: list[Path], tag: str) -> None:
    edit(slices[2], **{tag: None})
    with pytest.raises(
        UserError, match=rf"^{slices[2]}: has no {tag}, .*; use the original file, or .*--dicom_seg false"
    ):
        write(tmp_path / "x.dcm", some_labels(), slices)
    assert not (tmp_path / "x.dcm").exists()


def test_labels_of_another_series(tmp_path: Path, slices: list[Path]) -> None:
    with pytest.raises(ValueError, match="4 slices"):
        write(tmp_path / "x.dcm", some_labels(), slices[:3])
    with pytest.raises(ValueError, match="labels to 3"):
        write(tmp_path / "x.dcm", some_labels(), slices, NAMES[:3])


def test_a_stack_of_several_series(tmp_path: Path, slices: list[Path]) -> None:
    """Each slice is referred to as one of its own series, and the labels are those of one series."""
    for number in (1, 3):
        edit(slices[number], SeriesInstanceUID=f"1.2.7{number}")
    labels = some_labels()
    object_ = write(tmp_path / "x.dcm", labels, slices)
    headers = [pydicom.dcmread(file) for file in slices]
    assert sorted(object_.get_source_image_uids()) == sorted(
        (header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID) for header in headers
    )
    pixels = object_.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in headers], combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(pixels, labels.transpose(2, 1, 0))
    assert [len(item.ReferencedInstanceSequence) for item in object_.ReferencedSeriesSequence] == [2, 1, 1]


@pytest.mark.parametrize("tag", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_slices_of_several_studies(tmp_path: Path, slices: list[Path], tag: str) -> None:
    edit(slices[3], **{tag: "1.2.77"})
    with pytest.raises(UserError, match=rf"^{slices[3]}: differs in {tag} from {slices[0].name}, .*--dicom_seg false"):
        write(tmp_path / "x.dcm", some_labels(), slices)


def test_slices_that_cannot_be_told_apart(tmp_path: Path, slices: list[Path]) -> None:
    edit(slices[3], SOPInstanceUID=pydicom.dcmread(slices[1]).SOPInstanceUID)
    with pytest.raises(UserError, match=rf"^{slices[3]}: has the SOPInstanceUID of {slices[1].name}; use the original"):
        write(tmp_path / "x.dcm", some_labels(), slices)
