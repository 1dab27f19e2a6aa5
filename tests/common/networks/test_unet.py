from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.errors import UserError
from common.networks.dual_branch_unet import DualBranchUNet
from common.networks.unet import UNet, UNetDecoder, UNetEncoder, UpBlock

SMALL: dict[str, Any] = {"channels": (2, 4, 6), "encoder_dropout": (0.0, 0.1, 0.2)}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def shuffled_statistics(network: nn.Module) -> nn.Module:
    """Give every normalisation weights and statistics that change what passes."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                assert tensor is not None
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return network


def test_encoder_gives_five_maps_and_the_decoder_the_inputs_size() -> None:
    encoder, decoder = UNetEncoder(3), UNetDecoder(4)
    features = encoder.eval()(torch.randn(2, 3, 32, 48))
    assert [tuple(level.shape) for level in features] == [
        (2, 16, 32, 48),
        (2, 32, 16, 24),
        (2, 64, 8, 12),
        (2, 128, 4, 6),
        (2, 256, 2, 3),
    ]
    assert decoder.eval()(features).shape == (2, 4, 32, 48)


def test_each_block_takes_the_map_of_the_one_before() -> None:
    encoder = UNetEncoder(1, channels=(2, 4, 6), dropout=(0.0, 0.1, 0.2)).eval()
    x = torch.randn(1, 1, 9, 12)
    for block, expected in zip(encoder.blocks, encoder(x), strict=True):
        x = block(x)
        torch.testing.assert_close(x, expected)


def test_parameter_count_worked_out_by_hand() -> None:
    # channels (2, 4), one input channel, two classes; a convolution has k*k*in*out + out parameters, its norm 2*out
    # encoder  1->2: 18+2+4, 2->2: 36+2+4; 2->4: 72+4+8, 4->4: 144+4+8                 = 66 + 240
    # decoder  up 4->2 (2 x 2): 32+2, conv 4->2: 72+2+4, conv 2->2: 36+2+4             = 154
    # output   3 x 3, 2->2: 36+2                                                       = 38
    assert parameters(UNet(1, 2, channels=(2, 4), encoder_dropout=(0.0, 0.0))) == 66 + 240 + 154 + 38


def test_parameter_count_of_the_benchmarks_network() -> None:
    def convolution(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + 3 * outputs  # kernel, bias, two of the normalisation

    widths = (16, 32, 64, 128)
    encoder = convolution(1, 16) + convolution(16, 16)
    encoder += sum(convolution(width, 2 * width) + convolution(2 * width, 2 * width) for width in widths)
    decoder = sum(
        4 * 2 * width * width + width + convolution(2 * width, width) + convolution(width, width) for width in widths
    )
    output = 9 * 16 * 4 + 4
    assert (encoder, decoder, output) == (1_180_464, 763_280, 580)
    assert parameters(UNet(1, 4)) == 1_944_324


def test_forward_equals_the_layers_written_out() -> None:
    network = shuffled_statistics(UNet(1, 2, channels=(2, 4), encoder_dropout=(0.1, 0.2))).eval()
    weights = network.state_dict()
    x = torch.randn(2, 1, 4, 6)

    def twice(x: torch.Tensor, prefix: str) -> torch.Tensor:
        for layer in (0, 1):
            name = f"{prefix}.{layer}"
            norm = [weights[f"{name}.adn.N.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
            x = F.conv2d(x, weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"], padding=1)
            x = F.leaky_relu(F.batch_norm(x, *norm), 0.01)
        return x

    fine = twice(x, "encoder.blocks.0")
    coarse = twice(F.max_pool2d(fine, 2), "encoder.blocks.1.1")
    prefix = "decoder.blocks.0"
    up = F.conv_transpose2d(coarse, weights[f"{prefix}.up.weight"], weights[f"{prefix}.up.bias"], stride=2)
    joined = twice(torch.cat([fine, up], dim=1), f"{prefix}.convolutions")
    expected = F.conv2d(joined, weights["decoder.output.weight"], weights["decoder.output.bias"], padding=1)
    torch.testing.assert_close(network(x), expected)


def test_dropout_lies_between_the_encoders_convolutions_alone() -> None:
    network = UNet(1, 4)
    found = [(name, layer.p) for name, layer in network.named_modules() if isinstance(layer, nn.Dropout)]
    assert [p for _, p in found] == [0.05, 0.1, 0.2, 0.3, 0.5]
    # the first of each level's two convolutions
    assert [name.removeprefix("encoder.blocks.") for name, _ in found] == ["0.0.adn.D"] + [
        f"{level}.1.0.adn.D" for level in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (75, 131), (33, 18), (5, 3), (1, 1)])
def test_any_size_keeps_its_size(size: tuple[int, int]) -> None:
    network = UNet(1, 3, channels=(2, 2, 2, 2, 2)).eval()
    assert network(torch.randn(1, 1, *size)).shape == (1, 3, *size)


def test_an_odd_size_crops_the_last_row_of_the_doubled_map() -> None:
    block = UpBlock(4, 2).eval()
    coarse, skip = torch.randn(1, 4, 3, 2), torch.randn(1, 2, 5, 4)
    expected = block.convolutions(torch.cat([skip, block.up(coarse)[:, :, :5]], dim=1))
    torch.testing.assert_close(block(coarse, skip), expected)


def test_bilinear_upsampling_lies_between_the_corner_pixels_after_a_convolution() -> None:
    block = UpBlock(4, 2, upsampling="bilinear").eval()
    coarse, skip = torch.randn(1, 4, 3, 5), torch.randn(1, 2, 6, 10)
    weights = block.state_dict()
    convolved = F.conv2d(coarse, weights["up.0.weight"], weights["up.0.bias"])
    up = F.interpolate(convolved, scale_factor=2, mode="bilinear", align_corners=True)
    torch.testing.assert_close(up[..., [0, -1], :][..., [0, -1]], convolved[..., [0, -1], :][..., [0, -1]])
    torch.testing.assert_close(block(coarse, skip), block.convolutions(torch.cat([skip, up], dim=1)))


@pytest.mark.parametrize(("kind", "number"), [(UNet, 1_813_764), (DualBranchUNet, 2_447_064)])
def test_parameter_count_with_bilinear_upsampling(kind: type[nn.Module], number: int) -> None:
    # in each decoder a 1 x 1 convolution in place of a 2 x 2 one: 3 * 2w * w kernel weights fewer for each width w
    fewer = sum(6 * width * width for width in (16, 32, 64, 128))
    decoders = 1 if kind is UNet else 2
    assert parameters(kind(1, 4, upsampling="bilinear")) == number
    assert parameters(kind(1, 4)) - number == decoders * fewer


def test_an_unknown_upsampling_is_refused() -> None:
    with pytest.raises(UserError, match="upsampling must be 'transposed' or 'bilinear', got 'nearest'"):
        UNet(1, 4, upsampling="nearest")


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
def test_torchscript_gives_the_same_logits(upsampling: str) -> None:
    network = shuffled_statistics(UNet(1, 4, **SMALL, upsampling=upsampling)).eval()
    image = torch.randn(2, 1, 21, 34)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_channels_last_gives_the_same_logits_in_that_layout() -> None:
    network = UNet(1, 4, **SMALL).eval()
    image = torch.randn(2, 1, 21, 34)
    expected = network(image)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits = network(image.contiguous(memory_format=torch.channels_last))
    assert logits.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_every_parameter_learns() -> None:
    network = UNet(1, 3, **SMALL).train()
    network(torch.randn(4, 1, 16, 16)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_channels": 1}, "out_channels .* got 1"),
        ({"channels": (4,)}, r"channels .* got \[4\]"),
        ({"channels": (4, 0), "encoder_dropout": (0.0, 0.0)}, r"channels .* got \[4, 0\]"),
        ({"channels": (4, 8)}, r"dropout needs .* 2 levels"),
        ({"channels": (4, 8), "encoder_dropout": (0.0, 1.0)}, r"dropout must lie .* \[0.0, 1.0\]"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**{"in_channels": 1, "out_channels": 2, **options})
