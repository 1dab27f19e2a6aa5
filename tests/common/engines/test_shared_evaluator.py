from __future__ import annotations

import torch
from ignite.engine import Events
from ignite.metrics import Metric
from monai.data import DataLoader

from common.engines.shared_evaluator import SharedEvaluator


class Count(Metric):
    """How many volumes were seen, plus those that another process would add."""

    def reset(self):
        self.seen = 0

    def update(self, output):
        self.seen += 1

    def compute(self):
        return self.seen + 10


def evaluator(data: list[dict], share: range) -> tuple[SharedEvaluator, list[str]]:
    engine = SharedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(data, batch_size=1, sampler=share),
        network=torch.nn.BatchNorm2d(1),
        key_val_metric={"count": Count(lambda output: (0, 0))},
        decollate=False,
    )
    events: list[str] = []
    for event in (Events.STARTED, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED):
        engine.add_event_handler(event, lambda _, name: events.append(name), event.value)
    return engine, events


DATA = [{"image": torch.rand(1, 4, 4), "label": torch.zeros(1, 4, 4)} for _ in range(2)]
ALL = ["started", "epoch_started", "epoch_completed", "completed"]


def test_a_share_is_evaluated():
    engine, events = evaluator(DATA, range(1, 2, 2))
    engine.run(3)
    assert events == ALL
    assert engine.state.metrics["count"] == 11
    assert engine.state.epoch == 3


def test_a_process_without_volumes_takes_part_in_the_end():
    engine, events = evaluator(DATA, range(2, 2, 3))
    for epoch in (1, 2):
        engine.run(epoch)
        assert engine.state.metrics["count"] == 10
        assert engine.state.epoch == epoch
    assert events == [*ALL, *ALL]


def test_without_any_volume_there_is_nothing_to_do():
    engine, events = evaluator([], range(0, 0, 2))
    engine.run()
    assert events == []
