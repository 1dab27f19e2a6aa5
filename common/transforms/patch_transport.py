"""Where the patches of an image move, so that salient ones come to lie where a mask shows them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError

__all__ = ["patch_sources"]

# float32 costs are rounded, so windows are a little wider than the real numbers ask for
SLACK = 1e-5


class Offsets(NamedTuple):
    """All moves on a grid, nearest first, and how far the moves of each place can at most have to reach."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    squares: NDArray[np.int64]
    reach: NDArray[np.int64]


def patch_sources(
    saliency: NDArray[np.float32], shown: NDArray[np.bool_], *, eps: float = 0.8, rounds: int = 64
) -> NDArray[np.int64]:
    """Move patches by Puzzle Mix's masked transport (Kim et al., ICML 2020, section 4.2 and algorithm 2).

    Moving patch i to place j costs eps * |i - j|^2 / (n - 1)^2 - saliency_i * shown_j, with distances in patches and n
    the longer edge of the grid. In every round each patch claims its cheapest place; of a place's claimants that with
    the least cost wins, and the others pay 1 more for this place from then on. The winners of the last round move; of
    equal costs the lower index wins, of places and of patches.

    The result is that of the full matrix of costs, but only the places are looked at that can be claimed: before its
    last claim a patch was refused ``rounds`` - 1 times at most, so among its ``rounds`` nearest places one costs no
    more than its distance. Farther places than that distance plus saliency_i (n - 1)^2 / eps cost more. These windows
    are opened for the patches alone that do not stay where they are.

    Args:
        saliency: ``[B, h, w]``, at least 0; of sum 1 in Puzzle Mix.
        shown: places that the mask shows, ``[B, h, w]``.
        eps: cost of a move along the longer edge.
        rounds: number of rounds.

    Returns:
        ``[B, h, w]``: the flat index of the patch that moves to each place, -1 where none does.

    Raises:
        UserError: for ``eps`` or ``rounds`` out of range.
    """
    if not eps > 0:
        raise UserError(f"t_eps must be above 0, got {eps}")
    if rounds < 1:
        raise UserError(f"the number of rounds must be at least 1, got {rounds}")
    batch, height, width = saliency.shape
    claims = _Claims(saliency.astype(np.float32), shown, eps, rounds)
    losers = claims.settle(np.arange(saliency.size))
    for _ in range(rounds - 1):
        if not len(losers):
            break
        claims.refuse(losers)
        losers = claims.settle(losers)
    holder = claims.holder.reshape(batch, -1)
    return np.where(holder < 0, -1, holder % (height * width)).reshape(batch, height, width)


