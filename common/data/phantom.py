"""The phantom: seeded short-axis cardiac MR of patients who never lived, in the files and folders of real data.

It lets every bundle train, validate and test without a download, and is hard enough to tell methods apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..errors import UserError
from ..transforms.scribble_simulation import simulate_scribble
from .datalist_writer import write_datalist
from .nifti_writer import nifti_volume
from .phantom_anatomy import acquire, draw_bias, draw_tissues, paint_body, paint_heart
from .phantom_heart import chambers, dense_labels, draw_heart

NAME = "phantom"
NUM_CLASSES = 4
CLASS_NAMES = ("background", "RV", "MYO", "LV")
VERSION = 2
"""Goes up when the phantom changes, so that a default phantom made earlier is replaced."""
DATALIST = "datalist.json"
"""The datalist's file name in the phantom's folder."""


def default_phantom_dir() -> Path:
    """The folder of the phantom that the bundles use by default: ``data/phantom`` beside the package."""
    return Path(__file__).resolve().parents[2] / "data" / "phantom"


def ensure_phantom(dataset_dir: str | os.PathLike[str]) -> Path:
    """Make the default phantom where it is missing or of an earlier version.

    Args:
        dataset_dir: the folder that is to hold a ``datalist.json``.

    Returns:
        The path of the datalist.

    Raises:
        UserError: the folder holds no datalist and is not the default phantom's.
    """
    datalist = Path(dataset_dir) / DATALIST
    if datalist.parent.resolve() == default_phantom_dir().resolve():
        _put_away_if_outdated(datalist)
        return datalist if datalist.is_file() else make_phantom(default_phantom_dir())
    if not datalist.is_file():
        raise UserError(
            f"{dataset_dir}: holds no {DATALIST}; make one with `python -m tools prepare ...` or leave dataset_dir "
            "out for phantom data"
        )
    return datalist


def _put_away_if_outdated(datalist: Path) -> None:
    try:
        content = json.loads(datalist.read_text(encoding="utf-8"))
        outdated = content["name"] == NAME and content.get("version", 1) != VERSION
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    if outdated:
        rubbish = datalist.parent.with_name(f".{uuid.uuid4().hex[:12]}.outdated")
        # of several processes one moves it, and all find it gone
        with contextlib.suppress(FileNotFoundError):
            os.rename(datalist.parent, rubbish)
        shutil.rmtree(rubbish, ignore_errors=True)


def make_phantom(output_dir: str | os.PathLike[str], *, num_patients: int = 24, seed: int = 0) -> Path:
    """Write the phantom's images, dense masks, scribbles and datalist.

    A third of the patients is for training with scribbles, a third gives unpaired masks, a twelfth validates and the
    others test; no patient is in two sections. Every patient has a frame at end-diastole and one at end-systole;
    training patients have a third one without annotation. A patient's voxels depend on the seed and its number
    alone. Everything is written to a folder beside ``output_dir`` that is renamed at the end; if the same phantom is
    there already, or another process was faster, that one stays.

    Args:
        output_dir: the folder to make, with ``datalist.json`` and ``patientNNN/patientNNN_frameMM*.nii.gz``.
        num_patients: number of patients, at least 4.
        seed: seed of all draws, at least 0.

    Returns:
        The path of the datalist.

    Raises:
        UserError: there are too few patients, the seed is negative, or ``output_dir`` holds something else or cannot
            be written.
    """
    if num_patients < 4:
        raise UserError(f"num_patients is {num_patients}; the phantom's four sections need at least 4 patients")
    if seed < 0:
        raise UserError(f"seed is {seed}; give a number from 0 on")
    target = Path(os.path.abspath(output_dir))
    head = {
        "name": NAME,
        "version": VERSION,
        "description": f"made-up short-axis cardiac MR of {num_patients} patients with scribbles, seed {seed}",
        "num_classes": NUM_CLASSES,
        "class_names": list(CLASS_NAMES),
    }
    if _holds(target, head):
        return target / DATALIST
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.{target.name}")
    try:
        temporary.mkdir(parents=True)
        write_datalist(temporary / DATALIST, head | _write_patients(temporary, num_patients, seed))
        os.rename(temporary, target)
    except OSError as error:
        if not _holds(target, head):
            raise UserError(f"{target}: cannot be written ({error.strerror}); choose another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target / DATALIST


def _holds(target: Path, head: dict[str, Any]) -> bool:
    """Whether the folder holds the phantom described by ``head``.

    Raises:
        UserError: it holds something else.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        content = json.loads((target / DATALIST).read_text(encoding="utf-8"))
        same = content.items() >= head.items()
    except (OSError, ValueError, AttributeError):
        same = False
    if not same:
        raise UserError(f"{target}: holds something else than this phantom; remove it or choose another folder")
    return True


