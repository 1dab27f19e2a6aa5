"""A datalist whose training items get simulated annotations of their dense masks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .case_names import case_of, stem_of
from .datalist import datalist_info, load_datalist
from .label_files import LabelFile
from .prepared_case import KIND_OF_SECTION
from .scribble_cases import Annotation

__all__ = ["annotated_datalist", "masks_of_datalist"]

_KEYS = {"scribble": "label", "coarse": "label", "not": "complement"}


def masks_of_datalist(datalist: str | os.PathLike[str]) -> list[LabelFile]:
    """The dense masks of a datalist's training items: ``"dense_label"``, or else ``"label"``.

    Raises:
        UserError: the datalist is damaged, an item names several masks, or two items have one case's name.
    """
    for section in KIND_OF_SECTION:  # a fault there would otherwise be found when everything is drawn
        load_datalist(datalist, section, required=False, existing=False)
    masks: dict[str, LabelFile] = {}
    for item in load_datalist(datalist, "training"):
        mask = item.get("dense_label", item.get("label"))
        if not isinstance(mask, str):
            name = item.get("case") or item["image"]
            raise UserError(f'{datalist}: {name} has no dense mask; add the path of its file as "dense_label"')
        case = _case(item, mask)
        if case in masks:
            raise UserError(f'{datalist}: two items of "training" are of case {case}; give them names of their own')
        masks[case] = LabelFile(Path(mask), case)
    return [masks[case] for case in sorted(masks)]


def annotated_datalist(datalist: str | os.PathLike[str], annotations: Sequence[Annotation]) -> dict[str, Any]:
    """The datalist with the annotations as labels of its training items and the masks as their ``"dense_label"``.

    Args:
        datalist: the JSON file.
        annotations: the annotations of all cases of :func:`masks_of_datalist`.

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`.

    Raises:
        UserError: the datalist is damaged.
    """
    info = datalist_info(datalist)
    content = json.loads(Path(datalist).read_text(encoding="utf-8")) | info
    sections = [name for name in KIND_OF_SECTION if name in content]
    content |= {name: load_datalist(datalist, name, required=False, existing=False) for name in sections}
    drawn = {annotation.case: annotation.files for annotation in annotations}
    training = []
    for item in content["training"]:
        mask = item.get("dense_label", item.get("label"))
        files = drawn[_case(item, mask)]
        labels = {_KEYS[name]: paths if len(paths) > 1 else paths[0] for name, paths in files.items()}
        kept = {key: value for key, value in item.items() if key not in ("label", "complement", "supervision")}
        training.append(kept | labels | {"dense_label": mask})
    return content | {"training": training}


def _case(item: Mapping[str, Any], mask: str) -> str:
    name = os.path.basename(mask)
    return str(item.get("case") or case_of(stem_of(name) or name))
