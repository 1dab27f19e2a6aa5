"""The real MONAI Label server trains every bundle on scribbles as 3D Slicer submits them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from environments import REPO_ROOT
from label_server import NO_NETWORK, LabelServer, app_with, label_python, label_server
from monai.bundle import ConfigParser

from common.data.datalist import load_datalist
from common.data.phantom import make_phantom
from common.model_settings import read_settings

sys.path.insert(0, str(REPO_ROOT / "tests" / "bundles"))
from slicer_labels import submitted

pytestmark = pytest.mark.ecosystem

OTHERS = ["attenscribble", "coarse_labels", "cyclemix", "maag"]
ORDERS = [
    ("bg_scribble", "RV", "MYO", "LV"),
    ("LV", "bg_scribble", "RV", "MYO"),
    ("background", "Myo", "rv", "lv", "BG_Scribble"),
]
PATIENCE = 240.0


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Ten small volumes with scribbles in this project's values: every third voxel in the plane, every second slice."""
    folder = tmp_path_factory.mktemp("volumes")
    datalist = make_phantom(folder / "phantom", num_patients=20, seed=0)
    items = []
    for number, item in enumerate(load_datalist(datalist, "training")[:10]):
        small = {}
        for key in ("image", "label"):
            file = nib.load(item[key])
            affine = file.affine @ np.diag([3, 3, 2, 1])
            path = folder / f"p{number}_{key}.nii.gz"
            nib.save(nib.Nifti1Image(np.asarray(file.dataobj)[::3, ::3, ::2], affine), path)
            small[key] = str(path)
        items.append(small)
    assert len(items) == 10
    return items


def installed(folder: Path, bundles: Sequence[str]) -> Path:
    """An app with bundles that train on small slices and look at their validation cases after every epoch."""
    app = app_with(folder, bundles)
    for bundle in bundles:
        path = app / "model" / bundle / "configs" / "train.json"
        train = json.loads(path.read_text())
        train |= {"roi_size": [48, 48], "val_interval": 1, "learning_rate": 0.05}
        train["pixdim"] = train["pixdim"] and [4.2, 4.2]
        path.write_text(json.dumps(train))
    return app


def studies_of(folder: Path, volumes: Sequence[dict[str, str]]) -> Path:
    folder.mkdir()
    for number, item in enumerate(volumes):
        (folder / f"p{number}.nii.gz").write_bytes(Path(item["image"]).read_bytes())
    return folder


def submit(server: LabelServer, number: int, volumes: Sequence[dict[str, str]], **options: Any) -> None:
    """Send a label as 3D Slicer's plugin does, in an order of segments that depends on the case."""
    scribbles = nib.load(volumes[number]["label"])
    voxels, told = submitted(np.asarray(scribbles.dataobj), options.get("order", ORDERS[number % len(ORDERS)]))
    content = nib.Nifti1Image(voxels, scribbles.affine).to_bytes()
    params = options.get("params", {"label_info": told})
    files = {"label": (f"p{number}.nii.gz", gzip.compress(content)), "params": (None, json.dumps(params))}
    server.put("datastore/label", files=files, image=f"p{number}")


def finished(server: LabelServer) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        task = server.get("train").json()
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            return task
        time.sleep(0.5)
    raise AssertionError(f"no end of the training in {PATIENCE:.0f} s\n{server.log()[-4000:]}")


def train(server: LabelServer, bundle: str, **options: Any) -> dict[str, Any]:
    server.post(f"train/{bundle}", body={"max_epochs": 1, "device": "cpu"} | options)
    return finished(server)


def trained(server: LabelServer, bundle: str, **options: Any) -> None:
    task = train(server, bundle, **options)
    assert task["status"] == "DONE", "\n".join(task["details"])


def infer(server: LabelServer, bundle: str, number: int) -> np.ndarray:
    answer = server.post(f"infer/{bundle}", image=f"p{number}", output="image")
    file = nib.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(answer.content)))
    return np.asarray(file.dataobj)


def weights_of(app: Path, bundle: str) -> Path:
    return app / "model" / bundle / "models" / "model.pt"


def digest(path: Path) -> tuple[str, int]:
    return hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns


