from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.handlers import StatsHandler, TensorBoardStatsHandler, ValidationHandler, from_engine
from torch.utils.tensorboard import SummaryWriter

from common.errors import UserError
from common.handlers.atomic_checkpoint import AtomicCheckpoint, load_weights
from common.metrics.mean_foreground_dice import MeanForegroundDice
from common.reporting.training_curves import read_curves


class Run:
    """A tiny training: one weight, moved by noisy gradients, with a schedule and a validation."""

    def __init__(
        self, folder: Path, scores: list[float] | None = None, rates: tuple[float, float] = (0.01, 0.1), **options
    ) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.network = torch.nn.Linear(2, 1)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.CyclicLR(self.optimizer, *rates, 2, cycle_momentum=False)
        self.trainer = Engine(self.step)
        self.validator = None
        if scores is not None:
            self.validator = Engine(lambda engine, batch: None)

            @self.validator.on(Events.COMPLETED)
            def publish(engine: Engine) -> None:
                engine.state.key_metric_name = "score"
                engine.state.metrics["score"] = scores[self.trainer.state.epoch - 1]

            self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.validator.run([0]))
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.scheduler.step())
        AtomicCheckpoint(
            folder,
            self.network,
            {"optimizer": self.optimizer, "lr_scheduler": self.scheduler, "discriminator": None},
            validator=self.validator,
            **options,
        ).attach(self.trainer)

    def step(self, engine: Engine, batch: int) -> dict:
        torch.manual_seed(engine.state.iteration)
        self.optimizer.zero_grad()
        self.network(torch.randn(4, 2)).square().mean().backward()
        self.optimizer.step()
        return {}

    def train(self, epochs: int, batches: int = 3) -> torch.Tensor:
        self.trainer.run(list(range(batches)), max_epochs=epochs)
        return self.network.weight.detach().clone()


def test_two_and_two_epochs_are_four_bit_for_bit(tmp_path):
    whole = Run(tmp_path / "whole").train(4)
    Run(tmp_path / "broken").train(2)
    resumed = Run(tmp_path / "broken", resume=True)
    torch.testing.assert_close(resumed.train(4), whole, rtol=0, atol=0)
    assert resumed.trainer.state.iteration == 12
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(
        torch.load(tmp_path / "whole/checkpoint.pt", weights_only=True)["optimizer"]["param_groups"][0]["lr"]
    )


def test_a_resumed_training_takes_the_learning_rate_that_is_asked_for(tmp_path):
    for folder in ("same", "slower"):
        Run(tmp_path / folder).train(3)
    resumed = Run(tmp_path / "same", resume=True)
    slower = Run(tmp_path / "slower", rates=(0.001, 0.01), resume=True)
    seen = []
    for run in (resumed, slower):
        optimizer = run.optimizer
        run.trainer.add_event_handler(
            Events.EPOCH_STARTED, lambda _, optimizer=optimizer: seen.append(optimizer.param_groups[0]["lr"])
        )
        run.train(4)
    # after 3 of 2 up and 2 down: halfway down
    assert seen == pytest.approx([0.055, 0.0055])
    assert slower.scheduler.get_last_lr() == pytest.approx([0.001])


def test_a_resumed_training_tells_what_is_not_as_before(tmp_path, caplog):
    Run(tmp_path).train(3)
    caplog.set_level("INFO", "common.handlers.atomic_checkpoint")
    Run(tmp_path, resume=True).train(4)
    assert "not as in the training until then" not in caplog.text
    resumed = Run(tmp_path, rates=(0.001, 0.01), resume=True)
    resumed.optimizer.param_groups[0]["weight_decay"] = 0.5
    resumed.train(5)
    told = "optimizer weight_decay 0.5 instead of 0; lr_scheduler lr 0.001 instead of 0.01"
    assert f"not as in the training until then: {told}" in caplog.messages
    assert resumed.optimizer.param_groups[0]["weight_decay"] == 0.5


def test_a_resumed_training_keeps_its_settings(tmp_path):
    options = {"settings": {"pixdim": (4.0, 4.0), "filters": 8}, "training": {"seed": 1, "class_names": ["a", "b"]}}
    Run(tmp_path, **options).train(1)
    other_seed = {"settings": options["settings"], "training": {"seed": 2, "class_names": ["a", "b"]}}
    Run(tmp_path, resume=True, **other_seed).train(2)
    for part, change in (("settings", {"pixdim": [2.5, 2.5]}), ("training", {"class_names": ["b", "a"]})):
        changed = {**options, part: {**options[part], **change}}
        with pytest.raises(UserError, match=rf"was trained with {next(iter(change))} .*, which is .* now; resume with"):
            Run(tmp_path, resume=True, **changed).train(3)


