"""Softmax attention between neighbours on a grid, normalised over all positions, without the matrix of all pairs."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from .half_window import half_window

__all__ = ["GridPairs", "grid_pairs", "neighbour_dissimilarity", "symmetric_attention"]

# entries of the attention matrix that are in memory at a time: 16 MiB in single precision
CHUNK_ENTRIES = 2**22


class GridPairs(NamedTuple):
    """The unordered pairs {p, q}, p != q, of positions of an h x w grid with |p - q|_inf <= radius.

    Pairs are sorted by the offset q - p, then by p; N = h * w, E is the number of pairs, O of offsets in a window.
    """

    size: tuple[int, int]
    offsets: list[tuple[int, int]]
    """(rows, columns) from p to q, of half a window: the other half gives the same pairs."""
    first: torch.Tensor
    """``[E]``: p as an index into the flattened grid."""
    second: torch.Tensor
    """``[E]``: q likewise."""
    squared_distance: torch.Tensor
    """``[E]``: |p - q|^2 in units of the grid, float."""
    neighbours: torch.Tensor
    """``[N, O]``: every position's neighbours; the position itself where the grid ends."""
    forth: torch.Tensor
    """``[E]``: where q stands among p's neighbours, as an index into the flattened ``neighbours``."""
    back: torch.Tensor
    """``[E]``: where p stands among q's neighbours."""
    pair: torch.Tensor
    """``[N, O]``: the pair of each entry of ``neighbours``; E where the grid ends."""


@functools.lru_cache(maxsize=4)
def grid_pairs(height: int, width: int, radius: int, device: torch.device) -> GridPairs:
    """Return the pairs of neighbours of a ``height`` x ``width`` grid; see GridPairs."""
    half = half_window(height, width, radius)
    grid = torch.arange(height * width, device=device).view(height, width)
    views = [_views(grid, dy, dx) for dy, dx in half]
    none = grid.new_zeros(0)
    first = torch.cat([none, *(p.flatten() for p, _ in views)])
    second = torch.cat([none, *(q.flatten() for _, q in views)])
    counts = torch.tensor([p.numel() for p, _ in views], dtype=torch.long, device=device)
    offset = torch.arange(len(half), device=device).repeat_interleave(counts)
    squared = torch.tensor([dy * dy + dx * dx for dy, dx in half], dtype=torch.float, device=device)
    neighbours = grid.view(-1, 1).repeat(1, 2 * len(half))
    forth = first * neighbours.shape[1] + offset
    back = second * neighbours.shape[1] + len(half) + offset
    neighbours.view(-1)[forth] = second
    neighbours.view(-1)[back] = first
    pair = torch.full_like(neighbours, len(first))
    pair.view(-1)[forth] = pair.view(-1)[back] = torch.arange(len(first), device=device)
    return GridPairs((height, width), half, first, second, squared[offset], neighbours, forth, back, pair)


def symmetric_attention(queries: torch.Tensor, keys: torch.Tensor, pairs: GridPairs) -> torch.Tensor:
    """Return A[p, q] + A[q, p] of neighbours, with A = softmax(Q K^T), each row over all N positions.

    The value and both gradients are those of the full matrix, which is computed by chunks of rows and not kept, in the
    forward pass and once more in the backward pass. Memory is O(N * O) beside the chunk, O the size of a window.

    Args:
        queries: ``[M, N, d]``, scaled as A is to have it.
        keys: ``[M, N, d]``.
        pairs: the neighbours.

    Returns:
        ``[M, E]`` in 0 .. 2.
    """
    return _SymmetricAttention.apply(queries, keys, pairs)


def neighbour_dissimilarity(probabilities: torch.Tensor, pairs: GridPairs) -> torch.Tensor:
    """Return sum over classes i != j of P_p^i P_q^j = 1 - <P_p, P_q> for every pair.

    Args:
        probabilities: ``[B, C, h, w]``, of sum 1 over the classes.
        pairs: the neighbours.

    Returns:
        ``[B, E]`` in 0 .. 1.
    """
    views = [_views(probabilities, dy, dx) for dy, dx in pairs.offsets]
    products = [(p * q).sum(dim=1).flatten(1) for p, q in views]
    none = probabilities.flatten(2)[:, 0, :0]
    return 1.0 - torch.cat([none, *products], dim=1)


def _views(grid: torch.Tensor, dy: int, dx: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut from ``[..., h, w]`` the positions p that have a neighbour at p + (dy, dx), and those neighbours; dy >= 0."""
    height, width = grid.shape[-2:]
    left, right = max(0, -dx), max(0, dx)
    return grid[..., : height - dy, left : width - right], grid[..., dy:, right : width - left]


class _SymmetricAttention(torch.autograd.Function):
    """See symmetric_attention."""

    @staticmethod
    def forward(ctx: Any, queries: torch.Tensor, keys: torch.Tensor, pairs: GridPairs) -> torch.Tensor:
        maps, tokens, _ = queries.shape
        normaliser = queries.new_empty(maps, tokens, 1)
        window = queries.new_empty(maps, *pairs.neighbours.shape)
        with torch.autocast(queries.device.type, enabled=False):
            for rows in _chunks(maps, tokens):
                scores = queries[:, rows] @ keys.transpose(1, 2)
                window[:, rows] = scores.gather(2, pairs.neighbours[rows].expand(maps, -1, -1))
                highest = scores.amax(dim=2, keepdim=True)
                total = scores.sub_(highest).exp_().sum(dim=2, keepdim=True)
                normaliser[:, rows] = highest + total.log()
        window = window.sub_(normaliser).exp_().flatten(1)
        ctx.save_for_backward(queries, keys, normaliser)
        ctx.pairs = pairs
        return window[:, pairs.forth] + window[:, pairs.back]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        queries, keys, normaliser = ctx.saved_tensors
        pairs: GridPairs = ctx.pairs
        maps, tokens, _ = queries.shape
        # entries at the end of the grid belong to no pair and find this zero
        gradient = torch.cat([gradient, gradient.new_zeros(maps, 1)], dim=1)
        to_queries, to_keys = torch.empty_like(queries), torch.zeros_like(keys)
        with torch.autocast(queries.device.type, enabled=False):
            for rows in _chunks(maps, tokens):
                neighbours = pairs.neighbours[rows].expand(maps, -1, -1)
                attention = (queries[:, rows] @ keys.transpose(1, 2)).sub_(normaliser[:, rows]).exp_()
                direct = attention.gather(2, neighbours) * gradient[:, pairs.pair[rows]]
                # d loss / d score = A (g - sum of g A over the row), where g is 0 outside the window
                to_scores = attention.mul_(-direct.sum(dim=2, keepdim=True)).scatter_add_(2, neighbours, direct)
                to_queries[:, rows] = to_scores @ keys
                to_keys += to_scores.transpose(1, 2) @ queries[:, rows]
        return to_queries, to_keys, None


def _chunks(maps: int, tokens: int) -> list[slice]:
    step = max(1, CHUNK_ENTRIES // (maps * tokens))
    return [slice(start, start + step) for start in range(0, tokens, step)] if tokens else []
