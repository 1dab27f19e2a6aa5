from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Spacingd

from common.transforms.spacing import SpacingOfKeysd

PIXDIM = (2.0, 3.0, -1)


def image() -> MetaTensor:
    affine = torch.diag(torch.tensor([1.0, 1.5, 8.0, 1.0]))
    return MetaTensor(torch.rand(1, 12, 10, 3), affine=affine, meta={"filename_or_obj": "/data/image.nii.gz"})


def test_other_keys_are_left_alone_where_monais_own_stops() -> None:
    item = {"image": image(), "image_path": "/data/image.nii.gz", "image_meta_dict": {"a": 1}, "label": "text"}
    with pytest.raises(AttributeError):  # when MONAI mends it, this class can go
        Spacingd("image", pixdim=PIXDIM)(item)
    done = SpacingOfKeysd("image", pixdim=PIXDIM)(item)
    assert {key: done[key] for key in item if key != "image"} == {key: item[key] for key in item if key != "image"}
    torch.testing.assert_close(done["image"], Spacingd("image", pixdim=PIXDIM)({"image": item["image"]})["image"])
    assert done["image"].shape == (1, 6, 6, 3)  # (12 - 1) / 2 + 1 and (10 - 1) 1.5 / 3 + 1, rounded


def test_it_is_undone_as_monais_is() -> None:
    transform = Compose([SpacingOfKeysd("image", pixdim=PIXDIM)])
    item = transform({"image": image(), "image_path": "/data/image.nii.gz"})
    back = Invertd("pred", transform, orig_keys="image")({**item, "pred": item["image"].clone()})
    assert back["pred"].shape == (1, 12, 10, 3)
    torch.testing.assert_close(back["pred"].affine, image().affine)


def test_absent_keys() -> None:
    assert SpacingOfKeysd("image", pixdim=PIXDIM, allow_missing_keys=True)({"label": 1}) == {"label": 1}
    with pytest.raises(KeyError):
        SpacingOfKeysd("image", pixdim=PIXDIM)({"label": 1})
