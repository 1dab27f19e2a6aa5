"""Mean values of a loss's terms over the epoch."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys

from .listed_output import whole_output

__all__ = ["LossTerms", "loss_and_terms"]


def loss_and_terms(engine: Engine) -> dict[str, torch.Tensor]:
    """Return the loss of a trainer's last batch and its named terms, as detached scalars on their device.

    The loss is named ``loss``. The terms are those of the trainer's output, ``"terms"``, or, where it gives none, the
    ``terms`` of its loss function.
    """
    output = whole_output(engine)
    terms: dict[str, Any] = output.get("terms") or getattr(getattr(engine, "loss_function", None), "terms", {})
    values = {CommonKeys.LOSS: output[CommonKeys.LOSS], **terms}
    # MONAI makes numbers of the losses that it copies for every item of a batch
    return {name: torch.as_tensor(value).detach().float() for name, value in values.items()}


class LossTerms:
    """Average the loss and its named terms over each epoch into ``engine.state.metrics``.

    They are those of :func:`loss_and_terms`. The loss is named ``train_loss``, a term t ``train_<t>``. MONAI's
    StatsHandler, TensorBoardStatsHandler and MLFlowHandler, attached after this one, then report every term by name.
    Values stay on their device until the epoch ends, so that logging costs no synchronisation.

    Args:
        prefix: put before every name.
    """

    def __init__(self, prefix: str = "train_") -> None:
        self.prefix = prefix
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._publish)

    def _reset(self, engine: Engine) -> None:
        self._sums.clear()
        self._counts.clear()

    def _add(self, engine: Engine) -> None:
        for name, value in loss_and_terms(engine).items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] += 1

    def _publish(self, engine: Engine) -> None:
        for name, total in self._sums.items():
            engine.state.metrics[f"{self.prefix}{name}"] = float(total) / self._counts[name]
