"""Computes a bundle's gradients in one process and in several, as a program for the tests.

Arguments: a folder, this process's number, the number of processes, the phantom's folder, and a JSON list of
``[name, bundle, overrides]``. Writes ``<name>.<number>.pt``: the gradients of every optimizer's step in two
iterations, ``alone`` (process 0, with the whole batch) and ``together``. Normalisation layers are in eval mode,
dropout, noise and augmentation are off, and steps have no length, so that all iterations start from the same weights.
Everything is computed in float64: in float32, sums over all pixels of a batch are exact to 1e-5 alone, and a small
mistake would hide there.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from monai.bundle import ConfigParser
from monai.utils import set_determinism

CONFIGS = Path(__file__).resolve().parents[2] / "bundles"
OFF = {
    "learning_rate": 0.0,
    "learning_rate_low": 0.0,
    "auxiliary_dropout": 0.0,
    "instance_noise": 0.0,
    "label_noise": 0.0,
    "warm_start": 0.0,
}
SIZES = {
    "pixdim": [4.0, 4.0],
    "roi_size": [48, 48],
    "filters": 4,
    "discriminator_filters": 4,
    "max_epochs": 1,
    "val_interval": 2,
}
BATCH = 4
ITERATIONS = 2


def build(bundle: str, overlays: list[str], overrides: dict[str, Any], **keys: Any) -> Any:
    """The trainer of a bundle's configs."""
    files = [str(CONFIGS / bundle / "configs" / f"{name}.json") for name in ("train", *overlays)]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    wanted = {**SIZES, **OFF, **overrides}
    for key, value in {**{k: v for k, v in wanted.items() if k in parser}, **keys, "progress": False}.items():
        parser[key] = value
    set_determinism(seed=0)
    for name in ("network_def", "discriminator_def"):
        network = parser.get_parsed_content(name) if name in parser else None
        if network is not None:
            network.double()
    return parser.get_parsed_content("train#trainer")


def gradients(trainer: Any) -> list[list[torch.Tensor]]:
    """What each step of each optimizer finds."""
    networks = [trainer.network, getattr(trainer, "discriminator", None)]
    for module in (module for network in networks if network is not None for module in network.modules()):
        if isinstance(module, torch.nn.modules.batchnorm._NormBase):
            module.eval()
            module.train = lambda mode=True, module=module: module
        elif isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    trainer.prepare_batch.augmentation = in_float64
    if hasattr(trainer, "prepare_unpaired"):
        trainer.prepare_unpaired.augmentation = in_float64
    found: list[list[torch.Tensor]] = []
    for optimizer in (trainer.optimizer, getattr(trainer, "discriminator_optimizer", None)):
        if optimizer is not None:
            optimizer.step = recording(optimizer, found)
    trainer.state.epoch_length = ITERATIONS
    trainer.run()
    return found


def in_float64(image: torch.Tensor | None, label: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    """In the augmentation's place."""
    return None if image is None else image.double(), label


def recording(optimizer: torch.optim.Optimizer, found: list[list[torch.Tensor]]) -> Any:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    step = optimizer.step

    def record() -> None:
        found.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters])
        step()

    return record


def main() -> None:
    folder, rank, world_size, phantom, cases = sys.argv[1:]
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    same = {"dataset_dir": phantom, "cache_dir": f"{folder}/cache"}
    alone = {}
    if rank == "0":
        for name, bundle, overrides in json.loads(cases):
            keys = {**same, "output_dir": f"{folder}/{name}.alone", "batch_size": BATCH * int(world_size)}
            alone[name] = gradients(build(bundle, [], overrides, **keys))
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=int(rank), world_size=int(world_size))
    for name, bundle, overrides in json.loads(cases):
        keys = {**same, "output_dir": f"{folder}/{name}.together", "batch_size": BATCH}
        together = gradients(build(bundle, ["multi_gpu_train"], overrides, **keys))
        torch.save({"alone": alone.get(name), "together": together}, f"{folder}/{name}.{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