def new_weights(app: Path, bundle: str, before: tuple[str, int], epochs: int) -> None:
    """The weights are others, whole, and fit the bundle's network; beside them is what they were trained with."""
    path = weights_of(app, bundle)
    found = digest(path)
    assert found[0] != before[0]
    assert found[1] > before[1]
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.json", "model.pt"]
    state = torch.load(path, weights_only=True)
    settings = read_settings(path)
    assert settings["roi_size"] == [48, 48]
    assert settings["num_classes"] == 4
    assert json.loads(path.with_suffix(".json").read_text())["training"]["epochs"] == epochs
    parser = ConfigParser()
    parser.read_config(str(REPO_ROOT / "bundles" / bundle / "configs" / "inference.json"))
    parser["weights"] = str(path)
    parser.get_parsed_content("network_def").load_state_dict(state)
    assert all(torch.isfinite(value).all() for value in state.values())


def is_refused(app: Path, bundle: str, task: dict[str, Any], line: str, before: tuple[str, int]) -> None:
    """The training failed with one line that names the file and the fix, and nothing was overwritten."""
    assert task["status"] == "ERROR", "\n".join(task["details"])
    assert [told for told in task["details"] if told.startswith("error: ")] == [task["details"][-1]]
    assert line in task["details"][-1]
    assert digest(weights_of(app, bundle)) == before


def test_one_two_three_and_ten_volumes(volumes: list[dict[str, str]], tmp_path: Path) -> None:
    app = installed(tmp_path, ["dmpls"])
    studies = studies_of(tmp_path / "studies", volumes)
    done = 0
    with label_server(app, studies, ["dmpls"]) as server:
        seen = infer(server, "dmpls", 9)
        for labels in (1, 2, 3, 10):
            for number in range(done, labels):
                submit(server, number, volumes)
            done, before = labels, digest(weights_of(app, "dmpls"))
            trained(server, "dmpls", max_epochs=2)
            new_weights(app, "dmpls", before, epochs=2)
            now = infer(server, "dmpls", 9)
            assert now.shape == seen.shape
            assert not np.array_equal(now, seen), labels
            seen = now
        assert "val_mean_dice" in server.log()
    _prepared_as_from_a_datalist(app, volumes)


def _prepared_as_from_a_datalist(app: Path, volumes: Sequence[dict[str, str]]) -> None:
    """What the network was trained on lies in the run's cache: voxel by voxel that of the plain scribbles."""
    parser = ConfigParser()
    parser.read_config(str(REPO_ROOT / "bundles" / "dmpls" / "configs" / "train.json"))
    for key, value in read_settings(weights_of(app, "dmpls")).items():
        parser[key] = value
    plain = parser.get_parsed_content("train#preprocessing")
    cached = [torch.load(file, weights_only=False) for file in (app / "model/dmpls/output/cache").glob("*.pt")]
    # a case that was validated on was scored on its own grid
    trained_on = [item for item in cached if item["label"].shape[1:3] == (48, 48)]
    found = {Path(item["label"].meta["filename_or_obj"]).name: item for item in trained_on}
    assert len(found) == len(trained_on) >= 8
    for name, item in found.items():
        wanted = plain(dict(volumes[int(name.partition(".")[0].removeprefix("p"))]))
        np.testing.assert_array_equal(np.asarray(item["label"]), np.asarray(wanted["label"]), err_msg=name)
        np.testing.assert_allclose(np.asarray(item["image"]), np.asarray(wanted["image"]), atol=1e-5)


@pytest.fixture(scope="module")
def served(
    volumes: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LabelServer, Path]]:
    """A server with all five bundles and three submitted labels, and its app."""
    folder = tmp_path_factory.mktemp("served")
    app = installed(folder, ["dmpls", *OTHERS])
    studies = studies_of(folder / "studies", volumes[:4])
    with label_server(app, studies, ["dmpls", *OTHERS]) as server:
        for number in range(3):
            submit(server, number, volumes)
        yield server, app


@pytest.mark.parametrize("bundle", OTHERS)
def test_every_other_bundle(served: tuple[LabelServer, Path], bundle: str) -> None:
    server, app = served
    before, seen = digest(weights_of(app, bundle)), infer(server, bundle, 3)
    trained(server, bundle)
    new_weights(app, bundle, before, epochs=1)
    assert not np.array_equal(infer(server, bundle, 3), seen)


