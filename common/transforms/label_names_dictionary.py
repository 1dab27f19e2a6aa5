"""Mapping labels by the names of the classes as a step of a preprocessing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, convert_to_dst_type, convert_to_numpy

from ..errors import UserError
from .label_names import check_class_names, map_labels_by_name
from .named_segments import Segment, segments_of

__all__ = ["MapLabelsByNamed"]


class MapLabelsByNamed(MapTransform):
    """Map label maps of ITK-SNAP, 3D Slicer and other programs by name, see :func:`~.label_names.map_labels_by_name`.

    It belongs directly behind the loading: where a label has to be brought to its image's grid, its 0, "not annotated",
    still is the value that resampling fills with.

    Args:
        keys: keys of the label maps ``[L, ...]``.
        class_names: names of the C classes, class 0 (background) first.
        names: the value of each name. None reads them from the metadata of a ``.seg.nrrd`` file.
        complement: key for the negative drawing of coarse labels, added where there is one.
        allow_missing: see :func:`~.label_names.map_labels_by_name`.
        allow_missing_keys: skip absent keys.

    Raises:
        UserError: see :func:`~.label_names.map_labels_by_name`; the line begins with the file's name.
    """

    def __init__(
        self,
        keys: KeysCollection,
        class_names: Sequence[str],
        *,
        names: Mapping[str, int] | None = None,
        complement: str = "complement",
        allow_missing: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.class_names = list(class_names)
        self.names = None if names is None else dict(names)
        self.complement = complement
        self.allow_missing = allow_missing
        check_class_names(self.class_names)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with labels ``[1, ...]``, in the given type and with the given metadata."""
        item = dict(data)
        for key in self.key_iterator(item):
            given = item[key]
            layers, metadata = convert_to_numpy(given), getattr(given, "meta", {})
            table = [Segment(name, value) for name, value in (self.names or {}).items()]
            try:
                segments = segments_of(metadata, len(layers)) if self.names is None else table
                if not segments:
                    raise UserError("the file names no segments; give the transform names")
                maps = map_labels_by_name(
                    layers,
                    segments,
                    self.class_names,
                    all_segments=self.names is None,
                    allow_missing=self.allow_missing,
                )
            except UserError as error:
                raise UserError(f"{metadata.get(ImageMetaKey.FILENAME_OR_OBJ, key)}: {error}") from error
            del item[key]
            for name, drawn in zip((key, self.complement), maps, strict=True):
                if drawn is not None:
                    item[name] = convert_to_dst_type(drawn[None], given)[0]
        return item
