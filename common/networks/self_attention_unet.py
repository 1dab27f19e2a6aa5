"""AttenScribble's network: a U-Net with self-attention on one level of its encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import UserError
from .spatial_self_attention import SpatialSelfAttention
from .unet import CHANNELS, DROPOUT, UNetDecoder, UNetEncoder
from .unet_blocks import monte_carlo_dropout

__all__ = ["SelfAttentionUNet", "SimilarityHead"]


class SimilarityHead(nn.Module):
    """The 1 x 1 convolution that brings n * L attention maps to one similarity (Tian et al., 2023, section 2.4).

    It holds the weights; AttentiveSimilarityLoss applies them, because only a window of the maps is ever computed.
    It starts as the mean of the maps, so that more attention means more similarity.

    Args:
        maps: number of attention maps.
        bias: learn a bias as well (the authors' code).
    """

    def __init__(self, maps: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((maps,), 1.0 / maps))
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None

    def forward(self, like: torch.Tensor) -> torch.Tensor:
        """Return the weights and the bias ``[B, maps + 1]``, the same for each of the B items of ``like``."""
        bias = torch.zeros_like(self.weight[:1]) if self.bias is None else self.bias
        return torch.cat([self.weight, bias]).expand(like.shape[0], -1)


class SelfAttentionUNet(nn.Module):
    """U-Net with a spatial self-attention block on one encoder level (Tian et al., 2023, Fig. 1).

    The block's result replaces the level's map, both as skip connection and as input of the next level. In eval mode
    and under TorchScript the network returns the logits ``[B, C, H, W]``. In train mode with ``similarity`` it returns
    what AttentiveSimilarityLoss needs beside them: (logits, queries, keys, weights), with queries and keys
    ``[B, maps, h, w, dim_qk]`` on the level's grid and the SimilarityHead's weights ``[B, maps + 1]``.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes C, background included.
        channels: channels of the levels, finest first.
        encoder_dropout: probability of each encoder level's dropout.
        self_attention: False leaves the plain U-Net (ablation without SSA); ``similarity`` has to be False then.
        attention_level: encoder level of the block, 0 the finest.
        heads: number of the block's heads.
        layers: number of the block's layers.
        dim_qk: channels of each head's queries and keys; None for the level's channels.
        dim_v: channels of each head's values; None for the level's channels.
        mlp: ``"mix"`` as the authors' code, ``"plain"`` as the paper; see SpatialSelfAttention.
        attention_residual: True as the authors' code, False as the paper; see SpatialSelfAttention.
        similarity: have a SimilarityHead and return its tuple in train mode (ablation without ASL: False).
        similarity_bias: give the SimilarityHead a bias, see there.
        upsampling: ``"transposed"`` or ``"bilinear"``, see :class:`~.unet.UpBlock`.
        dropout: probability of a Monte Carlo dropout of the deepest maps, see
            :func:`~.unet_blocks.monte_carlo_dropout`.

    Raises:
        UserError: for an option out of its range, and for ``similarity`` without ``self_attention``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = CHANNELS,
        encoder_dropout: Sequence[float] = DROPOUT,
        self_attention: bool = True,
        attention_level: int = 2,
        heads: int = 1,
        layers: int = 1,
        dim_qk: int | None = None,
        dim_v: int | None = None,
        mlp: str = "mix",
        attention_residual: bool = True,
        similarity: bool = True,
        similarity_bias: bool = True,
        upsampling: str = "transposed",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= attention_level < len(channels):
            raise UserError(f"attention_level must be 0 .. {len(channels) - 1}, got {attention_level}")
        if similarity and not self_attention:
            raise UserError("similarity must be false with self_attention false: it is made of the attention")
        self.attention_level = attention_level
        self.encoder = UNetEncoder(in_channels, channels=channels, dropout=encoder_dropout)
        self.dropout = monte_carlo_dropout(dropout)
        self.decoder = UNetDecoder(out_channels, channels=channels, upsampling=upsampling)
        self.attention: SpatialSelfAttention | None = None
        if self_attention:
            self.attention = SpatialSelfAttention(
                channels[attention_level],
                heads=heads,
                layers=layers,
                dim_qk=dim_qk,
                dim_v=dim_v,
                mlp=mlp,
                attention_residual=attention_residual,
            )
        self.similarity = SimilarityHead(heads * layers, bias=similarity_bias) if similarity else None

    # without a return annotation, so that TorchScript infers the single tensor
    def forward(self, x: torch.Tensor):  # type: ignore[no-untyped-def]
        """Segment images ``[B, in_channels, H, W]`` of any size."""
        features: list[torch.Tensor] = []
        queries, keys = x, x
        for level, block in enumerate(self.encoder.blocks):
            x = block(x)
            if self.attention is not None:  # noqa: SIM102 - TorchScript leaves the block out by this test alone
                if level == self.attention_level:
                    x, queries, keys = self.attention(x)
            features.append(x)
        features[-1] = self.dropout(features[-1])
        logits = self.decoder(features)
        if torch.jit.is_scripting():
            return logits
        if self.training and self.similarity is not None:
            return logits, queries, keys, self.similarity(logits)
        return logits
