"""The curve of the learning rate."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events

__all__ = ["LearningRate"]


class LearningRate:
    """Put the learning rate at the end of each epoch into ``engine.state.metrics``, as ``learning_rate``.

    MONAI's handlers that are attached after this one then report it, as they do the loss.

    Args:
        optimizer: its first group of parameters counts.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def attach(self, engine: Engine) -> None:
        """Serve a trainer; attach after what changes the learning rate."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Tell the learning rate."""
        engine.state.metrics["learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
