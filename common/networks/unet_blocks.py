"""Blocks that the 2D U-Nets of this collection share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from monai.networks.blocks import Convolution
from torch import nn
from torch.nn import functional as F

from ..errors import UserError

__all__ = [
    "LEAKY_RELU",
    "ConvNormAct",
    "NearestUpConv",
    "TwoConv",
    "initialise_glorot",
    "initialise_he",
    "keep_layout",
    "monte_carlo_dropout",
]

# in place: one map less to keep for the backward pass of every layer
LEAKY_RELU = ("leakyrelu", {"negative_slope": 0.01, "inplace": True})


class ConvNormAct(Convolution):
    """Convolution, batch normalisation and, unless ``act`` is None, an activation; the size is kept.

    Args:
        in_channels: channels of the input ``[B, in_channels, H, W]``.
        out_channels: channels of the output ``[B, out_channels, H, W]``.
        kernel_size: odd edge length of the kernel, in pixels.
        act: activation as MONAI names it, None for none.
        dropout: probability of MONAI's dropout after the activation, 0 for none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        act: str | tuple | None = "RELU",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            2,
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            adn_ordering="NAD",
            act=act,
            norm="BATCH",
            dropout=dropout or None,
        )


class TwoConv(nn.Sequential):
    """Two times convolution, batch normalisation, activation: the U-Net's block (Ronneberger et al., 2015).

    Args:
        in_channels: channels of the input ``[B, in_channels, H, W]``.
        out_channels: channels of both convolutions.
        kernel_size: odd edge length of both kernels, in pixels.
        act: activation as MONAI names it.
        dropout: probability of the dropout between the two convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        act: str | tuple = "RELU",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            ConvNormAct(in_channels, out_channels, kernel_size=kernel_size, act=act, dropout=dropout),
            ConvNormAct(out_channels, out_channels, kernel_size=kernel_size, act=act),
        )


class NearestUpConv(nn.Module):
    """Nearest-neighbour upsampling to the size of the skip connection, then convolution and normalisation.

    Taking the skip's size instead of a factor of two lets inputs of any size through.

    Args:
        in_channels: channels of the coarse map.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels, act=None)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return ``[B, out_channels + C_skip, H, W]``: the upsampled ``x`` and ``skip`` ``[B, C_skip, H, W]``."""
        up = self.conv(F.interpolate(x, size=skip.shape[-2:], mode="nearest"))
        return torch.cat([keep_layout(up), skip], dim=1)


def keep_layout(x: torch.Tensor) -> torch.Tensor:
    """Return ``x``, whose gradient gets the memory layout that ``x`` has.

    The gradient of a concatenation is a part of a larger map, that of a crop lies in zeros of PyTorch's default layout.
    Where a batch normalisation made ``x``, its gradient on a CPU takes up to ten times as long with either.
    """
    if not torch.jit.is_scripting() and not torch.jit.is_tracing() and x.requires_grad:
        return _KeepLayout.apply(x)
    return x


class _KeepLayout(torch.autograd.Function):
    """Identity."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0].contiguous(memory_format=ctx.layout)


def monte_carlo_dropout(probability: float) -> nn.Module:
    """Dropout that is there to be sampled: how far predictions scatter tells what a network is unsure of.

    Gal and Ghahramani (ICML 2016) keep dropout at test time and look at the spread of several passes. It acts in train
    mode alone, which whoever wants to sample sets; 0 stands for no layer, and weights are the same either way.

    Args:
        probability: how likely each value is set to 0.

    Raises:
        UserError: it lies outside of 0 .. 1, 1 excluded.
    """
    if not 0.0 <= probability < 1.0:
        raise UserError(f"dropout must lie in 0 .. 1, 1 excluded, got {probability}")
    return nn.Dropout(probability) if probability else nn.Identity()


def initialise_he(module: nn.Module) -> None:
    """Draw the weights of every convolution and linear layer by He's normal rule (fan-in), biases 0."""
    _initialise(module, partial(nn.init.kaiming_normal_, mode="fan_in", nonlinearity="relu"))


def initialise_glorot(module: nn.Module) -> None:
    """Draw the weights of every convolution and linear layer by Glorot's uniform rule, biases 0."""
    _initialise(module, nn.init.xavier_uniform_)


def _initialise(module: nn.Module, draw: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
