"""Gated conditional random field: alike pixels near each other should be predicted alike, annotated or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from ..errors import UserError
from .batch_statistics import all_reduced, world_size
from .half_window import half_window

__all__ = ["GatedCRFLoss", "GaussianKernel"]

# On a CPU a batch is computed a few images at a time, so that what an offset reads is still in the cache at the next.
PIXELS_AT_A_TIME = 2**18


@dataclass(frozen=True)
class GaussianKernel:
    """One term of the similarity: weight * exp(-|p - q|^2 / (2 position^2) - |I_p - I_q|^2 / (2 intensity^2)).

    Args:
        weight: factor of the term, above 0.
        position_sigma: standard deviation of the distance in pixels; None leaves the distance out.
        intensity_sigma: standard deviation of the difference between intensities, in the image's units (the
            differences of several channels are squared and added); None leaves the intensities out.

    Raises:
        UserError: for a number that is not above 0, or a kernel without any sigma.
    """

    weight: float = 1.0
    position_sigma: float | None = None
    intensity_sigma: float | None = None

    def __post_init__(self) -> None:
        sigmas = {"position_sigma": self.position_sigma, "intensity_sigma": self.intensity_sigma}
        sigmas = {name: sigma for name, sigma in sigmas.items() if sigma is not None}
        for name, value in {"weight": self.weight, **sigmas}.items():
            if not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise UserError(f"{name} of a kernel must be a number above 0, got {value!r}")
        if not sigmas:
            raise UserError("a kernel needs position_sigma, intensity_sigma or both")


class GatedCRFLoss(_Loss):
    """Gated CRF (Obukhov et al., 2019) and the masked CRF of AttenScribble (Tian et al., 2023, Eq. 4 and 5).

    L = 1/|D| * sum over p in D of sum over q in S, 0 < |q - p|_inf <= radius, of k(p, q) * (1 - <P_p, P_q>)

    P_p are the class probabilities of pixel p, so 1 - <P_p, P_q> is the probability that p and q belong to different
    classes (Potts model), and k is a sum of Gaussian kernels. The destinations D are the pixels whose disagreement
    with their surroundings is counted: all pixels, or those of ``destination_mask``. The sources S are what they are
    compared with: all pixels, or those of ``source_mask``. |D| is counted over the batch (of all processes). Pairs lie
    within the image. A batch without destinations gives 0 with a gradient of 0. A pixel receives a gradient as a
    destination and as a source; one that is neither receives none.

    The plain gated CRF has no masks. AttenScribble's code takes the unannotated pixels as destinations and all pixels
    as sources, its paper the unannotated pixels as both; the paper's window |q - p|_inf < r is ``radius`` = r - 1.

    The gradient goes to ``input`` alone and only once; the image is a constant. Half precision is computed in float32.
    Memory is that of the probabilities, their gradient and a few planes ``[B, 1, H, W]``, whatever the radius; time
    grows with the square of the radius.

    Args:
        kernels: terms of the similarity k, as :class:`GaussianKernel` or as dictionaries of its arguments.
        radius: reach of the window, in pixels.
        softmax: whether ``input`` are logits; otherwise they are probabilities.
        downsample: the loss is computed on a grid coarser by this factor, in downsample^2 times less time and memory:
            probabilities and image are averaged over squares of pixels (over what there is of them at the border), and
            a square belongs to a mask if all its pixels do. ``radius`` and ``position_sigma`` count pixels of that
            grid.

    Raises:
        UserError: for a wrong option, with its value.

    Example:
        >>> loss = GatedCRFLoss(kernels=[{"weight": 2.0, "intensity_sigma": 0.1}], radius=1)
        >>> logits = torch.tensor([9.0, -9.0, -9.0, 9.0]).view(1, 2, 1, 2)  # two pixels of different classes ...
        >>> round(float(loss(logits, torch.zeros(1, 1, 1, 2))), 4)  # ... that look the same
        2.0
    """

    def __init__(
        self,
        *,
        kernels: Sequence[GaussianKernel | Mapping[str, Any]] = (GaussianKernel(1.0, 6.0, 0.1),),
        radius: int = 5,
        softmax: bool = True,
        downsample: int = 1,
    ) -> None:
        super().__init__()
        for name, value in (("radius", radius), ("downsample", downsample)):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name} must be an integer of at least 1, got {value!r}")
        if not kernels:
            raise UserError("kernels must name at least one kernel")
        self.kernels = tuple(_kernel(kernel) for kernel in kernels)
        self.radius = radius
        self.softmax = softmax
        self.downsample = downsample

    def forward(
        self,
        input: torch.Tensor,
        image: torch.Tensor,
        *,
        destination_mask: torch.Tensor | None = None,
        source_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the loss.

        Args:
            input: logits ``[B, C, H, W]``, or probabilities where ``softmax`` is false.
            image: what the predictions belong to, ``[B, channels, H, W]``.
            destination_mask: ``[B, 1, H, W]``, not 0 at pixels whose disagreement is counted; None: everywhere.
            source_mask: ``[B, 1, H, W]``, not 0 at pixels to agree with; None: everywhere.

        Returns:
            scalar, at least 0 but for rounding.

        Raises:
            ValueError: if the shapes do not belong together.
        """
        batch, _, *size = input.shape
        if len(size) != 2 or (image.shape[0], *image.shape[2:]) != (batch, *size):
            raise ValueError(f"input {tuple(input.shape)} and image {tuple(image.shape)} must be [B, *, H, W] alike")
        for name, mask in (("destination_mask", destination_mask), ("source_mask", source_mask)):
            if mask is not None and mask.shape != (batch, 1, *size):
                raise ValueError(f"{name} {tuple(mask.shape)} must be {(batch, 1, *size)}")
        probabilities = input.to(torch.promote_types(input.dtype, torch.float32))
        if self.softmax:
            probabilities = probabilities.softmax(dim=1)
        image = image.detach().to(probabilities.dtype)
        masks = [image.new_ones((batch, 1, *size)) if destination_mask is None else destination_mask.ne(0).to(image)]
        if source_mask is not None:
            masks.append(source_mask.ne(0).to(image))
        if self.downsample > 1:
            probabilities, image = (F.avg_pool2d(t, self.downsample, ceil_mode=True) for t in (probabilities, image))
            masks = [-F.max_pool2d(-mask, self.downsample, ceil_mode=True) for mask in masks]
        energy: torch.Tensor = _PairEnergy.apply(probabilities, image, masks, self.kernels, self.radius)
        # DDP averages gradients over processes; the sum over processes is what the batch's mean needs
        return energy * (world_size() / all_reduced(masks[0].sum()).clamp(min=1.0))


