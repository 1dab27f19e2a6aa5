from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.networks.unet_plus import UNetPlus

SMALL: dict[str, Any] = {"channels": (2, 3, 4, 5, 6)}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def shuffled_statistics(network: nn.Module) -> nn.Module:
    """Give every normalisation weights and statistics that change what passes, eps included."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean):
                assert tensor is not None
                tensor.copy_(torch.rand_like(tensor) + 0.5)
            assert layer.running_var is not None
            layer.running_var.copy_(1e-2 * (torch.rand_like(layer.running_var) + 0.5))
    return network


def test_sizes_of_the_papers_input() -> None:
    network = UNetPlus(1, 4, **SMALL).eval()
    edges: list[tuple[int, int]] = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, given, result: edges.append((given[0].shape[-1], result.shape[-1])))
    assert network(torch.randn(1, 1, 212, 212)).shape == (1, 4, 212, 212)
    down = [(396, 394), (394, 392), (196, 194), (194, 192), (96, 94), (94, 92), (46, 44), (44, 42), (21, 19), (19, 17)]
    up = [(34, 34), (34, 32), (32, 30), (60, 60), (60, 58), (58, 56), (112, 112), (112, 110), (110, 108)]
    assert edges == [*down, *up, (216, 216), (216, 214), (214, 212), (212, 212)]


def test_parameter_count_worked_out_by_hand() -> None:
    # channels (2, 3), one input channel, two classes; a 3 x 3 convolution has 9*in*out + out parameters, its norm 2*out
    # encoder  1->2: 18+2+4, 2->2: 36+2+4; 2->3: 54+3+6, 3->3: 81+3+6                    = 66 + 153
    # decoder  up 3->2: 54+2+4, conv 2+2->2: 72+2+4, conv 2->2: 36+2+4                   = 60 + 78 + 42
    # output   1 x 1, 2->2: 4+2, norm 4                                                  = 10
    assert parameters(UNetPlus(1, 2, channels=(2, 3))) == 66 + 153 + 60 + 78 + 42 + 10


def test_parameter_count_of_the_papers_network() -> None:
    def convolution(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + 3 * outputs  # kernel, bias, two of the normalisation

    widths = (1, 64, 128, 256, 512, 1024)
    encoder = sum(convolution(a, b) + convolution(b, b) for a, b in pairwise(widths))
    ups = [(1024, 4, 512), (512, 4, 256), (256, 128, 128), (128, 64, 64)]
    # joined with their skip connections: 516, 260, 256 and 128 channels
    decoder = sum(
        convolution(coarse, up) + convolution(up + fine, fine) + convolution(fine, fine) for coarse, up, fine in ups
    )
    output = 64 * 4 + 4 + 2 * 4
    assert (encoder, decoder, output) == (18_849_984, 6_909_144, 268)
    assert parameters(UNetPlus(1, 4)) == 25_759_396


def test_the_coarsest_ups_are_as_narrow_as_the_classes() -> None:
    def ups(network: UNetPlus) -> list[int]:
        weights = network.state_dict()
        return [weights[f"decoder.{level}.up.conv.weight"].shape[0] for level in range(len(network.decoder))]

    assert ups(UNetPlus(1, 4)) == [4, 4, 128, 64]
    assert ups(UNetPlus(1, 2, **SMALL)) == [2, 2, 3, 2]
    assert ups(UNetPlus(1, 3, up_channels=(3, 3, 3, 3), **SMALL)) == [3, 3, 3, 3]


@pytest.mark.parametrize(("padding_mode", "mode"), [("zeros", "constant"), ("replicate", "replicate")])
def test_forward_equals_the_layers_written_out(padding_mode: str, mode: str) -> None:
    network = shuffled_statistics(UNetPlus(1, 2, channels=(2, 3, 4), padding_mode=padding_mode)).eval()
    weights = network.state_dict()
    image = torch.randn(2, 1, 8, 16)

    def layer(x: torch.Tensor, name: str, eps: float) -> torch.Tensor:
        norm = [weights[f"{name}.adn.N.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        x = F.relu(F.conv2d(x, weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"]))
        return F.batch_norm(x, norm[0], norm[1], norm[2], norm[3], eps=eps)

    def twice(x: torch.Tensor, name: str) -> torch.Tensor:
        return layer(layer(x, f"{name}.0", 1e-5), f"{name}.1", 1e-3)

    def up(x: torch.Tensor, skip: torch.Tensor, name: str) -> torch.Tensor:
        x = F.pad(x.repeat_interleave(2, 2).repeat_interleave(2, 3), [1] * 4, mode=mode)
        x = layer(x, f"{name}.up", 1e-5)
        lost = [(large - small) // 2 for large, small in zip(skip.shape[2:], x.shape[2:], strict=True)]
        centre = skip[:, :, lost[0] : skip.shape[2] - lost[0], lost[1] : skip.shape[3] - lost[1]]
        return twice(torch.cat([x, centre], dim=1), f"{name}.convolutions")

    # three levels: 6 * 4 - 4 = 20 pixels of margin; 8 + 40 = 48 > 44 | 22 > 18 | 9 > 5 - 10 > 6 - 12 > 8
    fine = twice(F.pad(image, [20] * 4, mode=mode), "encoder.0")
    middle = twice(F.max_pool2d(fine, 2), "encoder.1")
    coarse = twice(F.max_pool2d(middle, 2), "encoder.2")
    x = up(up(coarse, middle, "decoder.0"), fine, "decoder.1")
    assert x.shape[2:] == (8, 16)
    x = F.conv2d(x, weights["output.0.weight"], weights["output.0.bias"])
    norm = [weights[f"output.1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
    torch.testing.assert_close(network(image), F.batch_norm(x, *norm))


@pytest.mark.parametrize("size", [(212, 212), (1, 1), (17, 20), (37, 51), (4, 5)])
def test_any_size_keeps_its_size(size: tuple[int, int]) -> None:
    network = shuffled_statistics(UNetPlus(1, 3, **SMALL)).eval()
    image = torch.randn(1, 1, *size)
    logits = network(image)
    assert logits.shape == (1, 3, *size)
    # the rest up to 16 k + 4 pixels is zeros at the bottom and at the right
    rest = [(4 - edge) % 16 for edge in size]
    whole = network(F.pad(image, [0, rest[1], 0, rest[0]]))
    torch.testing.assert_close(logits, whole[:, :, : size[0], : size[1]])


def test_a_uniform_image_is_one_class_throughout_if_the_margin_repeats_it() -> None:
    image = torch.full((1, 1, 37, 51), 0.7)
    logits = shuffled_statistics(UNetPlus(1, 3, padding_mode="replicate", **SMALL)).eval()(image)
    torch.testing.assert_close(logits, logits[..., :1, :1].expand_as(logits))
    logits = shuffled_statistics(UNetPlus(1, 3, **SMALL)).eval()(image)
    assert (logits - logits[..., :1, :1]).abs().max() > 1e-2 * logits.abs().max()


def test_the_first_normalisation_of_a_block_learns_faster_than_the_second() -> None:
    norms = [layer for layer in UNetPlus(1, 2, **SMALL).encoder[0].modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [(norm.momentum, norm.eps) for norm in norms] == [(0.1, 1e-5), (0.01, 1e-3)]


@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
@pytest.mark.parametrize("size", [(1, 1), (21, 34)])
def test_torchscript_gives_the_same_logits(size: tuple[int, int], padding_mode: str) -> None:
    network = shuffled_statistics(UNetPlus(1, 4, padding_mode=padding_mode, **SMALL)).eval()
    image = torch.randn(2, 1, *size)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_channels_last_gives_the_same_logits_in_that_layout() -> None:
    network = UNetPlus(1, 4, **SMALL).eval()
    image = torch.randn(2, 1, 20, 36)
    expected = network(image)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits = network(image.contiguous(memory_format=torch.channels_last))
    assert logits.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_every_parameter_learns() -> None:
    network = UNetPlus(1, 3, **SMALL).train()
    network(torch.randn(2, 1, 20, 20)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_channels": 1}, "out_channels .* got 1"),
        ({"channels": (4,)}, r"channels .* got \[4\]"),
        ({"channels": (4, 0)}, r"channels .* got \[4, 0\]"),
        ({"channels": (4, 8), "up_channels": (2, 2)}, r"up_channels needs 1 .* got \[2, 2\]"),
        ({"channels": (4, 8), "up_channels": (0,)}, r"up_channels .* got \[0\]"),
        ({"padding_mode": "reflect"}, "padding_mode must be zeros or replicate, got 'reflect'"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetPlus(**{"in_channels": 1, "out_channels": 2, **options})
