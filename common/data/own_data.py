"""The datalist of one's own data: which case is for training, and which patients are kept back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from .held_out_patients import hold_out
from .own_cases import OwnCase
from .prepared_case import KIND_OF_SECTION, empty_datalist

__all__ = ["HELD_OUT", "Division", "build_own_datalist", "divide", "parse_class_names", "patients_before"]

HELD_OUT = ("validation", "test")


class Division(NamedTuple):
    """The held-out patients' sections, and those patients of an earlier division that were trained with until now."""

    held: dict[str, str]
    moved: list[str]


def parse_class_names(text: str) -> list[str]:
    """The names in a list with commas.

    Raises:
        UserError: there are fewer than two, one is empty or there twice, or the first is not the background.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise UserError(f'--class_names is "{text}"; give at least two different names, such as "background,liver"')
    if names[0].lower() != "background":
        raise UserError(f'--class_names begins with "{names[0]}"; value 0 is the background, begin with "background"')
    return names


def patients_before(datalist: Mapping[str, Any]) -> dict[str, str]:
    """The section of each patient in an earlier datalist, a held-out one where the patient is in several.

    Args:
        datalist: sections with their items.
    """
    before: dict[str, str] = {}
    for section in (*(name for name in KIND_OF_SECTION if name not in HELD_OUT), *HELD_OUT):
        before |= {str(item["patient"]): section for item in datalist.get(section, []) if "patient" in item}
    return before


def divide(
    cases: Sequence[OwnCase],
    *,
    shares: Mapping[str, float],
    seed: int,
    groups: Mapping[str, str] | None = None,
    before: Mapping[str, str] | None = None,
) -> Division:
    """Choose the patients to validate and test on among those who have an image with a dense mask.

    Args:
        cases: all cases.
        shares: share of these patients for ``"validation"`` and for ``"test"``.
        seed: seed of the choice.
        groups: a group for each patient, such as a diagnosis, that each section is to have its share of.
        before: section by patient of an earlier datalist, see :func:`patients_before`.

    Raises:
        UserError: the shares are out of range, a patient has no group, or a patient held out before has no image
            with a dense mask.
    """
    earlier = dict(before or {})
    scribbled = {case.patient for case in cases if case.annotated}
    masked = {case.patient for case in cases if case.image and case.mask}
    without = sorted(patient for patient in masked if groups is not None and patient not in groups)
    if without:
        raise UserError(f"--stratify: {len(without)} patients have no group, first {without[0]}; add their lines")
    lost = sorted(patient for patient, section in earlier.items() if section in HELD_OUT and patient not in masked)
    if lost:
        raise UserError(
            f"patient {lost[0]} is in {earlier[lost[0]]} of the datalist that is there, but has no image with a dense "
            "mask now; restore the files, or take the patient's lines out of the datalist"
        )
    annotation = {patient: "scribbles and masks" if patient in scribbled else "masks" for patient in masked}
    strata = {patient: f"{kind}, {(groups or {}).get(patient, '')}" for patient, kind in annotation.items()}
    held = hold_out(strata, shares=shares, seed=seed, scribbled=scribbled, before=earlier)
    moved = sorted(patient for patient in held if patient in earlier and earlier[patient] not in HELD_OUT)
    return Division(held, moved)


def build_own_datalist(
    cases: Sequence[OwnCase],
    held: Mapping[str, str],
    *,
    name: str,
    description: str,
    class_names: Sequence[str],
    converted: Mapping[str, Path],
) -> dict[str, Any]:
    """Put each case into its section.

    Images with scribbles or coarse drawings train, and name their dense mask where there is one. Dense masks of
    patients without any drawing, or without an image, are unpaired. Images without annotation are unlabelled. Of
    held-out patients there is nothing in any other section; what they have beside images with dense masks is not
    listed.

    Args:
        cases: all cases.
        held: section by patient of those held out.
        name: the data set's name.
        description: a sentence for people.
        class_names: C names, background first.
        converted: the NIfTI files of the cases whose images are DICOM series.

    Returns:
        The datalist with absolute paths, ready for :func:`~.datalist_writer.write_datalist`.
    """
    content = empty_datalist(name, description=description, source="own data", class_names=class_names)
    scribbled = {case.patient for case in cases if case.annotated}
    for case in cases:
        section, files = _place(case, held, scribbled)
        if section is None:
            continue
        strokes = [str(path) for path in case.scribbles]
        paths = {
            "image": str(converted.get(case.name, case.image.path if case.image else "")),
            "scribbles": strokes[0] if len(strokes) == 1 else strokes,
            "mask": str(case.mask),
            "complement": str(case.complement),
        }
        item: dict[str, Any] = {key: paths[file] for key, file in files.items()}
        item |= {"case": case.name, "patient": case.patient} | ({"phase": case.phase} if case.phase else {})
        if section == "unlabelled" and case.name.lower().endswith("_4d"):
            item["frames"] = "all"
        content[section].append(item)
    return content


def _place(case: OwnCase, held: Mapping[str, str], scribbled: set[str]) -> tuple[str | None, dict[str, str]]:
    """A case's section and, by the item's keys, its files there; no section for a case that is left out."""
    if case.patient in held:
        return (held[case.patient] if case.image and case.mask else None), {"image": "image", "label": "mask"}
    if case.annotated:
        there = {"label": case.scribbles, "complement": case.complement, "dense_label": case.mask}
        keys = {"label": "scribbles", "complement": "complement", "dense_label": "mask"}
        return "training", {"image": "image"} | {key: file for key, file in keys.items() if there[key]}
    if case.mask:
        return (None if case.patient in scribbled else "unpaired_masks"), {"label": "mask"}
    return "unlabelled", {"image": "image"}
