"""The labelling of a grid with the least energy, found by a minimum cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

__all__ = ["labelling_energy", "least_energy_labels"]

# SciPy counts in int32: an arc of this capacity, plus what flows back along it, still fits
UNCUTTABLE = 2**29


def labelling_energy(labels: NDArray, costs: NDArray, right: NDArray, down: NDArray) -> NDArray:
    """Return the energy of labellings of a grid.

    E = sum over blocks i of costs[l_i] + sum over neighbours (i, j) of weight_ij (l_i - l_j)^2.

    Args:
        labels: ``[B, h, w]``, values 0 .. L - 1.
        costs: cost of every label at every block, ``[B, L, h, w]``.
        right: weights of the neighbours along a row, ``[B, h, w - 1]``.
        down: weights of the neighbours along a column, ``[B, h - 1, w]``.

    Returns:
        energies ``[B]``.
    """
    unary = np.take_along_axis(costs, labels[:, None], axis=1).sum(axis=(1, 2, 3))
    rows = (right * np.diff(labels, axis=2) ** 2).sum(axis=(1, 2))
    return unary + rows + (down * np.diff(labels, axis=1) ** 2).sum(axis=(1, 2))


def least_energy_labels(costs: NDArray, right: NDArray, down: NDArray) -> NDArray[np.int64]:
    """Find the labellings with the least :func:`labelling_energy`, exactly.

    With the binary variables u_a = [l > a], a = 0 .. L - 2, the squared difference of two labels is the number of
    pairs (a, b) in which u_a of one block and u_b of the other differ, less l (L - 1 - l) of either. So the energy is a
    cut through a graph with L - 1 nodes for every block: arcs of equal capacity between all nodes of neighbours, and
    from the source through the block's nodes to the sink a chain, of which one arc is cut, that of the block's label
    (Ishikawa, 2003; two layers for three labels). All items of the batch are one graph.

    Energies are rounded to the whole numbers that the flow is computed in: multiples of a power of two about 1e-9 of
    the sum of all costs. Of labellings with the same energy the one with the lowest labels is returned.

    Args:
        costs: cost of every label at every block, ``[B, L, h, w]``, L at least 2.
        right: weights of the neighbours along a row, ``[B, h, w - 1]``, at least 0.
        down: weights of the neighbours along a column, ``[B, h - 1, w]``, at least 0.

    Returns:
        labels ``[B, h, w]``.

    Raises:
        ValueError: for a negative or non-finite weight or a non-finite cost, or shapes that do not belong together.
    """
    batch, count, height, width = costs.shape
    if right.shape != (batch, height, width - 1) or down.shape != (batch, height - 1, width):
        raise ValueError(f"neighbour weights {right.shape} and {down.shape} do not belong to costs {costs.shape}")
    if not (np.isfinite(costs).all() and np.isfinite(right).all() and np.isfinite(down).all()):
        raise ValueError("costs and neighbour weights must be finite")
    if min(right.min(initial=0), down.min(initial=0)) < 0:
        raise ValueError("a negative neighbour weight makes the least energy unfit for a cut")
    blocks = np.arange(batch * height * width).reshape(batch, height, width)
    first = np.concatenate([blocks[:, :, :-1].ravel(), blocks[:, :-1].ravel()])
    second = np.concatenate([blocks[:, :, 1:].ravel(), blocks[:, 1:].ravel()])
    weights = np.concatenate([right.ravel(), down.ravel()]).astype(np.float64)
    unary = costs.astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, count)

    labels = np.arange(count)
    spread = labels * (count - 1 - labels)
    largest = np.ptp(unary, axis=1).sum() + 2 * weights.sum() * (spread.max() + 1)
    # a power of two, so that whole and dyadic costs stay exact
    scale = 2.0 ** np.floor(np.log2(UNCUTTABLE / largest) - 1) if largest > 0 else 1.0
    whole = np.rint(weights * scale).astype(np.int64)
    incident = np.bincount(np.concatenate([first, second]), np.tile(whole, 2), len(unary)).astype(np.int64)
    chain = np.rint((unary - unary.min(axis=1, keepdims=True)) * scale).astype(np.int64) - incident[:, None] * spread
    chain -= chain.min(axis=1, keepdims=True)
    above = _above(chain, first, second, whole)
    return above.sum(axis=1).reshape(batch, height, width)


def _above(
    chain: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Cut the graph and return [l > a] for every block and a, ``[blocks, L - 1]``."""
    layers = chain.shape[1] - 1
    nodes = np.arange(chain.shape[0] * layers).reshape(-1, layers)
    source, sink = nodes.size, nodes.size + 1
    lower, upper = np.divmod(np.arange(layers * layers), layers)
    near, far = nodes[first][:, lower].ravel(), nodes[second][:, upper].ravel()
    between = np.repeat(weights, layers * layers)
    ends = np.full(len(nodes), source), np.full(len(nodes), sink)
    # (from, to, capacity): the chain, its way back that keeps [l > a] falling with a, and both ways between neighbours
    arcs = [
        (ends[0], nodes[:, 0], chain[:, 0]),
        (nodes[:, :-1].ravel(), nodes[:, 1:].ravel(), chain[:, 1:-1].ravel()),
        (nodes[:, -1], ends[1], chain[:, -1]),
        (nodes[:, 1:].ravel(), nodes[:, :-1].ravel(), np.full(nodes[:, 1:].size, UNCUTTABLE)),
        (near, far, between),
        (far, near, between),
    ]
    tails, heads, capacities = (np.concatenate(part).astype(np.int32) for part in zip(*arcs, strict=True))
    graph = coo_array((capacities, (tails, heads)), shape=(sink + 1, sink + 1)).tocsr()
    residual = (graph - maximum_flow(graph, source, sink).flow).tocsr()
    residual.eliminate_zeros()
    reached = np.zeros(sink + 1, dtype=bool)
    reached[breadth_first_order(residual, source, return_predecessors=False)] = True
    return reached[nodes]
