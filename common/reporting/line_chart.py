"""Charts of training curves."""

from __future__ import annotations

import math
from collections.abc import Mapping

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from .palette import method_dashes
from .svg_axes import Axes, axes_for, number, svg
from .training_curves import Curve, thinned

__all__ = ["line_chart"]

_WIDTH, _HEIGHT = 420.0, 230.0


def line_chart(title: str, curves: Mapping[int, Curve]) -> Markup:
    """Draw the curves of one name.

    Args:
        title: the name, for those who do not see the picture.
        curves: steps and values by the number of the method, which its colour and dashes follow. A value that is NaN
            interrupts the line; a single value is a dot.

    Returns:
        The SVG; each curve has the class ``m0``, ``m1`` ... by its number.
    """
    drawn = {index: thinned(curve) for index, curve in curves.items()}
    axes = axes_for((value for curve in drawn.values() for _, value in curve), width=_WIDTH, height=_HEIGHT)
    steps = [step for curve in drawn.values() for step, _ in curve]
    first, last = min(steps), max(steps)
    if last == first:
        first, last = first - 1, last + 1

    def x(step: float) -> float:
        return axes.x((step - first) / (last - first))

    text = Markup('<text class="group" x="{}" y="{}">{}</text>')
    ticks = [tick for tick in MaxNLocator(6, integer=True).tick_values(first, last) if first <= tick <= last]
    parts = [text.format(number(x(tick)), number(axes.bottom + 16), f"{tick:.0f}") for tick in ticks]
    parts.append(text.format(number(axes.right - 12), number(axes.height - 1), "epoch"))
    for index, curve in drawn.items():
        points = [(x(step), axes.y(value) if math.isfinite(value) else math.nan) for step, value in curve]
        parts.append(_line(axes, points, index))
    return svg(axes, parts, label=f"{title} by epoch")


def _line(axes: Axes, points: list[tuple[float, float]], index: int) -> Markup:
    """A line broken at NaN; points that stand alone are dots."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isnan(point[1]):
            pieces.append([])
        else:
            pieces[-1].append(point)
    path = "".join(
        f"{'L' if place else 'M'}{number(at)} {number(height)}"
        for piece in pieces
        if len(piece) > 1
        for place, (at, height) in enumerate(piece)
    )
    dot = Markup('<circle class="point" cx="{}" cy="{}" r="3"/>')
    dots = Markup("").join(dot.format(number(piece[0][0]), number(piece[0][1])) for piece in pieces if len(piece) == 1)
    line = Markup('<path class="curve" stroke-dasharray="{}" d="{}"/>').format(method_dashes(index) or "none", path)
    return Markup('<g class="m{}">{}{}</g>').format(index, line if path else Markup(""), dots)
