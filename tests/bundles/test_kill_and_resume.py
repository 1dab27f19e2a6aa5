"""Kill -9 at any moment, then the same command with --resume true: the weights of an unbroken run, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked_programs
import pytest
import torch
from forked_programs import ForkedProgram

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())

# Runs a module as `python -m` does, while a file says what the process is at. A file of weights or states is written in
# two halves with a pause between them, so that a kill can be aimed at the middle of a write.
PROGRAM = """
import io, runpy, sys, time
from pathlib import Path
import torch
from monai.engines import SupervisedEvaluator

stage = Path(sys.argv.pop(1))
save, evaluate = torch.save, SupervisedEvaluator.run

def slow_save(content, file, **options):
    buffer = io.BytesIO()
    save(content, buffer, **options)
    half = len(buffer.getvalue()) // 2
    with open(file, "wb") as stream:
        stream.write(buffer.getvalue()[:half])
        stream.flush()
        stage.write_text(f"saving {Path(file).name[14:]}")
        time.sleep(0.1)
        stream.write(buffer.getvalue()[half:])
    stage.write_text("training")

def told_run(self, *arguments, **options):
    stage.write_text("validating")
    time.sleep(0.1)
    evaluate(self, *arguments, **options)
    stage.write_text("training")

torch.save, SupervisedEvaluator.run = slow_save, told_run
sys.argv = ["monai.bundle", *sys.argv[1:]]
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""


def words(bundle: str, stage: Path, phantom_dir: Path, output: Path) -> list[str]:
    stage.write_text("starting")
    options = {
        "config_file": f"bundles/{bundle}/configs/train.json",
        "dataset_dir": phantom_dir,
        "output_dir": output,
        "pixdim": "[4.0,4.0]",
        "roi_size": "[48,48]",
        "filters": 4,
        "batch_size": 8,
        "max_epochs": 8,  # more than the kills let through, however fast the machine
        "val_interval": 1,
        "resume": "true",
        "progress": "false",
    }
    settings = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return ["-c", PROGRAM, str(stage), "run", *settings]


def kill_at(process: ForkedProgram, stage: Path, wanted: str, delay: float) -> bool:
    """Kill the process once the stage begins with ``wanted``; False if it ended before."""
    deadline = time.monotonic() + 120
    while not stage.read_text().startswith(wanted):
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, f"never came to {wanted!r}"
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait(60) == -signal.SIGKILL


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("bundle", "kills"),
    [
        ("maag", 5),
        pytest.param("maag", 12, marks=pytest.mark.slow),
        # minutes each, by the same handlers
        *[pytest.param(name, 3, marks=pytest.mark.slow) for name in BUNDLES if name != "maag"],
    ],
)
def test_killed_runs_end_with_the_weights_of_an_unbroken_one(bundle, kills, phantom_dir, tmp_path):
    whole, broken, stage, log = (tmp_path / name for name in ("whole", "broken", "stage", "broken.log"))
    # in a Python that starts from nothing: sets have another order there than in the runs compared with it
    unbroken = [sys.executable, *words(bundle, stage, phantom_dir, whole)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(unbroken, cwd=REPO_ROOT, env=environment, capture_output=True, timeout=300, check=True)

    def start() -> ForkedProgram:
        return forked_programs.start(words(bundle, stage, phantom_dir, broken), log, log)

    draw = random.Random(1)
    # of the aimed ones, some fall into the two halves of a write, some into a validation, the others anywhere
    aims = ["saving checkpoint.pt", "validating", "training", "saving", "starting"] * 3
    aims = aims[:kills]
    killed = []
    for aim in aims:
        # a start takes two seconds and an epoch less than one; a write and a validation pause for a tenth of one
        delay = {"saving": 0.05, "validating": 0.13, "training": 0.6, "starting": 2.0}[
            aim.split(" ")[0]
        ] * draw.random()
        if kill_at(start(), stage, aim, delay):
            killed.append((aim, stage.read_text()))
        for path in broken.glob("[!.]*.pt"):
            weights(path)  # whatever bears its name is whole
            assert path.name == "checkpoint.pt" or json.loads(path.with_suffix(".json").read_text())["settings"]
    assert len(killed) >= len(aims) - 2, killed  # a run may have come to its end before
    assert any(found.startswith("saving") for _, found in killed), killed
    assert any(found == "validating" for _, found in killed), killed

    assert start().wait(timeout=300) == 0, log.read_text()[-2000:]
    assert "resuming after epoch" in log.read_text()
    assert not [*broken.glob(".*.pt"), *broken.glob(".*.json")]  # what the kills left half written is gone
    for name in ("model.json", "model_best.json"):
        assert (broken / name).read_text() == (whole / name).read_text()
    for name in ("model.pt", "model_best.pt"):
        expected, found = weights(whole / name), weights(broken / name)
        assert list(expected) == list(found)
        for key, value in expected.items():
            assert torch.equal(value, found[key]), f"{name}: {key}"
