"""Ending a training before its time is up, at the end of an epoch."""

from __future__ import annotations

import logging
import time

from ignite.engine import Engine, Events

__all__ = ["TimeLimit"]

logger = logging.getLogger(__name__)

_MARGIN = 1.1


class TimeLimit:
    """Stop a trainer after an epoch if another one would not end in time.

    The forecast is the longest epoch so far, validation and checkpoint included, and a tenth more. A run that is
    stopped is not complete: its checkpoint is there to resume from, but nothing that belongs to the end of a training
    is done, so that no final weights are written.

    Args:
        deadline: seconds since 1970 at which the process has to be done; None for no limit.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self._longest = 0.0
        self._since = 0.0

    def attach(self, engine: Engine) -> None:
        """Watch a trainer; attach after the handler that saves checkpoints."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _start(self, engine: Engine) -> None:
        self._since = time.time()

    def _look(self, engine: Engine) -> None:
        if self.deadline is None or engine.state.epoch == engine.state.max_epochs:
            return
        now = time.time()
        self._longest = max(self._longest, now - self._since)
        if now + _MARGIN * self._longest > self.deadline:
            logger.info("stopping after epoch %d: the time does not do for another one", engine.state.epoch)
            engine.terminate(skip_completed=True)
