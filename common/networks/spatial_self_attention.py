"""Self-attention over all positions of a feature map, to be plugged between two convolutional levels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import UserError
from .unet_blocks import initialise_he

__all__ = ["FeedForward", "SelfAttentionLayer", "SpatialSelfAttention"]


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, applied at every position.

    Args:
        channels: channels of the map.
        hidden: channels between the two layers.
        mix: put a depthwise 3 x 3 convolution before the GELU, so that neighbours mix and the zeros around the map
            tell positions (the authors' code; Xie et al., 2021, call it Mix-FFN). Without it, it is a plain MLP.
    """

    def __init__(self, channels: int, hidden: int, *, mix: bool = True) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel_size=3, padding=1, groups=hidden) if mix else nn.Identity()
        self.reduce = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[B, h, w, channels]`` to the same shape."""
        x = self.depthwise(self.expand(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.reduce(F.gelu(x))


class SelfAttentionLayer(nn.Module):
    """One transformer layer on a grid (Tian et al., 2023, section 2.3): attention, then a feed-forward network.

    Head i computes Q_i, K_i and V_i from the normalised features and a_i = softmax(Q_i K_i^T / sqrt(dim_qk)) V_i; the
    heads are concatenated to a. With ``residual`` (the authors' code) x + Linear(a) goes on, without it (the paper) a
    itself; then y + FeedForward(LayerNorm(y)) of what went on is returned. Neither PyTorch's attention nor this layer
    builds the matrix of all pairs.

    Args:
        channels: channels of the input.
        heads: number of heads n.
        dim_qk: channels of each head's queries and keys.
        dim_v: channels of each head's values.
        mix: Mix-FFN instead of a plain MLP, see FeedForward.
        mlp_ratio: hidden channels of the feed-forward network for each of its channels.
        residual: add the input around the attention.

    Attributes:
        out_channels: channels of the result: ``channels`` with ``residual``, else ``heads * dim_v``.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        dim_qk: int,
        dim_v: int,
        mix: bool = True,
        mlp_ratio: int = 4,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dim_qk = dim_qk
        self.dim_v = dim_v
        self.residual = residual
        self.out_channels = channels if residual else heads * dim_v
        self.attention_norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, heads * dim_qk, bias=False)
        self.key = nn.Linear(channels, heads * dim_qk, bias=False)
        self.value = nn.Linear(channels, heads * dim_v, bias=False)
        self.project = nn.Linear(heads * dim_v, channels) if residual else nn.Identity()
        self.feed_forward_norm = nn.LayerNorm(self.out_channels)
        self.feed_forward = FeedForward(self.out_channels, mlp_ratio * self.out_channels, mix=mix)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Let every position of a map attend to all.

        Args:
            x: features ``[B, h, w, channels]``.

        Returns:
            features ``[B, h, w, out_channels]``; queries and keys ``[B, heads, h, w, dim_qk]``.
        """
        batch, height, width, _ = x.shape
        normed = self.attention_norm(x)
        queries = self.query(normed).view(batch, height, width, self.heads, self.dim_qk).permute(0, 3, 1, 2, 4)
        keys = self.key(normed).view(batch, height, width, self.heads, self.dim_qk).permute(0, 3, 1, 2, 4)
        values = self.value(normed).view(batch, height, width, self.heads, self.dim_v).permute(0, 3, 1, 2, 4)
        # PyTorch's lean kernels want one width for all three; zeros change neither the products nor the other values
        common = max(self.dim_qk, self.dim_v)
        attended = F.scaled_dot_product_attention(
            F.pad(queries.flatten(2, 3), [0, common - self.dim_qk]),
            F.pad(keys.flatten(2, 3), [0, common - self.dim_qk]),
            F.pad(values.flatten(2, 3), [0, common - self.dim_v]),
            scale=self.dim_qk**-0.5,
        )[..., : self.dim_v]
        attended = attended.transpose(1, 2).reshape(batch, height, width, self.heads * self.dim_v)
        y = x + self.project(attended) if self.residual else attended
        return y + self.feed_forward(self.feed_forward_norm(y)), queries, keys


class SpatialSelfAttention(nn.Module):
    """AttenScribble's spatial self-attention block (Tian et al., 2023, section 2.3) for any level of any network.

    The default form is the authors' code: pre-norm layers with residuals around attention and Mix-FFN, then a layer
    norm. There is no position encoding and no dropout. The defaults of ``heads`` and ``layers`` are theirs too.

    Args:
        channels: channels d of the map, which are kept.
        heads: number n of heads.
        layers: number L of layers.
        dim_qk: channels of each head's queries and keys; None for ``channels``.
        dim_v: channels of each head's values; None for ``channels``.
        mlp: ``"mix"`` for Mix-FFN (the authors' code), ``"plain"`` for the paper's MLP.
        mlp_ratio: hidden channels of the feed-forward networks for each of their channels.
        attention_residual: add the input around the attention (the authors' code). Without it (the paper) the layers
            work on the concatenated heads, which a last linear layer brings back to ``channels``.

    Attributes:
        maps: number n * L of attention maps.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 1,
        layers: int = 1,
        dim_qk: int | None = None,
        dim_v: int | None = None,
        mlp: str = "mix",
        mlp_ratio: int = 4,
        attention_residual: bool = True,
    ) -> None:
        super().__init__()
        dim_qk = channels if dim_qk is None else dim_qk
        dim_v = channels if dim_v is None else dim_v
        sizes = {"heads": heads, "layers": layers, "dim_qk": dim_qk, "dim_v": dim_v, "mlp_ratio": mlp_ratio}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"{name} must be at least 1, got {size}")
        if mlp not in ("mix", "plain"):
            raise UserError(f"mlp must be 'mix' or 'plain', got {mlp!r}")
        self.maps = heads * layers
        self.layers = nn.ModuleList()
        width = channels
        for _ in range(layers):
            layer = SelfAttentionLayer(
                width,
                heads=heads,
                dim_qk=dim_qk,
                dim_v=dim_v,
                mix=mlp == "mix",
                mlp_ratio=mlp_ratio,
                residual=attention_residual,
            )
            width = layer.out_channels
            self.layers.append(layer)
        self.compress = nn.Identity() if attention_residual else nn.Linear(width, channels)
        self.norm = nn.LayerNorm(channels)
        initialise_he(self)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Let every position attend to all.

        Args:
            x: map ``[B, channels, h, w]``.

        Returns:
            map of the same shape, in the channels-last layout; the queries and the keys of all layers and heads, each
            ``[B, maps, h, w, dim_qk]``.
        """
        x = x.permute(0, 2, 3, 1)
        queries: list[torch.Tensor] = []
        keys: list[torch.Tensor] = []
        for layer in self.layers:
            x, query, key = layer(x)
            queries.append(query)
            keys.append(key)
        x = self.norm(self.compress(x)).permute(0, 3, 1, 2)
        return x, torch.cat(queries, dim=1), torch.cat(keys, dim=1)
