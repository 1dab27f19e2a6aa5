"""The LES-AV data set of retinal vessels: from its official folders to masks and a datalist.

Layout (Orlando et al., MICCAI 2018): ``images/<id>.png`` is a colour photograph of the fundus, ``av_labels/<id>.png``
says which vessel each pixel belongs to (arteries, veins, their crossings and uncertain ones), as numbers or as colours
on black, and ``fov/<id>.gif`` is bright in the field of view. All vessels are one class here; outside the field of
view nothing is annotated.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..files import atomic_file
from .checks import check_items
from .prepared_case import empty_datalist

__all__ = ["CLASS_NAMES", "build_les_av_datalist"]

CLASS_NAMES = ("background", "vessel")

_SPLIT_FILE = Path(__file__).with_name("splits") / "les_av.json"
_FILES = {"images": "images/{}.png", "labels": "av_labels/{}.png", "fields of view": "fov/{}.gif"}


def build_les_av_datalist(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> dict[str, Any]:
    """Write the masks as PNG and build the datalist; photographs are used where they lie.

    Masks hold 0 (background), 1 (vessel) and, outside the field of view, 2 (not annotated). The committed split names
    14 photographs to train and 4 to validate with; all others that are there are test data. Files of an earlier run
    are replaced.

    Args:
        source: the folder that holds ``images/``, ``av_labels/`` and ``fov/``.
        output: the folder that gets ``masks/``.

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`; training items have
        dense masks.

    Raises:
        UserError: photographs of the split or the files that belong to a photograph are missing, damaged or of
            different sizes.
    """
    root, folder = Path(os.path.abspath(source)), Path(os.path.abspath(output))
    split = json.loads(_SPLIT_FILE.read_text(encoding="utf-8"))
    sections = {section: [str(number) for number in split[section]] for section in ("training", "validation")}
    known = sections["training"] + sections["validation"]
    found = sorted((file.stem for file in (root / "images").glob("*.png")), key=lambda name: (len(name), name))
    if not found:
        raise UserError(f"{root}: has no images/<id>.png; name the folder of the LES-AV download")
    sections["test"] = [name for name in found if name not in known]
    for kind, pattern in _FILES.items():
        names = [pattern.format(name) for name in dict.fromkeys(known + found)]
        missing = [name for name in names if not (root / name).is_file()]
        if missing:
            raise UserError(f"{root}: lacks {len(missing)} {kind} ({', '.join(missing)}); restore these files")
    content = empty_datalist(
        "les_av",
        description=f"LES-AV. {split['description']}",
        source=split["source"],
        class_names=CLASS_NAMES,
    )
    for section, names in sections.items():
        extra = {"supervision": "dense"} if section == "training" else {}
        for name in names:
            content[section].append(_write_mask(root, folder / "masks" / f"{name}.png", name) | extra)
    return content


def _write_mask(root: Path, target: Path, name: str) -> dict[str, str]:
    """Write a photograph's mask; gives its item."""
    label, field = (root / _FILES[kind].format(name) for kind in ("labels", "fields of view"))
    vessel, visible = _bright(label), _bright(field)
    if vessel.shape != visible.shape:
        sizes = " where ".join(f"{mask.shape[1]} x {mask.shape[0]} pixels" for mask in (visible, vessel))
        raise UserError(f"{field}: has {sizes} are in {label}; copy both again")
    mask = np.where(visible, vessel, len(CLASS_NAMES)).astype(np.uint8)
    with atomic_file(target) as temporary:
        Image.fromarray(mask).save(temporary)
    image = root / _FILES["images"].format(name)
    item = {"image": str(image), "label": str(target), "case": name, "patient": name}
    check_items([item], num_classes=len(CLASS_NAMES), kind="either")
    return item


def _bright(file: Path) -> np.ndarray:
    """Where a picture [rows, columns] of numbers or colours is not black."""
    try:
        with Image.open(file) as picture:
            return np.any(np.asarray(picture.convert("RGB")), axis=-1)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as a picture, it is cut short or damaged; copy it again") from error
