"""MAAG's discriminator: one network that judges segmentations at several scales together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ..errors import UserError
from .unet_blocks import initialise_glorot, initialise_he

__all__ = ["MultiScaleDiscriminator"]


class MultiScaleDiscriminator(nn.Module):
    """Convolutional encoder fed with a soft segmentation at every depth (Valvano et al., TMI 2021, section III-B).

    Depth 1 reads the full-resolution segmentation; every further depth d reads the features of the depth before,
    squeezed to few channels, beside the segmentation at 1/2**(d-1) of the size. A linear layer gives one score
    for each item: towards 1 for real masks, towards -1 for predictions.

    Two forms: ``"paper"`` (4 x 4 convolutions of stride 2 with spectral normalisation and tanh at every depth,
    squeeze to 12 channels with tanh) and ``"code"`` (as the authors released it: the first convolution without
    spectral normalisation and with a leaky ReLU, widths f, 4f, 8f, 16f, the last of stride 1, squeeze to 13
    channels with a sigmoid before each further depth). The weights start as in the authors' code: by Glorot's uniform
    rule, and by He's where a leaky ReLU follows.

    Args:
        in_channels: channels of a segmentation, the background dropped: number of classes - 1.
        input_size: ``(H, W)`` of the full-resolution segmentation, in pixels; each divisible by 2**(scales - 1).
        scales: number of depths, and of segmentations read when ``multi_scale``.
        filters: channels of the first depth.
        multi_scale: False reads the full-resolution segmentation alone (a vanilla GAN, ablation #2 of Table III).
        instance_noise: standard deviation of the Gaussian noise added to the full-resolution input in train mode.
        form: ``"paper"`` or ``"code"``.

    Raises:
        UserError: for an unknown form or a size that the scales do not divide.
    """

    def __init__(
        self,
        in_channels: int,
        input_size: Sequence[int],
        *,
        scales: int = 4,
        filters: int = 32,
        multi_scale: bool = True,
        instance_noise: float = 0.2,
        form: str = "paper",
    ) -> None:
        super().__init__()
        if form not in ("paper", "code"):
            raise UserError(f"form must be 'paper' or 'code', got {form!r}")
        step = 2 ** (scales - 1)
        if any(size % step for size in input_size):
            raise UserError(f"input_size {list(input_size)} must be divisible by {step} for {scales} scales")
        self.scales = scales
        self.multi_scale = multi_scale
        self.instance_noise = instance_noise
        paper = form == "paper"
        squeezed = 12 if paper else 13
        widths = [filters * 2 ** (level if paper else level + min(level, 1)) for level in range(scales)]
        self.reduce = nn.ModuleList()
        self.squeeze = nn.ModuleList()
        channels = in_channels
        size = list(input_size)
        for level, width in enumerate(widths):
            last_of_code = not paper and level == scales - 1
            stride = 1 if last_of_code else 2
            conv = nn.Conv2d(channels, width, kernel_size=4, stride=stride)
            plain = not paper and level == 0
            # before the spectral norm, which would hide the weights that it divides
            (initialise_he if plain else initialise_glorot)(conv)
            self.reduce.append(
                nn.Sequential(
                    # an even kernel of stride 1 keeps the size with one more row on the far side
                    nn.ZeroPad2d((1, 2, 1, 2) if last_of_code else 1),
                    conv if plain else spectral_norm(conv),
                    nn.LeakyReLU(0.2) if plain else nn.Tanh(),
                )
            )
            size = size if last_of_code else [edge // 2 for edge in size]
            channels = width
            if paper or level < scales - 1:
                squeeze = nn.Conv2d(width, squeezed, 1)
                initialise_glorot(squeeze)
                self.squeeze.append(nn.Sequential(squeeze, nn.Tanh() if paper else nn.Sigmoid()))
                channels = squeezed + (in_channels if multi_scale and level < scales - 1 else 0)
        self.head = nn.Linear(channels * size[0] * size[1], 1)
        initialise_glorot(self.head)

    def forward(self, segmentations: Sequence[torch.Tensor]) -> torch.Tensor:
        """Score soft segmentations.

        Args:
            segmentations: foreground probabilities ``[B, C - 1, H, W]`` in 0..1, then at 1/2, 1/4, ... of the size;
                with ``multi_scale`` off only the first is read.

        Returns:
            scores ``[B, 1]``, unbounded.
        """
        x = segmentations[0]
        if self.training and self.instance_noise > 0:
            x = x + self.instance_noise * torch.randn_like(x)
        for level, reduce in enumerate(self.reduce):
            x = reduce(x)
            if level < len(self.squeeze):
                x = self.squeeze[level](x)
            if self.multi_scale and level + 1 < len(self.reduce):
                x = torch.cat([x, segmentations[level + 1]], dim=1)
        return self.head(x.flatten(1))
