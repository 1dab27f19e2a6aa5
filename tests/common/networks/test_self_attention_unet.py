from __future__ import annotations

import pytest
import torch

from common.losses.atten_scribble import AttenScribbleLoss
from common.networks.self_attention_unet import SelfAttentionUNet, SimilarityHead
from common.networks.unet import UNet

SMALL = {"channels": (2, 4, 6, 8, 10), "encoder_dropout": (0.0, 0.0, 0.0, 0.0, 0.5)}


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_train_mode_returns_logits_and_what_the_similarity_needs():
    network = SelfAttentionUNet(1, 4, heads=2, layers=3, dim_qk=5, **SMALL).train()
    logits, queries, keys, weights = network(torch.randn(2, 1, 64, 48))
    assert logits.shape == (2, 4, 64, 48)
    assert queries.shape == keys.shape == (2, 6, 16, 12, 5)
    # the convolution starts as the mean of the 6 maps, with bias 0
    torch.testing.assert_close(weights, torch.tensor([[1 / 6] * 6 + [0.0]] * 2))


def test_eval_mode_and_no_similarity_return_one_tensor():
    assert SelfAttentionUNet(3, 2, **SMALL).eval()(torch.randn(1, 3, 32, 32)).shape == (1, 2, 32, 32)
    plain = SelfAttentionUNet(1, 2, similarity=False, **SMALL).train()
    assert plain(torch.randn(2, 1, 32, 32)).shape == (2, 2, 32, 32)


def test_parameter_count_of_the_papers_network():
    # the plain U-Net, the block's 52480 (see there), a weight and a bias of the similarity
    unet = parameters(UNet(1, 4))
    assert parameters(SelfAttentionUNet(1, 4)) == unet + 52_480 + 2
    assert parameters(SelfAttentionUNet(1, 4, similarity_bias=False)) == unet + 52_480 + 1
    assert parameters(SelfAttentionUNet(1, 4, similarity=False)) == unet + 52_480


def test_without_attention_it_is_the_plain_unet():
    torch.manual_seed(0)
    network = SelfAttentionUNet(1, 4, self_attention=False, similarity=False, **SMALL)
    unet = UNet(1, 4, **SMALL)
    unet.load_state_dict(network.state_dict())  # the same names, too
    image = torch.randn(2, 1, 33, 40)
    torch.testing.assert_close(network.eval()(image), unet.eval()(image))


@pytest.mark.parametrize("level", range(5))
def test_attention_on_every_level(level):
    network = SelfAttentionUNet(1, 2, attention_level=level, **SMALL).train()
    _, queries, _, _ = network(torch.randn(2, 1, 32, 32))
    size = 32 // 2**level
    assert queries.shape == (2, 1, size, size, SMALL["channels"][level])


def test_the_blocks_result_feeds_skip_and_next_level():
    network = SelfAttentionUNet(1, 2, **SMALL).eval()
    image = torch.randn(1, 1, 32, 32)
    blocks = network.encoder.blocks
    maps = [blocks[0](image)]
    maps.append(blocks[1](maps[-1]))
    maps.append(network.attention(blocks[2](maps[-1]))[0])
    maps.append(blocks[3](maps[-1]))
    maps.append(blocks[4](maps[-1]))
    torch.testing.assert_close(network(image), network.decoder(maps))


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (75, 53), (5, 3), (1, 1)])
def test_any_size_keeps_its_size(size):
    network = SelfAttentionUNet(1, 3, heads=2, **SMALL).eval()
    assert network(torch.randn(1, 1, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heads": 2, "layers": 2, "mlp": "plain", "attention_residual": False},
        {"similarity_bias": False},
        {"similarity": False},
        {"self_attention": False, "similarity": False},
    ],
    ids=str,
)
def test_torchscript_gives_the_same_logits(options):
    network = SelfAttentionUNet(1, 4, **options, **SMALL).eval()
    image = torch.randn(2, 1, 40, 36)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))
    assert isinstance(torch.jit.script(network.train())(image), torch.Tensor)


def test_channels_last():
    network = SelfAttentionUNet(1, 4, **SMALL).eval()
    image = torch.randn(2, 1, 40, 36)
    expected = network(image)
    network = network.to(memory_format=torch.channels_last)
    found = network(image.contiguous(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "lambda_atn"),
    [
        ({}, 0.1),
        ({"heads": 2, "layers": 2}, 0.1),
        ({"mlp": "plain", "attention_residual": False}, 0.1),
        ({"similarity_bias": False}, 0.1),
        ({}, 0.0),
        ({"similarity": False}, 0.0),
        ({"self_attention": False, "similarity": False}, 0.0),
    ],
    ids=str,
)
def test_every_parameter_gets_a_gradient(options, lambda_atn):
    # as DDP asks, which is not told to look for unused parameters
    torch.manual_seed(0)
    network = SelfAttentionUNet(1, 3, **options, **SMALL).train()
    image, label = torch.rand(4, 1, 32, 32), torch.randint(0, 4, (4, 1, 32, 32))
    loss = AttenScribbleLoss(3, lambda_atn=lambda_atn)
    loss(network(image), {"image": image, "label": label}).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    if lambda_atn:
        assert all(parameter.grad.abs().max() > 0 for parameter in network.similarity.parameters())
    if network.attention is not None:
        layer = network.attention.layers[0]
        assert min(layer.query.weight.grad.abs().max(), layer.key.weight.grad.abs().max()) > 0


def test_similarity_head():
    head = SimilarityHead(2, bias=False)
    assert list(head.state_dict()) == ["weight"]
    head.weight.data = torch.tensor([3.0, 4.0])
    torch.testing.assert_close(head(torch.zeros(2, 1)), torch.tensor([[3.0, 4.0, 0.0]] * 2))


def test_options_out_of_range():
    with pytest.raises(ValueError, match=r"attention_level must be 0 .. 4, got 5"):
        SelfAttentionUNet(1, 2, attention_level=5)
    with pytest.raises(ValueError, match="similarity must be false with self_attention false"):
        SelfAttentionUNet(1, 2, self_attention=False)
    with pytest.raises(ValueError, match="heads must be at least 1, got 0"):
        SelfAttentionUNet(1, 2, heads=0)
