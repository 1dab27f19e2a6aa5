"""Turn every image so that its slices lie along the last axis, whatever the file's axis order."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing, to_affine_nd
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import ImageMetaKey, MetaKeys, TraceKeys

from ..errors import UserError
from .drawn_area import DRAWN_AREA, drawn_area
from .volume_axes import AFFINE_TOLERANCE, affine_gap, through_plane_axis

__all__ = ["OrientSlicesd"]

_IN_PLANE_ORDERS = ("radiological", "stored")


class OrientSlicesd(MapTransform, InvertibleTransform):
    """Put the through-plane axis last and give the two in-plane axes one direction in all cases.

    The through-plane axis (see :func:`~.volume_axes.through_plane_axis`) is moved, never flipped. With
    ``in_plane="radiological"`` the in-plane axes are ordered left/right before posterior/anterior before
    inferior/superior and flipped to run towards left, posterior and inferior, by the closest anatomical direction of
    each axis. With ``"stored"`` they keep the order and direction that they have in the file. Voxels are only permuted
    and flipped; the inverse restores voxels and affine bit by bit.

    A 2D image ``[C, H, W]`` becomes ``[C, H, W, 1]``, and the inverse takes the axis away again. The readers of picture
    formats (PNG, JPEG) store no ``original_affine``: such an image has pixels but no physical size and no anatomical
    directions, so its axes are left alone, and it takes the spacing ``pixdim`` so that a later ``Spacingd`` to the same
    ``pixdim`` keeps its pixels.

    Labels are turned as their image was (``like``), and take its affine: files of one grid differ in the last bits of
    their headers, and right at a threshold these would decide. How much is drawn of each value is noted in their
    metadata (see :func:`~.drawn_area.drawn_area`), so that it can be told what resampling and cropping leave of it.

    Args:
        keys: items to turn, each a ``MetaTensor`` ``[C, H, W, D]`` or ``[C, H, W]`` with an affine in mm and RAS+. Each
            key is turned by its own affine, unless ``like`` is given.
        in_plane: ``"radiological"`` or ``"stored"``.
        pixdim: the two in-plane spacings in mm of images that have none. None: 1 mm.
        like: key of an image on the grid of the keys, turned before; an item without it is turned by its own affine.
        allow_missing_keys: skip absent keys.

    Raises:
        UserError: for an unknown ``in_plane``, an image neither 2D nor 3D, an affine without three directions, or a key
            on another grid than ``like``.

    Example:
        >>> image = MetaTensor(torch.zeros(1, 8, 20, 30), affine=torch.diag(torch.tensor([9.0, 1.0, 1.0, 1.0])))
        >>> OrientSlicesd("image", in_plane="stored")({"image": image})["image"].shape
        torch.Size([1, 20, 30, 8])
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        in_plane: str = "radiological",
        pixdim: Sequence[float] | None = None,
        like: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if in_plane not in _IN_PLANE_ORDERS:
            raise UserError(f"orientation is {in_plane!r}: choose one of {', '.join(_IN_PLANE_ORDERS)}")
        if pixdim is not None and (len(pixdim) != 2 or min(pixdim) <= 0):
            raise UserError(f"pixdim is {list(pixdim)}: give two positive in-plane spacings in mm")
        self.in_plane = in_plane
        self.pixdim = None if pixdim is None else (float(pixdim[0]), float(pixdim[1]))
        self.like = like

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with every key turned; see the class."""
        turned = dict(data)
        for key in self.key_iterator(turned):
            turned[key] = self._turn(turned[key], None if self.like is None else turned.get(self.like))
        return turned

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with every key back on the axes of its file, with the file's affine."""
        restored = dict(data)
        for key in self.key_iterator(restored):
            restored[key] = self._turn_back(restored[key])
        return restored

    def _turn(self, image: MetaTensor, like: MetaTensor | None) -> MetaTensor:
        if not isinstance(image, MetaTensor):
            raise TypeError(f"OrientSlicesd needs a MetaTensor, as LoadImaged gives it, not {type(image).__name__}")
        original_size, original_affine = list(image.shape[1:]), image.affine.clone()
        extra = self._plan(image) if like is None else _plan_of(like, image)
        order, flips = extra["order"], extra["flips"]
        moves = np.array([[order.index(axis), -1 if axis in flips else 1] for axis in range(3)])
        voxels = image.as_tensor() if image.ndim == 4 else image.as_tensor()[..., None]
        affine = extra["affine"] @ nib.orientations.inv_ornt_aff(moves, voxels.shape[1:])
        voxels = voxels.flip([axis + 1 for axis in flips]).permute(0, *(axis + 1 for axis in order)).contiguous()
        turned = MetaTensor(voxels, meta=image.meta, applied_operations=image.applied_operations)
        turned = self.push_transform(
            turned, orig_size=original_size, extra_info={**extra, "original_affine": original_affine}
        )
        turned.affine = torch.as_tensor(affine)
        if like is not None:
            turned.meta[DRAWN_AREA] = drawn_area(voxels.movedim(-1, 0), affine)
        return turned

    def _plan(self, image: MetaTensor) -> dict[str, Any]:
        """The order of the axes, those that are flipped, and the affine of the volume, by the image's own affine."""
        name = _name(image)
        if image.ndim not in (3, 4):
            raise UserError(f"{name} has {image.ndim - 1} spatial axes: only 2D and 3D images can be segmented")
        has_directions = image.ndim == 4 or MetaKeys.ORIGINAL_AFFINE in image.meta
        affine = to_affine_nd(3, image.affine.numpy())
        if not has_directions and self.pixdim is not None:
            affine = np.diag([*self.pixdim, 1.0, 1.0])
        if not np.isfinite(affine).all() or np.isnan(orientation := nib.io_orientation(affine)).any():
            raise UserError(f"{name} has an affine without three directions: correct its header")
        through_plane = through_plane_axis(affine_to_spacing(affine).tolist(), _volume_shape(image.shape[1:]))
        order = [axis for axis in range(3) if axis != through_plane]
        flips: list[int] = []
        if has_directions and self.in_plane == "radiological":
            order.sort(key=lambda axis: orientation[axis, 0])
            flips = [axis for axis in order if orientation[axis, 1] > 0]
        order.append(through_plane)
        return {"order": order, "flips": flips, "affine": affine, "has_directions": has_directions}

    def _turn_back(self, image: MetaTensor) -> MetaTensor:
        trace = self.pop_transform(image)
        extra = trace[TraceKeys.EXTRA_INFO]
        positions = [extra["order"].index(axis) for axis in range(3)]
        voxels = image.as_tensor().permute(0, *(position + 1 for position in positions))
        voxels = voxels.flip([axis + 1 for axis in extra["flips"]])
        if len(trace[TraceKeys.ORIG_SIZE]) == 2:
            voxels = voxels[..., 0]
        restored = MetaTensor(voxels.contiguous(), meta=image.meta, applied_operations=image.applied_operations)
        restored.affine = extra["original_affine"].clone()
        return restored


