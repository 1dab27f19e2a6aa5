"""DMPLS' network: a U-Net with a second, perturbed decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import UserError
from .unet import CHANNELS, DROPOUT, UNetDecoder, UNetEncoder
from .unet_blocks import monte_carlo_dropout

__all__ = ["DualBranchUNet"]


class DualBranchUNet(nn.Module):
    """One encoder, a main decoder and an auxiliary one that sees perturbed features (Luo et al., MICCAI 2022, 2.2).

    The decoders are alike and share no weights. Dropout of whole channels of all the encoder's maps perturbs the
    auxiliary one, so that the two predictions differ. In train mode the network returns the logits of both,
    (main, auxiliary), each ``[B, C, H, W]``; in eval mode and under TorchScript it returns the logits of ``head``.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes C, background included.
        channels: channels of the levels, finest first.
        encoder_dropout: probability of each encoder level's dropout.
        auxiliary_dropout: probability of the auxiliary branch's dropout.
        auxiliary_dropout_at: ``"encoder"`` drops channels of the encoder's maps (the authors' code), ``"decoder"``
            drops values before the convolutions of each of the auxiliary decoder's levels (the paper's wording).
        dropout_at_test: keep the auxiliary dropout in eval mode, as the authors' code does. It makes the heads
            ``"auxiliary"`` and ``"mean"`` random. It belongs to ``auxiliary_dropout_at="encoder"``.
        head: what eval mode returns: ``"main"``, ``"auxiliary"``, or ``"mean"``: the logarithm of the mean of the two
            heads' probabilities, whose softmax is that mean. The paper reports the main head.
        upsampling: ``"transposed"`` or ``"bilinear"``, see :class:`~.unet.UpBlock`.
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
        auxiliary_dropout: float = 0.5,
        auxiliary_dropout_at: str = "encoder",
        dropout_at_test: bool = False,
        head: str = "main",
        upsampling: str = "transposed",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= auxiliary_dropout < 1.0:
            raise UserError(f"auxiliary_dropout must lie in 0 .. 1, 1 excluded, got {auxiliary_dropout}")
        if auxiliary_dropout_at not in ("encoder", "decoder"):
            raise UserError(f"auxiliary_dropout_at must be 'encoder' or 'decoder', got {auxiliary_dropout_at!r}")
        if dropout_at_test and auxiliary_dropout_at == "decoder":
            raise UserError("dropout_at_test must be false with auxiliary_dropout_at 'decoder', got True")
        if head not in ("main", "auxiliary", "mean"):
            raise UserError(f"head must be 'main', 'auxiliary' or 'mean', got {head!r}")
        self.head = head
        self.dropout_at_test = dropout_at_test
        at_encoder = auxiliary_dropout_at == "encoder"
        self.feature_dropout = auxiliary_dropout if at_encoder else 0.0
        self.encoder = UNetEncoder(in_channels, channels=channels, dropout=encoder_dropout)
        self.dropout = monte_carlo_dropout(dropout)
        self.decoder = UNetDecoder(out_channels, channels=channels, upsampling=upsampling)
        self.auxiliary_decoder = UNetDecoder(
            out_channels,
            channels=channels,
            dropout=0.0 if at_encoder else auxiliary_dropout,
            upsampling=upsampling,
        )

    # without a return annotation, so that TorchScript infers the single tensor
    def forward(self, x: torch.Tensor):  # type: ignore[no-untyped-def]
        """Segment images ``[B, in_channels, H, W]`` of any size."""
        features = self.encoder(x)
        features[-1] = self.dropout(features[-1])
        if torch.jit.is_scripting():
            return self._head(features)
        if self.training:
            return self.decoder(features), self._auxiliary(features)
        return self._head(features)

    def _head(self, features: list[torch.Tensor]) -> torch.Tensor:
        if self.head == "main":
            return self.decoder(features)
        if self.head == "auxiliary":
            return self._auxiliary(features)
        main = torch.log_softmax(self.decoder(features), dim=1)
        auxiliary = torch.log_softmax(self._auxiliary(features), dim=1)
        return torch.logaddexp(main, auxiliary) - math.log(2.0)

    def _auxiliary(self, features: list[torch.Tensor]) -> torch.Tensor:
        if self.feature_dropout > 0.0 and (self.training or self.dropout_at_test):
            features = [F.dropout2d(level, self.feature_dropout, True) for level in features]
        return self.auxiliary_decoder(features)
