"""Which of a datalist's annotations a run trains with: shares of patients, annotators, dense masks, companions."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from .datalist import are_own, datalist_info, load_datalist

__all__ = [
    "check_num_classes",
    "check_shares",
    "count_of",
    "keep_share",
    "mask_items",
    "patient_of",
    "patients_in_order",
    "training_items",
    "unlabelled_items",
    "with_dense_mask",
]

_ROUNDING = 1e-9
"""By how much sums of decimal shares miss 0 and 1 in binary."""


def training_items(
    datalist: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    labelled_share: float = 1.0,
    dense_share: float = 0.0,
    annotators: str = "all",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The annotated images of a run (Valvano et al., TMI 2021, sections V-C, V-E and V-F).

    The patients of ``"training"`` are put into one order by the seed alone. The first ``labelled_share`` of them keep
    their scribbles, the next ``dense_share`` bring their dense masks (``"dense_label"``) instead, the others are left
    out here and serve as images without annotation, see :func:`unlabelled_items`. With the same seed a smaller share
    of scribbles is part of a larger one.

    Args:
        datalist: the JSON file.
        num_classes: number of classes that the run is set to; None leaves the datalist's unchecked.
        labelled_share: share of the patients with scribbles, 0 to 1; over 0 it keeps at least one.
        dense_share: share of the patients with dense masks, 0 to 1; over 0 it takes at least one.
        annotators: ``"all"`` label files of an image that has several, or the ``"first"`` alone.
        seed: seed of the order.

    Returns:
        Items in the datalist's order. ``"label"`` names a file, or a list of files of several annotators; items with
        a dense mask say ``"supervision": "dense"``.

    Raises:
        UserError: the datalist is damaged (see :func:`~common.data.datalist.load_datalist`) or of another number of
            classes, a share is out of its
            range or both are over 1 together, an item that is to bring a dense mask has none, or ``annotators`` is
            unknown.
    """
    if annotators not in ("all", "first"):
        raise UserError(f"--annotators: must be 'all' or 'first', got {annotators!r}")
    check_shares(labelled_share, dense_share)
    items = load_datalist(datalist, "training")
    check_num_classes(datalist, num_classes)
    order = patients_in_order(items, seed)
    scribbled = count_of(labelled_share, len(order))
    dense = set(order[scribbled : scribbled + count_of(dense_share, len(order))])
    annotated = set(order[:scribbled]) | dense
    chosen = []
    for item in items:
        if patient_of(item) not in annotated:
            continue
        if patient_of(item) in dense:
            chosen.append(with_dense_mask(item, datalist))
        elif annotators == "first" and isinstance(item.get("label"), list):
            chosen.append(item | {"label": item["label"][0]})
        else:
            chosen.append(item)
    return chosen


def mask_items(
    training: Sequence[Mapping[str, Any]], datalist: str | os.PathLike[str], *, share: float = 1.0, seed: int = 0
) -> list[dict[str, Any]]:
    """The unpaired dense masks of a run: a share of the datalist's, or none beside training items of other data.

    A caller may replace a bundle's training items by a list of its own, as MONAI Label does. The datalist's masks then
    belong to other data and are left out; the default phantom is not even made.

    Args:
        training: the items that the bundle trains on.
        datalist: the JSON file that the bundle names.
        share: share of the patients whose masks are used, over 0 and at most 1.
        seed: seed of the order in which patients are taken.

    Raises:
        UserError: the datalist is damaged, or the share is out of its range.
    """
    if not 0 < share <= 1:
        raise UserError(f"--mask_share: must be over 0 and at most 1, got {share}; for none use --adversary false")
    if not are_own(training, datalist):
        return []
    return keep_share(load_datalist(datalist, "unpaired_masks", required=False), share, seed=seed)


