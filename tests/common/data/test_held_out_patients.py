"""Holding patients out: shares, strata, and that nobody moves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from common.data.held_out_patients import hold_out, read_groups
from common.errors import UserError

SHARES = {"validation": 0.2, "test": 0.1}


def names(stratum: str, count: int, start: int = 0) -> dict[str, str]:
    return {f"{stratum}{number:03d}": stratum for number in range(start, start + count)}


def counts(held: dict[str, str], strata: dict[str, str]) -> Counter[tuple[str, str]]:
    return Counter((section, strata[patient]) for patient, section in held.items())


def test_each_stratum_gives_its_share() -> None:
    strata = names("a", 20) | names("b", 10)  # 30 patients: 6 validate, 3 test
    held = hold_out(strata, shares=SHARES, seed=0, scribbled=strata, before={})
    assert counts(held, strata) == {
        ("validation", "a"): 4,
        ("validation", "b"): 2,
        ("test", "a"): 2,
        ("test", "b"): 1,
    }


def test_the_seed_and_nothing_else_chooses() -> None:
    strata = names("a", 20)
    first = hold_out(strata, shares=SHARES, seed=0, scribbled=strata, before={})
    assert hold_out(dict(reversed(strata.items())), shares=SHARES, seed=0, scribbled=strata, before={}) == first
    assert hold_out(strata, shares=SHARES, seed=1, scribbled=strata, before={}) != first


@pytest.mark.parametrize("seed", range(5))
def test_nobody_moves_when_patients_come(seed: int) -> None:
    strata = names("a", 7)
    before: dict[str, str] = {}
    for size in (7, 8, 13, 30, 60):
        strata |= names("a", size) | names("b", size // 2)
        held = hold_out(strata, shares=SHARES, seed=seed, scribbled=strata, before=before)
        for patient, section in before.items():
            assert held.get(patient, "training") == section
        before = {patient: held.get(patient, "training") for patient in strata}
    assert counts(held, strata).total() == 27  # of 90: 18 validate, 9 test


def test_new_patients_fill_up_and_a_lower_share_sends_nobody_back() -> None:
    strata = names("a", 10)
    held = hold_out(strata, shares={"validation": 0.5}, seed=0, scribbled=strata, before={})
    assert len(held) == 5
    before = {patient: held.get(patient, "training") for patient in strata}
    assert hold_out(strata, shares={"validation": 0.1}, seed=0, scribbled=strata, before=before) == held
    assert hold_out(strata, shares={"validation": 0.9}, seed=0, scribbled=strata, before=before) == held
    more = strata | names("n", 2)
    grown = hold_out(more, shares={"validation": 0.9}, seed=0, scribbled=more, before=before)
    assert set(grown) - set(held) == {"n000", "n001"}  # 0.9 * 12 = 11 wanted, but only two are new


def test_an_empty_section_takes_patients_trained_with() -> None:
    strata = names("a", 10)
    before = dict.fromkeys(strata, "training")
    assert len(hold_out(strata, shares={"validation": 0.2}, seed=0, scribbled=strata, before=before)) == 1
    held = hold_out(strata | names("n", 5), shares={"validation": 0.2}, seed=0, scribbled=strata, before=before)
    assert set(held) <= set(names("n", 5))  # 3 of 15


def test_the_last_patient_with_scribbles_trains() -> None:
    options = {"seed": 0, "before": {}}
    assert hold_out({"p": "a"}, shares={"validation": 0.5}, scribbled={"p"}, **options) == {}
    assert hold_out({"p": "a"}, shares={"validation": 0.5}, scribbled={"p", "q"}, **options) == {"p": "validation"}
    assert hold_out({"p": "a"}, shares={"validation": 0.5}, scribbled=set(), **options) == {"p": "validation"}
    assert hold_out({"p": "a"}, shares={"test": 1.0}, scribbled={"p"}, **options) == {"p": "test"}
    two = hold_out({"p": "a", "q": "a"}, shares={"validation": 0.9}, scribbled={"p", "q"}, **options)
    assert len(two) == 1


def test_no_patient_and_no_share() -> None:
    assert hold_out({}, shares=SHARES, seed=0, scribbled=(), before={}) == {}
    assert hold_out(names("a", 9), shares={"validation": 0.0}, seed=0, scribbled=(), before={}) == {}


@pytest.mark.parametrize(
    ("shares", "line"),
    [
        ({"validation": 1.2, "test": 0.0}, "--validation_share is 1.2; give a number from 0 to 1"),
        ({"validation": 0.2, "test": -0.1}, "--test_share is -0.1; give a number from 0 to 1"),
        ({"validation": 0.6, "test": 0.5}, "--validation_share and --test_share are 1.1 together; at most 1"),
        ({"validation": float("nan")}, "--validation_share is nan; give a number from 0 to 1"),
    ],
)
def test_impossible_shares(shares: dict[str, float], line: str) -> None:
    with pytest.raises(UserError) as caught:
        hold_out(names("a", 9), shares=shares, seed=0, scribbled=(), before={})
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "text",
    [
        "patient,group\np1,DCM\np2, NOR \n",
        "\ufeffgroup;age;patient\r\nDCM;7;p1\r\nNOR;8;p2\r\n",
        "patient\tgroup\np1\tDCM\np2\tNOR\np1\tDCM",
    ],
)
def test_groups_from_a_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert read_groups(tmp_path / "t.csv") == {"p1": "DCM", "p2": "NOR"}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", ': its first line lacks the column "patient" or "group"; write patient,group'),
        (b"p1,DCM\n", ': its first line lacks the column "patient" or "group"; write patient,group'),
        (b"patient,group\np1,DCM\np2\n", ": line 3 has no patient or no group; fill both"),
        (b"patient,group\np1,A\np1,B\n", ": patient p1 is in the groups A and B; keep one"),
        (b"\xff\xfe\x00", ": cannot be read as a CSV file; name a table of patient,group"),
    ],
)
def test_faulty_tables(tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_groups(tmp_path / "t.csv")
    assert str(caught.value) == f"{tmp_path / 't.csv'}{line}"


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.csv: cannot be read as a CSV file"):
        read_groups(tmp_path / "no.csv")
