"""What preprocessing leaves of drawings is told once for a data set, from the cache as well."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged, Resized, ResizeWithPadOrCropd

from common.data.slice_dataset import SliceDataset
from common.data.volume_cache import CachedTransform
from common.transforms.orient_slices import OrientSlicesd

CLASSES = 3  # values from 3 on are "not annotated"
Item = dict[str, Any]


def drawing(*strokes: tuple[tuple[slice, slice, int], int]) -> np.ndarray:
    """Two slices of 16 x 16 voxels with strokes and their values, most voxels not annotated."""
    voxels = np.full((16, 16, 2), CLASSES, np.uint8)
    for where, value in strokes:
        voxels[where] = value
    return voxels


def save(folder: Path, case: str, **drawings: np.ndarray | list[np.ndarray]) -> Item:
    affine = np.diag([-1.0, -1.0, 8.0, 1.0])  # its axes run to left and posterior, so that nothing is turned
    item: Item = {"case": case, "image": str(folder / f"{case}.nii.gz")}
    nib.save(nib.Nifti1Image(np.zeros((16, 16, 2), np.int16), affine), item["image"])
    for key, several in drawings.items():
        files = []
        for number, voxels in enumerate(several if isinstance(several, list) else [several]):
            files.append(str(folder / f"{case}_{key}{number}.nii.gz"))
            nib.save(nib.Nifti1Image(voxels, affine), files[-1])
        item[key] = files if isinstance(several, list) else files[0]
    return item


def pipeline(resized: int = 8, size: int = 8) -> Compose:
    """From 16 x 16 pixels to every second one, those with odd indices, and a crop that takes nothing away."""
    labels = ["label", "complement"]
    options: dict[str, Any] = {"keys": ["image", *labels], "allow_missing_keys": True}
    return Compose(
        [
            LoadImaged(**options, ensure_channel_first=True),
            OrientSlicesd("image"),
            OrientSlicesd(labels, like="image", allow_missing_keys=True),
            Resized(**options, spatial_size=[resized, resized, -1], mode="nearest-exact"),
            ResizeWithPadOrCropd(**options, spatial_size=[size, size, -1], value=CLASSES),
        ]
    )


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Any:
    """Build a data set, and give what is told of its drawings: level and line."""

    def build(items: list[Item], transform: Any = None, **options: Any) -> list[tuple[str, str]]:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="common"):
            SliceDataset(items, transform or pipeline(), **({"ignore_index": CLASSES} | options))
        found = [record for record in caplog.records if record.name == "common.data.kept_drawings"]
        return [(record.levelname, record.getMessage()) for record in found]

    return build


def row(number: int, *, width: int = 1, of: slice = slice(None), z: int = 0) -> tuple[slice, slice, int]:
    return slice(number, number + width), of, z


def test_a_stroke_between_the_pixels_that_are_read_is_told_of(tmp_path: Path, told: Any) -> None:
    # class 1 lies in a row that is read, and class 2 in one that is not
    strokes = [(row(0, width=4), 0), (row(7), 1), (row(10), 2)]
    item = save(tmp_path, "p1", label=drawing(*strokes))
    assert told([item]) == [
        ("INFO", "area of the drawings that preprocessing keeps: 100% of class 0, 100% of class 1, 0% of class 2"),
        (
            "WARNING",
            "preprocessing leaves nothing of a class that is drawn in p1 (class 2); set a finer --pixdim or a larger "
            "--roi_size, or draw thicker strokes",
        ),
    ]


def test_a_stroke_that_is_widened_makes_up_for_none_that_is_lost(tmp_path: Path, told: Any) -> None:
    # 16 pixels in each slice; the first slice keeps 8 of 4 mm², the second one none
    item = save(tmp_path, "p1", label=drawing((row(7), 1), (row(6, z=1), 1), (row(0, width=2), 0)))
    assert told([item]) == [("INFO", "area of the drawings that preprocessing keeps: 100% of class 0, 50% of class 1")]


def test_what_a_crop_takes_counts_and_padding_does_not(tmp_path: Path, told: Any) -> None:
    # of 16 x 16 pixels of 1 mm the inner 8 x 8 remain: columns 4 to 11, a half of class 0, nothing of class 1
    item = save(tmp_path, "p1", label=drawing((row(8), 0), (row(1), 1)))
    lines = told([item], pipeline(resized=16))
    assert lines[0][1].endswith(": 50% of class 0, 0% of class 1")
    assert "p1 (class 1)" in lines[1][1]
    assert told([item], pipeline(resized=16, size=32)) == [
        ("INFO", "area of the drawings that preprocessing keeps: 100% of class 0, 100% of class 1")
    ]


def test_what_is_read_from_the_cache_is_told_alike(tmp_path: Path, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [save(tmp_path, f"p{n}", label=drawing((row(0, width=2), 0), (row(9), 1), (row(8), 2))) for n in range(2)]
    first = told(items, CachedTransform(pipeline(), str(tmp_path / "cache")))
    assert [level for level, _ in first] == ["INFO", "WARNING"]
    monkeypatch.setattr(Compose, "__call__", None)  # nothing is prepared again
    assert told(items, CachedTransform(pipeline(), str(tmp_path / "cache"))) == first


def test_many_volumes_are_summed_up_and_few_are_named(tmp_path: Path, told: Any) -> None:
    items = [save(tmp_path, f"p{n}", label=drawing((row(0, width=2), 0), (row(8), 1))) for n in range(7)]
    items.append(save(tmp_path, "whole", label=drawing((row(0, width=2), 0), (row(8, width=2), 1))))
    info, warning = (line for _, line in told(items))
    # 16 pixels of each of the seven, of which none is left, and 32 of the last one
    assert info.endswith(": 100% of class 0, 22% of class 1")
    assert warning.startswith("preprocessing leaves nothing of a class that is drawn in p0 (class 1), p1 (class 1), ")
    assert "p4 (class 1) and 2 more volumes; set" in warning
    assert "p5" not in warning


def test_annotators_together_and_negative_drawings_by_themselves(tmp_path: Path, told: Any) -> None:
    one, two = drawing((row(9), 1), (row(0), 0)), drawing((row(8), 1), (row(1), 0))
    assert told([save(tmp_path, "p1", label=[one, two])]) == [
        ("INFO", "area of the drawings that preprocessing keeps: 100% of class 0, 100% of class 1")
    ]
    item = save(tmp_path, "p2", label=one, complement=drawing((row(8), 2), (row(4, width=2), 1)))
    info, warning = (line for _, line in told([item], keys=("image", "label", "complement")))
    assert info.endswith(": 0% of class 0, 100% of class 1, 100% of not class 1, 0% of not class 2")
    assert "p2 (class 0, not class 2)" in warning
    # an item that lacks one of the two
    assert len(told([item, save(tmp_path, "p3", label=two)], keys=("image", "label", "complement"))) == 2


def test_nothing_is_told_of_masks_images_and_what_was_noted_of_nowhere(tmp_path: Path, told: Any) -> None:
    item = save(tmp_path, "p1", label=drawing((row(0), 1), (row(9), 2)))
    assert told([item])
    assert told([item | {"supervision": "dense"}]) == []
    assert told([item], keys=["label"], ignore_index=None) == []
    assert told([item], keys=["image"], ignore_index=None) == []
    assert told([], keys=["label"]) == []
    plain = {key: torch.zeros(1, 4, 4, 2) for key in ("image", "label")}
    assert told([item], lambda item: plain) == []

    def without_note(item: Item) -> Item:
        """As results of earlier releases are."""
        prepared = pipeline()(item)
        del prepared["label"].meta["drawn_area"]
        return prepared

    assert told([item], without_note) == []


def test_slices_of_another_number_are_compared_as_a_whole(tmp_path: Path, told: Any) -> None:
    item = save(tmp_path, "p1", label=drawing((row(0, width=2), 0), (row(8, width=2, z=1), 1)))

    def doubled(item: Item) -> Item:
        prepared = pipeline()(item)
        return {key: Resized(key, spatial_size=[8, 8, 4], mode="nearest")(prepared)[key] for key in ("image", "label")}

    assert told([item], doubled) == [
        ("INFO", "area of the drawings that preprocessing keeps: 100% of class 0, 100% of class 1")
    ]


def test_of_several_processes_the_first_tells(tmp_path: Path, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.data.kept_drawings.process_rank", lambda: 1)
    assert told([save(tmp_path, "p1", label=drawing((row(0), 1), (row(9), 2)))]) == []
