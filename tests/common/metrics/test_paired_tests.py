"""Paired tests: literals worked out by hand, and scipy on the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from common.errors import UserError
from common.metrics.paired_tests import OVERALL, compare_pair, holm, paired_tests, score_tables

NAN = float("nan")
# differences 0.125, 0.25, 0.5, -0.375, exact in binary
FIRST, SECOND = [0.875, 0.75, 0.75, 0.5], [0.75, 0.5, 0.25, 0.875]


class TestOnePair:
    def test_by_hand(self):
        found = compare_pair(FIRST, SECOND)
        assert found["n"] == 4
        assert found["mean_first"] == pytest.approx(0.71875)
        assert found["mean_second"] == pytest.approx(0.59375)
        assert found["mean_difference"] == pytest.approx(0.125)
        assert found["median_difference"] == pytest.approx(0.1875)
        # Ranks of the sizes 0.125, 0.25, 0.375, 0.5 are 1, 2, 3, 4; the negative one has 3: sums 7 and 3.
        assert found["wilcoxon_statistic"] == 3
        # Of the 16 signs, sums of at most 3 come from {}, {1}, {2}, {3}, {1, 2}: two-sided 2 * 5 / 16.
        assert found["wilcoxon_p"] == pytest.approx(0.625)
        assert found["rank_biserial"] == pytest.approx((7 - 3) / 10)
        # Deviations 0, 0.125, 0.375, -0.5: variance (0.015625 + 0.140625 + 0.25) / 3
        spread = math.sqrt(0.40625 / 3)
        assert found["cohens_dz"] == pytest.approx(0.125 / spread)
        assert found["t_statistic"] == pytest.approx(0.125 / (spread / 2))  # sqrt(4) volumes

    @pytest.mark.parametrize(("n", "digits"), [(12, 6), (40, 6), (80, 6), (12, 1), (60, 1)])
    def test_agrees_with_scipy(self, n, digits):
        """With one digit there are ties and zero differences."""
        rng = np.random.default_rng(n)
        one, two = rng.random(n).round(digits), (rng.random(n) * 0.9).round(digits)
        found = compare_pair(one, two)
        wilcoxon, t = stats.wilcoxon(one - two), stats.ttest_rel(one, two)
        assert (found["wilcoxon_statistic"], found["wilcoxon_p"]) == (wilcoxon.statistic, wilcoxon.pvalue)
        assert (found["t_statistic"], found["t_p"]) == pytest.approx((t.statistic, t.pvalue))
        assert found["cohens_dz"] == pytest.approx(t.statistic / math.sqrt(n))
        ranks = stats.rankdata(abs(one - two)[one != two])
        positive = ranks[(one > two)[one != two]].sum()
        assert found["rank_biserial"] == pytest.approx(2 * positive / ranks.sum() - 1)

    def test_order_turns_the_signs_alone(self):
        there, back = compare_pair(FIRST, SECOND), compare_pair(SECOND, FIRST)
        for name in ("mean_difference", "median_difference", "t_statistic", "cohens_dz", "rank_biserial"):
            assert there[name] == -back[name] != 0
        for name in ("n", "wilcoxon_statistic", "wilcoxon_p", "t_p"):
            assert there[name] == pytest.approx(back[name])

    def test_pairs_without_a_score_are_left_out(self):
        assert compare_pair([*FIRST, NAN, 0.5], [*SECOND, 0.5, NAN]) == compare_pair(FIRST, SECOND)

    def test_nothing_differs(self):
        found = compare_pair(FIRST, FIRST)
        assert (found["wilcoxon_p"], found["t_p"], found["cohens_dz"], found["rank_biserial"]) == (1, 1, 0, 0)

    def test_too_few(self):
        none = compare_pair([NAN, 1.0], [1.0, NAN])
        assert none.pop("n") == 0
        assert all(math.isnan(value) for value in none.values())
        for one in (compare_pair([0.5], [0.25]), compare_pair([0.5], [0.5])):
            assert (one["n"], one["wilcoxon_p"]) == (1, 1)
            assert math.isnan(one["t_p"])
            assert math.isnan(one["cohens_dz"])

    def test_the_same_difference_everywhere(self):
        found = compare_pair([0.5, 0.75, 1.0], [0.25, 0.5, 0.75])
        assert (found["t_p"], found["cohens_dz"], found["rank_biserial"]) == (0, math.inf, 1)


class TestHolm:
    def test_by_hand(self):
        # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, which must not fall again.
        assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])

    def test_at_most_one(self):
        assert holm([0.6, 0.7]) == [1, 1]

    def test_a_test_that_could_not_be_done_does_not_count(self):
        corrected = holm([NAN, 0.02, 0.03])
        assert math.isnan(corrected[0])
        assert corrected[1:] == pytest.approx([0.04, 0.04])
        assert holm([]) == []


def rows_of(dice: dict[str, tuple[float, float]]) -> list[dict]:
    return [
        {"case": case, "class_index": index, "dice": value, "pooled_slice_dice": sum(values) / 4}
        for case, values in dice.items()
        for index, value in enumerate(values, start=1)
    ]


class TestMethods:
    names = ("background", "RV", "LV")
    rows = rows_of({"a": (0.5, 1.0), "b": (0.25, NAN), "c": (NAN, NAN)})

    def test_scores_are_sorted_by_class(self):
        tables = score_tables(self.rows, self.names)
        assert set(tables) == {("dice", "RV"), ("dice", "LV"), ("dice", OVERALL), ("pooled_slice_dice", OVERALL)}
        assert tables["dice", "RV"] == pytest.approx({"a": 0.5, "b": 0.25, "c": NAN}, nan_ok=True)
        assert tables["dice", OVERALL] == pytest.approx({"a": 0.75, "b": 0.25, "c": NAN}, nan_ok=True)

    def tables(self) -> dict[str, dict]:
        rng = np.random.default_rng(0)
        values = {name: rng.random((2, 9)) + shift for name, shift in (("x", 0.0), ("y", 0.3), ("z", 0.35))}
        return {
            name: {("dice", "RV"): dict(enumerate(rv)), ("hd95", "RV"): dict(enumerate(distance))}
            for name, (rv, distance) in values.items()
        }

    def test_all_pairs(self):
        tables = self.tables()
        found = paired_tests(tables)
        pairs = [(row["score"], row["first"], row["second"]) for row in found]
        assert sorted(pairs) == [(score, *pair) for score in ("dice", "hd95") for pair in (("x", "y"), *ZXY)]
        # a family is one score: its three pairs
        dice = [row for row in found if row["score"] == "dice"]
        for test in ("wilcoxon_p", "t_p"):
            assert [row[f"{test}_holm"] for row in dice] == holm([row[test] for row in dice])
        (one,) = [row for row in dice if (row["first"], row["second"]) == ("x", "y")]
        values = [list(tables[name]["dice", "RV"].values()) for name in "xy"]
        assert one["t_p"] == pytest.approx(stats.ttest_rel(*values).pvalue)

    def test_against_one(self):
        found = paired_tests(self.tables(), against="y")
        assert {(row["first"], row["second"]) for row in found} == {("x", "y"), ("z", "y")}

    def test_mistakes(self):
        tables = self.tables()
        with pytest.raises(UserError, match="two or more"):
            paired_tests({"x": tables["x"]})
        with pytest.raises(UserError, match='"w" is none of the methods x, y, z'):
            paired_tests(tables, against="w")
        del tables["y"]["dice", "RV"][3]
        with pytest.raises(UserError, match="x and y were not scored on the same volumes"):
            paired_tests(tables)


ZXY = (("x", "z"), ("y", "z"))
