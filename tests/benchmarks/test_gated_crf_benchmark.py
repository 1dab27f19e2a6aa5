from __future__ import annotations

import re
from pathlib import Path

import forked_programs


def test_a_quick_run_compares_two_equal_losses(repo_root: Path) -> None:
    done = forked_programs.run([repo_root / "benchmarks" / "gated_crf.py", "--quick"], timeout=120)
    assert done.returncode == 0, done.stderr
    output = done.stdout
    assert re.search(r"^shifts +[\d.]+ ms, +[\d.]+ MiB extra$", output, re.MULTILINE)
    assert re.search(r"^unfold +[\d.]+ ms, +[\d.]+ MiB extra$", output, re.MULTILINE)
    assert re.search(r"^unfold / shifts: time [\d.]+, extra memory [\d.]+$", output, re.MULTILINE)
    found = re.search(r"^relative difference: value (\S+), gradient (\S+)$", output, re.MULTILINE)
    assert found
    assert max(map(float, found.groups())) < 1e-5
