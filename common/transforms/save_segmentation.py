"""Write predicted label maps on the grid of the images that they belong to."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection, PathLike
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import SaveImaged
from monai.utils import ImageMetaKey, MetaKeys
from PIL import Image

from ..errors import UserError
from ..files import NIFTI_EXTENSIONS, atomic_file
from .volume_axes import AFFINE_TOLERANCE, affine_gap

__all__ = ["SaveSegmentationd", "segmentation_path"]

logger = logging.getLogger(__name__)

# what a NIfTI header says of the place of its voxels, beside their size
_PLACE = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)


def segmentation_path(
    image: PathLike, *, output_dir: PathLike, data_root_dir: PathLike, output_postfix: str = "seg"
) -> Path:
    """Name the label map of an image.

    It is ``<output_dir>/<folders below data_root_dir>/<case>_<output_postfix><extension>``, with the extension ``.png``
    for a PNG image and ``.nii.gz`` for all others.

    Args:
        image: path of the image file.
        output_dir: folder that the label maps go to.
        data_root_dir: a folder above the image, or the image itself.
        output_postfix: what follows the case's name.

    Returns:
        The path; nothing is created.

    Raises:
        UserError: if the image lies outside ``data_root_dir``.
    """
    root = os.path.abspath(os.path.expanduser(data_root_dir))
    folder, name = os.path.split(os.path.abspath(os.path.expanduser(image)))
    relative = os.path.relpath(folder, os.path.dirname(root) if os.path.isfile(root) else root)
    if relative.split(os.sep)[0] == os.pardir:
        raise UserError(f"{image} lies outside data_root_dir {root}: name a folder that holds all images")
    case, extension = os.path.splitext(name)
    if extension.lower() == ".gz":
        case, extension = os.path.splitext(case)
    extension = ".png" if extension.lower() == ".png" else ".nii.gz"
    return Path(os.path.expanduser(output_dir), relative, f"{case}_{output_postfix}{extension}")


class SaveSegmentationd(SaveImaged):
    """Save label maps as uint8 NIfTI files, or as PNG files of class indices where the image is a PNG file.

    Shape and affine of the file are those of the image, so the prediction has to be inverted (``Invertd``) first; the
    image's file name comes from the prediction's metadata. Where that is a NIfTI file, all that its header says of the
    place of the voxels is repeated, so that every program sees both in one place. Each file is written to a temporary
    name in its folder and renamed, so a file that exists is complete; an older one is replaced. Names: see
    :func:`segmentation_path`.

    It is a ``SaveImaged`` so that programs which take a bundle's writers away and save by themselves, as MONAI Label
    does, recognise it. Building the transform touches no folder.

    Args:
        keys: label maps ``[1, H, W, D]`` or ``[1, H, W]``, each a ``MetaTensor`` with integer values 0 to 255.
        output_dir: folder that the label maps go to.
        data_root_dir: folder above all images; the folders below it are repeated in ``output_dir``.
        output_postfix: what follows the case's name.
        allow_missing_keys: skip absent keys.

    Raises:
        UserError: if a label map is not on the image's grid, holds other values, or cannot be written.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        output_dir: PathLike,
        data_root_dir: PathLike,
        output_postfix: str = "seg",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys,
            output_dir=str(output_dir),
            output_postfix=output_postfix,
            output_dtype=np.uint8,
            resample=False,
            data_root_dir=str(data_root_dir),
            separate_folder=False,
            print_log=False,
            allow_missing_keys=allow_missing_keys,
        )
        self.output_dir = output_dir
        self.data_root_dir = data_root_dir
        self.output_postfix = output_postfix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write every key and return the item unchanged."""
        item = dict(data)
        for key in self.key_iterator(item):
            self._save(item[key], key)
        return item

    def _save(self, prediction: Any, key: Hashable) -> None:
        image = prediction.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(prediction, MetaTensor) else None
        if image is None:
            raise UserError(f"{key!r} carries no file name to save it under: put Invertd before SaveSegmentationd")
        _check_grid(prediction, str(image))
        labels = _as_uint8(prediction, str(image))
        path = segmentation_path(
            image,
            output_dir=self.output_dir,
            data_root_dir=self.data_root_dir,
            output_postfix=self.output_postfix,
        )
        extension = ".png" if path.suffix == ".png" else ".nii.gz"
        with atomic_file(path) as temporary:
            if extension == ".png":
                Image.fromarray(labels.T).save(temporary)
            else:
                nib.save(_nifti(labels, prediction.affine.numpy(), _image_header(prediction, str(image))), temporary)
        logger.info("wrote %s", path)


def _check_grid(prediction: MetaTensor, image: str) -> None:
    shape, affine = prediction.meta.get(MetaKeys.SPATIAL_SHAPE), prediction.meta.get(MetaKeys.ORIGINAL_AFFINE)
    same_shape = shape is None or list(shape) == list(prediction.shape[1:])
    if not same_shape or (affine is not None and affine_gap(affine, prediction.affine) > AFFINE_TOLERANCE):
        raise UserError(
            f"the prediction {tuple(prediction.shape[1:])} is not on the grid of {image}: "
            "give Invertd the whole preprocessing, before SaveSegmentationd"
        )


def _as_uint8(prediction: MetaTensor, image: str) -> np.ndarray:
    values = prediction.as_tensor().cpu().numpy()
    labels = values.astype(np.uint8)
    if len(values) != 1 or not np.array_equal(labels, values):
        raise UserError(f"the prediction for {image} is no map of class indices: put AsDiscreted(argmax) before saving")
    return labels[0]


def _image_header(prediction: MetaTensor, image: str) -> nib.Nifti1Header | None:
    """The header of a NIfTI image whose voxels are the prediction's, one by one, as far as is known."""
    is_checked = prediction.meta.get(MetaKeys.ORIGINAL_AFFINE) is not None
    if not is_checked or not image.lower().endswith(NIFTI_EXTENSIONS) or not os.path.isfile(image):
        return None
    file = nib.load(image)
    if not isinstance(file, nib.Nifti1Image) or file.shape[: prediction.ndim - 1] != prediction.shape[1:]:
        return None
    return file.header


def _nifti(labels: np.ndarray, affine: np.ndarray, of_image: nib.Nifti1Header | None) -> nib.Nifti1Image:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    if of_image is not None:
        # where a header tells two places or none, programs differ, but not between two files that tell the same
        for field in _PLACE:
            header[field] = of_image[field]
        header["pixdim"][:4] = of_image["pixdim"][:4]
        return nib.Nifti1Image(labels, None, header)
    header.set_xyzt_units("mm")
    file = nib.Nifti1Image(labels, to_affine_nd(3, affine), header)
    file.set_sform(file.affine, code="scanner")
    file.set_qform(file.affine, code="scanner")
    return file
