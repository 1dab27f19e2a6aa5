"""Every bundle's commands, run as a user runs them, on a small phantom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import forked_programs
import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())
SLOW = ("baselines",)
"""Bundles of the same trainer and handlers as others, with nothing of their own to run."""
SMALL = {"pixdim": "[4.0,4.0]", "roi_size": "[48,48]", "filters": "4"}
"""Settings that no bundle has by default; evaluation and inference are not told them."""
TERMS = {
    "attenscribble": ["l_seg", "l_mcrf", "l_atn", "similarity", "similarity_outside"],
    "coarse_labels": ["l_obj", "trace_obj", "l_comp", "trace_comp"],
    "cyclemix": ["l_unmix", "l_mix", "l_con_g", "l_con_l"],
    "dmpls": ["l_pce_main", "l_pce_auxiliary", "l_pls"],
    "maag": ["l_sup", "a0", "v_sigma_scribble", "v_delta", "v_sigma"],
}


def bundle_run(
    *configs: str, cwd: Path = REPO_ROOT, from_scratch: bool = False, **options
) -> subprocess.CompletedProcess[str]:
    files = "[" + ",".join(f"'{config}'" for config in configs) + "]" if len(configs) > 1 else configs[0]
    training = not any("evaluate" in config or "inference" in config for config in configs)
    options = {"batch_size": 8, **(SMALL if training else {}), **options}
    words = ["-m", "monai.bundle", "run", "--config_file", files]
    words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    if not from_scratch:
        return forked_programs.run(words, cwd=cwd, timeout=300)
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


def steady(bundle: str) -> dict[str, str]:
    """Options of a training that validates each epoch and whose epochs are the same in a longer one."""
    keys = json.loads((REPO_ROOT / "bundles" / bundle / "configs" / "train.json").read_text())
    return {"val_interval": "1"} | ({"learning_rate_power": "0"} if "learning_rate_power" in keys else {})


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in BUNDLES],
)
def trained(request, phantom_dir, tmp_path_factory) -> dict:
    """A bundle trained for two epochs by the card's command, from the root of the repository.

    In a Python that starts from nothing, so that sets have another order than in the trainings compared with it.
    """
    configs = f"bundles/{request.param}/configs"
    output = tmp_path_factory.mktemp(request.param)
    options = {"dataset_dir": phantom_dir, "output_dir": output, "max_epochs": 2, "seed": 7}
    result = bundle_run(f"{configs}/train.json", from_scratch=True, **options, **steady(request.param))
    assert result.returncode == 0, result.stderr[-2000:]
    return {"name": request.param, "configs": configs, "output": output, "log": result.stdout + result.stderr}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def test_training_writes_weights_checkpoint_and_curves(trained):
    names = {path.name.partition(".tfevents")[0] for path in trained["output"].iterdir()}
    written = {"model.pt", "model.json", "model_best.pt", "model_best.json", "checkpoint.pt", "events.out", "cache"}
    assert names == written
    assert "train_loss" in trained["log"]
    assert "val_mean_dice" in trained["log"]


def test_the_settings_are_those_of_the_training(trained):
    content = json.loads((trained["output"] / "model.json").read_text())
    given = {key: content["settings"][key] for key in SMALL}
    assert given == {"pixdim": [4.0, 4.0], "roi_size": [48, 48], "filters": 4}
    assert content["settings"]["num_classes"] == 4
    facts = content["training"]
    assert (facts["bundle"], facts["seed"], facts["epochs"]) == (trained["name"], 7, 2)
    assert facts["iterations"] >= 2


def test_every_term_is_logged(trained):
    for term in TERMS.get(trained["name"], []):
        assert f"train_{term}:" in trained["log"]


def test_same_seed_same_weights_and_resume_bit_for_bit(trained, phantom_dir, tmp_path):
    """From inside the bundle's folder, one epoch and then, resumed, the second give the weights of two."""
    folder = REPO_ROOT / "bundles" / trained["name"]
    options = {"dataset_dir": phantom_dir, "output_dir": tmp_path, "seed": 7, **steady(trained["name"])}
    first = bundle_run("configs/train.json", cwd=folder, max_epochs=1, **options)
    assert first.returncode == 0, first.stderr[-2000:]
    second = bundle_run("configs/train.json", cwd=folder, max_epochs=2, resume="true", **options)
    assert second.returncode == 0, second.stderr[-2000:]
    assert "resuming after epoch 1" in second.stdout + second.stderr
    whole, broken = weights(trained["output"] / "model.pt"), weights(tmp_path / "model.pt")
    assert list(whole) == list(broken)
    for name, value in whole.items():
        assert torch.equal(value, broken[name]), name


