"""What is known of a run of a benchmark: how far it has come, what made it, and how long it took."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..distributed import has_bfloat16
from ..errors import UserError
from ..files import read_text, write_json
from ..reporting.settings import program_versions

__all__ = ["STAGES", "RunState", "hardware"]

STAGES = ("training", "prediction", "scoring", "finished")
"""What a run has before it, in order: a state names the stage that is not done yet."""

_FILE = "run.json"
_THEN = ", then "
_DATALIST = "datalist"


@dataclass
class RunState:
    """The file ``run.json`` of a run's folder.

    Attributes:
        folder: the folder.
        stage: one of ``STAGES``.
        about: suite, setting, method, seed, the digest of their definition and the SHA-256 of the datalist; what they
            have to be for the folder to be gone on with.
        seconds: time spent in each stage, over all attempts.
        notes: what else is known: hardware, versions, steps.
        begun: seconds since 1970 at which the attempt under way, or one that was killed, began; None for no such one.
    """

    folder: Path
    about: dict[str, Any]
    stage: str = STAGES[0]
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    begun: float | None = None

    @classmethod
    def of(cls, folder: Path, about: dict[str, Any]) -> RunState:
        """Read the state of a folder, or begin one.

        Raises:
            UserError: the folder holds a run of another definition or datalist, or its state cannot be read.
        """
        path = folder / _FILE
        if not path.is_file():
            return cls(folder, about)
        try:
            content = json.loads(read_text(path))
            state = cls(folder, content["about"], content["stage"], content["seconds"], content["notes"])
            state.begun = None if content.get("begun") is None else float(content["begun"])
            if state.stage not in STAGES:
                raise ValueError(state.stage)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read as the state of a run; remove the folder") from error
        if _DATALIST in about:  # runs that were begun before it was kept go on
            state.about.setdefault(_DATALIST, about[_DATALIST])
        if state.about != about:
            changed = [key for key in about if state.about.get(key) != about[key]]
            raise UserError(
                f"{folder}: holds a run of another {', '.join(changed)}; remove it, or choose another --output"
            )
        return state

    def note_hardware(self, device: str | None = None) -> None:
        """Note what the training runs on, behind what it ran on in earlier attempts.

        Args:
            device: see :func:`hardware`.
        """
        now = hardware(device)
        before = self.notes.get("hardware", now)
        for key in ("device", "cpu"):
            now[key] = _THEN.join(dict.fromkeys([*before[key].split(_THEN), now[key]]))
        self.notes["hardware"] = now

    def save(self) -> None:
        """Write the file, whole or not at all."""
        keys = ("about", "stage", "seconds", "notes", "begun")
        write_json(self.folder / _FILE, {key: getattr(self, key) for key in keys}, indent=1)

    @contextlib.contextmanager
    def clock(self) -> Iterator[None]:
        """Add the time that is spent inside to that of the stage, also where it ends by an error.

        Of an attempt that was killed, the time until it last wrote into the folder counts.
        """
        if self.begun is not None:
            files = [path for path in self.folder.iterdir() if path.name != _FILE]
            self._spend(self.begun, max((path.stat().st_mtime for path in files), default=0.0))
        started = self.begun = time.time()
        self.save()
        try:
            yield
        finally:
            self._spend(started, time.time())
            self.begun = None
            self.save()

    def _spend(self, start: float, end: float) -> None:
        self.seconds[self.stage] = round(self.seconds.get(self.stage, 0.0) + max(0.0, end - start), 1)

    def advance(self, stage: str) -> None:
        """Say that the stages before this one are done, and write the file."""
        self.stage = stage
        self.save()


def hardware(device: str | None = None) -> dict[str, Any]:
    """What the program runs on, and with which versions.

    Args:
        device: cpu, cuda or cuda:1; by default the first GPU if there is one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = torch.device(device).type == "cuda"
    machine = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    threads = int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads())
    return {
        "device": f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(device)}" if on_gpu else "CPU",
        "cpu": f"{machine}, {os.cpu_count()} cores, {threads} thread{'s' if threads != 1 else ''}",
        "bfloat16": has_bfloat16(device),
        "versions": program_versions(),
    }
