"""Tables of methods and classes."""

from __future__ import annotations

import pytest

from common.reporting.method_tables import method_table, stars


def of(mean: float | None, n: int = 4) -> dict:
    return {"mean": mean, "std": 0.1, "median": mean, "n": n}


def summary(**means: float | None) -> dict:
    return {"classes": {name: {"dice": of(mean), "hd95": of(mean)} for name, mean in means.items()}, "all": {}}


def marked(score: str, **summaries: dict) -> dict[str, list[bool]]:
    table = method_table(score, summaries, ["background", "A", "B"])
    assert table is not None
    return {name: [bool(cell and cell.best) for cell in row] for name, row in table.rows.items()}


def test_equal_as_printed_is_equal() -> None:
    # 0.8504 and 0.8499 are both printed as 0.850
    summaries = {"x": summary(A=0.8504, B=0.5), "y": summary(A=0.8499, B=0.7), "z": summary(A=0.84, B=0.6)}
    assert marked("dice", **summaries) == {"x": [True, False], "y": [True, True], "z": [False, False]}


def test_small_distances_are_the_best() -> None:
    assert marked("hd95", x=summary(A=3.0, B=9.0), y=summary(A=4.0, B=2.0)) == {"x": [True, False], "y": [False, True]}


def test_nothing_is_best_of_one() -> None:
    assert marked("dice", x=summary(A=0.9, B=0.9)) == {"x": [False, False]}
    assert marked("dice", x=summary(A=0.9, B=0.9), y=summary(A=None, B=0.1))["x"] == [False, True]


def test_cells_are_printed_and_missing_numbers_empty() -> None:
    table = method_table("hd95", {"x": summary(A=1.005, B=None)}, ["background", "A", "B"])
    assert table is not None
    first, second = table.rows["x"]
    assert first is not None
    assert second is not None
    assert (first.mean, first.std, first.median, first.n) == ("1.00", "0.10", "1.00", 4)
    assert second.mean == ""
    assert table.columns == ["A", "B"]  # "all" has no HD95 here
    assert method_table("iou", {"x": summary(A=1.0)}, ["background", "A", "B"]) is None


def test_stars_stand_at_those_that_differ_from_the_best_or_from_the_chosen_one() -> None:
    def row(first: str, second: str, p: float | None) -> dict:
        return {"score": "dice", "class_name": "A", "first": first, "second": second, "wilcoxon_p_holm": p}

    summaries = {"x": summary(A=0.9), "y": summary(A=0.8), "z": summary(A=0.9)}
    tests = [row("x", "y", 0.004), row("x", "z", 0.02), row("y", "z", 0.0001)]
    names = ["background", "A"]

    def found(against: str | None) -> dict:
        table = method_table("dice", summaries, names, tests=tests, against=against)
        assert table is not None
        return {name: cells[0].stars for name, cells in table.rows.items() if cells[0]}

    # the best are x and z, of which x is the first; z is as good and so has no stars
    assert found(None) == {"x": "", "y": "**", "z": ""}
    assert found("z") == {"x": "*", "y": "***", "z": ""}


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0009, "***"), (0.001, "**"), (0.0099, "**"), (0.01, "*"), (0.05, ""), (None, ""), (float("nan"), "")],
)
def test_stars_of_p(p: float | None, expected: str) -> None:
    assert stars(p) == expected
