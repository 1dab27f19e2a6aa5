"""Simulated annotations of whole data sets: from a mask's file to the files of its annotations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes

from ..errors import UserError
from ..transforms.scribble_forms import FORMS, draw_annotation
from ..transforms.volume_axes import through_plane_axis
from .annotation_coverage import joint_counts
from .label_files import LabelFile, annotation_file
from .label_volume import LabelVolume, read_label_volume, write_label
from .named_labels import check_unnamed
from .prepared_case import case_generator
from .worker_processes import spread

__all__ = ["Annotation", "annotate_cases", "check_drawing", "highest_label"]

_MOST_CLASSES = 255


class Annotation(NamedTuple):
    """What was drawn of a case: the file or files of each map by its name, and what they cover.

    ``counts`` are those of :func:`~.annotation_coverage.joint_counts`, one array for each file.
    """

    case: str
    files: dict[str, list[str]]
    counts: dict[str, list[np.ndarray]]


def annotate_cases(
    masks: Sequence[LabelFile],
    folder: str | os.PathLike[str],
    *,
    num_classes: int,
    form: str,
    annotators: int = 1,
    seed: int = 0,
    slices_axis: int | None = None,
    jobs: int = 1,
    **options: Any,
) -> Iterator[Annotation]:
    """Draw and write the annotations of dense masks.

    What is drawn depends on the seed, the name of the case, the number of the annotator and the mask alone. Files
    are ``<case>_scribble.nii.gz``, of several annotators ``<case>_scribble_1.nii.gz`` and so on, or
    ``<case>_coarse.nii.gz`` and ``<case>_not.nii.gz``; each is whole as soon as it exists.

    Args:
        masks: the dense masks and the names of their cases.
        folder: the folder that gets the files.
        num_classes: number of classes C with background, 2 to 255.
        form: a name in :data:`~common.transforms.scribble_forms.FORMS`.
        annotators: how many annotators draw each mask, each by draws of its own.
        seed: seed of all draws.
        slices_axis: axis across the slices, 0 to 2; None for that of
            :func:`~common.transforms.orient_slices.through_plane_axis`.
        jobs: number of processes.
        options: ``slice_share`` and the options of the form.

    Yields:
        The annotations, in the order of the masks.

    Raises:
        UserError: an option is out of its range, several annotators would draw the same, a mask is damaged, does not
            hold 0..C-1 or has names for its values, or a file cannot be written.
    """
    check_drawing(num_classes, form, annotators=annotators, seed=seed, slices_axis=slices_axis, jobs=jobs, **options)
    work = partial(
        _annotate,
        folder=Path(folder),
        num_classes=num_classes,
        form=form,
        annotators=annotators,
        seed=seed,
        slices_axis=slices_axis,
        options=options,
    )
    yield from spread(work, masks, jobs)


def check_drawing(
    num_classes: int | None,
    form: str,
    *,
    annotators: int = 1,
    seed: int = 0,
    slices_axis: int | None = None,
    jobs: int = 1,
    **options: Any,
) -> None:
    """Check the options of :func:`annotate_cases` before a file is read.

    Args:
        num_classes: number of classes, None where the masks are to tell it.
        form: see :func:`annotate_cases`, as of the others.
        annotators: how many annotators.
        seed: seed of all draws.
        slices_axis: axis across the slices, or None.
        jobs: number of processes.
        options: ``slice_share`` and the options of the form.

    Raises:
        UserError: an option is out of its range, or several annotators would draw the same.
    """
    if num_classes is not None and (type(num_classes) is not int or not 2 <= num_classes <= _MOST_CLASSES):
        raise UserError(f"num_classes is {num_classes!r}; give 2 to {_MOST_CLASSES}, background included")
    for name, value, least in (("annotators", annotators, 1), ("seed", seed, 0), ("jobs", jobs, 1)):
        if type(value) is not int or value < least:
            raise UserError(f"{name} is {value!r}; give a whole number from {least} on")
    if slices_axis is not None and (type(slices_axis) is not int or slices_axis not in (0, 1, 2)):
        raise UserError(f"slices_axis is {slices_axis!r}; give 0, 1 or 2, or leave it out")
    if annotators > 1 and form in FORMS and FORMS[form].maps != ("scribble",):
        raise UserError(f"{annotators} annotators of form {form}: an image has one such drawing; leave annotators out")
    if annotators > 1 and form in FORMS and not FORMS[form].random:
        raise UserError(f"{annotators} annotators of form {form} would all draw the same; choose walk or strokes")
    # the form and its options
    draw_annotation(np.zeros((1, 3, 3), np.uint8), num_classes or 2, np.random.default_rng(0), form, **options)


def highest_label(masks: Sequence[LabelFile], *, jobs: int = 1) -> int:
    """The highest value in the masks.

    Raises:
        UserError: a mask is damaged, holds no label map or has names for its values.
    """
    return max(spread(_highest, masks, jobs))


def _annotate(
    mask: LabelFile,
    *,
    folder: Path,
    num_classes: int,
    form: str,
    annotators: int,
    seed: int,
    slices_axis: int | None,
    options: Mapping[str, Any],
) -> Annotation:
    volume = read_label_volume(mask.path)
    _check_mask(volume, mask.path, num_classes)
    voxels = volume.layers[0].astype(np.uint8)
    spacing = voxel_sizes(volume.grid.affine).tolist()
    axis = through_plane_axis(spacing, voxels.shape) if slices_axis is None else slices_axis
    stack = np.ascontiguousarray(np.moveaxis(voxels, axis, 0))
    annotation = Annotation(mask.case, {}, {})
    for number in range(1, annotators + 1):
        end = f"_{number}" if annotators > 1 else ""
        # an annotator draws the same whether or not others do
        rng = case_generator(seed, mask.case if number == 1 else f"{mask.case}/{number}")
        for name, drawn in draw_annotation(stack, num_classes, rng, form, **options).items():
            path = annotation_file(folder, f"{mask.case}_{name}{end}.nii.gz", mask.path)
            write_label(path, np.moveaxis(drawn, 0, axis), volume.grid)
            annotation.files.setdefault(name, []).append(os.path.abspath(path))
            annotation.counts.setdefault(name, []).append(joint_counts(stack, drawn, num_classes))
    return annotation


def _highest(mask: LabelFile) -> int:
    volume = read_label_volume(mask.path)
    _check_mask(volume, mask.path, None)
    return int(volume.layers.max())


def _check_mask(volume: LabelVolume, path: Path, num_classes: int | None) -> None:
    check_unnamed(path)
    if len(volume.layers) > 1:
        raise UserError(f"{path}: has {len(volume.layers)} layers or channels; give a mask with one")
    low, high = int(volume.layers.min()), int(volume.layers.max())
    most = _MOST_CLASSES if num_classes is None else num_classes
    if low < 0 or high >= most:
        value = low if low < 0 else high
        why = "is it an image, or a scribble?" if num_classes is None else "is num_classes right, or is it a scribble?"
        raise UserError(f"{path}: value {value} in a dense mask of 0..{most - 1}; {why}")
