from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from common.errors import UserError
from common.handlers.atomic_checkpoint import AtomicCheckpoint
from common.handlers.iteration_seed import IterationSeed
from common.handlers.loss_terms import LossTerms
from common.handlers.non_finite_guard import NonFiniteGuard
from common.handlers.progress import Progress


def engine_of(losses: list[float], terms: list[dict[str, float]] | None = None) -> Engine:
    """An engine whose iteration i has the i-th loss."""

    def step(engine: Engine, batch: dict) -> dict:
        position = (engine.state.iteration - 1) % len(losses)
        output = {"loss": torch.tensor(losses[position])}
        if terms is not None:
            output["terms"] = {name: torch.tensor(value) for name, value in terms[position].items()}
        return output

    return Engine(step)


BATCHES = [{"case": ["p1, slice 0", "p2, slice 3"]}, {"case": ["p3, slice 1"]}]


def test_terms_are_epoch_means_by_name():
    engine = engine_of([1.0, 3.0], [{"a0": 2.0, "l_sup": 0.5}, {"a0": 4.0}])
    LossTerms().attach(engine)
    engine.run(BATCHES, max_epochs=2)
    assert engine.state.metrics == {"train_loss": 2.0, "train_a0": 3.0, "train_l_sup": 0.5}


def test_terms_of_a_composite_loss_function():
    engine = engine_of([1.0, 3.0])
    engine.loss_function = torch.nn.Identity()
    engine.loss_function.terms = {"crf": torch.tensor(0.25)}
    LossTerms().attach(engine)
    engine.run(BATCHES)
    assert engine.state.metrics == {"train_loss": 2.0, "train_crf": 0.25}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("interval", [1, 10])
def test_guard_names_the_batch(bad, interval):
    engine = engine_of([1.0, bad])
    NonFiniteGuard(interval).attach(engine)
    with pytest.raises(UserError, match=rf"the loss became {bad} at iteration 2 \(epoch 1\).*\[p3, slice 1\]"):
        engine.run(BATCHES)


def test_guard_fires_before_a_checkpoint():
    saved = []
    engine = engine_of([1.0, float("nan")])
    NonFiniteGuard(interval=10).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: saved.append(1))
    with pytest.raises(UserError):
        engine.run(BATCHES)
    assert saved == []


def test_guard_looks_at_the_weights_that_the_last_step_left():
    saved = []
    engine = engine_of([1.0, 2.0])
    engine.network = torch.nn.Linear(2, 1)
    NonFiniteGuard().attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: saved.append(1))
    engine.run(BATCHES)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda: engine.network.bias.data.fill_(float("inf")))
    with pytest.raises(UserError, match=r"^weights became NaN or infinite in epoch 2; lower learning_rate\."):
        engine.run(BATCHES, max_epochs=2)
    assert saved == [1]


def test_guard_names_a_checkpoint_of_this_training_alone(tmp_path):
    """A file that an earlier training left in the folder is none."""

    def told(resume: bool, at: int, rank: int = 0, weights: bool = False) -> str:
        engine = engine_of([1.0] * 6 if weights else [1.0 if each != at else float("nan") for each in range(1, 7)])
        engine.network = torch.nn.Linear(2, 1)
        if weights:
            spoil = Events.ITERATION_COMPLETED(once=at)
            engine.add_event_handler(spoil, lambda: engine.network.bias.data.fill_(float("nan")))
        NonFiniteGuard().attach(engine)
        AtomicCheckpoint(tmp_path, torch.nn.Linear(2, 1), {}, resume=resume, rank=rank).attach(engine)
        with pytest.raises(UserError) as raised:
            engine.run(BATCHES, max_epochs=3)
        return str(raised.value)

    good, none = (
        "The last checkpoint is still good: continue from it with",
        "This training has no checkpoint yet",
    )
    assert good in told(resume=False, at=3)
    assert good in told(resume=True, at=3)
    assert none in told(resume=False, at=2)
    assert none in told(resume=True, at=2)  # that one is put aside now
    assert good in told(resume=False, at=3, rank=1)
    assert none in told(resume=False, at=2, rank=1)
    assert "No checkpoint has them: continue from an earlier one" in told(resume=False, at=4, weights=True)
    assert none in told(resume=False, at=2, weights=True)


def test_guard_stops_for_another_process(monkeypatch):
    """Its own losses are finite, but the weights are everybody's."""

    def of_both(value, operation):
        value.fill_(1.0)

    monkeypatch.setattr("common.handlers.non_finite_guard.world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", of_both)
    monkeypatch.setattr("common.handlers.non_finite_guard.of_all_processes", lambda own: [own, ["of the other"]])
    engine = engine_of([1.0, 2.0])
    NonFiniteGuard().attach(engine)
    with pytest.raises(UserError, match=r"^of the other$"):
        engine.run(BATCHES)


def test_guard_lets_finite_losses_pass():
    engine = engine_of([1.0, 2.0])
    NonFiniteGuard().attach(engine)
    assert engine.run(BATCHES, max_epochs=3).iteration == 6


def test_numbers_depend_on_seed_iteration_and_rank():
    def draws(seed: int, rank: int, noise_before: int = 0) -> list[tuple[float, float, float]]:
        seen = []

        def step(engine: Engine, batch: dict) -> dict:
            seen.append((random.random(), float(np.random.rand()), float(torch.rand(1))))
            torch.rand(noise_before + 1)
            return {}

        engine = Engine(step)
        IterationSeed(seed, rank=rank).attach(engine)
        engine.run(BATCHES)
        return seen

    first = draws(0, 0)
    assert first[0] != first[1]
    assert first == draws(0, 0, noise_before=7)
    assert first != draws(1, 0)
    assert first != draws(0, 1)


def test_resumed_engine_draws_the_numbers_of_the_unbroken_one():
    def run(start: int) -> list[float]:
        seen = []
        engine = Engine(lambda engine, batch: seen.append(float(torch.rand(1))) or {})
        IterationSeed(3).attach(engine)

        @engine.on(Events.STARTED)
        def resume() -> None:
            engine.state.epoch, engine.state.iteration = start, start * 2

        engine.run(BATCHES, max_epochs=3)
        return seen

    assert run(2) == run(0)[4:]


def test_progress_shows_the_running_loss(capsys):
    engine = engine_of([1.0, 3.0])
    Progress(force=True).attach(engine)
    engine.run(BATCHES)
    assert "loss=3" in capsys.readouterr().err


def test_progress_is_silent_without_a_terminal(capsys):
    engine = engine_of([1.0, 3.0])
    Progress().attach(engine)
    engine.run(BATCHES)
    assert capsys.readouterr().err == ""
    assert not logging.getLogger("tqdm").handlers
