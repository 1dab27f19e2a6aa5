"""Scribbles drawn from a dense mask, as a person with little time would draw them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.graph import route_through_array
from skimage.measure import perimeter
from skimage.morphology import disk

_MAX_TURNS = 12
"""A stroke that has not reached its length after so many changes of direction is left as it is."""

_SHARE_WITH_SECOND_STROKE = 0.25
"""Share of the slices whose background gets a stroke elsewhere; ACDC's experts mostly draw the loop alone."""


def simulate_scribble(
    mask: np.ndarray,
    num_classes: int,
    rng: np.random.Generator,
    *,
    length: float = 1.0,
    width: int = 1,
    margin: float = 10.0,
) -> np.ndarray:
    """Draw one slice's scribbles: a stroke in every class that is present, and strokes on the background.

    A class's stroke is a chain of cheapest paths between random points of the class, where pixels near the class's
    border are expensive: it zigzags over a disc and follows the middle of a ring or a crescent. The background
    gets most of a loop around all classes together and, now and then, a short stroke elsewhere; a slice without any
    class gets two short strokes. No stroke leaves its class.

    Args:
        mask: dense mask [H, W] of integers 0..C-1, 0 being background.
        num_classes: number of classes C with background; C also marks pixels that are not annotated.
        rng: the source of all draws: the same state gives the same scribbles.
        length: mean length of a class's stroke as a share of half the class's perimeter, which is the length of
            the middle line of a ring or a crescent.
        width: width of the strokes in pixels, cut where it would leave the class.
        margin: mean distance between the background's loop and the classes in pixels.

    Returns:
        The scribbles [H, W] in the mask's type: 0 on background strokes, 1..C-1 on the classes' strokes and C
        (``ignore_index``) everywhere else.

    Raises:
        ValueError: the mask is not two-dimensional or holds other values than 0..C-1, or an option is out of range.
    """
    if mask.ndim != 2:
        raise ValueError(f"the mask must be [H, W], got shape {mask.shape}")
    if mask.min() < 0 or mask.max() >= num_classes:
        raise ValueError(f"the mask must hold 0..{num_classes - 1}, got {mask.min()}..{mask.max()}")
    if length <= 0 or width < 1 or margin < 1:
        raise ValueError(f"length must be over 0, width and margin at least 1, got {length}, {width}, {margin}")
    scribble = np.full_like(mask, num_classes)
    for index in range(num_classes):
        region = mask == index
        if not region.any():
            continue
        stroke = _background_strokes(region, rng, margin) if index == 0 else _class_stroke(region, rng, length)
        scribble[_widen(stroke, width) & region] = index
    return scribble


def _class_stroke(region: np.ndarray, rng: np.random.Generator, length: float) -> np.ndarray:
    """One stroke in the region's largest part; a boolean map of the region's shape."""
    parts, count = ndimage.label(region, structure=np.ones((3, 3)))
    if count > 1:
        region = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    window = ndimage.find_objects(region.astype(np.uint8))[0]
    inside = np.pad(region[window], 1)
    pixels = length * rng.uniform(0.7, 1.3) * perimeter(inside) / 2
    stroke = np.zeros_like(region)
    stroke[window] = _walk(inside, rng, pixels)[1:-1, 1:-1]
    return stroke


def _background_strokes(region: np.ndarray, rng: np.random.Generator, margin: float) -> np.ndarray:
    """A loop around everything that is not background, and a short stroke somewhere in the background."""
    if region.all():
        return _window_stroke(region, rng) | _window_stroke(region, rng)
    distance = ndimage.distance_transform_edt(region)
    wobble = ndimage.gaussian_filter(rng.standard_normal(region.shape), 10)
    hull = distance < margin * rng.uniform(0.7, 1.3) * np.exp(0.3 * wobble / wobble.std())
    hull = ndimage.binary_fill_holes(hull)
    loop = hull & ~ndimage.binary_erosion(hull, np.ones((3, 3)), border_value=1)
    rows, columns = np.ogrid[: region.shape[0], : region.shape[1]]
    row, column = np.argwhere(~region).mean(axis=0)
    turn = np.arctan2(rows - row, columns - column) / (2 * np.pi) + 0.5
    loop &= (turn + rng.uniform()) % 1 < rng.uniform(0.75, 1)
    if rng.random() < _SHARE_WITH_SECOND_STROKE:
        loop |= _window_stroke(region & ~hull, rng)
    return loop


def _window_stroke(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A stroke of about a fifth of the image's size within a window of a third of it, or none where that is full."""
    size = [max(1, extent // 3) for extent in region.shape]
    corner = [int(rng.integers(extent - part + 1)) for extent, part in zip(region.shape, size, strict=True)]
    window = tuple(slice(start, start + part) for start, part in zip(corner, size, strict=True))
    stroke = np.zeros_like(region)
    if region[window].any():
        stroke[window] = _walk(region[window], rng, rng.uniform(0.1, 0.3) * max(region.shape))
    return stroke


def _walk(region: np.ndarray, rng: np.random.Generator, pixels: float) -> np.ndarray:
    """A chain of cheapest paths through the region that stops once it has about ``pixels`` pixels."""
    depth = ndimage.distance_transform_edt(region)
    share = depth / depth.max()
    cost = np.where(region, (0.15 + share) ** -2 * rng.uniform(0.5, 1.5, region.shape), -1)
    goals = np.argwhere(share >= min(0.4, share.max()))
    stroke = np.zeros_like(region)
    start = goals[rng.integers(len(goals))]
    stroke[tuple(start)] = True
    for _ in range(_MAX_TURNS):
        room = round(pixels) - int(stroke.sum())
        if room <= 0:
            break
        goal = goals[rng.integers(len(goals))]
        try:
            path = np.array(route_through_array(cost, start, goal)[0])[: room + 1]
        except ValueError:  # the goal lies in a part that no path through the region reaches
            continue
        stroke[tuple(path.T)] = True
        start = path[-1]
    return stroke


def _widen(stroke: np.ndarray, width: int) -> np.ndarray:
    """The stroke ``width`` pixels wide."""
    if width == 1:
        return stroke
    brush = disk(width // 2) if width % 2 else np.ones((width, width))
    return ndimage.binary_dilation(stroke, brush)
