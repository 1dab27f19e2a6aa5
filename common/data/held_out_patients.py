"""Choosing the patients to validate and test on, alike in what they are, and never changing one's mind about them."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping

from ..errors import UserError
from ..files import read_text
from .supervision import count_of

__all__ = ["hold_out", "leaves_training", "read_groups"]

_ROUNDING = 1e-9


def hold_out(
    strata: Mapping[str, str],
    *,
    shares: Mapping[str, float],
    seed: int,
    scribbled: Collection[str],
    before: Mapping[str, str],
) -> dict[str, str]:
    """Hold patients out of the training, in each stratum as many as its share of all.

    A section takes one patient after the other, each from the stratum that lacks most, in an order that depends on
    the seed and the patient's name alone. Patients held out before stay where they are. So do those trained with
    before: new patients fill the sections up, unless a section would be empty. The last patient with scribbles is
    never held out, unless the shares leave nothing to train with.

    Args:
        strata: stratum by patient, of all patients that can be held out.
        shares: share of these patients by section, 0 to 1 each; over 0 it takes at least one.
        seed: seed of the order.
        scribbled: the patients with scribbles.
        before: section by patient of an earlier division; patients trained with have any other section.

    Returns:
        Section by patient, those of ``before`` in the sections of ``shares`` included.

    Raises:
        UserError: a share is out of its range, or together they are over 1.
    """
    for section, share in shares.items():
        if not 0 <= share <= 1:
            raise UserError(f"--{section}_share is {share}; give a number from 0 to 1")
    total = sum(shares.values())
    if total > 1 + _ROUNDING:
        raise UserError(f"{' and '.join(f'--{section}_share' for section in shares)} are {total:g} together; at most 1")
    held = {patient: section for patient, section in before.items() if section in shares}
    sizes = Counter(strata.values())
    order = sorted(strata, key=lambda patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest())
    for section, share in shares.items():
        target = count_of(share, len(strata)) if strata else 0
        have = Counter(strata[patient] for patient in strata if held.get(patient) == section)
        while have.total() < target:
            last = {patient for patient in scribbled if patient not in held}
            protected = last if len(last) == 1 and leaves_training(shares) else set()
            free = [patient for patient in order if patient not in held and patient not in protected]
            choice = [patient for patient in free if patient not in before] or ([] if have else free)
            if not choice:
                break
            lacking = {stratum: target * size / len(strata) - have[stratum] for stratum, size in sizes.items()}
            patient = max(choice, key=lambda patient: (lacking[strata[patient]], strata[patient]))
            held[patient] = section
            have[strata[patient]] += 1
    return held


def leaves_training(shares: Mapping[str, float]) -> bool:
    """Whether the shares of the sections that are held out leave anything to train with."""
    return sum(shares.values()) < 1 - _ROUNDING


def read_groups(table: str | os.PathLike[str]) -> dict[str, str]:
    """Read the group of each patient from a CSV file with the columns ``patient`` and ``group``.

    Args:
        table: the file, with commas, semicolons or tabs between the columns; it may have others as well.

    Raises:
        UserError: the file cannot be read, lacks a column, or gives a patient two groups.
    """
    try:
        lines = read_text(table, encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{table}: cannot be read as a CSV file; name a table of patient,group") from error
    try:
        return _groups(lines, table)
    except csv.Error as error:
        raise UserError(f"{table}: cannot be read as a CSV file ({error}); name a table of patient,group") from error


def _groups(lines: list[str], table: str | os.PathLike[str]) -> dict[str, str]:
    separator = next((sign for sign in ",;\t" if lines and sign in lines[0]), ",")
    rows = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    if not {"patient", "group"} <= set(rows.fieldnames or ()):
        raise UserError(f'{table}: its first line lacks the column "patient" or "group"; write patient,group')
    groups: dict[str, str] = {}
    for row in rows:
        patient, group = (str(row[key] or "").strip() for key in ("patient", "group"))
        if not patient or not group:
            raise UserError(f"{table}: line {rows.line_num} has no patient or no group; fill both")
        if groups.setdefault(patient, group) != group:
            raise UserError(f"{table}: patient {patient} is in the groups {groups[patient]} and {group}; keep one")
    return groups
