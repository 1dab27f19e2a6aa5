"""Positive and negative coarse drawings of an image, made from its dense mask."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .coarse_drawing import CoarseDrawing, MorphoDrawing
from .nearest_share import DISTANCES, nearest_share

__all__ = ["check_coarse_options", "simulate_coarse_labels"]


def simulate_coarse_labels(
    mask: np.ndarray,
    num_classes: int,
    rng: np.random.Generator,
    *,
    drawing: CoarseDrawing | None = None,
    ratio: float = 1.0,
    distance: str = "geodesic",
    others: str = "coarse",
    background: bool = True,
    swap: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image's positive and negative coarse labels (Zhang et al., "Positive and negative coarse labels", 4.2).

    A target class is drawn from those that the image holds. The negative drawing paints what is not the target. The
    positive one paints every class, each by draws of its own and in a random order; what is painted later covers what
    was there. Two classes are a special case: the object is the target always.

    Args:
        mask: dense mask ``[H, W]`` of integers 0 .. C - 1; pixels of value C are unknown and stay unpainted.
        num_classes: number of classes C.
        rng: the source of all draws: the same state gives the same drawings.
        drawing: how a class is drawn; None for MorphoDrawing with its defaults.
        ratio: share of each class's painted area to keep around a random point of it, see nearest_share: 1, 0.8, 0.5,
            0.3 and 0.01 (a scribble) in the paper. The same state of ``rng`` gives parts of the same drawings.
        distance: distance from that point, ``"geodesic"`` or ``"euclidean"``.
        others: ``"coarse"`` paints the classes beside the target too, ``"ignore"`` does not.
        background: class 0 is background: it is neither painted nor a target.
        swap: probability that two of the painted classes are mistaken for one another in the positive drawing.

    Returns:
        The positive drawing, classes 0 .. C - 1, and the negative one, where each pixel has the class that it is not;
        both ``[H, W]`` in the mask's type, C (``ignore_index``) where nothing is painted.

    Raises:
        UserError: an option is out of its range.
        ValueError: the mask is not two-dimensional or holds other values than 0 .. C.
    """
    check_coarse_options(ratio=ratio, distance=distance, others=others, swap=swap)
    if mask.ndim != 2:
        raise ValueError(f"the mask must be [H, W], got shape {mask.shape}")
    if mask.size and not 0 <= mask.min() <= mask.max() <= num_classes:
        raise ValueError(f"the mask must hold 0..{num_classes}, got {mask.min()}..{mask.max()}")
    drawing = drawing or MorphoDrawing()
    known = mask != num_classes
    classes = range(int(background), num_classes)
    present = [index for index in classes if (mask == index).any()]
    target = int(rng.choice(present or list(classes)))
    painted = present if others == "coarse" else [index for index in present if index == target]
    drawn_as = {index: index for index in painted}
    if len(painted) > 1 and rng.random() < swap:
        first, second = (int(index) for index in rng.choice(painted, 2, replace=False))
        drawn_as |= {first: second, second: first}
    label, complement = np.full_like(mask, num_classes), np.full_like(mask, num_classes)
    for index in rng.permutation(painted):
        label[drawing.positive(mask == index, rng) & known] = drawn_as[int(index)]
    complement[drawing.negative(mask == target, rng) & known] = target
    # after everything is drawn, so that the drawings of a seed are the same for every ratio
    for drawn, indices in ((label, painted), (complement, [target])):
        for index in indices:
            region = drawn == index
            drawn[region & ~nearest_share(region, ratio, rng, distance=distance)] = num_classes
    return label, complement


def check_coarse_options(*, ratio: float, distance: str, others: str, swap: float) -> None:
    """Look at the options of :func:`simulate_coarse_labels` before there is a mask.

    Raises:
        UserError: an option is out of its range; the message calls it as the key of a configuration is called.
    """
    if others not in ("coarse", "ignore"):
        raise UserError(f"coarse_others must be 'coarse' or 'ignore', got {others!r}")
    if distance not in DISTANCES:
        raise UserError(f"coarse_distance must be one of {', '.join(DISTANCES)}, got {distance!r}")
    if not 0.0 <= swap <= 1.0:
        raise UserError(f"coarse_swap must lie in 0 .. 1, got {swap}")
    if not 0.0 < ratio <= 1.0:
        raise UserError(f"coarse_ratio must be over 0 and at most 1, got {ratio}")
