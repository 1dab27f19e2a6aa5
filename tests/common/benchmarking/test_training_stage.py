"""What a benchmark says of a training that fails, that is killed, or for which there is no time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.benchmarking import training_stage
from common.errors import UserError


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Trainings that are a program of their own, in place of a bundle's."""
    started = subprocess.Popen

    def trained(program: str, deadline: float | None = None) -> bool:
        monkeypatch.setattr(
            training_stage.subprocess, "Popen", lambda _, **options: started([sys.executable, "-c", program], **options)
        )
        return training_stage.train(
            tmp_path / "config.json", tmp_path, {}, logging_conf=tmp_path / "logging.conf", deadline=deadline
        )

    return trained


def test_a_training_at_its_end_has_weights(train, tmp_path: Path) -> None:
    assert not train("print(1)")
    (tmp_path / "model.pt").touch()
    assert train("print(2)")
    assert (tmp_path / "train.log").read_text() == "1\n2\n"


def test_a_training_that_fails_is_told_by_its_own_line(train) -> None:
    train("print('error: of an earlier attempt')")
    with pytest.raises(UserError, match=r"train.log: the training failed: the last line$"):
        train("print('the last line'); exit(3)")
    with pytest.raises(UserError, match=r"train.log: the training failed: --filters: none$"):
        train("print('error: --filters: none'); print('more'); exit(1)")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("SIGKILL", r"signal 9 \(SIGKILL\), perhaps for want of memory"),
        ("SIGSEGV", r"signal 11 \(SIGSEGV\)"),
        ("SIGRTMIN + 3", r"signal \d+"),
    ],
)
def test_a_training_that_is_killed_is_told_with_the_signal(train, number: str, words: str) -> None:
    program = f"import os, signal; print('epoch 3', flush=True); os.kill(os.getpid(), signal.{number})"
    with pytest.raises(UserError, match=rf"train.log: the training was killed by {words}; the same command goes on$"):
        train(program)


def test_a_training_ends_at_the_deadline(train) -> None:
    assert not train("import time; time.sleep(60)", deadline=0.0)
