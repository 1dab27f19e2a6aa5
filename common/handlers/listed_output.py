"""The output of a training step in the shape that the handlers of MONAI and of other programs read."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from monai.engines.utils import IterationEvents

__all__ = ["ListedOutput", "whole_output"]


class ListedOutput:
    """Put the output of each iteration into a list of its own, where the trainer leaves it whole.

    MONAI cuts the output of a batch into a list of one dict for each item, the loss being in all of them, and its
    handlers read the loss of the first. A trainer without ``decollate`` gives one dict for the batch. In a list of
    length 1 it is found where they look, and nothing is cut.
    """

    def attach(self, engine: Engine) -> None:
        """Serve a trainer of MONAI."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Wrap the engine's output."""
        state: Any = engine.state
        if isinstance(state.output, dict):
            state.output = [state.output]


def whole_output(engine: Engine) -> dict[str, Any]:
    """Return what a trainer gave for its last batch, in a list or not: the dict that has its loss."""
    output: Any = engine.state.output
    return output[0] if isinstance(output, list) else output
