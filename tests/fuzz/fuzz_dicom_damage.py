"""Damage to DICOM series: to the bytes and headers of a slice, and to which slices there are."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from fuzz_damage import DAMAGES, Apply, Damage, damage
from pydicom.dataset import Dataset

SERIES = ("series",)
_SLICE = "slice1.dcm"


def _on_slice(name: str) -> Apply:
    apply = DAMAGES[name].apply
    return lambda folder, rng: apply(folder / _SLICE, rng)


for _name in ("cut_to_0.02", "cut_to_0.25", "cut_to_0.5", "cut_to_0.9", "cut_last_bytes", "empty", "zeros", "text"):
    DAMAGES[f"dicom_{_name}"] = Damage(_on_slice(_name), SERIES)
for _name in ("web_page", "picture_inside", "git_lfs_pointer", "missing"):
    DAMAGES[f"dicom_{_name}"] = Damage(_on_slice(_name), SERIES)
for _name in ("folder", "dangling_link", "link_to_itself", "fifo", "link_to_zeros", "linked", "folder_in_a_circle"):
    DAMAGES[f"dicom_{_name}"] = Damage(_on_slice(_name), SERIES, image="any")
for _name in ("flip", "scramble"):
    DAMAGES[f"dicom_{_name}"] = Damage(_on_slice(_name), SERIES, image="any", seeded=True)


def _header(name: str, change: Callable[[Dataset], object], image: str = "error") -> None:
    """Damage to a slice's header."""

    def apply(folder: Path, _: np.random.Generator) -> None:
        header = pydicom.dcmread(folder / _SLICE)
        change(header)
        header.save_as(folder / _SLICE)

    DAMAGES[f"dicom_{name}"] = Damage(apply, SERIES, image=image)


def _raw(tag: str, value: bytes) -> Callable[[Dataset], None]:
    """Write bytes that no value of the kind has."""

    def change(header: Dataset) -> None:
        number = pydicom.datadict.tag_for_keyword(tag)
        kind = pydicom.datadict.dictionary_VR(number)
        raw = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(number), kind, len(value), value, 0, is_implicit_VR=False, is_little_endian=True
        )
        header[number] = raw

    return change


def _set(**values: Any) -> Callable[[Dataset], object]:
    return lambda header: [setattr(header, key, value) for key, value in values.items()]


for _tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"):
    _header(f"no_{_tag}", lambda header, tag=_tag: delattr(header, tag))
for _tag in ("PixelData", "BitsAllocated", "PhotometricInterpretation", "SamplesPerPixel"):
    _header(f"no_{_tag}", lambda header, tag=_tag: delattr(header, tag), "any")
for _tag in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"):
    _header(f"no_{_tag}", lambda header, tag=_tag: delattr(header, tag), "any")
for _tag in ("ImagePositionPatient", "PixelSpacing"):
    _header(f"words_for_{_tag}", _raw(_tag, b"left\\right\\up "))
    _header(f"nan_{_tag}", _raw(_tag, b"nan\\nan\\nan "))
    _header(f"empty_{_tag}", _raw(_tag, b""))
