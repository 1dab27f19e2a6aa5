"""Puzzle Mix's energy: what it costs to show either of two images in every block of a grid."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

__all__ = ["BlockEnergy", "block_energy", "block_saliency"]

# costs of the labels [B, L, n, n], weights of the neighbours along rows [B, n, n - 1] and along columns [B, n - 1, n]
BlockEnergy = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def block_saliency(saliency: torch.Tensor, blocks: int) -> torch.Tensor:
    """Pool saliency ``[B, 1, H, W]`` to ``[B, n, n]`` of sum 1 for each item; an item without any keeps zeros."""
    pooled = F.adaptive_avg_pool2d(saliency, blocks)[:, 0]
    return pooled / pooled.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(pooled.dtype).tiny)


def block_energy(
    image: torch.Tensor,
    saliency: torch.Tensor,
    partner: torch.Tensor,
    *,
    share: float,
    blocks: int,
    n_labels: int = 3,
    eta: float = 0.2,
    beta: float = 1.2,
    gamma: float = 0.5,
    neigh_size: int = 4,
) -> BlockEnergy:
    """Write down the energy of block labels (Kim et al., ICML 2020, Eq. 3, section 4.1; weights as CycleMix has them).

    Label l = 0 .. L - 1 of a block shows the share t = l / (L - 1) of the partner and 1 - t of the item. With u1 and
    u2 the block saliency of the item and its partner, b = beta / (16 n), and p_l the binomial probability of l partners
    in L - 1 draws of chance 1 - lambda:

    E = sum_i [(1 - t_i) U1_i + t_i U2_i - eta / n^2 log(p_{l_i} + 1e-8)] + sum_ij (w_ij + b) (t_i - t_j)^2.

    Showing one image hides the saliency of the other: U1 = u2, U2 = u1. To this comes data-local smoothness: d_ab is
    the mean absolute difference between the pixels of image a at the one side of a border and those of image b at the
    other side, times b * gamma. Half of every d_ab is added to either end's U, and w = (d_12 + d_21 - d_11 - d_22) / 2
    remains between them. A weight w + b below 0 counts as 0, so that the energy has a minimum cut.

    Args:
        image: ``[B, C, H, W]``, normalised intensities; halved for the comparison along borders.
        saliency: ``[B, 1, H, W]``, at least 0.
        partner: index of every item's partner, ``[B]``.
        share: lambda, the share of the item itself, 0 .. 1.
        blocks: number n of blocks along either edge; divides H and W.
        n_labels: number L of labels.
        eta: weight of the prior.
        beta: weight of the smoothness of labels.
        gamma: weight of the smoothness of the image, relative to beta.
        neigh_size: edge of the squares of pixels whose means are compared along borders; divides a block's edge, or
            else is not less than it.

    Returns:
        energy in terms of labels, not of shares: costs ``[B, L, n, n]`` and weights of squared differences
        ``[B, n, n - 1]``, ``[B, n - 1, n]``.
    """
    smooth = beta / (16 * blocks)
    own = block_saliency(saliency, blocks)
    shown = torch.stack([own[partner], own])  # U1, U2
    pooled = F.avg_pool2d(image * 0.5 + 0.5, [min(neigh_size, size // blocks) for size in image.shape[-2:]])
    along_rows = _border_differences(pooled, partner, blocks) * (smooth * gamma)
    along_columns = _border_differences(pooled.transpose(2, 3), partner, blocks).mT * (smooth * gamma)
    shown[..., :-1] += along_rows.sum(dim=1) / 2
    shown[..., 1:] += along_rows.sum(dim=0) / 2
    shown[..., :-1, :] += along_columns.sum(dim=1) / 2
    shown[..., 1:, :] += along_columns.sum(dim=0) / 2

    last = n_labels - 1
    other_share = (torch.arange(n_labels, device=image.device) / last).view(1, -1, 1, 1)
    chances = [math.comb(last, k) * share ** (last - k) * (1.0 - share) ** k for k in range(n_labels)]
    prior = torch.tensor([-eta / blocks**2 * math.log(chance + 1e-8) for chance in chances], device=image.device)
    costs = (1.0 - other_share) * shown[0][:, None] + other_share * shown[1][:, None] + prior.view(1, -1, 1, 1)
    rows, columns = (
        ((d[0, 1] + d[1, 0] - d[0, 0] - d[1, 1]) / 2 + smooth).clamp(min=0.0) / last**2
        for d in (along_rows, along_columns)
    )
    return costs, rows, columns


def _border_differences(pooled: torch.Tensor, partner: torch.Tensor, blocks: int) -> torch.Tensor:
    """Mean absolute differences d_ab between blocks and their right neighbours, ``[2, 2, B, n, n - 1]``."""
    lines = pooled.unflatten(3, (blocks, -1)).unflatten(2, (blocks, -1))
    left, right = lines[..., :-1, -1], lines[..., 1:, 0]  # [B, C, n, k, n - 1]
    return torch.stack(
        [
            torch.stack([(one - two).abs().mean(dim=(1, 3)) for two in (right, right[partner])])
            for one in (left, left[partner])
        ]
    )
