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
    not including, 1, and stays at 1 beyond the last of ``epochs``.

    Args:
        receiver: a loss with an attribute ``progress``, such as CoarseLabelsLoss.
        epochs: epochs of the whole training; by default the trainer's ``max_epochs``, which counts only as far as
            the present round where a program trains in rounds.
    """

    def __init__(self, receiver: ProgressReceiver, *, epochs: int | None = None) -> None:
        self.receiver = receiver
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Tell the receiver about the engine's current iteration."""
        state = engine.state
        epochs = self.epochs or state.max_epochs
        if epochs is not None and state.epoch_length is not None:
            self.receiver.progress = min(1.0, (state.iteration - 1) / (epochs * state.epoch_length))
