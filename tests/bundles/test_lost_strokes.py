"""Every bundle tells what its preprocessing leaves of the strokes that it learns from, on every start."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    """A volume of 512 x 512 pixels of 0.5 mm, with two strokes of one pixel, of which every bundle reads one row."""
    label = np.full((512, 512, 2), 4, np.uint8)
    label[100:400, 150:170, 0] = 0
    label[100:400, 200:201, 0], label[100:400, 301:302, 0] = 1, 2
    files = {"image": tmp_path / "p1.nii.gz", "label": tmp_path / "p1_scribble.nii.gz"}
    affine = np.diag([-0.5, -0.5, 8.0, 1.0])
    nib.save(nib.Nifti1Image(np.zeros(label.shape, np.int16), affine), files["image"])
    nib.save(nib.Nifti1Image(label, affine), files["label"])
    return {"case": "p1", **{key: str(path) for key, path in files.items()}}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_stroke_that_is_lost_is_told_of(
    bundle: str, item: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def start(part: str, **data: Any) -> list[tuple[str, str]]:
        parser = ConfigParser()
        parser.read_config(str(REPO_ROOT / "bundles" / bundle / "configs" / "train.json"))
        settings = {"num_classes": 4, "roi_size": [256, 256], "cache_dir": str(tmp_path / "cache"), "device": "cpu"}
        if parser["pixdim"] is not None:
            settings["pixdim"] = [1.0, 1.0]
        for key, value in (settings | data).items():
            parser[key] = value
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="common.data.kept_drawings"):
            parser.get_parsed_content(part)
        found = [record for record in caplog.records if record.name == "common.data.kept_drawings"]
        return [(record.levelname, record.getMessage()) for record in found]

    data = {"train#dataset#data": [item]}
    (_, info), (level, warning) = first = start("train#dataset", **data)
    kept = {f"{share} of class {index}" for share in ("0%", "100%") for index in (1, 2)}
    told = set(info.partition(": ")[2].split(", "))
    assert len(kept & told) == 2
    assert len({"0% of class 1", "0% of class 2"} & told) == 1
    assert level == "WARNING"
    lost = 1 if "0% of class 1" in told else 2
    assert f"p1 (class {lost}); set a finer --pixdim" in warning
    assert start("train#dataset", **data) == first  # the second one from the cache
    if bundle == "maag":
        image, mask = ({"case": "p1", key: item["label" if key == "label" else "image"]} for key in ("image", "label"))
        for stream, of_stream in (("unlabelled", image), ("masks", mask)):
            assert start(f"train#{stream}#dataset", **{f"train#{stream}#dataset#data": [of_stream]}) == []
