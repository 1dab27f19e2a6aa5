"""The data sets of MAAG's paper: from a small tree of the official layout to two training steps, scores and labels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser, create_workflow
from PIL import Image

from common.bundle import apply_preset
from common.errors import UserError
from tools.prepare import main as prepare

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "maag" / "configs"
CLASSES = {"acdc": 4, "lvsc": 2, "chaos_t1": 5, "chaos_t2": 5, "ppss": 7}


def workflow(name: str, folder: Path, *configs: str, **options: Any):
    """A run with the data set's overlay in training alone: the weights remember what it sets."""
    training = configs == ("train",)
    files = [CONFIGS / f"{config}.json" for config in configs] + [CONFIGS / "data" / f"{name}.json"] * training
    run = create_workflow(
        workflow_type="train" if training else "infer",
        config_file=[str(file) for file in files],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=None,
        output_dir=str(folder),
        batch_size=2,
        **({"filters": 2} if training else {}),
        **options,
    )
    run.run()
    return run


@pytest.fixture
def data_set(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    """A data set's folder with its datalist, prepared from the official layout; ACDC's is the phantom's layout."""

    def prepared(name: str) -> Path:
        if name == "acdc":
            return request.getfixturevalue("phantom_dir")
        prepare(name, source=str(request.getfixturevalue(f"{name.split('_')[0]}_tree")), output=str(tmp_path / name))
        return tmp_path / name

    return prepared


@pytest.mark.parametrize("name", CLASSES)
def test_the_compact_preset_shows_as_much_of_every_data_set(name: str) -> None:
    fields = {}
    for preset in ("default", "compact"):
        files = [str(CONFIGS / "train.json"), str(CONFIGS / "data" / f"{name}.json")]
        parser = ConfigParser(ConfigParser.load_config_files(files))
        parser["preset"] = preset
        apply_preset(parser)
        fields[preset] = np.multiply(parser["pixdim"], parser["roi_size"])  # in mm
        assert np.prod(parser["roi_size"]) <= 224 * 224
    assert np.all(fields["compact"] >= 0.94 * fields["default"])


@pytest.mark.parametrize("name", CLASSES)
def test_two_steps_scores_and_labels(name: str, data_set: Callable[[str], Path], tmp_path: Path) -> None:
    folder = data_set(name)
    options = {"dataset_dir": str(folder), "max_epochs": 1, "discriminator_filters": 4}
    run = workflow(name, tmp_path / "run", "train", **options, **{"train#trainer#epoch_length": 2})
    trainer = run.trainer
    assert trainer.state.iteration == 2
    assert {"train_v_delta", "train_v_sigma", "train_l_sup"} <= set(trainer.state.metrics)
    slices = trainer.data_loader.dataset.slices
    overlay = json.loads((CONFIGS / "data" / f"{name}.json").read_text())
    assert overlay["num_classes"] == CLASSES[name]
    assert slices["image"].shape[1:] == (overlay["in_channels"], *overlay["roi_size"])
    drawn = {int(value) for value in np.unique(slices["label"])}
    assert {0, 1, CLASSES[name]} <= drawn <= set(range(CLASSES[name] + 1))  # background, a class, not annotated
    assert len(drawn) >= CLASSES[name]  # one of CHAOS' small made-up organs gets lost at 1.89 mm
    if overlay["normalisation"] == "symmetric":
        assert -1.0001 <= float(slices["image"].min()) < -0.9
        assert 0.9 < float(slices["image"].max()) <= 1.0001
    if overlay["normalisation"] == "maximum":
        assert 0 <= float(slices["image"].min()) < 0.3 < float(slices["image"].max()) <= 1.0001

    weights = str(tmp_path / "run" / "model.pt")
    workflow(name, tmp_path / "eval", "train", "evaluate", dataset_dir=str(folder), weights=weights, section="test")
    summary = json.loads((tmp_path / "eval" / "metrics.json").read_text())["summary"]
    assert len(summary["classes"]) == CLASSES[name] - 1

    case = json.loads((folder / "datalist.json").read_text())["test"][0]
    image = folder / case["image"]
    workflow(name, tmp_path / "out", "inference", dataset_dir=str(image), weights=weights)
    (label,) = (tmp_path / "out").glob("*_seg*")
    if name == "ppss":
        assert Image.open(label).size == Image.open(image).size == (80, 160)
    else:
        assert nib.load(label).shape == nib.load(folder / case["label"]).shape


def test_a_data_set_of_other_classes_needs_its_overlay(data_set, tmp_path, capsys):
    folder = data_set("lvsc")
    with pytest.raises(Exception, match="ConfigExpression") as caught:
        workflow("acdc", tmp_path / "run", "train", dataset_dir=str(folder))
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    assert str(cause).endswith("has 2 classes where --num_classes is 4; set --num_classes 2")


@pytest.mark.slow
def test_real_acdc(data_root: Path, tmp_path: Path) -> None:
    """Two steps on all patients, and every training slice has strokes of its background."""
    source = data_root / "acdc"
    prepare("acdc", source=str(source), scribbles=str(source / "acdc_scribbles"), output=str(tmp_path), split="half35")
    options = {"dataset_dir": str(tmp_path), "max_epochs": 1, "val_interval": 2, "discriminator_filters": 4}
    run = workflow("acdc", tmp_path / "run", "train", **options, **{"train#trainer#epoch_length": 2})
    assert run.trainer.state.iteration == 2
    label = run.trainer.data_loader.dataset.slices["label"]
    assert len(label) > 600
    assert bool((label == 0).flatten(1).any(1).all())
    assert os.path.getsize(tmp_path / "run" / "model.pt") > 0
