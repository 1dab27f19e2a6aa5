"""Write the datalist of a public data set from the files that its owners publish."""

from __future__ import annotations

import os
from typing import Any

from common.data.acdc import build_acdc_datalist
from common.data.checks import check_items
from common.data.datalist_writer import write_datalist
from common.errors import UserError

_KIND_OF_SECTION = {
    "training": "scribble",
    "unpaired_masks": "mask",
    "unlabelled": "image",
    "validation": "dense",
    "test": "dense",
}


def main(
    dataset: str, *, source: str, scribbles: str, output: str, split: str = "maag_split0", check: bool = False
) -> None:
    """Write <output>/datalist.json for a data set and print what it holds; no image is copied or changed.

    Args:
        dataset: the data set; acdc.
        source: the folder of the official download that holds training/, or that folder itself.
        scribbles: the folder of the scribble files.
        output: the folder that gets datalist.json; an earlier one is replaced.
        split: maag_split0 (the published one; needs all 100 patients), half35 or all64 (of 80 patients).
        check: true also reads every listed file and stops at the first faulty one, before anything is written.

    Raises:
        UserError: the data set or split is unknown, or files are missing or faulty.
    """
    if dataset != "acdc":
        raise UserError(f'unknown data set "{dataset}"; the known one is acdc')
    content = build_acdc_datalist(source, scribbles, split)
    if check:
        for section, kind in _KIND_OF_SECTION.items():
            check_items(content[section], num_classes=content["num_classes"], kind=kind)
    path = os.path.join(os.path.abspath(output), "datalist.json")
    write_datalist(path, content)
    print(f"{path}: split {split}")
    for section in _KIND_OF_SECTION:
        print(f"  {section}: {_count(content[section])}")


def _count(items: list[dict[str, Any]]) -> str:
    patients = len({item["patient"] for item in items})
    return f"{len(items)} volumes of {patients} patients"
