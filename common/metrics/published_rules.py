"""How the published codes score, where they differ from the protocol of this project.

Their tables can be compared only with numbers that follow their rules for classes that one of the maps lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError

__all__ = ["PATIENT_DICE", "RULES", "apply_rule", "patient_dice"]

PATIENT_DICE = "pooled_slice_dice_of_patients"
"""The key of MAAG's score in a summary."""

RULES = {
    "maag": (
        "Rule of MAAG's Table II: pooled_slice_dice_of_patients is the Dice of all foreground channels pooled, per "
        "slice, averaged over all slices of a patient's volumes, then over the patients; a slice empty in both scores "
        "1. A volume whose patient is not known counts as a patient. All other scores are as said above."
    ),
    "cyclemix": (
        "Rule of CycleMix's code: a class that neither map has scores Dice 1 instead of being left out, one that only "
        "one of them has scores Dice 0. All other scores are as said above; CycleMix reports Dice alone."
    ),
    "attenscribble": (
        "Rule of AttenScribble's code: a class that the prediction or the reference lacks scores Dice 0, HD95 0 mm and "
        "ASSD 0 mm, so that a miss lowers the mean distance. All other scores are as said above, the penalised "
        "distances too; the code has a one-way average distance where this table has ASSD."
    ),
}
"""The rules by the name of their method, each in words for the table's protocol."""


def apply_rule(rows: Sequence[Mapping[str, Any]], rule: str | None) -> list[dict[str, Any]]:
    """Score the classes that a map lacks as a published code does.

    Args:
        rows: rows of :func:`~.case_scores.score_case`.
        rule: a key of ``RULES``; None leaves the rows as they are.

    Returns:
        New rows.

    Raises:
        UserError: the rule is unknown.
    """
    if rule is not None and rule not in RULES:
        raise UserError(f'unknown rule "{rule}"; the known ones are {", ".join(RULES)}')
    changed = []
    for row in rows:
        given: dict[str, float] = {}
        if rule == "cyclemix" and row["outcome"] == "absent":
            given = {"dice": 1.0}
        elif rule == "attenscribble" and row["outcome"] != "scored":
            given = {name: 0.0 for name in ("dice", "hd95", "assd") if name in row}
        changed.append({**row, **given})
    return changed


def patient_dice(rows: Sequence[Mapping[str, Any]], slices: Mapping[str, int]) -> dict[str, float]:
    """Average MAAG's Dice over all slices of each patient.

    Args:
        rows: rows of :func:`~.case_scores.score_case` with ``case`` and, where known, ``patient``.
        slices: number of scored slices of each case, see :func:`~.case_scores.count_slices`.

    Returns:
        The value of each patient, 0 .. 1; NaN where no slice is scored.
    """
    volumes: dict[str, dict[str, float]] = {}
    for row in rows:
        patient = row["case"] if row.get("patient") is None else row["patient"]
        volumes.setdefault(str(patient), {})[row["case"]] = row["pooled_slice_dice"]
    values = {}
    for patient, dice in volumes.items():
        known = {case: value for case, value in dice.items() if slices[case]}
        weights = [slices[case] for case in known]
        values[patient] = float(np.average(list(known.values()), weights=weights)) if known else float("nan")
    return values
