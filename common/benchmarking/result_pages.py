"""Pages that show the runs of a benchmark: its table first, then scores, curves and cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_file
from ..reporting.report import CaseOptions, build_report
from ..reporting.run_folder import find_runs
from .suite import Suite
from .tables import overviews

__all__ = ["write_pages"]

_PAGE = "report.html"


def write_pages(suites: Sequence[Suite], output: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write a page for each suite and setting that has finished runs below ``output``.

    Args:
        suites: the suites.
        output: folder of the runs.
        results: records of runs, which the tables are made from.

    Returns:
        The pages written.

    Raises:
        UserError: a run's folder is damaged.
    """
    written = []
    for suite in suites:
        for setting in suite.settings:
            folder = output / suite.name / setting
            names = _runs(folder)
            if not names:
                continue
            text, _ = build_report(
                find_runs(names),
                title=f"{suite.title}: {setting}",
                cases=CaseOptions(section=suite.section),
                overviews=overviews([suite], [result for result in results if result["setting"] == setting]),
            )
            with atomic_file(folder / _PAGE) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
            written.append(folder / _PAGE)
    return written


def _runs(folder: Path) -> dict[str, Path]:
    """The folders of the scores of the last iterates, by method and seed; the extra ones are in the table alone."""
    return {
        f"{path.parts[-4]} {path.parts[-3]}": path.parent
        for path in sorted(folder.glob("*/seed*/last/metrics.json"))
        if (path.parents[1] / "result.json").is_file()
    }
