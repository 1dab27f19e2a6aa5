"""Slices of cached volumes, served as whole batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from .batch_shares import BatchShares
from .kept_drawings import KeptDrawings

__all__ = ["SliceDataset", "slice_loader"]

logger = logging.getLogger(__name__)


class SliceDataset(Dataset):
    """All slices of a list of volumes, each volume read and preprocessed once and kept in memory.

    A batch is one indexing operation into the stacked slices: ``dataset.__getitems__([3, 17, ...])`` returns
    ``{"image": [B, C, H, W] float32, "label": [B, 1, H, W] uint8, "case": ["<case>, slice <z>", ...]}`` with the keys
    that were asked for. Shuffling the indices shuffles over all slices of all volumes.

    An item with ``"frames": "all"`` is a cine series ``[T, H, W, D]``, every frame of which counts as a volume. Where
    ``"label"`` lists the files of several annotators, each has a channel of its own: ``label`` is ``[B, A, H, W]``.
    Dense masks (``"supervision": "dense"``) beside scribbles have the last channel to themselves. A channel that an
    item does not fill is not annotated, so that a loss can weigh each kind of annotation by itself and sum.

    ``"complement"`` is asked for beside ``"label"`` for coarse drawings: the classes that pixels are not. An item may
    lack either of the two, which then is not annotated.

    ``"dense_label"`` may be asked for beside ``"label"``, for a method that looks at the dense masks of slices whose
    scribbles it learns from.

    Args:
        data: datalist items with the file names under ``keys`` and, optionally, ``case``.
        transform: deterministic MONAI transforms that give ``[C, H, W, D]`` for each key, all of one H and W.
        keys: what to keep, of ``"image"``, ``"label"``, ``"complement"`` and ``"dense_label"``.
        ignore_index: label value of pixels without annotation: slices of nothing else are left out, and what an item
            lacks is filled with it. None keeps every slice.
        keep_unannotated: keep slices without annotation all the same.
        dense_apart: leave the first label channel to drawings even where all items have dense masks, for a loss that
            takes the two for different things.
        device: where the slices are kept. On a GPU a batch is gathered there, and no step waits for a copy.

    Raises:
        UserError: if an item lacks a key, a volume cannot be prepared, sizes differ, or no slice is annotated.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        keys: Sequence[str] = ("image", "label"),
        ignore_index: int | None = None,
        keep_unannotated: bool = False,
        dense_apart: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.data = list(data)
        self.keys = tuple(keys)
        parts: dict[str, list[torch.Tensor]] = {key: [] for key in self.keys}
        self.cases: list[str] = []
        annotators, channels = _label_channels(self.data, at_least=int(dense_apart))
        drawings = None if ignore_index is None else KeptDrawings(ignore_index)
        for item in self.data:
            slices = self._slices(item, transform, ignore_index, drawings)
            if ignore_index is not None and channels > 1 and "label" in slices:
                first = annotators if _is_dense(item) else 0
                slices["label"] = _spread(slices["label"], first, channels, ignore_index)
            keep = self._annotated(slices, None if keep_unannotated else ignore_index)
            case = self._case(item)
            self.cases += [f"{case}, slice {int(z)}" for z in keep]
            for key in self.keys:
                parts[key].append(slices[key][keep])
        for key, tensors in parts.items():
            if len({tensor.shape[1:] for tensor in tensors}) > 1:
                sizes = sorted({tuple(tensor.shape[1:]) for tensor in tensors})
                raise UserError(
                    f"slices of different sizes in '{key}': {sizes}; crop or pad them to one size (roi_size)"
                )
        # one key after the other, so that only one of them is in memory twice
        self.slices = {key: torch.cat(parts.pop(key)).to(device) for key in self.keys if parts[key]}
        self.device = torch.device(device)
        if self.data and not self.cases:
            raise UserError(f"none of the {len(self.data)} volumes has an annotated slice; check the labels' values")
        logger.info("%d slices of %d volumes in memory", len(self.cases), len(self.data))
        if drawings is not None:
            drawings.log()

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one slice ``[C, H, W]`` for each key, and its name."""
        return {**{key: tensor[index] for key, tensor in self.slices.items()}, "case": self.cases[index]}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return a batch ``[B, C, H, W]`` for each key, and the slices' names."""
        # not blocking: a copy that waits would wait for all that the GPU still has to do
        select = torch.as_tensor(indices).to(self.device, non_blocking=True)
        batch: dict[str, Any] = {key: tensor.index_select(0, select) for key, tensor in self.slices.items()}
        batch["case"] = [self.cases[index] for index in indices]
        return batch

    def _case(self, item: dict[str, Any]) -> str:
        return str(item.get("case") or item.get(self.keys[0]))

    def _slices(
        self,
        item: dict[str, Any],
        transform: Callable,
        ignore_index: int | None,
        drawings: KeptDrawings | None,
    ) -> dict[str, torch.Tensor]:
        try:
            prepared = transform(dict(item))
            if "complement" in self.keys and ignore_index is not None:
                for key in {"label", "complement"} - prepared.keys():
                    prepared[key] = torch.full_like(prepared["image"][:1], ignore_index)
            for key in self.keys:
                if key not in prepared:
                    raise UserError(f'{item.get("case") or item}: has no "{key}"; add the path of its file')
            volumes = {key: convert_to_tensor(prepared[key], track_meta=False) for key in self.keys}
        except UserError:
            raise
        except Exception as error:
            names = ", ".join(str(item.get(key)) for key in self.keys)
            raise UserError(f"{names}: cannot be read or prepared: {_first_line(error)}") from error
        slices = {}
        for key in self.keys:
            volume = volumes[key].movedim(-1, 0)
            if item.get("frames") == "all":
                volume = volume.flatten(0, 1).unsqueeze(1)
            slices[key] = volume.to(torch.float32 if key == "image" else torch.uint8).contiguous()
            if drawings is not None and key in ("label", "complement") and not _is_dense(item):
                drawings.add(self._case(item), key, prepared[key], slices[key])
        return slices

    def _annotated(self, slices: dict[str, torch.Tensor], ignore_index: int | None) -> torch.Tensor:
        depth = slices[self.keys[0]].shape[0]
        labels = [slices[key] for key in ("label", "complement") if key in slices]
        if ignore_index is None or not labels:
            return torch.arange(depth)
        return (
            torch.stack([(label != ignore_index).flatten(1).any(dim=1) for label in labels]).any(dim=0).nonzero()[:, 0]
        )