def test_evaluation_writes_the_tables(trained, phantom_dir, tmp_path):
    result = bundle_run(
        f"{trained['configs']}/train.json",
        f"{trained['configs']}/evaluate.json",
        dataset_dir=phantom_dir,
        output_dir=tmp_path,
        weights=trained["output"] / "model.pt",
        section="test",
    )
    assert result.returncode == 0, result.stderr[-2000:]
    summary = json.loads((tmp_path / "metrics.json").read_text())["summary"]
    assert 0.0 <= summary["all"]["dice"]["mean"] <= 1.0
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    cases = json.loads((phantom_dir / "datalist.json").read_text())["test"]
    assert len(rows) == 1 + 3 * len(cases)
    assert "HD95" in result.stdout + result.stderr


def test_inference_segments_a_folder_on_each_images_grid(trained, phantom_dir, tmp_path):
    source = tmp_path / "scans"
    (source / "clinic a" / "p1").mkdir(parents=True)
    (source / "clinic a" / "p1" / "frame.nii.gz").symlink_to(phantom_dir / "patient001" / "patient001_frame01.nii.gz")
    (source / "linked").symlink_to(phantom_dir / "patient002")
    volume = nib.load(phantom_dir / "patient003" / "patient003_frame01.nii.gz")
    change = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(volume.affine), nib.orientations.axcodes2ornt("PIR")
    )
    turned = volume.as_reoriented(change)
    nib.save(turned, source / "turned.nii.gz")
    grey = np.linspace(0, 255, 70 * 61).reshape(70, 61).astype(np.uint8)
    Image.fromarray(grey).save(source / "photo.png")
    result = bundle_run(
        f"{trained['configs']}/inference.json",
        dataset_dir=source,
        output_dir=tmp_path / "out",
        weights=trained["output"] / "model.pt",
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*_seg*"))
    frames = sorted(path.name.split(".")[0] for path in (phantom_dir / "patient002").glob("*.nii.gz"))
    images = [f"linked/{name}_seg.nii.gz" for name in frames if not name.endswith(("_gt", "_scribble"))]
    assert found == sorted(["clinic a/p1/frame_seg.nii.gz", *images, "turned_seg.nii.gz", "photo_seg.png"])
    for name in ("turned", "clinic a/p1/frame"):
        image = nib.load(source / f"{name}.nii.gz")
        label = nib.load(tmp_path / "out" / f"{name}_seg.nii.gz")
        assert label.shape == image.shape
        np.testing.assert_allclose(label.affine, image.affine, atol=1e-5)
        assert label.get_data_dtype() == np.uint8
        assert set(np.unique(label.dataobj)) <= {0, 1, 2, 3}
    assert Image.open(tmp_path / "out" / "photo_seg.png").size == (61, 70)


MISTAKES = [
    ({"max_epoch": 1}, "error: --max_epoch: unknown key; did you mean --max_epochs?"),
    ({"pad_label": "zero"}, "error: --pad_label: must be one of ['ignore', 'background'], got 'zero'"),
    ({"train#optimiser": 1}, "error: --train#optimiser: unknown key"),
    ({"amp": "perhaps"}, "error: --amp: must be true or false such as False, got 'perhaps'"),
    ({"datalist": "/nowhere/datalist.json"}, "error: /nowhere/datalist.json: no such datalist"),
    ({"preset": "best"}, "error: preset: no preset 'best'"),
]


@pytest.mark.parametrize(
    ("bundle", "options", "message"),
    # all of them with one bundle, and with each of the others one that `start` finds and one that is found later
    [(name, *mistake) for name in BUNDLES for mistake in (MISTAKES if name == "maag" else MISTAKES[:2])],
)
def test_mistakes_end_in_one_line(bundle, phantom_dir, tmp_path, options, message):
    settings = {"dataset_dir": phantom_dir, "output_dir": tmp_path / "out", **options}
    result = bundle_run(f"bundles/{bundle}/configs/train.json", **settings)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith(message)
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_weights_of_another_network_are_refused(trained, phantom_dir, tmp_path):
    """Which a value on the command line asks for: it wins over what the weights remember."""
    weights = trained["output"] / "model.pt"
    settings = {"dataset_dir": phantom_dir, "output_dir": tmp_path, "weights": weights}
    result = bundle_run(f"{trained['configs']}/inference.json", **settings, filters=2)
    assert result.returncode == 1
    assert "model.pt: the weights do not fit the network" in result.stderr.splitlines()[-1]
    assert f"filters is 2, and was 4 in the training of {weights}" in result.stdout + result.stderr
