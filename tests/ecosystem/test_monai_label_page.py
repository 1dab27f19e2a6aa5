"""docs/monai_label.md: its commands are taken from the page and run in its order, beside the server that it starts."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
import torch
from label_server import NO_NETWORK, REPO_ROOT, START, label_installs, label_python, stop_group

from common.model_settings import read_settings

pytestmark = pytest.mark.ecosystem

PAGE = (REPO_ROOT / "docs" / "monai_label.md").read_text(encoding="utf-8")
BLOCKS = [block.strip() for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)]
SERVER = "start_server"
PATIENCE = 300.0
# as 3D Slicer's plugin sends them: in the order in which the segments were made
SEGMENTS = ("lv", "bg_scribble", "rv", "myo")
VALUES = {"bg_scribble": 0, "rv": 1, "myo": 2, "lv": 3}
SECTION = PAGE.partition("## Train\n")[2].partition("\n## ")[0]
TRAINING = [block for block in BLOCKS if block in SECTION or "/train/" in block]


def block_with(word: str) -> str:
    [block] = [block for block in BLOCKS if word in block]
    return block


class Workplace:
    """A folder with what the page asks for, a shell there, and the port that stands for the page's own.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.variables: Mapping[str, str] = {**inherited, **NO_NETWORK, "PATH": path, "PYTHONUNBUFFERED": "1"}

    def words(self, block: str) -> list[str]:
        return ["bash", "-eu", "-c", block.replace("8000", str(self.port))]

    def run(self, block: str) -> str:
        done = subprocess.run(
            self.words(block),
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}\n{self.log()[-3000:]}"
        return done.stdout

    def log(self) -> str:
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, task: str) -> None:
        """Wait until no task of this kind runs, as the server tells it."""
        url = f"http://127.0.0.1:{self.port}/{task}/"
        end = time.monotonic() + PATIENCE
        while requests.get(url, params={"check_if_running": "true"}, timeout=60).ok:
            assert time.monotonic() < end, self.log()[-3000:]
            time.sleep(0.5)

    def submit(self, image: str, strokes: Path) -> None:
        """What the button Submit Label sends: 0 where nothing is drawn, and the names of the other values."""
        drawn = nib.load(strokes)
        own = np.asarray(drawn.dataobj)
        stored = np.zeros(own.shape, np.uint8)
        for value, name in enumerate(SEGMENTS, start=1):
            stored[own == VALUES[name]] = value
        path = self.folder / "submitted.nii.gz"
        nib.save(nib.Nifti1Image(stored, drawn.affine), path)
        info = {"label_info": [{"name": name, "idx": value} for value, name in enumerate(SEGMENTS, start=1)]}
        with path.open("rb") as file:
            answer = requests.put(
                f"http://127.0.0.1:{self.port}/datastore/label",
                params={"image": image},
                data={"params": json.dumps(info)},
                files={"label": (path.name, file)},
                timeout=60,
            )
        assert answer.ok, answer.text


