"""Random windows of a batch of large slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..errors import UserError

__all__ = ["RandomPatch"]


class RandomPatch:
    """Cut a window of one size out of every item of a batch, anywhere inside, and augment the windows.

    All draws come from torch's global generator, so a seed fixed before a step fixes its windows.

    Args:
        size: height and width of the windows in pixels; None leaves the batch whole.
        augmentation: takes and returns image and label together; None for none.

    Raises:
        UserError: for another size than two whole numbers over 0.
    """

    def __init__(
        self,
        size: Sequence[int] | None,
        augmentation: Callable[
            [torch.Tensor | None, torch.Tensor | None], tuple[torch.Tensor | None, torch.Tensor | None]
        ]
        | None = None,
    ) -> None:
        if size is not None and not _is_pair(size):
            raise UserError(f"patch_size must be a height and a width in pixels, or null, got {size}")
        self.size = size
        self.augmentation = augmentation

    def __call__(
        self, image: torch.Tensor | None, label: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Cut the windows; either part may be missing.

        Args:
            image: ``[B, C, H, W]``.
            label: index map ``[B, A, H, W]``.

        Returns:
            both of the windows' size.

        Raises:
            UserError: the windows are larger than the slices.
        """
        shown = image if image is not None else label
        if self.size is not None and shown is not None:
            rows, columns = (
                self._span(len(shown), length, edge) for length, edge in zip(shown.shape[-2:], self.size, strict=True)
            )
            image, label = (None if part is None else _cut(part, rows, columns) for part in (image, label))
        return (image, label) if self.augmentation is None else self.augmentation(image, label)

    def _span(self, batch: int, length: int, edge: int) -> torch.Tensor:
        """The indices that each item keeps of an axis, ``[B, edge]``."""
        if edge > length:
            raise UserError(f"patch_size {list(self.size or [])} is larger than the slices; raise roi_size or lower it")
        first = torch.floor(torch.rand(batch) * (length - edge + 1)).long().clamp(max=length - edge)
        return first.unsqueeze(1) + torch.arange(edge)


def _cut(part: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    rows, columns = rows.to(part.device), columns.to(part.device)
    each = torch.arange(len(part), device=part.device).view(-1, 1, 1)
    # two indices with a slice between them put the sliced axis, the channels, last
    return part[each, :, rows.unsqueeze(2), columns.unsqueeze(1)].movedim(-1, 1)


def _is_pair(size: object) -> bool:
    return isinstance(size, list | tuple) and len(size) == 2 and all(type(edge) is int and edge > 0 for edge in size)