def unlabelled_items(
    training: Sequence[Mapping[str, Any]], datalist: str | os.PathLike[str], *, use: bool = True
) -> list[dict[str, Any]]:
    """The images without annotation that a run trains on.

    Args:
        training: the items that the bundle trains on.
        datalist: the JSON file that the bundle names.
        use: False for the images of ``training`` alone.

    Returns:
        The datalist's section ``"unlabelled"``; where it is empty, all images of ``"training"``, of which ``training``
        may be a share. The images of ``training`` themselves if ``use`` is False or they belong to other data.

    Raises:
        UserError: the datalist is damaged.
    """
    if not use or not are_own(training, datalist):
        return _images_alone(training)
    items = load_datalist(datalist, "unlabelled", required=False)
    return items or _images_alone(load_datalist(datalist, "training"))


def keep_share(items: Sequence[Mapping[str, Any]], share: float, *, seed: int) -> list[dict[str, Any]]:
    """Keep a share of the items by whole patients: the first of an order that the seed alone determines.

    Args:
        items: datalist items; those without ``"patient"`` count as a patient of their own.
        share: share of the patients, 0 to 1; over 0 at least one patient is kept.
        seed: seed of the order.

    Returns:
        The items of round(share · patients) patients, in their given order.
    """
    order = patients_in_order(items, seed)
    kept = set(order[: count_of(share, len(order))])
    return [dict(item) for item in items if patient_of(item) in kept]


def check_shares(labelled_share: float, dense_share: float) -> None:
    """Check the shares of the patients that bring scribbles or drawings, and dense masks.

    Raises:
        UserError: one is no number from 0 to 1, or together they are 0 or over 1.
    """
    for key, share in (("labelled_share", labelled_share), ("dense_share", dense_share)):
        if not 0 <= share <= 1:
            raise UserError(f"--{key}: must be a number from 0 to 1, got {share}")
    if not _ROUNDING < labelled_share + dense_share <= 1 + _ROUNDING:
        raise UserError(
            f"--labelled_share {labelled_share} and --dense_share {dense_share}: together they must be over 0 and at "
            "most 1"
        )


def check_num_classes(datalist: str | os.PathLike[str], num_classes: int | None) -> None:
    """Check that a datalist has as many classes as a run is set to; None leaves it unchecked.

    Raises:
        UserError: the numbers differ.
    """
    if num_classes is None:
        return
    found = datalist_info(datalist)["num_classes"]
    if type(num_classes) is not int or found != num_classes:
        raise UserError(
            f"{datalist}: has {found} classes where --num_classes is {num_classes}; set --num_classes {found}"
        )


def with_dense_mask(item: dict[str, Any], datalist: str | os.PathLike[str], key: str = "dense_share") -> dict[str, Any]:
    """The item with its dense mask as label.

    Args:
        item: an item of ``"training"``.
        datalist: the JSON file that it is from.
        key: the key of the run that asks for the mask.

    Raises:
        UserError: the item has no dense mask.
    """
    if item.get("supervision") == "dense":
        return item
    if "dense_label" not in item:
        name = item.get("case") or item["image"]
        raise UserError(f'{datalist}: {name} has no "dense_label", which --{key} needs; add the path of its mask')
    return item | {"label": item["dense_label"], "supervision": "dense"}


def patients_in_order(items: Sequence[Mapping[str, Any]], seed: int) -> list[str]:
    """The names of the items' patients in an order that the seed alone determines."""
    patients = sorted({patient_of(item) for item in items})
    return [patients[index] for index in np.random.default_rng(seed).permutation(len(patients))]


def count_of(share: float, patients: int) -> int:
    """How many of so many patients a share is, rounded (halves up); over 0 at least one."""
    return max(1, math.floor(share * patients + 0.5)) if share > 0 else 0


def patient_of(item: Mapping[str, Any]) -> str:
    """The name of an item's patient; items without ``"patient"`` are a patient of their own."""
    return str(item.get("patient") or item.get("case") or item.get("image") or item.get("label"))


def _images_alone(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: item[key] for key in ("image", "case", "patient") if key in item} for item in items]
