"""Devices, and joining several processes that train together under ``torchrun``."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist

from .errors import UserError
from .shared_batch import process_rank

__all__ = [
    "check_sync_batch_norm",
    "distributed",
    "first_process_first",
    "first_to_fail",
    "has_bfloat16",
    "join_process_group",
    "leave_process_group",
    "local_device",
    "placed",
    "unwrapped",
]


def local_device() -> torch.device:
    """Return this process's GPU, or the CPU where there is none.

    Raises:
        UserError: there are fewer GPUs than processes on this machine.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= gpus:
        raise UserError(f"--nproc_per_node: process {number + 1} of this machine finds {gpus} GPUs; start one a GPU")
    return torch.device("cuda", number)


def join_process_group(device: torch.device | str | None = None) -> None:
    """Join the processes that ``torchrun`` started, by NCCL on GPUs and by gloo on CPUs.

    Args:
        device: what this process computes on; by default its GPU, or the CPU where there is none. A GPU without a
            number is this process's.

    Raises:
        UserError: the program was not started by ``torchrun``, or there are fewer GPUs than processes.
    """
    if "RANK" not in os.environ:
        raise UserError("multi_gpu_*.json is for several processes: start with torchrun, or leave that file out")
    device = local_device() if device is None else torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(local_device() if device.index is None else device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave_process_group() -> None:
    """Wait until every process has come this far, then part.

    A process that parts while another one still talks to it brings that one down.
    """
    dist.barrier()
    dist.destroy_process_group()


def first_process_first(make: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that makes files where they are missing in the first process, and then in the others.

    Args:
        make: the function.
        arguments: its arguments.

    Returns:
        what it returns in this process.
    """
    joined = dist.is_available() and dist.is_initialized()
    if joined and process_rank() > 0:
        dist.barrier()
    result = make(*arguments)
    if joined and process_rank() == 0:
        dist.barrier()
    return result


def first_to_fail() -> bool:
    """Tell whether this process is the first of those of ``torchrun`` that fails, and so the one to say why.

    The others fail for the same reason, or because that one is gone. True as well where nobody can be asked.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or os.environ.get("WORLD_SIZE") == "1":
        return True
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=5)))
        return store.add("common.distributed.failed", 1) == 1
    except Exception:
        return True


def check_sync_batch_norm(wanted: bool, device: torch.device | str) -> None:
    """Refuse batch normalisation over all processes where PyTorch does not have it.

    Args:
        wanted: the key ``sync_batch_norm``.
        device: the device.

    Raises:
        UserError: it is wanted on another device than a GPU.
    """
    if wanted and torch.device(device).type != "cuda":
        raise UserError(f"--sync_batch_norm: works on GPUs alone, and the device is {device}; leave it out")


@cache
def has_bfloat16(device: torch.device | str) -> bool:
    """Whether a device has instructions for bfloat16.

    PyTorch computes in bfloat16 on every CPU and GPU. Without the instructions (AVX-512 or AMX on a CPU, compute
    capability 8.0 on a GPU of NVIDIA) it converts each number to and fro: a training step on a CPU with AVX2 then
    takes ten times as long as in float32.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        # on ARM oneDNN is fast through the Compute Library alone, which PyTorch for a Mac lacks
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        fast = torch.backends.mkldnn.is_available() and (x86 or torch.backends.mkldnn.is_acl_available())
        return fast and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


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
    network: torch.nn.Module, device: torch.device | str, *, compile: bool = False, sync_batch_norm: bool = False
) -> torch.nn.parallel.DistributedDataParallel:
    """Move a network to the device and wrap it so that gradients are averaged over the processes.

    Args:
        network: the network.
        device: the device.
        compile: see placed.
        sync_batch_norm: let batch normalisation take its statistics from the batch of all processes. The names of the
            weights stay as they are. A network without batch normalisation does not change.

    Raises:
        UserError: ``sync_batch_norm`` on another device than a GPU.
    """
    device = torch.device(device)  # a text where it comes from the command line
    check_sync_batch_norm(sync_batch_norm, device)
    if sync_batch_norm:
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network = placed(network, device, compile=compile)
    device_ids = [device] if device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(network, device_ids=device_ids, forward_sync_buffers=False)


def unwrapped(network: Any) -> Any:
    """The network within :func:`distributed`, whose weights have their plain names; anything else as it is."""
    return network.module if isinstance(network, torch.nn.parallel.DistributedDataParallel) else network
