"""The colours of a report: those of Okabe and Ito, which colour-blind readers tell apart."""

from __future__ import annotations

__all__ = ["DASHES", "class_colour", "hex_colour", "method_colour", "method_dashes"]

_BACKGROUND = "#FFFFFF"
_CLASSES = ("#56B4E9", "#F0E442", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
_METHODS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Darker and lighter kinds of the same colours, for more than seven classes: black or white, and its share.
_SHADES = ((0, 0.0), (0, 0.4), (255, 0.55))

DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4")
"""Dashes of lines, so that curves are told apart without colour too."""


def class_colour(index: int) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of a class in pictures.

    Args:
        index: number of the class; 0, the annotated background, is white. Beyond 21 classes colours repeat.
    """
    if index == 0:
        return _rgb(_BACKGROUND)
    shade, share = _SHADES[(index - 1) // len(_CLASSES) % len(_SHADES)]
    red, green, blue = (round(value + share * (shade - value)) for value in _rgb(_CLASSES[(index - 1) % len(_CLASSES)]))
    return red, green, blue


def method_colour(index: int) -> str:
    """Return the colour of a method's boxes and curves, such as ``#0072B2``; from seven methods on colours repeat."""
    return _METHODS[index % len(_METHODS)]


def method_dashes(index: int) -> str:
    """Return the dashes of a method's curves as SVG writes them; empty for a solid line."""
    return DASHES[index % len(DASHES)]


def hex_colour(rgb: tuple[int, int, int]) -> str:
    """Write a colour as CSS does."""
    return "#" + "".join(f"{value:02X}" for value in rgb)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
