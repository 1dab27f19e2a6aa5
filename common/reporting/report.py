"""A report on runs: one page from their scores, curves, cases and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from ..errors import UserError
from .box_plot import box_plot
from .case_sources import find_sources
from .case_views import draw_cases, wanted_cases
from .comparison import Tables, compare_runs, scores_by_case
from .line_chart import line_chart
from .method_tables import LEVELS, MAIN_SCORES, SCORES
from .overview import Overview
from .page import render_page
from .palette import class_colour, hex_colour, method_colour, method_dashes
from .run_folder import Run
from .score_section import protocols_of, score_section
from .settings import program_versions, settings_table
from .training_curves import Curve, in_order, read_curves

__all__ = ["CaseOptions", "build_report"]

_NOTES = ("score_notes", "box_notes", "curve_notes", "case_notes", "settings_notes")
_LEAST_SIZE = 48
_SMALLER = 0.7


class CaseOptions(NamedTuple):
    """How cases are found and drawn, see :func:`~.case_sources.find_sources` and :func:`~.case_views.draw_cases`."""

    datalist: str | None = None
    section: str | None = None
    annotations: str | None = None
    score: str = "dice"
    size: int = 256
    most_slices: int = 32


def build_report(
    runs: Sequence[Run],
    *,
    title: str,
    cases: CaseOptions,
    comparison: Path | None = None,
    against: str | None = None,
    max_bytes: int = 20_000_000,
    overviews: Sequence[Overview] = (),
) -> tuple[str, list[str]]:
    """Make the page.

    Args:
        runs: the runs, of one task.
        title: the page's heading.
        cases: how cases are found and drawn.
        comparison: see :func:`~.comparison.compare_runs`.
        against: see :func:`~.comparison.compare_runs`.
        max_bytes: the most bytes of the page; pictures become smaller until it has no more.
        overviews: tables that stand before everything else.

    Returns:
        The HTML text, and a line for each thing that was left out; the page has these lines too.

    Raises:
        UserError: an option or a file that was named is faulty, or the page stays too large.
    """
    tables = {run.name: scores_by_case(run) for run in runs}
    tests = compare_runs(runs, tables, comparison=comparison, against=against)
    curves, curve_notes = _curves(runs)
    epochs = {name: max(step for curve in tags.values() for step, _ in curve) for name, tags in curves.items() if tags}
    settings, settings_notes = settings_table(runs, epochs=epochs)
    contents: dict[str, Any] = {
        "title": title,
        "overviews": overviews,
        "runs": [
            {
                "name": run.name,
                "colour": method_colour(index),
                "dashes": method_dashes(index),
                "cases": run.summary["cases"],
            }
            for index, run in enumerate(runs)
        ],
        "classes": [
            {"name": name, "colour": hex_colour(class_colour(index))} for index, name in enumerate(runs[0].class_names)
        ],
        "score_title": SCORES[cases.score].title,
        "levels": [(level, mark) for level, mark in reversed(LEVELS)],
        **score_section(runs, tests),
        **_boxes(tables),
        "charts": _charts(runs, curves),
        "curve_notes": curve_notes,
        "settings": settings,
        "settings_notes": settings_notes,
        "versions": program_versions(),
        "protocols": protocols_of(runs),
    }
    wanted = wanted_cases(tables, cases.score)
    sources, source_notes = find_sources(
        runs, datalist=cases.datalist, section=cases.section, annotations=cases.annotations
    )
    if not wanted:
        source_notes.append("no run has a metrics.csv, which tells of single cases")
    if not any(each.predictions for each in sources.values()):
        wanted = {}
    size = cases.size
    while True:
        views, notes = draw_cases(
            runs, wanted, sources, tables, score=cases.score, size=size, most_slices=cases.most_slices
        )
        if size < cases.size:
            notes.append(f"pictures have at most {size} pixels a side, so that the page stays below its largest size")
        contents |= {"views": views, "case_notes": [*source_notes, *notes]}
        text = render_page(contents)
        length = len(text.encode("utf-8"))
        if length <= max_bytes:
            return text, [note for key in _NOTES for note in contents[key]]
        if size <= _LEAST_SIZE or not views:
            raise UserError(
                f"the page would have {length / 1e6:.1f} MB; allow more by --max_mb, or give fewer --runs or --slices"
            )
        size = max(_LEAST_SIZE, int(size * min(_SMALLER, max_bytes / length)))


def _boxes(tables: Mapping[str, Tables]) -> dict[str, Any]:
    without = [f"{name}: no metrics.csv beside its metrics.json" for name, table in tables.items() if not table]
    plots = []
    for score in MAIN_SCORES:
        groups: dict[str, dict[str, Mapping[str, float]]] = {}
        for name, table in tables.items():
            for (key, column), values in table.items():
                if key == score:
                    groups.setdefault(column, {each: {} for each in tables})[name] = values
        if groups:
            form = SCORES[score]
            plots.append((form.title, box_plot(form.title, groups, floor=0.0 if form.lower_is_better else None)))
    return {"boxes": plots, "box_notes": without}


def _curves(runs: Sequence[Run]) -> tuple[dict[str, dict[str, Curve]], list[str]]:
    """The curves by run and name, and a line for each run without any."""
    curves: dict[str, dict[str, Curve]] = {}
    notes = []
    for run in runs:
        curves[run.name] = {}
        try:
            curves[run.name] = read_curves(run.training) if run.training else {}
            reason = f"none in {run.training}" if run.training else f"give --training {run.name}=FOLDER"
        except UserError as error:
            reason = str(error)
        if not curves[run.name]:
            notes.append(f"{run.name}: no curves of its training; {reason}")
    return curves, notes


def _charts(runs: Sequence[Run], curves: Mapping[str, Mapping[str, Curve]]) -> list[tuple[str, Markup]]:
    charts = []
    for tag in in_order([tag for of_run in curves.values() for tag in of_run]):
        drawn = {index: curves[run.name][tag] for index, run in enumerate(runs) if tag in curves[run.name]}
        charts.append((tag, line_chart(tag, drawn)))
    return charts
