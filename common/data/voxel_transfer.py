"""Bringing a label map to the grid of its image where the voxels of the two coincide: each keeps its value."""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np

from ..errors import UserError
from ..files import NIFTI_EXTENSIONS
from ..transforms.volume_axes import AFFINE_TOLERANCE, affine_gap
from .itk_header import ITK_EXTENSIONS, read_itk_header
from .label_volume import Grid
from .library_noise import quiet_readers

__all__ = ["lies_on_image", "onto_grid", "onto_image"]

_TOLERANCE = 0.1
"""How far a voxel may lie beside one of the image, in the image's voxels."""


def onto_image(
    layers: np.ndarray, source: Grid, grid: Grid, *, label: str | os.PathLike[str], image: str | os.PathLike[str]
) -> np.ndarray:
    """Put the voxels of a label map where they lie in the image that it was drawn on.

    Of a NIfTI file whose header does not say where its voxels lie, or says it twice and differently, 3D Slicer and
    ITK-SNAP, which read with ITK, take another grid than nibabel, whose grids this project works with. The order of the
    voxels is the same.

    Args:
        layers: see :func:`onto_grid`.
        source: their grid.
        grid: the image's grid.
        label: file of the label map.
        image: file of the image, or the folder of a DICOM series.

    Returns:
        See :func:`onto_grid`.

    Raises:
        UserError: see :func:`onto_grid`.
    """
    drawn_on = _grid_by_itk(image, grid)
    if _is_same(source, drawn_on) or os.fspath(label).lower().endswith(ITK_EXTENSIONS):
        return onto_grid(layers, source, drawn_on)
    try:
        return onto_grid(layers, source, grid)
    except UserError:
        with suppress(UserError):
            return onto_grid(layers, source, drawn_on)
        raise


def lies_on_image(source: Grid, grid: Grid, image: str | os.PathLike[str]) -> bool:
    """Whether a label map has the grid of its image, as nibabel or as ITK reads it, see :func:`onto_image`.

    Its voxels then are the image's, one by one.

    Args:
        source: the label map's grid.
        grid: the image's grid.
        image: file of the image.
    """
    return _is_same(source, grid) or _is_same(source, _grid_by_itk(image, grid))


def _is_same(first: Grid, second: Grid) -> bool:
    return first.shape == second.shape and affine_gap(first.affine, second.affine) <= AFFINE_TOLERANCE


def _grid_by_itk(image: str | os.PathLike[str], grid: Grid) -> Grid:
    """Where ITK takes the voxels of a NIfTI volume to lie; of any other image, or one ITK refuses, its grid."""
    if not os.fspath(image).lower().endswith(NIFTI_EXTENSIONS):
        return grid
    try:
        with quiet_readers():
            header = read_itk_header(image)
    except RuntimeError:
        return grid
    # of a slice ITK drops what 3D Slicer, which reads it as a volume, keeps
    return grid if len(header.shape) < 3 else grid._replace(affine=header.affine)


def onto_grid(layers: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Put the voxels of a label map where they lie in the image.

    Programs crop a segmentation to what is drawn, and write axes in an order and direction of their own. Neither
    changes where the voxels lie, so nothing is resampled.

    Args:
        layers: values [L, X, Y, Z] of L layers, 0 being "not annotated".
        source: their grid.
        target: the image's grid.

    Returns:
        The values [L, X', Y', Z'] on the image's grid, Z' being 1 of a two-dimensional image; 0 where the label map
        does not reach.

    Raises:
        UserError: the voxels do not coincide, or something is drawn outside of the image.
    """
    size, extent = np.array(layers.shape[1:]), np.array((*target.shape, 1)[:3])
    matrix = np.linalg.solve(target.affine, source.affine)
    axes, signs = _nearest_turn(matrix[:3, :3], size)
    start = np.rint(matrix[:3, 3]).astype(int)
    turn = np.zeros((3, 3))
    turn[axes, np.arange(3)] = signs
    corners = np.array(np.meshgrid(*[(0, last) for last in size - 1])).reshape(3, -1)
    gap = float(np.abs((matrix[:3, :3] - turn) @ corners + (matrix[:3, 3] - start)[:, None]).max())
    if not gap <= _TOLERANCE:
        raise UserError(
            f"its voxels are up to {gap:.2g} voxels beside the image's; export it on the image's grid (in 3D Slicer: "
            "with the image as reference volume)"
        )
    order = np.argsort(axes)
    turned = layers.transpose(0, *(order + 1))
    turned = np.flip(turned, tuple(1 + axis for axis in range(3) if signs[order[axis]] < 0))
    size = size[order]
    first = np.where(signs[order] < 0, start - size + 1, start)
    low, high = np.clip(first, 0, extent), np.clip(first + size, 0, extent)
    high = np.maximum(low, high)
    inside = (slice(None), *map(slice, low - first, high - first))
    placed = np.zeros((len(layers), *extent), layers.dtype)
    placed[(slice(None), *map(slice, low, high))] = turned[inside]
    outside = np.count_nonzero(layers) - np.count_nonzero(placed)
    if outside:
        raise UserError(f"{outside} of its voxels lie outside of the image; is it the drawing of another image?")
    return placed


def _nearest_turn(matrix: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each axis of a label map the image's axis that it runs along, and whether with it, 1, or against it, -1.

    An axis of one voxel has no direction; it gets the axis that is left over.
    """
    axes, signs = np.full(3, -1), np.ones(3, int)
    for axis in sorted(range(3), key=lambda axis: size[axis] == 1):
        free = [other for other in range(3) if other not in axes]
        axes[axis] = free[int(np.argmax(np.abs(matrix[free, axis])))]
        if size[axis] > 1 and matrix[axes[axis], axis] < 0:
            signs[axis] = -1
    return axes, signs
