"""Puzzle Mix: images are mixed by blocks, each of which shows what is salient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ..errors import UserError
from ..shared_batch import first_draw, gathered, own_share, world_size
from .block_energy import block_energy
from .mask_cut import least_energy_labels
from .mix_plan import MixPlan
from .patch_transport import patch_sources

__all__ = ["PuzzleMix"]


class PuzzleMix:
    """Mix the items of a batch by Puzzle Mix (Kim et al., ICML 2020) as CycleMix runs it (Zhang and Zhuang, 2022).

    A batch has one random permutation of partners, one share lambda ~ Beta(alpha, alpha) of the items themselves, and
    one grid of n x n blocks. The blocks' shares are those of the least energy, exactly: see
    :func:`~.block_energy.block_energy` and :func:`~.mask_cut.least_energy_labels`. With ``transport``, the patches of
    either image then move to where the mask shows it: see :func:`~.patch_transport.patch_sources`.

    Images are framed by zeros, evenly on both sides, up to the next size that all grids divide into patches: 212 to
    256. The draws come from torch's global generator on the CPU, whatever the device; there are no gradients. Processes
    that share a batch take the draws of the first, and partners from the whole batch.

    Args:
        alpha: of the beta distribution of lambda.
        n_labels: number of shares that a block can have, 0 and 1 included.
        eta: weight of the prior that asks for the share lambda.
        beta: weight of the smoothness of the mask.
        gamma: weight of the smoothness of the image, relative to beta.
        neigh_size: edge of the squares of pixels whose means are compared along the blocks' borders.
        block_nums: numbers of blocks along an edge, of which one is drawn.
        transport: move patches.
        t_size: edge of a patch in pixels.
        t_eps: cost of moving a patch across the image.
        symmetric: draw pairs, so that a batch has both orders of each, as in the paper's Eq. 7 and 11 (an odd item
            stays alone). The authors' code draws any permutation.

    Raises:
        UserError: for an option out of its range.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        n_labels: int = 3,
        eta: float = 0.2,
        beta: float = 1.2,
        gamma: float = 0.5,
        neigh_size: int = 4,
        block_nums: Sequence[int] = (2, 4, 8, 16),
        transport: bool = True,
        t_size: int = 4,
        t_eps: float = 0.8,
        symmetric: bool = False,
    ) -> None:
        for name, value in {"mixup_alpha": alpha, "transport_cost": t_eps}.items():
            if not value > 0:
                raise UserError(f"{name} must be above 0, got {value}")
        for name, value in {"mix_eta": eta, "mix_beta": beta, "mix_gamma": gamma}.items():
            if not value >= 0:
                raise UserError(f"{name} must not be negative, got {value}")
        if n_labels < 2:
            raise UserError(f"mix_levels must be at least 2, got {n_labels}")
        if min(neigh_size, t_size) < 1:
            raise UserError(f"mix_neighbourhood and transport_patch must be at least 1, got {neigh_size} and {t_size}")
        if not block_nums or not all(isinstance(number, int) and number >= 1 for number in block_nums):
            raise UserError(f"mix_blocks needs whole positive numbers of blocks, got {block_nums}")
        self.alpha = alpha
        self.energy_options: dict[str, Any] = {
            "n_labels": n_labels,
            "eta": eta,
            "beta": beta,
            "gamma": gamma,
            "neigh_size": neigh_size,
        }
        self.n_labels = n_labels
        self.block_nums = list(block_nums)
        self.unit = math.lcm(*block_nums) * math.lcm(neigh_size, t_size)
        self.transport, self.t_size, self.t_eps = transport, t_size, t_eps
        self.symmetric = symmetric

    def __call__(self, image: torch.Tensor, saliency: torch.Tensor) -> MixPlan:
        """Draw partners, lambda and grid, and plan the mix of a batch.

        Args:
            image: ``[B, C, H, W]``, normalised intensities.
            saliency: ``[B, 1, H, W]``, at least 0.
        """
        whole = len(image) * world_size()
        share = float(first_draw(torch.distributions.Beta(self.alpha, self.alpha).sample()))
        blocks = self.block_nums[int(first_draw(torch.randint(len(self.block_nums), ())))]
        partner = own_share(first_draw(_pairs(whole) if self.symmetric else torch.randperm(whole)))
        return self.plan(image, saliency, partner.to(image.device), share=share, blocks=blocks)

    @torch.no_grad()
    def plan(
        self, image: torch.Tensor, saliency: torch.Tensor, partner: torch.Tensor, *, share: float, blocks: int
    ) -> MixPlan:
        """Plan the mix for given partners ``[B]``, share lambda of the items, and number of blocks along an edge.

        Partners are counted in the whole batch of all processes, see MixPlan.
        """
        height, width = image.shape[-2:]
        frame = self._frame(height, width)
        image, saliency = F.pad(image, frame), F.pad(saliency, frame)
        whole = (gathered(part) for part in (image, saliency, partner))
        energy = block_energy(*whole, share=share, blocks=blocks, **self.energy_options)
        labels = least_energy_labels(*(own_share(part).cpu().numpy() for part in energy))
        mask = torch.from_numpy(labels).to(image.device)
        mask = (1.0 - mask[:, None] / (self.n_labels - 1)).to(image.dtype)
        weight = F.pad(F.interpolate(mask, size=image.shape[-2:], mode="nearest"), [-side for side in frame])
        if not self.transport:
            return MixPlan(partner, weight)
        patches = F.avg_pool2d(saliency, self.t_size)
        patches = patches / patches.sum(dim=(2, 3), keepdim=True).clamp(min=torch.finfo(patches.dtype).tiny)
        patches = torch.cat([patches, gathered(patches)[partner]])
        shown = F.interpolate(torch.cat([mask, 1.0 - mask]), size=patches.shape[-2:], mode="nearest") > 0
        sources = patch_sources(patches[:, 0].cpu().numpy(), shown[:, 0].cpu().numpy(), eps=self.t_eps)
        pixels = _pixel_sources(torch.from_numpy(sources).to(image.device), self.t_size, frame, height, width)
        return MixPlan(partner, weight, *pixels.chunk(2))

    def _frame(self, height: int, width: int) -> list[int]:
        """Pixels to add at the left, right, top and bottom."""
        extra_height, extra_width = -height % self.unit, -width % self.unit
        return [extra_width // 2, extra_width - extra_width // 2, extra_height // 2, extra_height - extra_height // 2]


def _pairs(count: int) -> torch.Tensor:
    """Draw a random permutation that is its own inverse."""
    order = torch.randperm(count)
    swapped = order.clone()
    even = count - count % 2
    swapped[0:even:2], swapped[1:even:2] = order[1:even:2], order[0:even:2]
    return torch.empty_like(order).scatter_(0, order, swapped)


def _pixel_sources(sources: torch.Tensor, size: int, frame: list[int], height: int, width: int) -> torch.Tensor:
    """Turn sources of patches ``[B, h, w]`` of the framed image into those of pixels ``[B, 1, height, width]``."""
    left, _, top, _ = frame
    columns = sources.shape[2]
    patch = sources.repeat_interleave(size, dim=1)[:, top : top + height]
    patch = patch.repeat_interleave(size, dim=2)[:, :, left : left + width]
    row_within = (torch.arange(height, device=sources.device) + top) % size
    column_within = (torch.arange(width, device=sources.device) + left) % size
    row = patch // columns * size + row_within[:, None] - top
    column = patch % columns * size + column_within - left
    # patches of the frame have nothing to give
    inside = (patch >= 0) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return torch.where(inside, row * width + column, -1)[:, None]
