from __future__ import annotations

import pytest
import torch

from common.networks.multiscale_discriminator import MultiScaleDiscriminator


def pyramid(batch: int = 2, channels: int = 3, size: int = 32) -> list[torch.Tensor]:
    return [torch.rand(batch, channels, size >> level, size >> level) for level in range(4)]


@pytest.mark.parametrize("form", ["paper", "code"])
def test_one_score_an_item(form):
    network = MultiScaleDiscriminator(3, (32, 32), filters=4, form=form)
    assert network(pyramid()).shape == (2, 1)


def test_parameter_count_worked_out_by_hand():
    # two classes (one channel), f = 2, 2 scales, 8 x 8: 4x4 conv 1->2: 32+2; squeeze 2->12: 24+12;
    # 4x4 conv 12+1->4: 832+4; squeeze 4->12: 48+12; linear 12*2*2->1: 48+1
    network = MultiScaleDiscriminator(1, (8, 8), scales=2, filters=2)
    assert sum(p.numel() for p in network.parameters()) == 34 + 36 + 836 + 60 + 49


def test_widths_of_the_two_forms():
    def widths(form: str) -> list[int]:
        return [block[1].out_channels for block in MultiScaleDiscriminator(3, (32, 32), form=form).reduce]

    assert widths("paper") == [32, 64, 128, 256]
    assert widths("code") == [32, 128, 256, 512]


@pytest.mark.parametrize("form", ["paper", "code"])
def test_weights_start_by_glorots_rule_and_by_hes_before_a_leaky_relu(form):
    torch.manual_seed(0)
    network = MultiScaleDiscriminator(3, (128, 128), form=form)
    convolutions = [block[1] for block in network.reduce]
    first = convolutions.pop(0) if form == "code" else None
    for layer in [*convolutions, *(block[0] for block in network.squeeze), network.head]:
        weight = layer.parametrizations.weight.original if hasattr(layer, "parametrizations") else layer.weight
        area = weight[0, 0].numel() if weight.ndim == 4 else 1
        bound = (6 / (area * (weight.shape[0] + weight.shape[1]))) ** 0.5
        assert float(weight.detach().abs().max()) == pytest.approx(bound, rel=0.05)
        assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.1)
        assert float(layer.bias.detach().abs().sum()) == 0.0
    if first is not None:
        assert float(first.weight.detach().std()) == pytest.approx((2 / 48) ** 0.5, rel=0.1)


def test_spectral_norm_bounds_every_kernel():
    network = MultiScaleDiscriminator(3, (32, 32), filters=8).train()
    for block in network.reduce:
        block[1].parametrizations.weight.original.data *= 50
    for _ in range(30):
        network(pyramid())
    for block in network.eval().reduce:
        assert float(torch.linalg.matrix_norm(block[1].weight.detach().flatten(1), 2)) == pytest.approx(1.0, rel=0.05)


def test_every_scale_reaches_the_score_and_its_gradient_the_masks():
    network = MultiScaleDiscriminator(3, (32, 32), filters=4, instance_noise=0.0).eval()
    inputs = [scale.requires_grad_() for scale in pyramid()]
    network(inputs).sum().backward()
    assert all(scale.grad.abs().sum() > 0 for scale in inputs)


def test_single_scale_reads_the_first_alone():
    network = MultiScaleDiscriminator(3, (32, 32), filters=4, multi_scale=False).eval()
    inputs = pyramid()
    changed = [inputs[0], *(torch.zeros_like(scale) for scale in inputs[1:])]
    torch.testing.assert_close(network(inputs), network(changed))
    torch.testing.assert_close(network(inputs), network(inputs[:1]))


def test_instance_noise_in_training_only():
    network = MultiScaleDiscriminator(3, (32, 32), filters=4, instance_noise=0.2)
    inputs = pyramid()
    network.eval()
    torch.testing.assert_close(network(inputs), network(inputs), rtol=0, atol=0)
    torch.manual_seed(0)
    quiet = MultiScaleDiscriminator(3, (32, 32), filters=4, instance_noise=0.0).train()
    loud = MultiScaleDiscriminator(3, (32, 32), filters=4, instance_noise=0.2).train()
    loud.load_state_dict(quiet.state_dict())
    assert (quiet(inputs) - loud(inputs)).abs().max() > 1e-4


def test_options_out_of_range():
    with pytest.raises(ValueError, match="form"):
        MultiScaleDiscriminator(3, (32, 32), form="other")
    with pytest.raises(ValueError, match="divisible by 8"):
        MultiScaleDiscriminator(3, (36, 32))
