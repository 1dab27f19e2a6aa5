"""Segmenting the cases of a suite with the weights of a run, as far as the time does."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engines.bundle_predictor import BundlePredictor
from ..errors import UserError

__all__ = ["inference_configs", "predict", "prediction_file"]

_MARGIN = 1.5


def prediction_file(folder: Path, item: Mapping[str, Any]) -> Path:
    """Where the label map of a datalist item goes.

    Args:
        folder: the folder of the label maps.
        item: an item with ``image`` and ``case``.
    """
    ending = ".png" if str(item["image"]).lower().endswith(".png") else ".nii.gz"
    return folder / f"{item['case']}_seg{ending}"


def inference_configs(bundle: Path, overlays: Sequence[str]) -> list[Path]:
    """``inference.json`` of a bundle's folder, and the overlays of a row, by their names below its ``configs``."""
    return [bundle / "configs" / name for name in ("inference.json", *overlays)]


def predict(
    configs: Sequence[Path],
    weights: Path,
    items: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    deadline: float | None = None,
) -> bool:
    """Write the label map of each item that has none yet.

    Args:
        configs: ``inference.json``, and files that are laid over it.
        weights: the weights.
        items: items with ``image`` and ``case``.
        folder: the folder of the label maps.
        overrides: keys of the configuration.
        deadline: seconds since 1970 at which it has to be over; None for no limit.

    Returns:
        Whether all label maps are there.

    Raises:
        UserError: an item has no case, or cannot be segmented.
    """
    if missing := [item for item in items if not item.get("case")]:
        raise UserError(f'{missing[0]["image"]}: has no "case" in its datalist; a benchmark needs one')
    left = [item for item in items if not prediction_file(folder, item).is_file()]
    if not left:
        return True
    folder.mkdir(parents=True, exist_ok=True)
    predictor: BundlePredictor | None = None
    longest = 0.0
    for item in left:
        started = time.time()
        if deadline is not None and started + _MARGIN * longest > deadline:
            return False
        if predictor is None:
            predictor = BundlePredictor(configs, overrides={"weights": str(weights), **(overrides or {})})
        target = prediction_file(folder, item)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
            os.replace(predictor.segment(Path(item["image"]), Path(temporary)), target)
        longest = max(longest, time.time() - started)
    return True
