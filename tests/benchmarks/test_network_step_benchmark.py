from __future__ import annotations

import re
from pathlib import Path

import forked_programs


def test_a_quick_run_compares_two_forms_with_equal_gradients(repo_root: Path) -> None:
    words = [repo_root / "benchmarks" / "network_step.py", "--quick", "--network", "instance-norm U-Net"]
    done = forked_programs.run(words, timeout=240)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert re.fullmatch(r"instance-norm U-Net, 2 x 1 x 48 x 48, \d+ threads", first)
    for form, line in zip(("plain", "own"), lines, strict=False):
        assert re.fullmatch(rf"{form} +[\d.]+ s +[\d.]+ MiB", line)
    assert re.fullmatch(r"own / plain: time [\d.]+, memory [\d.]+", lines[2])
    error = re.fullmatch(r"largest difference of the gradients: (\S+)", lines[3])
    assert error
    assert float(error[1]) < 1e-4
