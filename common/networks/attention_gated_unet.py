"""MAAG's segmentor: a U-Net whose decoder is gated by its own class predictions."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import UserError
from .unet_blocks import ConvNormAct, NearestUpConv, TwoConv, initialise_he, monte_carlo_dropout

__all__ = ["AttentionGatedDecoderBlock", "AttentionGatedUNet"]


class AttentionGatedDecoderBlock(nn.Module):
    """One depth of the decoder with its Adversarial Attention Gate (Valvano et al., 2021, section III-B).

    Two convolutions give the features M; a 1 x 1 classifier and a softmax give the soft segmentation of this depth;
    the sum of its foreground channels is the attention map a, and the gate returns M * a.

    Args:
        in_channels: channels of the coarser decoder map.
        skip_channels: channels of the encoder's map of this depth.
        out_channels: channels of M.
        num_classes: classes of the soft segmentation, background first.
        gating: multiply M by a.
        classifier: predict a segmentation at this depth; gating needs it.
        attention_from: ``"B"`` classifies M itself (the paper), ``"A"`` the output of the block's first convolution
            (the authors' code).
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        num_classes: int,
        *,
        gating: bool = True,
        classifier: bool = True,
        attention_from: str = "B",
    ) -> None:
        super().__init__()
        self.gating = gating
        self.attention_from_first = attention_from == "A"
        self.up = NearestUpConv(in_channels, out_channels)
        self.first = ConvNormAct(out_channels + skip_channels, out_channels)
        self.second = ConvNormAct(out_channels, out_channels)
        self.classifier = nn.Conv2d(out_channels, num_classes, kernel_size=1) if classifier else nn.Identity()

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gated features ``[B, out_channels, H, W]`` and the logits ``[B, num_classes, H, W]``.

        Without a classifier the second value is the feature map itself and means nothing.
        """
        a = self.first(self.up(x, skip))
        features = self.second(a)
        logits = self.classifier(a if self.attention_from_first else features)
        if self.gating:
            features = features * torch.softmax(logits, dim=1)[:, 1:].sum(dim=1, keepdim=True)
        return features, logits


class AttentionGatedUNet(nn.Module):
    """U-Net with an Adversarial Attention Gate at every depth of the decoder (Valvano et al., TMI 2021, Fig. 2).

    In eval mode and under TorchScript the network returns the logits ``[B, C, H, W]``. In train mode with
    ``deep_predictions`` it returns a tuple: the logits, then the classifiers' logits at 1/2, 1/4, ... of the size,
    which the multi-scale discriminator judges (Adversarial Deep Supervision).

    Args:
        in_channels: channels of the image.
        out_channels: number of classes C, background included.
        filters: channels at full resolution; they double with each depth.
        depth: number of decoder blocks; the bottleneck lies at 1/2**depth of the size.
        gating: multiply the decoder's features by their attention maps (ablation: ours against #1).
        deep_predictions: return the classifiers' logits in train mode (ablation: ours against #2).
        bottleneck_kernel: 3 as the paper's U-Net, 1 as the authors' code.
        attention_from: ``"B"`` as the paper, ``"A"`` as the authors' code; see AttentionGatedDecoderBlock.
        dropout: probability of a Monte Carlo dropout of the deepest maps, see
            :func:`~.unet_blocks.monte_carlo_dropout`.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        filters: int = 32,
        depth: int = 4,
        gating: bool = True,
        deep_predictions: bool = True,
        bottleneck_kernel: int = 3,
        attention_from: str = "B",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if out_channels < 2:
            raise UserError(f"out_channels counts the background and must be at least 2, got {out_channels}")
        if depth < 1 or filters < 1:
            raise UserError(f"depth and filters must be at least 1, got {depth} and {filters}")
        if bottleneck_kernel not in (1, 3):
            raise UserError(f"bottleneck_kernel must be 1 or 3, got {bottleneck_kernel}")
        if attention_from not in ("A", "B"):
            raise UserError(f"attention_from must be 'A' or 'B', got {attention_from!r}")
        self.deep_predictions = deep_predictions
        channels = [filters * 2**level for level in range(depth)]
        self.encoder = nn.ModuleList(
            TwoConv(previous, width) for previous, width in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.bottleneck = TwoConv(channels[-1], 2 * channels[-1], kernel_size=bottleneck_kernel)
        self.dropout = monte_carlo_dropout(dropout)
        self.decoder = nn.ModuleList(
            AttentionGatedDecoderBlock(
                2 * width,
                width,
                width,
                out_channels,
                gating=gating,
                # the full-resolution classifier only gates: the discriminator sees the output layer there
                classifier=gating or (deep_predictions and width != filters),
                attention_from=attention_from,
            )
            for width in reversed(channels)
        )
        self.output = nn.Conv2d(filters, out_channels, kernel_size=1)
        initialise_he(self)

    # without a return annotation, so that TorchScript infers the single tensor
    def forward(self, x: torch.Tensor):  # type: ignore[no-untyped-def]
        """Segment images ``[B, in_channels, H, W]`` of any size."""
        skips: list[torch.Tensor] = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.dropout(self.bottleneck(x))
        attention: list[torch.Tensor] = []
        for level, block in enumerate(self.decoder):
            x, logits = block(x, skips[-1 - level])
            attention.append(logits)
        main = self.output(x)
        if torch.jit.is_scripting():
            return main
        if self.training and self.deep_predictions:
            return (main, *attention[-2::-1])
        return main
