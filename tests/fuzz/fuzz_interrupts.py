"""Stopping a command while it writes: at a chosen flush or renaming of a file."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch  # what it starts has to be started before a process is copied

PAUSE = 1.0
"""Seconds that a command waits at the chosen place; of several processes the one that got there first."""
PATIENCE = 40
_PLACES = ("fsync", "replace")


def stop_in_the_middle(
    command: Callable[[Sequence[str]], int], arguments: Sequence[str], folder: Path, *, at: int, sent: int
) -> dict[str, Any]:
    """Run a command in a copy of this process and send it a signal.

    Args:
        command: the program.
        arguments: its arguments.
        folder: gets what the command prints.
        at: at which flush or renaming, from 1 on.
        sent: the signal; SIGINT goes to all of its processes, as Ctrl-C does.

    Returns:
        ``reached`` (whether there were so many), ``status`` (None if it did not end) and what it printed.
    """
    told, tell = os.pipe()
    process = os.fork()
    if not process:
        os.close(told)
        _become(command, arguments, folder, at, tell)
    os.close(tell)
    ready = select.select([told], [], [], PATIENCE)[0]
    reached = bool(ready) and os.read(told, 1) == b"!"
    os.close(told)
    if reached:
        (os.killpg if sent == signal.SIGINT else os.kill)(process, sent)
    status = _wait(process)
    printed = {name: (folder / f"printed.{name}").read_text() for name in ("out", "err")}
    return {"reached": reached, "status": status, **printed}


def _become(
    command: Callable[[Sequence[str]], int], arguments: Sequence[str], folder: Path, at: int, tell: int
) -> None:
    """The copy: it counts flushes and renamings, runs the command and ends."""
    try:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / f"printed.{name}", os.O_WRONLY | os.O_CREAT), number)
        count = 0

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count == at:
                    os.write(tell, b"!")
                    time.sleep(PAUSE)
                return function(*arguments, **options)

            return call

        for name in _PLACES:
            setattr(os, name, counted(getattr(os, name)))
        status = command(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        os.write(2, f"left with {error!r}\n".encode())
        status = 99
    finally:
        os._exit(status)


def _wait(process: int) -> int | None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None
