"""Which annotations a run with coarse labels trains with: drawings of annotators or simulated ones, and dense masks."""

from __future__ import annotations

import os
from typing import Any

from ..errors import UserError
from .datalist import load_datalist
from .supervision import check_num_classes, check_shares, count_of, patient_of, patients_in_order, with_dense_mask

__all__ = ["coarse_items"]


def coarse_items(
    datalist: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    simulate: bool = True,
    negative: bool = True,
    labelled_share: float = 1.0,
    dense_share: float = 0.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The annotated images of a run (Zhang et al., "Positive and negative coarse labels", section 4.4 and Table 3).

    The patients of ``"training"`` are put into one order by the seed alone. The first ``dense_share`` of them bring
    their dense masks, the next ``labelled_share`` coarse labels; the others are left out. With the same seed the
    patients with dense masks are the same whatever is drawn on the others.

    Args:
        datalist: the JSON file.
        num_classes: number of classes that the run is set to; None leaves the datalist's unchecked.
        simulate: coarse labels are to be simulated from the dense masks; otherwise they are drawings, ``"label"`` and
            ``"complement"`` of the items.
        negative: False leaves out the images that have nothing but a negative drawing.
        labelled_share: share of the patients with coarse labels, 0 to 1; over 0 it takes at least one.
        dense_share: share of the patients with dense masks, 0 to 1; over 0 it takes at least one.
        seed: seed of the order.

    Returns:
        Items in the datalist's order. Those with a dense mask say ``"supervision": "dense"`` and bring no drawing
        beside it, those whose mask is to be made coarse say ``"supervision": "simulated"``, others bring drawings.

    Raises:
        UserError: the datalist is damaged or of another number of classes, a share is out of its range or both are
            over 1 together, an item lacks the dense mask that it is to bring or to be simulated from, or no item is
            left.
    """
    check_shares(labelled_share, dense_share)
    items = load_datalist(datalist, "training")
    check_num_classes(datalist, num_classes)
    order = patients_in_order(items, seed)
    dense = set(order[: count_of(dense_share, len(order))])
    annotated = count_of(min(labelled_share + dense_share, 1.0), len(order))
    coarse = set(order[: max(annotated, len(dense) + 1) if labelled_share else annotated]) - dense
    chosen = []
    for item in items:
        if patient_of(item) in dense:
            chosen.append(_without_complement(with_dense_mask(item, datalist)))
        elif patient_of(item) not in coarse:
            continue
        elif simulate:
            chosen.append(with_dense_mask(item, datalist, "simulate") | {"supervision": "simulated"})
        elif item.get("supervision") == "dense":
            chosen.append(_without_complement(item))
        elif negative or "label" in item:
            chosen.append(item)
    if not chosen:
        raise UserError(
            f'{datalist}: no item of "training" has a "label", a positive drawing, which --negative false needs'
        )
    return chosen


def _without_complement(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "complement"}
