"""Loading labels as the first step of their preprocessing, those with named segments in this project's convention."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, MetaKeys

from ..errors import UserError
from ..transforms.coarse_labels_dictionary import UNKNOWN
from .named_labels import NamedLabel, read_named_label
from .volume_loading import volume_loader

__all__ = ["LoadLabelsd"]


class LoadLabelsd(MapTransform):
    """Load label maps, as :class:`~common.data.volume_loading.LoadImagesd` does where their values are this project's.

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
        self.load = volume_loader()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with labels ``[A, ...]`` of A annotators, mostly one, as float32 with their grid."""
        item = dict(data)
        for key in self.key_iterator(dict(data)):
            files = data[key] if isinstance(data[key], (list, tuple)) else [data[key]]
            named = [read_named_label(file, image=_file(data.get(self.image)), **self.options) for file in files]
            if not any(named):
                item[key] = self.load(files)
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
