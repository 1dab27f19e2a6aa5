from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from common.distributed import distributed, placed


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))


@pytest.mark.parametrize("compile", [False, True])
def test_placed_keeps_the_network_and_the_names_of_its_weights(compile):
    plain = network()
    names = list(plain.state_dict())
    ready = placed(plain, "cpu", compile=compile)
    assert ready is plain
    assert list(ready.state_dict()) == names
    assert ready[0].weight.is_contiguous(memory_format=torch.channels_last)
    # torch.compile translates at the first call, which is not made here
    assert (ready._compiled_call_impl is not None) == compile
    ready.load_state_dict(network().state_dict())


def test_placed_moves_to_the_device():
    assert next(placed(network(), torch.device("meta")).parameters()).device.type == "meta"


@pytest.mark.slow
def test_a_compiled_network_computes_the_same():
    image = torch.rand(2, 1, 8, 8)
    plain, compiled = network().eval(), placed(network(), "cpu", compile=True).eval()
    torch.testing.assert_close(compiled(image), plain(image))
    assert list(compiled.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("compile", [False, True])
def test_distributed_wraps_the_placed_network(compile, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        plain = network()
        wrapped = distributed(plain, torch.device("cpu"), compile=compile)
        assert wrapped.module is plain
        assert list(wrapped.module.state_dict()) == list(network().state_dict())
        assert (plain._compiled_call_impl is not None) == compile
        assert not wrapped.broadcast_buffers
    finally:
        dist.destroy_process_group()
