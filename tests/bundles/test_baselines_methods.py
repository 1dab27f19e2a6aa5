"""The baselines' methods: every overlay trains for an epoch, with the terms and the annotations that it should have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, create_workflow

from common.bundle import apply_preset
from common.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "baselines" / "configs"
METHODS = sorted(path.stem for path in (CONFIGS / "methods").glob("*.json"))


def train(phantom_dir: Path, output: Path, method: str | None, **options: Any):
    overlay = [str(CONFIGS / "methods" / f"{method}.json")] if method else []
    small = {"roi_size": [48, 48], "filters": 2, "batch_size": 8, "max_epochs": 1, "val_interval": 1, "cache_dir": ""}
    run = create_workflow(
        workflow_type="train",
        config_file=[str(CONFIGS / "train.json"), *overlay],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=None,
        dataset_dir=str(phantom_dir),
        output_dir=str(output),
        **(small | options),
    )
    run.run()
    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.pt", weights_only=True)


def terms(run: Any) -> dict[str, float]:
    metrics = run.trainer.state.metrics
    return {name.removeprefix("train_"): value for name, value in metrics.items() if name.startswith("train_")}


def test_the_methods_of_the_benchmark_are_there():
    assert METHODS == ["dense", "gated_crf", "pce", "wpce"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_names_itself(method):
    overlay = json.loads((CONFIGS / "methods" / f"{method}.json").read_text())
    assert overlay["provenance#method"] == method


def test_a_training_resumes_with_its_own_method(phantom_dir, tmp_path):
    train(phantom_dir, tmp_path, "wpce")
    assert json.loads((tmp_path / "model.json").read_text())["training"]["method"] == "wpce"
    with pytest.raises(RuntimeError) as error:
        train(phantom_dir, tmp_path, "dense", max_epochs=2, resume=True)
    cause = error.value.__cause__
    while not isinstance(cause, UserError):
        cause = cause.__cause__
    assert "was trained with method 'wpce', which is 'dense' now; resume with the same" in str(cause)


@pytest.mark.parametrize(
    ("method", "options", "sum_of"),
    [
        ("pce", {}, {}),
        ("wpce", {}, {}),
        ("gated_crf", {}, {"l_pce": 1.0, "l_crf": 0.1}),
        ("gated_crf", {"crf_weight": 0.5, "crf_radius": 2, "amp": True}, {"l_pce": 1.0, "l_crf": 0.5}),
        ("gated_crf", {"crf_weight": 0.0}, {"l_pce": 1.0}),
        ("dense", {}, {"l_ce": 0.5, "l_dice": 0.5}),
        ("dense", {"dice_weight": 0.2, "labelled_share": 0.5, "dense_share": 0.5}, {"l_ce": 0.8, "l_dice": 0.2}),
    ],
)
def test_every_method_trains(phantom_dir, tmp_path, method, options, sum_of):
    found = terms(train(phantom_dir, tmp_path, method, **options))
    assert set(found) == {"loss", *sum_of}
    if sum_of:
        assert found["loss"] == pytest.approx(sum(weight * found[name] for name, weight in sum_of.items()), rel=1e-4)
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())
    assert (tmp_path / "model_best.pt").is_file()


def test_the_preset_for_a_cpu_weights_the_crf_less():
    parser = ConfigParser(ConfigParser.load_config_files([CONFIGS / "train.json", CONFIGS / "methods/gated_crf.json"]))
    assert parser.get_parsed_content("loss").weight == 0.1
    parser["preset"] = "compact"
    apply_preset(parser)
    parser.parse(reset=True)
    assert parser.get_parsed_content("loss").weight == 0.03
    assert parser["batch_size"] == 8, "the rest of the preset is there still"


def test_pce_is_the_default_and_the_others_differ_from_it(phantom_dir, tmp_path):
    found = {}
    for method in (None, *METHODS):
        train(phantom_dir, tmp_path / str(method), method, seed=5)
        found[method] = torch.cat([value.flatten().float() for value in weights(tmp_path / str(method)).values()])
    assert torch.equal(found[None], found["pce"])
    for method in ("wpce", "gated_crf", "dense"):
        assert not torch.equal(found["pce"], found[method]), method


def test_the_dense_method_alone_trains_on_dense_masks(phantom_dir, tmp_path):
    kinds = {}
    for method in METHODS:
        files = [str(CONFIGS / "train.json"), str(CONFIGS / "methods" / f"{method}.json")]
        parser = ConfigParser(ConfigParser.load_config_files(files))
        parser["dataset_dir"] = str(phantom_dir)
        items = parser.get_parsed_content("train#dataset#data")
        kinds[method] = {item.get("supervision") for item in items}
        assert all(item["label"].endswith("_gt.nii.gz") == (method == "dense") for item in items)
    assert kinds == {"pce": {None}, "wpce": {None}, "gated_crf": {None}, "dense": {"dense"}}


def test_a_network_of_its_own_goes_behind_training_and_inference(phantom_dir, tmp_path):
    """As docs/README.md says of further methods."""
    overlay = {
        "network_def": {
            "_target_": "BasicUNet",
            "spatial_dims": 2,
            "in_channels": "@in_channels",
            "out_channels": "@num_classes",
            "features": [4, 4, 8, 8, 8, 4],
        }
    }
    path = tmp_path / "basic.json"
    ConfigParser.export_config_file(overlay, str(path))
    for name in ("train", "inference"):
        parser = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / f"{name}.json"), str(path)]))
        parser["num_classes"] = 4
        assert type(parser.get_parsed_content("network_def")).__name__ == "BasicUNet"
