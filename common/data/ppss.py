"""The PPSS data set of pedestrians: from the official pictures to small pictures, scribbles and a datalist.

Layout (Pedestrian Parsing in Surveillance Scenes; Luo et al., ICCV 2013): ``TrainData/`` holds the pictures of the
first 100 cameras and ``TestData/`` those of the last 71, each with a mask beside it, ``<name>.jpg`` and
``<name>_m.png``, or in twin folders ``Images/<name>.jpg`` and ``SegmentationMasks/<name>.png``. The first number in a
picture's folder or name is its camera. Masks have 80 x 160 pixels (width x height) and a grey value for each part.

As in Valvano et al. (IEEE TMI 2021, section IV-A) there are seven classes, and pictures are resampled to the size of
the masks. The masks tell lower clothes from bare legs; the paper lists legs alone, so both are legs here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import UserError
from ..files import atomic_file
from ..transforms.scribble_skeleton import FORMS, skeleton_scribble
from .checks import check_items
from .patient_split import split_training
from .picture_mask import read_picture_mask
from .prepared_case import KIND_OF_SECTION, empty_datalist

__all__ = ["CLASS_NAMES", "SIZE", "build_ppss_datalist"]

CLASS_NAMES = ("background", "hair", "face", "upper clothes", "arms", "legs", "shoes")
SIZE = (80, 160)
"""Width and height of the prepared pictures and masks in pixels."""

# In the order of the classes; 39 is lower clothes and 60 bare legs.
_GREYS = ((0,), (9,), (19,), (29,), (50,), (39, 60), (62,))
_CODES = {range(grey, grey + 1): index for index, greys in enumerate(_GREYS) for grey in greys}
_FOLDERS = {"TrainData": "train", "TestData": "test"}
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp")


class _Picture(NamedTuple):
    """A picture, its mask, which need not exist, its name in the datalist and its camera."""

    image: Path
    mask: Path
    case: str
    camera: str


def build_ppss_datalist(
    source: str | os.PathLike[str], output: str | os.PathLike[str], *, form: str = "skeleton", seed: int = 0
) -> dict[str, Any]:
    """Write all pictures, masks and scribbles as PNG of one size, and build their datalist.

    All pictures of a camera lie in the same section (the datalist's ``patient``): of the cameras in ``TrainData``
    nine tenths train, in halves, and a tenth validates, see :func:`~.patient_split.split_training`; those in
    ``TestData`` test. (The paper divides pictures; whole cameras keep a scene from being on both sides.) One picture
    at a time is held in memory; files of an earlier run are replaced.

    Args:
        source: the folder that holds ``TrainData`` and ``TestData``, or the folder that this folder lies in.
        output: the folder that gets the pictures, in ``train/`` and ``test/``.
        form: how scribbles are drawn, a name in :data:`~common.transforms.scribble_skeleton.FORMS`.
        seed: seed of the split.

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`.

    Raises:
        UserError: ``form`` is unknown, or pictures or masks are missing or damaged.
    """
    if form not in FORMS:
        raise UserError(f'unknown form "{form}" of PPSS scribbles; choose one of {", ".join(FORMS)}')
    root, folder = Path(os.path.abspath(source)), Path(os.path.abspath(output))
    pictures = _find_pictures(root)
    cameras = {name: sorted({picture.camera for picture in found}) for name, found in pictures.items()}
    sections = split_training(cameras["TrainData"], seed=seed) | {"test": cameras["TestData"]}
    content = empty_datalist(
        "ppss",
        description=f"PPSS, {len(cameras['TrainData'])} cameras to train and validate with (90/10, seed {seed}, "
        f"half of the training cameras with skeletons ({form}) as scribbles), {len(cameras['TestData'])} to test.",
        source="Luo, Wang, Tang: Pedestrian Parsing via Deep Decompositional Network, ICCV 2013.",
        class_names=CLASS_NAMES,
    )
    for section, names in sections.items():
        for name, found in pictures.items():
            for picture in (picture for picture in found if picture.camera in names):
                item = _write_picture(folder / _FOLDERS[name], section, picture, form)
                content[section].append(item)
                if section == "training":
                    content["unlabelled"].append({key: item[key] for key in ("image", "case", "patient")})
    return content


def _find_pictures(root: Path) -> dict[str, list[_Picture]]:
    """The pictures of each of the two folders, all of which have masks."""
    for folder in (root, *sorted(root.glob("*/"))):
        if all((folder / name).is_dir() for name in _FOLDERS):
            break
    else:
        raise UserError(f"{root}: has no folders TrainData and TestData; name the folder of the PPSS download")
    found = {name: _pictures_in(folder / name, prefix) for name, prefix in _FOLDERS.items()}
    for name, pictures in found.items():
        if not pictures:
            raise UserError(f"{folder / name}: holds no pictures; restore its files")
    missing = [picture.mask.name for pictures in found.values() for picture in pictures if not picture.mask.is_file()]
    cases = [picture.case for pictures in found.values() for picture in pictures]
    twice = sorted({case for case in cases if cases.count(case) > 1}) if len(set(cases)) < len(cases) else []
    if twice:
        raise UserError(f"{folder}: {len(twice)} pictures are there twice, first {twice[0]}; keep one of each")
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(f"{folder}: lacks {len(missing)} masks ({shown}); restore them or remove their pictures")
    return found


def _pictures_in(folder: Path, prefix: str) -> list[_Picture]:
    pictures = []
    for image in sorted(folder.rglob("*")):
        path = image.relative_to(folder)
        is_mask = image.stem.endswith("_m") or "SegmentationMasks" in path.parts
        if image.suffix.lower() not in _PICTURES or is_mask:
            continue
        name = "_".join(part for part in path.with_suffix("").parts if part != "Images")
        number = re.search(r"\d+", name)
        if number is None:
            raise UserError(f"{image}: has no number in its name that tells its camera; restore the original name")
        camera = f"{prefix}{int(number[0]):03d}"
        pictures.append(_Picture(image, _mask_of(image), f"{prefix}_{name}", camera))
    return pictures


def _mask_of(image: Path) -> Path:
    """Where the mask of a picture is or, where it is missing, should be."""
    beside = image.with_name(f"{image.stem}_m.png")
    if beside.is_file() or "Images" not in image.parts:
        return beside
    parts = list(image.parts)
    parts[len(parts) - 1 - parts[::-1].index("Images")] = "SegmentationMasks"
    twin = Path(*parts).with_suffix(".png")
    return twin if twin.is_file() else twin.with_name(f"{image.stem}_m.png")


def _write_picture(folder: Path, section: str, picture: _Picture, form: str) -> dict[str, str]:
    """Write the files that a picture needs in its section; gives its item."""
    parts = Image.fromarray(read_picture_mask(picture.mask, _CODES))
    mask = np.asarray(parts.resize(SIZE, Image.Resampling.NEAREST))
    files: dict[str, tuple[str, np.ndarray]] = {}
    if section != "unpaired_masks":
        files["image"] = (f"{picture.case}.png", _read_image(picture.image))
    files["label"] = (f"{picture.case}_gt.png", mask)
    if section == "training":
        files["dense_label"] = files["label"]
        files["label"] = (f"{picture.case}_scribble.png", skeleton_scribble(mask, len(CLASS_NAMES), **FORMS[form]))
    for name, pixels in files.values():
        with atomic_file(folder / name) as temporary:
            Image.fromarray(pixels).save(temporary)
    item = {key: str(folder / name) for key, (name, _) in files.items()}
    item |= {"case": picture.case, "patient": picture.camera}
    check_items([item], num_classes=len(CLASS_NAMES), kind=KIND_OF_SECTION[section])
    return item


def _read_image(file: Path) -> np.ndarray:
    """A picture [rows, columns, 3] of the masks' size."""
    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB").resize(SIZE, Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as a picture, it is cut short or damaged; copy it again") from error
