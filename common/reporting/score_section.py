"""What a report says of scores: tables of all runs, of their phases, of missed classes, and the paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .comparison import Comparison
from .method_tables import MAIN_SCORES, SCORES, MethodTable, method_table, stars
from .run_folder import Run

__all__ = ["protocols_of", "score_section"]

_OUTCOMES = ("missed", "invented", "absent")


def score_section(runs: Sequence[Run], comparison: Comparison) -> dict[str, Any]:
    """Put the scores together as the page shows them.

    Args:
        runs: the runs.
        comparison: their paired tests.

    Returns:
        What the template reads of them; ``score_notes`` are lines about what a reader has to know.
    """
    summaries = {run.name: run.summary for run in runs}
    names = runs[0].class_names
    tables = _tables(list(SCORES), summaries, names, tests=comparison.tests, against=comparison.against)
    phases = dict.fromkeys(phase for summary in summaries.values() for phase in summary.get("phases", {}))
    of_phases = {}
    for phase in phases:
        parts = {name: of["phases"][phase] for name, of in summaries.items() if phase in of.get("phases", {})}
        of_phases[phase] = _tables(MAIN_SCORES, parts, names)
    outcomes = {
        name: [
            tuple(summary["classes"].get(column, {}).get(outcome, 0) for outcome in _OUTCOMES) for column in names[1:]
        ]
        for name, summary in summaries.items()
    }
    notes = []
    if len(runs) > 1 and not comparison.tests:
        notes.append(f"no paired tests: {comparison.source}")
    cases = [{row["case"] for row in run.rows} for run in runs if run.rows]
    if any(each != cases[0] for each in cases[1:]):
        notes.append("the runs were scored on different volumes, so their means do not compare")
    if len(protocols_of(runs)) > 1:
        notes.append("the runs were scored by different protocols, see the end of the page")
    return {
        "tables": [table for table in tables if table.key in MAIN_SCORES],
        "further_tables": [table for table in tables if table.key not in MAIN_SCORES],
        "phases": of_phases,
        "outcomes": outcomes,
        "comparison": comparison,
        "tests": [_test_row(row) for row in comparison.tests if row["score"] in MAIN_SCORES],
        "score_notes": notes,
    }


def _tables(
    scores: Sequence[str], summaries: Mapping[str, Mapping[str, Any]], names: Sequence[str], **tests: Any
) -> list[MethodTable]:
    found = [method_table(score, summaries, names, **tests) for score in scores]
    return [table for table in found if table is not None]


def _test_row(row: Mapping[str, Any]) -> dict[str, str]:
    def text(key: str, form: str) -> str:
        return "–" if row[key] is None else format(row[key], form)

    return {
        "score": SCORES[row["score"]].title,
        "class_name": row["class_name"],
        "pair": f"{row['first']} − {row['second']}",
        "n": text("n", "d"),
        "difference": text("mean_difference", "+.3f"),
        "wilcoxon": text("wilcoxon_p_holm", ".2g"),
        "t": text("t_p_holm", ".2g"),
        "effect": text("cohens_dz", "+.2f"),
        "stars": stars(row["wilcoxon_p_holm"]),
    }


def protocols_of(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The protocols with the runs that were scored by them."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(str(run.document.get("protocol", "not recorded")), []).append(run.name)
    return found
