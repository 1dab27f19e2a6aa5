"""A part of a drawing of exact size: what lies nearest to a random point of it."""

from __future__ import annotations

import math

import numpy as np
from skimage.graph import MCP_Geometric

from ..errors import UserError

__all__ = ["DISTANCES", "nearest_share"]

DISTANCES = ("geodesic", "euclidean")
"""How far pixels lie apart: along the shortest way inside the region, or as the crow flies."""


def nearest_share(
    region: np.ndarray, share: float, rng: np.random.Generator, *, distance: str = "geodesic"
) -> np.ndarray:
    """Keep the share of a region's pixels that lies nearest to a random one of them.

    The smaller coarse drawings of Zhang et al., "Positive and negative coarse labels", section 4.5: the centre is
    drawn from the drawing, the share of the area decides the rest. Parts of the region that no way inside it joins to
    the centre come after all others, the nearest first.

    Args:
        region: boolean ``[H, W]``.
        share: share of the region's pixels to keep, over 0 and up to 1; 0.01 makes a scribble.
        rng: the source of the centre; with a share of 1 nothing is drawn from it.
        distance: ``"geodesic"`` or ``"euclidean"``.

    Returns:
        boolean ``[H, W]``: a part of the region of ``share`` times its pixels, rounded (halves up), at least one; of
        pixels equally far away the upper and left ones. Empty if the region is.

    Raises:
        UserError: an option is out of its range.
    """
    if not 0.0 < share <= 1.0:
        raise UserError(f"the share of a drawing to keep must be over 0 and at most 1, got {share}")
    if distance not in DISTANCES:
        raise UserError(f"distance must be one of {', '.join(DISTANCES)}, got {distance!r}")
    pixels = np.argwhere(region)
    if share == 1.0 or not len(pixels):
        return region.copy()
    centre = pixels[rng.integers(len(pixels))]
    order = [np.hypot(*(pixels - centre).T)]
    if distance == "geodesic":
        ways = MCP_Geometric(np.where(region, 1.0, -1.0))
        order.append(ways.find_costs([tuple(centre)])[0][tuple(pixels.T)])
    kept = pixels[np.lexsort(order)[: max(1, math.floor(share * len(pixels) + 0.5))]]
    result = np.zeros_like(region)
    result[tuple(kept.T)] = True
    return result
