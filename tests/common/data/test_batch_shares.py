from __future__ import annotations

import pytest

from common.data.batch_shares import BatchShares
from common.errors import UserError


def batches(count: int, size: int, *, rank: int = 0, world_size: int = 1, epoch: int = 3) -> list[list[int]]:
    shares = BatchShares(range(count), size, seed=5, rank=rank, world_size=world_size)
    shares.set_epoch(epoch)
    items = list(shares)
    assert len(items) == len(shares)
    return [items[first : first + shares.batch_size] for first in range(0, len(items), shares.batch_size)]


@pytest.mark.parametrize(("count", "size", "world_size"), [(24, 4, 2), (25, 4, 2), (31, 4, 2), (40, 3, 4), (12, 6, 2)])
def test_processes_have_the_batches_of_one_process_with_the_whole_batch(count, size, world_size):
    whole = batches(count, size * world_size)
    shares = [batches(count, size, rank=rank, world_size=world_size) for rank in range(world_size)]
    joined = [[item for part in parts for item in part] for parts in zip(*shares, strict=True)]
    assert joined == whole
    assert len(whole) == count // (size * world_size)


def test_the_order_changes_with_the_epoch_alone():
    assert batches(24, 4, epoch=1) == batches(24, 4, epoch=1)
    assert batches(24, 4, epoch=1) != batches(24, 4, epoch=2)


def test_fewer_items_than_a_batch_make_one_smaller_batch_of_equal_shares():
    # 7 items for 2 processes: 3 each, the last of the order is left out
    shares = [batches(7, 4, rank=rank, world_size=2) for rank in range(2)]
    assert [[len(batch) for batch in share] for share in shares] == [[3], [3]]
    assert not set(shares[0][0]) & set(shares[1][0])
    assert [len(batch) for batch in batches(7, 8)] == [7]


def test_fewer_items_than_processes_are_refused():
    assert [batches(2, 4, rank=rank, world_size=2) for rank in range(2)] in ([[[0]], [[1]]], [[[1]], [[0]]])
    with pytest.raises(UserError, match=r"2 slices are too few for 3 processes.*--nproc_per_node"):
        BatchShares(range(2), 4, world_size=3)
    assert batches(0, 4) == []