@pytest.fixture(scope="module")
def workplace(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """Everything up to the running server, by the page's commands."""
    place = Workplace(tmp_path_factory.mktemp("workplace"))
    (place.folder / "label-env").symlink_to(label_python().parents[1])
    (place.folder / "my_studies").mkdir()
    (place.folder / "strokes").mkdir()
    made = sorted(path for path in phantom_dir.glob("*/*_frame01_scribble.nii.gz"))
    for number, path in enumerate(made[:3], start=1):
        for source, folder in ((str(path).replace("_scribble", ""), "my_studies"), (str(path), "strokes")):
            cut = nib.load(source).slicer[::2, ::2, :4]
            nib.save(cut, place.folder / folder / f"heart_{number:02d}.nii.gz")
    place.run(block_with("monailabel apps"))
    place.run(block_with("label install cyclemix"))
    place.run(block_with("sed -i"))
    # each score takes as many runs of the network as are asked for; two are enough to see them differ
    block = f"{block_with(SERVER)} --conf epistemic_simulation_size 2"
    with (place.folder / "server.log").open("w") as output:
        server = subprocess.Popen(
            place.words(block),
            cwd=place.folder,
            env=place.variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + START
        while requests_info(place.port) is None:
            assert server.poll() is None, place.log()[-3000:]
            assert time.monotonic() < end, place.log()[-3000:]
            time.sleep(0.5)
        yield place
    finally:
        stop_group(server)


def requests_info(port: int) -> dict | None:
    try:
        return requests.get(f"http://127.0.0.1:{port}/info/", timeout=60).json()
    except (requests.ConnectionError, requests.Timeout):
        return None


def test_the_installation_is_the_one_that_is_tested() -> None:
    lines = block_with("pip install").replace("\\\n", " ").splitlines()
    assert lines[0] == "python -m venv label-env"
    words = [shlex.split(line) for line in lines[1:]]
    assert [line[:2] for line in words] == [["label-env/bin/pip", "install"]] * len(words)
    assert [line[2:] for line in words] == label_installs()


def test_the_server_starts_with_the_installed_bundles(workplace: Workplace) -> None:
    info = json.loads(workplace.run(block_with("/info/")))
    assert sorted(info["models"]) == ["cyclemix", "maag"]
    assert info["labels"] == ["rv", "myo", "lv"]
    assert sorted(info["strategies"]) == ["epistemic", "first", "random"]


def test_infer_by_the_pages_command(workplace: Workplace) -> None:
    workplace.run(block_with("/infer/"))
    answer, image = (
        nib.load(workplace.folder / name) for name in ("heart_01_label.nii.gz", "my_studies/heart_01.nii.gz")
    )
    assert answer.shape == image.shape
    np.testing.assert_allclose(answer.affine, image.affine, atol=1e-4)
    assert set(np.unique(np.asarray(answer.dataobj)).tolist()) <= {0, 1, 2, 3}


def test_the_least_certain_image_comes_next(workplace: Workplace) -> None:
    workplace.wait_for("scoring")  # which the server began by itself
    told = workplace.run(block_with("label rank")).splitlines()
    ranked = [line.split() for line in told if re.search(r"\d\.\d{4}  heart_", line)]
    assert sorted(name for _, name in ranked) == ["heart_01", "heart_02", "heart_03"]
    scores = [float(score) for score, _ in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < math.log(4) for score in scores)
    answer = requests.post(f"http://127.0.0.1:{workplace.port}/activelearning/epistemic", json={}, timeout=60).json()
    assert answer["id"] == ranked[0][1]
    workplace.wait_for("scoring")  # a next sample begins one
    workplace.run(block_with("/scoring/maag"))
    workplace.wait_for("scoring")


def test_trainings_and_fresh_weights(workplace: Workplace) -> None:
    """What the page tells of trainings, from submitted strokes on, and of beginning anew."""
    for name in ("heart_01", "heart_02", "heart_03"):
        workplace.submit(name, workplace.folder / "strokes" / f"{name}.nii.gz")
    models = workplace.folder / "apps" / "monaibundle" / "model"
    for block in TRAINING:
        if "/train/" not in block:
            workplace.run(block)
            continue
        name = re.findall(r"/train/(\w+)", block)[0]
        weights = models / name / "models" / "model.pt"
        before, log = weights.read_bytes(), len(workplace.log())
        workplace.run(block)
        workplace.wait_for("train")
        assert weights.read_bytes() != before
        loaded = "Add Checkpoint Loader" in workplace.log()[log:]
        assert loaded == ('"none"' not in block)
    shipped = (models / "maag" / "models" / "model.pt").read_bytes()
    assert "untrained weights for background, RV, MYO, LV, seed 1" in workplace.run(block_with("label init"))
    assert (models / "maag" / "models" / "model.pt").read_bytes() != shipped
    workplace.run(block_with("/infer/"))
    assert "Reload model from cache" in workplace.log()  # the server took them without a new start


def test_own_organs(workplace: Workplace) -> None:
    told = workplace.run(block_with("--class_names"))
    bundle = workplace.folder / "apps" / "monaibundle" / "model" / "dmpls"
    assert "dmpls: background, spleen, tumour; untrained weights" in told
    assert read_settings(bundle / "models" / "model.pt")["num_classes"] == 3
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert len(state["decoder.output.weight"]) == 3


def test_every_block_of_the_page_is_run() -> None:
    run = ["pip install", "monailabel apps", "label install cyclemix", "sed -i", SERVER, "/info/", "/infer/"]
    run += ["label rank", "/scoring/maag", "label init", "--class_names"]
    assert [block for block in BLOCKS if block not in TRAINING and not any(word in block for word in run)] == []