@pytest.mark.parametrize("batches", [2, 4, 1])
def test_a_resumed_training_keeps_the_length_of_its_epochs(tmp_path, batches):
    """Else it would train nothing, or too little, and end as if it had."""
    Run(tmp_path).train(2)
    line = (
        rf"checkpoint\.pt: was trained with 3 batches in an epoch, which are {batches} now; resume with the same batch_"
    )
    with pytest.raises(UserError, match=line):
        Run(tmp_path, resume=True).train(3, batches)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved.pop("epoch_length") == 3
    torch.save(saved, tmp_path / "checkpoint.pt")  # as they were before
    resumed = Run(tmp_path, resume=True)
    resumed.train(3, batches)
    assert resumed.trainer.state.max_epochs == 3


def test_later_rounds_of_a_training_neither_resume_nor_move_its_files(tmp_path):
    """A program of federated learning puts weights of its own in before each."""
    for resume in (False, True):
        run = Run(tmp_path / str(resume), [0.1] * 3, resume=resume)
        run.train(1)
        with torch.no_grad():
            run.network.weight.fill_(100.0)
        run.trainer.state.max_epochs = 2
        assert run.train(2).min() > 90
        assert run.trainer.state.iteration == 6
        assert sorted(os.listdir(run.folder)) == ["checkpoint.pt", "model.pt", "model_best.pt"]


