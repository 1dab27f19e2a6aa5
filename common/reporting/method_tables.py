"""Tables of methods and classes: mean and deviation, which is the best, and whether the difference is significant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..metrics.paired_tests import OVERALL

__all__ = ["LEVELS", "MAIN_SCORES", "SCORES", "Cell", "MethodTable", "Score", "method_table", "stars"]

LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
"""Stars of a corrected p value below each level."""

_P_VALUE = "wilcoxon_p_holm"


class Score(NamedTuple):
    """How a score is written: its title, the places after the point, and whether small values are good."""

    title: str
    places: int
    lower_is_better: bool


SCORES = {
    "dice": Score("Dice", 3, False),
    "hd95": Score("HD95 (mm)", 2, True),
    "iou": Score("IoU", 3, False),
    "assd": Score("ASSD (mm)", 2, True),
    "hd95_penalised": Score("HD95, misses charged (mm)", 2, True),
    "assd_penalised": Score("ASSD, misses charged (mm)", 2, True),
    "pooled_slice_dice": Score("Dice of pooled slices", 3, False),
    "pooled_slice_dice_of_patients": Score("Dice of pooled slices, per patient", 3, False),
}
"""The scores that an evaluation may hold, in the order of the tables."""

MAIN_SCORES = ("dice", "hd95", "iou", "assd")
"""The scores that a report shows first; the others are kept folded."""


class Cell(NamedTuple):
    """One number of a table as it is written; ``mean`` is empty where there is none."""

    mean: str
    std: str
    median: str
    n: int
    best: bool
    stars: str


class MethodTable(NamedTuple):
    """A score of all methods: a row for each method, a cell for each column, None where the score is unknown."""

    key: str
    score: Score
    columns: list[str]
    rows: dict[str, list[Cell | None]]


def method_table(
    score: str,
    summaries: Mapping[str, Mapping[str, Any]],
    class_names: Sequence[str],
    *,
    tests: Sequence[Mapping[str, Any]] = (),
    against: str | None = None,
) -> MethodTable | None:
    """Put the means of one score together.

    The best mean of a column is that which is best as it is printed, so that equal figures are all marked; nothing is
    marked where only one method has a value. Stars tell that a method differs from ``against`` or, by default, from the
    best method of the column (the first of several).

    Args:
        score: one of ``SCORES``.
        summaries: summary or a phase of it by method.
        class_names: names of all classes, the background first.
        tests: rows of :func:`~..metrics.paired_tests.paired_tests`, or none.
        against: the method that all others were compared with.

    Returns:
        The table, without columns that no method has; None where none has any.
    """
    form = SCORES[score]
    columns = {}
    for column in (*class_names[1:], OVERALL):
        groups = {name: _group(summary, column) for name, summary in summaries.items()}
        if any(score in group for group in groups.values()):
            columns[column] = _cells({name: group.get(score) for name, group in groups.items()}, form)
    if not columns:
        return None
    rows: dict[str, list[Cell | None]] = {name: [] for name in summaries}
    for column, cells in columns.items():
        rival = against or next((name for name, cell in cells.items() if cell and cell.best), None)
        for name, cell in cells.items():
            p = _p_value(tests, score, column, name, rival)
            tied = cell is not None and cell.best and against is None
            rows[name].append(cell._replace(stars="" if tied else stars(p)) if cell else None)
    return MethodTable(score, form, list(columns), rows)


def stars(p: float | None) -> str:
    """Return the stars of a corrected p value, none where it is unknown or 0.05 or more."""
    return next((mark for level, mark in LEVELS if p is not None and p < level), "")


def _group(summary: Mapping[str, Any], column: str) -> Mapping[str, Any]:
    return summary["all"] if column == OVERALL else summary["classes"].get(column, {})


def _cells(values: Mapping[str, Mapping[str, Any] | None], form: Score) -> dict[str, Cell | None]:
    def text(value: float | None) -> str:
        return "" if value is None else f"{value:.{form.places}f}"

    printed = {name: text(of["mean"]) for name, of in values.items() if of and of["mean"] is not None}
    choose = min if form.lower_is_better else max
    best = choose(map(float, printed.values())) if len(printed) > 1 else None
    return {
        name: None
        if of is None
        else Cell(
            printed.get(name, ""),
            text(of["std"]),
            text(of["median"]),
            int(of["n"] or 0),
            name in printed and best is not None and float(printed[name]) == best,
            "",
        )
        for name, of in values.items()
    }


def _p_value(tests: Sequence[Mapping[str, Any]], score: str, column: str, name: str, rival: str | None) -> float | None:
    for row in tests:
        if (row["score"], row["class_name"]) == (score, column) and {row["first"], row["second"]} == {name, rival}:
            return row[_P_VALUE]
    return None
