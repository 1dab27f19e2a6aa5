"""Loading labels as the first step of their preprocessing, those with named segments in this project's convention."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import LoadImage, MapTransform
from monai.utils import ImageMetaKey, MetaKeys

from ..errors import UserError
from ..transforms.coarse_labels_dictionary import UNKNOWN
from ..transforms.volume_axes import AFFINE_TOLERANCE, affine_gap
from .itk_header import ITK_EXTENSIONS
from .named_labels import NamedLabel, read_named_label
from .volume_reader import read_volume

__all__ = ["LoadLabelsd"]


class LoadLabelsd(MapTransform):
    """Load label maps, as MONAI's ``LoadImaged`` does where their values are this project's.

    NRRD and MetaImage files may hold whole numbers of any size, some of which ``LoadImaged`` cannot read.

    Labels of a MONAI Label datastore, and NRRD files that describe their segments, are mapped by the names of the
    classes, see :func:`~common.data.named_labels.read_named_label`.

    Args:
        keys: keys of the label files; of plain ones a value may be a list of files of several annotators.
        class_names: names of the C classes, class 0 (background) first.
        num_classes: number of classes C that the run is set to.
        coarse: whether labels are coarse drawings, see :func:`~common.data.named_labels.read_named_label`.
        complement: key for the negative drawing of a coarse label; a file without a positive one then leaves no
            label. None takes negative drawings for "not annotated".
        image: key of the image that the label is of, which may be loaded already.
        allow_missing_keys: skip absent keys.

    Raises:
        UserError: see :func:`~common.data.named_labels.read_named_label`; or a file cannot be read, or lies on another
            grid than that of the first annotator.
    """

    def __init__(
        self,
        keys: KeysCollection,
        class_names: Sequence[str],
        *,
        num_classes: int,
        coarse: bool = False,
        complement: str | None = None,
        image: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.options: dict[str, Any] = {"class_names": class_names, "num_classes": num_classes, "coarse": coarse}
        self.complement = complement
        self.image = image
        self.load = LoadImage(ensure_channel_first=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with labels ``[A, ...]`` of A annotators, mostly one, as float32 with their grid."""
        item = dict(data)
        for key in self.key_iterator(dict(data)):
            files = data[key] if isinstance(data[key], (list, tuple)) else [data[key]]
            named = [read_named_label(file, image=_file(data.get(self.image)), **self.options) for file in files]
            if not any(named):
                item[key] = self._plain(files)
                continue
            if len(files) > 1 or key == self.complement or named[0] is None:
                raise UserError(
                    f"{files[0]}: the segments of {len(files)} files of an item have names; bring such labels to this "
                    "project's values with `python -m tools import_labels`"
                )
            del item[key]
            affine, drawings = named[0].grid.affine, self._drawings(key, named[0])
            item |= {name: _tensor(drawn[None], affine, files[0]) for name, drawn in drawings.items()}
        return item

    def _plain(self, files: Sequence[str | os.PathLike[str]]) -> MetaTensor:
        names = [os.path.expanduser(file) for file in files]
        if not all(name.lower().endswith(ITK_EXTENSIONS) for name in names):
            return self.load(names)
        volumes = [read_volume(name) for name in names]
        first = volumes[0]
        for name, volume in zip(names, volumes, strict=True):
            gap = affine_gap(volume.affine, first.affine)
            if volume.data.shape != first.data.shape or gap > AFFINE_TOLERANCE:
                raise UserError(f"{name}: lies on another grid than {names[0]}; save both on the grid of their image")
        affine = to_affine_nd(len(first.shape), first.affine)
        return _tensor(np.stack([volume.data for volume in volumes]), affine, names[0])

    def _drawings(self, key: Hashable, named: NamedLabel) -> dict[Hashable, np.ndarray]:
        num_classes = self.options["num_classes"]
        if self.complement is None:
            nothing = np.full(named.grid.shape, num_classes, np.uint8)
            return {key: nothing if named.label is None else named.label}
        found: dict[Hashable, np.ndarray | None] = {key: named.label, self.complement: named.complement}
        if named.label is not None and named.says_background:
            found[UNKNOWN] = named.label == num_classes
        return {name: drawn for name, drawn in found.items() if drawn is not None}


def _file(image: Any) -> str | None:
    """The file of an image, loaded or not."""
    name = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(image, MetaTensor) else image
    return os.fspath(name) if isinstance(name, (str, os.PathLike)) else None


def _tensor(drawn: np.ndarray, affine: np.ndarray, file: str | os.PathLike[str]) -> MetaTensor:
    """The voxels [A, ...] with their grid; masks remain masks."""
    voxels = torch.as_tensor(drawn if drawn.dtype == bool else drawn.astype(np.float32))
    meta = {ImageMetaKey.FILENAME_OR_OBJ: file, MetaKeys.ORIGINAL_AFFINE: affine}
    return MetaTensor(voxels, affine=torch.as_tensor(affine), meta=meta)
