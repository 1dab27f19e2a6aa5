"""Draw a case: the image, and over it the scribbles, the prediction and the reference, slice by slice.

    python -m tools picture --image case.nii.gz --output case.png --scribble case_scribble.nii.gz \
        --prediction case_seg.nii.gz --reference case_gt.nii.gz --class_names "background,RV,MYO,LV"

A row is a slice that holds anatomy, a column is a label. The view is cropped to the labels and true to the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import ndimage

from common.data.volume_reader import read_checked_volume
from common.errors import UserError
from common.files import NIFTI_EXTENSIONS, atomic_file
from common.transforms.volume_axes import AFFINE_TOLERANCE, affine_gap

# Okabe and Ito's colours, told apart by colour-blind readers: annotated background first, then the classes.
COLOURS = ("#FFFFFF", "#56B4E9", "#F0E442", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
MARGIN_MM = 15.0
MAX_CELL_INCHES = (2.6, 3.4)  # width, height
DPI = 150


@rc_context({"text.parse_math": False})  # titles and names are no formulas, whatever signs they hold
def draw_case(
    image: np.ndarray,
    affine: np.ndarray,
    *,
    scribble: np.ndarray | None = None,
    prediction: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    num_classes: int = 4,
    class_names: Sequence[str] | None = None,
    title: str = "",
    slices: int = 3,
) -> Figure:
    """Draw slices of one case, one column for the image and one for each label given.

    Args:
        image: ``[X, Y, Z]`` intensities; the grey window is the 1st to 99th percentile of what is shown and finite.
        affine: ``[4, 4]`` voxel to world matrix in mm: gives the spacing and which way is up.
        scribble: ``[X, Y, Z]`` with 0 = annotated background, 1..C-1 = classes, C = not annotated.
        prediction: ``[X, Y, Z]`` with values 0..C-1.
        reference: ``[X, Y, Z]`` with values 0..C-1.
        num_classes: C, background included.
        class_names: C names for the legend, background first.
        title: a line above the picture.
        slices: how many to draw, chosen where the reference has anatomy, else the prediction, else the scribble.

    Returns:
        The figure, 150 dots per inch. It needs no display and leaves pyplot's state alone.

    Raises:
        UserError: shapes differ, a label value is out of range, or an option makes no sense.
    """
    labels = {"scribble": scribble, "prediction": prediction, "reference": reference}
    given = {name: label for name, label in labels.items() if label is not None}
    _check(image, given, num_classes=num_classes, slices=slices)
    names = list(class_names or ["background", *(f"class {value}" for value in range(1, num_classes))])
    if len(names) != num_classes:
        raise UserError(f"class_names: {len(names)} names for num_classes {num_classes}; give one each")
    image, rows_mm, columns_mm = _upright(image, affine)
    given = {name: _upright(label, affine)[0] for name, label in given.items()}
    anatomy = {name: (label > 0) & (label < num_classes) for name, label in given.items()}
    leading = next(reversed(anatomy.values()), np.zeros(image.shape, dtype=bool))  # the surest of them comes last
    chosen = choose_slices(leading, slices)
    rows, columns = _crop([leading, *anatomy.values()], margin=(MARGIN_MM / rows_mm, MARGIN_MM / columns_mm))
    image, given = image[chosen, rows, columns], {name: label[chosen, rows, columns] for name, label in given.items()}
    size_mm = (image.shape[2] * columns_mm, image.shape[1] * rows_mm)
    figure, grid = _grid(len(chosen), 1 + len(given), size_mm=size_mm, title=title, legend=bool(given))
    low, high = np.percentile(image[np.isfinite(image)], (1, 99)) if np.isfinite(image).any() else (0.0, 1.0)
    for row, k in enumerate(chosen):
        for axes, name in zip(grid[row], ["image", *given], strict=True):
            axes.imshow(image[row], cmap="gray", vmin=low, vmax=high, aspect="auto", interpolation="bilinear")
            if name == "scribble":
                _paint_scribble(axes, given[name][row], num_classes)
            elif name in given:
                _paint_mask(axes, given[name][row], num_classes)
            if row == 0:
                axes.set_title(name, fontsize=10, pad=4)
        grid[row][0].set_ylabel(f"slice {k + 1} of {len(leading)}", fontsize=8, labelpad=4)
    if given:
        values = range(0 if "scribble" in given else 1, num_classes)
        patches = [Patch(facecolor=class_colour(v), edgecolor="0.4", linewidth=0.5, label=names[v]) for v in values]
        figure.legend(handles=patches, loc="lower center", ncols=2 + 2 * len(given), fontsize=8, frameon=False)
    return figure


def save_figure(figure: Figure, output: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all, making its folder; UserError where the name lacks .png."""
    output = Path(output)
    if output.suffix.lower() != ".png":
        raise UserError(f"{output}: the picture is a PNG; let its name end in .png")
    with atomic_file(output) as temporary:
        figure.savefig(temporary, format="png")
    return output


