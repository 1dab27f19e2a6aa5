"""Training passes in bfloat16, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer

__all__ = ["Bfloat16Inferer"]


class Bfloat16Inferer(SimpleInferer):
    """Call the network under autocast to bfloat16.

    MONAI's own switch stands for CUDA alone and, by default, for float16 with a gradient scaler, which bfloat16 does
    not need. The outputs are bfloat16: losses are to compute in float32.

    Args:
        enabled: False for a plain call.
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | Any:
        """Return what the network returns for images ``[B, C, H, W]``."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.enabled):
            return network(inputs, *args, **kwargs)
