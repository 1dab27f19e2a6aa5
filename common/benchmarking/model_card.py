"""What a bundle says of its weights, made from the record of the run that they come from and never typed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .marked_text import between_marks
from .scoring_stage import POST_PROCESSED
from .suite import Row, Suite
from .tables import device_name, markdown_table, spread

__all__ = ["PRECISIONS", "Origin", "figures", "metadata_of", "paragraph", "with_weights"]

PRECISIONS = {"float16": "half precision", "float32": "single precision"}
_SENTENCE = "The weights come from"
_WIDTH = 120
_BEGIN, _END = "<!-- weights:begin -->", "<!-- weights:end -->"


@dataclass(frozen=True)
class Origin:
    """The run that a bundle's weights come from.

    Attributes:
        bundle: the bundle's name.
        suite: the suite.
        row: the row of the run.
        result: the record of the run.
        training: the part of that name in ``models/model.json``.
    """

    bundle: str
    suite: Suite
    row: Row
    result: Mapping[str, Any]
    training: Mapping[str, Any]

    @property
    def cases(self) -> str:
        """How many cases are scored, in words."""
        count, one = self.result["scores"]["last"]["volumes"], self.suite.case
        return f"{count} {one}{'s' if count != 1 else ''}"

    @property
    def seconds(self) -> float | None:
        """Seconds to segment one case, from file to file; None where it was not measured."""
        total = self.result["seconds"].get("prediction")
        checkpoints = self.result["scores"].keys() - {POST_PROCESSED}  # each of which has segmented all cases
        return total and total / (self.result["scores"]["last"]["volumes"] * len(checkpoints))


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


def paragraph(origin: Origin) -> str:
    """What a bundle's README says of its weights: their training, their figures, and how to make them again."""
    suite, row, result, training = origin.suite, origin.row, origin.result, origin.training
    setting, scores = result["setting"], result["scores"]["last"]
    place, minutes = device_name(result["hardware"]), result["seconds"].get("training", 0.0) / 60
    same = training.get("same_class")
    kept = "" if same is None else f", which leaves the class of {100 * same:.4f} % of the voxels scored here as it was"
    parts = [
        f"The weights in `models/model.pt` come from the command below: {suite.title}; {row.title}; {row.supervision};",
        f"setting `{setting}`; {result['iterations']:,} steps ({result['epochs']} epochs), seed {result['seed']},",
        f"{minutes:.0f} minutes on {place}; the last iterate, stored in {PRECISIONS[training['precision']]}{kept}.",
        f"{suite.protocol} The scored cases chose nothing. Figures on the native grid, without post-processing,",
        f"mean ± standard deviation over {origin.cases}:",
    ]
    names = [*scores["class_names"][1:], "all"]
    heading = [*scores["class_names"][1:], "mean"]
    lines = [["Dice", *(spread([scores["dice"][name]], 3) for name in names)]]
    if "hd95" in scores:
        lines.append(["HD95 (mm)", *(spread([scores["hd95"][name]], 1) for name in names)])
    table = markdown_table(["", *heading], lines)
    more = [f"Pooled slice Dice {spread([scores['pooled']], 3)}."] if scores.get("pooled") else []
    more += [f"mIoU {100 * scores['mean_iou']:.1f} %."] if scores.get("mean_iou") is not None else []
    if origin.seconds:
        more.append(f"Segmenting a {suite.case} took {origin.seconds:.1f} seconds there, from file to file.")
    more.append("The terms of the data are in [`data_license.txt`](data_license.txt).")
    command = f"python -m tools benchmark --suite {suite.name} --setting {setting} --methods {row.name}"
    command += f" --seeds {result['seed']}"
    texts = [_filled(" ".join(parts)), table, _filled(" ".join(more)), f"```bash\n{command}\n```"]
    return "\n\n".join(texts)


def metadata_of(metadata: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """What a bundle's metadata say of its weights: the end of the description, and the scores."""
    method = str(metadata.get("description", "")).partition(_SENTENCE)[0].rstrip()
    result, row = origin.result, origin.row
    device = "a CPU" if result["hardware"]["device"] == "CPU" else "a GPU"
    sentence = (
        f"{_SENTENCE} {result['iterations']:,} steps on {device} with {row.supervision} ({origin.suite.title}; "
        f"{row.title}); eval_metrics are the last iterate's on {origin.cases} that it has not seen."
    )
    return {"description": f"{method} {sentence}".strip(), "eval_metrics": figures(result)}


def with_weights(path: Path, origins: Sequence[Origin]) -> str:
    """The text of a Markdown file with a table of the bundles' weights between its two marks.

    Raises:
        UserError: the file cannot be read, or has not each mark once, in order.
    """
    header = ["bundle", "its weights have learned from", "scored on", "Dice, or mIoU", "HD95 (mm)", "segmenting one"]
    lines = []
    for each in origins:
        scores = each.result["scores"]["last"]
        iou = scores.get("mean_iou")
        score = spread([scores["dice"]["all"]], 3) if iou is None else f"mIoU {100 * iou:.1f} %"
        distance = spread([scores["hd95"]["all"]], 1) if "hd95" in scores else ""
        seconds = f"{each.seconds:.1f} s ({device_name(each.result['hardware'])})" if each.seconds else ""
        source = f"{each.row.supervision} ({each.suite.title})"
        lines.append([f"`{each.bundle}`", source, f"{each.cases} of others", score, distance, seconds])
    return between_marks(path, _BEGIN, _END, markdown_table(header, lines))


def _filled(text: str) -> str:
    return textwrap.fill(re.sub(r"\s+", " ", text), _WIDTH, break_long_words=False, break_on_hyphens=False)