def _label_channels(data: Sequence[dict[str, Any]], at_least: int) -> tuple[int, int]:
    """How many annotators draw scribbles, and how many label channels that makes with the dense masks'."""
    counts = [len(item["label"]) if isinstance(item.get("label"), list) else 1 for item in data if not _is_dense(item)]
    annotators = max([*counts, at_least])
    return annotators, annotators + any(_is_dense(item) for item in data)


def _is_dense(item: dict[str, Any]) -> bool:
    return item.get("supervision") == "dense"


def _spread(label: torch.Tensor, first: int, channels: int, fill: int) -> torch.Tensor:
    """Put the channels of ``label`` ``[D, A, H, W]`` at ``first`` among ``channels``, the others filled."""
    spread = label.new_full((label.shape[0], channels, *label.shape[2:]), fill)
    spread[:, first : first + label.shape[1]] = label
    return spread


def slice_loader(
    dataset: SliceDataset,
    *,
    batch_size: int,
    seed: int = 0,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """Build the training loader: shuffled over all slices, in an order that depends on seed and epoch alone.

    The last incomplete batch of an epoch is left out, unless it is the only one. Several processes share the batches,
    see BatchShares.

    Args:
        dataset: the slices.
        batch_size: slices in a batch of one process.
        seed: seed of the order; the epoch is set by MONAI's engines.
        num_workers: worker processes; 0 is fastest, since a batch is one indexing operation.
        rank: this process's number.
        world_size: number of processes.

    Raises:
        UserError: there are fewer slices than processes, or worker processes are asked for slices on a GPU.
    """
    if num_workers > 0 and dataset.device.type != "cpu":
        raise UserError(f"--num_workers {num_workers}: needs the slices in memory; set it to 0, or data_device to cpu")
    sampler = BatchShares(dataset, batch_size, seed=seed, rank=rank, world_size=world_size)
    return DataLoader(
        dataset,
        batch_size=sampler.batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=_as_is,
        persistent_workers=num_workers > 0,
    )


def _as_is(batch: Any) -> Any:
    return batch


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
