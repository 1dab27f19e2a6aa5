"""An iteration of a trainer beside one of a plain loop."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from ignite.engine import Events

from .clock import now, timed


def compare_steps(trainer: Any, spent_on_data: list[float], plain_step: Callable[[], None]) -> dict[str, float]:
    """Run a trainer, with a plain step after each of its iterations, and return the median seconds of each.

    The two take turns, so that a busy machine slows both.

    Args:
        trainer: of one epoch; its first iteration warms up and does not count.
        spent_on_data: where the trainer's functions that make a batch note their seconds (see ``timed``).
        plain_step: the same work without an engine, on a batch that is there already.

    Returns:
        ``trainer``, ``data``, which is the part of it that makes the batch, and ``plain``.
    """
    seconds: dict[str, list[float]] = {"trainer": [], "data": [], "plain": []}
    timed_plain_step = timed(plain_step, seconds["plain"])

    def start(engine: Any) -> None:
        spent_on_data.clear()
        engine.state.started = now()

    def stop(engine: Any) -> None:
        seconds["trainer"].append(now() - engine.state.started)
        seconds["data"].append(sum(spent_on_data))
        timed_plain_step()

    trainer.add_event_handler(Events.GET_BATCH_STARTED, start)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, stop)
    trainer.run()
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def print_steps(seconds: dict[str, float], rest: str) -> None:
    """Print what ``compare_steps`` returned; ``rest`` names what a trainer does beside making a batch."""
    data = seconds["data"] / seconds["trainer"]
    print(f"iteration of the trainer {seconds['trainer']:9.3f} s: data {data:.1%}, {rest} {1 - data:.1%}")
    print(f"plain loop               {seconds['plain']:9.3f} s")
    print(f"trainer / plain          {seconds['trainer'] / seconds['plain']:9.2f}")