def test_names_that_cannot_be_used(served: tuple[LabelServer, Path], volumes: list[dict[str, str]]) -> None:
    server, app = served
    before = digest(weights_of(app, "dmpls"))
    file = str(app.parent / "studies" / "labels" / "final" / "p3.nii.gz")
    wrong = [{"name": "Segment_1", "idx": 1}, {"name": "LV", "idx": 2}]
    try:
        submit(server, 3, volumes, order=ORDERS[0], params={"label_info": wrong})
        is_refused(app, "dmpls", train(server, "dmpls"), f'{file}: no class is called "Segment_1"; the names', before)
        submit(server, 3, volumes, order=ORDERS[0], params={})
        is_refused(app, "dmpls", train(server, "dmpls"), f"{file}: datastore_v2.json has no names for its val", before)
        # a prediction that was corrected and submitted without a word on what is background
        submit(server, 3, volumes, order=("RV", "MYO", "LV"))
        is_refused(app, "dmpls", train(server, "dmpls"), f'{file}: there is no segment called "bg_scribble"', before)
    finally:
        server.request("DELETE", "datastore/label", params={"id": "p3", "tag": "final"})
    trained(server, "dmpls")
    new_weights(app, "dmpls", before, epochs=1)


def test_from_scratch(served: tuple[LabelServer, Path]) -> None:
    """MONAI Label 0.8.5 itself fails without "pretrained"; fresh weights are drawn by our own command."""
    server, app = served
    before = digest(weights_of(app, "dmpls"))
    task = train(server, "dmpls", pretrained=False)
    assert task["status"] == "ERROR"
    assert task["details"][-1].startswith("TypeError: stat: path should be string")
    assert digest(weights_of(app, "dmpls")) == before
    command = [sys.executable, "-W", "ignore", "-m", "tools", "label", "init", "dmpls", "--app", str(app), "--force"]
    subprocess.run(command, cwd=REPO_ROOT, check=True, capture_output=True)
    fresh = digest(weights_of(app, "dmpls"))
    assert fresh != before
    trained(server, "dmpls")
    new_weights(app, "dmpls", fresh, epochs=1)


def test_a_stopped_training_leaves_the_weights(served: tuple[LabelServer, Path]) -> None:
    server, app = served
    before = digest(weights_of(app, "dmpls"))
    checkpoint = app / "model" / "dmpls" / "output" / "checkpoint.pt"
    checkpoint.unlink(missing_ok=True)
    server.post("train/dmpls", body={"max_epochs": 10000, "device": "cpu"})
    end = time.monotonic() + PATIENCE
    while not checkpoint.exists() and time.monotonic() < end:
        time.sleep(0.2)
    assert checkpoint.exists()
    server.request("DELETE", "train")
    assert finished(server)["status"] == "STOPPED"
    assert digest(weights_of(app, "dmpls")) == before
    trained(server, "dmpls")
    new_weights(app, "dmpls", before, epochs=1)


def test_several_processes(served: tuple[LabelServer, Path]) -> None:
    """What the server starts on a machine with several GPUs, here two processes on the CPU: 2 cases train, 1 validates.

    The server itself counts GPUs, and finds none here; so its program for a training is asked to take two.
    """
    server, app = served
    bundle = app / "model" / "dmpls"
    before, seen = digest(weights_of(app, "dmpls")), infer(server, "dmpls", 3)
    request = {"model": "dmpls", "max_epochs": 2, "device": "cpu", "force_multi_gpu": True, "gpus": "0,1"}
    python = label_python()
    folders = {"APP_DIR": str(app), "STUDIES": str(app.parent / "studies"), "DATASTORE_AUTO_RELOAD": "false"}
    settings = {"models": "dmpls", "zoo_source": "ngc", "sam2": "false"}
    variables = {f"MONAI_LABEL_{name}": value for name, value in folders.items()}
    variables |= {"MONAI_LABEL_APP_CONF": json.dumps(settings), "PYTHONPATH": f"{app}{os.pathsep}{bundle}"}
    done = subprocess.run(
        [str(python), "-m", "monailabel.interfaces.utils.app", "-m", "train", "-r", json.dumps(request)],
        env={**os.environ, **NO_NETWORK, **variables, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    told = done.stdout + done.stderr
    assert "'--nproc_per_node=2', '-m', 'monai.bundle', 'run'" in told
    assert "Return code: 0" in told, told[-4000:]
    assert (bundle / "configs" / "monailabel_train.json").is_file()
    assert not list(app.parent.rglob("phantom"))
    new_weights(app, "dmpls", before, epochs=2)
    assert not np.array_equal(infer(server, "dmpls", 3), seen)
