"""Read every file of a datalist and tell, case by case, what is wrong with it."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from common.data.datalist import datalist_info
from common.data.datalist_survey import KINDS, Finding, case_of_item, list_sections, overall_warnings, survey
from common.errors import UserError
from common.files import atomic_file, remove_leftovers
from common.transforms.volume_axes import through_plane_axis

COLUMNS = {"section": 14, "case": 4, "shape": 12, "spacing (mm)": 16, "axes": 4, "intensities": 14}
"""The columns before the classes, and their widths."""


def main(
    datalist: str,
    *,
    kind: str | None = None,
    in_channels: int | None = None,
    background_limit: float = 0.5,
    jobs: int | None = None,
    output: str | None = None,
) -> None:
    """Print a table of a datalist's files, a line for each case, and end with status 1 if one has a problem.

    Problems are what stops a training or spoils it: files that cannot be read, labels on another grid than the image,
    unknown values, scribbles without background strokes or without unannotated voxels, dense masks with them. Warnings
    are what may be meant otherwise, such as a patient in two sections; they leave the status at 0.

    Args:
        datalist: the JSON file, or the folder of datalist.json.
        kind: sort of the training labels: scribble, dense, coarse (drawings of what is and what is not), or either
            (scribbles and dense masks, in validation and test too). By default coarse where an item has a complement,
            else scribble.
        in_channels: number of channels that each image has to have; by default any, but of NIfTI one, since the fourth
            axis may be frames.
        background_limit: share of a scribble's slices without background strokes, from 0 to 1, over which to warn.
        jobs: how many files to read at a time; by default as many as there are CPUs.
        output: a .csv file that gets the table as well.

    Raises:
        UserError: the datalist is missing or damaged, an option makes no sense, or a case has a problem.
    """
    _check_options(kind, in_channels, background_limit, jobs, output)
    path = Path(os.path.abspath(os.path.expanduser(datalist)))
    path = path / "datalist.json" if path.is_dir() else path
    info, sections = datalist_info(path), list_sections(path)
    names = info["class_names"]
    cases = [case_of_item(item) for items in sections.values() for item in items]
    if not cases:
        raise UserError(f"{path}: lists no items; add them or write it anew with python -m tools datalist")
    widths = [*(COLUMNS | {"case": max(map(len, cases))}).values(), *(max(8, len(name)) for name in names)]
    print(_line((*COLUMNS, *names, "verdict"), widths))
    findings: list[Finding] = []
    options: dict[str, Any] = {"num_classes": info["num_classes"], "kind": kind, "in_channels": in_channels}
    options |= {"class_names": names}
    for finding in survey(sections, **options, background_limit=background_limit, jobs=jobs or os.cpu_count() or 1):
        findings.append(finding)
        print(_line((*_cells(finding), *_shares(finding, names), _verdict(finding)), widths), flush=True)
        for label in ("problem", "warning"):
            for text in finding.seen[f"{label}s"]:
                print(f"    {label}: {text}")
    overall = overall_warnings(findings, names)
    if output is not None:
        _write_table(output, findings, names)
    _summarise(findings, overall, output)
    faulty = sum(bool(finding.seen["problems"]) for finding in findings)
    if faulty:
        raise UserError(f"{path}: {faulty} of {len(findings)} items have problems, see above")


def _check_options(
    kind: str | None, in_channels: int | None, background_limit: float, jobs: int | None, output: str | None
) -> None:
    if kind is not None and kind not in KINDS:
        raise UserError(f'--kind is "{kind}"; choose one of {", ".join(KINDS)}')
    if in_channels is not None and (type(in_channels) is not int or in_channels < 1):
        raise UserError(f"--in_channels is {in_channels!r}; give a number from 1 on")
    if isinstance(background_limit, bool) or not isinstance(background_limit, (int, float)):
        raise UserError(f"--background_limit is {background_limit!r}; give a number from 0 to 1")
    if not 0 <= background_limit <= 1:
        raise UserError(f"--background_limit is {background_limit}; give a number from 0 to 1")
    if jobs is not None and (type(jobs) is not int or jobs < 1):
        raise UserError(f"--jobs is {jobs!r}; give a number from 1 on")
    if output is not None and not output.lower().endswith(".csv"):
        raise UserError(f"{output}: the table is written as CSV; let its name end in .csv")


def _cells(finding: Finding) -> tuple[str, ...]:
    """The cells before the classes."""
    seen = finding.seen
    shape = "x".join(map(str, seen["shape"])) if seen["shape"] else "-"
    spacing = "x".join(f"{size:.3g}" for size in seen["spacing"]) if seen["spacing"] else "-"
    values = "..".join(f"{value:.4g}" for value in seen["intensity_range"]) if seen["intensity_range"] else "-"
    return (finding.section, finding.case, shape, spacing, seen["orientation"] or "-", values)


def _shares(finding: Finding, names: Sequence[str]) -> list[str]:
    shares = finding.seen["annotated_share"]
    return [f"{shares[value]:.2%}" if value in shares else "-" for value in range(len(names))]


def _verdict(finding: Finding) -> str:
    counts = {label: len(finding.seen[f"{label}s"]) for label in ("problem", "warning")}
    told = [f"{count} {label}{'s' if count > 1 else ''}" for label, count in counts.items() if count]
    return ", ".join(told) or "ok"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells in columns, words to the left and shares to the right; the verdict is as long as it is."""
    padded = [f"{cell:{width}}" for cell, width in zip(cells[: len(COLUMNS)], widths, strict=False)]
    shares = [f"{cell:>{width}}" for cell, width in zip(cells[len(COLUMNS) : -1], widths[len(COLUMNS) :], strict=True)]
    return "  ".join([*padded, *shares, cells[-1]])


def _summarise(findings: Sequence[Finding], overall: Sequence[str], output: str | None) -> None:
    for text in overall:
        print(f"warning: {text}")
    sizes = [
        size
        for finding in findings
        if finding.seen["intensity_range"] and not finding.seen["problems"]
        for size in _in_plane(finding.seen["spacing"], finding.seen["shape"])
    ]
    if sizes:
        spacing, extent = (median(values) for values in zip(*sizes, strict=True))
        print(
            f"slices: median pixel {spacing:.3g} mm, median width {extent:.0f} mm; choose --pixdim, --roi_size to suit"
        )
    ok = sum(not finding.seen["problems"] for finding in findings)
    warned = sum(bool(finding.seen["warnings"]) for finding in findings)
    print(f"{len(findings)} items: {ok} without problems, {len(findings) - ok} with; {warned} with warnings")
    if output is not None:
        print(f"table: {output}")


def _in_plane(spacing: Sequence[float], shape: Sequence[int]) -> list[tuple[float, float]]:
    """The pixel size and the width, in mm, of each of a slice's two axes."""
    axis = through_plane_axis(spacing, shape) if len(shape) == 3 else None
    return [(spacing[other], spacing[other] * shape[other]) for other in range(len(shape)) if other != axis]


def _write_table(output: str, findings: Sequence[Finding], names: Sequence[str]) -> None:
    remove_leftovers(output)
    with atomic_file(output) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*COLUMNS, *names, "verdict", "problems", "warnings"))
        for finding in findings:
            lines = (" | ".join(finding.seen[key]) for key in ("problems", "warnings"))
            writer.writerow((*_cells(finding), *_shares(finding, names), _verdict(finding), *lines))
