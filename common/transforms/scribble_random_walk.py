"""Scribbles as random walks inside the classes of a dense mask, for structures too thin to have a middle line."""

from __future__ import annotations

import numpy as np
from skimage.morphology import closing, dilation, skeletonize

from ..errors import UserError

__all__ = ["MOVES", "random_walk_scribble", "random_walk_v2"]

MOVES: dict[str, list[tuple[int, int]]] = {
    "diag": [(-1, -1), (-1, 1), (1, -1), (1, 1)],
    "four": [(-1, 0), (1, 0), (0, -1), (0, 1)],
    "king": [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)],
}
"""The moves (rows, columns) that a walk chooses from, each with the same probability.

The paper says "adding or subtracting 1 to the coordinates": ``diag`` changes both, ``four`` one of them, ``king`` each
of them by -1, 0 or 1.
"""


def random_walk_scribble(
    mask: np.ndarray, num_classes: int, rng: np.random.Generator, *, moves: str = "diag", steps: int = 2500
) -> np.ndarray:
    """Draw one random walk in every class, background included, of every slice.

    A walk starts at a random pixel P of its class. Then, ``steps`` times: P is marked, a neighbour P' is drawn, and P
    moves there if P' belongs to the class (Valvano et al., IEEE TMI 2021, section IV-A, for LVSC).

    Args:
        mask: dense masks ``[..., H, W]`` of integers 0..C-1, 0 being background.
        num_classes: number of classes C with background; C also marks pixels that are not annotated.
        rng: the source of all draws: the same state gives the same scribbles.
        moves: a name in :data:`MOVES`.
        steps: number of steps.

    Returns:
        The scribbles ``[..., H, W]`` in the mask's type: 0..C-1 where that class's walk came by, C elsewhere.

    Raises:
        UserError: ``moves`` or ``steps`` is out of its range.
        ValueError: the mask has fewer than two axes, or holds other values than 0..C-1.
    """
    if moves not in MOVES:
        raise UserError(f"moves is {moves!r}; choose one of {', '.join(MOVES)}")
    if steps < 1:
        raise UserError(f"steps is {steps}; a walk needs at least 1")
    planes = _planes(mask, num_classes)
    # A rim of -1, which is no class, keeps the walks from leaving the image.
    padded = np.pad(planes.astype(np.int64), ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    labels, width = padded.ravel(), padded.shape[2]
    place, classes = _starts(padded, rng)
    draws = np.array([width * row + column for row, column in MOVES[moves]])
    draws = draws[rng.integers(len(draws), size=(steps, len(place)))]
    trail = np.empty_like(draws)
    for step in range(steps):
        trail[step] = place
        proposal = place + draws[step]
        place = np.where(labels[proposal] == classes, proposal, place)
    drawn = np.full(labels.shape, num_classes, mask.dtype)
    drawn[trail] = classes
    return drawn.reshape(padded.shape)[:, 1:-1, 1:-1].reshape(mask.shape)


def random_walk_v2(
    mask: np.ndarray, num_classes: int, rng: np.random.Generator, *, share: float = 0.1, max_moves: int = 4000
) -> np.ndarray:
    """Draw the authors' later walk: as long as a share of its class, seldom turning back, smoothed into a stroke.

    A walk moves by -1, 0 or 1 along each axis, within the class. A move into the row or into the column of the place
    before the last move is refused. It ends when it has marked ``share`` of the class's pixels, or after
    ``max_moves`` proposals. The marked pixels are then widened, closed, thinned to their skeleton and widened again,
    and what leaves the class is cut off. This follows the behaviour of the authors' released generator, which is not
    the algorithm of the paper.

    Args:
        mask: dense masks ``[..., H, W]`` of integers 0..C-1, 0 being background.
        num_classes: number of classes C with background; C also marks pixels that are not annotated.
        rng: the source of all draws: the same state gives the same scribbles.
        share: pixels to mark as a share of the class's pixels in the slice, over 0 and up to 1, rounded down.
        max_moves: number of proposals after which a walk ends in any case.

    Returns:
        The scribbles ``[..., H, W]`` in the mask's type, as of :func:`random_walk_scribble`.

    Raises:
        UserError: ``share`` or ``max_moves`` is out of its range.
        ValueError: the mask has fewer than two axes, or holds other values than 0..C-1.
    """
    if not 0 < share <= 1:
        raise UserError(f"share is {share}; give a number over 0 and up to 1")
    if max_moves < 1:
        raise UserError(f"max_moves is {max_moves}; a walk needs at least 1")
    planes = _planes(mask, num_classes)
    padded = np.pad(planes.astype(np.int64), ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    labels, width = padded.ravel(), padded.shape[2]
    place, classes = _starts(padded, rng)
    areas = np.stack([(planes == index).sum((1, 2)) for index in range(num_classes)], axis=1)
    targets = (share * areas[areas > 0]).astype(int)
    moves = rng.integers(-1, 2, size=(max_moves, len(place), 2))
    before = np.full_like(place, -1)  # the place before the last move; none yet
    marked = np.zeros(labels.shape, bool)
    marked[place] = True
    lengths = np.ones_like(targets)
    for rows, columns in moves.transpose(0, 2, 1):
        proposal = place + width * rows + columns
        turns_back = (before // width == proposal // width) | (before % width == proposal % width)
        accepted = (lengths < targets) & (labels[proposal] == classes) & ((before < 0) | ~turns_back)
        lengths += accepted & ~marked[proposal]
        marked[proposal[accepted]] = True
        before, place = np.where(accepted, place, before), np.where(accepted, proposal, place)
    walks = marked.reshape(padded.shape)[:, 1:-1, 1:-1]
    drawn = np.full_like(planes, num_classes)
    for plane, walk, stroke in zip(planes, walks, drawn, strict=True):
        for index in np.unique(plane):
            line = skeletonize(closing(dilation(walk & (plane == index))))
            stroke[dilation(line) & (plane == index)] = index
    return drawn.reshape(mask.shape)


def _planes(mask: np.ndarray, num_classes: int) -> np.ndarray:
    """The mask as one stack of slices [N, H, W], after checking it."""
    if mask.ndim < 2:
        raise ValueError(f"the mask must be [..., H, W], got shape {mask.shape}")
    if mask.size and not 0 <= mask.min() <= mask.max() < num_classes:
        raise ValueError(f"the mask must hold 0..{num_classes - 1}, got {mask.min()}..{mask.max()}")
    return mask.reshape(-1, *mask.shape[-2:])


def _starts(padded: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random pixel of every class of every slice, by its flat index, and its class; by slice, then by class."""
    places, classes = [], []
    size = padded[0].size if len(padded) else 0
    for number, plane in enumerate(padded):
        for index in np.unique(plane[1:-1, 1:-1]):
            places.append(number * size + rng.choice(np.flatnonzero(plane == index)))
            classes.append(index)
    return np.array(places, dtype=np.int64), np.array(classes, dtype=np.int64)
