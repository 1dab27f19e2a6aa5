"""Label maps of other programs, whose values follow the order of their segments, mapped by the names of the classes.

ITK-SNAP and 3D Slicer write 0 where nothing is annotated, so the annotated background needs a segment of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..errors import UserError
from .named_segments import Segment

__all__ = ["BACKGROUND_NAMES", "check_class_names", "class_of_name", "map_labels_by_name"]

BACKGROUND_NAMES = ("bg_scribble", "background_scribble")
"""What a segment of annotated background is called, beside the name of class 0."""

_NOT = "not_"
_MOST_CLASSES = 255


def check_class_names(class_names: Sequence[str]) -> None:
    """Check that labels can be mapped by these names.

    Raises:
        UserError: there are fewer than 2 or more than 255, or a name is empty or may mean two things.
    """
    _known_names(class_names)


def class_of_name(name: str, class_names: Sequence[str]) -> tuple[bool, int] | None:
    """Whether a segment's name is that of a negative drawing, and its class; None for a name that is unknown."""
    return _known_names(class_names).get(_plain(name))


def map_labels_by_name(
    layers: np.ndarray,
    segments: Sequence[Segment],
    class_names: Sequence[str],
    *,
    all_segments: bool = True,
    allow_missing: bool = False,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Turn a label map of another program, 0 being "not annotated", into labels of this project's convention.

    A segment with the name of a class is that class. Annotated background is called :data:`BACKGROUND_NAMES`, or as
    class 0. In coarse labels ``not_<class>`` is a drawing of what is not the class. Upper and lower case are the same,
    so are spaces and underscores, and spaces around a name do not count.

    Args:
        layers: values ``[L, ...]`` of L layers, mostly one.
        segments: the names of the values.
        class_names: names of the C classes, class 0 (background) first.
        all_segments: whether each name has to be known. False lets a table of names have others, which no voxel uses.
        allow_missing: whether classes may have no segment. Otherwise class 0 and all others need one; of coarse labels
            each class but 0 needs a positive or a negative one.

    Returns:
        The label, of the shape ``[...]``, uint8: 0 on annotated background, 1..C-1 on the classes, C elsewhere; and the
        complement with the class that a voxel is not, C elsewhere. The label is None where all segments are negative
        ones, the complement where none is.

    Raises:
        UserError: a name is unknown, ambiguous or missing, two names share a value or two segments a voxel, or voxels
            have values without a name; all names in question are told.
    """
    known = _known_names(class_names)
    segments = [segment for segment in segments if not _is_empty_value(segment, known)]
    _check_duplicates(segments, known)
    used = {number: _values_of(layer) for number, layer in enumerate(layers)}
    unknown = [
        segment
        for segment in segments
        if _plain(segment.name) not in known and (all_segments or segment.value in used.get(segment.layer, ()))
    ]
    if unknown:
        own = ", ".join((BACKGROUND_NAMES[0], *class_names[1:]))
        raise UserError(f"no class is called {_quoted(unknown)}; the names may be {own}, or not_<class>; rename it")
    named = {(segment.layer, segment.value) for segment in segments}
    nameless = sorted({value for layer, values in used.items() for value in values if (layer, value) not in named})
    if nameless:
        listed = ", ".join(map(str, nameless[:10]))
        raise UserError(f"there are voxels of value {listed}, which has no name; name it, or remove the voxels")
    targets = [(segment, *known[_plain(segment.name)]) for segment in segments if _plain(segment.name) in known]
    if not allow_missing:
        _check_missing([(negative, index) for _, negative, index in targets], class_names)
    maps: list[np.ndarray | None] = []
    for negative in (False, True):
        own_targets = [(segment, index) for segment, is_negative, index in targets if is_negative == negative]
        maps.append(_paint(layers, own_targets, len(class_names)) if own_targets else None)
    return maps[0], maps[1]


def _plain(name: str) -> str:
    return "_".join(re.split(r"[\s_]+", name.strip().casefold()))


def _quoted(segments: Iterable[Segment]) -> str:
    return ", ".join(f'"{segment.name}"' for segment in segments)


def _known_names(class_names: Sequence[str]) -> dict[str, tuple[bool, int]]:
    """What each name means: whether a negative drawing, and the class."""
    if not 2 <= len(class_names) <= _MOST_CLASSES:
        raise UserError(f"class_names lists {len(class_names)} names; give 2 to {_MOST_CLASSES}, background first")
    entries = [(_plain(name), (False, index)) for index, name in enumerate(class_names)]
    entries += [(_NOT + name, (True, index)) for name, (_, index) in entries]
    entries += [(name, (False, 0)) for name in BACKGROUND_NAMES]
    known: dict[str, tuple[bool, int]] = {}
    for name, meaning in entries:
        if not name.removeprefix(_NOT) or known.setdefault(name, meaning) != meaning:
            raise UserError(f'class_names: "{name}" is empty or may mean two things; give each class a name of its own')
    return known


def _is_empty_value(segment: Segment, known: Mapping[str, tuple[bool, int]]) -> bool:
    """Whether it is the entry of value 0, which is "not annotated" whatever a table calls it."""
    if segment.value:
        return False
    if known.get(_plain(segment.name), (False, 0)) != (False, 0) or _plain(segment.name) in BACKGROUND_NAMES:
        raise UserError(f'"{segment.name}" has the value 0, which means "not annotated"; give it another value')
    return True


def _check_duplicates(segments: Sequence[Segment], known: Mapping[str, tuple[bool, int]]) -> None:
    by_meaning: dict[tuple[bool, int], Segment] = {}
    by_value: dict[tuple[int, int], Segment] = {}
    for segment in segments:
        other = by_value.setdefault((segment.layer, segment.value), segment)
        if other is not segment:
            raise UserError(f"{_quoted((other, segment))} have the same value {segment.value}; remove one of the names")
        meaning = known.get(_plain(segment.name))
        other = by_meaning.setdefault(meaning, segment) if meaning else segment
        if other is not segment:
            raise UserError(f"{_quoted((other, segment))} mean the same class; join the two, or rename one")


def _check_missing(found: Sequence[tuple[bool, int]], class_names: Sequence[str]) -> None:
    coarse = any(negative for negative, _ in found)
    have = {index for _, index in found}
    missing = [name for index, name in enumerate(class_names) if index not in have and (index or not coarse)]
    if 0 not in have and not coarse:
        missing[0] = BACKGROUND_NAMES[0]
    if missing:
        names = ", ".join(f'"{name}"' for name in missing)
        raise UserError(f"there is no segment called {names}; add it, even if it is empty, or set allow_missing")


def _values_of(layer: np.ndarray) -> set[int]:
    """The values of a layer but 0."""
    values = np.unique(layer)
    broken = [value for value in values.tolist() if not np.isfinite(value) or value != np.floor(value)]
    if broken:
        raise UserError(f"label value {broken[0]:g} is no integer; give a label map, not an image")
    return {int(value) for value in values if value}


def _paint(layers: np.ndarray, targets: Sequence[tuple[Segment, int]], num_classes: int) -> np.ndarray:
    painted = np.full(layers.shape[1:], num_classes, np.uint8)
    for number, (segment, index) in enumerate(targets):
        region = layers[segment.layer] == segment.value
        hidden = np.unique(painted[region & (painted != num_classes)])
        if hidden.size:
            others = [other for other, its in targets[:number] if its in hidden]
            raise UserError(f"{_quoted((others[0], segment))} overlap; erase one of them where both are drawn")
        painted[region] = index
    return painted
