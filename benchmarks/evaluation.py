"""Measure the scoring of volumes: Dice, HD95 and average surface distance, in memory and from file to file.

    SCRIBBLE_DATA_ROOT=/data python benchmarks/evaluation.py   # 40 masks of <root>/acdc; without it phantom masks
    python benchmarks/evaluation.py --quick                    # few small volumes, seconds: shows that it runs

Predictions are the masks shifted by one to three voxels, and, as networks that were trained on little draw, with
specks far away from the organ. ``score_case`` is what is done for a volume in memory. ``plain`` takes each class by
itself over the whole volume: erosion for the surfaces, and a distance transform of the whole volume for each direction
and each of the two distances; it is measured on the first volumes, and its values have to be equal. ``command`` is
``python -m tools evaluate`` from file to file in a process of its own, imports included. Seconds of processor time are
those of this process alone, or of the command with its workers.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from measuring.clock import now
from measuring.command_line import benchmark_parser
from scipy import ndimage

from common.metrics.case_scores import score_case

CLASS_NAMES = ["background", "RV", "MYO", "LV"]


def references(args: argparse.Namespace, folder: Path) -> list[Path]:
    """The mask files of ACDC where they are, else those of a phantom that is made."""
    root = os.environ.get("SCRIBBLE_DATA_ROOT")
    if root and not args.quick:
        return sorted(Path(root, "acdc", "training").glob("*/*_gt.nii.gz"))[: args.volumes]
    from common.data.phantom import make_phantom

    patients = 4 if args.quick else (args.volumes + 1) // 2
    return sorted(make_phantom(folder, num_patients=patients).parent.rglob("*_gt.nii.gz"))[: args.volumes]


def prediction_of(mask: np.ndarray, number: int, specks: bool) -> np.ndarray:
    """A mask shifted within its slices, and with specks of all classes where wanted."""
    found = np.roll(mask, 1 + number % 3, axis=number % 2)
    if specks:
        rng = np.random.default_rng(number)
        found.ravel()[rng.integers(0, found.size, 60)] = rng.integers(1, len(CLASS_NAMES), 60)
    return found


def plain(prediction: np.ndarray, reference: np.ndarray, spacing: list[float]) -> list[tuple[float, float, float]]:
    """Dice, HD95 and average symmetric surface distance of each class, one after the other, each from the start."""

    def surface(mask: np.ndarray) -> np.ndarray:
        return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))

    def distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return ndimage.distance_transform_edt(~surface(two), sampling=spacing)[surface(one)]

    scores: list[tuple[float, float, float]] = []
    for index in range(1, len(CLASS_NAMES)):
        a, b = prediction == index, reference == index
        dice = 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
        hd95 = np.percentile(np.concatenate([distances(a, b), distances(b, a)]), 95)
        scores.append((float(dice), float(hd95), float((distances(a, b).mean() + distances(b, a).mean()) / 2)))
    return scores


def measured(function: Callable[..., Any], pairs: list[Any]) -> tuple[list[Any], float]:
    """What a function of prediction, reference and spacing gives for all, and the seconds of processor time."""
    started = time.process_time()
    found = [function(*pair) for pair in pairs]
    return found, time.process_time() - started


def ours(prediction: np.ndarray, reference: np.ndarray, spacing: list[float]) -> list[tuple[float, float, float]]:
    """The same as :func:`plain`, as the evaluation does it, with all else that belongs to a row."""
    rows = score_case(prediction, reference, class_names=CLASS_NAMES, spacing=spacing)
    return [(row["dice"], row["hd95"], row["assd"]) for row in rows]


def command(args: argparse.Namespace, folder: Path, files: list[tuple[Path, np.ndarray]]) -> tuple[float, float]:
    """Write the files, run the command on them, and return its seconds and those of processor time."""
    for name in ("references", "predictions"):
        (folder / name).mkdir(parents=True)
    for number, (file, prediction) in enumerate(files):
        (folder / "references" / f"{number:03}_gt.nii.gz").symlink_to(file.resolve())
        image = nib.nifti1.load(file)
        nib.save(nib.Nifti1Image(prediction, image.affine), folder / "predictions" / f"{number:03}_seg.nii.gz")
    options = ["--predictions", "predictions", "--references", "references", "--output", "scores"]
    options += ["--class_names", ",".join(CLASS_NAMES), "--jobs", str(args.jobs)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), now()
    subprocess.run([sys.executable, "-m", "tools", "evaluate", *options], cwd=folder, check=True, capture_output=True)
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), now() - started
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Score in each way and print seconds, ratios and whether the values are equal."""
    parser = benchmark_parser(__doc__, quick="few small volumes")
    parser.add_argument("--volumes", type=int, default=40)
    parser.add_argument("--plain_volumes", type=int, default=5, help="volumes that the plain way scores")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    if args.quick:
        args.volumes, args.plain_volumes = 3, 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = references(args, folder / "phantom")
        images = [nib.nifti1.load(file) for file in files]
        masks = [np.asarray(image.dataobj).astype(np.uint8) for image in images]
        spacings = [[float(size) for size in image.header.get_zooms()[:3]] for image in images]
        print(f"{len(masks)} volumes, {len(CLASS_NAMES) - 1} classes, the first of {masks[0].shape} voxels")
        for specks in (False, True):
            predictions = [prediction_of(mask, number, specks) for number, mask in enumerate(masks)]
            pairs = list(zip(predictions, masks, spacings, strict=True))
            few = pairs[: args.plain_volumes]
            _, busy = measured(ours, pairs)
            found, busy_ours = measured(ours, few)
            expected, busy_plain = measured(plain, few)
            gap = float(np.abs(np.array(found) - np.array(expected)).max())
            place = folder / ("specks" if specks else "shifted")
            seconds, busy_command = command(args, place, list(zip(files, predictions, strict=True)))
            ratio = busy_ours / busy_plain
            print(f"{place.name}")
            print(f"  score_case  {busy:8.2f} s of processor time, {busy / len(pairs):.4f} s a volume")
            print(f"  plain       {busy_plain / len(few):8.2f} s a volume; score_case / plain {ratio:.4f}")
            print(f"  command     {seconds:8.2f} s with {args.jobs} jobs, {busy_command:.2f} s of processor time")
            print(f"  largest difference of a value: {gap:.2g}", flush=True)
            if gap > 1e-6:
                sys.exit("the two ways disagree")


if __name__ == "__main__":
    main()
