"""Measure inference on volumes: the inferer and the whole way from file to file against the bare network.

    python benchmarks/inference.py                              # maag's settings, three phantom volumes
    python benchmarks/inference.py --images /data/acdc_images   # the images of a folder instead
    python benchmarks/inference.py --quick                      # small sizes, seconds: shows that it runs

``network`` is the time that the network takes for the windows of all slices, in batches, cut beforehand. ``inferer`` is
the call of the bundle's inferer on the preprocessed volume: cutting, network, joining. ``file to file`` is all that
``inference.json`` does for a volume: reading, resampling, inferer, back to the image's grid, saving. ``slice by slice``
is a plain reference: one slice after the other through the network, windows averaged by hand, arg-max; its labels are
compared. The ways take turns, so that a busy machine slows all; medians over the repeats, summed over the volumes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring.clock import now
from measuring.command_line import benchmark_parser
from monai.bundle import ConfigParser
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval
from monai.utils import fall_back_tuple
from torch.nn import functional as F

REPO_ROOT = Path(__file__).resolve().parents[1]
QUICK = {"filters": 2, "pixdim": [4.0, 4.0], "roi_size": [48, 48]}


def configuration(args: argparse.Namespace, images: str, output: str) -> ConfigParser:
    """The bundle's inference.json with the arguments' settings, weights as drawn."""
    content = ConfigParser.load_config_file(str(REPO_ROOT / "bundles" / args.bundle / "configs" / "inference.json"))
    parser = ConfigParser(content)
    settings = {"dataset_dir": images, "output_dir": output, "device": torch.device(args.device), "handlers": []}
    parser.update({**settings, **(QUICK if args.quick else {})})
    return parser


def windows_of(volume: torch.Tensor, roi_size: list[int], overlap: float) -> tuple[torch.Tensor, list[Any]]:
    """Pad ``[1, C, H, W, D]`` to the window's size and list the windows of a slice."""
    height, width = (max(size, roi) for size, roi in zip(volume.shape[2:4], roi_size, strict=True))
    rows, columns = height - volume.shape[2], width - volume.shape[3]
    slices = volume[0].movedim(-1, 0)
    slices = F.pad(slices, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2], mode="replicate")
    size = fall_back_tuple(roi_size, (height, width))
    interval = _get_scan_interval((height, width), size, 2, (overlap, overlap))
    return slices, dense_patch_slices((height, width), size, interval)


def bare_network(network: torch.nn.Module, patches: list[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    """A function that runs the network on batches of windows and keeps nothing."""
    return lambda: [network(batch) for batch in patches]


def slice_by_slice(network: torch.nn.Module, slices: torch.Tensor, windows: list[Any], shape: torch.Size) -> Any:
    """Labels ``[H, W, D]`` by the plainest way: one slice, one window at a time."""
    labels = []
    for image in slices:
        total, count = torch.zeros(()), torch.zeros(image.shape[1:])
        for rows, columns in windows:
            logits = network(image[None, :, rows, columns])
            if not total.ndim:
                total = torch.zeros(1, logits.shape[1], *image.shape[1:])
            total[..., rows, columns] += logits
            count[rows, columns] += 1
        labels.append((total / count)[0].argmax(0))
    stack = torch.stack(labels, -1)
    top, left = ((stack.shape[axis] - shape[axis]) // 2 for axis in (0, 1))
    return stack[top : top + shape[0], left : left + shape[1]]


def measure(args: argparse.Namespace, images: str, output: str) -> dict[str, Any]:
    """Return the summed medians in seconds of each way, the volumes, and the share of equal labels."""
    items = list(configuration(args, images, output).get_parsed_content("dataset").data)[: args.volumes]
    seconds: dict[str, float] = {"network": 0.0, "inferer": 0.0, "file to file": 0.0}
    equal = voxels = 0
    for item in items:
        parser = configuration(args, item["image"], output)
        network = parser.get_parsed_content("network").eval()
        if args.weights:
            network.load_state_dict(torch.load(args.weights, map_location=args.device, weights_only=True))
        inferer, evaluator = parser.get_parsed_content("inferer"), parser.get_parsed_content("evaluator")
        volume = parser.get_parsed_content("dataset")[0]["image"].as_tensor()[None].to(args.device)
        slices, windows = windows_of(volume, parser.get_parsed_content("roi_size"), inferer.overlap)
        patches = torch.stack([image[:, rows, columns] for image in slices for rows, columns in windows])
        of_a_batch = parser.get_parsed_content("batch_size")
        batches = [part.contiguous(memory_format=torch.channels_last) for part in patches.split(of_a_batch)]
        ways: dict[str, Callable[[], Any]] = {
            "network": bare_network(network, batches),
            "inferer": partial(inferer, volume, network),
            "file to file": evaluator.run,
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        with torch.no_grad():
            for _ in range(args.repeats + 1):
                for name, way in ways.items():
                    started = now()
                    way()
                    spent[name].append(now() - started)
            found = inferer(volume, network)[0].argmax(0)
            reference = slice_by_slice(network, slices, windows, found.shape)
        equal, voxels = equal + int((found == reference).sum()), voxels + found.numel()
        for name, values in spent.items():
            seconds[name] += statistics.median(values[1:])
    return {**seconds, "volumes": len(items), "equal": equal / voxels}


def main() -> None:
    """Measure and print."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--bundle", default="maag")
    parser.add_argument("--images", default="", help="folder of images; default: phantom volumes")
    parser.add_argument("--weights", default="", help="weights of the network; default: as drawn")
    parser.add_argument("--volumes", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="repeats that count; one more warms up")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.quick:
        args.volumes, args.repeats = 1, 1
    with tempfile.TemporaryDirectory() as folder:
        images = args.images
        if not images:
            from common.data.phantom import make_phantom

            images = str(make_phantom(Path(folder) / "phantom", num_patients=4).parent)
        found = measure(args, images, str(Path(folder) / "out"))
    print(f"{args.bundle}, {found['volumes']} volumes, {args.device}, {torch.get_num_threads()} threads")
    for name in ("network", "inferer", "file to file"):
        ratio = found[name] / found["network"]
        print(f"{name:13} {found[name] / found['volumes']:8.3f} s a volume, {ratio:5.2f} x network")
    print(f"labels equal to those of slice by slice: {found['equal']:.5%}")


if __name__ == "__main__":
    main()
