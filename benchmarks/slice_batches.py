"""Measure the way of a training batch from slices in memory to augmented tensors, against plain MONAI transforms.

    python benchmarks/slice_batches.py            # 12 x 1 x 224 x 224, a few minutes on one thread
    python benchmarks/slice_batches.py --quick    # small sizes, seconds: shows that it runs

``batched`` is this project's way: one indexing operation into the stacked slices, one random warp of the whole batch.
``per_item`` is the usual one: a list of slices, MONAI's dictionary transforms with the same ranges slice by slice, and
MONAI's collation. Each runs in a process of its own; the time is the median of five rounds. Images are float32 and
labels uint8 in both; the labels warped item by item are filled with 0 and not the ignored value, which is less work.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring.clock import median_seconds
from measuring.command_line import benchmark_parser, run_apart
from measuring.memory import peak_mib
from monai.data import list_data_collate
from monai.transforms import Compose, RandAffined, RandGaussianNoised, RandScaleIntensityd, RandShiftIntensityd

from common.data.slice_dataset import SliceDataset
from common.transforms.batch_augmentation import BatchAugmentation

CLASSES = 4
ROUNDS = 5
DEPTH = 10  # slices of a made-up volume
RANGES: dict[str, Any] = {"brightness": 0.025, "contrast": 0.05, "noise": 0.02}  # those of the bundle maag


def volume(item: dict[str, Any], size: int) -> dict[str, Any]:
    """Make up a volume: an image ``[1, H, W, D]`` and a label of values 0..C."""
    generator = torch.Generator().manual_seed(item["seed"])
    shape = (1, size, size, DEPTH)
    label = torch.randint(CLASSES + 1, shape, generator=generator, dtype=torch.uint8)
    return {**item, "image": torch.randn(shape, generator=generator), "label": label}


def batched(volumes: int, size: int) -> Callable[[list[int]], Any]:
    """The project's way."""
    items = [{"seed": seed, "case": f"case{seed}"} for seed in range(volumes)]
    dataset = SliceDataset(items, lambda item: volume(item, size), ignore_index=CLASSES)
    augment = BatchAugmentation(ignore_index=CLASSES, rotation=90.0, translation=0.1, **RANGES)

    def batch(indices: list[int]) -> Any:
        slices = dataset.__getitems__(indices)
        return augment(slices["image"], slices["label"])

    return batch


def per_item(volumes: int, size: int) -> Callable[[list[int]], Any]:
    """MONAI's dictionary transforms, slice by slice."""
    slices = []
    for seed in range(volumes):
        whole = volume({"seed": seed}, size)
        slices += [{key: whole[key][..., z].contiguous() for key in ("image", "label")} for z in range(DEPTH)]
    affine = RandAffined(
        ["image", "label"],
        prob=1.0,
        rotate_range=math.pi / 2,
        translate_range=(0.1 * size, 0.1 * size),
        mode=("bilinear", "nearest"),
        padding_mode=("border", "zeros"),
        spatial_size=(size, size),
        cache_grid=True,
    )
    contrast = RandScaleIntensityd("image", factors=RANGES["contrast"], prob=1.0)
    brightness = RandShiftIntensityd("image", offsets=RANGES["brightness"], prob=1.0)
    noise = RandGaussianNoised("image", std=RANGES["noise"], prob=1.0, sample_std=False)
    augment = Compose([affine, contrast, brightness, noise])
    return lambda indices: list_data_collate([augment(slices[index]) for index in indices])


WAYS = {"batched": batched, "per_item": per_item}


def measure(way: str, args: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of a batch, and this process's memory in MiB: the peak, and before the work began."""
    torch.set_num_threads(args.threads)
    before = peak_mib()
    get_batch = WAYS[way](args.volumes, args.size)
    order = np.random.default_rng(0).permutation(args.volumes * DEPTH).tolist()

    def a_round() -> None:
        for first in range(args.batches):
            get_batch([order[(first * args.batch_size + k) % len(order)] for k in range(args.batch_size)])

    seconds = median_seconds(a_round, ROUNDS) / args.batches
    return {"seconds": seconds, "mib": peak_mib(), "mib_before": before}


def main() -> None:
    """Measure both ways in processes of their own and print them side by side."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--batch_size", type=int, default=12)
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--volumes", type=int, default=40, help=f"volumes of {DEPTH} slices")
    parser.add_argument("--batches", type=int, default=20, help="batches of a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.size, args.volumes, args.batches = 64, 3, 2
    if args.way:
        print(json.dumps(measure(args.way, args)))
        return
    results = {}
    for way in WAYS:
        results[way] = result = run_apart("--way", way)
        memory = f"peak {result['mib']:.0f} MiB, of which {result['mib_before']:.0f} for Python and its packages"
        print(f"{way:9} {result['seconds'] * 1000:9.2f} ms a batch; {memory}")
    print(f"per_item / batched: {results['per_item']['seconds'] / results['batched']['seconds']:.1f}")


if __name__ == "__main__":
    main()
