"""Labels with this project's values, of formats and pixel types that MONAI's own loading lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from common.data.label_loading import LoadLabelsd
from common.errors import UserError

LABEL = (np.arange(5 * 4 * 3) % 4).reshape(5, 4, 3)
LOAD = LoadLabelsd("label", ["background", "A", "B"], num_classes=3)


def write(path: Path, label: np.ndarray = LABEL, origin: float = 7) -> str:
    image = SimpleITK.GetImageFromArray(label.T)
    image.SetSpacing((2, 3, 4)[: label.ndim])
    image.SetOrigin((origin, 5, -11)[: label.ndim])
    SimpleITK.WriteImage(image, str(path))
    return str(path)


@pytest.mark.parametrize("ending", ["nrrd", "mha", "mhd"])
@pytest.mark.parametrize("kind", ["int64", "int8"])
def test_whole_numbers_of_any_size(tmp_path: Path, ending: str, kind: str) -> None:
    label = LOAD({"label": write(tmp_path / f"a.{ending}", LABEL.astype(kind))})["label"]
    np.testing.assert_array_equal(label, LABEL[None])


def test_several_annotators(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.nrrd"), write(tmp_path / "b.mha", 3 - LABEL)]
    np.testing.assert_array_equal(LOAD({"label": files})["label"], np.stack([LABEL, 3 - LABEL]))
    LOAD({"label": [files[0], write(tmp_path / "e.nrrd", origin=7.0005)]})  # what headers of 32 bits leave of a place
    for other in (write(tmp_path / "c.nrrd", origin=8), write(tmp_path / "d.nrrd", LABEL[:4])):
        with pytest.raises(UserError) as caught:
            LOAD({"label": [files[0], other]})
        expected = f"{other}: lies on another grid than {files[0]}; save both on the grid of their image"
        assert str(caught.value) == expected
