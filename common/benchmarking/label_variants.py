"""Other training labels than those of a data set: strokes drawn from its dense masks, for the same protocol."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.annotated_datalist import annotated_datalist, masks_of_datalist
from ..data.datalist import datalist_info
from ..data.datalist_writer import write_datalist
from ..data.scribble_cases import annotate_cases
from ..files import read_text, staged_folder, write_json
from ..packing.archive import checksum

__all__ = ["variant_datalist"]

_DRAWN = "drawn.json"


def variant_datalist(datalist: Path, folder: Path, options: Mapping[str, Any]) -> Path:
    """The datalist with training labels drawn from the dense masks, which is made where it is not there yet,
    or was made from a datalist of other content.

    Args:
        datalist: the suite's datalist, whose training items have dense masks.
        folder: the folder of the drawn labels and of the new datalist.
        options: ``form`` and its options, see :func:`~..data.scribble_cases.annotate_cases`.

    Returns:
        The new datalist.

    Raises:
        UserError: an option is wrong, or an item has no dense mask.
    """
    made = folder / "datalist.json"
    stamp = {"options": dict(options), "datalist": str(datalist), "sha256": checksum(datalist)}
    if _is_drawn(folder, stamp):
        return made
    with staged_folder(folder, lambda: _is_drawn(folder, stamp)) as staging:
        drawn = annotate_cases(
            masks_of_datalist(datalist),
            staging,
            num_classes=datalist_info(datalist)["num_classes"],
            jobs=os.cpu_count() or 1,
            **options,
        )
        write_datalist(staging / made.name, annotated_datalist(datalist, list(drawn)))
        write_json(staging / _DRAWN, stamp)
    return made


def _is_drawn(folder: Path, stamp: Mapping[str, Any]) -> bool:
    return (folder / _DRAWN).is_file() and json.loads(read_text(folder / _DRAWN)) == stamp
