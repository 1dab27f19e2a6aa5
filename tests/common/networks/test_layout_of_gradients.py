"""On a CPU a normalisation's gradient is fast in the layout of its map alone, so every one has to come in that."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from common.networks.attention_gated_unet import AttentionGatedUNet
from common.networks.instance_norm_unet import InstanceNorm, InstanceNormUNet
from common.networks.unet_blocks import keep_layout
from common.networks.unet_plus import UNetPlus

NETWORKS = {
    "attention-gated": lambda: AttentionGatedUNet(1, 4, filters=2),
    "UNet+": lambda: UNetPlus(1, 4, channels=(2, 4, 8), padding_mode="replicate"),
    "instance norm": lambda: InstanceNormUNet(1, filters=2, depth=2),
}


def parts_of(output: Any) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else list(output)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_gradient_gets_the_layout_of_the_map(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 6, 8).contiguous(memory_format=layout).requires_grad_()
    maps, seen = 2.0 * x, []
    maps.register_hook(seen.append)
    weight = torch.randn(2, 5, 4, 4)
    crop = keep_layout(maps)[:, :, 1:5, 2:6]
    (torch.cat([crop, crop[:, :2]], dim=1) * weight).sum().backward()
    [gradient] = seen
    assert gradient.is_contiguous(memory_format=layout)
    expected = torch.zeros(2, 3, 6, 8)
    expected[:, :, 1:5, 2:6] = weight[:, :3]
    expected[:, :2, 1:5, 2:6] += weight[:, 3:]
    torch.testing.assert_close(gradient, expected)


def test_without_a_gradient_it_is_the_map_itself() -> None:
    x = torch.randn(1, 2, 3, 4)
    assert keep_layout(x) is x


@pytest.mark.parametrize("name", NETWORKS)
def test_a_traced_network_takes_batches_of_any_size(name: str) -> None:
    network = NETWORKS[name]().eval()
    traced = torch.jit.trace(network, torch.randn(2, 1, 20, 24))
    image = torch.randn(5, 1, 20, 24)
    for ours, theirs in zip(parts_of(traced(image)), parts_of(network(image)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_normalisation_of_a_network_gets_its_gradient_in_its_own_layout(name: str) -> None:
    network = NETWORKS[name]().train().to(memory_format=torch.channels_last)
    last: dict[str, bool] = {}

    def watch(path: str) -> Any:
        def hook(_: nn.Module, __: Any, gradients: tuple[torch.Tensor, ...]) -> None:
            last[path] = gradients[0].is_contiguous(memory_format=torch.channels_last)

        return hook

    norms = {path: layer for path, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d | InstanceNorm)}
    for path, layer in norms.items():
        layer.register_full_backward_hook(watch(path))
    output = network(torch.randn(2, 1, 20, 24).contiguous(memory_format=torch.channels_last))
    sum((part * torch.randn_like(part)).sum() for part in parts_of(output)).backward()
    assert len(last) == len(norms) >= 8
    assert [path for path, good in last.items() if not good] == []
