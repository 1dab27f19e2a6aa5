"""Training passes in bfloat16, on any device that computes in it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from monai.inferers import SimpleInferer

__all__ = ["Bfloat16Inferer", "bfloat16_autocast", "has_bfloat16"]

logger = logging.getLogger(__name__)


@cache
def has_bfloat16(device: str) -> bool:
    """Whether a kind of device has instructions for bfloat16.

    PyTorch computes in bfloat16 on every CPU and GPU. Without the instructions (AVX-512 or AMX on a CPU, compute
    capability 8.0 on a GPU of NVIDIA) it converts each number to and fro: a training step on a CPU with AVX2 then
    takes ten times as long as in float32.

    Args:
        device: kind of device, as ``torch.device.type`` has it.
    """
    if device == "cpu":
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def bfloat16_autocast(device: str, enabled: bool) -> torch.autocast:
    """Autocast to bfloat16 where it is asked for and the kind of device has it, else to nothing."""
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