def test_a_new_training_puts_files_of_an_earlier_one_aside(tmp_path, caplog):
    caplog.set_level("INFO", "common.handlers.atomic_checkpoint")
    earlier = Run(tmp_path, [0.5], settings={"filters": 8}).train(1)
    assert not (tmp_path / "replaced").exists()
    (tmp_path / "events.out.tfevents.1700000000.elsewhere.7.0").touch()
    before = set(os.listdir(tmp_path))
    SummaryWriter(str(tmp_path)).close()
    [own] = set(os.listdir(tmp_path)) - before
    (tmp_path / "notes.txt").touch()
    failing = Run(tmp_path, settings={"filters": 16})
    failing.trainer.add_event_handler(Events.ITERATION_STARTED, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.train(1)
    assert sorted(os.listdir(tmp_path)) == [own, "notes.txt", "replaced"]
    moved = ["checkpoint.pt", "events.out.tfevents.1700000000.elsewhere.7.0", "model.json", "model.pt"]
    moved += ["model_best.json", "model_best.pt"]
    assert sorted(os.listdir(tmp_path / "replaced")) == moved
    assert f"{tmp_path}: moved files of an earlier training to replaced: {', '.join(moved)}" in caplog.messages
    assert torch.equal(torch.load(tmp_path / "replaced" / "model.pt", weights_only=True)["weight"], earlier)
    # which nothing goes on from
    assert Run(tmp_path, resume=True, settings={"filters": 16}).train(1) is not None
    assert "nothing to resume" in caplog.text


def test_a_folder_that_another_training_writes_to_is_left_alone(tmp_path, monkeypatch):
    Run(tmp_path).train(1)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def taken(folder):
        raise UserError(f"{folder}: another training writes there")

    monkeypatch.setattr("common.handlers.atomic_checkpoint.claim_folder", taken)
    for resume in (False, True):
        with pytest.raises(UserError, match="another training"):
            Run(tmp_path, resume=resume).train(2)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not (tmp_path / "replaced").exists()
    Run(tmp_path, resume=True, rank=1).train(2)  # the first of the processes claims for all
    given_back = []
    monkeypatch.setattr("common.handlers.atomic_checkpoint.claim_folder", lambda _: lambda: given_back.append(1))
    Run(tmp_path, resume=True).train(2)
    assert given_back == [1]


def test_resume_without_checkpoint_starts_anew(tmp_path):
    assert torch.equal(Run(tmp_path / "a", resume=True).train(2), Run(tmp_path / "b").train(2))


def test_without_resume_an_old_checkpoint_is_not_read(tmp_path):
    Run(tmp_path).train(3)
    assert Run(tmp_path).trainer.run([0, 1, 2, 3], max_epochs=2).iteration == 8


def test_model_is_the_last_iterate_and_loads_weights_only(tmp_path):
    weight = Run(tmp_path).train(3)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert list(state) == ["weight", "bias"]
    assert torch.equal(state["weight"], weight)


@pytest.mark.parametrize(("higher", "best_epoch"), [(True, 2), (False, 3)])
def test_best_weights_follow_the_validation(tmp_path, higher, best_epoch):
    scores = [0.5, 0.9, 0.1, float("nan")]
    Run(tmp_path, scores, higher_is_better=higher).train(4)
    expected = Run(tmp_path / "other").train(best_epoch)
    assert torch.equal(torch.load(tmp_path / "model_best.pt", weights_only=True)["weight"], expected)


class OneClass(torch.nn.Module):
    """Predicts ``value`` everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(image) + self.value


def test_a_validation_without_any_class_does_not_end_the_training(tmp_path):
    """Of the label only background is annotated, which is what the network says until the last epoch."""
    network, label = OneClass(), torch.full((1, 1, 8, 8, 2), 2.0)
    label[:, :, 2] = 0
    dice = MeanForegroundDice(num_classes=2, ignore_index=2, output_transform=from_engine(["pred", "label"]))
    validator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": torch.zeros(1, 1, 8, 8, 2), "label": label}],
        network=network,
        key_val_metric={"val_mean_dice": dice},
        val_handlers=[
            StatsHandler(iteration_log=False),
            TensorBoardStatsHandler(log_dir=str(tmp_path), iteration_log=False),
        ],
    )
    trainer = Engine(lambda engine, batch: network.value.data.fill_(engine.state.epoch == 3))
    ValidationHandler(interval=1, validator=validator).attach(trainer)
    checkpoint = AtomicCheckpoint(tmp_path, network, {}, validator=validator)
    checkpoint.attach(trainer)
    trainer.run([0], max_epochs=2)
    assert (tmp_path / "model.pt").is_file()
    assert not (tmp_path / "model_best.pt").exists()
    assert checkpoint.best is None
    trainer.run([0], max_epochs=3)  # class 1 everywhere, and none is annotated: a score of 0, the first and so the best
    assert torch.load(tmp_path / "model_best.pt", weights_only=True)["value"] == 1
    assert (checkpoint.best, validator.state.best_metric, validator.state.best_metric_epoch) == (0, 0, 3)
    curve = read_curves(tmp_path)["val_mean_dice"]
    assert [str(value) for _, value in curve] == ["nan", "nan", "0.0"]


def test_best_value_survives_a_resume(tmp_path):
    scores = [0.5, 0.9, 0.7, 0.8]
    Run(tmp_path, scores).train(2)
    Run(tmp_path, scores, resume=True).train(4)
    expected = Run(tmp_path / "other").train(2)
    assert torch.equal(torch.load(tmp_path / "model_best.pt", weights_only=True)["weight"], expected)


def test_patience_ends_the_training_with_weights(tmp_path):
    run = Run(tmp_path, [0.5, 0.4, 0.3, 0.9, 0.9], patience=2)
    run.train(5)
    assert run.trainer.state.epoch == 3
    assert (tmp_path / "model.pt").is_file()


def test_patience_that_has_run_out_is_not_given_again(tmp_path):
    scores = [0.5, 0.4, 0.3, 0.9, 0.9]
    Run(tmp_path, scores, patience=2).train(5)
    again = Run(tmp_path, scores, patience=2, resume=True)
    weights = again.train(5)
    assert again.trainer.state.epoch == 3
    assert torch.equal(torch.load(tmp_path / "model.pt", weights_only=True)["weight"], weights)
    assert Run(tmp_path, scores, patience=3, resume=True).train(4) is not None


def test_publish_copies_the_final_weights(tmp_path):
    Run(tmp_path / "out", publish=tmp_path / "models" / "model.pt").train(1)
    published, final = (torch.load(tmp_path / folder / "model.pt", weights_only=True) for folder in ("models", "out"))
    assert all(torch.equal(published[name], value) for name, value in final.items())
    assert os.listdir(tmp_path / "models") == ["model.pt"]


def test_where_weights_cannot_be_published_no_training_begins(tmp_path):
    (tmp_path / "models").touch()  # root may write to any folder
    options = {"publish": tmp_path / "models" / "model.pt"}
    run = Run(tmp_path / "out", **options)
    with pytest.raises(
        UserError, match=r"model\.pt: cannot be written at the end \(.*\); give --publish false"
    ) as raised:
        run.train(1)
    assert "\n" not in str(raised.value)
    assert run.trainer.state.iteration == 0
    assert "output_dir" not in str(raised.value)
    Run(tmp_path / "out", rank=1, **options).train(1)


def test_each_file_of_weights_gets_its_settings(tmp_path):
    scores = [0.5, 0.9, 0.1]
    options = {"settings": {"filters": 8, "pixdim": (2.0, 2.0)}, "training": {"bundle": "toy", "seed": 7}}
    Run(tmp_path / "out", scores, publish=tmp_path / "models" / "model.pt", **options).train(3)
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert set(found) == {"model.json", "model_best.json"}
    for name, epochs in {"model.json": 3, "model_best.json": 2}.items():  # the best score is that of epoch 2
        assert found[name]["settings"] == {"filters": 8, "pixdim": [2.0, 2.0]}
        # three iterations an epoch
        assert found[name]["training"] == {"bundle": "toy", "seed": 7, "epochs": epochs, "iterations": 3 * epochs}
    assert sorted(os.listdir(tmp_path / "models")) == ["model.json", "model.pt"]
    assert json.loads((tmp_path / "models" / "model.json").read_text()) == found["model.json"]


def test_weights_that_are_never_written_whole_leave_the_older_ones_with_their_settings(tmp_path, monkeypatch):
    Run(tmp_path, settings={"filters": 8}).train(1)
    older, weight = (tmp_path / "model.json").read_text(), torch.load(tmp_path / "model.pt", weights_only=True)
    save = torch.save

    def failing(content, file):
        save(content, file)
        if file.name.endswith("model.pt"):
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, settings={"filters": 8}, resume=True).train(2)
    assert (tmp_path / "model.json").read_text() == older
    assert torch.equal(torch.load(tmp_path / "model.pt", weights_only=True)["weight"], weight["weight"])
    (tmp_path / ".0123456789ab.model.json").touch()
    monkeypatch.undo()
    Run(tmp_path, settings={"filters": 8}, resume=True).train(3)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "model.json", "model.pt"]
    assert json.loads((tmp_path / "model.json").read_text())["training"]["epochs"] == 3


def test_settings_are_checked_before_the_training(tmp_path):
    with pytest.raises(UserError, match=r"^pixdim: "):
        Run(tmp_path, settings={"pixdim": tmp_path})


def test_other_ranks_write_nothing(tmp_path):
    Run(tmp_path, [1.0, 2.0], rank=1, settings={"filters": 8}).train(2)
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_of_other_settings(tmp_path):
    Run(tmp_path).train(1)
    other = Run(tmp_path, resume=True)
    other.network.weight = torch.nn.Parameter(torch.zeros(1, 3))
    with pytest.raises(UserError, match=r"checkpoint\.pt: belongs to a run of other settings"):
        other.train(2)
    with pytest.raises(UserError, match="has 1 epochs already"):
        AtomicCheckpoint(tmp_path, torch.nn.Linear(2, 1), {}, resume=True)._start(_engine_with(max_epochs=0))


def _engine_with(max_epochs: int) -> Engine:
    engine = Engine(lambda engine, batch: None)
    engine.state.max_epochs = max_epochs
    return engine


def test_load_weights_errors(tmp_path):
    network = torch.nn.Linear(2, 1)
    with pytest.raises(UserError, match=r"none\.pt: no such weights"):
        load_weights(network, tmp_path / "none.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match=r"cut\.pt: cannot be read as weights"):
        load_weights(network, tmp_path / "cut.pt")
    for name, content in {
        "wide.pt": torch.nn.Linear(3, 1).state_dict(),
        "less.pt": {"weight": torch.zeros(1, 2)},
    }.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=f"{name}: the weights do not fit the network"):
            load_weights(network, tmp_path / name)
    torch.save({"weight": torch.full((1, 2), 7.0), "bias": torch.zeros(1)}, tmp_path / "good.pt")
    load_weights(network, tmp_path / "good.pt")
    assert network.weight.tolist() == [[7.0, 7.0]]


def test_resuming_needs_a_folder_that_all_processes_see(tmp_path, monkeypatch):
    Run(tmp_path).train(1)
    monkeypatch.setattr("common.handlers.atomic_checkpoint.of_all_processes", lambda seen: [seen, False])
    with pytest.raises(UserError, match=r"checkpoint\.pt: process 0 sees it, process 1 does not.*all machines share"):
        Run(tmp_path, resume=True).train(2)
