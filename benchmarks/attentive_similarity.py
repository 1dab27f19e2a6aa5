"""Compare AttentiveSimilarityLoss with the same loss over the full matrix of pairs, in value, time and memory.

    python benchmarks/attentive_similarity.py            # 12 images, 64 x 64 positions, 64 channels: minutes on a CPU
    python benchmarks/attentive_similarity.py --quick    # small sizes, seconds: shows that it runs

Each form runs forward and backward in a process of its own, on the same random numbers. ``seconds`` is the median of
the repetitions after one that warms up; ``memory`` is the highest resident set size beyond that before the first
repetition (on a GPU: the highest allocated). The two forms have to agree in value and gradients to ``TOLERANCE``
relative to the largest entry.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from measuring.clock import median_seconds
from measuring.command_line import benchmark_parser, run_apart
from measuring.memory import peak_mib
from torch.nn import functional as F

from common.losses.attentive_similarity import AttentiveSimilarityLoss

CLASSES = 4
RADIUS, SIGMA = 5, 6.0
TOLERANCE = 1e-5
NAMES = ("logits", "queries", "keys", "weights")


def full_matrix_loss(heads: list[torch.Tensor]) -> torch.Tensor:
    """The loss in its default form as it is written down: every matrix of all pairs is built and kept."""
    logits, queries, keys, weights = heads
    side = queries.shape[2]
    attention = torch.softmax(queries.flatten(2, 3) @ keys.flatten(2, 3).transpose(2, 3), dim=3)
    symmetric = attention + attention.transpose(2, 3)
    bias = weights[:, -1, None, None]
    similarity = torch.sigmoid((weights[:, :-1, None, None] * symmetric).sum(dim=1) + bias)
    axis = torch.arange(side, device=logits.device, dtype=torch.float)
    place = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
    difference = place[:, None] - place[None]
    reach = difference.abs().amax(dim=2)
    distance = torch.exp(-difference.square().sum(dim=2) / (2 * SIGMA**2)) * ((reach > 0) & (reach <= RADIUS))
    probabilities = F.interpolate(logits.softmax(dim=1), size=(side, side), mode="bilinear", align_corners=False)
    flat = probabilities.flatten(2)
    dissimilarity = 1.0 - flat.transpose(1, 2) @ flat
    return (distance * similarity * dissimilarity).sum() / (len(logits) * side**2)


def windowed_loss(heads: list[torch.Tensor]) -> torch.Tensor:
    """The loss of the library."""
    loss = AttentiveSimilarityLoss(radius=RADIUS, sigma=SIGMA, single_class="keep")
    return loss(heads, torch.zeros_like(heads[0][:, :1]))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run one form; write its gradients to ``args.gradients`` and return value, seconds and MiB."""
    torch.manual_seed(0)
    grid = (args.batch_size, args.heads, args.side, args.side, args.channels)
    heads = [
        2 * torch.randn(args.batch_size, CLASSES, 4 * args.side, 4 * args.side),
        # products of a standard deviation of 4: rows have favourites, as those of a trained network
        torch.randn(grid) * (4 / math.sqrt(args.channels)),
        torch.randn(grid),
        torch.randn(1, args.heads + 1).expand(args.batch_size, -1).contiguous(),
    ]
    heads = [head.to(args.device).requires_grad_() for head in heads]
    loss = {"full": full_matrix_loss, "windowed": windowed_loss}[args.form]
    found: dict[str, Any] = {}

    def step() -> None:
        found.clear()  # the memory of a step's gradients is free in the next one
        total = loss(heads)
        found.update(zip(NAMES, torch.autograd.grad(total, heads), strict=True), value=float(total.detach()))

    before = peak_mib(args.device)
    seconds = median_seconds(step, args.repeat)
    used = peak_mib(args.device) - before
    torch.save({name: found[name].cpu() for name in NAMES}, args.gradients)
    return {"value": found["value"], "seconds": seconds, "memory": used}


def compare(args: argparse.Namespace) -> None:
    """Run both forms in fresh processes, print what they took, and stop with an error where they disagree."""
    results, gradients = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for form in ("full", "windowed"):
            path = Path(folder) / f"{form}.pt"
            results[form] = run_apart("--form", form, "--gradients", str(path))
            gradients[form] = torch.load(path, weights_only=True)
    full, windowed = results["full"], results["windowed"]
    errors = {"value": abs(windowed["value"] - full["value"]) / abs(full["value"])}
    for name in NAMES:
        expected = gradients["full"][name]
        errors[name] = float((gradients["windowed"][name] - expected).abs().max() / expected.abs().max())
    print(
        f"{args.batch_size} images, {args.side} x {args.side} positions, {args.channels} channels, {args.heads} maps, "
        f"{args.device}, {torch.get_num_threads()} threads; forward and backward, median of {args.repeat}"
    )
    for form, result in results.items():
        print(f"{form:9} {result['seconds']:8.3f} s {result['memory']:10.1f} MiB")
    print(
        f"windowed / full: time {windowed['seconds'] / full['seconds']:.2f}, "
        f"memory {windowed['memory'] / full['memory']:.3f}"
    )
    print("largest relative errors: " + ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
    if not max(errors.values()) <= TOLERANCE:
        sys.exit(f"the two forms differ by more than {TOLERANCE}")


def main() -> None:
    """Compare, or run one form for the comparison."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--batch_size", type=int, default=12)
    parser.add_argument("--side", type=int, default=64, help="positions along each edge of the grid")
    parser.add_argument("--channels", type=int, default=64, help="channels of queries and keys")
    parser.add_argument("--heads", type=int, default=1, help="attention maps: heads times layers")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions that count; one more warms up")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--form", choices=["full", "windowed"], help=argparse.SUPPRESS)
    parser.add_argument("--gradients", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.batch_size, args.side, args.channels, args.repeat = 2, 16, 8, 1
    if args.form:
        print(json.dumps(measure(args)))
    else:
        compare(args)


if __name__ == "__main__":
    main()
