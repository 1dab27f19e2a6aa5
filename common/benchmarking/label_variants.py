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
from ..files import read_text, write_json

__all__ = ["variant_datalist"]

_DRAWN = "drawn.json"


def variant_datalist(datalist: Path, folder: Path, options: Mapping[str, Any]) -> Path:
    """The datalist with training labels drawn from the dense masks, which is made where it is not there yet.

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
    stamp = {"options": dict(options), "datalist": str(datalist)}
    if made.is_file() and (folder / _DRAWN).is_file() and json.loads(read_text(folder / _DRAWN)) == stamp:
        return made
    drawn = annotate_cases(
        masks_of_datalist(datalist),
        folder,
        num_classes=datalist_info(datalist)["num_classes"],
        jobs=os.cpu_count() or 1,
        **options,
    )
    write_datalist(made, annotated_datalist(datalist, list(drawn)))
    write_json(folder / _DRAWN, stamp)  # last, so that an interrupted drawing begins anew
    return made
