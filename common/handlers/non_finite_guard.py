"""Stops a training whose loss is no longer a number."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys

from ..errors import UserError

__all__ = ["NonFiniteGuard"]


class NonFiniteGuard:
    """Raise as soon as the loss is NaN or infinite, naming the cases of the batch.

    The check comes before any checkpoint of the epoch, so the last one on disk is good.

    Args:
        interval: iterations between two looks at the losses, which cost a synchronisation on a GPU.
    """

    def __init__(self, interval: int = 1) -> None:
        self.interval = interval
        self._pending: list[tuple[int, torch.Tensor, list[str]]] = []

    def attach(self, engine: Engine) -> None:
        """Watch a trainer; attach before handlers that save."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._remember)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._check)

    def _remember(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        cases = batch.get("case", []) if isinstance(batch, dict) else []
        self._pending.append((engine.state.iteration, output[CommonKeys.LOSS].detach(), cases))
        if engine.state.iteration % self.interval == 0:
            self._check(engine)

    def _check(self, engine: Engine) -> None:
        pending, self._pending = self._pending, []
        for iteration, loss, cases in pending:
            if not torch.isfinite(loss).all():
                raise UserError(
                    f"the loss became {float(loss)} at iteration {iteration} (epoch {engine.state.epoch}) on the batch "
                    f"[{'; '.join(cases) or 'unnamed'}]; check these images or lower learning_rate. "
                    "The last checkpoint is still good: continue from it with --resume true"
                )
