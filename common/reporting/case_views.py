"""The cases of a report: which ones, what is drawn of each, and how a page finds the pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import UserError
from ..metrics.paired_tests import OVERALL
from .case_choice import cases_by_role, choose_cases
from .case_layers import load_layers
from .case_sources import CaseSources
from .comparison import Tables
from .layer_pictures import annotation_pictures, image_pictures, mask_pictures
from .method_tables import SCORES
from .run_folder import Run

__all__ = ["CaseView", "Panel", "draw_cases", "wanted_cases"]

_MOST_IN_A_ROW, _MOST_TOLD = 5, 6
_MOST_CLASSES = 128
"""A palette has 256 entries, and a class takes two."""


@dataclass(frozen=True)
class Panel:
    """A picture of a case: the layer over the image, empty for the bare image, and the words below it."""

    layer: str
    title: str
    caption: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class CaseView:
    """A case as a page shows it.

    ``pictures`` are data URIs by layer and place of the slice; slices without anything of a layer are left out.
    ``aspect`` is width by height in mm.
    """

    key: str
    case: str
    roles: Sequence[str]
    panels: Sequence[Panel]
    pictures: Mapping[tuple[str, int], str]
    numbers: Sequence[int]
    total: int
    start: int
    aspect: float

    @property
    def layers(self) -> list[str]:
        """The names of the layers, the image's first."""
        return ["image", *(panel.layer for panel in self.panels if panel.layer)]

    @property
    def columns(self) -> int:
        """How many panels stand in a row: all up to five, else half of them."""
        return len(self.panels) if len(self.panels) <= _MOST_IN_A_ROW else math.ceil(len(self.panels) / 2)


def wanted_cases(tables: Mapping[str, Tables], score: str) -> dict[str, list[str]]:
    """Choose the best, median and worst case of each run.

    Args:
        tables: for each run what :func:`~.comparison.scores_by_case` gives.
        score: the score that decides, as a mean over a volume's classes.

    Returns:
        For each case its roles, such as "best of maag"; empty where no run has a table.
    """
    lower = SCORES[score].lower_is_better
    overall = {name: table.get((score, OVERALL), {}) for name, table in tables.items()}
    return cases_by_role({name: choose_cases(table, lower_is_better=lower) for name, table in overall.items()})


def draw_cases(
    runs: Sequence[Run],
    wanted: Mapping[str, Sequence[str]],
    sources: Mapping[str, CaseSources],
    tables: Mapping[str, Tables],
    *,
    score: str,
    size: int,
    most_slices: int,
) -> tuple[list[CaseView], list[str]]:
    """Draw cases.

    Args:
        runs: the runs.
        wanted: cases with their roles, see :func:`wanted_cases`.
        sources: the files by case.
        tables: the scores that captions tell, by run.
        score: which one of them.
        size: the most pixels of a picture's longer side.
        most_slices: the most slices of a case.

    Returns:
        The views, and a line for each case that could not be drawn.
    """
    views, notes = [], []
    if runs[0].document["class_names"][_MOST_CLASSES:]:
        return [], [f"pictures show at most {_MOST_CLASSES} classes"]
    for place, (case, roles) in enumerate(wanted.items()):
        if case not in sources:
            notes.append(f"{case}: the datalist does not name it")
            continue
        panels = _panels(runs, sources[case], tables, score, roles)
        try:
            views.append(_view(sources[case], panels, roles, f"c{place}", len(runs[0].class_names), size, most_slices))
        except UserError as error:
            notes.append(f"{case}: {error}")
    return views, notes


def _panels(
    runs: Sequence[Run], sources: CaseSources, tables: Mapping[str, Tables], score: str, roles: Sequence[str]
) -> dict[Panel, Sequence[str]]:
    """The panels with the files that they show."""
    panels: dict[Panel, Sequence[str]] = {Panel("", "Image"): ()}
    if sources.annotation:
        panels[Panel("annotation", "Annotation")] = sources.annotation
    if sources.reference is not None:
        panels[Panel("reference", "Reference")] = [sources.reference]
    for index, run in enumerate(runs):
        if run.name in sources.predictions:
            chosen = any(role.endswith(f" of {run.name}") for role in roles)
            caption = _caption(run, tables[run.name], sources.case, score)
            panel = Panel(f"prediction-{index}", f"Prediction of {run.name}", caption, chosen)
            panels[panel] = [sources.predictions[run.name]]
    return panels


def _view(
    sources: CaseSources,
    panels: Mapping[Panel, Sequence[str]],
    roles: Sequence[str],
    key: str,
    num_classes: int,
    size: int,
    most_slices: int,
) -> CaseView:
    files = {panel.layer: named for panel, named in panels.items() if panel.layer}
    layers = load_layers(sources.image, files, num_classes=num_classes, most_slices=most_slices)
    pictures = {("image", place): uri for place, uri in enumerate(image_pictures(layers.image, size=size))}
    for name, label in layers.labels.items():
        draw = annotation_pictures if name == "annotation" else mask_pictures
        drawn = draw(label, num_classes=num_classes, size=size)
        pictures |= {(name, place): uri for place, uri in enumerate(drawn) if uri}
    height, width = (extent * mm for extent, mm in zip(layers.image.shape[1:3], layers.pixel_mm, strict=True))
    return CaseView(
        key, sources.case, roles, list(panels), pictures, layers.numbers, layers.total, layers.start, width / height
    )


def _caption(run: Run, tables: Tables, case: str, score: str) -> str:
    """A score of the case, over all classes and, of few classes, of each; a dash where it has none."""
    form = SCORES[score]

    def text(column: str) -> str:
        value = tables.get((score, column), {}).get(case, math.nan)
        return "–" if math.isnan(value) else f"{value:.{form.places}f}"

    names = run.class_names[1:]
    of_classes = ", ".join(f"{name} {text(name)}" for name in names)
    return f"{form.title} {text(OVERALL)}" + (f" ({of_classes})" if len(names) <= _MOST_TOLD else "")
