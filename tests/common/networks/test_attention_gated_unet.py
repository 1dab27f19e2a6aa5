from __future__ import annotations

import pytest
import torch

from common.networks.attention_gated_unet import AttentionGatedDecoderBlock, AttentionGatedUNet


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_train_mode_returns_logits_of_every_scale_from_fine_to_coarse():
    network = AttentionGatedUNet(1, 4, filters=4).train()
    heads = network(torch.randn(2, 1, 64, 48))
    assert [tuple(head.shape) for head in heads] == [(2, 4, 64, 48), (2, 4, 32, 24), (2, 4, 16, 12), (2, 4, 8, 6)]


def test_eval_mode_and_no_deep_predictions_return_one_tensor():
    assert AttentionGatedUNet(3, 2, filters=4).eval()(torch.randn(1, 3, 32, 32)).shape == (1, 2, 32, 32)
    plain = AttentionGatedUNet(1, 2, filters=4, gating=False, deep_predictions=False).train()
    assert plain(torch.randn(2, 1, 32, 32)).shape == (2, 2, 32, 32)


def test_parameter_count_worked_out_by_hand():
    # f = 2, depth 1, one input channel, two classes; a convolution has k*k*in*out + out parameters, its norm 2*out
    # encoder  conv 1->2: 18+2+4,  conv 2->2: 36+2+4                                  =  66
    # bottleneck conv 2->4: 72+4+8, conv 4->4: 144+4+8                                = 240
    # decoder  up conv 4->2: 72+2+4, first 4->2: 72+2+4, second 2->2: 36+2+4          = 198
    # classifier 1x1 2->2: 4+2, output 1x1 2->2: 4+2                                  =  12
    assert parameters(AttentionGatedUNet(1, 2, filters=2, depth=1)) == 66 + 240 + 198 + 12


def test_parameter_count_of_the_papers_network():
    assert parameters(AttentionGatedUNet(1, 4)) == 8_638_804
    # the authors' 1 x 1 bottleneck saves 8 of 9 weights of its two kernels
    saved = 8 * (256 * 512 + 512 * 512)
    assert parameters(AttentionGatedUNet(1, 4, bottleneck_kernel=1)) == 8_638_804 - saved
    # without gate and adversary there is no classifier: 4 weights per channel and 4 biases at each depth
    classifiers = sum(4 * width + 4 for width in (32, 64, 128, 256))
    plain = AttentionGatedUNet(1, 4, gating=False, deep_predictions=False)
    assert parameters(plain) == 8_638_804 - classifiers


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (75, 131), (5, 3), (1, 1)])
def test_any_size_keeps_its_size(size):
    network = AttentionGatedUNet(1, 3, filters=2).eval()
    assert network(torch.randn(1, 1, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("gating", [True, False])
def test_torchscript_gives_the_same_logits(gating):
    network = AttentionGatedUNet(1, 4, filters=4, gating=gating).eval()
    scripted = torch.jit.script(network)
    image = torch.randn(2, 1, 40, 36)
    torch.testing.assert_close(scripted(image), network(image))


def test_gate_multiplies_features_by_the_foreground_probability():
    block = AttentionGatedDecoderBlock(4, 2, 2, 3, gating=True).eval()
    open_block = AttentionGatedDecoderBlock(4, 2, 2, 3, gating=False).eval()
    open_block.load_state_dict(block.state_dict())
    x, skip = torch.randn(1, 4, 3, 3), torch.randn(1, 2, 6, 6)
    gated, logits = block(x, skip)
    features, _ = open_block(x, skip)
    attention = 1 - torch.softmax(logits, dim=1)[:, :1]
    torch.testing.assert_close(gated, features * attention)


def test_a_classifier_sure_of_background_closes_the_gate():
    block = AttentionGatedDecoderBlock(4, 2, 2, 3).eval()
    torch.nn.init.zeros_(block.classifier.weight)
    block.classifier.bias.data = torch.tensor([100.0, 0.0, 0.0])
    gated, _ = block(torch.randn(1, 4, 3, 3), torch.randn(1, 2, 6, 6))
    assert gated.abs().max() < 1e-30


def test_attention_source_changes_what_is_classified():
    block = AttentionGatedDecoderBlock(4, 2, 2, 3, attention_from="A").eval()
    x, skip = torch.randn(1, 4, 3, 3), torch.randn(1, 2, 6, 6)
    _, logits = block(x, skip)
    torch.testing.assert_close(logits, block.classifier(block.first(block.up(x, skip))))


def test_every_parameter_learns_from_the_heads():
    network = AttentionGatedUNet(1, 3, filters=2).train()
    sum(head.square().mean() for head in network(torch.randn(4, 1, 32, 32))).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    "options",
    [{"out_channels": 1}, {"bottleneck_kernel": 5}, {"attention_from": "C"}, {"depth": 0}, {"filters": 0}],
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*must be"):
        AttentionGatedUNet(**{"in_channels": 1, "out_channels": 2, **options})
