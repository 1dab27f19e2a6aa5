"""What an evaluation writes: the rows of all volumes as CSV, their summary as JSON, and both as tables to read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["PROTOCOL", "csv_text", "json_text", "score_document", "summary_table", "text_table"]

PROTOCOL = (
    "Scored per volume, per class and per phase on the native grid of the reference labels, which are untouched. "
    "Dice, IoU: 0 where a class is missed (only the reference has it) or invented (only the prediction has it). "
    "HD95: 95th percentile of the pooled surface distances of both directions, in mm, with the volume's spacing and "
    "1-connected surfaces; ASSD: mean of the two directed mean surface distances, in mm. "
    "hd95 and assd leave missed and invented classes out and count them; hd95_penalised and assd_penalised charge the "
    "diagonal of the image. A class absent from both is left out of everything and counted. "
    "std is the population's (ddof=0); under 'all' a volume's value is the mean over its classes, so that std is the "
    "spread over volumes of the class-mean. pooled_slice_dice is the Dice of all foreground channels pooled, per "
    "slice, averaged over the slices of a volume; a slice empty in both scores 1."
)
"""What the numbers of a table mean; written next to them."""

_COUNTS = ("missed", "invented", "absent")
_COLUMNS = (("dice", "Dice", 3), ("iou", "IoU", 3), ("hd95", "HD95 (mm)", 2), ("assd", "ASSD (mm)", 2))


def score_document(
    summary: Mapping[str, Any],
    class_names: Sequence[str],
    *,
    protocol: str = PROTOCOL,
    meta: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put the summary of an evaluation together with what a reader must know of it.

    Args:
        summary: as from :func:`~.segmentation_scores.summarise`.
        class_names: names of all classes, the background first.
        protocol: what the numbers mean.
        meta: where they come from.
        metrics: what an evaluator's own metrics say.

    Returns:
        ``{"protocol", "meta", "class_names", "metrics", "summary"}``.
    """
    head = {"protocol": protocol, "meta": dict(meta or {}), "class_names": list(class_names)}
    return {**head, "metrics": dict(metrics or {}), "summary": summary}


def json_text(document: Any) -> str:
    """Return a document as JSON, numbers that are missing or infinite as ``null``, values unknown to JSON as text."""
    return json.dumps(_without_nan(document), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV under the keys of the first one, missing numbers as ``nan``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def summary_table(summary: Mapping[str, Any]) -> str:
    """Return a summary as a table to read: a line for each class and one for all, then the same for each phase.

    Args:
        summary: as from :func:`~.segmentation_scores.summarise`.
    """
    columns = [column for column in _COLUMNS if column[0] in summary["all"]]
    header = ["class", "n"]
    for _, title, _ in columns:
        header += [f"{title} mean ± std", "median"]
    table = [[*header, *_COUNTS]]
    for phase, part in {"": summary, **summary.get("phases", {})}.items():
        for name, group in {**part["classes"], "all": part["all"]}.items():
            line = [f"{phase} {name}".strip(), str(group["dice"]["n"])]
            for score, _, places in columns:
                of = group[score]
                line += [f"{of['mean']:.{places}f} ± {of['std']:.{places}f}", f"{of['median']:.{places}f}"]
            table.append([*line, *(str(group[count]) for count in _COUNTS)])
    return text_table(table)


def text_table(table: Sequence[Sequence[str]]) -> str:
    """Align the cells of a table in columns, the first one to the left, the others to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = []
    for line in table:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(size) for cell, size in zip(line[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
