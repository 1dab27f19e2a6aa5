"""Random numbers that depend on the seed and the iteration alone."""

from __future__ import annotations

import random

import numpy as np
import torch
from ignite.engine import Engine, Events

__all__ = ["IterationSeed"]


class IterationSeed:
    """Seed python, numpy and torch before every training iteration from (seed, iteration, rank).

    Augmentation, dropout and noise then are functions of these three, so that a run resumed at an epoch's end
    continues with the very numbers of an unbroken run.

    Args:
        seed: seed of the run.
        rank: this process's number; processes draw different numbers.
    """

    def __init__(self, seed: int, *, rank: int = 0) -> None:
        self.seed = seed
        self.rank = rank

    def attach(self, engine: Engine) -> None:
        """Seed at the start of each iteration of a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed the generators for the engine's current iteration."""
        sequence = np.random.SeedSequence([self.seed, engine.state.iteration, self.rank])
        first, second, third = (int(word) for word in sequence.generate_state(3))
        random.seed(first)
        np.random.seed(second)
        torch.manual_seed(third)
