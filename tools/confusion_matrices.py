"""Compare the confusion matrices that a coarse-label network estimates with those of the drawings it learned from.

    python -m tools confusion_matrices --dataset_dir data/mnist --weights runs/mnist/model.pt --output confusion.png \
        --overlay bundles/coarse_labels/configs/data/mnist.json

The drawings are simulated from dense masks, so that the truth is known. A column is a true class j, a row i what is
drawn there. The estimate of a column is the mean of the matrices at the pixels of that class; for the negative drawings
it is that of M^T A, which tells the complementary class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.bundle import ConfigParser

from common.errors import UserError
from common.files import atomic_file
from common.handlers.atomic_checkpoint import load_weights
from common.model_settings import of, read_settings
from common.networks.confusion_matrices import full_matrices, uniform_transition

CONFIG = Path(__file__).resolve().parents[1] / "bundles" / "coarse_labels" / "configs" / "train.json"
KINDS = {"positive": "label", "negative": "complement"}
DPI = 150


def main(
    *,
    dataset_dir: str,
    weights: str,
    output: str,
    overlay: str | None = None,
    labelled_share: float = 1.0,
    coarse_ratio: float = 1.0,
    batch_size: int = 16,
    **keys: Any,
) -> None:
    """Draw the mean confusion matrices, true and estimated, and print them.

    Args:
        dataset_dir: folder of the datalist whose training items have dense masks.
        weights: the state dict of a training, with its settings beside it.
        output: the PNG; an earlier one is replaced.
        overlay: an overlay of the bundle's train.json, such as that of a data set.
        labelled_share: as in the training.
        coarse_ratio: as in the training.
        batch_size: slices that are predicted at once.
        keys: other keys of train.json, as in the training, which the settings of the weights do not hold.

    Raises:
        UserError: a file is missing or does not fit, a key is unknown, or the network has no confusion matrices.
    """
    options = {"dataset_dir": dataset_dir, "coarse_ratio": coarse_ratio, "cache_dir": "", **keys}
    drawn = _configured(
        overlay, weights, {**options, "labelled_share": labelled_share, "dense_share": 0.0, "simulate": True}
    )
    dense = _configured(overlay, weights, {**options, "labelled_share": 0.0, "dense_share": labelled_share})
    network = drawn.get_parsed_content("network_def")
    load_weights(network, weights)
    drawings = drawn.get_parsed_content("train#dataset")
    masks = dense.get_parsed_content("train#dataset")
    matrices = mean_matrices(network.eval(), drawings, masks, batch_size=batch_size)
    for kind, (true, estimated) in matrices.items():
        print(f"{kind}: true\n{np.round(true, 3)}\n{kind}: estimated\n{np.round(estimated, 3)}")
    with atomic_file(Path(output)) as temporary:
        draw_matrices(matrices).savefig(temporary, format="png")


@torch.no_grad()
def mean_matrices(
    network: Any, drawings: Any, masks: Any, *, batch_size: int = 16
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Average confusion matrices over the pixels of each true class.

    Args:
        network: a CoarseAnnotationUNet in eval mode.
        drawings: SliceDataset of images with their drawings, ``"label"`` and perhaps ``"complement"``.
        masks: SliceDataset of the same slices with dense masks in the last channel of ``"label"``.
        batch_size: slices that are predicted at once.

    Returns:
        for each kind of annotation the true and the estimated matrix ``[C, C]``, drawn class before true class; columns
        sum to 1, and are NaN for a class without annotated pixels.

    Raises:
        UserError: the network has no confusion matrices, or the slices are not the same.
    """
    kinds = list(network.confusion_heads)
    if not kinds:
        raise UserError("the network has no confusion matrices: train it with --confusion full or rank1")
    where = {name: index for index, name in enumerate(masks.cases)}
    if not set(drawings.cases) <= set(where):
        raise UserError("drawings and dense masks are not of the same slices: set labelled_share as in the training")
    classes = network.output.out_channels
    counts = {kind: np.zeros((classes, classes)) for kind in kinds}
    sums = {kind: np.zeros((classes, classes)) for kind in kinds}
    learned = None if network.transition is None else network.transition()
    transition = uniform_transition(classes) if learned is None else learned
    for first in range(0, len(drawings), batch_size):
        batch = drawings.__getitems__(range(first, min(first + batch_size, len(drawings))))
        truth = masks.__getitems__([where[name] for name in batch["case"]])["label"][:, -1].long()
        for kind, estimate in zip(kinds, network.confusion_matrices(batch["image"]), strict=True):
            full = full_matrices(estimate)
            if kind == "negative":
                full = torch.einsum("jk,bjl...->bkl...", transition, full)
            seen = batch[KINDS[kind]][:, 0].long()
            known = (seen < classes) & (truth < classes)
            pairs = seen[known] * classes + truth[known]
            counts[kind] += torch.bincount(pairs, minlength=classes**2).view(classes, classes).numpy()
            for true in range(classes):
                sums[kind][:, true] += (
                    full.movedim(1, -1).movedim(1, -1)[known & (truth == true)][..., true].sum(0).numpy()
                )
    result = {}
    for kind in kinds:
        with np.errstate(invalid="ignore"):
            result[kind] = tuple(part / counts[kind].sum(axis=0) for part in (counts[kind], sums[kind]))
    return result


def draw_matrices(matrices: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw the matrices of :func:`mean_matrices`: one row for each kind of annotation, true and estimated."""
    figure = Figure(figsize=(5.6, 2.7 * len(matrices)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    cells = figure.subplots(len(matrices), 2, squeeze=False)
    for row, (kind, pair) in zip(cells, matrices.items(), strict=True):
        for axes, name, matrix in zip(row, ("true", "estimated"), pair, strict=True):
            axes.imshow(matrix, vmin=0.0, vmax=1.0, cmap="Blues")
            axes.set_title(f"{kind} drawings: {name}", fontsize=10)
            axes.set_xlabel("true class", fontsize=9)
            axes.set_ylabel("drawn class" if kind == "positive" else "complementary class", fontsize=9)
            axes.set_xticks(range(len(matrix)))
            axes.set_yticks(range(len(matrix)))
            if len(matrix) > 8:
                continue
            for (i, j), value in np.ndenumerate(matrix):
                colour = "white" if value > 0.5 else "black"
                axes.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=9, color=colour)
    return figure


def _configured(overlay: str | None, weights: str, options: dict[str, Any]) -> ConfigParser:
    """The bundle's configuration with the settings of the weights and, above these, other values of some keys."""
    parser = ConfigParser()
    for file in [CONFIG, *([Path(overlay)] if overlay else [])]:
        if not file.is_file():
            raise UserError(f"{file}: no such configuration; correct the path")
    parser.read_config([str(CONFIG), *([overlay] if overlay else [])])
    known = set(parser.get("", {}))
    unknown = [key for key in options if key not in known]
    if unknown:
        raise UserError(f"--{unknown[0]}: no key of {CONFIG.name}; correct its name")
    remembered = {key: of(weights, key, parser[key]) for key in read_settings(weights) if key in known}
    parser.update({**remembered, **options})
    return parser
