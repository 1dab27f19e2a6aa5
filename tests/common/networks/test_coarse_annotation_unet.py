from __future__ import annotations

from typing import Any

import pytest
import torch

from common.errors import UserError
from common.networks.coarse_annotation_unet import CoarseAnnotationUNet
from common.networks.confusion_matrices import full_matrices

SMALL: dict[str, Any] = {"filters": 2, "depth": 1}


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("confusion", "shape"), [("full", (2, 3, 3, 14, 9)), ("rank1", (2, 6, 14, 9))])
@pytest.mark.parametrize("separate", [False, True])
def test_train_mode_returns_logits_and_both_matrices(confusion: str, shape: tuple[int, ...], separate: bool) -> None:
    network = CoarseAnnotationUNet(1, 3, confusion=confusion, separate=separate, **SMALL).train()
    logits, positive, negative = network(torch.randn(2, 1, 14, 9))
    assert logits.shape == (2, 3, 14, 9)
    assert positive.shape == negative.shape == shape
    torch.testing.assert_close(full_matrices(positive).sum(dim=1), torch.ones(2, 3, 14, 9))


def test_ablations_change_what_train_mode_returns() -> None:
    image = torch.randn(2, 1, 8, 8)
    assert len(CoarseAnnotationUNet(1, 3, negative=False, **SMALL).train()(image)) == 2
    assert CoarseAnnotationUNet(1, 3, confusion="none", **SMALL).train()(image).shape == (2, 3, 8, 8)
    *_, transition = CoarseAnnotationUNet(1, 3, transition="learned", **SMALL).train()(image)
    assert transition.shape == (3, 3)


def test_eval_mode_returns_the_logits_of_train_mode() -> None:
    network = CoarseAnnotationUNet(3, 4, **SMALL)
    image = torch.randn(2, 3, 12, 10)
    logits = network.eval()(image)
    torch.testing.assert_close(logits, network.train()(image)[0])


def test_parameter_count_worked_out_by_hand() -> None:
    # the backbone has 452 (see its test); output 1 x 1, 2->3: 6+3
    # a head: four convolutions 2->2 with norm and PReLU: 4 (36+4+1); 1 x 1, 2->9: 18+9, or 2->7: 14+7
    backbone, output, convolutions = 452, 9, 4 * 41
    full, rank1 = convolutions + 27, convolutions + 21
    assert parameters(CoarseAnnotationUNet(1, 3, **SMALL)) == backbone + output + 2 * full
    assert parameters(CoarseAnnotationUNet(1, 3, confusion="rank1", **SMALL)) == backbone + output + 2 * rank1
    assert parameters(CoarseAnnotationUNet(1, 3, separate=True, **SMALL)) == 2 * backbone + output + 2 * full
    assert parameters(CoarseAnnotationUNet(1, 3, negative=False, **SMALL)) == backbone + output + full
    assert parameters(CoarseAnnotationUNet(1, 3, transition="learned", **SMALL)) == backbone + output + 2 * full + 9
    assert parameters(CoarseAnnotationUNet(1, 3, confusion="none", separate=True, **SMALL)) == backbone + output


@pytest.mark.parametrize("size", [(28, 28), (17, 31), (5, 3), (1, 1)])
def test_any_size_keeps_its_size(size: tuple[int, int]) -> None:
    network = CoarseAnnotationUNet(1, 2, filters=2, depth=3).eval()
    assert network(torch.randn(1, 1, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize(
    "options",
    [{}, {"confusion": "rank1", "separate": True, "checkpointing": True}, {"transition": "learned"}],
)
def test_torchscript_gives_the_logits(options: dict[str, Any]) -> None:
    network = CoarseAnnotationUNet(1, 3, **SMALL, **options).eval()
    image = torch.randn(2, 1, 13, 10)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_channels_last_in_channels_last_out() -> None:
    network = CoarseAnnotationUNet(1, 3, **SMALL).to(memory_format=torch.channels_last)
    image = torch.randn(2, 1, 12, 8)
    given = network(image.contiguous(memory_format=torch.channels_last))
    assert given[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(given, network(image))


@pytest.mark.parametrize("mode", [True, False])
def test_matrices_of_an_image_in_either_mode(mode: bool) -> None:
    network = CoarseAnnotationUNet(1, 3, separate=True, **SMALL)
    image = torch.randn(1, 1, 6, 6)
    expected = network.train()(image)[1:]
    torch.testing.assert_close(network.train(mode).confusion_matrices(image), expected)


def test_a_separate_annotation_network_leaves_the_segmentation_features_alone() -> None:
    network = CoarseAnnotationUNet(1, 3, separate=True, **SMALL).train()
    torch.nn.init.normal_(network.confusion_heads["positive"].output.weight)
    positive = network(torch.randn(1, 1, 6, 6))[1]
    (positive * torch.randn_like(positive)).sum().backward()
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert all(parameter.grad is None for parameter in network.confusion_heads["negative"].parameters())
    assert network.annotation_backbone is not None
    assert all(parameter.grad is not None for parameter in network.annotation_backbone.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_channels": 1}, "out_channels .* at least 2, got 1"),
        ({"confusion": "half"}, "confusion must be one of full, rank1, none, got 'half'"),
        ({"transition": "free"}, "transition must be 'uniform' or 'learned', got 'free'"),
        ({"transition": "learned", "negative": False}, "transition 'learned' needs"),
        ({"transition": "learned", "confusion": "none"}, "transition 'learned' needs"),
        ({"reliability": 0.4}, "reliability must lie"),
        ({"depth": 0}, "depth and filters must be at least 1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CoarseAnnotationUNet(**{"in_channels": 1, "out_channels": 2, **options})
