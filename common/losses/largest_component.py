"""The largest connected component of every class of a predicted segmentation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["largest_components"]


def largest_components(labels: torch.Tensor, num_classes: int, *, of_union: bool = True) -> torch.Tensor:
    """Keep each foreground class's largest component, the C of Zhang and Zhuang (CVPR 2022, Eq. 13).

    Pixels are connected to their four neighbours; of equally large components the one that comes first stays.

    Args:
        labels: index map ``[B, H, W]``, 0 .. ``num_classes`` - 1.
        num_classes: number of classes C.
        of_union: keep those pixels alone that belong to the largest component of all foreground classes together,
            too, as the authors' code does.

    Returns:
        index map ``[B, H, W]``: background where a pixel was not kept.
    """
    index = labels.detach().cpu().numpy()
    classes = np.arange(1, num_classes)[:, None, None]
    keep = _largest(index[:, None] == classes).any(axis=1)
    if of_union:
        keep &= _largest(index[:, None] > 0)[:, 0]
    return torch.where(torch.from_numpy(keep).to(labels.device), labels, 0)


def _largest(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest component of every mask ``[B, K, H, W]``."""
    # neighbours within a mask, none in another one: a single labelling serves all masks
    cross = np.zeros((3, 3, 3, 3), dtype=bool)
    cross[1, 1] = ndimage.generate_binary_structure(2, 1)
    components, count = ndimage.label(masks, cross)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    of_pixel = sizes[components]
    largest = of_pixel.max(axis=(2, 3), keepdims=True)
    first = np.where(of_pixel == largest, components, count + 1).min(axis=(2, 3), keepdims=True)
    return masks & (components == first)
