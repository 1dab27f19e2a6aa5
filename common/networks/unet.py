"""The plain 2D U-Net, as an encoder and a decoder that other networks take apart and combine anew."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from ..errors import UserError
from .unet_blocks import LEAKY_RELU, TwoConv, monte_carlo_dropout

__all__ = ["CHANNELS", "DROPOUT", "UNet", "UNetDecoder", "UNetEncoder", "UpBlock"]

CHANNELS = (16, 32, 64, 128, 256)
DROPOUT = (0.05, 0.1, 0.2, 0.3, 0.5)


class UNetEncoder(nn.Module):
    """The contracting path: at every level two convolutions, with dropout between them (Luo et al., MICCAI 2022).

    ``blocks[0]`` takes the image, ``blocks[i]`` the map of ``blocks[i - 1]``, which it halves first by max-pooling
    (rounding up, so that inputs of any size pass).

    Args:
        in_channels: channels of the image.
        channels: channels of the levels, finest first.
        dropout: probability of each level's dropout between its two convolutions.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self, in_channels: int, *, channels: Sequence[int] = CHANNELS, dropout: Sequence[float] = DROPOUT
    ) -> None:
        super().__init__()
        _check_channels(channels)
        if len(dropout) != len(channels):
            raise UserError(f"dropout needs a probability for each of the {len(channels)} levels, got {list(dropout)}")
        if not all(0.0 <= probability < 1.0 for probability in dropout):
            raise UserError(f"dropout must lie in 0 .. 1, 1 excluded, got {list(dropout)}")
        self.blocks = nn.ModuleList([TwoConv(in_channels, channels[0], act=LEAKY_RELU, dropout=dropout[0])])
        for (finer, width), probability in zip(pairwise(channels), dropout[1:], strict=True):
            convolutions = TwoConv(finer, width, act=LEAKY_RELU, dropout=probability)
            self.blocks.append(nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), convolutions))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the map of every level, finest first.

        Args:
            x: images ``[B, in_channels, H, W]``.

        Returns:
            maps ``[B, channels[i], ceil(H / 2**i), ceil(W / 2**i)]``.
        """
        features: list[torch.Tensor] = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features


class UpBlock(nn.Module):
    """One level of the decoder: double the coarse map, append it to the skip connection, convolve twice.

    Args:
        in_channels: channels of the coarse map.
        out_channels: channels of the skip connection and of the result.
        dropout: probability of the dropout before the convolutions.
        upsampling: how to double: ``"transposed"`` by a 2 x 2 convolution, ``"bilinear"`` by a 1 x 1 convolution and
            interpolation between the corner pixels.

    Raises:
        UserError: for an unknown ``upsampling``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, dropout: float = 0.0, upsampling: str = "transposed"
    ) -> None:
        super().__init__()
        if upsampling not in ("transposed", "bilinear"):
            raise UserError(f"upsampling must be 'transposed' or 'bilinear', got {upsampling!r}")
        self.up: nn.Module
        if upsampling == "transposed":
            self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        else:
            # the convolution first: it has a quarter of the pixels there, and the result is the same
            self.up = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            )
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.convolutions = TwoConv(2 * out_channels, out_channels, act=LEAKY_RELU)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return ``[B, out_channels, H, W]`` from ``[B, in_channels, ceil(H / 2), ceil(W / 2)]`` and the skip's map."""
        # the encoder rounds up, so the doubled map has the skip's size or one row or column more
        up = self.up(x)[:, :, : skip.shape[2], : skip.shape[3]]
        return self.convolutions(self.dropout(torch.cat([skip, up], dim=1)))


class UNetDecoder(nn.Module):
    """The expanding path: from the encoder's maps to logits (Luo et al., MICCAI 2022).

    Args:
        out_channels: number of classes C, background included.
        channels: channels of the encoder's levels, finest first.
        dropout: probability of a dropout before the convolutions of every level.
        upsampling: ``"transposed"`` or ``"bilinear"``, see UpBlock.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        out_channels: int,
        *,
        channels: Sequence[int] = CHANNELS,
        dropout: float = 0.0,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        _check_channels(channels)
        if out_channels < 2:
            raise UserError(f"out_channels counts the background and must be at least 2, got {out_channels}")
        self.blocks = nn.ModuleList(
            UpBlock(coarse, fine, dropout=dropout, upsampling=upsampling)
            for coarse, fine in pairwise(reversed(channels))
        )
        self.output = nn.Conv2d(channels[0], out_channels, kernel_size=3, padding=1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Return the logits ``[B, C, H, W]`` of the encoder's maps, finest first."""
        x = features[-1]
        for level, block in enumerate(self.blocks):
            x = block(x, features[-2 - level])
        return self.output(x)


class UNet(nn.Module):
    """U-Net with batch normalisation, leaky ReLU and dropout in the encoder: the baseline of scribble benchmarks.

    The network that Luo et al. (MICCAI 2022) compare methods on, after Ronneberger et al. (2015). The layers start
    with PyTorch's default weights.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes C, background included.
        channels: channels of the levels, finest first.
        encoder_dropout: probability of each encoder level's dropout.
        upsampling: ``"transposed"`` or ``"bilinear"``, see UpBlock.
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
        channels: Sequence[int] = CHANNELS,
        encoder_dropout: Sequence[float] = DROPOUT,
        upsampling: str = "transposed",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = UNetEncoder(in_channels, channels=channels, dropout=encoder_dropout)
        self.dropout = monte_carlo_dropout(dropout)
        self.decoder = UNetDecoder(out_channels, channels=channels, upsampling=upsampling)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment images ``[B, in_channels, H, W]`` of any size; return logits ``[B, C, H, W]``."""
        features = self.encoder(x)
        features[-1] = self.dropout(features[-1])
        return self.decoder(features)


def _check_channels(channels: Sequence[int]) -> None:
    if len(channels) < 2 or min(channels) < 1:
        raise UserError(f"channels needs two or more positive numbers, one for each level, got {list(channels)}")
