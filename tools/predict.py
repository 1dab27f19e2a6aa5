"""Segment images with a trained bundle: NIfTI, NRRD, MetaImage and PNG files, and DICOM series.

    python -m tools predict --bundle bundles/maag --input scans --output segmentations
    python -m tools predict --bundle bundles/maag --weights runs/heart/model.pt --input scans/p1/t2_series \
        --output segmentations

Label maps are those of the bundle's configs/inference.json, voxel by voxel. A DICOM series also gets a DICOM
Segmentation object on its own frame of reference. The images may change and more may come: run it again, and it does
what is left to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from tqdm import tqdm

from common.data.datalist import datalist_info
from common.data.dicom_segmentation import Algorithm, write_dicom_segmentation
from common.data.dicom_series import sort_series
from common.data.prediction_cases import PredictionCase, list_cases
from common.data.prediction_record import PredictionRecord, digest, source_marks
from common.data.segment_codes import SegmentCode, code_segments, read_segment_codes
from common.data.series_conversion import convert_series
from common.engines.bundle_predictor import BundlePredictor, reason_of
from common.errors import UserError
from common.files import atomic_file, remove_leftovers, writable_folder

_NAMED_IN_SUMMARY = 10


class _Job(NamedTuple):
    """A case that can be segmented, its files below the output folder, and a digest of what they depend on."""

    case: PredictionCase
    files: list[str]
    made: str


def main(
    *,
    input: str,
    output: str,
    bundle: str | None = None,
    config: str | None = None,
    weights: str | None = None,
    preset: str | None = None,
    device: str | None = None,
    class_names: str | None = None,
    dicom_seg: bool = True,
    segment_codes: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
    **overrides: Any,
) -> None:
    """Segment every image, go on after a bad one, and tell at the end which ones failed.

    A case whose files are there, made in the same way from the same image, is not made again. A file in the output
    folder that this command did not write, or that was changed since, is not replaced. The record of this is
    predictions.json in the output folder.

    Args:
        input: a folder that is searched with its subfolders, an image file, a folder of DICOM files, or a pattern in
            quotes, such as "scans/*/t2.nii.gz". Of folders and patterns, names that mark label maps (_gt, _seg, ...)
            or series (_4d) are left out; name such a file by itself, or change --exclude.
        output: folder for the results: <case>_seg.nii.gz (of PNG files _seg.png) on the image's grid, in the
            subfolders that the image has in the input, and for DICOM series <case>_seg.dcm. Cine series are segmented
            frame by frame: a NIfTI file with a fourth dimension into one file, a DICOM series into <case>_frame01_seg
            and so on.
        bundle: the bundle's folder, such as bundles/maag.
        config: instead of --bundle its inference.json, with commas more files that are laid over it.
        weights: file of the weights; by default the bundle's own.
        preset: a preset of the bundle, such as paper.
        device: cpu, cuda or cuda:1; by default the first GPU if there is one.
        class_names: the network's classes, where the weights do not remember them and they are not the bundle's own:
            names with commas, background first, or the datalist.json of the training. Sets num_classes too.
        dicom_seg: whether to write DICOM Segmentation objects for DICOM series.
        segment_codes: JSON file with the codes of your structures, {"liver": {"type": ["10200004", "SCT", "Liver"]}};
            common heart and abdominal structures are known already.
        overwrite: make every case again, and replace files that are not from this command.
        progress: whether to show a progress bar, which needs a terminal in any case.
        overrides: any other key of the configuration, such as --batch_size 4.

    Raises:
        UserError: an option makes no sense, no image is found, or cases failed.
    """
    if output.lower().endswith((".nii", ".nii.gz", ".dcm", ".png")):
        raise UserError(f"--output {output}: name a folder; the files in it are called after the images")
    folder = Path(os.path.abspath(os.path.expanduser(output)))
    names = _class_names(class_names)
    options = {"weights": weights, "preset": preset, "device": device} | overrides
    given = {key: value for key, value in options.items() if value is not None}
    predictor = BundlePredictor(
        _config_files(bundle, config), overrides=({"num_classes": len(names)} if names else {}) | given
    )
    names = predictor.class_names(names)
    segments = code_segments(names, read_segment_codes(segment_codes))
    cases = list_cases(input, output_dir=folder, exclude=predictor.exclude)

    writable_folder(folder)
    about = {"bundle": predictor.name, "version": predictor.version, "class_names": names}
    record = PredictionRecord(
        folder, about | {"weights": predictor.weights, "weights_sha256": predictor.weights_digest}
    )
    failures: dict[str, str] = {}
    jobs = _plan(cases, record, predictor, segments, failures, dicom_seg=dicom_seg, overwrite=overwrite)
    record.start()
    done, started = 0, time.perf_counter()
    for case, reason in failures.items():
        _tell(case, reason)
    with tqdm(jobs, unit="volume", file=sys.stderr, disable=None if progress else True, dynamic_ncols=True) as bar:
        for job in bar:
            bar.set_postfix_str(job.case.name[-40:])
            try:
                _segment(job, folder, predictor, segments, record)
            except Exception as error:  # a bad case, whatever is wrong with it, must not cost the others
                failures[job.case.name] = reason_of(error)
                _tell(job.case.name, failures[job.case.name])
                continue
            done += 1
    _summarise(folder, done, len(cases) - done - len(failures), failures, time.perf_counter() - started)


def _config_files(bundle: str | None, config: str | None) -> list[str]:
    if (bundle is None) == (config is None):
        raise UserError("name either --bundle, such as bundles/maag, or --config, its inference.json")
    if config is not None:
        return [config] if os.path.isfile(config) else [part.strip() for part in config.strip("[]").split(",")]
    folder = Path(str(bundle)).expanduser()
    if not folder.is_dir():
        raise UserError(f"{bundle}: no such folder; name that of a bundle, such as bundles/maag")
    return [str(folder / "configs" / "inference.json")]


def _class_names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    if text.lower().endswith(".json"):
        return [str(name) for name in datalist_info(Path(text).expanduser())["class_names"]]
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise UserError(f"--class_names {text}: write two or more names, each once, background first")
    return names


def _plan(
    cases: Sequence[PredictionCase],
    record: PredictionRecord,
    predictor: BundlePredictor,
    segments: Sequence[SegmentCode],
    failures: dict[str, str],
    *,
    dicom_seg: bool,
    overwrite: bool,
) -> list[_Job]:
    """The cases to make; those that cannot be made are noted among the failures, and finished ones left out."""
    jobs = []
    for case in cases:
        if case.problem is not None:
            failures[case.name] = case.problem
            continue
        files = case.files(dicom_seg=dicom_seg)
        try:
            marks = source_marks(case.slices or [case.source])
        except UserError as error:
            failures[case.name] = str(error)
            continue
        coded = segments if len(files) > 1 else None
        made = digest(predictor.settings_digest, str(case.source), marks, coded)
        if not overwrite and record.is_finished(case.name, files, made):
            continue
        foreign = None if overwrite else record.foreign_file(case.name, files)
        if foreign is not None:
            failures[case.name] = (
                f"{foreign} is in the output folder already, and not as this command left it; move it away, or add "
                "--overwrite true"
            )
            continue
        jobs.append(_Job(case, files, made))
    return jobs


def _segment(
    job: _Job, folder: Path, predictor: BundlePredictor, segments: Sequence[SegmentCode], record: PredictionRecord
) -> None:
    """Make a case's files in a folder of their own, note them in the record, and put them in place together."""
    started, files = time.perf_counter(), {}
    with tempfile.TemporaryDirectory(prefix="predict_") as work, contextlib.ExitStack() as stack:
        image, slices = job.case.source, list(job.case.slices)
        if slices:
            name = Path(job.case.name).name
            slices = sort_series(slices, f"{image} (case {name})")
            image = convert_series({name: slices}, Path(work, "image"))[name]
        label_map = predictor.segment(image, Path(work, "labels"))
        for name in reversed(job.files):  # the last one to be opened is the first to be put in place
            target = folder / name
            if target.is_dir():
                raise UserError(f"{target}: is a folder where a file is to be written; move it away")
            remove_leftovers(target)
            files[name] = temporary = stack.enter_context(atomic_file(target))
            if name.endswith(".dcm"):
                labels = np.asanyarray(nib.load(label_map).dataobj)  # type: ignore[attr-defined]
                write_dicom_segmentation(temporary, labels, slices, segments, algorithm=_algorithm(predictor))
            else:
                shutil.copyfile(label_map, temporary)
        seconds = round(time.perf_counter() - started, 2)
        record.finish(job.case.name, files, job.made, source=str(job.case.source), seconds=seconds)


def _algorithm(predictor: BundlePredictor) -> Algorithm:
    return Algorithm(predictor.name, predictor.version, predictor.manufacturer, predictor.weights_digest[:16])


def _tell(case: str, reason: str) -> None:
    with tqdm.external_write_mode(file=sys.stderr):
        print(f"failed: {case}: {reason}", file=sys.stderr, flush=True)


def _summarise(folder: Path, done: int, skipped: int, failures: Mapping[str, str], seconds: float) -> None:
    """Print what was done.

    Raises:
        UserError: cases failed.
    """
    pace = f" in {seconds:.1f} s, {seconds / done:.2f} s each" if done else ""
    print(f"{folder}: segmented {done}{pace}; {skipped} were there already; {len(failures)} failed")
    if failures:
        listed = ", ".join(list(failures)[:_NAMED_IN_SUMMARY])
        more = len(failures) - _NAMED_IN_SUMMARY
        count = "1 case" if len(failures) == 1 else f"{len(failures)} cases"
        raise UserError(f"{count} failed: {listed}{f' and {more} more' if more > 0 else ''}; see above")
