"""Telling a loss how far the training has come."""

from __future__ import annotations

from typing import Protocol

from ignite.engine import Engine, Events

__all__ = ["ProgressReceiver", "TrainingProgress"]


class ProgressReceiver(Protocol):
    """Something that changes its ways in the course of a training."""

    progress: float | None


class TrainingProgress:
    """Set ``receiver.progress`` before every iteration: the share of the training's iterations that are done.

    It is a function of the iteration's number, so that a resumed run goes on where it was. It runs from 0 up to, but
    not including, 1, and follows the trainer's ``max_epochs``.

    Args:
        receiver: a loss with an attribute ``progress``, such as CoarseLabelsLoss.
    """

    def __init__(self, receiver: ProgressReceiver) -> None:
        self.receiver = receiver

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Tell the receiver about the engine's current iteration."""
        state = engine.state
        if state.max_epochs is not None and state.epoch_length is not None:
            self.receiver.progress = (state.iteration - 1) / (state.max_epochs * state.epoch_length)
