"""What the labels of a MONAI Label datastore mean: the names of their values, as 3D Slicer submitted them.

A datastore is a folder of images with ``labels/<tag>/<image>.nii.gz`` and ``datastore_v2.json``, which holds for each
label ``"label_info": [{"name": "RV", "idx": 2}, ...]``. The values in the file follow the order of the segments.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..files import read_text
from ..transforms.named_segments import Segment

__all__ = ["StudyLabel", "segments_in_study", "study_label"]

_DATASTORE = "datastore_v2.json"
# in 3D Slicer a server's address is set, a label is submitted, and with it its names
_FIX = "open the image in 3D Slicer and submit the label again"


class StudyLabel(NamedTuple):
    """A label of a datastore: the datastore's file, and what it says of the label's segments (None where nothing)."""

    datastore: Path
    label_info: Any


def study_label(path: str | os.PathLike[str], image: str | os.PathLike[str] | None = None) -> StudyLabel | None:
    """What a datastore says of a label file; None where the file lies in no datastore.

    Args:
        path: the label file.
        image: its image, whose folder is asked where the label's own path does not tell: MONAI Label follows symbolic
            links before it hands a path over.

    Raises:
        UserError: the datastore's file is damaged.
    """
    file = Path(os.path.abspath(path))
    folders = [*file.parents[2:4], *([Path(os.path.abspath(image)).parent] if image is not None else [])]
    for folder in folders:
        datastore = folder / _DATASTORE
        if not datastore.is_file():
            continue
        try:
            content = json.loads(read_text(datastore))
            labels = folder / content.get("labels_dir", "labels")
            for name, entry in content.get("objects", {}).items():
                for tag, label in entry.get("labels", {}).items():
                    # following links takes a while, which only few labels need
                    known_by = {file.name, "" if image is None else Path(image).name}
                    drawn = labels / tag / (name + label["ext"])
                    if known_by & {drawn.name, name + entry["image"]["ext"]} and drawn.resolve() == file.resolve():
                        return StudyLabel(datastore, label.get("info", {}).get("label_info"))
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{datastore}: cannot be read as the datastore of {file.name}; restore it") from error
        if labels.resolve() in file.resolve().parents:
            return StudyLabel(datastore, None)
    return None


def segments_in_study(label: StudyLabel, values: Collection[int]) -> list[Segment]:
    """The names of a label's values.

    3D Slicer's plugin leaves out segments such as ``background``. It counts them in the numbers that it tells all the
    same, but not in the voxels, so that a list with gaps can be read in two ways. The voxels decide; where they fit
    both ways, and these differ, the label is refused.

    Args:
        label: the label.
        values: the values of its voxels but 0.

    Raises:
        UserError: the datastore has no names, they are in no form that is known, or they can be read in two ways.
    """
    if not label.label_info:
        raise UserError(f"{label.datastore.name} has no names for its values (label_info); {_FIX}")
    told = [_segment(entry) for entry in _entries(label)]
    counted = [Segment(segment.name, number) for number, segment in enumerate(told, start=1)]
    numbers = [segment.value for segment in told]
    has_gaps = numbers == sorted(set(numbers)) and numbers != list(range(1, len(numbers) + 1))
    readings = [told, counted] if has_gaps else [told]
    fitting = [reading for reading in readings if set(values) <= {segment.value for segment in reading}]
    if len({_meaning(reading, values) for reading in fitting}) > 1:
        first, second = (_listed(reading) for reading in fitting)
        raise UserError(
            f"its names may mean {first} or {second}, since 3D Slicer left a segment out; remove the segment called "
            "background, foreground_scribbles or background_scribbles, and submit the label again"
        )
    return (fitting or [told])[0]


def _entries(label: StudyLabel) -> Sequence[Any]:
    if not isinstance(label.label_info, list):
        raise UserError(f"{label.datastore.name} has label_info {label.label_info!r}, no list of names; {_FIX}")
    return label.label_info


def _segment(entry: Any) -> Segment:
    name, value = (entry.get("name"), entry.get("idx")) if isinstance(entry, dict) else (None, None)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UserError(f"its label_info has an entry {entry!r} without a name; {_FIX}")
    if type(value) is not int or value < 0:
        raise UserError(f'its label_info gives "{name}" the number {value!r}; {_FIX}')
    return Segment(name, value)


def _meaning(segments: Sequence[Segment], values: Collection[int]) -> frozenset[Segment]:
    return frozenset(segment for segment in segments if segment.value in values)


def _listed(segments: Sequence[Segment]) -> str:
    return ", ".join(f"{segment.name} = {segment.value}" for segment in segments)
