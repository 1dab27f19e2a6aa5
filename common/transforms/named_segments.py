"""Segments of a label map: what each value is called, as 3D Slicer writes it in the header of its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import UserError

__all__ = ["Segment", "segments_of"]

_SEGMENT_NAME = re.compile(r"Segment(\d+)_Name$")


class Segment(NamedTuple):
    """What a value of a label map means: a name as in the file. Segments that overlap are in layers of their own."""

    name: str
    value: int
    layer: int = 0


def segments_of(metadata: Mapping[Any, Any], layers: int = 1) -> list[Segment]:
    """The segments that 3D Slicer describes in the header of a ``.seg.nrrd`` file.

    Args:
        metadata: text fields of the header, such as ``Segment0_Name``, ``Segment0_LabelValue``, ``Segment0_Layer``.
        layers: number of layers of the voxels. Old files tell no values: each segment is 1 in a layer of its own.

    Returns:
        The segments in the file's order; none where the header describes none.

    Raises:
        UserError: a segment's value or layer is no number or is not in the file, or segments are not binary.
    """
    kinds = [str(metadata.get(f"Segmentation_{word}Representation", "")) for word in ("Master", "Source")]
    if any("fractional" in kind.lower() for kind in kinds):
        raise UserError("the segmentation is a fractional label map; export it from 3D Slicer as a binary one")
    numbers = sorted(int(match[1]) for key in metadata if (match := _SEGMENT_NAME.match(str(key))))
    segments = []
    for number in numbers:
        name = str(metadata[f"Segment{number}_Name"])
        if not name.isprintable():
            raise UserError(f"the name of segment {name!r} holds signs that cannot be printed; correct it")
        value, layer = (metadata.get(f"Segment{number}_{word}") for word in ("LabelValue", "Layer"))
        if value is None:
            value, layer = 1, number if layer is None else layer
        try:
            segment = Segment(name, int(value), int(layer or 0))
        except ValueError:
            raise UserError(f'segment "{name}" has the value {value!r} in layer {layer!r}, no numbers') from None
        if not 0 <= segment.layer < layers:
            raise UserError(f'segment "{name}" is said to be in layer {segment.layer}, but there are {layers}')
        segments.append(segment)
    return segments
