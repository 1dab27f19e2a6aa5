"""Measure the start of a training: the first one, which resamples, and the second one, which reads the cache.

    python benchmarks/volume_cache.py --dataset_dir data/acdc    # the training volumes of a datalist
    python benchmarks/volume_cache.py                            # phantom volumes
    python benchmarks/volume_cache.py --quick                    # a few of them: shows that it runs

Each start is a fresh process that builds the training slices of a bundle's train.json. ``checks`` is the reading of
every file before. ``stacked`` is the size of the slices in memory, ``peak`` how far the process's resident memory rose
while it built them.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path

from measuring.command_line import benchmark_parser

REPO_ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20


def start(bundle: str, dataset_dir: str, cache_dir: str, results: multiprocessing.SimpleQueue) -> None:
    """Build the training slices and report seconds and MiB."""
    import torch
    from measuring.memory import peak_mib
    from monai.bundle import ConfigParser

    from common.data.checks import check_items
    from common.data.slice_dataset import SliceDataset

    torch.set_num_threads(1)
    parser = ConfigParser(ConfigParser.load_config_file(str(REPO_ROOT / "bundles" / bundle / "configs" / "train.json")))
    parser.update({"dataset_dir": dataset_dir, "cache_dir": cache_dir})
    items = parser.get_parsed_content("train#dataset#data")
    transform = parser.get_parsed_content("train#cached_preprocessing")
    num_classes = parser.get_parsed_content("num_classes")
    transform(dict(items[0]))  # what is imported on first use does not count
    started = time.perf_counter()
    check_items(items, num_classes=num_classes, kind="scribble")
    checked = time.perf_counter()
    before = peak_mib()
    dataset = SliceDataset(items, transform, ignore_index=num_classes)
    finished = time.perf_counter()
    peak = peak_mib() - before
    stacked = sum(tensor.nbytes for tensor in dataset.slices.values()) / MIB
    results.put((len(items), len(dataset), checked - started, finished - checked, stacked, peak))


def main() -> None:
    """Measure and print."""
    parser = benchmark_parser(__doc__, quick="few volumes")
    parser.add_argument("--bundle", default="maag")
    parser.add_argument("--dataset_dir", default="", help="folder with datalist.json; default: a phantom")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        dataset_dir = args.dataset_dir
        if not dataset_dir:
            from common.data.phantom import make_phantom

            dataset_dir = str(make_phantom(Path(folder) / "phantom", num_patients=4 if args.quick else 24).parent)
        seconds = {}
        for name in ("first", "second"):
            results = context.SimpleQueue()
            process = context.Process(target=start, args=(args.bundle, dataset_dir, f"{folder}/cache", results))
            process.start()
            process.join()
            volumes, slices, checks, seconds[name], stacked, peak = results.get()
            print(
                f"{name:6} start: {volumes} volumes, {slices} slices, checks {checks:.1f} s, "
                f"slices {seconds[name]:.1f} s, stacked {stacked:.0f} MiB, peak {peak:.0f} MiB"
            )
        on_disk = sum(path.stat().st_size for path in Path(folder, "cache").iterdir()) / MIB
    print(f"second / first {seconds['second'] / seconds['first']:.2f}, {on_disk:.0f} MiB on disk")


if __name__ == "__main__":
    main()
