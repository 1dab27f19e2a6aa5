"""Confusion matrices at every pixel: how they are predicted, written down and applied.

An annotator's confusion matrix A at a pixel holds a_ij = p(drawn class = i | true class = j), so that each of its L
columns sums to 1 (Zhang et al., "Positive and negative coarse labels", section 3.2). There are two ways to write them:

- full: ``[B, L, L, H, W]``, i before j;
- rank-1: ``[B, 2 L, H, W]``, first a distribution u ``[B, L, H, W]`` over the drawn classes, then for each true class j
  the probability s_j in 0 .. 1 that the annotator draws it on purpose. Otherwise the annotator draws a class from u:
  A = diag(s) + u (1 - s)^T. For L classes this takes 2 L instead of L^2 values a pixel.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import UserError
from .instance_norm_unet import DoubleConv, recomputed

__all__ = [
    "FORMS",
    "ConfusionHead",
    "LearnedTransition",
    "drawn_probabilities",
    "full_matrices",
    "traces",
    "uniform_transition",
]

FORMS = ("full", "rank1")
"""The ways to write the matrices."""

_NEVER_ZERO = 1e-6


class ConfusionHead(nn.Module):
    """Predict the confusion matrices of one kind of annotation from a network's features (Zhang et al., NeurIPS 2020).

    Two times two convolutions, a 1 x 1 convolution, and softplus; each column is divided by its sum. In the rank-1
    form softplus gives 2 L + 1 values a pixel: the u_i, divided by their sum, v_j, and one alpha; with
    s_j = alpha / (alpha + v_j) the result is alpha I + u v^T with its columns divided by their sums.

    The last layer starts with weights 0 and biases that make every pixel's matrix hold ``reliability`` on the
    diagonal and the same value everywhere else. Without this start the symmetric beginning and the trace that is
    minimised leave it open which class is which.

    Args:
        channels: channels of the features.
        num_classes: number of classes L.
        form: ``"full"`` or ``"rank1"``.
        reliability: diagonal of the first matrices, between 1 / L and 1.
        checkpointing: see InstanceNormUNet.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        form: str = "full",
        reliability: float = 0.9,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise UserError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        if not 1.0 / num_classes < reliability < 1.0:
            raise UserError(f"reliability must lie between 1/{num_classes} and 1, got {reliability}")
        self.num_classes = num_classes
        self.full = form == "full"
        self.checkpointing = checkpointing
        self.convolutions = nn.Sequential(DoubleConv(channels, channels), DoubleConv(channels, channels))
        self.output = nn.Conv2d(channels, num_classes**2 if self.full else 2 * num_classes + 1, kernel_size=1)
        start = _first_full(num_classes, reliability) if self.full else _first_rank1(num_classes, reliability)
        nn.init.zeros_(self.output.weight)
        self.output.bias = nn.Parameter(torch.log(torch.expm1(start)))  # softplus of this is the start

    @torch.jit.unused  # TorchScript is for the segmentation alone
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the matrices, in float32 and in the head's form, of features ``[B, channels, H, W]``."""
        enabled = self.checkpointing and self.training
        for block in self.convolutions:
            features = recomputed(block, features, enabled=enabled)
        return recomputed(self._estimate, features, enabled=enabled)

    def _estimate(self, features: torch.Tensor) -> torch.Tensor:
        raw = F.softplus(self.output(features).float()) + _NEVER_ZERO
        if self.full:
            square = raw.unflatten(1, (self.num_classes, self.num_classes))
            return square / square.sum(dim=1, keepdim=True)
        drawn, swayed, purpose = raw.split([self.num_classes, self.num_classes, 1], dim=1)
        return torch.cat([drawn / drawn.sum(dim=1, keepdim=True), purpose / (purpose + swayed)], dim=1)


class LearnedTransition(nn.Module):
    """The complementary transition matrix as weights: a softmax over the off-diagonal values of each row.

    Args:
        num_classes: number of classes L. For two classes there is nothing to learn.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, num_classes))

    @torch.jit.unused
    def forward(self) -> torch.Tensor:
        """Return M ``[L, L]``, see :func:`uniform_transition`; at the start it is that."""
        diagonal = torch.eye(self.weight.shape[0], dtype=torch.bool, device=self.weight.device)
        return torch.softmax(self.weight.float().masked_fill(diagonal, -math.inf), dim=1)


def uniform_transition(num_classes: int, device: torch.device | None = None) -> torch.Tensor:
    """Return M = (1 1^T - I) / (L - 1) ``[L, L]``: of what it is not, a pixel's mark may be anything.

    M_jk is the probability that a pixel of class j is marked "not k"; the diagonal is 0 and rows sum to 1, so that
    M^T u is a distribution over the marks (Yu et al., ECCV 2018).

    Args:
        num_classes: number of classes L.
        device: where to put it.
    """
    return (1.0 - torch.eye(num_classes, device=device)) / (num_classes - 1)


def drawn_probabilities(matrices: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Return A p ``[B, L, H, W]``: how probable it is that the annotator draws each class.

    Args:
        matrices: ``[B, L, L, H, W]`` or ``[B, 2 L, H, W]``.
        probabilities: p, the probabilities of the true classes ``[B, L, H, W]``.
    """
    if matrices.ndim == 5:
        return (matrices * probabilities.unsqueeze(1)).sum(dim=2)
    drawn, purpose = matrices.chunk(2, dim=1)
    kept = purpose * probabilities
    return kept + drawn * (probabilities - kept).sum(dim=1, keepdim=True)


def traces(matrices: torch.Tensor) -> torch.Tensor:
    """Return tr(A) of every pixel ``[B, H, W]``, between 0 and L.

    Args:
        matrices: ``[B, L, L, H, W]`` or ``[B, 2 L, H, W]``.
    """
    if matrices.ndim == 5:
        return matrices.diagonal(dim1=1, dim2=2).sum(dim=-1)
    drawn, purpose = matrices.chunk(2, dim=1)
    return (purpose + drawn * (1.0 - purpose)).sum(dim=1)


def full_matrices(matrices: torch.Tensor) -> torch.Tensor:
    """Write matrices of either form as full ones ``[B, L, L, H, W]``, for pictures and tables.

    Args:
        matrices: ``[B, L, L, H, W]`` or ``[B, 2 L, H, W]``.
    """
    if matrices.ndim == 5:
        return matrices
    drawn, purpose = matrices.chunk(2, dim=1)
    diagonal = torch.diag_embed(purpose.movedim(1, -1)).movedim((-2, -1), (1, 2))
    return diagonal + drawn.unsqueeze(2) * (1.0 - purpose).unsqueeze(1)


def _first_full(num_classes: int, reliability: float) -> torch.Tensor:
    """Values of a column in the ratio reliability : (1 - reliability) / (L - 1), of about 1 in size."""
    values = torch.full((num_classes, num_classes), 1.0 - reliability)
    return values.fill_diagonal_(reliability * (num_classes - 1)).flatten()


def _first_rank1(num_classes: int, reliability: float) -> torch.Tensor:
    """U uniform; s such that s + (1 - s) / L is the reliability."""
    purpose = (reliability * num_classes - 1.0) / (num_classes - 1)
    values = torch.ones(2 * num_classes + 1)
    values[num_classes : 2 * num_classes] = 1.0 - purpose
    values[-1] = purpose
    return values
