from __future__ import annotations

import numpy as np
import pytest

from common.transforms.patch_transport import patch_sources


def dense_sources(saliency: np.ndarray, shown: np.ndarray, eps: float, rounds: int) -> np.ndarray:
    """The rule as it is written down, with the costs of all moves."""
    results = []
    for gain, visible in zip(saliency, shown, strict=True):
        height, width = gain.shape
        patches = np.arange(height * width)
        row, column = np.divmod(patches, width)
        squares = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
        longest = np.float32(max(height, width, 2) - 1)
        costs = np.float32(eps) * (squares.astype(np.float32) / longest**2)
        costs = costs - gain.reshape(-1, 1) * visible.reshape(1, -1).astype(np.float32)
        for _ in range(rounds):
            place = costs.argmin(axis=1)
            claims = np.full(costs.shape, np.inf, dtype=np.float32)
            claims[patches, place] = costs[patches, place]
            winner = np.where(np.isfinite(claims.min(axis=0)), claims.argmin(axis=0), -1)
            loses = winner[place] != patches
            costs[patches[loses], place[loses]] += np.float32(1)
        results.append(winner.reshape(height, width))
    return np.stack(results)


def test_three_patches_by_hand() -> None:
    saliency, shown = np.array([[[0.5, 0.4, 0.1]]], dtype=np.float32), np.array([[[False, False, True]]])
    # n - 1 = 2: a step costs 0.8 / 4 = 0.2, two cost 0.8. Patch 0: 0 to stay, 0.8 - 0.5 = 0.3 for place 2: stays.
    # Patch 1: 0.2 - 0.4 = -0.2 for place 2, which beats patch 2 with -0.1. In the next round patch 2 pays 0.9 for its
    # own place, 0.2 for place 1, where nobody is left.
    assert patch_sources(saliency, shown, rounds=1).tolist() == [[[0, -1, 1]]]
    assert patch_sources(saliency, shown).tolist() == [[[0, 2, 1]]]


def test_of_equal_costs_the_first_place_and_the_first_patch_win() -> None:
    saliency = np.array([[[0.0, 0.5, 0.0]]], dtype=np.float32)
    # patch 1 gains as much on either side
    assert patch_sources(saliency, np.array([[[True, False, True]]]), rounds=1).tolist() == [[[1, -1, 2]]]
    # places 0 and 2 send equal patches to place 1, which costs its own patch nothing
    saliency = np.array([[[0.5, 0.0, 0.5]]], dtype=np.float32)
    assert patch_sources(saliency, np.array([[[False, True, False]]]), rounds=1).tolist() == [[[-1, 0, -1]]]


def test_nothing_moves_where_all_or_nothing_is_shown_or_salient() -> None:
    saliency = np.random.default_rng(0).random((2, 6, 7)).astype(np.float32)
    stay = np.broadcast_to(np.arange(42).reshape(6, 7), (2, 6, 7))
    for shown in (np.ones((2, 6, 7), dtype=bool), np.zeros((2, 6, 7), dtype=bool)):
        assert np.array_equal(patch_sources(saliency, shown), stay)
    some = np.random.default_rng(1).random((2, 6, 7)) < 0.5
    assert np.array_equal(patch_sources(0 * saliency, some), stay)


def salient(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "even":
        values = rng.random(shape)
    elif kind == "ties":
        values = rng.integers(0, 3, shape).astype(float)
    elif kind == "peaks":
        values = np.exp(4 * rng.normal(size=shape))
    else:  # two points have it all
        values = np.zeros(shape)
        for point in rng.integers(0, shape[1] * shape[2], 2):
            values.reshape(shape[0], -1)[:, point] += 1.0
    return (values / np.maximum(values.sum(axis=(1, 2), keepdims=True), 1e-30)).astype(np.float32)


@pytest.mark.parametrize("kind", ["even", "ties", "peaks", "points"])
@pytest.mark.parametrize("rounds", [1, 2, 7, 64])
def test_equal_to_the_full_matrix(kind: str, rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    moves = 0
    for size in [(1, 1), (1, 9), (7, 1), (3, 4), (8, 8), (5, 12), (16, 16)]:
        for eps in (0.8, 0.05, 3.0, 1e-7):
            saliency = salient(rng, kind, (2, *size))
            shown = rng.random((2, *size)) < rng.choice([0.2, 0.5, 0.8])
            found = patch_sources(saliency, shown, eps=eps, rounds=rounds)
            assert np.array_equal(found, dense_sources(saliency, shown, eps, rounds)), (size, eps)
            moves += (found != np.arange(found[0].size).reshape(size)).sum()
    assert moves > 0


def test_equal_to_the_full_matrix_beyond_a_sum_of_1() -> None:
    # two patches of which each gains more than any move costs: refused places are claimed again
    rng = np.random.default_rng(5)
    for _ in range(20):
        saliency = (3 * rng.random((1, 5, 5))).astype(np.float32)
        shown = rng.random((1, 5, 5)) < 0.2
        assert np.array_equal(patch_sources(saliency, shown), dense_sources(saliency, shown, 0.8, 64))


@pytest.mark.slow
def test_equal_to_the_full_matrix_of_64_x_64_patches() -> None:
    rng = np.random.default_rng(0)
    saliency = salient(rng, "peaks", (1, 64, 64))
    shown = np.repeat(np.repeat(rng.random((1, 8, 8)) < 0.5, 8, axis=1), 8, axis=2)
    assert np.array_equal(patch_sources(saliency, shown), dense_sources(saliency, shown, 0.8, 64))


def test_every_patch_moves_once_at_most() -> None:
    rng = np.random.default_rng(3)
    found = patch_sources(salient(rng, "peaks", (4, 20, 20)), rng.random((4, 20, 20)) < 0.5)
    for item in found:
        moved = item[item >= 0]
        assert len(np.unique(moved)) == len(moved)


def test_salient_patches_come_to_be_shown() -> None:
    rng = np.random.default_rng(4)
    saliency = salient(rng, "peaks", (1, 32, 32))
    shown = np.zeros((1, 32, 32), dtype=bool)
    shown[:, :, 16:] = True
    found = patch_sources(saliency, shown)[shown]
    arrived = saliency[0].ravel()[found[found >= 0]].sum()
    assert arrived > 1.05 * saliency[shown].sum()


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="t_eps must be above 0, got 0"):
        patch_sources(np.zeros((1, 2, 2), dtype=np.float32), np.ones((1, 2, 2), dtype=bool), eps=0)
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        patch_sources(np.zeros((1, 2, 2), dtype=np.float32), np.ones((1, 2, 2), dtype=bool), rounds=0)
