from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import forked_programs
import pytest


def test_quick_run_measures_all_ways(repo_root: Path) -> None:
    words = [repo_root / "benchmarks" / "confusion_matrices.py", "--device", "cpu", "--quick"]
    done = forked_programs.run(words, timeout=120)
    assert done.returncode == 0, done.stderr
    output = done.stdout
    losses = re.findall(r"^(.+?) +[\d.]+ s +[\d.]+ GiB, loss ([\d.]+)$", output, re.MULTILINE)
    assert [way for way, _ in losses] == ["full", "rank1", "rank1 with checkpointing"]
    assert losses[1][1] == losses[2][1]  # checkpointing changes nothing but time and memory


@pytest.mark.slow
def test_19_classes_at_half_the_size_of_cityscapes_fit_in_8_gib(repo_root: Path) -> None:
    # measured in a Python of its own, with as many threads as a user's
    command = [
        sys.executable,
        repo_root / "benchmarks" / "confusion_matrices.py",
        "--device",
        "cpu",
        "--way",
        "rank1",
        "--repeat",
        "0",
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(output)
    assert result["gib"] < 8
