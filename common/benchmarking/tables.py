"""The tables of a benchmark, made from the records of its runs and never typed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..reporting.overview import Overview
from .marked_text import between_marks
from .run_config import changed_settings, plain_settings, resolved_config
from .scoring_stage import POST_PROCESSED
from .suite import Row, Suite

__all__ = ["BEGIN", "END", "device_name", "markdown", "markdown_table", "overviews", "spread", "with_tables"]

BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
_NO_RUN = "no run"
_CHOICES = {"last": "last iterate", POST_PROCESSED: "last iterate, post-processed", "best": "best validation"}
_CHOSEN = ", chosen on the scored cases"
_FOLDED = "Classes, extra rows, time and hardware"
_NOTE = (
    "Mean ± standard deviation over the volumes, averaged over the seeds; behind several seeds, the standard deviation "
    "of their means in brackets. HD95 leaves missed classes out. Rows of the best validation are extra."
)


def overviews(
    suites: Sequence[Suite], results: Sequence[Mapping[str, Any]], *, headlines: bool = False
) -> list[Overview]:
    """Make the tables: one for each suite, setting and group of rows that has a run, and one for a suite without any.

    Args:
        suites: the suites.
        results: records of runs, of these suites and others.
        headlines: the last iterates alone, without single classes, time and hardware.
    """
    made = []
    for suite in suites:
        of_suite = [result for result in results if result["suite"] == suite.name]
        run = {(result["setting"], suite.rows[result["method"]].group) for result in of_suite if _known(suite, result)}
        wanted = [(setting, group) for setting in suite.settings for group in _groups(suite) if (setting, group) in run]
        for setting, group in wanted or [(next(iter(suite.settings)), _groups(suite)[0])]:
            rows = [row for row in suite.rows.values() if row.group == group]
            of_setting = [result for result in of_suite if result["setting"] == setting]
            made.append(_overview(suite, setting, group, rows, of_setting, headlines=headlines))
    return made


def markdown(suites: Sequence[Suite], results: Sequence[Mapping[str, Any]]) -> str:
    """Write the tables of :func:`overviews` in Markdown: below each heading the headlines, and all of it folded up."""
    parts = []
    for headline, table in zip(overviews(suites, results, headlines=True), overviews(suites, results), strict=True):
        parts += [f"### {table.title}", *table.notes, markdown_table(headline.header, headline.rows)]
        parts += [f"<details>\n<summary>{_FOLDED}</summary>", markdown_table(table.header, table.rows), "</details>"]
    return "\n\n".join(parts)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write one table in Markdown."""
    return "\n".join([_line(header), _line(["---"] * len(header)), *map(_line, rows)])


def with_tables(path: Path, suites: Sequence[Suite], results: Sequence[Mapping[str, Any]]) -> str:
    """The text of a Markdown file with the tables between its two marks.

    Raises:
        UserError: the file cannot be read, or has not each mark once, in order.
    """
    return between_marks(path, BEGIN, END, markdown(suites, results))


def _known(suite: Suite, result: Mapping[str, Any]) -> bool:
    return result["method"] in suite.rows and result["setting"] in suite.settings


def _groups(suite: Suite) -> list[str]:
    return list(dict.fromkeys(row.group for row in suite.rows.values()))


def _overview(
    suite: Suite,
    setting: str,
    group: str,
    rows: Sequence[Row],
    results: Sequence[Mapping[str, Any]],
    *,
    headlines: bool,
) -> Overview:
    known = [result for result in results if result["method"] in {row.name for row in rows}]
    by_class = known and suite.score == "dice" and not headlines
    classes = known[0]["scores"]["last"]["class_names"][1:] if by_class else []
    header = ["row", "supervision", "checkpoint", "seeds", "steps"]
    header += ["mIoU (%)"] if suite.score == "mean_iou" else [*(f"Dice {name}" for name in classes), "Dice"]
    header += ["pooled slice Dice"] if suite.pooled else []
    header += [*(f"HD95 {name}" for name in classes), "HD95 (mm)"] if suite.surface else []
    machine = [] if headlines else ["training", "hardware"]
    header += ["paper", *machine]
    shown = ["last"] if headlines else list(_CHOICES)
    lines = []
    for row in rows:
        of_row = sorted((each for each in known if each["method"] == row.name), key=lambda each: each["seed"])
        choices = [choice for choice in shown if any(choice in each["scores"] for each in of_row)]
        if not choices:
            why = f"{_NO_RUN}: {row.unavailable}" if row.unavailable else _NO_RUN
            blank = [""] * (header.index("paper") - 3)
            lines.append([row.title, row.supervision, why, *blank, _paper(row, suite), *("" for _ in machine)])
        for choice in choices:
            runs = [each for each in of_row if choice in each["scores"]]
            cells = _cells(suite, row, setting, choice, runs, classes)
            lines.append(cells + (_machine(runs) if machine else []))
    about = suite.settings[setting].get("about", "")
    title = f"{suite.title}: {setting}" + ("" if group == _groups(suite)[0] else f", {group}")
    notes = [" ".join(filter(None, [suite.protocol, f"Setting {setting}: {about}" if about else ""])), _NOTE]
    if any(POST_PROCESSED in each["scores"] for each in known):
        options = " ".join(f"--{key} {number}" for key, number in suite.post_processing.items())
        notes[-1] += f" So are rows that are post-processed, by `{options}`; the headline is not."
    return Overview(title, notes, header, lines)


