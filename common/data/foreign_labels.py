"""Label files of other programs: from what ITK-SNAP or 3D Slicer saved to annotations on the image's grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..transforms.label_names import class_of_name, map_labels_by_name
from ..transforms.named_segments import Segment, segments_of
from .case_names import annotator_of, label_role
from .dicom_series import read_series
from .found_files import Found, find_images
from .label_files import annotation_file, label_entries
from .label_volume import Grid, LabelVolume, read_grid, read_label_volume, write_label
from .name_tables import read_name_table, table_beside
from .naming_cases import how_to_rename, name_images, name_labels
from .voxel_transfer import onto_image

__all__ = ["DrawnSegment", "ForeignLabel", "ImportedLabel", "find_foreign_labels", "import_label"]

_ROLES = ("scribble", "coarse", "not", "mask", "either")


class ForeignLabel(NamedTuple):
    """A label file, its case, the number of its annotator (empty where there is but one), and the case's image."""

    path: Path
    case: str
    annotator: str
    image: Found


class DrawnSegment(NamedTuple):
    """A segment, what it became (whether a negative drawing, and the class), and its number of voxels."""

    segment: Segment
    negative: bool
    class_index: int
    voxels: int


class ImportedLabel(NamedTuple):
    """What was found in a label file, and the files that were written, by ``scribble``, ``coarse`` and ``not``."""

    segments: list[DrawnSegment]
    files: dict[str, str]


def find_foreign_labels(labels: str, images: str, *, skip: Path | None = None) -> list[ForeignLabel]:
    """Find label files and the images that they belong to, which are called alike.

    Args:
        labels: folder, pattern or file, see :func:`~.label_files.label_entries`.
        images: folder, pattern or file of the images, NIfTI, NRRD, MetaImage or DICOM series. Label files below the
            folder, and in the labels' own folder files whose names tell that they are labels, are no images.
        skip: a folder not to search.

    Returns:
        The label files, sorted by case and annotator.

    Raises:
        UserError: there are none, two are of one case, or one has no image.
    """
    drawn = label_entries(labels, roles=_ROLES, skip=skip)
    paths = {os.path.realpath(entry.path) for entry in drawn}
    shared = os.path.realpath(os.path.expanduser(images)) == os.path.realpath(os.path.expanduser(labels))
    pictures = [
        entry
        for entry in find_images(images, skip=skip)
        if os.path.realpath(entry.path) not in paths and not (shared and label_role(entry.stem) in _ROLES)
    ]
    by_case = name_images(pictures)
    found = []
    for case, entries in sorted(name_labels(drawn, by_case, "--labels").items()):
        if case not in by_case:
            raise UserError(
                f"{entries[0].path}: no image is of its case, {case}; {how_to_rename(case, by_case)}, or complete "
                f"--images ({images})"
            )
        found += [ForeignLabel(entry.path, case, annotator_of(entry.stem), by_case[case]) for entry in entries]
    return found


def import_label(
    label: ForeignLabel,
    folder: Path,
    class_names: Sequence[str],
    *,
    names: Sequence[Segment] | None = None,
    allow_missing: bool = False,
) -> ImportedLabel:
    """Write a label file of another program as annotations on its image's grid.

    The names of a ``.seg.nrrd`` file are those in its header. Others take ``names``, or else the table that lies
    beside the file, see :func:`~.name_tables.table_beside`.

    Args:
        label: the file and its image.
        folder: the folder that gets ``<case>_scribble.nii.gz`` (of several annotators ``<case>_scribble_1.nii.gz``
            and so on); where there are segments of negative drawings ``<case>_coarse.nii.gz`` and
            ``<case>_not.nii.gz``, each where something of its sort is drawn.
        class_names: names of the C classes, background first.
        names: what the values are called.
        allow_missing: see :func:`~common.transforms.label_names.map_labels_by_name`.

    Returns:
        What was found and written.

    Raises:
        UserError: a file is damaged, its names are unknown, missing or ambiguous, nothing is drawn, or the label does
            not lie on the image's voxels; the line begins with the label's file.
    """
    volume = read_label_volume(label.path)
    segments, described = _segments(label.path, volume, names)
    grid = _image_grid(label.image)
    try:
        if not volume.layers.any():
            raise UserError("nothing is drawn in it; draw, or take the file away")
        layers = onto_image(volume.layers, volume.grid, grid, label=label.path, image=label.image.path)
        options = {"all_segments": described, "allow_missing": allow_missing}
        positive, negative = map_labels_by_name(layers, segments, class_names, **options)
        if negative is not None and label.annotator:
            raise UserError("an image has one coarse drawing; join those of several annotators, or leave all but one")
    except UserError as error:
        raise UserError(f"{label.path}: {error}") from error
    end = f"_{label.annotator}" if label.annotator else ""
    maps = {"scribble" if negative is None else "coarse": positive, "not": negative}
    files = {}
    for name, voxels in maps.items():
        # an empty file beside another drawing would say that all of the image is background
        if voxels is not None and (negative is None or (voxels != len(class_names)).any()):
            path = annotation_file(folder, f"{label.case}_{name}{end}.nii.gz", label.path, label.image.path)
            write_label(path, voxels, grid)
            files[name] = str(path)
    return ImportedLabel(_drawn(segments, layers, class_names), files)


def _segments(path: Path, volume: LabelVolume, names: Sequence[Segment] | None) -> tuple[list[Segment], bool]:
    """The names of the values, and whether the file itself tells them."""
    try:
        segments = segments_of(volume.metadata, len(volume.layers))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if segments:
        return segments, True
    if len(volume.layers) > 1:
        raise UserError(f"{path}: has {len(volume.layers)} layers or channels without names; give a label map with one")
    if names is not None:
        return list(names), False
    table = table_beside(path)
    if table is None:
        raise UserError(f"{path}: does not tell what its values are called; give --names, a table or RV=3,MYO=1")
    return read_name_table(table), False


def _image_grid(image: Found) -> Grid:
    if not image.slices:
        return read_grid(image.path)
    voxels, affine = read_series(image.slices, str(image.path))
    return Grid(voxels.shape, affine)


def _drawn(segments: Sequence[Segment], layers: np.ndarray, class_names: Sequence[str]) -> list[DrawnSegment]:
    """The segments of classes, by class, positive drawings first."""
    drawn = []
    for segment in segments:
        meaning = class_of_name(segment.name, class_names)
        if meaning is not None and segment.value:
            voxels = int(np.count_nonzero(layers[segment.layer] == segment.value))
            drawn.append(DrawnSegment(segment, *meaning, voxels))
    return sorted(drawn, key=lambda each: (each.negative, each.class_index))
