"""Measure one training step with many classes: full confusion matrices, rank-1 ones, and rank-1 with checkpointing.

    python benchmarks/confusion_matrices.py            # 19 classes, 512 x 1024: minutes, 12 GiB for ``full``
    python benchmarks/confusion_matrices.py --quick    # small sizes, seconds: shows that it runs

A step is forward, loss and backward of CoarseAnnotationUNet with both kinds of drawings. Each way runs in a process of
its own, except with ``--quick``. The time is the median of ``--repeat`` steps after one that warms up; the memory is
the largest resident set less that before the first step, or on a GPU the largest sum of allocations.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import torch
from measuring.clock import median_seconds
from measuring.command_line import benchmark_parser, run_apart
from measuring.memory import peak_mib

from common.losses.coarse_labels import CoarseLabelsLoss
from common.networks.coarse_annotation_unet import CoarseAnnotationUNet

WAYS: dict[str, dict[str, Any]] = {
    "full": {"confusion": "full"},
    "rank1": {"confusion": "rank1"},
    "rank1 with checkpointing": {"confusion": "rank1", "checkpointing": True},
}


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of a step, the memory in GiB and the loss of the first step."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network = CoarseAnnotationUNet(3, args.classes, filters=args.filters, depth=args.depth, **WAYS[args.way])
    network = network.to(device=args.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = CoarseLabelsLoss(args.classes, warm_start=0.0)
    size = (args.batch_size, 1, args.height, args.width)
    image = torch.randn(args.batch_size, 3, *size[2:]).to(args.device, memory_format=torch.channels_last)
    target = {name: torch.randint(0, args.classes + 1, size).to(args.device) for name in ("label", "complement")}
    values: list[float] = []

    def step() -> None:
        network.zero_grad()
        value = loss(network(image), target)
        value.backward()
        values.append(float(value.detach()))

    before = peak_mib(args.device)
    seconds = median_seconds(step, args.repeat)
    gib = (peak_mib(args.device) - before) / 2**10
    return {"seconds": seconds, "gib": gib, "loss": values[0]}


def main() -> None:
    """Measure every way and print them one below the other."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=1, help="steps that count; one more warms up")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--way", choices=WAYS, help="this way alone")
    args = parser.parse_args()
    if args.quick:
        args.height, args.width, args.filters, args.depth = 32, 64, 4, 2
    if args.way:
        print(json.dumps(measure(args)))
        return
    for way in WAYS:
        args.way = way
        result = measure(args) if args.quick else run_apart("--way", way)
        print(f"{way:25} {result['seconds']:8.2f} s {result['gib']:8.3f} GiB, loss {result['loss']:.4f}", flush=True)


if __name__ == "__main__":
    main()
