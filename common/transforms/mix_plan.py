"""Which images of a batch are mixed, where, and in which shares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..shared_batch import gathered

__all__ = ["MixPlan", "moved"]


@dataclass(frozen=True)
class MixPlan:
    """How each item of a batch is mixed from two parts, its own and its partner's.

    The same plan mixes images, predictions and, without ever averaging them, labels. Where several processes share a
    batch, each has the plan of its own items, and their partners may be any of the whole batch: all processes have to
    call the same methods.

    Args:
        partner: index of the item that the other part comes from, ``[B]``, or for every pixel ``[B, 1, H, W]``; in the
            whole batch of all processes, one after the other.
        weight: share of the own part, 0 .. 1, ``[B, 1, H, W]``.
        own_source: flat index of the pixel that moves to each pixel of the own part, -1 where none does,
            ``[B, 1, H, W]``; None where nothing moves.
        other_source: the same of the partner's part.
    """

    partner: torch.Tensor
    weight: torch.Tensor
    own_source: torch.Tensor | None = None
    other_source: torch.Tensor | None = None

    def at_rest(self) -> MixPlan:
        """Return the plan without its moves."""
        return replace(self, own_source=None, other_source=None)

    def parts(self, values: torch.Tensor, *, fill: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both parts of every item, unmixed.

        Args:
            values: ``[B, C, H, W]`` of any type.
            fill: value of pixels to which nothing moves.
        """
        whole = gathered(values)
        if self.partner.ndim == 1:
            other = whole[self.partner]
        else:
            other = whole.gather(0, self.partner.expand(-1, values.shape[1], -1, -1))
        return moved(values, self.own_source, fill=fill), moved(other, self.other_source, fill=fill)

    def mix(self, values: torch.Tensor) -> torch.Tensor:
        """Return weight * own part + (1 - weight) * other part of values ``[B, C, H, W]``; gradients pass."""
        own, other = self.parts(values)
        # a sum of products, and no torch.lerp: a weight of 0 or 1 gives the part itself, bit for bit
        return self.weight * own + (1.0 - self.weight) * other


def moved(values: torch.Tensor, source: torch.Tensor | None, *, fill: int = 0) -> torch.Tensor:
    """Take every pixel's value from another pixel of the same item.

    Args:
        values: ``[B, C, H, W]`` of any type.
        source: flat index of the pixel to take, -1 for ``fill``, ``[B, 1, H, W]``; None returns ``values``.
        fill: value where the source is -1.
    """
    if source is None:
        return values
    index = source.flatten(2).clamp(min=0).expand(-1, values.shape[1], -1)
    taken = values.flatten(2).gather(2, index).view(values.shape)
    return torch.where(source < 0, fill, taken).to(values.dtype)
