"""Which cases a report shows: the best, the middle one and the worst."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["ROLES", "cases_by_role", "choose_cases"]

ROLES = ("best", "median", "worst")
"""What a chosen case is to its method."""


def choose_cases(scores: Mapping[str, float], *, lower_is_better: bool = False) -> dict[str, str]:
    """Choose a method's best, median and worst case.

    Args:
        scores: score by case; cases without one (NaN) do not count.
        lower_is_better: whether small scores are good, as those of distances are.

    Returns:
        The case by role, empty where no case has a score. Of an even number of cases the worse one of the two in the
        middle is the median; of equal ones the first by name is the best, the last the worst.
    """
    known = {case: score for case, score in scores.items() if not math.isnan(score)}
    if not known:
        return {}
    ranked = sorted(known, key=lambda case: (known[case] if lower_is_better else -known[case], case))
    return {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}


def cases_by_role(chosen: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """List the chosen cases of all methods, each once, with what they are.

    Args:
        chosen: for each method what :func:`choose_cases` gives.

    Returns:
        For each case descriptions such as "best of maag", the best cases first, then the medians, then the worst.
    """
    found: dict[str, list[str]] = {}
    for role in ROLES:
        for method, cases in chosen.items():
            if role in cases:
                found.setdefault(cases[role], []).append(f"{role} of {method}")
    return found
