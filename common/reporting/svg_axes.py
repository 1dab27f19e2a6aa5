"""What all charts of a report have in common: a frame with a scale, written as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

__all__ = ["Axes", "axes_for", "number", "svg"]

_TICKS = 5


@dataclass(frozen=True)
class Axes:
    """A frame in an SVG picture, in its units, and the range of values along its height."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    low: float
    high: float
    ticks: tuple[float, ...]

    def y(self, value: float) -> float:
        """Where a value lies, from the top of the picture on."""
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def x(self, share: float) -> float:
        """Where a share, 0 to 1, of the frame's width lies."""
        return self.left + share * (self.right - self.left)

    def drawn(self) -> Markup:
        """The lines and numbers of the scale."""
        places = max((_places(tick) for tick in self.ticks), default=0)
        parts = [self._across("grid", self.y(tick)) for tick in self.ticks]
        text = Markup('<text class="tick" x="{}" y="{}">{}</text>')
        for tick in self.ticks:
            parts.append(text.format(number(self.left - 6), number(self.y(tick) + 4), f"{tick:.{places}f}"))
        return Markup("").join([*parts, self._across("axis", self.bottom)])

    def _across(self, kind: str, height: float) -> Markup:
        line = Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>')
        return line.format(kind, number(self.left), number(self.right), number(height), number(height))


def axes_for(
    values: Iterable[float], *, width: float, height: float, below: float = 0.0, floor: float | None = None
) -> Axes:
    """Choose the scale for values and lay the frame out.

    Args:
        values: what will be drawn; NaN do not count.
        width: width of the picture.
        height: height of the picture.
        below: more room for words below the frame.
        floor: a value that the scale begins with at the latest.

    Returns:
        The axes; their range ends on round numbers.
    """
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    low = low if floor is None else min(low, floor)
    if high <= low:
        low, high = (low - 0.5, high + 0.5) if low == 0 else (low - abs(low) / 2, high + abs(high) / 2)
    ticks = tuple(float(tick) for tick in MaxNLocator(_TICKS).tick_values(low, high))
    return Axes(width, height, 56, width - 8, 10, height - 30 - below, ticks[0], ticks[-1], ticks)


def svg(axes: Axes, parts: Iterable[Markup], *, label: str) -> Markup:
    """Close a picture, with a label for those who do not see it."""
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        number(axes.width), number(axes.height), label, axes.drawn(), Markup("").join(parts)
    )


def number(value: float) -> str:
    """Write a coordinate with one place after the point, without superfluous zeros."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _places(tick: float) -> int:
    text = f"{tick:.10g}"
    if "e" in text:
        return max(0, -int(text.partition("e")[2]))
    return len(text.partition(".")[2])
