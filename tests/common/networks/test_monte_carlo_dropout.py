"""Dropout for sampling, which all networks have alike and which programs set by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import UserError
from common.networks.attention_gated_unet import AttentionGatedUNet
from common.networks.coarse_annotation_unet import CoarseAnnotationUNet
from common.networks.dual_branch_unet import DualBranchUNet
from common.networks.self_attention_unet import SelfAttentionUNet
from common.networks.unet import UNet
from common.networks.unet_blocks import monte_carlo_dropout
from common.networks.unet_plus import UNetPlus

LEVELS: dict[str, Any] = {"channels": (2, 3, 4), "encoder_dropout": (0.0, 0.0, 0.0)}
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "attenscribble": lambda **options: SelfAttentionUNet(1, 3, **LEVELS, **options),
    "coarse_labels": lambda **options: CoarseAnnotationUNet(1, 3, filters=2, depth=2, **options),
    "cyclemix": lambda **options: UNetPlus(1, 3, channels=(8, 12, 16), **options),
    "dmpls": lambda **options: DualBranchUNet(1, 3, **LEVELS, **options),
    "baselines": lambda **options: UNet(1, 3, **LEVELS, **options),
    "maag": lambda **options: AttentionGatedUNet(1, 3, filters=2, depth=2, **options),
}
each_network = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)


def train_mode_without_statistics(network: nn.Module) -> nn.Module:
    """Train mode, but for the normalisation, so that nothing but dropout changes what comes out."""
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    return network


def logits(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    outputs = network(image)
    return outputs[0] if isinstance(outputs, tuple) else outputs


@each_network
def test_zero_is_no_layer_and_changes_nothing(build: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 1, 21, 18)
    without, zero, some = build(), build(dropout=0.0), build(dropout=0.3)
    assert isinstance(without.dropout if hasattr(without, "dropout") else without.backbone.dropout, nn.Identity)
    for network in (zero, some):
        network.load_state_dict(without.state_dict())  # the same names and shapes
        assert torch.equal(network.eval()(image), without.eval()(image))
        assert torch.equal(torch.jit.script(network)(image), without(image))
    before = torch.get_rng_state()
    first, second = (logits(train_mode_without_statistics(zero), image) for _ in range(2))
    # the second branch of dmpls draws after the main one
    assert torch.equal(first, second)
    if not isinstance(zero, DualBranchUNet):
        assert torch.equal(before, torch.get_rng_state())


@each_network
def test_dropout_scatters_the_logits_of_train_mode_and_keeps_the_outputs_shapes(
    build: Callable[..., nn.Module],
) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 1, 21, 18)
    plain, network = build(), build(dropout=0.5)
    first, second = (logits(train_mode_without_statistics(network), image) for _ in range(2))
    assert first.shape == (2, 3, 21, 18)
    assert not torch.allclose(first, second)
    shapes = [tensor.shape for tensor in _heads(plain.train()(image))]
    assert [tensor.shape for tensor in _heads(network.train()(image))] == shapes


def _heads(outputs: Any) -> list[torch.Tensor]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


@each_network
def test_impossible_probabilities_are_refused(build: Callable[..., nn.Module]) -> None:
    for probability in (-0.1, 1.0):
        with pytest.raises(UserError, match=rf"dropout must lie in 0 .. 1, 1 excluded, got {probability}"):
            build(dropout=probability)


def test_values_are_dropped_one_by_one_and_the_others_scaled() -> None:
    torch.manual_seed(0)
    layer = monte_carlo_dropout(0.2)
    dropped = layer(torch.ones(1, 4, 100, 100))
    # of 40,000 values a fifth goes, +- 3 deviations of sqrt(0.2 * 0.8 / 40000) = 0.002; the others are 1 / 0.8
    assert dropped.eq(0).double().mean().item() == pytest.approx(0.2, abs=0.006)
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert dropped.eq(0).any(1).any()
    assert not dropped.eq(0).all(3).all(2).any()