def _plan_of(like: MetaTensor, image: MetaTensor) -> dict[str, Any]:
    """How ``like`` was turned, if it lies on the grid of ``image``."""
    trace = next(
        (each for each in like.applied_operations if each[TraceKeys.CLASS_NAME] == OrientSlicesd.__name__), None
    )
    if trace is None:
        raise ValueError("the image that labels are to be turned like has not been turned by OrientSlicesd")
    extra = trace[TraceKeys.EXTRA_INFO]
    fix = f"save it on the grid of {_name(like)}"
    shape, of_image = _volume_shape(image.shape[1:]), _volume_shape(trace[TraceKeys.ORIG_SIZE])
    if shape != of_image:
        raise UserError(f"{_name(image)}: shape {shape} differs from the image's {of_image}; {fix}")
    gap = affine_gap(to_affine_nd(3, image.affine.numpy()), extra["affine"])
    if extra["has_directions"] and gap > AFFINE_TOLERANCE:
        raise UserError(
            f"{_name(image)}: affine differs from the image's by {gap:.3f} mm (tolerance {AFFINE_TOLERANCE} mm); {fix}"
        )
    return {key: extra[key] for key in ("order", "flips", "affine", "has_directions")}


def _volume_shape(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape) if len(shape) == 3 else (*shape, 1)


def _name(image: MetaTensor) -> str:
    return str(image.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "an image in memory"))
