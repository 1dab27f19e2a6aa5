"""Federated training in NVFlare's simulator, with two hospitals that hold different patients."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hospitals import REPO_ROOT, called, found_hospitals
from nvflare_environment import nvflare_python

from common.data.phantom import make_phantom
from common.packing.archive import unpack
from tools import pack

pytestmark = [pytest.mark.ecosystem, pytest.mark.timeout(900)]

BUNDLES = ["attenscribble", "coarse_labels", "cyclemix", "dmpls", "maag"]
CLASSES = ["background", "RV", "MYO", "LV"]
SMALL = {"filters": 4, "pixdim": [4.0, 4.0], "roi_size": [64, 64], "fresh": "true", "progress": "false"}
DOCUMENT = REPO_ROOT / "docs" / "federated.md"


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python that has NVFlare, and nothing of this project."""
    return nvflare_python()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The datalist of ten made-up patients: for training one hospital gets two of them, the other one."""
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", num_patients=10, seed=0)


def words_of(options: dict[str, Any]) -> list[str]:
    return [word for key, value in options.items() for word in (f"--{key}", str(value))]


def federate(python: Path, folder: Path, step: str, bundle: str | Path, **options: Any) -> Any:
    words = ["-m", "tools", "federate", step, str(bundle), *words_of(options)]
    return called(python, folder, words, path=str(REPO_ROOT))


def sites_file(folder: Path, sites: dict[str, Any]) -> Path:
    file = folder / "sites.json"
    file.write_text(json.dumps(sites))
    return file


def weights_in(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def iterations_of(run: Path) -> int:
    return torch.load(run / "checkpoint.pt", weights_only=True)["iteration"]


def stays_local(bundle: str, key: str) -> bool:
    return bundle == "coarse_labels" and key.startswith(("confusion_heads.", "annotation_backbone.", "transition."))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_two_rounds_of_two_hospitals_give_weights_that_infer(bundle, python, phantom, tmp_path):
    pack.main(bundle, output=str(tmp_path / "releases"))
    root = unpack(next((tmp_path / "releases").glob("*.zip")), tmp_path / "unpacked")
    sites = found_hospitals(phantom, tmp_path, ["hospital-a", "hospital-b"])
    patients = [
        {item["patient"] for section in ("training", "validation") for item in json.loads(text)[section]}
        for text in (Path(site["datalist"]).read_text() for site in sites.values())
    ]
    assert patients[0]
    assert not patients[0] & patients[1]
    output = tmp_path / "federated"
    done = federate(
        python,
        tmp_path,
        "simulate",
        root,
        sites=sites_file(tmp_path, sites),
        rounds=2,
        output=output,
        **SMALL,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    start = weights_in(next(output.rglob("start.pt")))
    end = weights_in(output / "model.pt")
    last = {site: weights_in(Path(own["output_dir"]) / "model.pt") for site, own in sites.items()}
    steps = {site: iterations_of(Path(own["output_dir"])) for site, own in sites.items()}
    assert list(end) == list(last["hospital-a"])
    assert steps["hospital-a"] != steps["hospital-b"]
    changed = []
    for key, value in end.items():
        if not value.is_floating_point():
            continue
        if stays_local(bundle, key):
            torch.testing.assert_close(value, start[key], rtol=0, atol=0)
            continue
        # federated averaging: each hospital counts by the iterations of the round, the same number in both rounds
        mean = sum(steps[site] * last[site][key] for site in sites) / sum(steps.values())
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-6)
        others = [start[key], *(weights[key] for weights in last.values())]
        changed.append(all(not torch.equal(value, other) for other in others))
    assert sum(changed) > 0.9 * len(changed)
    served = torch.load(next(output.rglob("FL_global_model.pt")), weights_only=True)["model"]
    assert list(served) == list(end)

    settings = json.loads((output / "model.json").read_text())
    assert (settings["settings"]["filters"], settings["settings"]["num_classes"]) == (4, 4)
    told = {"bundle": root.name, "sites": 2, "rounds": 2, "local_epochs": 1, "class_names": CLASSES}
    assert settings["training"] == told
    image = Path(json.loads(Path(sites["hospital-a"]["datalist"]).read_text())["validation"][0]["image"])
    words = [
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        "configs/inference.json",
        "--meta_file",
        "configs/metadata.json",
    ]
    words += [
        "--logging_file",
        "configs/logging.conf",
        "--dataset_dir",
        str(image),
        "--output_dir",
        str(tmp_path / "o"),
    ]
    inferred = called(python, root, [*words, "--weights", str(output / "model.pt")])
    assert inferred.returncode == 0, inferred.stdout[-3000:] + inferred.stderr[-3000:]
    (label_map,) = (tmp_path / "o").rglob("*.nii.gz")
    labels = np.asanyarray(nib.load(label_map).dataobj)
    assert labels.shape == nib.load(image).shape
    assert set(np.unique(labels)) <= {0, 1, 2, 3}


def commands_of_the_document() -> dict[str, list[str]]:
    """The words of each step's command in the document."""
    pattern = r"^python -m tools federate (?:[^\n]*\\\n)*[^\n]*"
    found = [shlex.split(text.replace("\\\n", " ")) for text in re.findall(pattern, DOCUMENT.read_text(), re.MULTILINE)]
    return {words[4]: words for words in found}


