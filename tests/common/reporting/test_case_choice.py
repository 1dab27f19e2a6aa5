"""The best, the median and the worst case."""

from __future__ import annotations

from common.reporting.case_choice import cases_by_role, choose_cases

NAN = float("nan")


def test_odd_and_even_numbers_and_one() -> None:
    assert choose_cases({"a": 0.1, "b": 0.9, "c": 0.5}) == {"best": "b", "median": "c", "worst": "a"}
    # b, d, c, a from best to worst: of the two in the middle the worse one
    assert choose_cases({"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.6})["median"] == "c"
    assert choose_cases({"a": 0.1}) == {"best": "a", "median": "a", "worst": "a"}


def test_small_distances_are_the_best() -> None:
    assert choose_cases({"a": 1.0, "b": 9.0, "c": 5.0}, lower_is_better=True) == {
        "best": "a",
        "median": "c",
        "worst": "b",
    }


def test_ties_go_by_name_whatever_the_order() -> None:
    assert choose_cases({"c": 0.5, "a": 0.5, "b": 0.5}) == {"best": "a", "median": "b", "worst": "c"}
    assert choose_cases({"c": 0.5, "a": 0.5, "b": 0.5}, lower_is_better=True)["best"] == "a"


def test_cases_without_a_score_do_not_count() -> None:
    assert choose_cases({"a": NAN, "b": 0.5, "c": NAN}) == {"best": "b", "median": "b", "worst": "b"}
    assert choose_cases({"a": NAN}) == {}
    assert choose_cases({}) == {}


def test_a_case_of_several_roles_comes_once() -> None:
    chosen = {"x": {"best": "a", "median": "b", "worst": "c"}, "y": {"best": "c", "median": "b", "worst": "a"}, "z": {}}
    assert cases_by_role(chosen) == {
        "a": ["best of x", "worst of y"],
        "c": ["best of y", "worst of x"],
        "b": ["median of x", "median of y"],
    }
