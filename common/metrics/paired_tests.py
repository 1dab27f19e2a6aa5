"""Paired tests between methods that were scored on the same volumes."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from ..errors import UserError

__all__ = ["OVERALL", "TESTS_PROTOCOL", "compare_pair", "holm", "paired_tests", "score_tables"]

TESTS_PROTOCOL = (
    "Paired over volumes; a volume counts where both methods have the score, n volumes in all. 'all' compares the mean "
    "over a volume's classes. Differences are first minus second. Two-sided Wilcoxon signed-rank test without the zero "
    "differences, by the exact distribution up to 50 volumes without ties or zeros and up to 13 with them, else by the "
    "normal approximation; two-sided paired t test. Where no volume differs p is 1. cohens_dz: mean difference over "
    "its standard deviation (ddof=1); rank_biserial: (sum of the ranks of positive differences - that of negative "
    "ones) / their total, -1 to 1. p_holm: corrected by Holm over all pairs of methods and all classes and 'all', for "
    "each score and each test by itself. Volumes count as independent, also two phases of one patient."
)
"""What the numbers of the tests mean; written next to them."""

OVERALL = "all"
"""The group of the means over a volume's classes."""

_SCORES = ("dice", "iou", "hd95", "hd95_penalised", "assd", "assd_penalised")
_MEANS = ("mean_first", "mean_second", "mean_difference", "median_difference")
_TESTS = ("wilcoxon_statistic", "wilcoxon_p", "t_statistic", "t_p", "cohens_dz", "rank_biserial")


def score_tables(
    rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> dict[tuple[str, str], dict[str, float]]:
    """Sort the scores of a method by what is compared.

    Args:
        rows: rows of :func:`~.case_scores.score_case`, each with its ``case``.
        class_names: names of all classes, the background first.

    Returns:
        For each (score, class name) the value of each case, NaN where it has none; under the class name ``OVERALL``
        the mean over the case's classes that have one.
    """
    tables: dict[tuple[str, str], dict[str, float]] = {}
    for score in (name for name in _SCORES if rows and name in rows[0]):
        of_case: dict[str, list[float]] = {}
        for row in rows:
            of_case.setdefault(row["case"], []).append(row[score])
        for index, class_name in enumerate(class_names[1:], start=1):
            tables[score, class_name] = {row["case"]: row[score] for row in rows if row["class_index"] == index}
        known = {case: [value for value in values if not np.isnan(value)] for case, values in of_case.items()}
        tables[score, OVERALL] = {case: float(np.mean(v)) if v else float("nan") for case, v in known.items()}
    if rows and "pooled_slice_dice" in rows[0]:
        tables["pooled_slice_dice", OVERALL] = {row["case"]: row["pooled_slice_dice"] for row in rows}
    return tables


def paired_tests(
    tables: Mapping[str, Mapping[tuple[str, str], Mapping[str, float]]], *, against: str | None = None
) -> list[dict[str, Any]]:
    """Compare methods two by two.

    Args:
        tables: for each method what :func:`score_tables` gives, or values of the same form.
        against: the method that all others are compared with, as the second of each pair; None compares all pairs.

    Returns:
        One dictionary for each score, class and pair: ``score``, ``class_name``, ``first``, ``second``, and the numbers
        of :func:`compare_pair` with the corrected ``wilcoxon_p_holm`` and ``t_p_holm``; see ``TESTS_PROTOCOL``.

    Raises:
        UserError: there are fewer than two methods, ``against`` is none of them, or they were scored on other volumes.
    """
    names = list(tables)
    if len(names) < 2:
        raise UserError(f"paired tests need two or more methods, got {', '.join(names) or 'none'}")
    if against is not None and against not in names:
        raise UserError(f'--against "{against}" is none of the methods {", ".join(names)}')
    pairs = [(name, against) for name in names if name != against] if against else itertools.combinations(names, 2)
    found: list[dict[str, Any]] = []
    for first, second in pairs:
        for (score, class_name), values in tables[first].items():
            others = tables[second].get((score, class_name), {})
            if set(values) != set(others):
                raise UserError(f"{first} and {second} were not scored on the same volumes: score both anew")
            both = compare_pair(list(values.values()), [others[case] for case in values])
            found.append({"score": score, "class_name": class_name, "first": first, "second": second, **both})
    for score, test in itertools.product(dict.fromkeys(row["score"] for row in found), ("wilcoxon_p", "t_p")):
        family = [row for row in found if row["score"] == score]
        for row, corrected in zip(family, holm([row[test] for row in family]), strict=True):
            row[f"{test}_holm"] = corrected
    return found


def compare_pair(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Test whether two methods differ.

    Args:
        first: scores of the first method; pairs with a NaN are left out.
        second: scores of the second method on the same volumes.

    Returns:
        ``n``, ``mean_first``, ``mean_second``, ``mean_difference``, ``median_difference``, ``wilcoxon_statistic`` (the
        smaller sum of ranks), ``wilcoxon_p``, ``t_statistic``, ``t_p``, ``cohens_dz`` and ``rank_biserial``; NaN where
        there are too few pairs (one for the Wilcoxon test, two for the t test and Cohen's d).
    """
    pairs = np.array([first, second], dtype=float).reshape(2, -1)
    one, two = pairs[:, ~np.isnan(pairs).any(0)]
    difference = one - two
    if not difference.size:
        return {"n": 0} | dict.fromkeys((*_MEANS, *_TESTS), float("nan"))
    means = (one.mean(), two.mean(), difference.mean(), np.median(difference))
    tests = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0)  # nothing differs
    if difference.any():
        tests = (*_wilcoxon(difference), *_t_test(difference), _cohens_dz(difference), _rank_biserial(difference))
    elif difference.size == 1:
        tests = (0.0, 1.0, float("nan"), float("nan"), float("nan"), 0.0)
    return {"n": difference.size} | {
        name: float(value) for name, value in zip((*_MEANS, *_TESTS), (*means, *tests), strict=True)
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for the number of tests by Holm's step-down method.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

    Args:
        p_values: the p values of one family of tests; NaN for a test that could not be done, which does not count.

    Returns:
        The corrected values in the same order: the k-th smallest of m is multiplied by m - k + 1, is at least as large
        as the one before it, and at most 1.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN comes last
    corrected = np.full(p.shape, np.nan)
    steps = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    corrected[order] = np.minimum(steps, 1)
    return corrected.tolist()


def _wilcoxon(difference: np.ndarray) -> tuple[float, float]:
    found = stats.wilcoxon(difference)
    return float(found.statistic), float(found.pvalue)


def _t_test(difference: np.ndarray) -> tuple[float, float]:
    if difference.size < 2:
        return float("nan"), float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # equal differences: t is infinite
        found = stats.ttest_1samp(difference, 0)
    return float(found.statistic), float(found.pvalue)


def _cohens_dz(difference: np.ndarray) -> float:
    if difference.size < 2:
        return float("nan")
    spread = difference.std(ddof=1)
    return float(difference.mean() / spread) if spread else float(np.copysign(np.inf, difference.mean()))


def _rank_biserial(difference: np.ndarray) -> float:
    known = difference[difference != 0]
    ranks = stats.rankdata(np.abs(known))
    return float((ranks * np.sign(known)).sum() / ranks.sum())
