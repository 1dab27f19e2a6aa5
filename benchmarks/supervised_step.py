"""Measure an iteration of a bundle with one network and one loss against a plain loop.

    python benchmarks/supervised_step.py                          # dmpls, 12 x 1 x 256 x 256
    python benchmarks/supervised_step.py --bundle attenscribble
    python benchmarks/supervised_step.py --quick                  # small sizes, seconds: shows that it runs

The trainer is built from the bundle's train.json with its own loader, augmentation and handlers, those that validate
and save left out. ``data`` is the time to index, move and augment the batch. ``plain`` is the bare minimum for the same
network and loss: tensors that are there already, forward, loss, backward, step. The two take turns, so that a busy
machine slows both. Phantom slices; medians over the iterations after the first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from measuring.clock import timed
from measuring.command_line import benchmark_parser
from measuring.trainer_step import compare_steps, print_steps
from monai.bundle import ConfigParser

from common.data.phantom import make_phantom
from common.engines.bfloat16_inferer import bfloat16_autocast

REPO_ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ("dmpls", "attenscribble", "baselines")  # the others' steps need more than a batch, a network and a loss
NOT_MEASURED = ("ValidationHandler", "AtomicCheckpoint", "TensorBoardStatsHandler", "Progress")


def configuration(args: argparse.Namespace, folder: str) -> ConfigParser:
    """The bundle's train.json on phantom slices, without validation and files."""
    file = REPO_ROOT / "bundles" / args.bundle / "configs" / "train.json"
    parser = ConfigParser(ConfigParser.load_config_file(str(file)))
    patients = 4 if args.quick else 12
    parser.update(
        {
            "dataset_dir": str(make_phantom(Path(folder) / "phantom", num_patients=patients).parent),
            "output_dir": folder,
            "cache_dir": "",
            "device": torch.device(args.device),
            "batch_size": args.batch_size,
            "roi_size": [args.size, args.size],
            "amp": args.amp,
            "compile": args.compile,
            "max_epochs": 1,
            "schedule_epochs": args.iterations + 1,  # of at least one batch each: the rate must not end before
            "filters": args.filters,
        }
    )
    handlers = parser.get("train::handlers")
    parser["train::handlers"] = [h for h in handlers if h["_target_"].split(".")[-1] not in NOT_MEASURED]
    parser["train::trainer::epoch_length"] = args.iterations + 1
    return parser


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of an iteration of the trainer, of its data, and of the plain loop after each."""
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        parser = configuration(args, folder)
        dataset = parser.get_parsed_content("train#dataset")
        dataset.__getitems__ = timed(dataset.__getitems__, spent)
        trainer = parser.get_parsed_content("train#trainer")
        trainer.prepare_batch = timed(trainer.prepare_batch, spent)
        return compare_steps(trainer, spent, plain_loop(configuration(args, folder), args))


def plain_loop(parser: ConfigParser, args: argparse.Namespace) -> Callable[[], None]:
    """Return a function that takes one step of the same network and loss on a batch that is there already."""
    network, loss = parser.get_parsed_content("network").train(), parser.get_parsed_content("loss")
    optimizer = parser.get_parsed_content("optimizer")
    dataset = parser.get_parsed_content("train#dataset")
    batch = dataset.__getitems__([index % len(dataset) for index in range(args.batch_size)])
    prepare = parser.get_parsed_content("train#trainer").prepare_batch
    image, target = prepare(batch, torch.device(args.device))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with bfloat16_autocast(torch.device(args.device).type, args.amp):
            heads = network(image)
        loss(heads, target).backward()
        optimizer.step()

    return step


def main() -> None:
    """Measure and print."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--bundle", default="dmpls", choices=BUNDLES)
    parser.add_argument("--filters", type=int, default=16, help="channels of the network at full resolution")
    parser.add_argument("--batch_size", type=int, default=12)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=5, help="iterations that count; one more warms up")
    parser.add_argument("--amp", action="store_true", help="bfloat16, where the device has it")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.quick:
        args.filters, args.batch_size, args.size, args.iterations = 4, 4, 64, 3
    seconds = measure(args)
    print(f"{args.bundle}, {args.batch_size} x 1 x {args.size} x {args.size}, {args.filters} filters, {args.device}")
    print_steps(seconds, "network and loss")


if __name__ == "__main__":
    main()
