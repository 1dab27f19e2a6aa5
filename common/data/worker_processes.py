"""Doing one thing to many files at a time, each in one of several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ..errors import UserError

__all__ = ["spread"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(work: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """Apply a function to each item, in so many processes.

    After an error or an interrupt nothing new is begun; what has been begun is finished first, so that no file is
    left half written. Each of several processes computes on one thread.

    Args:
        work: the function, which can be pickled.
        items: what it is applied to.
        jobs: number of processes; 1 for this one alone.

    Yields:
        The results, in the order of the items.

    Raises:
        UserError: a process was killed. The errors of the function itself are raised as they are; of several, that of
            the first item.
    """
    if min(jobs, len(items)) <= 1:
        yield from map(work, items)
        return
    pool = ProcessPoolExecutor(min(jobs, len(items)), initializer=_start)
    try:
        yield from pool.map(work, items)
    except BrokenProcessPool as error:
        raise UserError("a process was killed, perhaps for want of memory; give fewer --jobs") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    """Leave it to the parent to answer an interrupt, end with it where it is killed, and compute on one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        # the threads that the parent computed with are not forked along, and PyTorch would wait for them for ever
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
