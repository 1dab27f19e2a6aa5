from __future__ import annotations

import re
from pathlib import Path

import forked_programs


def test_a_quick_run_compares_networks_with_equal_gradients(repo_root: Path) -> None:
    done = forked_programs.run([repo_root / "benchmarks" / "network_step.py", "--quick"], timeout=240)
    assert done.returncode == 0, done.stderr
    names = ["attention-gated U-Net", "UNet+", "instance-norm U-Net"]
    assert re.findall(r"^(.+), 2 x 1 x 48 x 48, \d+ threads$", done.stdout, re.MULTILINE) == names
    for form in ("plain", "own"):
        assert len(re.findall(rf"^{form} +[\d.]+ s +[\d.]+ MiB$", done.stdout, re.MULTILINE)) == 3
    assert len(re.findall(r"^own / plain: time [\d.]+, memory [\d.]+$", done.stdout, re.MULTILINE)) == 3
    errors = re.findall(r"^largest difference of the gradients: (\S+)$", done.stdout, re.MULTILINE)
    assert all(float(error) < 1e-4 for error in errors)
    assert len(errors) == 3
