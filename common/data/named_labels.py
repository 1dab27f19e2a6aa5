"""Labels whose segments have names, of a MONAI Label datastore or of 3D Slicer, in this project's convention."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..transforms.label_names import BACKGROUND_NAMES, class_of_name, map_labels_by_name
from ..transforms.named_segments import Segment, segments_of
from .class_names import check_number_of_names
from .itk_header import read_itk_header
from .label_studies import StudyLabel, segments_in_study, study_label
from .label_volume import EXTENSIONS, Grid, LabelVolume, read_grid, read_label_volume
from .library_noise import quiet_readers
from .voxel_transfer import lies_on_image, onto_image

__all__ = ["IMPORT", "NUMBERED_BY_SEGMENT", "NamedLabel", "check_unnamed", "naming", "read_named_label"]

NUMBERED_BY_SEGMENT = "is a 3D Slicer segmentation, whose numbers follow the order of its segments"
IMPORT = "bring it to this project's values by `python -m tools import_labels`"
"""What to say of such a file where its values are asked for, and what to do about it."""

_NEGATIVE_BUNDLE = "coarse_labels"
# what 3D Slicer's plugin makes by itself, and leaves out when it submits a label map
_OF_THE_PLUGIN = ("background", "foreground_scribbles", "background_scribbles")


class NamedLabel(NamedTuple):
    """A label in this project's convention, and where it lies.

    Attributes:
        label: 0 annotated background, 1..C-1 classes, C not annotated; uint8. None where only negative drawings are.
        complement: the class that a voxel is not, C elsewhere. None where there is no negative drawing.
        grid: the voxels' grid.
        says_background: whether background is drawn, so that what is not drawn says nothing.
    """

    label: np.ndarray | None
    complement: np.ndarray | None
    grid: Grid
    says_background: bool


def naming(path: str | os.PathLike[str], image: str | os.PathLike[str] | None = None) -> object:
    """What names the segments of a label file from outside of it; None for a file that is in no datastore."""
    try:
        found = study_label(path, image)
    except UserError as error:
        return str(error)
    return None if found is None else [found.label_info]


def check_unnamed(path: str | os.PathLike[str]) -> None:
    """Check that a label has no names for its segments, for who knows no classes and takes the values as they are.

    Raises:
        UserError: it is a NRRD file that describes its segments, or lies in a MONAI Label datastore.
    """
    if _describes_itself(path) or study_label(path) is not None:
        raise UserError(
            f"{path}: {NUMBERED_BY_SEGMENT}; fill a segment {BACKGROUND_NAMES[0]} outside of all others, {IMPORT}, "
            "and name the new files by a pattern"
        )


def read_named_label(
    path: str | os.PathLike[str],
    class_names: Sequence[str],
    *,
    num_classes: int,
    image: str | os.PathLike[str] | None = None,
    coarse: bool = False,
) -> NamedLabel | None:
    """Read a label whose segments have names.

    That is a label of a MONAI Label datastore, or a NRRD file that describes its segments. In both, 0 is "not
    annotated", every class has a segment, even if it is empty, and annotated background has a segment with one of
    :data:`~common.transforms.label_names.BACKGROUND_NAMES`. It is not taken for granted that the rest is background:
    a stroke and a finished segmentation look the same.

    Args:
        path: the label file.
        class_names: names of the C classes, background first.
        num_classes: number of classes C that the run is set to.
        image: its image; a file that 3D Slicer cropped to what is drawn is brought to the image's grid, and one on the
            grid that ITK reads from the image's header is taken to lie on the image's.
        coarse: whether it is a coarse drawing. Its classes may be ``<class>`` and ``not_<class>``, and it need not say
            what is background.

    Returns:
        The label; None for a file without names, whose values are this project's already.

    Raises:
        UserError: a name is missing, unknown or ambiguous, voxels have no name, nothing is drawn, or no background
            is; the line begins with the file's name.
    """
    study, described = study_label(path, image), _describes_itself(path)
    if study is None and not described:
        return None
    names = check_number_of_names(class_names, num_classes)
    volume = read_label_volume(path)
    try:
        layers, grid = volume.layers, volume.grid
        segments = _segments(volume, study)
        if not layers.any():
            raise UserError("nothing is drawn in it; draw, or remove the label")
        if image is not None and str(image).lower().endswith(EXTENSIONS):
            of_image = read_grid(image)
            if described:
                layers, grid = onto_image(layers, grid, of_image, label=path, image=image), of_image
            elif lies_on_image(grid, of_image, image):
                grid = of_image
        _check_segments(segments, names, coarse=coarse)
        maps = map_labels_by_name(layers, segments, names, allow_missing=True)
        return _finished(maps, grid, num_classes, coarse=coarse)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _describes_itself(path: str | os.PathLike[str]) -> bool:
    """Whether it is a NRRD file with named segments; one that cannot be read is left to who reads its voxels."""
    if not Path(path).name.lower().endswith(".nrrd"):
        return False
    try:
        with quiet_readers():
            return any(key.startswith("Segment") and key.endswith("_Name") for key in read_itk_header(path).metadata)
    except RuntimeError:
        return False


def _segments(volume: LabelVolume, study: StudyLabel | None) -> list[Segment]:
    used = [set(np.unique(layer).tolist()) - {0} for layer in volume.layers]
    segments = segments_of(volume.metadata, len(volume.layers))
    if not segments and study is not None:
        if len(volume.layers) > 1:
            raise UserError(f"has {len(volume.layers)} layers or channels without names; submit one label map")
        segments = segments_in_study(study, used[0])
    return [
        segment for segment in segments if segment.name not in _OF_THE_PLUGIN or segment.value in used[segment.layer]
    ]


def _check_segments(segments: Sequence[Segment], class_names: Sequence[str], *, coarse: bool) -> None:
    """Whether every class, and background, has a segment; names that are unknown are told by the mapping."""
    meanings = [class_of_name(segment.name, class_names) for segment in segments]
    if None in meanings:
        return
    if not coarse and (negative := [s.name for s, m in zip(segments, meanings, strict=True) if m and m[0]]):
        raise UserError(f'"{negative[0]}" is a negative drawing, which the bundle {_NEGATIVE_BUNDLE} alone learns from')
    have = {meaning[1] for meaning in meanings if meaning}
    missing = [f'"{name}"' for index, name in enumerate(class_names) if index and index not in have]
    if missing:
        raise UserError(
            f"there is no segment called {', '.join(missing)}; add it in 3D Slicer, even if nothing is drawn in it, "
            "and submit the label again"
        )
    if 0 not in have and not coarse:
        raise _no_background(f'there is no segment called "{BACKGROUND_NAMES[0]}"')


def _finished(
    maps: tuple[np.ndarray | None, np.ndarray | None], grid: Grid, num_classes: int, *, coarse: bool
) -> NamedLabel:
    # an empty drawing beside another would say that all of the image is background
    label, complement = (None if drawn is None or (drawn == num_classes).all() else drawn for drawn in maps)
    says_background = label is not None and bool((label == 0).any())
    if not coarse and not says_background:
        raise _no_background(f'nothing is drawn in "{BACKGROUND_NAMES[0]}"')
    shaped = [None if drawn is None else drawn.reshape(grid.shape) for drawn in (label, complement)]
    return NamedLabel(shaped[0], shaped[1], grid, says_background)


def _no_background(found: str) -> UserError:
    return UserError(
        f"{found}, so nothing says what is background; draw strokes of it, or fill it outside of all other segments "
        "where these are complete, and submit the label again"
    )