class _PairEnergy(torch.autograd.Function):
    """Sum of w(p, q) * (1 - <P_p, P_q>) over all pairs {p, q} in reach, w(p, q) = k(p, q) * (D_p * S_q + D_q * S_p).

    The gradient at P_p is -sum over q of w(p, q) * P_q. It is found in the forward pass, since the value needs it too:
    half the sum over p of (sum over q of w(p, q)) + <P_p, gradient at P_p>.
    """

    @staticmethod
    def forward(
        ctx: Any,
        probabilities: torch.Tensor,
        image: torch.Tensor,
        masks: list[torch.Tensor],
        kernels: tuple[GaussianKernel, ...],
        radius: int,
    ) -> torch.Tensor:
        attraction = torch.empty_like(probabilities)
        energy = probabilities.new_zeros(())
        batch, _, height, width = image.shape
        step = max(1, PIXELS_AT_A_TIME // (height * width) if image.device.type == "cpu" else batch)
        for first in range(0, batch, step):
            part = slice(first, first + step)
            sums = _window_sums(probabilities[part], image[part], [mask[part] for mask in masks], kernels, radius)
            attraction[part] = sums[:, :-1]
            energy += 0.5 * (sums[:, -1] - (probabilities[part] * sums[:, :-1]).sum(dim=1)).sum()
        ctx.save_for_backward(attraction)
        return energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (attraction,) = ctx.saved_tensors
        return attraction * -grad, None, None, None, None


def _window_sums(
    probabilities: torch.Tensor,
    image: torch.Tensor,
    masks: list[torch.Tensor],
    kernels: tuple[GaussianKernel, ...],
    radius: int,
) -> torch.Tensor:
    """Return the sums over q of w(p, q) * (P_q, 1), ``[B, C + 1, H, W]``.

    The planes are laid out flat, with zeros right of every row and below the last: the neighbours of all pixels at one
    offset are then one shift away, and those off the image add nothing. A pair is visited once, for p and for q.
    """
    height, width = image.shape[2:]
    margin = min(radius, width - 1)
    planes = [torch.cat([probabilities, torch.ones_like(masks[0])], dim=1), image, *masks]
    values, image, *masks = (F.pad(plane, (0, margin, 0, 1)).flatten(2) for plane in planes)
    sums = torch.zeros_like(values)
    for down, right in half_window(height, width, radius):
        length, shift = (height - down) * (width + margin), down * (width + margin) + right
        p, q = slice(length), slice(shift, shift + length)
        if len(masks) == 1:
            weight = masks[0][..., p] + masks[0][..., q]
        else:
            weight = (masks[0][..., p] * masks[1][..., q]).addcmul_(masks[0][..., q], masks[1][..., p])
        terms = [_similarity(kernel, image, p, q, down**2 + right**2) for kernel in kernels]
        weight *= sum(terms[1:], start=terms[0])
        sums[..., p].addcmul_(weight, values[..., q])
        sums[..., q].addcmul_(weight, values[..., p])
    return sums.unflatten(2, (height + 1, width + margin))[:, :, :height, :width]


def _similarity(kernel: GaussianKernel, image: torch.Tensor, p: slice, q: slice, squared_distance: int) -> torch.Tensor:
    """Return a kernel's part of k(p, q), ``[B, 1, pairs]``, or a scalar where it is the same for all these pairs."""
    exponent = math.log(kernel.weight)
    if kernel.position_sigma is not None:
        exponent -= squared_distance / (2 * kernel.position_sigma**2)
    result = image.new_full((), exponent)
    if kernel.intensity_sigma is not None:
        for channel in image.split(1, dim=1):
            difference = channel[..., p] - channel[..., q]
            result = torch.addcmul(result, difference, difference, value=-1 / (2 * kernel.intensity_sigma**2))
    return result.exp_()


def _kernel(options: GaussianKernel | Mapping[str, Any]) -> GaussianKernel:
    try:
        return options if isinstance(options, GaussianKernel) else GaussianKernel(**options)
    except TypeError:
        raise UserError(f"a kernel takes weight, position_sigma and intensity_sigma, got {options!r}") from None
