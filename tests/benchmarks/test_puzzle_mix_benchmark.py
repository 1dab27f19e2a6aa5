from __future__ import annotations

import re
from pathlib import Path

import forked_programs
import pytest


def run(repo_root: Path, *options: str) -> str:
    done = forked_programs.run([repo_root / "benchmarks" / "puzzle_mix.py", *options], timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_quick_run_compares_equal_mixes(repo_root: Path) -> None:
    # the program itself stops with an error where the two forms disagree
    output = run(repo_root, "--quick")
    assert re.search(r"^windowed +[\d.]+ s +[\d.]+ MiB\ndense +[\d.]+ s +[\d.]+ MiB$", output, re.MULTILINE)
    assert re.search(r"^windowed / dense: time [\d.]+, memory [\d.]+$", output, re.MULTILINE)
    assert "all patches move alike" in output


@pytest.mark.slow
def test_a_second_at_most_and_a_fraction_of_the_dense_form(repo_root: Path) -> None:
    output = run(repo_root)
    seconds = re.search(r"^windowed +([\d.]+) s", output, re.MULTILINE)
    ratios = re.search(r"windowed / dense: time ([\d.]+), memory ([\d.]+)", output)
    assert seconds
    assert ratios
    assert float(seconds[1]) <= 1.0
    assert max(map(float, ratios.groups())) <= 0.25
