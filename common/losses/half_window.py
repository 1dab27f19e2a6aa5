"""The offsets between neighbouring pixels, each pair of neighbours once."""

from __future__ import annotations

__all__ = ["half_window"]


def half_window(height: int, width: int, radius: int) -> list[tuple[int, int]]:
    """Return the offsets (rows, columns) from p to q that cover every pair {p, q} of pixels in reach exactly once.

    In reach are pixels with 0 < |q - p|_inf <= radius. The offsets are the half of the window that is below p, or
    right of it in the same row; the other half gives the same pairs. Offsets that the image is too small for are left
    out.

    Args:
        height: rows of the image.
        width: columns of the image.
        radius: reach of the window, in pixels.
    """
    rows, columns = min(radius, height - 1), min(radius, width - 1)
    below = [(down, right) for down in range(1, rows + 1) for right in range(-columns, columns + 1)]
    return [(0, right) for right in range(1, columns + 1)] + below
