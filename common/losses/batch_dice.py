"""The Dice loss whose sums run over the whole batch of all processes."""

from __future__ import annotations

import torch

from .batch_statistics import all_reduced, labelled_counts, world_size

__all__ = ["batch_dice_loss"]


def batch_dice_loss(probabilities: torch.Tensor, target: torch.Tensor, *, smooth: float = 1e-5) -> torch.Tensor:
    """Compute the Dice loss of dense labels, over all classes, with squared denominators (Luo et al., MICCAI 2022).

    With p the probabilities and t the one-hot target, sums over all pixels of the batch, background included:
    L = 1/C * sum over classes of 1 - (2 sum(p t) + smooth) / (sum(p^2) + sum(t^2) + smooth).

    In one process this is MONAI's ``DiceLoss`` with ``squared_pred`` and ``batch``. Here the sums are also those of
    all processes, and the one-hot target is a mask that is never stored as floats.

    Args:
        probabilities: softmax outputs ``[B, C, H, W]``.
        target: index map ``[B, H, W]`` of classes 0 .. C - 1, without ignored pixels.
        smooth: added to numerator and denominator.

    Returns:
        scalar in 0 .. 1; the gradient is the one that DDP's averaging over processes turns into the batch's.
    """
    classes = torch.arange(probabilities.shape[1], device=target.device).view(1, -1, 1, 1)
    mask = target.unsqueeze(1) == classes
    pixels = (0, 2, 3)
    overlap = (probabilities * mask).sum(pixels)
    sums = _joint(torch.stack([overlap, probabilities.square().sum(pixels)]))
    sizes = labelled_counts(target, probabilities.shape[1])
    return (1.0 - (2.0 * sums[0] + smooth) / (sums[1] + sizes + smooth)).mean()


def _joint(sums: torch.Tensor) -> torch.Tensor:
    """Return the sums over all processes; their gradient is scaled, since DDP averages gradients, not adds them."""
    processes = world_size()
    if processes == 1:
        return sums
    scaled = sums * processes
    return scaled + (all_reduced(sums) - scaled).detach()
