"""CycleMix's network: a U-Net of unpadded convolutions on an image with a wide margin."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from torch import nn
from torch.nn import functional as F

from ..errors import UserError
from .unet_blocks import keep_layout, monte_carlo_dropout

__all__ = ["CHANNELS", "UNetPlus"]

CHANNELS = (64, 128, 256, 512, 1024)


class ConvActNorm(Convolution):
    """3 x 3 convolution, ReLU, then batch normalisation.

    Args:
        in_channels: channels of the input ``[B, in_channels, H, W]``.
        out_channels: channels of the output ``[B, out_channels, H + 2 (padding - 1), W + 2 (padding - 1)]``.
        padding: pixels of zeros on each side.
        eps: added to the variance.
        momentum: share of the batch in an update of the running statistics.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, padding: int = 0, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(
            2,
            in_channels,
            out_channels,
            padding=padding,
            adn_ordering="AN",
            act=("RELU", {"inplace": True}),
            norm=("BATCH", {"eps": eps, "momentum": momentum}),
        )


class ValidTwoConv(nn.Sequential):
    """Two unpadded convolutions with ReLU and batch normalisation: two pixels are lost on every side for each.

    Args:
        in_channels: channels of the input ``[B, in_channels, H, W]``.
        out_channels: channels of the output ``[B, out_channels, H - 4, W - 4]``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            ConvActNorm(in_channels, out_channels),
            ConvActNorm(out_channels, out_channels, eps=1e-3, momentum=0.01),
        )


class ValidUpBlock(nn.Module):
    """Double by nearest neighbour and convolve, join the centre of the skip connection, convolve twice unpadded.

    Args:
        in_channels: channels of the coarse map.
        up_channels: channels of the doubled map.
        out_channels: channels of the skip connection and of the result.
        replicate: repeat the edge of the doubled map before its convolution, instead of zeros.
    """

    def __init__(self, in_channels: int, up_channels: int, out_channels: int, *, replicate: bool = False) -> None:
        super().__init__()
        self.replicate = replicate
        self.up = ConvActNorm(in_channels, up_channels, padding=0 if replicate else 1)
        self.convolutions = ValidTwoConv(up_channels + out_channels, out_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return ``[B, out_channels, 2 h - 4, 2 w - 4]`` from ``[B, in_channels, h, w]`` and a larger skip map."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        up = self.up(F.pad(x, [1, 1, 1, 1], mode="replicate") if self.replicate else x)
        height, width = up.shape[-2:]
        top, left = (skip.shape[-2] - height) // 2, (skip.shape[-1] - width) // 2
        centre = keep_layout(skip)[:, :, top : top + height, left : left + width]
        return self.convolutions(torch.cat([keep_layout(up), centre], dim=1))


class UNetPlus(nn.Module):
    """UNet+ of CycleMix (Zhang and Zhuang, CVPR 2022, section 4.2), after the 2D network of Baumgartner et al. (2017).

    The image gets a margin of zeros (92 pixels on each side with five levels), so that the unpadded convolutions give
    it back at its own size: 212 -> 396 > 392 | 196 > 192 | 96 > 92 | 46 > 42 | 21 > 17 - 34 > 30 - 60 > 56 - 112 > 108
    - 216 > 212. The sizes come out even for 16 k + 4 pixels; another size gets the rest in the same way at the bottom
    and at the right, which is cut off the result.

    Within the margin's width from the border, the network can tell by the zeros where it is. On a coarse grid that is
    the whole image, and what no scribble reaches can become a class by its place alone. A margin that repeats the
    image's edge takes that away.

    The last layer is a batch normalisation of the class maps. Its output is what the network returns: the softmax of
    these logits are the probabilities that the paper's network ends with. The layers start with PyTorch's default
    weights.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes C, background included.
        channels: channels of the levels, finest first.
        up_channels: channels of the doubled maps, coarsest first. None for the authors' choice: the number of classes
            for the two coarsest, the level's own channels for the others. Baumgartner et al. have the number of
            classes at every level.
        padding_mode: what the margin, and one pixel around each doubled map, is filled with: ``zeros``, or
            ``replicate``, the nearest pixel.
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
        up_channels: Sequence[int] | None = None,
        padding_mode: str = "zeros",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if out_channels < 2:
            raise UserError(f"out_channels counts the background and must be at least 2, got {out_channels}")
        if len(channels) < 2 or min(channels) < 1:
            raise UserError(f"channels needs two or more positive numbers, one for each level, got {list(channels)}")
        widths = list(channels)[::-1]
        if up_channels is None:
            up_channels = [out_channels if depth < 2 else width for depth, width in enumerate(widths[1:])]
        if len(up_channels) != len(channels) - 1 or min(up_channels) < 1:
            raise UserError(f"up_channels needs {len(channels) - 1} positive numbers, got {list(up_channels)}")
        if padding_mode not in ("zeros", "replicate"):
            raise UserError(f"padding_mode must be zeros or replicate, got {padding_mode!r}")
        replicate = padding_mode == "replicate"
        self.padding_mode = "replicate" if replicate else "constant"
        self.step = 2 ** (len(channels) - 1)
        self.margin = 6 * self.step - 4
        self.encoder = nn.ModuleList(
            ValidTwoConv(previous, width) for previous, width in pairwise([in_channels, *channels])
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = monte_carlo_dropout(dropout)
        self.decoder = nn.ModuleList(
            ValidUpBlock(coarse, up, fine, replicate=replicate)
            for (coarse, fine), up in zip(pairwise(widths), up_channels, strict=True)
        )
        self.output = nn.Sequential(nn.Conv2d(channels[0], out_channels, kernel_size=1), nn.BatchNorm2d(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment images ``[B, in_channels, H, W]`` of any size; return logits ``[B, C, H, W]``."""
        height, width = x.shape[-2:]
        bottom, right = (4 - height) % self.step, (4 - width) % self.step
        margins = [self.margin, self.margin + right, self.margin, self.margin + bottom]
        x = F.pad(x, margins, mode=self.padding_mode)
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level > 0 else x)
            skips.append(x)
        x = self.dropout(x)
        for level, up in enumerate(self.decoder):
            x = up(x, skips[-2 - level])
        return keep_layout(self.output(x))[:, :, :height, :width]
