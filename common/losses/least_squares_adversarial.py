"""Least-squares adversarial objectives (Mao et al., 2018), as MAAG uses them."""

from __future__ import annotations

import torch
from torch.nn.modules.loss import _Loss

from ..errors import UserError

__all__ = ["LeastSquaresDiscriminatorLoss", "LeastSquaresGeneratorLoss"]


class LeastSquaresGeneratorLoss(_Loss):
    """V(Sigma) = 1/2 E[(Delta(Sigma(x)) - 1)^2] (Valvano et al., TMI 2021, Eq. 2)."""

    def forward(self, fake: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of the discriminator's scores ``[B, 1]`` of predictions."""
        return 0.5 * (fake - 1.0).square().mean()


class LeastSquaresDiscriminatorLoss(_Loss):
    """V(Delta) = 1/2 E[(Delta(y) - 1)^2] + 1/2 E[(Delta(Sigma(x)) + 1)^2] (Valvano et al., TMI 2021, Eq. 2).

    Args:
        label_noise: probability with which an item's target is swapped from real to fake or back, drawn for each
            item. The paper uses 0.1.

    Raises:
        UserError: if the probability lies outside 0..1.
    """

    def __init__(self, label_noise: float = 0.1) -> None:
        super().__init__()
        if not 0.0 <= label_noise <= 1.0:
            raise UserError(f"label_noise must lie in 0..1, got {label_noise}")
        self.label_noise = label_noise

    def forward(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of the scores ``[B, 1]`` of real masks and ``[B', 1]`` of predictions."""
        return (
            0.5 * (real - self._target(real, 1.0)).square().mean()
            + 0.5 * (fake - self._target(fake, -1.0)).square().mean()
        )

    def _target(self, scores: torch.Tensor, sign: float) -> torch.Tensor:
        swapped = torch.rand_like(scores) < self.label_noise
        return torch.where(swapped, -sign, sign)
