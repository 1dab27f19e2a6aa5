"""Surface distances between binary masks in mm, by the definitions behind the published HD95 tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects, generate_binary_structure
from scipy.spatial import KDTree

from ..errors import UserError

__all__ = ["assd", "checked_spacing", "hd95", "hd95_and_assd", "surface_distances"]

_VOXELS_A_POINT = 40
"""Voxels of the joint bounding box for each surface voxel, beyond which a search among the points is the faster way."""


def surface_distances(a: ArrayLike, b: ArrayLike, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Measure how far each surface voxel of one mask lies from the surface of the other, in both directions.

    The surface of a mask is the mask minus its erosion with the 1-connected (face) neighbourhood, where everything
    outside the image counts as background: a mask voxel at the image border is a surface voxel. This is the
    definition of the ``medpy`` package, on which the published numbers rest.

    Args:
        a: mask ``[H, W, D]`` or ``[H, W]``; non-zero means inside.
        b: mask of the same shape.
        spacing: voxel size in mm along each axis of the masks, in the order of the axes.

    Returns:
        The distances in mm from the surface of ``a`` to that of ``b`` and from the surface of ``b`` to that of ``a``,
        one value per surface voxel, in the order in which the voxels lie in memory.

    Raises:
        UserError: the shapes differ, or the spacing is not one positive number per axis.
        ValueError: one of the masks is empty, so that it has no surface.
    """
    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if first.shape != second.shape:
        raise UserError(f"the masks have different shapes, {first.shape} and {second.shape}: put them on one grid")
    sampling = checked_spacing(spacing, first.ndim)
    if not first.any() or not second.any():
        raise ValueError("an empty mask has no surface to measure from")

    # Outside the joint bounding box both masks are background, as is everything beyond the image: erosion and
    # distances come out the same inside the box, at a fraction of the cost.
    box = find_objects((first | second).astype(np.uint8))[0]
    edge_first, edge_second = _surface(first[box]), _surface(second[box])
    if edge_first.size > _VOXELS_A_POINT * (np.count_nonzero(edge_first) + np.count_nonzero(edge_second)):
        # A few specks far from the organ blow the box up; a distance transform pays for all of its voxels.
        points_first, points_second = np.argwhere(edge_first) * sampling, np.argwhere(edge_second) * sampling
        return KDTree(points_second).query(points_first)[0], KDTree(points_first).query(points_second)[0]
    to_second = distance_transform_edt(~edge_second, sampling=sampling)[edge_first]
    to_first = distance_transform_edt(~edge_first, sampling=sampling)[edge_second]
    return to_second, to_first


def hd95(a: ArrayLike, b: ArrayLike, spacing: Sequence[float]) -> float:
    """Return the 95th percentile Hausdorff distance in mm.

    It is the 95th percentile (linear interpolation) of both directed sets of surface distances **pooled**, as in
    ``medpy``. MONAI's ``HausdorffDistanceMetric`` takes the larger of the two directed percentiles instead.

    Args:
        a: mask ``[H, W, D]`` or ``[H, W]``.
        b: mask of the same shape.
        spacing: voxel size in mm along each axis.

    Returns:
        The distance in mm, 0 for equal surfaces.

    Raises:
        UserError: see :func:`surface_distances`.
        ValueError: one of the masks is empty.
    """
    return hd95_and_assd(a, b, spacing)[0]


def assd(a: ArrayLike, b: ArrayLike, spacing: Sequence[float]) -> float:
    """Return the average symmetric surface distance in mm: the mean of the two directed means, as in ``medpy``.

    Args:
        a: mask ``[H, W, D]`` or ``[H, W]``.
        b: mask of the same shape.
        spacing: voxel size in mm along each axis.

    Returns:
        The distance in mm, 0 for equal surfaces.

    Raises:
        UserError: see :func:`surface_distances`.
        ValueError: one of the masks is empty.
    """
    return hd95_and_assd(a, b, spacing)[1]


def hd95_and_assd(a: ArrayLike, b: ArrayLike, spacing: Sequence[float]) -> tuple[float, float]:
    """Return :func:`hd95` and :func:`assd` from one computation of the surface distances.

    Args:
        a: mask ``[H, W, D]`` or ``[H, W]``.
        b: mask of the same shape.
        spacing: voxel size in mm along each axis.

    Returns:
        HD95 and average symmetric surface distance, both in mm.

    Raises:
        UserError: see :func:`surface_distances`.
        ValueError: one of the masks is empty.
    """
    forth, back = surface_distances(a, b, spacing)
    return float(np.percentile(np.concatenate([forth, back]), 95)), float((forth.mean() + back.mean()) / 2)


def checked_spacing(spacing: Sequence[float], ndim: int) -> np.ndarray:
    """Return the voxel size as an array ``[ndim]`` of mm.

    Args:
        spacing: voxel size in mm along each axis.
        ndim: number of axes of the image.

    Raises:
        UserError: the spacing is not one positive, finite number per axis.
    """
    size = np.asarray(spacing, dtype=float)
    if size.shape != (ndim,) or not (np.isfinite(size).all() and (size > 0).all()):
        raise UserError(f"the spacing must be {ndim} positive numbers in mm, got {list(spacing)}: check the header")
    return size


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~binary_erosion(mask, generate_binary_structure(mask.ndim, 1), border_value=0)
