"""Writing a label map as a DICOM Segmentation object that belongs to the series that it was made from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes

from ..errors import UserError
from .segment_codes import Code, SegmentCode

__all__ = ["Algorithm", "write_dicom_segmentation"]

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
_SEXES = ("M", "F", "O")
_LONG_STRING = 64
_SERIES_NUMBER_OFFSET = 1000


class Algorithm(NamedTuple):
    """What made a segmentation, as its DICOM object tells.

    Attributes:
        name: name of the bundle.
        version: version of the bundle.
        manufacturer: who made the bundle.
        serial: what tells one installation from another: here the beginning of the weights' SHA-256.
    """

    name: str
    version: str
    manufacturer: str
    serial: str


def write_dicom_segmentation(
    path: str | os.PathLike[str],
    labels: np.ndarray,
    slices: Sequence[Path],
    segments: Sequence[SegmentCode],
    *,
    algorithm: Algorithm,
) -> None:
    """Write a binary DICOM Segmentation object, one frame for each slice and segment that has a voxel.

    It lies in the study and on the frame of reference of the slices, which may be of several series; each frame has the
    position and direction of the slice that it was made from, and refers to it. A label map without any segment keeps
    all of its frames, since an object without frames is none. Every segment is described, present or not.

    Args:
        path: the file, which is written as it is named; a caller who wants it whole or not at all gives a temporary
            name.
        labels: values 0 (background) to the number of segments, ``[X, Y, Z]``: X along a slice's rows, Y along its
            columns, Z as ``slices``, as :func:`.dicom_series.read_series` gives voxels.
        slices: the DICOM files of the series in the order of Z, see :func:`.dicom_series.sort_series`.
        segments: what the values 1, 2, ... mean.
        algorithm: what made the labels.

    Raises:
        UserError: a slice's header lacks what a segmentation refers to.
        ValueError: the labels have another number of slices or higher values.
    """
    if labels.shape[2] != len(slices) or labels.max(initial=0) > len(segments):
        raise ValueError(f"{labels.shape[2]} slices with labels to {labels.max()} of {len(slices)} and {len(segments)}")
    sources = [_source(file) for file in slices]
    _check_references(sources, slices)
    first = sources[0]
    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm.name[:_LONG_STRING],
        family=codes.cid7162.ArtificialIntelligence,
        version=algorithm.version[:_LONG_STRING],
    )
    descriptions = [_describe(number, segment, identification) for number, segment in enumerate(segments, start=1)]
    gap = float(np.linalg.norm(np.subtract(sources[1].ImagePositionPatient, first.ImagePositionPatient)))
    for source in sources:
        if source.get("SliceThickness") is None:
            source.SliceThickness = gap
    series = [source.SeriesInstanceUID for source in sources]
    for source in sources:
        source.SeriesInstanceUID = series[0]  # highdicom takes slices of one series; which they are of is written below
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=np.ascontiguousarray(labels.transpose(2, 1, 0)).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER_OFFSET + max(0, int(first.get("SeriesNumber") or 0)),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=algorithm.manufacturer[:_LONG_STRING],
        manufacturer_model_name=algorithm.name[:_LONG_STRING],
        software_versions=algorithm.version[:_LONG_STRING],
        device_serial_number=algorithm.serial[:_LONG_STRING],
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=[float(value) for value in first.PixelSpacing],
            slice_thickness=float(first.SliceThickness),
            spacing_between_slices=gap,
        ),
        omit_empty_frames=bool(labels.any()),
        content_label="SEGMENTATION",
        content_description=f"Segmentation by {algorithm.name}"[:_LONG_STRING],
        series_description=f"Segmentation by {algorithm.name}"[:_LONG_STRING],
        specific_character_set="ISO_IR 192",  # Unicode, for the names of segments and patients
    )
    segmentation.ReferencedSeriesSequence = _referenced_series(sources, series)
    segmentation.save_as(path)


def _referenced_series(sources: Sequence[pydicom.Dataset], series: Sequence[str]) -> list[pydicom.Dataset]:
    """Each series with its slices; a stack may have been acquired as one for each slice."""
    items: dict[str, pydicom.Dataset] = {}
    for source, uid in zip(sources, series, strict=True):
        item = items.setdefault(uid, pydicom.Dataset())
        item.SeriesInstanceUID = uid
        instance = pydicom.Dataset()
        instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        item.setdefault("ReferencedInstanceSequence", pydicom.Sequence())
        item.ReferencedInstanceSequence.append(instance)
    return list(items.values())


def _source(file: Path) -> pydicom.Dataset:
    """A slice's header, with nothing missing that a segmentation copies from it."""
    header = pydicom.dcmread(file, stop_before_pixels=True)
    header.decode()
    absent = [tag for tag in _NEEDED if not header.get(tag)]
    if absent:
        raise UserError(
            f"{file}: has no {absent[0]}, so that a DICOM SEG object cannot refer to it; use the original file, or "
            "write NIfTI alone with --dicom_seg false"
        )
    for tag in _MAY_BE_EMPTY:
        if tag not in header:
            setattr(header, tag, "")
    if header.PatientSex not in _SEXES:
        header.PatientSex = ""
    return header


def _check_references(sources: Sequence[pydicom.Dataset], slices: Sequence[Path]) -> None:
    """Whether the slices can be referred to, one by one, on one frame of reference."""
    fix = "use the original files, or write NIfTI alone with --dicom_seg false"
    for tag in ("StudyInstanceUID", "FrameOfReferenceUID"):
        other = next((file for file, each in zip(slices, sources, strict=True) if each[tag] != sources[0][tag]), None)
        if other is not None:
            raise UserError(f"{other}: differs in {tag} from {slices[0].name}, but a DICOM SEG object has one; {fix}")
    known: dict[str, Path] = {}
    for file, each in zip(slices, sources, strict=True):
        if known.setdefault(each.SOPInstanceUID, file) is not file:
            raise UserError(f"{file}: has the SOPInstanceUID of {known[each.SOPInstanceUID].name}; {fix}")


def _describe(
    number: int, segment: SegmentCode, identification: hd.AlgorithmIdentificationSequence
) -> hd.seg.SegmentDescription:
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label[:_LONG_STRING],
        segmented_property_category=_coded(segment.category),
        segmented_property_type=_coded(segment.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=identification,
        tracking_uid=hd.UID(),
        tracking_id=segment.label[:_LONG_STRING],
    )
    if segment.modifier is not None:
        [kind] = description.SegmentedPropertyTypeCodeSequence
        kind.SegmentedPropertyTypeModifierCodeSequence = pydicom.Sequence([_coded(segment.modifier)])
    return description


def _coded(code: Code) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)