def class_colour(value: int) -> tuple[float, float, float]:
    """The RGB colour in [0, 1] of a class; 0 is the annotated background. Beyond seven classes colours repeat."""
    return to_rgb(COLOURS[0] if value == 0 else COLOURS[1 + (value - 1) % (len(COLOURS) - 1)])


def choose_slices(anatomy: np.ndarray, count: int) -> list[int]:
    """Choose up to ``count`` slices evenly among those that hold anatomy, or among all where none does.

    Args:
        anatomy: ``[Z, H, W]`` booleans.
        count: how many to choose; fewer come back where there are fewer.

    Returns:
        Slice numbers from 0, increasing: the middle of each of ``count`` equal runs of candidates.
    """
    holds = anatomy.any(axis=(1, 2))
    candidates = np.flatnonzero(holds if np.any(holds) else ~holds)
    count = min(count, len(candidates))
    return [int(candidates[int((run + 0.5) * len(candidates) / count)]) for run in range(count)]


def _check(image: np.ndarray, labels: dict[str, np.ndarray], *, num_classes: int, slices: int) -> None:
    if image.ndim != 3:
        raise UserError(f"image: shape {image.shape} is not that of a volume [X, Y, Z]")
    if any(type(number) is not int or number < 1 for number in (slices, num_classes)):
        raise UserError(f"slices: {slices!r}, num_classes: {num_classes!r}; give whole numbers from 1 on")
    for name, label in labels.items():
        if label.shape != image.shape:
            raise UserError(f"{name}: shape {label.shape} differs from the image's {image.shape}; is it the same case?")
        low, high, highest = label.min(), label.max(), num_classes if name == "scribble" else num_classes - 1
        if not (low >= 0 and high <= highest):
            raise UserError(f"{name}: has values from {low:g} to {high:g}, not 0 to {highest}; is num_classes right?")


