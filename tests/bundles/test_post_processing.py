"""Keeping the largest pieces of each class: alike in inference and evaluation of every bundle, and off by default."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import create_workflow
from scipy import ndimage

from common.data.datalist import load_datalist
from common.engines.bundle_predictor import BundlePredictor
from common.errors import UserError

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())


def largest(found: np.ndarray, number: int | None) -> np.ndarray:
    """The definition, with another library: which voxels belong to the largest 26-connected pieces."""
    pieces, count = ndimage.label(found, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    if number is None or count <= number:
        return found
    order = np.argsort(sizes)
    assert sizes[order[-number - 1]] < sizes[order[-number]], "a tie, which no rule decides"
    return np.isin(pieces, order[-number:] + 1)


def kept_pieces(labels: np.ndarray, bodies: int | None, components: int | None) -> np.ndarray:
    labels = np.where(largest(labels > 0, bodies), labels, 0)
    return sum(index * largest(labels == index, components) for index in range(1, 4))


def segmented(bundle: str, image: str, folder: Path, **options: Any) -> nib.Nifti1Image:
    folder.mkdir()
    inference = REPO_ROOT / "bundles" / bundle / "configs" / "inference.json"
    predictor = BundlePredictor([inference], overrides={"device": "cpu", **options})
    return nib.load(predictor.segment(Path(image), folder))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_largest_pieces_alone_are_written_and_scored(bundle: str, phantom_dir: Path, tmp_path: Path) -> None:
    """With the bundle's own weights, which find hearts in many places of the phantom."""
    item = load_datalist(phantom_dir / "datalist.json", "validation")[0]
    whole = segmented(bundle, item["image"], tmp_path / "all")
    labels = np.asarray(whole.dataobj)
    sizes = [(labels > 0).sum()]
    for number, (bodies, components) in enumerate([(None, 2), (2, None), (1, 1)]):
        kept = segmented(bundle, item["image"], tmp_path / str(number), keep_bodies=bodies, keep_components=components)
        np.testing.assert_array_equal(kept.affine, whole.affine)
        assert kept.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(kept.dataobj), kept_pieces(labels, bodies, components))
        sizes.append((np.asarray(kept.dataobj) > 0).sum())
    assert 0 < sizes[3] < min(sizes[:3])
    one = kept_pieces(labels, 1, 1)

    configs = REPO_ROOT / "bundles" / bundle / "configs"
    create_workflow(
        config_file=[str(configs / "train.json"), str(configs / "evaluate.json")],
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(phantom_dir),
        output_dir=str(tmp_path / "evaluation"),
        device="cpu",
        keep_bodies=1,
        keep_components=1,
    ).run()
    with (tmp_path / "evaluation" / "metrics.csv").open(newline="") as file:
        scored = {row["class_index"]: float(row["dice"]) for row in csv.DictReader(file) if row["case"] == item["case"]}
    reference = np.asarray(nib.load(item["label"]).dataobj)
    for index, dice in scored.items():
        ours, theirs = one == int(index), reference == int(index)
        assert dice == pytest.approx(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()), abs=1e-9)
    meta = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["meta"]
    assert (meta["keep_bodies"], meta["keep_components"]) == (1, 1)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "one", [1]])
@pytest.mark.parametrize("key", ["keep_bodies", "keep_components"])
def test_other_numbers_of_pieces_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^--{key}: must be a number of pieces to keep, such as 1, or null for all"):
        segmented("dmpls", "unread.nii.gz", tmp_path / "out", **{key: value})
