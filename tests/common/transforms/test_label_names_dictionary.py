"""Mapping by name as a step of a preprocessing, behind MONAI's loading."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged

from common.errors import UserError
from common.transforms.label_names_dictionary import MapLabelsByNamed

NAMES = ["background", "RV", "LV"]
VOXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 4


def test_a_slicer_file_as_monai_loads_it(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(VOXELS.transpose(2, 1, 0))
    image.SetSpacing((1.5, 1.25, 8.0))
    for number, (name, value) in enumerate((("LV", 1), ("bg_scribble", 2), ("RV", 3))):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
    path = tmp_path / "p1.seg.nrrd"
    SimpleITK.WriteImage(image, str(path))
    load = LoadImaged("label", reader="ITKReader", ensure_channel_first=True)
    item = MapLabelsByNamed("label", NAMES)(load({"label": str(path), "case": "p1"}))
    assert set(item) == {"label", "case"}
    assert isinstance(item["label"], MetaTensor)
    # in the order 0, LV, background, RV
    np.testing.assert_array_equal(item["label"], np.array([3, 2, 0, 1])[VOXELS][None])
    np.testing.assert_allclose(np.diag(item["label"].affine), [-1.5, -1.25, 8, 1])


def test_a_label_map_with_names(tmp_path: Path) -> None:
    path = tmp_path / "p1.nii.gz"
    nib.save(nib.Nifti1Image(VOXELS, np.eye(4)), path)
    load = LoadImaged("label", ensure_channel_first=True)
    names = {"Clear Label": 0, "LV": 1, "RV": 2, "not_RV": 3, "Label 6": 6}
    item = MapLabelsByNamed("label", NAMES, names=names, complement="other")(load({"label": str(path)}))
    np.testing.assert_array_equal(item["label"], np.array([3, 2, 1, 3])[VOXELS][None])
    np.testing.assert_array_equal(item["other"], np.array([3, 3, 3, 1])[VOXELS][None])
    assert item["label"].dtype == item["other"].dtype == torch.float32  # as LoadImaged gives them


def test_negative_drawings_alone_leave_no_label() -> None:
    step = MapLabelsByNamed("label", NAMES, names={"not_RV": 1, "not_LV": 2})
    item = step({"label": torch.tensor([[0, 1, 2]]), "image": 5})
    assert set(item) == {"complement", "image"}
    assert item["complement"].tolist() == [[3, 1, 2]]


def test_missing_keys() -> None:
    assert MapLabelsByNamed("label", NAMES, allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        MapLabelsByNamed("label", NAMES)({"image": 1})


def test_errors_name_the_file_or_the_key() -> None:
    voxels = MetaTensor(torch.ones(1, 2, 2), meta={"filename_or_obj": "scans/p1.nii.gz"})
    with pytest.raises(UserError, match=r"^scans/p1\.nii\.gz: the file names no segments; give the transform names$"):
        MapLabelsByNamed("label", NAMES)({"label": voxels})
    with pytest.raises(UserError, match=r'^label: there is no segment called "bg_scribble", "LV"; add it'):
        MapLabelsByNamed("label", NAMES, names={"RV": 1})({"label": np.ones((1, 2, 2))})
    with pytest.raises(UserError, match=r"^class_names lists 1 names"):
        MapLabelsByNamed("label", ["background"])
