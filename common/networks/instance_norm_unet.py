"""The U-Net with instance normalisation that the coarse-label method is built on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from .unet_blocks import monte_carlo_dropout

__all__ = ["DoubleConv", "InstanceNorm", "InstanceNormUNet", "PReLU", "recomputed"]


class InstanceNorm(nn.GroupNorm):
    """Instance normalisation with a weight and a bias per channel.

    It is group normalisation with a group for every channel: the values are those of ``nn.InstanceNorm2d``, and the
    channels-last layout is kept, which that layer gives up. A map of a single pixel gives the bias and is no error.

    Args:
        channels: channels of the input ``[B, channels, H, W]``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise every channel of every item by its own mean and variance."""
        if self.training and input.device.type == "cpu":
            # the gradient of a group normalisation of the channels-last layout takes 10 to 25 times as long; an
            # exported network, which is no more in training, takes batches of any size by the other way
            weight, bias, eps = self.weight, self.bias, self.eps
            items = [torch.batch_norm(x, weight, bias, None, None, True, 0.0, eps, False) for x in input.split(1)]
            return torch.cat(items)
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class PReLU(nn.PReLU):
    """``nn.PReLU()``, one slope for all channels, with a gradient that a CPU has in a fifth of the time."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Multiply what is negative by the slope."""
        if not torch.jit.is_scripting() and self.training and input.device.type == "cpu" and input.requires_grad:
            return _PReLU.apply(input, self.weight)
        return F.prelu(input, self.weight)


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, slope)
        return F.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        [gradient] = gradients
        x, slope = ctx.saved_tensors
        of_positive = torch.ops.aten.threshold_backward(gradient, x, 0.0)
        of_input = torch.lerp(of_positive, gradient, slope.to(gradient.dtype))
        of_slope = ((gradient - of_positive) * x).sum(dtype=slope.dtype)
        return of_input, of_slope.view_as(slope)


class DoubleConv(nn.Sequential):
    """Two times 3 x 3 convolution without bias, instance normalisation, PReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of both convolutions.
        stride: stride of the first convolution; 2 halves the size, rounding up.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            InstanceNorm(out_channels),
            PReLU(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            InstanceNorm(out_channels),
            PReLU(),
        )


class _UpBlock(nn.Module):
    """Upsample bilinearly to the skip connection's size, append, convolve twice."""

    def __init__(self, coarse: int, skip: int, out_channels: int) -> None:
        super().__init__()
        self.convolutions = DoubleConv(coarse + skip, out_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        up = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.convolutions(torch.cat([up, skip], dim=1))


class InstanceNormUNet(nn.Module):
    """U-Net up to its last features, without an output layer (Zhang et al., NeurIPS 2020).

    Strided convolutions go down, bilinear upsampling goes up; channels double with each depth. Inputs of any size
    pass. The layers start with PyTorch's default weights.

    Args:
        in_channels: channels of the image.
        filters: channels at full resolution, and of the result.
        depth: how often the size is halved.
        checkpointing: in training keep the blocks' inputs alone and compute the rest again for the gradient: a third
            more time for a fraction of the memory.
        dropout: probability of a Monte Carlo dropout of the deepest maps, see
            :func:`~.unet_blocks.monte_carlo_dropout`.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self, in_channels: int, *, filters: int = 24, depth: int = 3, checkpointing: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if depth < 1 or filters < 1:
            raise UserError(f"depth and filters must be at least 1, got {depth} and {filters}")
        self.checkpointing = checkpointing
        self.dropout = monte_carlo_dropout(dropout)
        widths = [filters * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList([DoubleConv(in_channels, filters)])
        self.decoder = nn.ModuleList()
        for fine, coarse in pairwise(widths):
            self.encoder.append(DoubleConv(fine, coarse, stride=2))
            self.decoder.insert(0, _UpBlock(coarse, fine, fine))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features ``[B, filters, H, W]`` of images ``[B, in_channels, H, W]``."""
        skips: list[torch.Tensor] = []
        for block in self.encoder:
            if torch.jit.is_scripting():
                x = block(x)
            else:
                x = recomputed(block, x, enabled=self.checkpointing and self.training)
            skips.append(x)
        x = self.dropout(x)
        for level, block in enumerate(self.decoder):
            skip = skips[-2 - level]
            if torch.jit.is_scripting():
                x = block(x, skip)
            else:
                x = recomputed(block, x, skip, enabled=self.checkpointing and self.training)
        return x


def recomputed(block: Callable[..., torch.Tensor], *inputs: torch.Tensor, enabled: bool) -> torch.Tensor:
    """Run a block that draws nothing at random; if enabled, keep its inputs alone for the gradient."""
    if enabled:
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return block(*inputs)
