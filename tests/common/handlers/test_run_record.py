from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from mlflow import MlflowClient

from common.handlers.loss_terms import LossTerms
from common.handlers.run_record import RunRecord


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """One data base for all tests: making it takes seconds. Each test has an experiment of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlruns.db"


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient(store)


def trainer_of(*handlers, losses: float = 1.0) -> Engine:
    def step(engine: Engine, batch: int) -> list[dict]:
        value = torch.tensor(losses * engine.state.iteration)
        return [{"loss": value, "terms": {"l_sup": value / 2}}]

    engine = Engine(step)
    engine.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    for handler in handlers:
        handler.attach(engine)
    return engine


def runs_of(client: MlflowClient, experiment: str) -> list:
    number = client.get_experiment_by_name(experiment).experiment_id
    return client.search_runs([number], order_by=["attributes.start_time ASC"])


def history(client: MlflowClient, run, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def test_settings_terms_metrics_and_files_are_recorded(store, client, tmp_path):
    (tmp_path / "model.pt").write_text("weights")
    settings = {"pixdim": [1.5, 1.5], "amp": False, "datalist": "x" * 9000}
    record = RunRecord(
        tmp_path,
        parameters=settings,
        config={"a": {"b": 1}, "device": torch.device("cpu")},
        files=["model.pt", "absent.pt"],
        interval=2,
        tracking_uri=store,
        experiment_name="whole",
        close_on_complete=True,
    )
    trainer_of(LossTerms(), record).run(range(3), max_epochs=2)
    (run,) = runs_of(client, "whole")
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("run_20")
    parameters = {**run.data.params}
    assert parameters.pop("datalist") == "x" * 6000
    assert parameters == {"pixdim": "[1.5, 1.5]", "amp": "False", "max_epochs": "2", "epoch_length": "3"}
    # losses are 1 … 6 in two epochs of three iterations
    assert history(client, run, "train_loss") == [(1, 2.0), (2, 5.0)]
    assert history(client, run, "train_l_sup") == [(1, 1.0), (2, 2.5)]
    assert history(client, run, "iteration_loss") == [(2, 2.0), (4, 4.0), (6, 6.0)]
    assert history(client, run, "iteration_l_sup") == [(2, 1.0), (4, 2.0), (6, 3.0)]
    assert history(client, run, "iteration_learning_rate") == [(2, 0.5), (4, 0.5), (6, 0.5)]
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert files == {"model.pt", "config.json"}
    kept = client.download_artifacts(run.info.run_id, "config.json", str(tmp_path))
    assert json.loads(Path(kept).read_text()) == {"a": {"b": 1}, "device": "cpu"}


def test_validation_joins_its_training_whatever_else_is_running(store, client, tmp_path):
    shared = {"tracking_uri": store, "experiment_name": "joined"}
    others = trainer_of(RunRecord(tmp_path / "other", **shared))
    others.run([0])  # left open, as by a killed process
    stale = trainer_of(RunRecord(tmp_path / "mine", run_name="stale", **shared))
    stale.run([0])
    validator = Engine(lambda engine, batch: None)
    validator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(val_dice=0.5))
    RunRecord(tmp_path / "mine", join=True, **shared).attach(validator)
    trainer = trainer_of(LossTerms(), RunRecord(tmp_path / "mine", close_on_complete=True, run_name="new", **shared))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: validator.run([0]))
    trainer.run([0, 1])
    runs = {run.info.run_name: run for run in runs_of(client, "joined")}
    assert len(runs) == 3
    assert history(client, runs["new"], "val_dice") == [(1, 0.5)]
    assert history(client, runs["new"], "train_loss") == [(1, 1.5)]
    assert runs["stale"].data.metrics == {}


@pytest.mark.parametrize("finished", [True, False])
def test_a_resumed_training_goes_on_with_its_run(store, client, tmp_path, finished):
    shared = {"tracking_uri": store, "experiment_name": f"resumed {finished}"}
    first = RunRecord(tmp_path, parameters={"resume": False}, close_on_complete=finished, **shared)
    trainer_of(LossTerms(), first).run([0])
    second = RunRecord(tmp_path, join=True, parameters={"resume": True}, close_on_complete=True, **shared)
    trainer = trainer_of(LossTerms(), second)

    @trainer.on(Events.STARTED)
    def resume() -> None:
        trainer.state.epoch, trainer.state.iteration = 1, 1

    trainer.run([0], max_epochs=2)
    (run,) = runs_of(client, f"resumed {finished}")
    assert history(client, run, "train_loss") == [(1, 1.0), (2, 2.0)]
    # a parameter cannot be changed in MLflow; the first value stays
    assert run.data.params["resume"] == "False"
    assert run.info.status == "FINISHED"


def test_nothing_to_join_begins_a_run(store, client, tmp_path):
    record = RunRecord(tmp_path, join=True, tracking_uri=store, experiment_name="nothing", run_name="own")
    trainer_of(record).run([0])
    assert [run.info.run_name for run in runs_of(client, "nothing")] == ["own"]
