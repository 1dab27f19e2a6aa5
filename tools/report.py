"""Report on one or more runs in a single HTML page: scores, box plots, training curves, cases and settings.

    python -m tools report --runs runs/demo --output runs/demo/report.html
    python -m tools report --runs maag=runs/maag,dmpls=runs/dmpls --datalist data/acdc/datalist.json \
        --annotations data/acdc_scribbles --output report.html

A run is the folder of a training, with its evaluation (metrics.json and metrics.csv) and its predictions in subfolders,
or the folder of an evaluation alone. What is missing is left out of the page, which says why. The page needs no network
and loads nothing from anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import atomic_file, remove_leftovers
from common.reporting.method_tables import MAIN_SCORES
from common.reporting.report import CaseOptions, build_report
from common.reporting.run_folder import find_runs, named_folders, with_folders

_ENDINGS = (".html", ".htm")


def main(
    *,
    runs: str,
    output: str,
    datalist: str | None = None,
    section: str | None = None,
    annotations: str | None = None,
    predictions: str | None = None,
    training: str | None = None,
    comparison: str | None = None,
    against: str | None = None,
    score: str = "dice",
    title: str = "Segmentation report",
    size: int = 256,
    slices: int = 32,
    max_mb: float = 20.0,
) -> None:
    """Write one self-contained HTML page about one or more runs.

    Args:
        runs: folders of the runs with commas between them, each folder or name=folder. The folder that `evaluate` wrote
            for several predictions stands for all of these.
        output: the HTML file to write.
        datalist: the datalist.json of the images; by default the one that the evaluation names.
        section: its section; by default the one that was evaluated.
        annotations: a folder of scribbles, <case>_scribble or <case>; by default those of the training items or those
            beside the images.
        predictions: where predictions lie elsewhere, name=folder with commas between them; by default the folder that
            `evaluate` scored, or predictions in the run's folder.
        training: where the training's output lies elsewhere, name=folder with commas between them.
        comparison: the comparison.json of `evaluate`; by default the one beside the runs' scores, else the paired tests
            are computed.
        against: the run that all others are compared with; by default each is compared with each.
        score: what decides which cases are best, median and worst: dice, hd95, iou or assd.
        title: the heading of the page.
        size: the most pixels of a picture's longer side.
        slices: the most slices of a case.
        max_mb: the most megabytes of the page; pictures become smaller where it would be larger.

    Raises:
        UserError: an option or a file is faulty.
    """
    if not output.lower().endswith(_ENDINGS):
        raise UserError(f"--output {output}: the report is a web page; let its name end in .html")
    if score not in MAIN_SCORES:
        raise UserError(f"--score {score}: choose one of {', '.join(MAIN_SCORES)}")
    _check_number("size", size, least=32, whole=True)
    _check_number("slices", slices, least=1, whole=True)
    _check_number("max_mb", max_mb, least=0.1)
    found = with_folders(
        find_runs(runs),
        predictions=named_folders(predictions, option="predictions") if predictions else None,
        training=named_folders(training, option="training") if training else None,
    )
    text, notes = build_report(
        found,
        title=title,
        cases=CaseOptions(datalist, section, annotations, score, size, slices),
        comparison=Path(comparison).expanduser() if comparison else None,
        against=against,
        max_bytes=int(max_mb * 1e6),
    )
    path = Path(output).expanduser()
    remove_leftovers(path)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    for note in notes:
        print(f"note: {note}")
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB, {', '.join(run.name for run in found)})")


def _check_number(name: str, value: Any, *, least: float, whole: bool = False) -> None:
    if type(value) not in ((int,) if whole else (int, float)) or not value >= least:
        raise UserError(f"--{name} is {value!r}; give a {'whole ' if whole else ''}number from {least:g} on")
