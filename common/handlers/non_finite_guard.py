"""Stops a training whose loss is no longer a number."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.utils import CommonKeys

from ..errors import UserError
from ..shared_batch import of_all_processes, world_size
from .listed_output import whole_output

__all__ = ["NonFiniteGuard"]

_NO_CHECKPOINT = "This training has no checkpoint yet: start again"


class NonFiniteGuard:
    """Raise as soon as the loss is NaN or infinite, naming the cases of the batch, or a weight at the end of an epoch.

    The checks come before any checkpoint of the epoch, so the last one of this training is good, where it has written
    one or goes on from one (AtomicCheckpoint notes it in ``engine.state.has_checkpoint``). Processes that train
    together look together and stop together.

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
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._check_weights)

    def _remember(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        cases = batch.get("case", []) if isinstance(batch, dict) else []
        loss = torch.as_tensor(whole_output(engine)[CommonKeys.LOSS]).detach()
        self._pending.append((engine.state.iteration, loss, cases))
        if engine.state.iteration % self.interval == 0:
            self._check(engine)

    def _check(self, engine: Engine) -> None:
        pending, self._pending = self._pending, []
        # the gradients are those of all processes: where one has lost its loss, none may go on and save
        if not self._lost(pending):
            return
        lines = [_line(engine, *of_one) for of_one in pending if not torch.isfinite(of_one[1]).all()]
        raise UserError(next(line for of_process in of_all_processes(lines) for line in of_process))

    @staticmethod
    def _check_weights(engine: Any) -> None:
        # the step after the last loss that was looked at may have been the one too large
        network = getattr(engine, "network", None)
        if network is None or torch.stack([each.isfinite().all() for each in network.parameters()]).all():
            return
        fix = "No checkpoint has them: continue from an earlier one with --resume true, or start again"
        raise UserError(
            f"weights became NaN or infinite in epoch {engine.state.epoch}; lower learning_rate. "
            f"{fix if _has_checkpoint(engine) else _NO_CHECKPOINT}"
        )

    @staticmethod
    def _lost(pending: list[tuple[int, torch.Tensor, list[str]]]) -> bool:
        if not pending:
            return False
        lost = torch.stack([~torch.isfinite(loss).all() for _, loss, _ in pending]).any().float()
        if world_size() > 1:
            dist.all_reduce(lost, dist.ReduceOp.MAX)
        return bool(lost)


def _has_checkpoint(engine: Engine) -> bool:
    return getattr(engine.state, "has_checkpoint", False)


def _line(engine: Engine, iteration: int, loss: torch.Tensor, cases: list[str]) -> str:
    fix = "The last checkpoint is still good: continue from it with --resume true"
    return (
        f"the loss became {float(loss)} at iteration {iteration} (epoch {engine.state.epoch}) on the batch "
        f"[{'; '.join(cases) or 'unnamed'}]; check these images or lower learning_rate. "
        f"{fix if _has_checkpoint(engine) else _NO_CHECKPOINT}"
    )
