"""Labels as 3D Slicer's plugin for MONAI Label submits them, made from this project's scribbles."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

LEFT_OUT = ("background", "foreground_scribbles", "background_scribbles")
CODES = {"bg_scribble": 0, "rv": 1, "myo": 2, "lv": 3}
ORDER = ("LV", "bg_scribble", "RV", "MYO")


def submitted(scribbles: np.ndarray, order: Sequence[str] = ORDER) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The label map that the plugin sends, and what it tells of its segments.

    The voxels count the segments that are sent, the numbers that are told count the ones left out as well.

    Args:
        scribbles: values of this project.
        order: names of the segments, from the first to the last, in upper or lower case.
    """
    kept = [(name, number) for number, name in enumerate(order, start=1) if name not in LEFT_OUT]
    voxels = np.zeros(scribbles.shape, np.uint8)
    for value, (name, _) in enumerate(kept, start=1):
        voxels[scribbles == CODES[name.lower()]] = value
    return voxels, [{"name": name, "idx": number} for name, number in kept]


def make_study(folder: Path, items: Sequence[dict[str, str]], orders: Sequence[Sequence[str]] = (ORDER,)) -> list[Any]:
    """A datastore of images with their scribbles, as if each had been submitted; its items as MONAI Label gives them.

    Args:
        folder: the folder of images.
        items: images and scribbles of this project.
        orders: order of the segments, of the first item and so on, and again from the first one.
    """
    labels = folder / "labels" / "final"
    labels.mkdir(parents=True)
    objects, given = {}, []
    for number, item in enumerate(items):
        name = f"p{number}"
        shutil.copy(item["image"], folder / f"{name}.nii.gz")
        scribbles = nib.load(item["label"])
        voxels, told = submitted(np.asarray(scribbles.dataobj), orders[number % len(orders)])
        nib.save(nib.Nifti1Image(voxels, scribbles.affine), labels / f"{name}.nii.gz")
        final = {"ext": ".nii.gz", "info": {"label_info": told, "ts": 1, "name": f"{name}.nii.gz"}}
        objects[name] = {"image": {"ext": ".nii.gz", "info": {}}, "labels": {"final": final}}
        files = {"image": folder / f"{name}.nii.gz", "label": labels / f"{name}.nii.gz"}
        given.append({key: os.path.realpath(file) for key, file in files.items()})
    content = {"name": "new-dataset", "description": "", "images_dir": ".", "labels_dir": "labels", "objects": objects}
    (folder / "datastore_v2.json").write_text(json.dumps(content, indent=2))
    return given


def rename(folder: Path, name: str, label_info: Any) -> None:
    """Let the datastore tell something else of a label."""
    content = json.loads((folder / "datastore_v2.json").read_text())
    content["objects"][name]["labels"]["final"]["info"]["label_info"] = label_info
    (folder / "datastore_v2.json").write_text(json.dumps(content))
