from __future__ import annotations

from types import SimpleNamespace

from ignite.engine import Engine

from common.handlers.training_progress import TrainingProgress


def seen_progress(max_epochs: int, start_epoch: int = 0, epochs: int | None = None) -> list[float]:
    """What a receiver is told in each iteration of a training with two iterations an epoch."""
    receiver = SimpleNamespace(progress=None)
    engine = Engine(lambda engine, batch: seen.append(receiver.progress))
    seen: list[float] = []
    TrainingProgress(receiver, epochs=epochs).attach(engine)
    if start_epoch:
        engine.load_state_dict({"epoch": start_epoch, "max_epochs": max_epochs, "epoch_length": 2})
    engine.run([0, 1], max_epochs=max_epochs, epoch_length=2)
    return seen


def test_progress_is_the_share_of_iterations_that_are_done() -> None:
    assert seen_progress(2) == [0.0, 0.25, 0.5, 0.75]


def test_a_resumed_run_goes_on_where_it_was() -> None:
    assert seen_progress(4, start_epoch=3) == seen_progress(4)[6:] == [0.75, 0.875]


def test_a_training_in_rounds_goes_by_all_of_its_epochs() -> None:
    assert seen_progress(1, epochs=4) == [0.0, 0.125]
    assert seen_progress(2, start_epoch=1, epochs=4) == [0.25, 0.375]
    assert seen_progress(3, start_epoch=2, epochs=2) == [1.0, 1.0]  # beyond the end