_header("words_for_series_number", _raw("SeriesNumber", b"four"), "any")
_header("words_for_frames", _raw("NumberOfFrames", b"many"))
_header("zero_spacing", _set(PixelSpacing=["0", "0"]))
_header("negative_spacing", _set(PixelSpacing=["-1.25", "1.5"]))
_header("parallel_directions", _set(ImageOrientationPatient=["1", "0", "0", "1", "0", "0"]))
_header("zero_directions", _set(ImageOrientationPatient=["0"] * 6))
_header("other_directions", _set(ImageOrientationPatient=["0", "1", "0", "1", "0", "0"]))
_header("moved_slice", _set(ImagePositionPatient=["-20", "-30", "-35"]))
_header("slice_aside", _set(ImagePositionPatient=["90", "30", "-32"]))
_header("same_place", _set(ImagePositionPatient=["-20", "-30", "-40"]))
_header("huge_rows", _set(Rows=65535, Columns=65535))
_header("more_rows", _set(Rows=9))
_header("many_frames", _set(NumberOfFrames="900000000"))
_header("two_frames", _set(NumberOfFrames="2"))
_header("short_pixels", lambda header: header.__setattr__("PixelData", b"\1\2"))
_header("no_pixels", lambda header: header.__setattr__("PixelData", b""))
_header("colours", _set(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "any")
_header("64_bits", _set(BitsAllocated=64), "any")
_header("3_bits", _set(BitsAllocated=3, BitsStored=3, HighBit=2), "any")
_header("nan_slope", _raw("RescaleSlope", b"nan "), "any")
_header("huge_slope", _set(RescaleSlope="1e300", RescaleIntercept="0"), "any")
_header("localizer", _set(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "any")
_header("segmentation", _set(Modality="SEG"), "any")
_header("unknown_characters", _set(SpecificCharacterSet="ISO_IR 999"), "any")
_header("damaged_name", _raw("PatientName", b"\xff\xfe\xfd^\x1b$B"), "any")
_header("description_of_a_path", _set(SeriesDescription="../../etc/passwd"), "any")


def _syntax(name: str, uid: str, image: str = "error") -> None:
    """Name another way of writing than the one that was used."""

    def apply(folder: Path, _: np.random.Generator) -> None:
        path = folder / _SLICE
        data = path.read_bytes()
        old, new = (struct.pack("<H", len(text)) + text for text in (b"1.2.840.10008.1.2.1\0", uid.encode()))
        longer = len(new) - len(old)
        length = struct.unpack("<I", data[140:144])[0]  # of all meta elements
        path.write_bytes(data[:140] + struct.pack("<I", length + longer) + data[144:].replace(old, new, 1))

    DAMAGES[f"dicom_{name}_syntax"] = Damage(apply, SERIES, image=image)


_syntax("jpeg", "1.2.840.10008.1.2.4.50")
_syntax("jpeg_2000", "1.2.840.10008.1.2.4.90")
_syntax("run_length", "1.2.840.10008.1.2.5\0")
_syntax("deflated", "1.2.840.10008.1.2.1.99")
_syntax("big_endian", "1.2.840.10008.1.2.2\0")
_syntax("implicit", "1.2.840.10008.1.2\0")
_syntax("unknown", "1.2.3.4.5.6.7.8\0")


@damage("dicom_all_huge", SERIES)
def _all_huge(folder: Path, _: np.random.Generator) -> None:
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.Rows = header.Columns = 30_000
        header.save_as(path)


@damage("dicom_other_series", SERIES, image="any")
def _other_series(folder: Path, _: np.random.Generator) -> None:
    """Two series in a folder."""
    for path in sorted(folder.iterdir()):
        header = pydicom.dcmread(path)
        header.SeriesInstanceUID, header.SeriesNumber = "1.2.9", 5
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"{header.SOPInstanceUID}.9"
        header.save_as(folder / f"other_{path.name}")


@damage("dicom_duplicate_slice", SERIES)
def _duplicate(folder: Path, _: np.random.Generator) -> None:
    shutil.copy(folder / _SLICE, folder / "again.dcm")


@damage("dicom_only_one_slice", SERIES)
def _only_one(folder: Path, _: np.random.Generator) -> None:
    for path in folder.iterdir():
        if path.name != _SLICE:
            path.unlink()


@damage("dicom_no_slice", SERIES, image="any")
def _no_slice(folder: Path, _: np.random.Generator) -> None:
    for path in folder.iterdir():
        path.unlink()


@damage("dicom_other_files", SERIES, image="same")
def _other_files(folder: Path, _: np.random.Generator) -> None:
    (folder / "readme.txt").write_text("T2")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 40)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


@damage("dicom_image_beside", SERIES, image="any")
def _image_beside(folder: Path, _: np.random.Generator) -> None:
    (folder / "kidney7.nii.gz").write_bytes(b"\1\2")


@damage("dicom_shuffled_names", SERIES, image="same")
def _shuffled(folder: Path, _: np.random.Generator) -> None:
    for name, other in (("slice0.dcm", "z.dcm"), ("slice2.dcm", "a.ima")):
        (folder / name).rename(folder / other)