def _write_patients(folder: Path, num_patients: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """Write all patients; gives the datalist's sections."""
    third, twelfth = num_patients // 3, max(1, num_patients // 12)
    starts = np.cumsum([third, third, twelfth])
    sections: dict[str, list[dict[str, str]]] = {
        name: [] for name in ("training", "unpaired_masks", "unlabelled", "validation", "test")
    }
    for number in range(num_patients):
        section = ("training", "unpaired_masks", "validation", "test")[int(np.searchsorted(starts, number, "right"))]
        for item in _write_patient(folder, number + 1, seed, with_extra_frame=section == "training"):
            case: dict[str, str] = {key: item[key] for key in ("case", "patient", "phase") if key in item}
            if section == "training":
                sections["unlabelled"].append({"image": item["image"], **case})
            if "scribble" in item:
                label = item["scribble" if section == "training" else "mask"]
                image = {} if section == "unpaired_masks" else {"image": item["image"]}
                mask = {"dense_label": item["mask"]} if section == "training" else {}
                sections[section].append({**image, "label": label, **mask, **case})
    return sections


def _write_patient(folder: Path, number: int, seed: int, *, with_extra_frame: bool) -> list[dict[str, str]]:
    """Draw a patient and write its frames; the files are named relative to the folder."""
    rng = np.random.default_rng([seed, number])
    patient = f"patient{number:03d}"
    (folder / patient).mkdir()
    spacing = np.array([*2 * [rng.uniform(1.25, 1.7)], rng.uniform(8, 10)])
    size = np.clip(np.rint(rng.uniform((255, 270), (300, 325)) / spacing[:2]), (160, 172), (200, 216)).astype(int)
    length = rng.uniform(62, 92)
    slices = int(np.clip(np.ceil((length + rng.uniform(0, 30)) / spacing[2]), 6, 12))
    spare = max(slices * spacing[2] - length, 0.0)
    heart = draw_heart(rng, length=length, base=spare * rng.uniform(0.2, 0.7))
    middle = complex(*rng.uniform(-20, 20, 2)) + complex(-14, -12)
    x, y = ((np.arange(extent) - (extent - 1) / 2) * spacing[0] for extent in size)
    points = (x[:, None] + 1j * y[None, :] - middle).astype(np.complex64)
    height = np.arange(slices) * spacing[2]
    tissues = draw_tissues(rng)
    body = paint_body(rng, tissues, points, height)
    bias = draw_bias(rng, body.shape)
    noise, gain = rng.uniform(0.025, 0.05), rng.uniform(200, 1200)
    affine = _oblique_affine(rng, spacing, size, slices)
    systole = int(rng.integers(8, 15))
    frames = [(1, 0.0, "ED"), (systole, 1.0, "ES")] + [(systole // 2, 0.55, "")] * with_extra_frame
    items = []
    for frame, contraction, phase in frames:
        case = f"{patient}_frame{frame:02d}"
        surfaces = chambers(heart, contraction, points, height)
        image = paint_heart(body, np.random.default_rng([seed, number, 0]), tissues, surfaces, points)
        frame_rng = np.random.default_rng([seed, number, frame])
        stored = acquire(image, frame_rng, bias, noise=noise, gain=gain)
        files = {"image": (stored, f"{patient}/{case}.nii.gz")}
        if phase:
            mask = dense_labels(surfaces)
            scribble = np.stack([simulate_scribble(plane, NUM_CLASSES, frame_rng) for plane in mask])
            files["mask"] = (mask, f"{patient}/{case}_gt.nii.gz")
            files["scribble"] = (scribble, f"{patient}/{case}_scribble.nii.gz")
        for voxels, name in files.values():
            _write_nifti(folder / name, voxels, affine)
        named = {key: name for key, (_, name) in files.items()}
        items.append(named | {"case": case, "patient": patient} | ({"phase": phase} if phase else {}))
    return items


def _oblique_affine(rng: np.random.Generator, spacing: np.ndarray, size: np.ndarray, slices: int) -> np.ndarray:
    """An affine in mm that turns the grid by up to 25 degrees about each axis and puts its middle near the origin."""
    a, b, c = np.deg2rad(rng.uniform(-25, 25, 3))
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    turn_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn_z @ turn_y @ turn_x @ np.diag(spacing * (-1, -1, 1))
    middle = (np.array([*size, slices]) - 1) / 2
    affine[:3, 3] = rng.uniform(-40, 40, 3) - affine[:3, :3] @ middle
    return affine


def _write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write slices [Z, X, Y] as a volume [X, Y, Z] with its place in the scanner."""
    nib.save(nifti_volume(np.moveaxis(voxels, 0, -1), affine), path)
