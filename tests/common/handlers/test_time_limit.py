"""TimeLimit: whole epochs, as many as end in time, and nothing of a training's end where it has not come."""

from __future__ import annotations

import time

import pytest
from ignite.engine import Engine, Events

from common.handlers import time_limit
from common.handlers.time_limit import TimeLimit


class Clock:
    """A clock that a step moves on by so many seconds."""

    def __init__(self, steps: list[float]) -> None:
        self.now, self.steps = 1000.0, iter(steps)

    def time(self) -> float:
        return self.now

    def step(self, *_: object) -> None:
        self.now += next(self.steps)


def run(monkeypatch: pytest.MonkeyPatch, steps: list[float], deadline: float | None) -> tuple[int, list[str]]:
    """Epochs that an engine of one step each does, and which of its last events it fires."""
    clock = Clock(steps)
    monkeypatch.setattr(time_limit, "time", clock)
    engine, seen = Engine(clock.step), []
    engine.add_event_handler(Events.COMPLETED, lambda: seen.append("completed"))
    TimeLimit(deadline).attach(engine)
    engine.run([0], max_epochs=len(steps))
    return engine.state.epoch, seen


def test_no_epoch_begins_that_would_end_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    # after epochs of 10 s it is 1010, 1020, ...; the next needs 11: 1040 + 11 is over 1050, 1030 + 11 is not
    assert run(monkeypatch, [10.0] * 9, 1050.0) == (4, [])
    # the longest counts: 1020 + 1.1 * 15 = 1036.5
    assert run(monkeypatch, [15.0, 5.0, 5.0], 1036.0) == (2, [])
    assert run(monkeypatch, [15.0, 5.0, 5.0], 1037.0) == (3, ["completed"])


def test_the_last_epoch_is_an_end_however_late(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, [10.0, 10.0], 1021.5) == (2, ["completed"])
    assert run(monkeypatch, [10.0], 1.0) == (1, ["completed"])


def test_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, [1e6] * 3, None) == (3, ["completed"])
    assert time_limit.time is not time
