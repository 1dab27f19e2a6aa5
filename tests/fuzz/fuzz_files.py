"""Small healthy files of all formats: what the damage is done to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
from PIL import Image

SHAPE = (9, 8, 4)
AFFINE = np.array([[-1.5, 0, 0, 20], [0, -1.25, 0, 30], [0, 0, 8, -40], [0, 0, 0, 1.0]])
CLASSES = ["background", "liver", "spleen"]
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
VICTIM, WITNESS = "kidney7", "heart3"
"""The case whose file is damaged, and one that stays whole."""


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-20, 900, SHAPE).astype(np.int16)


def mask(shift: int = 0) -> np.ndarray:
    """Liver and spleen of 3 x 3 pixels in every slice."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1 + shift : 4 + shift, 1:4], voxels[5:8, 4:7] = 1, 2
    return voxels


def strokes() -> np.ndarray:
    """A line through each class and one of background; 3 is not annotated."""
    voxels = np.full(SHAPE, len(CLASSES), np.uint8)
    voxels[0], voxels[2, 1:4], voxels[6, 4:7] = 0, 1, 2
    return voxels


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, *, compress: bool = True) -> None:
    """Write a volume in the format of the path's ending; a picture gets the first slice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(np.clip(voxels[..., 0].T, 0, 255).astype(np.uint8)).save(path)
    elif path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(voxels, affine), path)
    else:
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        volume = SimpleITK.GetImageFromArray(voxels.T)
        volume.SetSpacing(spacing.tolist())
        volume.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        volume.SetOrigin(lps[:3, 3].tolist())
        SimpleITK.WriteImage(volume, str(path), useCompression=compress and path.suffix != ".mhd")


def save_segments(path: Path, voxels: np.ndarray, names: Sequence[str]) -> None:
    """Write a .seg.nrrd file as 3D Slicer does, the names' values from 1 on."""
    volume = SimpleITK.GetImageFromArray(voxels.T)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    volume.SetSpacing(spacing.tolist())
    volume.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    volume.SetOrigin(lps[:3, 3].tolist())
    for number, name in enumerate(names):
        fields = {"ID": f"Segment_{number + 1}", "Name": name, "LabelValue": number + 1, "Layer": 0}
        for key, text in fields.items():
            volume.SetMetaData(f"Segment{number}_{key}", str(text))
    volume.SetMetaData("Segmentation_SourceRepresentation", "Binary labelmap")
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(volume, str(path), useCompression=False)


def save_series(folder: Path, voxels: np.ndarray, *, uid: str = "1.2.3") -> None:
    """Write a DICOM series, a file a slice."""
    folder.mkdir(parents=True)
    for number in range(voxels.shape[2]):
        path = folder / f"slice{number}.dcm"
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        meta.MediaStorageSOPInstanceUID = f"{uid}.{number + 1}"
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "1.2.1", uid, "1.2.2"
        header.Modality, header.SeriesNumber, header.SeriesDescription = "MR", 4, "T2"
        header.Manufacturer, header.PatientID, header.PatientName = "none", "7", "Nobody"
        header.ImagePositionPatient = ["-20", "-30", str(8 * number - 40)]
        header.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        header.PixelSpacing, header.SliceThickness, header.InstanceNumber = ["1.25", "1.5"], "8", number + 1
        header.Rows, header.Columns = voxels.shape[1], voxels.shape[0]
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
        header.PixelData = np.ascontiguousarray(voxels[..., number].T.astype("<i2")).tobytes()
        header.save_as(path, enforce_file_format=True)


def save_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def datalist_of(extension: str = ".nii.gz") -> dict[str, Any]:
    """The datalist of :func:`write_study`, with relative paths."""

    def item(case: str, label: str, **more: str) -> dict[str, str]:
        return {"image": f"images/{case}{extension}", "label": label, "case": case, "patient": case, **more}

    head = {"name": "toy", "description": "made up", "num_classes": len(CLASSES), "class_names": CLASSES}
    masks = {case: f"masks/{case}_gt{extension}" for case in (VICTIM, WITNESS)}
    training = [
        item(case, f"scribbles/{case}_scribble{extension}", dense_label=masks[case], phase="ED") for case in masks
    ]
    held_out = [item(f"{case}", masks[case]) for case in masks]
    return head | {"training": training, "unpaired_masks": [], "unlabelled": [], "validation": [], "test": held_out}


def write_study(folder: Path, extension: str = ".nii.gz") -> None:
    """Images, scribbles, masks and predictions of two cases, with the datalist of training and test items."""
    for number, case in enumerate((VICTIM, WITNESS)):
        save(folder / "images" / f"{case}{extension}", image(number))
        save(folder / "scribbles" / f"{case}_scribble{extension}", strokes())
        save(folder / "masks" / f"{case}_gt{extension}", mask())
        save(folder / "predictions" / f"{case}_seg{extension}", mask(1))
    save_json(folder / "datalist.json", datalist_of(extension))
