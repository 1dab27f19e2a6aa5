from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.errors import UserError
from common.networks.instance_norm_unet import DoubleConv, InstanceNorm, InstanceNormUNet, PReLU


def shuffled(network: nn.Module) -> nn.Module:
    """Give every normalisation and activation weights that change what passes."""
    for layer in network.modules():
        if isinstance(layer, (InstanceNorm, nn.PReLU)):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, 0.1, 1.5)
    return network


def test_instance_norm_equals_pytorchs_and_keeps_channels_last() -> None:
    ours, theirs = shuffled(InstanceNorm(3)), nn.InstanceNorm2d(3, affine=True)
    theirs.load_state_dict(ours.state_dict())
    image = (5.0 * torch.randn(2, 3, 7, 9) + 3.0).contiguous(memory_format=torch.channels_last)
    result = ours(image)
    torch.testing.assert_close(result, theirs(image))
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_instance_norm_has_pytorchs_gradients(layout: torch.memory_format) -> None:
    ours, theirs = shuffled(InstanceNorm(3)).double(), nn.InstanceNorm2d(3, affine=True).double()
    theirs.load_state_dict(ours.state_dict())
    image = (5.0 * torch.randn(2, 3, 7, 9, dtype=torch.float64) + 3.0).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(2, 3, 7, 9)
    gradients = [
        torch.autograd.grad((norm(image) * weight).sum(), [image, norm.weight, norm.bias]) for norm in (ours, theirs)
    ]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_training_and_evaluation_normalise_alike() -> None:
    network = shuffled(InstanceNormUNet(1, filters=2, depth=2))
    image = torch.randn(3, 1, 13, 10)
    torch.testing.assert_close(network.train()(image), network.eval()(image))


@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_passes(training: bool) -> None:
    network = InstanceNormUNet(1, filters=2, depth=1).train(training)
    assert network(torch.zeros(0, 1, 8, 8)).shape == (0, 2, 8, 8)


def test_prelu_is_pytorchs_with_its_gradients() -> None:
    ours, theirs = shuffled(PReLU()).double(), nn.PReLU().double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    x[0, 0, :2] = 0.0
    x.requires_grad_()
    weight = torch.randn(2, 3, 7, 9)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    gradients = [torch.autograd.grad((act(x) * weight).sum(), [x, act.weight]) for act in (ours, theirs)]
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0][1].shape == (1,)


def test_the_slope_of_a_map_in_bfloat16_has_a_gradient_in_its_own_precision() -> None:
    act = PReLU()
    x = torch.full((1, 1, 64, 63), -1.0).bfloat16()
    x[..., 0, 0] = 0.0
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        act(x).float().sum().backward()
    assert act.weight.grad is not None
    assert act.weight.grad.item() == -4031.0, "which is no number of bfloat16"
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    assert x.grad.unique().item() == 0.25


def test_a_single_pixel_is_normalised_to_the_bias() -> None:
    norm = InstanceNorm(2)
    norm.bias.data = torch.tensor([0.5, -1.0])
    pixel = torch.tensor([7.0, 3.0]).view(1, 2, 1, 1).requires_grad_()
    torch.testing.assert_close(norm(pixel).flatten(), torch.tensor([0.5, -1.0]), atol=1e-3, rtol=0)


def test_parameter_count_worked_out_by_hand() -> None:
    # filters 2, depth 1, one input channel; a convolution has 9 in out weights, its norm 2 out, its PReLU 1
    # encoder 1->2: 18+4+1, 2->2: 36+4+1          =  64
    #         2->4: 72+8+1, 4->4: 144+8+1         = 234
    # decoder 4+2->2: 108+4+1, 2->2: 36+4+1       = 154
    assert sum(p.numel() for p in InstanceNormUNet(1, filters=2, depth=1).parameters()) == 64 + 234 + 154


def test_forward_equals_the_layers_written_out() -> None:
    network = shuffled(InstanceNormUNet(1, filters=2, depth=1))
    weights = network.state_dict()
    image = torch.randn(2, 1, 6, 5)

    def twice(x: torch.Tensor, prefix: str, stride: int = 1) -> torch.Tensor:
        for layer in (0, 3):
            x = F.conv2d(x, weights[f"{prefix}.{layer}.weight"], stride=stride if layer == 0 else 1, padding=1)
            x = F.instance_norm(
                x, weight=weights[f"{prefix}.{layer + 1}.weight"], bias=weights[f"{prefix}.{layer + 1}.bias"]
            )
            x = F.prelu(x, weights[f"{prefix}.{layer + 2}.weight"])
        return x

    fine = twice(image, "encoder.0")
    coarse = twice(fine, "encoder.1", stride=2)
    assert coarse.shape == (2, 4, 3, 3)
    up = F.interpolate(coarse, (6, 5), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(image), twice(torch.cat([up, fine], dim=1), "decoder.0.convolutions"))


@pytest.mark.parametrize("size", [(28, 28), (17, 31), (75, 131), (5, 3), (1, 1)])
def test_any_size_keeps_its_size(size: tuple[int, int]) -> None:
    network = InstanceNormUNet(1, filters=2, depth=4).eval()
    assert network(torch.randn(1, 1, *size)).shape == (1, 2, *size)


def test_checkpointing_changes_neither_values_nor_gradients() -> None:
    plain = InstanceNormUNet(1, filters=3, depth=2)
    saving = InstanceNormUNet(1, filters=3, depth=2, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(2, 1, 11, 14)
    weight = torch.randn(2, 3, 11, 14)
    values = [network(image) for network in (plain, saving)]
    torch.testing.assert_close(*values)
    gradients = [
        torch.autograd.grad((value * weight).sum(), list(network.parameters()))
        for value, network in zip(values, (plain, saving), strict=True)
    ]
    torch.testing.assert_close(*gradients)


def kept_values(checkpointing: bool) -> int:
    """Count the values that the forward pass of a small network keeps for the gradient."""
    network, kept = InstanceNormUNet(1, filters=4, depth=1, checkpointing=checkpointing), {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = network(torch.randn(1, 1, 32, 32))
    assert features.requires_grad
    return sum(kept.values())


def test_checkpointing_keeps_far_less_for_the_gradient() -> None:
    assert kept_values(checkpointing=True) < kept_values(checkpointing=False) / 4


@pytest.mark.parametrize(("options", "message"), [({"depth": 0}, "got 0 and 24"), ({"filters": 0}, "got 3 and 0")])
def test_options_out_of_range(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InstanceNormUNet(1, **options)


def test_double_conv_halves_rounding_up() -> None:
    assert DoubleConv(1, 2, stride=2)(torch.randn(1, 1, 5, 8)).shape == (1, 2, 3, 4)