def _cells(
    suite: Suite, row: Row, setting: str, choice: str, runs: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> list[str]:
    scores = [run["scores"][choice] for run in runs]
    chosen = _CHOSEN if choice == "best" and suite.section == "validation" else ""
    cells = [row.title, row.supervision, _CHOICES[choice] + chosen + _departures(suite, row, setting, runs)]
    cells += [", ".join(str(run["seed"]) for run in runs), _range([run["iterations"] for run in runs])]
    if suite.score == "mean_iou":
        values = [100 * score["mean_iou"] for score in scores]
        cells.append(f"{np.mean(values):.1f}" + (f" ± {np.std(values):.1f}" if len(values) > 1 else ""))
    else:
        cells += [spread([score["dice"][name] for score in scores], 3) for name in classes]
        cells.append(spread([score["dice"]["all"] for score in scores], 3))
    if suite.pooled:
        cells.append(spread([score["pooled"] for score in scores], 3))
    if suite.surface:
        cells += [spread([score["hd95"][name] for score in scores], 1) for name in [*classes, "all"]]
    return [*cells, _paper(row, suite)]


def _departures(suite: Suite, row: Row, setting: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """How the runs differ from what the suite and the bundle's configuration say today.

    Records without a run's settings are compared by the suite alone.
    """
    if any(run["definition"] != suite.digest(row, setting) for run in runs):
        return "; of an earlier definition of the row"
    known = [run["settings"] for run in runs if "settings" in run]
    changed: dict[str, tuple[Any, Any]] = {}
    if known:
        keys, steps = suite.keys(row, setting), suite.steps(row, setting)
        today = plain_settings(resolved_config(row.bundle, row.overlays, keys, steps=steps, seed=0))
        for settings in known:
            changed |= changed_settings(settings, today)
    return "".join(f"; with {key} {json.dumps(then)}, today {json.dumps(now)}" for key, (then, now) in changed.items())


def _machine(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """How long the runs trained on average, and what on."""
    minutes = [run["seconds"].get("training", 0.0) / 60 for run in runs]
    devices = dict.fromkeys(device_name(run["hardware"]) for run in runs)
    return [f"{np.mean(minutes):.0f} min", "; ".join(devices)]


def spread(values: Sequence[Sequence[float | None]], places: int) -> str:
    """Mean and deviation over volumes, averaged over seeds, and the deviation of the seeds' means."""
    known = [(mean, std) for mean, std in values if mean is not None and std is not None]
    if not known:
        return "none found"
    means, deviations = zip(*known, strict=True)
    text = f"{np.mean(means):.{places}f} ± {np.mean(deviations):.{places}f}"
    return text + (f" ({np.std(means):.{places}f})" if len(known) > 1 else "")


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def device_name(hardware: Mapping[str, Any]) -> str:
    """What a run was computed on, in a few words."""
    return str(hardware["cpu"] if hardware["device"] == "CPU" else hardware["device"])


def _paper(row: Row, suite: Suite) -> str:
    """The published figure in words: the score, then what else is known, then where it stands."""
    paper = row.paper
    if not paper:
        return "no figure"
    parts = [f"{paper['score']:.{1 if suite.score == 'mean_iou' else 3}f}"] if "score" in paper else []
    parts += [f"pooled {paper['pooled']:.3f}"] if "pooled" in paper else []
    parts += [f"HD95 {paper['hd95']:.1f}"] if "hd95" in paper else []
    return ", ".join(parts) + (f" ({paper['source']})" if "source" in paper else "")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in cells) + " |"
