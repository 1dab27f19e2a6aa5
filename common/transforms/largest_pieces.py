"""Keeping the largest connected pieces of a segmentation and dropping stray ones."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import KeepLargestConnectedComponent, MapTransform, Transform
from monai.utils import convert_to_dst_type

__all__ = ["KeepLargestPieces", "KeepLargestPiecesd"]


class KeepLargestPieces(Transform):
    """Keep the largest connected pieces of all classes together, then of each class within what is left.

    Voxels are connected where they share a face, an edge or a corner, so that neighbouring slices count. What is
    dropped becomes background. A network that learned from scribbles often finds its organ and calls other tissue so
    as well, far from it: no stroke said otherwise there.

    Args:
        num_classes: number of classes C, class 0 the background.
        bodies: pieces of all classes together to keep, 1 where they form one body as the parts of a heart do; None
            keeps all of them.
        components: pieces of each class to keep, such as 2 of kidneys; None keeps all of them.
    """

    def __init__(self, num_classes: int, *, bodies: int | None = None, components: int | None = None) -> None:
        self.steps = [
            KeepLargestConnectedComponent(
                range(1, num_classes), is_onehot=False, independent=of_each, num_components=number
            )
            for of_each, number in ((False, bodies), (True, components))
            if number is not None
        ]

    def __call__(self, labels: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the index map ``[1, H, W]`` or ``[1, H, W, D]`` without the other pieces, in the same type.

        Probabilities ``[C, ...]`` pass as they are: a program that wants them takes them from the same chain.
        """
        if not self.steps or len(labels) > 1:
            return labels
        kept = copy.deepcopy(labels)  # MONAI's transform works in place
        for step in self.steps:
            kept = step(kept)
        return convert_to_dst_type(kept, labels)[0]


class KeepLargestPiecesd(MapTransform):
    """The same of items: the arguments are those of :class:`KeepLargestPieces`.

    Args:
        keys: keys of the index maps.
        num_classes: number of classes C.
        bodies: pieces of all classes together to keep.
        components: pieces of each class to keep.
        allow_missing_keys: let items without a map pass.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        *,
        bodies: int | None = None,
        components: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.keep = KeepLargestPieces(num_classes, bodies=bodies, components=components)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the largest pieces of its maps alone."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.keep(item[key])
        return item
