"""Silence around the readers of image files, which tell of a damaged file on their own, in many lines and no name."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import nibabel as nib

__all__ = ["quiet_readers"]

_STDERR = 2
_lock = threading.Lock()
_state = {"inside": 0, "stderr": -1}


@contextlib.contextmanager
def quiet_readers() -> Iterator[None]:
    """Keep nibabel's log, and what ITK's C++ writes to the standard error stream, from the screen.

    What goes wrong is raised all the same. Several threads may be inside; the stream is back when the last one has
    left. Nothing else should be written to it in the meantime.
    """
    with _lock:
        _state["inside"] += 1
        if _state["inside"] == 1:
            _mute()
    try:
        yield
    finally:
        with _lock:
            _state["inside"] -= 1
            if not _state["inside"]:
                _unmute()


def _mute() -> None:
    nib.imageglobals.logger.disabled = True
    try:
        _state["stderr"] = os.dup(_STDERR)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
    except OSError:  # a program without such a stream, or without a file to spare: its readers are heard
        _state["stderr"] = -1


def _unmute() -> None:
    nib.imageglobals.logger.disabled = False
    if _state["stderr"] >= 0:
        os.dup2(_state["stderr"], _STDERR)
        os.close(_state["stderr"])
