"""Damaged files of all formats, through every command that reads them.

Each has to end in one clear line that names the file, or in a correct result: never in a stack trace, a hang, memory
for what a header only promises, a changed input or a half-written output. A failure is repeated by its name::

    FUZZ_CASE=evaluate_prediction-.nii.gz-flip~7 pytest tests/fuzz -k one_case
    FUZZ_CASES=20000 FUZZ_SEED=5 pytest tests/fuzz -m slow
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from fuzz_damage import DAMAGES
from fuzz_stages import STAGES, fitting

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="measures memory by /proc")

SEEDS = 3
"""How often damage that differs from seed to seed is done."""
PLACES = [(name, ending) for name, stage in STAGES.items() for ending in stage.endings]


def chosen_cases() -> list[str]:
    """Every damage, to files of two of its formats, spread evenly over the commands; and every command without any."""
    cases = [f"{name}-{stage.endings[0]}-healthy" for name, stage in STAGES.items()]
    used: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    for damage, (_, fits, *_) in DAMAGES.items():
        for number in range(2 if len(fits) > 2 else 1):
            for seed in range(SEEDS) if DAMAGES[damage].seeded else (None,):
                free = [place for place in PLACES if place[1] in fits]
                name, ending = min(
                    free, key=lambda place: (endings[damage + place[1]], used[place[0]], endings[place[1]])
                )
                used[name] += 1
                endings[ending] += 1
                endings[damage + ending] += number + 1
                cases.append(f"{name}-{ending}-{damage}" + ("" if seed is None else f"~{seed}"))
    return list(dict.fromkeys(cases))


CASES = chosen_cases()


def test_there_are_enough_cases_of_every_damage_and_command() -> None:
    assert len(CASES) >= 300
    assert {case.split("-")[0] for case in CASES} == set(STAGES)
    assert all(any(f"-{name}" in case for case in CASES) for name in DAMAGES)


@pytest.mark.parametrize("case", CASES)
def test_damage_is_told_in_a_line_or_does_no_harm(case: str, faults: Callable[[str], list[str]]) -> None:
    assert faults(case) == []


@pytest.mark.skipif("FUZZ_CASE" not in os.environ, reason="FUZZ_CASE does not name a case")
def test_one_case(faults: Callable[[str], list[str]]) -> None:
    assert faults(os.environ["FUZZ_CASE"]) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "ending"), PLACES)
def test_many_more(name: str, ending: str, faults: Callable[[str], list[str]]) -> None:
    """FUZZ_CASES of them in all, drawn with FUZZ_SEED."""
    seed = int(os.environ.get("FUZZ_SEED", "0"))
    rng = np.random.default_rng([seed, zlib.crc32(f"{name}-{ending}".encode())])
    kinds = fitting(ending)
    spoiled = {}
    for _ in range(int(os.environ.get("FUZZ_CASES", "4000")) // len(PLACES) + 1):
        damage = kinds[rng.integers(len(kinds))]
        # half of the draws are of damage that differs each time
        many = [kind for kind in kinds if DAMAGES[kind].seeded]
        damage = many[rng.integers(len(many))] if many and rng.random() < 0.5 else damage
        case = f"{name}-{ending}-{damage}" + (f"~{rng.integers(10**6)}" if DAMAGES[damage].seeded else "")
        found = faults(case)
        if found:
            spoiled[case] = found
    assert spoiled == {}
