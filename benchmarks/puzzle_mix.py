"""Compare Puzzle Mix with the same mix over the full matrix of moves, in result, time and memory.

    python benchmarks/puzzle_mix.py            # 4 images of 256 x 256, transport of 4096 patches: minutes
    python benchmarks/puzzle_mix.py --quick    # small images, seconds: shows that it runs

A mix is all that follows the saliency: the blocks' energy and its minimum cut, the transport of either image's patches,
the mixed images and labels. Both forms get the same images, saliency, partners, shares and grids of blocks; ``dense``
replaces the transport by the plain rule, which writes down the costs of all moves of all patches and looks at all of
them in every round. Their sources have to be equal, bit for bit. Of every grid the median time counts (of one run of
``dense``), of these the slowest; memory is the highest resident set size beyond that before the first mix.
"""

from __future__ import annotations

import statistics
import sys
import time
from unittest import mock

import numpy as np
import torch
from measuring.command_line import benchmark_parser
from measuring.memory import peak_mib
from numpy.typing import NDArray
from scipy import ndimage

from common.transforms import puzzle_mix
from common.transforms.mix_plan import MixPlan
from common.transforms.patch_transport import patch_sources
from common.transforms.puzzle_mix import PuzzleMix

CLASSES = 4
GRIDS = (2, 4, 8, 16)


def dense_sources(saliency: NDArray, shown: NDArray, *, eps: float = 0.8, rounds: int = 64) -> NDArray:
    """The transport as it is written down."""
    batch, height, width = saliency.shape
    count = height * width
    rows, columns = np.divmod(np.arange(count), width)
    squares = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    distance = torch.from_numpy((squares / (max(height, width) - 1) ** 2).astype(np.float32))
    patches = torch.arange(count)
    results = []
    for item in range(batch):
        gain = torch.from_numpy(saliency[item].reshape(-1, 1) * shown[item].reshape(1, -1).astype(np.float32))
        costs = eps * distance - gain
        winner = patches
        for _ in range(rounds):
            cost, place = costs.min(dim=1)
            best = torch.full((count,), torch.inf).scatter_reduce(0, place, cost, "amin")
            cheapest = cost == best[place]
            first = torch.full((count,), count).scatter_reduce(0, place[cheapest], patches[cheapest], "amin")
            winner = torch.where(first < count, first, -1)
            loses = first[place] != patches
            costs[patches[loses], place[loses]] += 1.0
        results.append(winner.view(height, width).numpy())
    return np.stack(results)


def inputs(batch_size: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, labels and a saliency with few strong spots, mostly near the middle."""
    rng = np.random.default_rng(0)
    spots = ndimage.gaussian_filter(np.abs(rng.normal(size=(batch_size, size, size))) ** 6, (0, 2, 2))
    place = (np.arange(size) - size / 2) / (size / 4)
    saliency = spots * np.exp(-(place[:, None] ** 2) - place**2)
    image = rng.normal(size=(batch_size, 1, size, size))
    label = rng.integers(0, CLASSES + 1, size=(batch_size, 1, size, size), dtype=np.uint8)
    return torch.from_numpy(image).float(), torch.from_numpy(label), torch.from_numpy(saliency).float()[:, None]


def mixes(batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], repeat: int) -> tuple[list[MixPlan], float]:
    """Mix the batch with every grid; return the plans and the seconds of the slowest grid."""
    image, label, saliency = batch
    mixer = PuzzleMix(block_nums=GRIDS)
    partner = torch.arange(len(image)).roll(1)
    plans, medians = [], []
    for blocks in GRIDS:
        seconds = []
        for _ in range(repeat):
            started = time.perf_counter()
            plan = mixer.plan(image, saliency, partner, share=0.5, blocks=blocks)
            plan.mix(image)
            plan.at_rest().parts(label, fill=CLASSES)
            seconds.append(time.perf_counter() - started)
        plans.append(plan)
        medians.append(statistics.median(seconds))
    return plans, max(medians)


def main() -> None:
    """Mix in both forms and print them side by side."""
    parser = benchmark_parser(__doc__, quick="small images")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    batch = inputs(args.batch_size, 64 if args.quick else args.size)
    mixes(inputs(1, 64), 1)  # starts threads and loads what is loaded late
    results = {}
    for name, transport in (("windowed", patch_sources), ("dense", dense_sources)):
        before = peak_mib()
        with mock.patch.object(puzzle_mix, "patch_sources", transport):
            plans, seconds = mixes(batch, args.repeat if name == "windowed" else 1)
        results[name] = (plans, seconds, peak_mib() - before)
        print(f"{name:9} {seconds:8.3f} s {results[name][2]:10.1f} MiB", flush=True)
    windowed, dense = results["windowed"], results["dense"]
    print(f"windowed / dense: time {windowed[1] / dense[1]:.4f}, memory {windowed[2] / max(dense[2], 1.0):.4f}")
    for one, two in zip(windowed[0], dense[0], strict=True):
        for first, second in ((one.own_source, two.own_source), (one.other_source, two.other_source)):
            if first is None or second is None or not torch.equal(first, second):
                sys.exit("the two forms move different patches")
    print(f"{args.batch_size} images, {torch.get_num_threads()} threads: all patches move alike")


if __name__ == "__main__":
    main()