def _upright(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Turn ``[X, Y, Z]`` into ``[Z, rows, columns]`` as radiologists look at it; return mm per row and column too.

    Head, else front, is up; the patient's right, else front, is on the left. Slices stay those of the last axis.
    """
    codes, spacing = nib.aff2axcodes(affine), nib.affines.voxel_sizes(affine).tolist()
    across, down = sorted((0, 1), key=lambda axis: "LRAPIS".index(codes[axis]))
    flips = [slice(None, None, -1 if codes[axis] in "RAS" else 1) for axis in (down, across)]
    return volume.transpose(2, down, across)[:, *flips], spacing[down], spacing[across]


def _crop(masks: list[np.ndarray], *, margin: tuple[float, float]) -> tuple[slice, slice]:
    """The rows and columns that masks ``[Z, H, W]`` cover in any slice, and ``margin`` pixels more; all where none."""
    places = np.concatenate([np.argwhere(mask)[:, 1:] for mask in masks])
    if not len(places):
        return slice(None), slice(None)
    first = np.maximum(places.min(axis=0) - np.ceil(margin), 0).astype(int)
    last = (places.max(axis=0) + np.ceil(margin)).astype(int)
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1)


def _grid(rows: int, columns: int, *, size_mm: tuple[float, float], title: str, legend: bool) -> tuple[Figure, Any]:
    """A figure of bare cells of the given width and height, close together, with room around for the words."""
    scale = min(MAX_CELL_INCHES[0] / size_mm[0], MAX_CELL_INCHES[1] / size_mm[1])
    cell = (size_mm[0] * scale, size_mm[1] * scale)
    gap, left, top, bottom = 0.04, 0.3, 0.55 if title else 0.3, 0.4 if legend else 0.05
    width, height = left + columns * (cell[0] + gap), top + rows * (cell[1] + gap) - gap + bottom
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left / width, bottom / height, 1 - gap / width, 1 - top / height)
    figure.subplots_adjust(wspace=gap / cell[0], hspace=gap / cell[1])
    figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=11, fontweight="bold")
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    return figure, figure.subplots(rows, columns, squeeze=False, subplot_kw=bare)


def _paint(axes: Axes, values: np.ndarray, alpha: np.ndarray, shape: tuple[int, ...]) -> None:
    """Lay class colours over the pixels of a slice of ``shape``; ``values`` and ``alpha`` may be finer than it."""
    colours = np.array([class_colour(value) for value in range(int(values.max()) + 1)])
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    axes.imshow(np.dstack([colours[values], alpha]), aspect="auto", interpolation="nearest", extent=extent)


def _paint_scribble(axes: Axes, label: np.ndarray, num_classes: int) -> None:
    """Paint strokes opaquely, a third of a pixel wider to each side; where strokes meet, neither covers the other."""
    fine = label.astype(int).repeat(3, axis=0).repeat(3, axis=1)
    if (fine < num_classes).any():
        distance, nearest = ndimage.distance_transform_edt(fine == num_classes, return_indices=True)
        _paint(axes, fine[tuple(nearest)], (distance <= 1).astype(float), label.shape)


def _paint_mask(axes: Axes, label: np.ndarray, num_classes: int) -> None:
    """Fill the classes lightly and draw their outlines."""
    _paint(axes, label.astype(int), np.where(label > 0, 0.4, 0.0), label.shape)
    for value in range(1, num_classes):
        if (label == value).any() and min(label.shape) > 1:
            axes.contour(label == value, levels=[0.5], colors=[class_colour(value)], linewidths=1.2)


def _read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a NIfTI file's voxels ``[X, Y, Z]`` (2D: one slice) and affine in mm."""
    volume = read_checked_volume(path)
    if not path.endswith(NIFTI_EXTENSIONS) or volume.channels != 1 or not volume.data.size:
        raise UserError(f"{path}: holds {volume.data.shape}; give a NIfTI file of a volume [X, Y, Z] or a slice [X, Y]")
    if "?" in volume.orientation:
        raise UserError(f"{path}: its affine does not say where the voxels lie, it is singular; correct the header")
    return volume.data.reshape(volume.shape + (1,) * (3 - len(volume.shape))), volume.affine


def main(
    *,
    image: str,
    output: str,
    scribble: str | None = None,
    prediction: str | None = None,
    reference: str | None = None,
    num_classes: int = 4,
    class_names: str | Sequence[str] | None = None,
    title: str = "",
    slices: int = 3,
) -> None:
    """Draw a case as a PNG: a row for each slice, a column for the image and for each label (all NIfTI) given.

    Args:
        image: the image.
        output: the PNG to write.
        scribble: scribbles, where the value C means not annotated.
        prediction: a segmentation with values 0..C-1.
        reference: the expert's segmentation with values 0..C-1.
        num_classes: C, background included.
        class_names: C names for the legend, background first, with commas between them.
        title: a line above the picture.
        slices: how many slices to draw.
    """
    files = {"scribble": scribble, "prediction": prediction, "reference": reference}
    volume, affine = _read(image)
    options: dict[str, Any] = {"num_classes": num_classes, "title": str(title), "slices": slices}
    options["class_names"] = class_names.split(",") if isinstance(class_names, str) else class_names
    for name, file in [(name, file) for name, file in files.items() if file is not None]:
        options[name], place = _read(file)
        if options[name].shape == volume.shape and affine_gap(place, affine) > AFFINE_TOLERANCE:
            raise UserError(f"{file}: lies elsewhere than {image}, their affines differ; is it the same case?")
    print(save_figure(draw_case(volume, affine, **options), output))
