"""Training passes in bfloat16, on any device that computes in it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from monai.inferers import SimpleInferer

from ..distributed import has_bfloat16

__all__ = ["Bfloat16Inferer", "bfloat16_autocast"]

logger = logging.getLogger(__name__)


def bfloat16_autocast(device: str, enabled: bool) -> torch.autocast:
    """Autocast to bfloat16 where it is asked for and the device has it, else to nothing."""
    if enabled and not has_bfloat16(device):
        _say_float32(device)
        enabled = False
    return torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)


@cache
def _say_float32(device: str) -> None:
    logger.warning("amp: this %s has no instructions for bfloat16: float32, which is faster here", device.upper())


class Bfloat16Inferer(SimpleInferer):
    """Call the network under autocast to bfloat16, or in float32 on a device without it.

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
        with bfloat16_autocast(inputs.device.type, self.enabled):
            return network(inputs, *args, **kwargs)
