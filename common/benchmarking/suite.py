"""What a benchmark compares: the rows, protocols and settings of a suite, read from a JSON file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_text

__all__ = ["MAIN", "Row", "Suite", "known_suites", "load_suite"]

MAIN = "main"
"""The group of rows that a benchmark runs unless told otherwise."""

_SUITES = Path(__file__).with_name("suites")
_SCORES = ("dice", "mean_iou")
_SECTIONS = ("validation", "test")
_ROW_KEYS = {"title", "bundle", "overlays", "inference_overlays", "keys", "supervision", "paper", "group", "variant"}
_ROW_KEYS |= {"settings", "unavailable"}
_SUITE_KEYS = {"title", "protocol", "prepare", "section", "score", "pooled", "surface", "ignore_index", "settings"}
_SUITE_KEYS |= {"variants", "rows", "post_processing"}
_ROW_SETTING_KEYS = {"steps", "keys"}
_SETTING_KEYS = _ROW_SETTING_KEYS | {"about"}
_POST_PROCESSING = {"keep_bodies", "keep_components"}
_PAPER_KEYS = {"score", "hd95", "pooled", "source"}


@dataclass(frozen=True)
class Row:
    """A method as one row of a table has it.

    ``overlays`` are files below the bundle's ``configs`` laid over ``train.json``, ``inference_overlays`` those laid
    over ``inference.json``. ``keys`` are set whatever the setting. ``paper`` is the published figure: ``score``,
    ``hd95``, ``pooled`` and ``source``, each where known. ``variant`` names other training labels, ``unavailable`` says
    why the row cannot be run with the suite's data.
    """

    name: str
    title: str
    supervision: str
    bundle: str
    overlays: tuple[str, ...]
    inference_overlays: tuple[str, ...]
    keys: Mapping[str, Any]
    paper: Mapping[str, Any]
    group: str
    variant: str | None
    settings: Mapping[str, Mapping[str, Any]]
    unavailable: str | None


@dataclass(frozen=True)
class Suite:
    """A protocol on a data set, with its rows, and the settings that they may be run at.

    ``score`` is what the table shows first: ``dice`` (mean over foreground classes and volumes) or ``mean_iou`` (of all
    classes, pixels of all images pooled). ``post_processing`` are keys of ``inference.json``, with which the last
    iterate is scored once more; empty for none.
    """

    name: str
    title: str
    protocol: str
    prepare: str
    section: str
    score: str
    pooled: bool
    surface: bool
    ignore_index: int | None
    post_processing: Mapping[str, int]
    settings: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Mapping[str, Any]]
    rows: Mapping[str, Row]

    @property
    def case(self) -> str:
        """What is scored one by one, in a word."""
        return "volume" if self.score == "dice" else "image"

    def chosen(self, methods: Sequence[str]) -> list[Row]:
        """The rows of these names or groups, in the order of the suite; those of the group main for none.

        Raises:
            UserError: a name is neither a row nor a group.
        """
        wanted = list(methods) or [MAIN]
        groups = {row.group for row in self.rows.values()}
        for name in wanted:
            if name not in self.rows and name not in groups:
                known = ", ".join([*self.rows, *sorted(groups)])
                raise UserError(f"--methods: suite {self.name} has no row or group {name!r}; it has {known}")
        return [row for row in self.rows.values() if row.name in wanted or row.group in wanted]

    def steps(self, row: Row, setting: str) -> int:
        """Optimiser steps of a row at a setting."""
        return row.settings.get(setting, {}).get("steps", self.settings[setting]["steps"])

    def keys(self, row: Row, setting: str) -> dict[str, Any]:
        """The configuration keys of a row at a setting: the setting's, then the row's, then the row's for it."""
        own = row.settings.get(setting, {}).get("keys", {})
        return {**self.settings[setting].get("keys", {}), **row.keys, **own}

    def digest(self, row: Row, setting: str) -> str:
        """A name for all that decides the result of a row at a setting, beside the code, the data and the seed."""
        parts = [row.bundle, row.overlays, row.inference_overlays, self.steps(row, setting), self.keys(row, setting)]
        parts += [self.variants.get(row.variant or ""), self.section, self.ignore_index]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def known_suites() -> list[str]:
    """Names of the suites that come with the project."""
    return sorted(path.stem for path in _SUITES.glob("*.json"))


