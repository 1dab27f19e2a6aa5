from __future__ import annotations

import json
import re
from pathlib import Path

import forked_programs
import pytest


def run(repo_root: Path, *options: str) -> str:
    done = forked_programs.run(
        [repo_root / "benchmarks" / "confusion_matrices.py", "--device", "cpu", *options], timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quick_run_measures_all_ways(repo_root: Path) -> None:
    output = run(repo_root, "--quick")
    losses = re.findall(r"^(.+?) +[\d.]+ s +[\d.]+ GiB, loss ([\d.]+)$", output, re.MULTILINE)
    assert [way for way, _ in losses] == ["full", "rank1", "rank1 with checkpointing"]
    assert losses[1][1] == losses[2][1]  # checkpointing changes nothing but time and memory


@pytest.mark.slow
def test_19_classes_at_half_the_size_of_cityscapes_fit_in_8_gib(repo_root: Path) -> None:
    result = json.loads(run(repo_root, "--way", "rank1", "--repeat", "0"))
    assert result["gib"] < 8