def test_the_commands_of_the_document(python, phantom, tmp_path):
    """Job and collect, here with MAAG's discriminator travelling along; the job is run as NVFlare finds it."""
    names = ["hospital-a", "hospital-b"]
    sites_file(tmp_path, found_hospitals(phantom, tmp_path, names))
    commands = commands_of_the_document()
    assert set(commands) == {"simulate", "job", "collect"}
    small = words_of(SMALL | {"federate_discriminator": "true", "rounds": 1, "discriminator_filters": 4})
    written = called(python, tmp_path, [*commands["job"][1:], *small], path=str(REPO_ROOT))
    assert written.returncode == 0, written.stderr[-3000:]
    folder = tmp_path / "build" / "jobs" / "maag"
    apps = [*(f"app_{name}" for name in names), "app_server"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*apps, "meta.json"])
    again = called(python, tmp_path, [*commands["job"][1:], *small], path=str(REPO_ROOT))
    assert again.stderr.endswith(f"error: {folder}: is there already; move it away or name another --output\n")

    run = ["-m", "nvflare.cli", "simulator", str(folder), "-w", "w", "-c", ",".join(names), "-t", "2"]
    ran = called(python, tmp_path, run, path=str(REPO_ROOT))
    served = list((tmp_path / "w").rglob("FL_global_model.pt"))
    assert len(served) == 1, ran.stdout[-3000:] + ran.stderr[-3000:]
    shutil.copy(served[0], tmp_path)
    collected = called(python, tmp_path, commands["collect"][1:], path=str(REPO_ROOT))
    assert collected.returncode == 0, collected.stderr[-3000:]

    travelled = torch.load(served[0], weights_only=True)["model"]
    discriminator = {key for key in travelled if key.startswith("discriminator.")}
    assert discriminator
    end = weights_in(tmp_path / "runs" / "heart" / "model.pt")
    assert set(end) == set(travelled) - discriminator
    start = weights_in(next(folder.rglob("start.pt")))
    weights = [key for key in discriminator if key.endswith("weight") and start[key].is_floating_point()]
    assert all(not torch.equal(travelled[key], start[key]) for key in weights)


def damaged_image(content: dict[str, Any], folder: Path) -> str:
    damaged = folder / "scan.nii.gz"
    damaged.write_bytes(b"no image")
    content["training"][0]["image"] = str(damaged)
    return str(damaged)


def other_order_of_classes(content: dict[str, Any], folder: Path) -> str:
    content["class_names"] = ["background", "LV", "myo", "RV"]
    return "its classes are background, LV, myo, RV, those of the federation background, RV, MYO, LV; change"


@pytest.mark.parametrize("mistake", [damaged_image, other_order_of_classes])
def test_what_is_wrong_at_one_hospital_is_told_with_its_name(mistake, python, phantom, tmp_path):
    sites = found_hospitals(phantom, tmp_path, ["hospital-a", "hospital-b"])
    datalist = Path(sites["hospital-b"]["datalist"])
    content = json.loads(datalist.read_text())
    told = mistake(content, tmp_path)
    datalist.write_text(json.dumps(content))
    file = sites_file(tmp_path, sites)
    done = federate(python, tmp_path, "simulate", "dmpls", sites=file, rounds=1, output=tmp_path / "out", **SMALL)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert line.startswith("error: the simulation failed: hospital-b: ")
    assert told in line
    assert "hospital-a" not in line
    assert not (tmp_path / "out" / "model.pt").exists()
