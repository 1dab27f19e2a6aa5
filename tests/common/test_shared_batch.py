"""What processes share of a batch, in one process and in two."""

from __future__ import annotations

from pathlib import Path

import torch
from forked_programs import run_on_two_processes

from common.shared_batch import first_draw, gathered, of_all_processes, own_share, process_rank, world_size

ON_TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from common.distributed import first_process_first
from common.shared_batch import first_draw, gathered, of_all_processes, own_share

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(rank)
found = {"alone": torch.rand(3)}
torch.manual_seed(rank)
found["draw"] = first_draw(torch.rand(3))
found["whole"] = torch.full((2, 1), rank, dtype=torch.uint8)
found["whole"] = gathered(found["whole"])
found["share"] = own_share(torch.arange(8).view(2, 4), dim=1)
values = torch.tensor([[1.0, 2.0]]) * (rank + 1)
values.requires_grad_()
(gathered(values) * torch.tensor([[1.0, 10.0], [100.0, 1000.0]]) * (rank + 1)).sum().backward()
found["gradient"] = values.grad
found["names"] = of_all_processes(f"process {rank}")


def make(path):
    with open(path, "a") as file:
        file.write(str(rank))
    return open(path).read()


found["made"] = first_process_first(make, f"{folder}/made")
torch.save(found, f"{folder}/{rank}.pt")
dist.barrier()
dist.destroy_process_group()
"""


def test_in_one_process_everything_stays_as_it_is():
    values = torch.rand(4, 2, requires_grad=True)
    assert (world_size(), process_rank()) == (1, 0)
    assert first_draw(values) is values
    assert gathered(values) is values
    assert torch.equal(own_share(values), values)
    assert of_all_processes("a") == ["a"]


def test_two_processes(tmp_path: Path):
    run_on_two_processes(ON_TWO_PROCESSES, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert not torch.equal(first["alone"], second["alone"])
    assert torch.equal(first["draw"], first["alone"])
    assert torch.equal(second["draw"], first["alone"])
    assert first["whole"].tolist() == second["whole"].tolist() == [[0], [0], [1], [1]]
    assert first["share"].tolist() == [[0, 1], [4, 5]]
    assert second["share"].tolist() == [[2, 3], [6, 7]]
    # process 0 weighs all by 1 and process 1 by 2: (1 + 2) * 1, (1 + 2) * 10 | (1 + 2) * 100, (1 + 2) * 1000
    assert first["gradient"].tolist() == [[3.0, 30.0]]
    assert second["gradient"].tolist() == [[300.0, 3000.0]]
    assert first["names"] == second["names"] == ["process 0", "process 1"]
    assert (first["made"], second["made"]) == ("0", "01")
