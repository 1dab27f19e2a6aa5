from __future__ import annotations

import pytest

from common.losses.half_window import half_window


def test_by_hand():
    # right of p; then the row below from column -1 to 1
    assert half_window(5, 5, 1) == [(0, 1), (1, -1), (1, 0), (1, 1)]
    # one row holds no pair across rows, one column none across columns, one pixel none at all
    assert half_window(1, 9, 2) == [(0, 1), (0, 2)]
    assert half_window(9, 1, 2) == [(1, 0), (2, 0)]
    assert half_window(1, 1, 5) == []


@pytest.mark.parametrize(("height", "width", "radius"), [(4, 6, 2), (3, 5, 4), (2, 2, 9)])
def test_every_pair_once(height, width, radius):
    pixels = [(y, x) for y in range(height) for x in range(width)]
    wanted = {
        frozenset((p, q))
        for p in pixels
        for q in pixels
        if p != q and max(abs(p[0] - q[0]), abs(p[1] - q[1])) <= radius
    }
    found = [
        frozenset(((y, x), (y + down, x + right)))
        for y, x in pixels
        for down, right in half_window(height, width, radius)
        if (y + down, x + right) in pixels
    ]
    assert len(found) == len(wanted)
    assert set(found) == wanted
