"""Every bundle's runs recorded by MLflow itself, started as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs" / "train.json").is_file())
SMALL = {"pixdim": "[8.0,8.0]", "roi_size": "[32,32]", "filters": "2", "batch_size": "16"}
TERMS = {
    "attenscribble": {"l_seg", "l_mcrf", "l_atn"},
    "baselines": set(),
    "coarse_labels": {"l_obj", "l_comp"},
    "cyclemix": {"l_unmix", "l_mix"},
    "dmpls": {"l_pce_main", "l_pce_auxiliary", "l_pls"},
    "maag": {"l_sup", "v_delta", "v_sigma"},
}
pytestmark = pytest.mark.ecosystem


def run(*configs: Path, cwd: Path, launcher: tuple[str, ...] = (), **options) -> subprocess.CompletedProcess[str]:
    """Run a bundle in a folder that is no git repository, with whatever would reach the network cut off."""
    files = "[" + ",".join(f"'{config}'" for config in configs) + "]"
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    # no proxy that leads anywhere, so that a connection that is tried fails
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return subprocess.run(
        [*(launcher or (sys.executable,)), "-m", "monai.bundle", "run", "--config_file", files, *words],
        cwd=cwd,
        env={**os.environ, **nowhere, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO_ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def configs_of(bundle: str, *names: str) -> list[Path]:
    return [REPO_ROOT / "bundles" / bundle / "configs" / f"{name}.json" for name in names]


def settings_of(bundle: str) -> Path:
    return configs_of(bundle, "tracking")[0]


def only_run(store: Path, experiment: str):
    client = MlflowClient(f"sqlite:///{store}")
    number = client.get_experiment_by_name(experiment).experiment_id
    (found,) = client.search_runs([number])
    return client, found


def steps(client: MlflowClient, found, name: str) -> list[int]:
    return [point.step for point in client.get_metric_history(found.info.run_id, name)]


def artifacts(client: MlflowClient, found) -> set[str]:
    return {item.path for item in client.list_artifacts(found.info.run_id)}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_training_evaluation_and_inference_with_our_settings(bundle, phantom_dir, tmp_path):
    given = {"dataset_dir": phantom_dir, "tracking": settings_of(bundle)}
    trained = run(
        *configs_of(bundle, "train"),
        cwd=tmp_path,
        output_dir=tmp_path / "a run",
        max_epochs=2,
        val_interval=1,
        tracking_interval=1,
        experiment_name="hearts",
        run_name=2026,
        **given,
        **SMALL,
    )
    assert trained.returncode == 0, trained.stderr[-2000:]
    client, found = only_run(tmp_path / "a run" / "mlruns.db", "hearts")
    assert (found.info.run_name, found.info.status) == ("2026", "FINISHED")
    # what the command line, the configuration and the data decide
    wanted = {"filters": "2", "max_epochs": "2", "roi_size": "[32, 32]", "num_classes": "4", "preset": "default"}
    assert {key: found.data.params[key] for key in wanted} == wanted
    assert steps(client, found, "train_loss") == [1, 2]
    assert steps(client, found, "val_mean_dice") == [1, 2]
    iterations = steps(client, found, "iteration_loss")
    assert iterations == list(range(1, len(iterations) + 1))
    for term in TERMS[bundle]:
        assert steps(client, found, f"train_{term}") == [1, 2]
        assert steps(client, found, f"iteration_{term}") == iterations
    assert {"config.json", "model.pt", "model.json"} <= artifacts(client, found)
    executed = client.download_artifacts(found.info.run_id, "config.json", str(tmp_path))
    assert json.loads(Path(executed).read_text())["filters"] == 2

    weights = {"weights": tmp_path / "a run" / "model.pt"}
    configs = configs_of(bundle, "train", "evaluate")
    done = run(*configs, cwd=tmp_path, output_dir=tmp_path / "scores", **weights, **given)
    assert done.returncode == 0, done.stderr[-2000:]
    client, found = only_run(tmp_path / "scores" / "mlruns.db", "scribbles")
    assert artifacts(client, found) == {"config.json", "metrics.csv", "metrics.json"}
    summary = json.loads((tmp_path / "scores" / "metrics.json").read_text())["summary"]
    assert found.data.metrics["mean_dice"] == pytest.approx(summary["all"]["dice"]["mean"])
    assert found.data.metrics["dice_RV"] == pytest.approx(summary["classes"]["RV"]["dice"]["mean"])
    assert found.data.params["section"] == "validation"

    one = {**given, "dataset_dir": phantom_dir / "patient001"}
    done = run(*configs_of(bundle, "inference"), cwd=tmp_path, output_dir=tmp_path / "labels", **weights, **one)
    assert done.returncode == 0, done.stderr[-2000:]
    client, found = only_run(tmp_path / "labels" / "mlruns.db", "scribbles")
    assert artifacts(client, found) == {"config.json"}
    assert found.data.params["filters"] == "2"


@pytest.mark.parametrize("bundle", BUNDLES)
def test_training_with_monais_settings_and_its_evaluation(bundle, phantom_dir, tmp_path):
    given = {"dataset_dir": phantom_dir, "tracking": "mlflow"}
    trained = run(
        *configs_of(bundle, "train"), cwd=tmp_path, output_dir=tmp_path, max_epochs=2, val_interval=1, **given, **SMALL
    )
    assert trained.returncode == 0, trained.stderr[-2000:]
    client, found = only_run(tmp_path / "mlruns.db", "monai_experiment")
    assert found.info.status == "FINISHED"
    iterations = steps(client, found, "iteration_loss")
    assert iterations == list(range(1, len(iterations) + 1))
    for name in ("train_loss", "val_mean_dice", *(f"train_{term}" for term in TERMS[bundle])):
        assert steps(client, found, name) == [1, 2]
    (config,) = artifacts(client, found)
    assert config.startswith("config_")
    if bundle != BUNDLES[0]:
        return  # evaluate.json has the same handlers in all, see the tests of the bundles' files
    evaluated = run(
        *configs_of(bundle, "train", "evaluate"),
        cwd=tmp_path,
        output_dir=tmp_path / "scores",
        weights=tmp_path / "model.pt",
        tracking_uri=f"sqlite:///{tmp_path}/mlruns.db",
        run_name="scores",
        **given,
    )
    assert evaluated.returncode == 0, evaluated.stderr[-2000:]
    number = client.get_experiment_by_name("monai_experiment").experiment_id
    runs = {found.info.run_name: found for found in client.search_runs([number])}
    assert len(runs) == 2
    assert runs["scores"].data.metrics["mean_dice"] >= 0.0
    # MLflow keeps the files of both where the experiment began
    assert len(list((tmp_path / "mlruns").rglob("config_*.json"))) == 2


def test_two_processes_write_one_record(phantom_dir, tmp_path):
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    given = {"dataset_dir": phantom_dir, "tracking": settings_of("maag")}
    configs = configs_of("maag", "train", "multi_gpu_train")
    done = run(
        *configs, cwd=tmp_path, launcher=launcher, output_dir=tmp_path, max_epochs=1, val_interval=1, **given, **SMALL
    )
    assert done.returncode == 0, done.stderr[-2000:]
    client, found = only_run(tmp_path / "mlruns.db", "scribbles")
    assert steps(client, found, "train_loss") == [1]
    assert steps(client, found, "val_mean_dice") == [1]
    assert found.data.params["world_size"] == "2"


@pytest.mark.parametrize("tracking", ["mlflow", "ours"])
def test_a_resumed_training_is_recorded(phantom_dir, tmp_path, tracking):
    settings = tracking if tracking == "mlflow" else settings_of("dmpls")
    given = {"dataset_dir": phantom_dir, "tracking": settings, "output_dir": tmp_path, "val_interval": 1, **SMALL}
    for epochs in (1, 2):
        done = run(*configs_of("dmpls", "train"), cwd=tmp_path, max_epochs=epochs, resume="true", **given)
        assert done.returncode == 0, done.stderr[-2000:]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns.db")
    number = client.get_experiment_by_name("monai_experiment" if tracking == "mlflow" else "scribbles").experiment_id
    found = [steps(client, run, "train_loss") for run in client.search_runs([number])]
    # MONAI's handler begins a new run after one that is finished
    assert sorted(found) == ([[1], [2]] if tracking == "mlflow" else [[1, 2]])


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode != 0
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def test_mistakes_end_in_one_line(phantom_dir, tmp_path):
    train, settings = configs_of("dmpls", "train"), settings_of("dmpls")
    given = {"dataset_dir": phantom_dir, "output_dir": tmp_path / "out", **SMALL}
    (line,) = errors(run(*train, cwd=tmp_path, run_name="a", **given))
    assert line == "error: --run_name: unknown key; see the table of keys in the bundle's docs/README.md"
    (line,) = errors(run(*train, cwd=tmp_path, tracking=settings, tracking_uri=tmp_path / "runs", **given))
    assert line.startswith("error: --tracking_uri: MLflow keeps runs in a database or on a server, not in the folder")
    changed = json.loads(settings.read_text())
    changed["configs"]["trainr"] = changed["configs"].pop("trainer")
    (tmp_path / "mine.json").write_text(json.dumps(changed))
    (line,) = errors(run(*train, cwd=tmp_path, tracking=tmp_path / "mine.json", **given))
    assert line.startswith(f"error: {tmp_path}/mine.json: configs has a handler 'trainr'")
    (tmp_path / "file").write_text("")
    given["output_dir"] = tmp_path / "file" / "out"
    (line,) = errors(run(*train, cwd=tmp_path, tracking=settings, **given))
    assert line.startswith(f"error: {tmp_path}/file/out: cannot write there")
    # which MONAI itself finds, before anything of ours runs
    done = run(*train, cwd=tmp_path, tracking=tmp_path / "absent.json", **given)
    assert done.returncode != 0
    assert "absent.json" in done.stderr.strip().splitlines()[-1]
