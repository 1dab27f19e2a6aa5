"""Scoring many volumes at a time, each in one of several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes

from ..data.named_labels import read_named_label
from ..data.volume_reader import Volume, read_checked_volume
from ..data.worker_processes import spread
from ..errors import UserError
from ..transforms.volume_axes import AFFINE_TOLERANCE, affine_gap
from .case_files import Reference
from .case_scores import count_slices, score_case

__all__ = ["ScoredCase", "score_cases"]


class ScoredCase(NamedTuple):
    """What the scoring of a case gives: its rows by method, and the slices that its pooled Dice averages over."""

    rows: dict[str, list[dict[str, Any]]]
    slices: int


def score_cases(
    references: Sequence[Reference],
    predictions: Mapping[str, Mapping[str, str]],
    *,
    class_names: Sequence[str],
    ignore_index: int | None = None,
    surface: bool = True,
    post_process: Callable[[np.ndarray], Any] | None = None,
    jobs: int = 1,
) -> dict[str, ScoredCase]:
    """Score the predictions of several methods.

    Args:
        references: the references.
        predictions: for each method the prediction file by case; a case without one counts as empty.
        class_names: names of all classes, the background first. Labels whose segments have names are mapped by them,
            see :func:`~common.data.named_labels.read_named_label`.
        ignore_index: see :func:`~.case_scores.score_case`.
        surface: see :func:`~.case_scores.score_case`.
        post_process: maps each prediction, with a channel axis in front, to the one that is scored; None for none. One
            that several processes can be sent.
        jobs: number of processes; the result does not depend on it.

    Returns:
        The scores by case, in the order of the references. A row begins with ``case``, ``patient`` and ``phase``.

    Raises:
        UserError: a file cannot be read, holds no index map of the classes, has names for its values that are not
            those of the classes, or is not on its reference's grid; of several such files it is about that of the
            first reference.
    """
    score = partial(
        _score,
        class_names=list(class_names),
        ignore_index=ignore_index,
        surface=surface,
        post_process=post_process,
    )
    wanted = [(each, {name: files.get(each.case) for name, files in predictions.items()}) for each in references]
    return {each.case: scored for each, scored in zip(references, spread(score, wanted, jobs), strict=True)}


def _score(
    case: tuple[Reference, Mapping[str, str | None]],
    *,
    class_names: Sequence[str],
    ignore_index: int | None,
    surface: bool,
    post_process: Callable[[np.ndarray], Any] | None,
) -> ScoredCase:
    reference, predictions = case
    image = reference.image if reference.image and os.path.exists(reference.image) else None  # not needed to score
    truth = _read(reference.path, class_names, image=image)
    labels = {"case": reference.case, "patient": reference.patient, "phase": reference.phase}
    rows = {}
    for name, path in predictions.items():
        empty = np.zeros(truth.shape, np.uint8)
        predicted = empty if path is None else _read(path, class_names, truth, reference.path, image=image).data
        if post_process is not None:
            predicted = np.asarray(post_process(predicted[None])[0])
        try:
            of_case = score_case(
                predicted,
                truth.data,
                class_names=class_names,
                spacing=truth.spacing,
                ignore_index=ignore_index,
                surface=surface,
            )
        except UserError as error:
            files = reference.path if path is None else f"{path} and {reference.path}"
            raise UserError(f"{files}: {error}") from error
        rows[name] = [{**labels, **row} for row in of_case]
    return ScoredCase(rows, count_slices(truth.data, truth.spacing, ignore_index))


def _read(
    path: str,
    class_names: Sequence[str],
    reference: Volume | None = None,
    reference_path: str = "",
    *,
    image: str | None,
) -> Volume:
    """Read a label, on the grid of the reference where one is given; segments with names are mapped by them."""
    named = read_named_label(path, class_names, num_classes=len(class_names), image=image)
    if named is None or named.label is None:
        volume = read_checked_volume(path)
    else:
        affine, shape = named.grid.affine, named.grid.shape
        volume = Volume(named.label, shape, affine, tuple(voxel_sizes(affine)[: len(shape)].tolist()), 1)
    if volume.data.ndim not in (2, 3) or volume.channels != 1 or not volume.data.size:
        shape = volume.data.shape
        raise UserError(f"{path}: has the shape {shape}; give an index map [X, Y, Z] or [X, Y] of one channel")
    if reference is None:
        return volume
    if volume.shape != reference.shape:
        raise UserError(
            f"{path}: shape {volume.shape} differs from {reference.shape} of {reference_path}; "
            "bring the prediction back to the reference's grid"
        )
    gap = affine_gap(volume.affine, reference.affine)
    if gap > AFFINE_TOLERANCE:
        raise UserError(
            f"{path}: affine differs by {gap:.3f} mm from that of {reference_path} (tolerance {AFFINE_TOLERANCE} mm); "
            "bring the prediction back to the reference's grid"
        )
    return volume
