"""The Cityscapes data set of street scenes: from its official folders to masks, coarse drawings and a datalist.

Layout (Cordts et al., CVPR 2016): ``leftImg8bit/train/<city>/<stem>_leftImg8bit.png`` are the pictures,
``gtFine/train/<city>/<stem>_gtFine_labelIds.png`` their masks and ``gtCoarse/train/<city>/`` has masks of a few coarse
polygons, ``<stem>_gtCoarse_labelIds.png``; pictures and fine masks of other cities are in ``val/``. Of the 34 label
numbers 19 are classes; a pixel of another number counts as not annotated. There is no background.

Zhang et al. (arXiv 2508.18186, table 3) train with 174 pictures, which is how many the city Aachen has.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ..errors import UserError
from ..files import atomic_file
from .checks import check_items
from .picture_mask import read_picture_mask
from .prepared_case import empty_datalist

__all__ = ["CLASS_NAMES", "FORMS", "SPLITS", "build_cityscapes_datalist"]

_NUMBERS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
CLASS_NAMES = tuple(_NUMBERS)
FORMS = ("simulated", "polygons")
SPLITS = ("aachen", "all")

_VALIDATION_CITY = "bochum"
_CLASSES = {number: index for index, number in enumerate(_NUMBERS.values())}
_CODES = {range(number, number + 1): _CLASSES.get(number, len(CLASS_NAMES)) for number in range(34)}


class _Picture(NamedTuple):
    """A picture, its fine mask and its coarse polygons; the last two need not exist."""

    stem: str
    image: Path
    fine: Path
    coarse: Path


def build_cityscapes_datalist(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    split: str = "aachen",
    form: str = "simulated",
) -> dict[str, Any]:
    """Write the masks of classes as PNG and build the datalist; pictures are used where they lie.

    Masks hold 0 to 18 and, where nothing is annotated, 19. The training city ``bochum`` validates and the pictures in
    ``val/`` test, both with fine masks. One picture at a time is held in memory; files of an earlier run are replaced.

    Args:
        source: the folder that holds ``leftImg8bit/``, ``gtFine/`` and, for polygons, ``gtCoarse/``.
        output: the folder that gets ``masks/`` (fine) and ``drawings/`` (coarse).
        split: the cities to train with, ``"aachen"`` alone or ``"all"`` training cities but ``bochum``.
        form: ``"simulated"`` (training items have fine masks, from which a training simulates drawings) or
            ``"polygons"`` (they have the coarse polygons and, where there is one, the fine mask as ``dense_label``).

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`.

    Raises:
        UserError: ``split`` or ``form`` is unknown, a city has no pictures, or masks are missing, damaged, of another
            size or of unknown numbers.
    """
    for value, known, what in ((split, SPLITS, "Cityscapes split"), (form, FORMS, "form of Cityscapes drawings")):
        if value not in known:
            raise UserError(f'unknown {what} "{value}"; choose one of {", ".join(known)}')
    root, folder = Path(os.path.abspath(source)), Path(os.path.abspath(output))
    sections = _find_pictures(root, split)
    _require_masks(root, sections, form)
    cities = len({picture.image.parent for picture in sections["training"]})
    content = empty_datalist(
        "cityscapes",
        description=f"Cityscapes, {len(sections['training'])} pictures of {cities} cities to train with (split "
        f"{split}, drawings {form}), {_VALIDATION_CITY} to validate with and the official validation cities to test.",
        source="Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.",
        class_names=CLASS_NAMES,
    )
    for section, pictures in sections.items():
        drawn = section == "training" and form == "polygons"
        for picture in pictures:
            item = _write_masks(folder, picture, drawn=drawn)
            content[section].append(item | ({"supervision": "dense"} if section == "training" and not drawn else {}))
    return content


def _find_pictures(root: Path, split: str) -> dict[str, list[_Picture]]:
    """The pictures by section, none of which is empty."""
    images = root / "leftImg8bit"
    train, val = ([city.name for city in sorted((images / part).glob("*/"))] for part in ("train", "val"))
    if not train:
        raise UserError(f"{root}: has no leftImg8bit/train/<city>; name the folder of the Cityscapes download")
    chosen = [SPLITS[0]] if split == SPLITS[0] else [city for city in train if city != _VALIDATION_CITY]
    cities = {
        "training": [("train", city) for city in chosen],
        "validation": [("train", _VALIDATION_CITY)],
        "test": [("val", city) for city in val],
    }
    for section, part in (("training", "train"), ("test", "val")):
        if not cities[section]:
            raise UserError(f"{images / part}: has no cities for the section {section}; restore the folder")
    found: dict[str, list[_Picture]] = {section: [] for section in cities}
    for section, parts in cities.items():
        for part, city in parts:
            pictures = _pictures_in(root, part, city)
            if not pictures:
                raise UserError(f"{images / part / city}: holds no *_leftImg8bit.png; restore the city's pictures")
            found[section] += pictures
    return found


def _pictures_in(root: Path, part: str, city: str) -> list[_Picture]:
    pictures = []
    for image in sorted((root / "leftImg8bit" / part / city).glob("*_leftImg8bit.png")):
        stem = image.name.removesuffix("_leftImg8bit.png")
        fine, coarse = (root / kind / part / city / f"{stem}_{kind}_labelIds.png" for kind in ("gtFine", "gtCoarse"))
        pictures.append(_Picture(stem, image, fine, coarse))
    return pictures


def _require_masks(root: Path, sections: dict[str, list[_Picture]], form: str) -> None:
    coarse, fine = list(sections["training"]), sections["validation"] + sections["test"]
    if form == "simulated":
        coarse, fine = [], coarse + fine
    files: dict[str, Sequence[Path]] = {"coarse": [picture.coarse for picture in coarse]}
    files["fine"] = [picture.fine for picture in fine]
    for kind, wanted in files.items():
        missing = [file.name for file in wanted if not file.is_file()]
        if missing:
            shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise UserError(f"{root}: lacks {len(missing)} {kind} masks ({shown}); restore them")


def _write_masks(folder: Path, picture: _Picture, *, drawn: bool) -> dict[str, str]:
    """Write the fine mask of a picture, or its drawings and, if there is one, its fine mask; gives its item."""
    files = {"dense_label" if drawn else "label": (folder / "masks", picture.fine)}
    if drawn:
        files = {"label": (folder / "drawings", picture.coarse)} | (files if picture.fine.is_file() else {})
    item = {"image": str(picture.image), "case": picture.stem, "patient": picture.stem}
    for key, (target, source) in files.items():
        file = target / f"{picture.stem}.png"
        with atomic_file(file) as temporary:
            Image.fromarray(read_picture_mask(source, _CODES)).save(temporary)
        item[key] = str(file)
        check_items([item | {"label": str(file)}], num_classes=len(CLASS_NAMES), kind="either")
    return item
