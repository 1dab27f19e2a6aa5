from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from common import bundle, running_config
from common.errors import UserError
from common.tracking import keys_of_tracking, prepare_tracking

CONFIG = {
    "imports": ["$import common.bundle as bundle", "$import pathlib"],
    "bundle_root": "/bundle",
    "output_dir": "$@bundle_root + '/output'",
    "device": "$torch.device('cpu')",
    "scans": "$pathlib.Path('/scans')",
    "max_epochs": 5,
    "epochs": "@train#trainer#max_epochs",
    "pixdim": [1.5, 1.5],
    "exclude": None,
    "names": "$['a'] + ['b']",
    "network_def": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1},
    "network": "$@network_def",
    "weights": "$len(list(@network.parameters()))",
    "unknown": "$object()",
    "presets": {"paper": {"max_epochs": 7}},
    "train": {"trainer": {"max_epochs": "@max_epochs"}, "handlers": [{"_target_": "StatsHandler"}]},
    "initialize": [],
    "run": ["$bundle.parameters()"],
}


def tracked(**changes) -> ConfigParser:
    """A configuration as MONAI's ``--tracking mlflow`` leaves it."""
    parser = ConfigParser({**json.loads(json.dumps(CONFIG)), **changes})
    settings = json.loads(json.dumps({**DEFAULT_MLFLOW_SETTINGS, "configs": {**DEFAULT_MLFLOW_SETTINGS["configs"]}}))
    settings["configs"] = {**settings["configs"], "save_execute_config": changes.get("save_execute_config", False)}
    ConfigWorkflow.patch_bundle_tracking(parser=parser, settings=settings)
    return parser


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_parameters_are_values_given_or_computed_and_nothing_is_built():
    parser = ConfigParser({**CONFIG, "network_def": {"_target_": "no.such.Network"}})
    assert parser.get_parsed_content("run#0") == {
        "bundle_root": "/bundle",
        "output_dir": "/bundle/output",
        "device": "cpu",
        "scans": "/scans",
        "max_epochs": 5,
        "epochs": 5,
        "pixdim": [1.5, 1.5],
        "exclude": None,
        "names": ["a", "b"],
    }


def test_parameters_and_configuration_are_those_after_the_presets():
    steps = {"initialize": ["$bundle.start()"], "run": ["$bundle.parameters()", "$bundle.executed()"]}
    parser = ConfigParser({**CONFIG, "preset": "paper", **steps})
    parser.get_parsed_content("initialize#0")
    parser.ref_resolver.remove_resolved_content("initialize::0")  # as MONAI does after each step
    parameters, executed = (parser.get_parsed_content(f"run#{step}") for step in (0, 1))
    assert parameters["epochs"] == 7
    assert executed["max_epochs"] == 7
    executed["train"]["trainer"]["max_epochs"] = 9
    assert parser["train"]["trainer"]["max_epochs"] == "@max_epochs"


def test_outside_of_a_configuration_there_is_no_parser():
    with pytest.raises(RuntimeError, match="to be called by an expression of a configuration"):
        running_config.parameters()
    with pytest.raises(RuntimeError):
        bundle.start()


def test_nothing_is_sent_to_mlflows_makers(monkeypatch):
    import mlflow.telemetry.client as client

    monkeypatch.setattr(client, "_MLFLOW_TELEMETRY_CLIENT", "on")
    prepare_tracking(ConfigParser(dict(CONFIG)))
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert client.get_telemetry_client() is None
    # who wants to send sends
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.setattr(client, "_MLFLOW_TELEMETRY_CLIENT", "on")
    prepare_tracking(ConfigParser(dict(CONFIG)))
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert client.get_telemetry_client() == "on"


def test_without_tracking_a_configuration_stays_as_it_is():
    parser = ConfigParser(json.loads(json.dumps(CONFIG)))
    prepare_tracking(parser)
    assert parser.get() == ConfigParser(CONFIG).get()


def test_losses_of_iterations_and_of_epochs_have_names_of_their_own():
    parser = tracked()
    prepare_tracking(parser)
    stats, recorder = parser["train"]["handlers"]
    assert stats == {"_target_": "StatsHandler"}
    assert recorder["tag_name"] == "iteration_loss"
    # MONAI's settings, which the next configuration gets, stay as they are
    assert DEFAULT_MLFLOW_SETTINGS["configs"]["trainer"]["tag_name"] == "train_loss"


@pytest.mark.parametrize("folder", ["{tmp_path}/a run", "$'{tmp_path}/a run'"])
def test_executed_configuration_is_where_the_record_looks_for_it(tmp_path, folder):
    parser = tracked(output_dir=folder.format(tmp_path=tmp_path), save_execute_config=True)
    prepare_tracking(parser)
    path = parser.get_parsed_content("save_execute_config")
    assert os.path.dirname(path) == f"{tmp_path}/a run"
    assert json.loads(Path(path).read_text())["max_epochs"] == 5


def test_names_become_texts():
    parser = tracked(run_name=2026)
    prepare_tracking(parser)
    assert parser["run_name"] == "2026"
    assert parser["experiment_name"] == "monai_experiment"


@pytest.mark.parametrize("uri", ["/tmp/mlruns", "mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_no_store(monkeypatch, uri):
    with pytest.raises(UserError, match=r"^--tracking_uri: MLflow keeps runs in a database"):
        prepare_tracking(tracked(tracking_uri=uri))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI: MLflow keeps runs in a database"):
        prepare_tracking(tracked())


def test_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^--tracking_uri: .*file/sub: cannot write there"):
        prepare_tracking(tracked(tracking_uri=f"sqlite:///{tmp_path}/file/sub/mlruns.db"))
    prepare_tracking(tracked(tracking_uri=f"sqlite:///{tmp_path}/new/mlruns.db"))
    assert (tmp_path / "new").is_dir()


def test_mlflow_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--tracking: needs MLflow, which is not installed"):
        prepare_tracking(tracked())
    prepare_tracking(ConfigParser(dict(CONFIG)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"configs": {"trainr": {"_target_": "MLFlowHandler"}}}, "has a handler 'trainr', which handlers_id does not"),
        (
            {"handlers_id": {"trainer": {"id": "training", "handlers": "handlers"}}},
            r"has none of the engines of handlers_id \(training\)",
        ),
        ({"handlers_id": None}, "has to be a dict with handlers_id and configs"),
    ],
)
def test_settings_that_would_record_nothing(tmp_path, change, message):
    path = tmp_path / "mine.json"
    settings = {
        "handlers_id": {"trainer": {"id": "train#trainer", "handlers": "train#handlers"}},
        "configs": {"trainer": {"_target_": "MLFlowHandler"}},
    }
    path.write_text(json.dumps(settings))
    prepare_tracking(tracked(), str(path))
    path.write_text(json.dumps({**settings, **change}))
    with pytest.raises(UserError, match=f"^{path}: .*{message}"):
        prepare_tracking(tracked(), str(path))


def test_keys_that_tracking_adds(tmp_path):
    known = {"tracking_uri", "experiment_name", "run_name", "is_not_rank0", "save_execute_config"}
    assert keys_of_tracking("mlflow") == known
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"handlers_id": {}, "configs": {"interval": 3, "run_name": "a"}}))
    assert keys_of_tracking(str(path)) == known | {"interval"}


def test_configuration_on_a_gpu_is_told_by_name():
    parser = ConfigParser({**CONFIG, "device": torch.device("cuda", 1)})
    assert parser.get_parsed_content("run#0")["device"] == "cuda:1"
