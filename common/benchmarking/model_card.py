"""What a bundle says of its weights, made from the record of the run that they come from and never typed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from .suite import Row, Suite
from .tables import device_name, spread

__all__ = ["PRECISIONS", "figures", "metadata_of", "paragraph"]

PRECISIONS = {"float16": "half precision", "float32": "single precision"}
_SENTENCE = "The weights come from"
_WIDTH = 120


def figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a run's last iterate as a bundle's metadata have them: means over the scored cases."""
    scores = result["scores"]["last"]
    found: dict[str, float | None] = {"mean_iou": scores.get("mean_iou")}
    if scores.get("mean_iou") is None:
        found["mean_dice"] = scores["dice"]["all"][0]
        found |= {f"dice_{name}": scores["dice"][name][0] for name in scores["class_names"][1:]}
        found["mean_hd95_mm"] = scores.get("hd95", {"all": [None]})["all"][0]
        found["pooled_slice_dice"] = scores.get("pooled", [None])[0]
    return {name: round(value, 4) for name, value in found.items() if value is not None}


def paragraph(suite: Suite, row: Row, result: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """What a bundle's README says of its weights: their training, their figures, and how to make them again.

    Args:
        suite: the suite.
        row: the row of the run.
        result: the record of the run.
        training: the part of that name in ``models/model.json``.
    """
    setting, scores = result["setting"], result["scores"]["last"]
    place, minutes = device_name(result["hardware"]), result["seconds"].get("training", 0.0) / 60
    same = training.get("same_class")
    kept = "" if same is None else f", which leaves the class of {100 * same:.3f} % of the voxels scored here as it was"
    parts = [
        f"The weights in `models/model.pt` come from the command below: {suite.title}; {row.title}; {row.supervision};",
        f"setting `{setting}`; {result['iterations']:,} steps ({result['epochs']} epochs), seed {result['seed']},",
        f"{minutes:.0f} minutes on {place}; the last iterate, stored in {PRECISIONS[training['precision']]}{kept}.",
        f"{suite.protocol} The scored cases chose nothing. Figures on the native grid, without post-processing,",
        f"mean ± standard deviation over {_count(suite, result)}:",
    ]
    names = [*scores["class_names"][1:], "all"]
    heading = [*scores["class_names"][1:], "mean"]
    lines = [
        ["", *heading],
        ["---"] * (len(names) + 1),
        ["Dice", *(spread([scores["dice"][name]], 3) for name in names)],
    ]
    if "hd95" in scores:
        lines.append(["HD95 (mm)", *(spread([scores["hd95"][name]], 1) for name in names)])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines).replace("|  |", "| |")
    more = [f"Pooled slice Dice {spread([scores['pooled']], 3)}."] if scores.get("pooled") else []
    more += [f"mIoU {100 * scores['mean_iou']:.1f} %."] if scores.get("mean_iou") is not None else []
    if seconds := result["seconds"].get("prediction"):
        # every checkpoint that is scored has segmented all cases
        each = seconds / (result["scores"]["last"]["volumes"] * len(result["scores"]))
        more.append(f"Segmenting {_one(suite)} took {each:.1f} seconds there, from file to file.")
    more.append("The terms of the data are in [`data_license.txt`](data_license.txt).")
    command = f"python -m tools benchmark --suite {suite.name} --setting {setting} --methods {row.name}"
    command += f" --seeds {result['seed']}"
    texts = [_filled(" ".join(parts)), table, _filled(" ".join(more)), f"```bash\n{command}\n```"]
    return "\n\n".join(texts)


def metadata_of(metadata: Mapping[str, Any], suite: Suite, row: Row, result: Mapping[str, Any]) -> dict[str, Any]:
    """What a bundle's metadata say of its weights: the end of the description, and the scores."""
    method = str(metadata.get("description", "")).partition(_SENTENCE)[0].rstrip()
    device = "a CPU" if result["hardware"]["device"] == "CPU" else "a GPU"
    sentence = (
        f"{_SENTENCE} {result['iterations']:,} steps on {device} with {row.supervision} ({suite.title}; {row.title}); "
        f"eval_metrics are the last iterate's on {_count(suite, result)} that it has not seen."
    )
    return {"description": f"{method} {sentence}".strip(), "eval_metrics": figures(result)}


def _count(suite: Suite, result: Mapping[str, Any]) -> str:
    return f"{result['scores']['last']['volumes']} {'volumes' if suite.score == 'dice' else 'images'}"


def _one(suite: Suite) -> str:
    return "a volume" if suite.score == "dice" else "an image"


def _filled(text: str) -> str:
    return textwrap.fill(re.sub(r"\s+", " ", text), _WIDTH, break_long_words=False, break_on_hyphens=False)
