"""Readers of image files are quiet, and the error stream is back behind them."""

from __future__ import annotations

import os
import threading

import nibabel as nib
import pytest

from common.data.library_noise import quiet_readers


def say(text: str) -> None:
    """Write as a C++ library does."""
    os.write(2, text.encode())


def test_what_libraries_say_is_lost_and_what_comes_behind_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    say("before.")
    with quiet_readers():
        say("noise.")
        nib.imageglobals.logger.warning("noise.")
    say("behind.")
    assert capfd.readouterr().err == "before.behind."


def test_errors_pass(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="damaged"), quiet_readers():
        raise RuntimeError("damaged")
    say("behind.")
    assert capfd.readouterr().err == "behind."


def test_the_last_of_several_threads_gives_the_stream_back(capfd: pytest.CaptureFixture[str]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def read() -> None:
        with quiet_readers():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=read)
    thread.start()
    assert inside.wait(10)
    with quiet_readers():
        say("noise of both.")
    say("noise of the other.")
    leave.set()
    thread.join()
    say("behind.")
    assert capfd.readouterr().err == "behind."


def test_no_descriptor_is_left_open() -> None:
    with quiet_readers():
        pass
    before = os.dup(2)
    os.close(before)
    for _ in range(5):
        with quiet_readers():
            pass
    after = os.dup(2)
    os.close(after)
    assert after == before
