"""The ACDC data set with expert scribbles: from its official folders to a datalist.

Layout (Bernard et al., IEEE TMI 2018): ``training/patientNNN/`` holds ``patientNNN_frameMM.nii.gz`` and its reference
mask ``patientNNN_frameMM_gt.nii.gz`` at end-diastole (ED) and end-systole (ES), ``patientNNN_4d.nii.gz`` with all
frames of the cine, and ``Info.cfg`` with the two frame numbers. The scribbles of Valvano et al. (IEEE TMI 2021) are
``patientNNN_frameMM_scribble.nii.gz`` in a folder of their own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError

CLASS_NAMES = ("background", "RV", "MYO", "LV")
SECTIONS = ("training", "unpaired_masks", "validation", "test")

_SPLITS_FILE = Path(__file__).with_name("splits") / "acdc.json"


class _Frame(NamedTuple):
    """One annotated frame; the files need not exist."""

    case: str
    patient: str
    phase: str
    image: Path
    mask: Path

    def item(self, **files: Path) -> dict[str, str]:
        """A datalist item with these files."""
        names = {key: str(path) for key, path in files.items()}
        return names | {"case": self.case, "patient": self.patient, "phase": self.phase}


def load_splits() -> dict[str, dict[str, Any]]:
    """The committed protocols by name: ``description``, ``source`` and the patient ids of each of ``SECTIONS``."""
    return json.loads(_SPLITS_FILE.read_text(encoding="utf-8"))["protocols"]


def build_acdc_datalist(
    source: str | os.PathLike[str], scribbles: str | os.PathLike[str], protocol: str = "maag_split0"
) -> dict[str, Any]:
    """Build the datalist of one protocol.

    Both frames of a patient lie in the same section. ``unlabelled`` holds, for each patient with scribbles, the 4D
    file where there is one (``"frames": "all"``), else its two images without their scribbles. Without ``Info.cfg``
    the lower frame number is ED and the higher one ES.

    Args:
        source: the official folder that holds ``training/``, or that folder itself.
        scribbles: the folder of the scribble files, flat or with one folder a patient.
        protocol: a name from :func:`load_splits`.

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`.

    Raises:
        UserError: the protocol is unknown, or folders, patients, images, masks or scribbles that it needs are
            missing; the line names the first of them, and the protocols for which everything is there.
    """
    splits = load_splits()
    if protocol not in splits:
        raise UserError(f'unknown ACDC split "{protocol}"; choose one of {", ".join(splits)}')
    folder, strokes = _training_folder(source), Path(os.path.abspath(scribbles))
    if not strokes.is_dir():
        raise UserError(f"{strokes}: no such folder; name the folder of the *_scribble.nii.gz files")
    try:
        return _build(folder, strokes, protocol, splits[protocol])
    except UserError as error:
        others = [name for name in splits if name != protocol and _is_complete(folder, strokes, name, splits[name])]
        if not others:
            raise
        raise UserError(f"{error}; splits that work with these files: {', '.join(others)}") from error


def _build(folder: Path, strokes: Path, name: str, split: dict[str, Any]) -> dict[str, Any]:
    ids = {section: split[section] for section in SECTIONS}
    wanted = [_patient_name(number) for section in SECTIONS for number in sorted(ids[section])]
    absent = [patient for patient in wanted if not (folder / patient).is_dir()]
    if absent:
        raise UserError(f"{folder}: split {name} lacks {len(absent)} of {len(wanted)} patients ({_first(absent)})")
    frames = {
        section: [frame for number in sorted(ids[section]) for frame in _frames(folder / _patient_name(number))]
        for section in SECTIONS
    }
    references = [frame for section in ("unpaired_masks", "validation", "test") for frame in frames[section]]
    pictures = [frame for section in ("training", "validation", "test") for frame in frames[section]]
    drawn = {frame.case: _scribble_file(strokes, frame) for frame in frames["training"]}
    _require(folder, "images", [frame.image for frame in pictures])
    _require(folder, "reference masks", [frame.mask for frame in references])
    _require(strokes, "scribble files", drawn.values())
    return {
        "name": "acdc",
        "description": f"ACDC, split {name}. {split['description']}",
        "source": split["source"],
        "num_classes": len(CLASS_NAMES),
        "class_names": list(CLASS_NAMES),
        "training": [_training_item(frame, drawn[frame.case]) for frame in frames["training"]],
        "unpaired_masks": [frame.item(label=frame.mask) for frame in frames["unpaired_masks"]],
        "unlabelled": _unlabelled(folder, frames["training"]),
        "validation": [frame.item(image=frame.image, label=frame.mask) for frame in frames["validation"]],
        "test": [frame.item(image=frame.image, label=frame.mask) for frame in frames["test"]],
    }


def _training_item(frame: _Frame, scribble: Path) -> dict[str, str]:
    masks = {"dense_label": frame.mask} if frame.mask.is_file() else {}
    return frame.item(image=frame.image, label=scribble, **masks)


def _training_folder(source: str | os.PathLike[str]) -> Path:
    """The folder of the patients' folders."""
    root = Path(os.path.abspath(source))
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the folder of the ACDC download")
    for folder in (root / "training", root):
        if any(folder.glob("patient[0-9][0-9][0-9]/")):
            return folder
    raise UserError(f"{root}: has no patientNNN folders, nor has its training/; name the folder of the ACDC download")


def _frames(folder: Path) -> list[_Frame]:
    """A patient's ED and ES frames, by what Info.cfg or else the file names say."""
    patient = folder.name
    pattern = re.compile(rf"{patient}_frame(\d+)(?:_gt)?\.nii\.gz")
    numbers = _info_frames(folder / "Info.cfg") or sorted(
        {int(match[1]) for file in folder.iterdir() if (match := pattern.fullmatch(file.name))}
    )
    if len(numbers) != 2:
        raise UserError(f"{folder}: holds {len(numbers)} annotated frames instead of 2 (ED and ES); restore its files")
    stems = [f"{patient}_frame{number:02d}" for number in numbers]
    return [
        _Frame(stem, patient, phase, folder / f"{stem}.nii.gz", folder / f"{stem}_gt.nii.gz")
        for stem, phase in zip(stems, ("ED", "ES"), strict=True)
    ]


def _info_frames(info: Path) -> list[int]:
    """The frame numbers of ED and ES in Info.cfg; empty where there is no such file."""
    if not info.is_file():
        return []
    found = dict(re.findall(r"^\s*(ED|ES)\s*:\s*(\d+)\s*$", info.read_text(encoding="utf-8"), re.MULTILINE))
    if len(found) != 2:
        raise UserError(f'{info}: needs one line "ED: <frame>" and one line "ES: <frame>"; restore the file')
    return [int(found["ED"]), int(found["ES"])]


def _unlabelled(folder: Path, frames: Sequence[_Frame]) -> list[dict[str, str]]:
    """The images of the patients with scribbles: all frames where the 4D file exists, else the two at hand."""
    items = []
    for frame in frames:
        cine = folder / frame.patient / f"{frame.patient}_4d.nii.gz"
        if not cine.is_file():
            items.append(frame.item(image=frame.image))
        elif frame.phase == "ED":
            items.append({"image": str(cine), "frames": "all", "case": f"{frame.patient}_4d", "patient": frame.patient})
    return items


def _scribble_file(strokes: Path, frame: _Frame) -> Path:
    name = f"{frame.case}_scribble.nii.gz"
    nested = strokes / frame.patient / name
    return nested if nested.is_file() else strokes / name


def _require(folder: Path, kind: str, files: Iterable[Path]) -> None:
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise UserError(f"{folder}: lacks {len(absent)} {kind} ({_first(absent)})")


def _is_complete(folder: Path, strokes: Path, name: str, split: dict[str, Any]) -> bool:
    try:
        _build(folder, strokes, name, split)
    except UserError:
        return False
    return True


def _patient_name(number: int) -> str:
    return f"patient{number:03d}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
