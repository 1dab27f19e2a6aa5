from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from common.networks.spatial_self_attention import FeedForward, SpatialSelfAttention


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def shuffled(block: SpatialSelfAttention) -> SpatialSelfAttention:
    # the initial weights are so small that the attention is almost even
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block.eval()


def test_parameter_count_of_the_authors_block():
    # norms 3 * 2 * 64; queries, keys, values 3 * 64 * 64; projection 64 * 64 + 64; expand 64 * 256 + 256,
    # depthwise 9 * 256 + 256, reduce 256 * 64 + 64
    expected = 384 + 12288 + 4160 + 16640 + 2560 + 16448
    assert parameters(SpatialSelfAttention(64)) == expected == 52_480


def test_parameter_count_of_the_papers_block():
    # 2 heads of d_v = 3 and d_qk = 5 from d = 4; the layers after the first one work on 2 * 3 channels
    # layer 1: norm 8, queries and keys 2 * 4 * 10, values 4 * 6, norm 12, MLP 6 * 24 + 24 + 24 * 6 + 6
    # layer 2: norm 12, queries and keys 2 * 6 * 10, values 6 * 6, norm 12, MLP as before
    # compression 6 * 4 + 4, norm 8
    mlp = 144 + 24 + 144 + 6
    expected = (8 + 80 + 24 + 12 + mlp) + (12 + 120 + 36 + 12 + mlp) + 28 + 8
    block = SpatialSelfAttention(4, heads=2, layers=2, dim_qk=5, dim_v=3, mlp="plain", attention_residual=False)
    assert parameters(block) == expected


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("dims", [(5, 3), (3, 5), (4, 4)])
def test_equals_the_equations_with_the_full_matrix(dims, residual):
    torch.manual_seed(0)
    dim_qk, dim_v = dims
    block = SpatialSelfAttention(
        6, heads=2, dim_qk=dim_qk, dim_v=dim_v, mlp="plain", mlp_ratio=2, attention_residual=residual
    )
    layer = shuffled(block).layers[0]
    x = torch.randn(2, 6, 3, 4)
    tokens = x.flatten(2).transpose(1, 2)
    normed = F.layer_norm(tokens, (6,), layer.attention_norm.weight, layer.attention_norm.bias)
    attended = []
    for head in range(2):
        q, k = (m.weight[head * dim_qk : (head + 1) * dim_qk] for m in (layer.query, layer.key))
        v = layer.value.weight[head * dim_v : (head + 1) * dim_v]
        scores = (normed @ q.T) @ (normed @ k.T).transpose(1, 2) / math.sqrt(dim_qk)
        attended.append(torch.softmax(scores, dim=2) @ (normed @ v.T))
    a = torch.cat(attended, dim=2)
    y = tokens + layer.project(a) if residual else a
    mlp = layer.feed_forward
    y = y + mlp.reduce(F.gelu(mlp.expand(layer.feed_forward_norm(y))))
    expected = block.norm(block.compress(y)).transpose(1, 2).view(2, 6, 3, 4)
    found, queries, keys = block(x)
    torch.testing.assert_close(found, expected)
    # the queries of the second head at row 2, column 3
    torch.testing.assert_close(queries[:, 1, 2, 3], normed[:, 2 * 4 + 3] @ layer.query.weight[dim_qk:].T)
    torch.testing.assert_close(keys[:, 1, 2, 3], normed[:, 2 * 4 + 3] @ layer.key.weight[dim_qk:].T)


def test_queries_and_keys_of_all_layers_and_heads():
    block = SpatialSelfAttention(8, heads=2, layers=3, dim_qk=5, dim_v=4)
    x, queries, keys = block(torch.randn(2, 8, 3, 7))
    assert block.maps == 6
    assert x.shape == (2, 8, 3, 7)
    assert queries.shape == keys.shape == (2, 6, 3, 7, 5)


def test_every_position_reaches_every_other():
    block = shuffled(SpatialSelfAttention(4, mlp="plain"))
    x = torch.randn(1, 4, 5, 6, requires_grad=True)
    block(x)[0][0, :, 0, 0].sum().backward()
    assert x.grad.abs().sum(dim=1).min() > 0


def test_only_the_mix_feed_forward_knows_places():
    torch.manual_seed(1)
    x = torch.randn(1, 4, 5, 6)
    order = torch.randperm(30)
    moved = x.flatten(2)[:, :, order].view_as(x)
    for mlp, equal in [("plain", True), ("mix", False)]:
        block = shuffled(SpatialSelfAttention(4, mlp=mlp))
        expected = block(x)[0].flatten(2)[:, :, order].view_as(x)
        assert torch.allclose(block(moved)[0], expected, atol=1e-4) == equal


def test_mix_feed_forward_by_hand():
    # one channel, one hidden channel, 1 x 3 positions 1, 2, 3; the depthwise kernel sums left and right neighbours
    ffn = FeedForward(1, 1)
    for parameter in ffn.parameters():
        torch.nn.init.zeros_(parameter)
    ffn.expand.weight.data.fill_(2.0)
    ffn.depthwise.weight.data[0, 0, 1] = torch.tensor([1.0, 0.0, 1.0])
    ffn.reduce.weight.data.fill_(3.0)
    expected = 3 * F.gelu(torch.tensor([4.0, 2.0 + 6.0, 4.0]))
    torch.testing.assert_close(ffn(torch.tensor([1.0, 2, 3]).view(1, 1, 3, 1)).flatten(), expected)


def test_initial_weights():
    torch.manual_seed(0)
    block = SpatialSelfAttention(64)
    layer = block.layers[0]
    assert float(layer.query.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert layer.project.bias.abs().max() == 0
    assert float(layer.feed_forward.depthwise.weight.detach().std()) == pytest.approx(math.sqrt(2 / 9), rel=0.1)


def test_torchscript_and_channels_last():
    block = shuffled(SpatialSelfAttention(4, heads=2, dim_qk=3, dim_v=5))
    x = torch.randn(2, 4, 6, 5)
    found = block(x.contiguous(memory_format=torch.channels_last))
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    for other in (block(x), torch.jit.script(block)(x)):
        for tensor, expected in zip(found, other, strict=True):
            torch.testing.assert_close(tensor, expected)


@pytest.mark.parametrize("options", [{"heads": 0}, {"layers": 0}, {"dim_qk": 0}, {"dim_v": -1}, {"mlp": "conv"}])
def test_options_out_of_range(options):
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        SpatialSelfAttention(8, **options)