class _Claims:
    """What every patch of the batch claims at which cost, and who holds every place; places and patches count on."""

    def __init__(self, saliency: NDArray[np.float32], shown: NDArray[np.bool_], eps: float, rounds: int) -> None:
        _, self.height, self.width = saliency.shape
        self.offsets = _offsets(self.height, self.width, rounds)
        longest = np.float32(max(self.height, self.width, 2) - 1)
        self.distance_costs = np.float32(eps) * (self.offsets.squares.astype(np.float32) / longest**2)
        self.saliency = saliency.ravel()
        self.shown = shown.astype(np.float32).ravel()
        self.gain = self.saliency.astype(np.float64) * float(longest) ** 2 / eps
        # at first every patch stays, unless a shown place is near enough
        self.place = np.arange(self.saliency.size)
        self.cost = -self.saliency * self.shown
        self.holder = np.full(self.saliency.size, -1)
        self.window_start = np.full(self.saliency.size, -1)
        self.window_size = np.zeros(self.saliency.size, dtype=np.int64)
        self.window_place = np.empty(0, dtype=np.int64)
        self.window_cost = np.empty(0, dtype=np.float32)
        self.chosen = np.full(self.saliency.size, -1)  # where in the windows the claim stands
        self._open(np.flatnonzero(self.gain * (1.0 - self.shown + SLACK) >= 1.0))

    def settle(self, patches: NDArray[np.int64]) -> NDArray[np.int64]:
        """Let the holders of places and new claimants meet; return those that lose."""
        holders = self.holder[np.unique(self.place[patches])]
        rivals = np.concatenate([holders[holders >= 0], patches])
        order = np.lexsort((rivals, self.cost[rivals], self.place[rivals]))
        rivals = rivals[order]
        wins = np.diff(self.place[rivals], prepend=-1) != 0
        self.holder[self.place[rivals[wins]]] = rivals[wins]
        return rivals[~wins]

    def refuse(self, patches: NDArray[np.int64]) -> None:
        """Raise the cost of the patches' claims by 1 and let them claim anew."""
        self._open(patches[self.window_start[patches] < 0])
        self.window_cost[self.chosen[patches]] += np.float32(1)
        self._claim(patches)

    def _open(self, patches: NDArray[np.int64]) -> None:
        """Write down all places within reach of the patches, and claim the cheapest."""
        if not len(patches):
            return
        item, place = np.divmod(patches, self.height * self.width)
        row, column = np.divmod(place, self.width)
        reach = (self.offsets.reach[row, column] + self.gain[patches]) * (1.0 + SLACK)
        counts = np.searchsorted(self.offsets.squares, reach, side="right")
        move = _ranges(np.zeros_like(counts), counts)
        owner = np.repeat(np.arange(len(patches)), counts)
        to_row, to_column = row[owner] + self.offsets.rows[move], column[owner] + self.offsets.columns[move]
        inside = (to_row >= 0) & (to_row < self.height) & (to_column >= 0) & (to_column < self.width)
        owner, move = owner[inside], move[inside]
        places = (item[owner] * self.height + to_row[inside]) * self.width + to_column[inside]
        sizes = np.bincount(owner, minlength=len(patches))
        self.window_size[patches] = sizes
        self.window_start[patches] = len(self.window_place) + np.cumsum(sizes) - sizes
        costs = self.distance_costs[move] - self.saliency[patches[owner]] * self.shown[places]
        self.window_place = np.concatenate([self.window_place, places])
        self.window_cost = np.concatenate([self.window_cost, costs])
        self._claim(patches)

    def _claim(self, patches: NDArray[np.int64]) -> None:
        """Choose each patch's cheapest place, of several the first."""
        sizes = self.window_size[patches]
        entries = _ranges(self.window_start[patches], sizes)
        starts = np.cumsum(sizes) - sizes
        costs, places = self.window_cost[entries], self.window_place[entries]
        self.cost[patches] = least = np.minimum.reduceat(costs, starts)
        places = np.where(costs == np.repeat(least, sizes), places, len(self.place))
        self.place[patches] = first = np.minimum.reduceat(places, starts)
        self.chosen[patches] = entries[places == np.repeat(first, sizes)]


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return starts[0], starts[0] + 1, ... (sizes[0] numbers), starts[1], ... in one row."""
    before = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) + np.repeat(starts - before, sizes)


@lru_cache(maxsize=8)
def _offsets(height: int, width: int, count: int) -> Offsets:
    """Sort all moves by distance; ``reach[i]`` is the squared distance of the ``count``-th nearest place of place i."""
    rows, columns = (grid.ravel() for grid in np.mgrid[1 - height : height, 1 - width : width])
    squares = rows**2 + columns**2
    order = np.argsort(squares, kind="stable")
    rows, columns, squares = rows[order], columns[order], squares[order]
    # the corner has to reach farthest
    corner = squares[(rows >= 0) & (columns >= 0)][min(count, height * width) - 1]
    near = slice(0, np.searchsorted(squares, corner, side="right"))
    to_row = rows[near, None] + np.arange(height)
    to_column = columns[near, None] + np.arange(width)
    inside = ((to_row >= 0) & (to_row < height))[:, :, None] & ((to_column >= 0) & (to_column < width))[:, None]
    enough = inside.cumsum(axis=0) >= min(count, height * width)
    return Offsets(rows, columns, squares, squares[enough.argmax(axis=0)])
