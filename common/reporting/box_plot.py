"""Box plots of the scores of single volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from .svg_axes import Axes, axes_for, number, svg

__all__ = ["Box", "box_of", "box_plot"]

_WIDTH, _HEIGHT, _WORDS = 620.0, 300.0, 60.0
_MOST_DOTS, _MOST_NARROW = 80, 8


class Box(NamedTuple):
    """Tukey's box: quartiles, the outermost values within 1.5 times their distance, and what lies beyond."""

    low: float
    first: float
    median: float
    third: float
    high: float
    beyond: list[float]


def box_of(values: Sequence[float]) -> Box | None:
    """Compute the box of values; None where there is none but NaN. Quartiles are interpolated linearly."""
    known = np.array([value for value in values if math.isfinite(value)], dtype=float)
    if not known.size:
        return None
    first, median, third = (float(value) for value in np.percentile(known, (25, 50, 75)))
    reach = 1.5 * (third - first)
    inside = known[(known >= first - reach) & (known <= third + reach)]
    beyond = sorted(float(value) for value in known if value < first - reach or value > third + reach)
    return Box(float(inside.min()), first, median, third, float(inside.max()), beyond)


def box_plot(
    title: str, groups: Mapping[str, Mapping[str, Mapping[str, float]]], *, floor: float | None = None
) -> Markup:
    """Draw a group of boxes for each class, in it one for each method.

    Args:
        title: name of the score, for those who do not see the picture.
        groups: for each class and method the value of each case.
        floor: a value that the scale begins with at the latest.

    Returns:
        The SVG. Each method has the class ``m0``, ``m1`` ... by its place; up to 80 volumes are dots beside the box
        that tell case and value, of more only those beyond the whiskers. Of more than eight classes it is twice as
        wide.
    """
    methods = list(dict.fromkeys(name for group in groups.values() for name in group))
    every = [value for group in groups.values() for cases in group.values() for value in cases.values()]
    wide = len(groups) > _MOST_NARROW
    axes = (
        axes_for(every, width=_WIDTH * 2, height=_HEIGHT + _WORDS, below=_WORDS, floor=floor)
        if wide
        else axes_for(every, width=_WIDTH, height=_HEIGHT, floor=floor)
    )
    share = 1 / max(len(groups), 1)
    slot = share * 0.86 / max(len(methods), 1)
    parts = []
    for place, (name, group) in enumerate(groups.items()):
        middle = axes.x((place + 0.5) * share)
        parts.append(_name(name, middle, axes.bottom, slanted=wide))
        for index, method in enumerate(methods):
            left = axes.x(place * share + 0.07 * share + index * slot)
            parts.append(_drawn(axes, group.get(method, {}), left, axes.x(slot) - axes.left, index, method))
    return svg(axes, parts, label=f"box plots of {title} by class and run")


def _name(name: str, middle: float, bottom: float, *, slanted: bool) -> Markup:
    if not slanted:
        text = Markup('<text class="group" x="{}" y="{}">{}</text>')
        return text.format(number(middle), number(bottom + 20), name)
    text = Markup('<text class="tick" transform="translate({} {}) rotate(-30)">{}</text>')
    return text.format(number(middle + 8), number(bottom + 16), name)


def _drawn(axes: Axes, cases: Mapping[str, float], left: float, slot: float, index: int, method: str) -> Markup:
    box = box_of(list(cases.values()))
    if box is None:
        return Markup("")
    width = min(slot * 0.5, 26.0)
    middle = left + slot * 0.36
    x1, x2 = number(middle - width / 2), number(middle + width / 2)
    y = {name: number(axes.y(value)) for name, value in box._asdict().items() if name != "beyond"}
    # two paths: the whiskers with the box, and the median across it
    outline = f"M{number(middle)} {y['low']}V{y['first']}M{number(middle)} {y['third']}V{y['high']}"
    outline += f"M{x1} {y['first']}H{x2}V{y['third']}H{x1}Z"
    told = f"{method}: median {box.median:.3f}, quartiles {box.first:.3f} to {box.third:.3f}, {len(cases)} volumes"
    parts = [
        Markup('<path class="box" d="{}"><title>{}</title></path>').format(outline, told),
        Markup('<path class="median" d="M{} {}H{}"/>').format(x1, y["median"], x2),
    ]
    known = sorted((value, case) for case, value in cases.items() if math.isfinite(value))
    dots = known if len(known) <= _MOST_DOTS else [dot for dot in known if not box.low <= dot[0] <= box.high]
    spread = min(slot * 0.22, 12.0)
    for place, (value, case) in enumerate(dots):
        # neighbours in value go to different places, so that they do not cover each other
        at = middle + width / 2 + 4 + spread * (place % 3) / 2
        dot = Markup('<circle class="dot" cx="{}" cy="{}" r="2"><title>{}</title></circle>')
        parts.append(dot.format(number(at), number(axes.y(value)), f"{method}, {case}: {value:.3f}"))
    return Markup('<g class="m{}">{}</g>').format(index, Markup("").join(parts))
