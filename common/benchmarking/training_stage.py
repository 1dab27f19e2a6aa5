"""Training a run of a benchmark in a process of its own, which ends in time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError

__all__ = ["LOG", "progress_of", "train"]

LOG = "train.log"
_CHECKPOINT = "checkpoint.pt"
_PATIENCE = 30.0
"""Seconds that a process gets to end after it was asked to."""


def train(
    config: Path, folder: Path, options: Mapping[str, Any], *, logging_conf: Path, deadline: float | None
) -> bool:
    """Train until the end, or as long as there is time, going on from the last checkpoint.

    Whole epochs are done: the training itself stops where another one would not end in time. Should an epoch take
    longer than was to be foreseen, the process is ended at the deadline, and what it did since its last checkpoint is
    lost.

    Args:
        config: the configuration.
        folder: the run's folder: gets ``train.log``, ``checkpoint.pt``, curves and, at the end, ``model.pt``.
        options: further keys of the configuration, such as paths.
        logging_conf: the bundle's logging configuration.
        deadline: seconds since 1970 at which it has to be over; None for no limit.

    Returns:
        Whether the training came to its end.

    Raises:
        UserError: the training failed, with its last line, or was killed, with the signal.
    """
    words = {"config_file": config, "logging_file": logging_conf, "output_dir": folder, "resume": "true", **options}
    if deadline is not None:
        words["deadline"] = repr(deadline)
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += [word for key, value in words.items() for word in (f"--{key}", str(value))]
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    with open(folder / LOG, "ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path}
        )
        with _ended(process):
            try:
                status: int | None = process.wait(None if deadline is None else max(0.0, deadline - time.time()))
            except subprocess.TimeoutExpired:
                status = None
    if status is None:
        return False
    if status < 0:  # what it wrote last has nothing to do with it
        raise UserError(f"{folder / LOG}: the training was killed by {_signal(-status)}; the same command goes on")
    if status != 0:
        with open(folder / LOG, "rb") as log:
            log.seek(start)
            lines = log.read().decode("utf-8", errors="replace").strip().splitlines() or [""]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        raise UserError(f"{folder / LOG}: the training failed: {(errors or lines)[-1]}")
    return (folder / "model.pt").is_file()


def _signal(number: int) -> str:
    """A signal in words, with what it comes from as a rule."""
    name = next((f" ({each.name})" for each in signal.Signals if each == number), "")
    # the kernel sends it where memory runs out, and leaves no other trace that can be seen from here
    memory = ", perhaps for want of memory" if number == getattr(signal, "SIGKILL", None) else ""
    return f"signal {number}{name}{memory}"


@contextlib.contextmanager
def _ended(process: subprocess.Popen) -> Iterator[None]:
    """Leave no process behind, whatever happens meanwhile."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def progress_of(folder: Path) -> dict[str, int]:
    """Epochs and iterations that a run's checkpoint has; zeros where there is none.

    Raises:
        UserError: the checkpoint is damaged.
    """
    path = folder / _CHECKPOINT
    if not path.is_file():
        return {"epochs": 0, "iterations": 0}
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return {"epochs": int(saved["epoch"]), "iterations": int(saved["iteration"])}
    except Exception as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}); remove the run's folder") from error
