"""Segmenting volumes slice by slice, whatever else a network returns in train mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SliceInferer

__all__ = ["MainHeadSliceInferer"]


class MainHeadSliceInferer(SliceInferer):
    """MONAI's SliceInferer, which takes the first of several outputs.

    In eval mode the networks return their logits alone. In train mode, which programs set that sample dropout, some
    return a tuple that begins with them; the rest is there for losses, of other shapes, and does not stack to volumes.
    """

    def network_wrapper(
        self, network: Callable[..., Any], x: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor | Any:
        """Return the logits of one window ``[B, C, 1, h, w]``, whichever of its three axes has the length 1."""

        def main_head(*inputs: Any, **options: Any) -> torch.Tensor:
            outputs = network(*inputs, **options)
            return outputs[0] if isinstance(outputs, tuple) else outputs

        return super().network_wrapper(main_head, x, *args, **kwargs)
