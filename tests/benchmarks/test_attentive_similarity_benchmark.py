from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(repo_root: Path, *options: str) -> str:
    command = [sys.executable, str(repo_root / "benchmarks" / "attentive_similarity.py"), "--device", "cpu", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_quick_run_compares_both_forms(repo_root):
    # the program itself stops with an error where the two forms disagree
    output = run(repo_root, "--quick")
    assert re.search(r"^full +[\d.]+ s +[\d.]+ MiB\nwindowed +[\d.]+ s +[\d.]+ MiB\n", output, re.MULTILINE)
    assert len(re.findall(r"(?:value|logits|queries|keys|weights) \d\.\de-\d\d", output)) == 5


@pytest.mark.slow
def test_no_slower_and_a_tenth_of_the_memory(repo_root):
    output = run(repo_root, "--repeat", "1")
    time, memory = map(float, re.search(r"windowed / full: time ([\d.]+), memory ([\d.]+)", output).groups())
    assert time <= 1.0
    assert memory <= 0.1