def load_suite(suite: str) -> Suite:
    """Read a suite.

    Args:
        suite: name of one that comes with the project, or a JSON file of the same form.

    Raises:
        UserError: there is none of this name, or the file is faulty.
    """
    path = Path(suite).expanduser() if suite.endswith(".json") else _SUITES / f"{suite}.json"
    if (os.path.basename(suite) != suite and not suite.endswith(".json")) or not path.is_file():
        raise UserError(f"--suite {suite}: choose {', '.join(known_suites())}, or name a JSON file")
    try:
        content = json.loads(read_text(path))
        return _suite(path.stem, content, path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: is no suite ({type(error).__name__}: {error}); see those of the project") from error


def _suite(name: str, content: Mapping[str, Any], path: Path) -> Suite:
    _refuse_others(content, _SUITE_KEYS, path)
    score = content.get("score", "dice")
    if score not in _SCORES:
        raise UserError(f"{path}: score is {score!r}; choose {' or '.join(_SCORES)}")
    section = content.get("section", "validation")
    if section not in _SECTIONS:
        raise UserError(f"{path}: section is {section!r}; choose {' or '.join(_SECTIONS)}")
    settings = dict(content["settings"])
    if not settings:
        raise UserError(f"{path}: settings is empty; give one or more, each with its steps")
    for key, setting in settings.items():
        _check_setting({"steps": None, **setting}, _SETTING_KEYS, f"{path}: setting {key}")
    variants = dict(content.get("variants", {}))
    rows = {key: _row(key, value, path) for key, value in content["rows"].items()}
    for row in rows.values():
        if row.variant is not None and row.variant not in variants:
            raise UserError(f"{path}: row {row.name} has the variant {row.variant!r}, which is not there")
        for setting in row.settings:
            if setting not in settings:
                raise UserError(f"{path}: row {row.name} has the setting {setting!r}, which is not there")
            _check_setting(row.settings[setting], _ROW_SETTING_KEYS, f"{path}: row {row.name}, setting {setting}")
    post_processing = dict(content.get("post_processing", {}))
    _refuse_others(post_processing, _POST_PROCESSING, path)
    for key, number in post_processing.items():
        if type(number) is not int or number < 1:
            raise UserError(f"{path}: {key} is {number!r}; give a whole number from 1 on, or leave the key out")
    return Suite(
        name=name,
        title=str(content["title"]),
        protocol=str(content["protocol"]),
        prepare=str(content["prepare"]),
        section=section,
        score=score,
        pooled=_flag(content, "pooled", False, path),
        surface=_flag(content, "surface", True, path),
        ignore_index=content.get("ignore_index"),
        post_processing=post_processing,
        settings=settings,
        variants=variants,
        rows=rows,
    )


def _row(name: str, content: Mapping[str, Any], path: Path) -> Row:
    _refuse_others(content, _ROW_KEYS, path)
    paper = dict(content.get("paper") or {})
    _refuse_others(paper, _PAPER_KEYS, path)
    return Row(
        name=name,
        title=str(content["title"]),
        supervision=str(content["supervision"]),
        bundle=str(content["bundle"]),
        overlays=tuple(content.get("overlays", ())),
        inference_overlays=tuple(content.get("inference_overlays", ())),
        keys=dict(content.get("keys", {})),
        paper=paper,
        group=str(content.get("group", MAIN)),
        variant=content.get("variant"),
        settings=dict(content.get("settings", {})),
        unavailable=content.get("unavailable"),
    )


def _check_setting(content: Mapping[str, Any], known: set[str], place: str) -> None:
    _refuse_others(content, known, place)
    steps = content.get("steps", 1)
    if type(steps) is not int or steps < 1:
        raise UserError(f"{place}: steps is {steps!r}; give a whole number from 1 on")
    if not isinstance(content.get("keys", {}), dict):
        raise UserError(f"{place}: keys is {content['keys']!r}; give an object of configuration keys and their values")


def _flag(content: Mapping[str, Any], key: str, default: bool, path: Path) -> bool:
    value = content.get(key, default)
    if not isinstance(value, bool):
        raise UserError(f"{path}: {key} is {value!r}; give true or false")
    return value


def _refuse_others(content: Mapping[str, Any], known: set[str], place: Path | str) -> None:
    for key in content:
        if key not in known:
            raise UserError(f"{place}: unknown key {key!r}; the known ones are {', '.join(sorted(known))}")
