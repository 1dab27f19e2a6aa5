"""How a hurried annotator draws one class: the object too generously, and what is not the object."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from scipy import ndimage

from ..errors import UserError
from .mask_morphology import fractured, on_finer_grid, resized_strokes

__all__ = ["CoarseDrawing", "MorphoDrawing", "SquareDrawing"]


class CoarseDrawing(Protocol):
    """A way to draw."""

    def positive(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the pixels painted as the class of the region; both boolean ``[H, W]``."""

    def negative(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the pixels painted as anything but the class of the region; both boolean ``[H, W]``."""


class MorphoDrawing:
    """Strokes thickened or thinned by an amount drawn anew for every drawing, with gaps.

    The coarse drawings of Zhang et al., "Positive and negative coarse labels", section 4.2, by the perturbations of
    Castro et al., "Morpho-MNIST" (JMLR 2019) and at their strengths. The positive drawing is the region thickened by
    0 .. ``thickening``. The negative one is the complement of the region changed by an amount of its own,
    -``thinning`` .. ``thickening``. Both are then cut through ``fractures`` times. An amount of 1 is half the region's
    mean thickness.

    The amount has to vary: were every drawing thickened alike, the pixels along the border would always be drawn
    wrongly, and no drawing could tell what they are.

    Args:
        thinning: largest amount of thinning, 0 .. 1.
        thickening: largest amount of thickening.
        fractures: number of cuts.
        fracture_width: width of a cut in pixels.
        clearance: no cut is nearer than this, in pixels, to an end or a fork of a stroke.
        vary: False takes the largest amounts always; whether the negative one is thinned or thickened stays random.
        scale: fine pixels along the edge of one, on which all this is done; 1 is enough for large images.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        *,
        thinning: float = 0.7,
        thickening: float = 1.0,
        fractures: int = 3,
        fracture_width: float = 1.5,
        clearance: float = 2.0,
        vary: bool = True,
        scale: int = 4,
    ) -> None:
        if not 0.0 <= thinning <= 1.0:
            raise UserError(f"thinning must lie in 0 .. 1, got {thinning}")
        for name, value in {"thickening": thickening, "fractures": fractures, "clearance": clearance}.items():
            if not value >= 0:
                raise UserError(f"{name} must not be negative, got {value}")
        if not fracture_width > 0.0:
            raise UserError(f"fracture_width must be over 0, got {fracture_width}")
        if scale < 1:
            raise UserError(f"scale must be at least 1, got {scale}")
        self.thinning = thinning
        self.thickening = thickening
        self.fractures = fractures
        self.fracture_width = fracture_width
        self.clearance = clearance
        self.vary = vary
        self.scale = scale

    def positive(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the pixels painted as the class of the region; both boolean ``[H, W]``."""
        amount = rng.uniform(0.0, self.thickening) if self.vary else self.thickening
        if not region.any():
            return region.copy()
        # a window that holds the thickened region: no stroke is thicker than the region is high and wide
        window = ndimage.find_objects(region.astype(np.uint8))[0]
        margin = 2 + math.ceil(self.thickening * min(side.stop - side.start for side in window) / 2)
        window = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in window)
        painted = np.zeros_like(region)
        painted[window] = on_finer_grid(
            region[window], self.scale, lambda fine: self._cut(resized_strokes(fine, amount), rng)
        )
        return painted

    def negative(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the pixels painted as anything but the class of the region; both boolean ``[H, W]``."""
        if self.vary:
            amount = rng.uniform(-self.thinning, self.thickening)
        else:
            amount = float(rng.choice([-self.thinning, self.thickening]))
        return on_finer_grid(region, self.scale, lambda fine: self._cut(~resized_strokes(fine, amount), rng))

    def _cut(self, fine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.fractures:
            return fine
        return fractured(
            fine,
            rng,
            count=self.fractures,
            width=self.fracture_width * self.scale,
            clearance=self.clearance * self.scale,
            reach=0.5 * self.scale,
        )


class SquareDrawing:
    """Regions dilated or eroded by a square, either with probability 1/2, for several classes.

    The over- and under-segmenting annotators that Zhang et al. (NeurIPS 2020) simulate for several classes. The
    negative drawing is the complement of the region changed by draws of its own.

    Args:
        radius: the square's edge is 2 radius + 1 pixels, where radius is drawn from 1 .. this for every drawing.

    Raises:
        UserError: for a radius below 1.
    """

    def __init__(self, *, radius: int = 1) -> None:
        if radius < 1:
            raise UserError(f"radius must be at least 1, got {radius}")
        self.radius = radius

    def positive(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the pixels painted as the class of the region; both boolean ``[H, W]``."""
        square = np.ones((3, 3), dtype=bool)
        steps = int(rng.integers(1, self.radius + 1))
        if rng.random() < 0.5:
            return ndimage.binary_dilation(region, square, iterations=steps)
        return ndimage.binary_erosion(region, square, iterations=steps, border_value=1)

    def negative(self, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the pixels painted as anything but the class of the region; both boolean ``[H, W]``."""
        return ~self.positive(region, rng)
