"""Scribbles as the middle lines of a dense mask's classes: the same mask always gives the same scribbles."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage
from skimage.morphology import closing, convex_hull_image, dilation, skeletonize

from ..errors import UserError

__all__ = ["BACKGROUNDS", "FORMS", "skeleton_scribble"]

BACKGROUNDS = ("skeleton", "hull")
"""The ways to draw the background's scribble."""

FORMS: dict[str, dict[str, Any]] = {"skeleton": {}, "thick": {"thicken": True}, "hull": {"background": "hull"}}
"""Options of :func:`skeleton_scribble` by name: the paper of MAAG, its authors' code, and AttenScribble."""

_HULL_MARGIN = 5.0


def skeleton_scribble(
    mask: np.ndarray, num_classes: int, *, thicken: bool = False, background: str = "skeleton"
) -> np.ndarray:
    """Draw the skeleton of every class and of the background, slice by slice.

    A class is thinned by removing its border pixels again and again for as long as its parts stay connected, which
    leaves lines one pixel wide in its middle (Valvano et al., IEEE TMI 2021, section IV-A; for CHAOS and PPSS).
    ``background="hull"`` keeps the background's scribble near the classes instead (Tian et al., AttenScribble, 2023):
    it is the skeleton of what the convex hull of all classes, five pixels wider on all sides, holds of the background;
    a slice without classes gets two whole rows and two whole columns, at a third and two thirds of each extent.

    Args:
        mask: dense masks ``[..., H, W]`` of integers 0..C-1, 0 being background.
        num_classes: number of classes C with background; C also marks pixels that are not annotated.
        thicken: close gaps in the lines and widen them by a pixel on each side, within the class, as the authors'
            code does where the paper is silent.
        background: ``"skeleton"`` or ``"hull"``.

    Returns:
        The scribbles ``[..., H, W]`` in the mask's type: 0 on the background's, 1..C-1 on the classes', C elsewhere.
        Every connected part of a class that is present has at least one pixel.

    Raises:
        UserError: ``background`` is unknown.
        ValueError: the mask has fewer than two axes, or holds other values than 0..C-1.
    """
    if background not in BACKGROUNDS:
        raise UserError(f"background is {background!r}; choose one of {', '.join(BACKGROUNDS)}")
    if mask.ndim < 2:
        raise ValueError(f"the mask must be [..., H, W], got shape {mask.shape}")
    if mask.size and not 0 <= mask.min() <= mask.max() < num_classes:
        raise ValueError(f"the mask must hold 0..{num_classes - 1}, got {mask.min()}..{mask.max()}")
    scribbles = np.full_like(mask, num_classes)
    planes = mask.reshape(-1, *mask.shape[-2:])
    for plane, drawn in zip(planes, scribbles.reshape(planes.shape), strict=True):
        for index in np.unique(plane):
            region = plane == index
            line = skeletonize(region) if index or background == "skeleton" else _around_classes(region)
            if thicken:
                line = dilation(closing(line)) & region
            drawn[line] = index
    return scribbles


def _around_classes(region: np.ndarray) -> np.ndarray:
    """The background's scribble around the hull of everything that is not background; a boolean map [H, W]."""
    if region.all():
        lines = np.zeros_like(region)
        rows, columns = region.shape
        lines[[rows // 3, 2 * rows // 3]] = True
        lines[:, [columns // 3, 2 * columns // 3]] = True
        return lines
    hull = convex_hull_image(~region)
    return skeletonize((ndimage.distance_transform_edt(~hull) <= _HULL_MARGIN) & region)
