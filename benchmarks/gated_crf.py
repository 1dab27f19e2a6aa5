"""Measure the gated CRF loss, forward and backward, against the plain form that unfolds every pixel's window.

    python benchmarks/gated_crf.py            # 12 x 4 x 256 x 256, radius 5: a minute or two, 4 GiB for ``unfold``
    python benchmarks/gated_crf.py --quick    # small sizes, seconds: shows that it runs

``shifts`` is this project's loss: one pass over half of the window's offsets. ``unfold`` lays the 121 neighbours of all
pixels side by side and leaves the gradient to autograd. Each runs in a process of its own. The time is the median of
five rounds after one that warms up; the extra memory is the largest resident set less that before the first round,
when inputs and packages are there already. The gradients are compared by norm: |difference| / |unfold's|.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from measuring.clock import median_seconds
from measuring.command_line import benchmark_parser, run_apart
from measuring.memory import peak_mib
from torch.nn import functional as F

from common.losses.gated_crf import GatedCRFLoss

ROUNDS = 5
POSITION_SIGMA, INTENSITY_SIGMA = 6.0, 0.1


def shifts(radius: int) -> Callable[..., torch.Tensor]:
    """The project's loss."""
    kernel = {"position_sigma": POSITION_SIGMA, "intensity_sigma": INTENSITY_SIGMA}
    loss = GatedCRFLoss(kernels=[kernel], radius=radius)
    return lambda logits, image, destination: loss(logits, image, destination_mask=destination)


def unfold(radius: int) -> Callable[..., torch.Tensor]:
    """The equation as it stands."""
    side = 2 * radius + 1

    def windows(values: torch.Tensor) -> torch.Tensor:
        return F.unfold(values, side, padding=radius).unflatten(1, (values.shape[1], -1)).unflatten(3, values.shape[2:])

    def loss(logits: torch.Tensor, image: torch.Tensor, destination: torch.Tensor) -> torch.Tensor:
        probabilities = logits.softmax(dim=1)
        with torch.no_grad():
            rows, columns = (torch.arange(n, dtype=image.dtype) / POSITION_SIGMA for n in image.shape[2:])
            grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(len(image), -1, -1, -1)
            features = torch.cat([grid, image / INTENSITY_SIGMA], dim=1)
            similarity = (windows(features) - features[:, :, None]).square().sum(dim=1).mul(-0.5).exp()
            similarity *= windows(torch.ones_like(image))[:, 0] * destination
            similarity[:, side * side // 2] = 0
        agreement = (windows(probabilities) * similarity[:, None]).sum(dim=2) * probabilities
        return (similarity.sum() - agreement.sum()) / destination.sum()

    return loss


WAYS = {"shifts": shifts, "unfold": unfold}


def inputs(batch_size: int, classes: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random logits, image in 0..1, and a mask of which one pixel in ten is annotated."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch_size, classes, size, size, generator=generator).requires_grad_()
    image = torch.rand(batch_size, 1, size, size, generator=generator)
    return logits, image, (torch.rand(image.shape, generator=generator) < 0.9).float()


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of a round and the extra memory in MiB; save value and gradient under ``--save``."""
    torch.set_num_threads(args.threads)
    loss = WAYS[args.way](args.radius)
    loss(*inputs(1, args.classes, 2 * args.radius + 2)).backward()  # starts threads and loads what is loaded late
    tensors = inputs(args.batch_size, args.classes, args.size)
    found: dict[str, torch.Tensor] = {}

    def step() -> None:
        tensors[0].grad = None
        value = loss(*tensors)
        value.backward()
        found["value"] = value.detach()

    before = peak_mib()
    seconds = median_seconds(step, ROUNDS)
    mib = peak_mib() - before
    torch.save({**found, "gradient": tensors[0].grad}, args.save)
    return {"seconds": seconds, "mib": mib}


def main() -> None:
    """Measure both ways in processes of their own and print them side by side."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--batch_size", type=int, default=12)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--radius", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--save", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.batch_size, args.size, args.radius = 2, 48, 2
    if args.way:
        print(json.dumps(measure(args)))
        return
    results, saved = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            file = str(Path(folder) / f"{way}.pt")
            results[way] = result = run_apart("--way", way, "--save", file)
            saved[way] = torch.load(file, weights_only=True)
            print(f"{way} {result['seconds'] * 1000:10.1f} ms, {result['mib']:8.1f} MiB extra")
    difference = {
        key: (saved["shifts"][key] - tensor).norm() / tensor.norm() for key, tensor in saved["unfold"].items()
    }
    print(f"unfold / shifts: time {results['unfold']['seconds'] / results['shifts']['seconds']:.1f}", end=", ")
    print(f"extra memory {results['unfold']['mib'] / max(results['shifts']['mib'], 1.0):.1f}")
    print(f"relative difference: value {difference['value']:.1e}, gradient {difference['gradient']:.1e}")


if __name__ == "__main__":
    main()
