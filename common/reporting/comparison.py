"""The paired tests that a report shows: those of an evaluation, or computed from the tables of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..metrics.paired_tests import paired_tests, score_tables
from .run_folder import COMPARISON, Run, read_json

__all__ = ["Comparison", "Tables", "compare_runs", "scores_by_case"]

_NAMES = ("score", "class_name", "first", "second")
_NUMBERS = ("n", "mean_difference", "wilcoxon_p_holm", "t_p_holm", "cohens_dz")

Tables = Mapping[tuple[str, str], Mapping[str, float]]
"""For each score and class the value of each case."""


class Comparison(NamedTuple):
    """Rows of paired tests, the method that all were compared with (None: each other), and where they come from."""

    tests: Sequence[Mapping[str, Any]]
    against: str | None
    source: str


def scores_by_case(run: Run) -> Tables:
    """Sort a run's rows as :func:`~..metrics.paired_tests.score_tables` does; empty where it has none."""
    return score_tables(run.rows, run.class_names) if run.rows else {}


def compare_runs(
    runs: Sequence[Run],
    tables: Mapping[str, Tables],
    *,
    comparison: Path | None = None,
    against: str | None = None,
) -> Comparison:
    """Find or compute the paired tests of two or more runs.

    Taken are those of ``comparison``; else, unless ``against`` is given, those of a comparison.json in the folder above
    all runs' scores, if it is about these runs; else they are computed from the runs' tables.

    Args:
        runs: the runs.
        tables: for each run what :func:`scores_by_case` gives.
        comparison: a file that ``evaluate`` wrote.
        against: the run that all others are compared with; None compares each with each.

    Returns:
        The tests; without any, ``source`` says why.

    Raises:
        UserError: ``comparison`` is damaged or not about these runs, or ``against`` is none of them.
    """
    names = {run.name for run in runs}
    if against is not None and against not in names:
        raise UserError(f"--against {against}: no run is called so; they are {', '.join(sorted(names))}")
    if comparison is not None:
        if against is not None:
            raise UserError("--against does not go with --comparison, whose tests are made already; leave one out")
        found = _read(comparison)
        if not names <= _methods(found):
            others = ", ".join(sorted(_methods(found)))
            raise UserError(f"{comparison}: compares {others}; name the runs so, or leave --comparison out")
        return found
    if len(runs) < 2:
        return Comparison([], None, "there is only one run")
    above = {run.scores.parent for run in runs}
    beside = next(iter(above)) / COMPARISON
    if against is None and len(above) == 1 and beside.is_file():
        found = _read(beside)
        if names <= _methods(found):
            return found
    without = [name for name, table in tables.items() if not table]
    if without:
        return Comparison([], None, f"{', '.join(without)} has no metrics.csv")
    try:
        return Comparison(paired_tests(tables, against=against), against, "computed from the tables of the runs")
    except UserError:
        return Comparison([], None, "the runs were not scored on the same volumes")


def _read(path: Path) -> Comparison:
    document = read_json(path)
    tests, meta = document.get("tests"), document.get("meta", {})
    if (
        not isinstance(tests, list)
        or not isinstance(meta, dict)
        or not isinstance(meta.get("against"), str | None)
        or not all(isinstance(row, dict) and _is_test(row) for row in tests)
    ):
        raise UserError(f"{path}: holds no paired tests; write it by `evaluate` with several --predictions")
    return Comparison(tests, meta.get("against"), f"from {path}")


def _is_test(row: Mapping[str, Any]) -> bool:
    names = all(isinstance(row.get(key), str) for key in _NAMES)
    numbers = all(key in row and isinstance(row[key], int | float | None) for key in _NUMBERS)
    return names and numbers and isinstance(row["n"], int | None)


def _methods(comparison: Comparison) -> set[str]:
    return {row[side] for row in comparison.tests for side in ("first", "second")}
