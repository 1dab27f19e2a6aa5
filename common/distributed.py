"""Joining several processes that train together under ``torchrun``."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

__all__ = ["distributed", "join_process_group", "leave_process_group", "local_device", "placed"]


def local_device() -> torch.device:
    """Return this process's GPU, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def join_process_group() -> None:
    """Join the processes that ``torchrun`` started, by NCCL on GPUs and by gloo on CPUs."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def leave_process_group() -> None:
    """Wait until every process has come this far, then part.

    A process that parts while another one still talks to it brings that one down.
    """
    dist.barrier()
    dist.destroy_process_group()


def placed(network: torch.nn.Module, device: torch.device | str, *, compile: bool = False) -> torch.nn.Module:
    """Move a network to the device, channels last.

    Args:
        network: the network.
        device: the device.
        compile: have ``torch.compile`` translate it at its first call. The names of its weights stay as they are.
    """
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile:
        network.compile()
    return network


def distributed(
    network: torch.nn.Module, device: torch.device, *, compile: bool = False
) -> torch.nn.parallel.DistributedDataParallel:
    """Move a network to the device and wrap it so that gradients are averaged over the processes.

    Args:
        network: the network.
        device: the device.
        compile: see placed.
    """
    network = placed(network, device, compile=compile)
    device_ids = [device] if device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(network, device_ids=device_ids, broadcast_buffers=False)
