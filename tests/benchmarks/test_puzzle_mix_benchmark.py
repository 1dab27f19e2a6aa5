from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import forked_programs
import pytest


def test_a_quick_run_compares_equal_mixes(repo_root: Path) -> None:
    # the program itself stops with an error where the two forms disagree
    done = forked_programs.run([repo_root / "benchmarks" / "puzzle_mix.py", "--quick"], timeout=120)
    assert done.returncode == 0, done.stderr
    output = done.stdout
    assert re.search(r"^windowed +[\d.]+ s +[\d.]+ MiB\ndense +[\d.]+ s +[\d.]+ MiB$", output, re.MULTILINE)
    assert re.search(r"^windowed / dense: time [\d.]+, memory [\d.]+$", output, re.MULTILINE)
    assert "all patches move alike" in output


@pytest.mark.slow
def test_a_second_at_most_and_a_fraction_of_the_dense_form(repo_root: Path) -> None:
    # measured in a Python of its own, with as many threads as a user's
    command = [sys.executable, repo_root / "benchmarks" / "puzzle_mix.py"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = re.search(r"^windowed +([\d.]+) s", output, re.MULTILINE)
    ratios = re.search(r"windowed / dense: time ([\d.]+), memory ([\d.]+)", output)
    assert seconds
    assert ratios
    assert float(seconds[1]) <= 1.0
    assert max(map(float, ratios.groups())) <= 0.25
