"""Patients divided into sections."""

from __future__ import annotations

import pytest

from common.data.patient_split import split_patients, split_training
from common.errors import UserError


@pytest.mark.parametrize(
    ("patients", "counts"),
    [
        (100, [35, 35, 15, 15]),  # the numbers of ACDC and LVSC
        (20, [7, 7, 3, 3]),  # CHAOS: .15 * 20 = 3, (20 - 6) / 2 = 7
        (21, [8, 7, 3, 3]),  # the odd one has scribbles
        (4, [1, 1, 1, 1]),
        (5, [2, 1, 1, 1]),
    ],
)
def test_sizes_of_the_sections(patients: int, counts: list[int]) -> None:
    names = [f"p{number:03d}" for number in range(patients)]
    split = split_patients(names, seed=3)
    assert list(split) == ["training", "unpaired_masks", "validation", "test"]
    assert [len(section) for section in split.values()] == counts
    assert sorted(name for section in split.values() for name in section) == names
    assert all(section == sorted(section) for section in split.values())


def test_cameras() -> None:
    split = split_training([f"{number}" for number in range(1, 101)], seed=0)
    # 10 % of 100 validate, half of the other 90 have scribbles
    assert {section: len(names) for section, names in split.items()} == {
        "training": 45,
        "unpaired_masks": 45,
        "validation": 10,
    }
    assert len({name for names in split.values() for name in names}) == 100


@pytest.mark.parametrize("divide", [split_patients, split_training])
def test_seed_and_names_alone_decide(divide) -> None:
    names = [f"p{number:03d}" for number in range(40)]
    assert divide(names, seed=1) == divide(names[::-1], seed=1)
    assert divide(names, seed=1) != divide(names, seed=2)


def test_too_few() -> None:
    with pytest.raises(UserError, match=r"^3 patients are too few: the sections of a datalist need at least 4$"):
        split_patients(["a", "b", "c"], seed=0)
    with pytest.raises(UserError, match=r"^2 groups are too few"):
        split_training(["a", "b"], seed=0)
