"""Looking at every file of a datalist, several at a time, and at what only shows when all are known."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any, NamedTuple

from .checks import inspect_item
from .datalist import load_datalist
from .prepared_case import KIND_OF_SECTION
from .supervision import patient_of

__all__ = ["KINDS", "Finding", "case_of_item", "list_sections", "overall_warnings", "survey"]

KINDS = ("scribble", "dense", "either", "coarse")
"""The sorts of labels that training items may have, see :mod:`.checks`."""

_RARE = 0.1
_APART = ("training", "unpaired_masks", "validation", "test")


class Finding(NamedTuple):
    """What was found in one item's files, and the kind that they were looked at as.

    See :func:`.checks.inspect_item` for the kinds, and for what ``seen`` holds.
    """

    section: str
    case: str
    item: Mapping[str, Any]
    seen: Mapping[str, Any]
    kind: str = ""


def list_sections(datalist: str | os.PathLike[str]) -> dict[str, list[dict[str, Any]]]:
    """The items of all sections, whether or not their files exist.

    Raises:
        UserError: the datalist is missing or damaged.
    """
    return {name: load_datalist(datalist, name, required=False, existing=False) for name in KIND_OF_SECTION}


def survey(
    sections: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    num_classes: int,
    kind: str | None = None,
    in_channels: int | None = None,
    background_limit: float = 0.5,
    class_names: Sequence[str] | None = None,
    jobs: int = 1,
) -> Iterator[Finding]:
    """Look at the files of every item.

    Args:
        sections: items by section.
        num_classes: number of classes C with background.
        kind: the sort of the training labels, one of ``KINDS``. ``"either"`` also allows validation and test labels
            that are not annotated everywhere. None takes all drawings for coarse ones where one has a complement,
            else for scribbles.
        in_channels: see :func:`.checks.check_items`.
        background_limit: see :func:`.checks.inspect_item`.
        class_names: see :func:`.checks.check_items`.
        jobs: how many files to read at a time.

    Yields:
        What was found, in the order of the sections and their items. The ``"dense_label"`` of a training item is
        looked at as well.
    """
    coarse = any("complement" in item for item in sections.get("training", ()))
    todo = [(section, item) for section, items in sections.items() for item in items]

    def look(task: tuple[str, Mapping[str, Any]]) -> Finding:
        section, item = task
        options: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels, "class_names": class_names}
        options["coarse"] = coarse
        chosen = _kind_of(section, item, kind, coarse=coarse)
        seen = inspect_item(item, kind=chosen, background_limit=background_limit, **options)
        if section == "training" and "dense_label" in item:
            dense = {key: value for key, value in item.items() if key != "complement"} | {"label": item["dense_label"]}
            more = inspect_item(dense, kind="either" if kind == "either" else "dense", **options)["problems"]
            seen["problems"] = list(dict.fromkeys([*seen["problems"], *more]))
        return Finding(section, case_of_item(item), item, seen, chosen)

    # threads do: unpacking and counting, which is nearly all the work, let other threads run
    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        yield from pool.map(look, todo)
    finally:
        pool.shutdown(cancel_futures=True)


def overall_warnings(findings: Sequence[Finding], class_names: Sequence[str]) -> list[str]:
    """What may be meant otherwise in the datalist as a whole.

    Args:
        findings: what :func:`survey` found.
        class_names: C names, background first.

    Returns:
        Lines about sections without items, patients in several sections, cases listed twice, one image under several
        patients' names, and classes that are rarely annotated.
    """
    warnings = []
    by_section: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_section[finding.section].append(finding)
    if not by_section["training"]:
        warnings.append("training: has no items, so nothing can be trained")
    if not by_section["validation"]:
        warnings.append("validation: has no items with dense masks, so a training is not watched and has no best model")
    patients = {section: {patient_of(found.item) for found in by_section[section]} for section in KIND_OF_SECTION}
    pairs = [*combinations(_APART, 2), ("unlabelled", "validation"), ("unlabelled", "test")]
    for first, second in pairs:
        both = sorted(patients[first] & patients[second])
        if both:
            warnings.append(f"{first} and {second}: share {_several(both, 'patient')}; keep a patient in one section")
    for section, found in by_section.items():
        cases = [finding.case for finding in found]
        twice = sorted({case for case in cases if cases.count(case) > 1}) if len(set(cases)) < len(cases) else []
        if twice:
            warnings.append(f"{section}: lists {_several(twice, 'case')} more than once; results would be mixed up")
    return warnings + _same_images(findings) + _rare_classes(by_section["training"], class_names)


def case_of_item(item: Mapping[str, Any]) -> str:
    """The name of an item's case, or else of its file."""
    file = item.get("image") or item.get("label") or item.get("complement")
    return str(item.get("case") or os.path.basename(str(file)))


def _same_images(findings: Sequence[Finding]) -> list[str]:
    """One image under the names of several patients: copies, or links to one file."""
    owners: dict[Any, dict[str, str]] = defaultdict(dict)
    for finding in findings:
        checksum = finding.seen["image_checksum"]
        if checksum is not None:
            owners[checksum].setdefault(patient_of(finding.item), f"{finding.case} ({finding.section})")
    return [
        f"{' and '.join(cases.values())}: have the same image voxels, but are listed as different patients"
        for cases in owners.values()
        if len(cases) > 1
    ]


def _rare_classes(training: Sequence[Finding], class_names: Sequence[str]) -> list[str]:
    shares = [finding.seen["annotated_share"] for finding in training if finding.seen["annotated_share"]]
    warnings = []
    # what a coarse drawing leaves unpainted is background
    unpainted = any(finding.kind == "coarse" for finding in training)
    for value, name in list(enumerate(class_names))[unpainted:]:
        count = sum(share.get(value, 0) > 0 for share in shares)
        if shares and count == 0:
            warnings.append(f"training: {name} ({value}) is annotated nowhere, so it cannot be learned")
        elif count < _RARE * len(shares):
            warnings.append(f"training: {name} ({value}) is annotated in {count} of {len(shares)} volumes only")
    return warnings


def _kind_of(section: str, item: Mapping[str, Any], kind: str | None, *, coarse: bool) -> str:
    if section == "training":
        # a positive drawing without a negative one has neither background strokes nor an end of its own
        return kind or ("coarse" if coarse and item.get("supervision") != "dense" else "scribble")
    usual = KIND_OF_SECTION[section]
    return "either" if kind == "either" and usual == "dense" else usual


def _several(names: Sequence[str], what: str) -> str:
    """Names for a line: the first three, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"
