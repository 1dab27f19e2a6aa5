from __future__ import annotations

import torch
from monai.engines import SupervisedTrainer
from monai.handlers import from_engine

from common.handlers.learning_rate import LearningRate
from common.handlers.listed_output import ListedOutput, whole_output
from common.handlers.loss_terms import LossTerms
from common.handlers.non_finite_guard import NonFiniteGuard


def trainer_of(handlers: list, **options) -> SupervisedTrainer:
    network = torch.nn.Conv2d(1, 2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.25)
    batch = {"image": torch.ones(3, 1, 4, 4), "label": torch.zeros(3, 2, 4, 4)}
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=[batch, batch],
        network=network,
        optimizer=optimizer,
        loss_function=torch.nn.MSELoss(),
        train_handlers=[*handlers, LearningRate(optimizer)],
        **options,
    )


def test_loss_is_found_where_monais_handlers_look():
    trainer = trainer_of([ListedOutput(), LossTerms(), NonFiniteGuard()], decollate=False)
    trainer.run()
    (output,) = trainer.state.output
    assert output["pred"].shape == (3, 2, 4, 4)
    # what MONAI's settings of tracking, and MONAI Label, ask for
    assert from_engine(["loss"], first=True)(trainer.state.output) is output["loss"]
    assert whole_output(trainer) is output
    assert set(trainer.state.metrics) == {"train_loss", "learning_rate"}
    assert trainer.state.metrics["learning_rate"] == 0.25


def test_output_that_is_not_listed_or_cut_is_read_too():
    for options in ({"decollate": False}, {"decollate": True}):
        trainer = trainer_of([LossTerms(), NonFiniteGuard()], **options)
        trainer.run()
        assert trainer.state.metrics["train_loss"] > 0
    cut = trainer_of([ListedOutput(), LossTerms()], decollate=True)
    cut.run()
    assert len(cut.state.output) == 3
