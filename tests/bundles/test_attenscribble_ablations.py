"""AttenScribble: every ablation and preset trains for an epoch, with the terms and the network that it should have."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow

from tools.prepare import main as prepare

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "attenscribble" / "configs"
SIMILARITY = {"l_atn", "similarity", "similarity_outside"}


def workflow(folder: Path, output: Path, *configs: str, **options: Any):
    return create_workflow(
        workflow_type="train" if configs == ("train",) else "infer",
        config_file=[str(CONFIGS / f"{name}.json") for name in configs],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=None,
        dataset_dir=str(folder),
        output_dir=str(output),
        **{"roi_size": [48, 48], "filters": 2, "batch_size": 8, **options},
    )


def train(folder: Path, output: Path, **options: Any):
    run = workflow(folder, output, "train", **{"max_epochs": 1, "val_interval": 9, **options})
    run.run()
    return run.trainer


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prepared volumes, which are the same for most forms."""
    return str(tmp_path_factory.mktemp("cache"))


def terms(trainer: Any) -> set[str]:
    return {name.removeprefix("train_") for name in trainer.state.metrics} - {"loss", "learning_rate"}


def without_gradient(trainer: Any) -> list[str]:
    return [name for name, parameter in trainer.network.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"l_mcrf"} | SIMILARITY),
        ({"lambda_atn": 0.0}, {"l_mcrf"}),  # without ASL, the paper's ablation
        ({"lambda_mcrf": 0.0}, SIMILARITY),  # without the masked CRF
        ({"self_attention": False, "lambda_atn": 0.0}, {"l_mcrf"}),  # without SSA, and so without ASL
        ({"self_attention": False, "lambda_atn": 0.0, "lambda_mcrf": 0.0}, set()),  # partial cross entropy alone
        ({"preset": "paper"}, {"l_mcrf"} | SIMILARITY),
        ({"preset": "code"}, {"l_mcrf"} | SIMILARITY),
        ({"amp": True}, {"l_mcrf"} | SIMILARITY),
        ({"attention_heads": 2, "attention_layers": 2, "attention_level": 1}, {"l_mcrf"} | SIMILARITY),
        (
            {"preset": "paper", "attention_heads": 2, "attention_layers": 2, "attention_dim_v": 3},
            {"l_mcrf"} | SIMILARITY,
        ),
        ({"similarity_bias": False, "scale_by_positions": True, "crf_downsample": 2}, {"l_mcrf"} | SIMILARITY),
        ({"labelled_share": 0.5, "dense_share": 0.5}, {"l_mcrf"} | SIMILARITY),  # scribbles and dense masks
        ({"labelled_share": 0.0, "dense_share": 1.0}, {"l_mcrf"} | SIMILARITY),
    ],
)
def test_every_form_trains(phantom_dir, cache, tmp_path, options, expected):
    trainer = train(phantom_dir, tmp_path, cache_dir=cache, **options)
    assert terms(trainer) == {"l_seg"} | expected
    assert without_gradient(trainer) == []
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert any(name.startswith("attention.") for name in state) == options.get("self_attention", True)
    assert any(name.startswith("similarity.") for name in state) == options.get("self_attention", True)
    assert all(torch.isfinite(value).all() for value in state.values())
    (output,) = trainer.state.output
    logits = output["pred"] if isinstance(output["pred"], torch.Tensor) else output["pred"][0]
    assert logits.dtype == (torch.bfloat16 if options.get("amp") else torch.float32)
    assert output["loss"].dtype == torch.float32
    assert trainer.state.metrics["train_loss"] == pytest.approx(
        trainer.state.metrics["train_l_seg"]
        + sum(
            options.get(f"lambda_{name}", 0.1) * trainer.state.metrics[f"train_l_{name}"]
            for name in ("mcrf", "atn")
            if f"train_l_{name}" in trainer.state.metrics
        ),
        rel=1e-4,
    )


def test_published_settings(phantom_dir, tmp_path):
    """What the authors' code trains with, read off the objects that the default configuration makes."""
    parser = workflow(phantom_dir, tmp_path, "train", max_epochs=3).parser
    loss, network, optimizer = (parser.get_parsed_content(key) for key in ("loss", "network_def", "optimizer"))
    assert (loss.lambda_mcrf, loss.lambda_atn, loss.mask_q) == (0.1, 0.1, False)
    (kernel,) = loss.crf.kernels
    assert (kernel.weight, kernel.position_sigma, kernel.intensity_sigma, loss.crf.radius) == (1.0, 6.0, 0.1, 5)
    attentive = loss.attentive
    assert (attentive.radius, attentive.sigma, attentive.scaled, attentive.mask_omega_u) == (5, 6.0, False, False)
    assert (network.attention_level, network.attention.maps) == (2, 1)
    group = optimizer.param_groups[0]
    assert [group[key] for key in ("lr", "momentum", "weight_decay")] == [0.01, 0.9, 1e-4]
    config = json.loads((CONFIGS / "train.json").read_text())
    assert [config[key] for key in ("batch_size", "roi_size", "seed", "filters")] == [12, [256, 256], 2022, 16]
    # 160 scans of fold 1 have 1512 slices: 126 batches an epoch, so 480 epochs are the published 60,000 iterations
    assert 60_000 <= config["max_epochs"] * (1512 // config["batch_size"]) < 61_000
    scheduler, batches = parser.get_parsed_content("lr_scheduler"), len(parser.get_parsed_content("train#dataloader"))
    rates = []
    for _ in range(3 * batches):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    # (1 - iteration / iterations)^0.9 of 0.01: at a third of the way 0.01 * (2/3)^0.9
    assert rates[0] == 0.01
    assert rates[batches] == pytest.approx(0.01 * (2 / 3) ** 0.9)
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_images_reach_the_crf_between_0_and_1_as_the_network_saw_them(phantom_dir, tmp_path):
    trainer = train(phantom_dir, tmp_path)
    (output,) = trainer.state.output
    image, target = output["image"], output["label"]
    assert target["image"] is image
    assert 0.0 <= float(image.min()) < 0.05
    assert 0.5 < float(image.max()) <= 1.0
    assert "dense" not in target


def test_code_preset_takes_dense_masks_for_single_class_slices_alone(phantom_dir, tmp_path):
    trainer = train(phantom_dir, tmp_path, preset="code")
    target = trainer.state.output[0]["label"]
    assert set(target["dense"].unique().tolist()) <= {0, 1, 2, 3}
    assert target["dense"].shape == target["label"].shape
    assert (target["label"] == 4).float().mean() > 0.5  # the scribbles are what it learns from


def test_resuming_with_more_epochs_goes_on_learning(phantom_dir, tmp_path):
    """The rate falls to 0 at the end of a run; a longer one has it anew."""
    train(phantom_dir, tmp_path)
    first = torch.load(tmp_path / "model.pt", weights_only=True)
    trainer = train(phantom_dir, tmp_path, max_epochs=2, resume=True)
    second = torch.load(tmp_path / "model.pt", weights_only=True)
    assert trainer.state.epoch == 2
    assert not torch.equal(first["decoder.output.weight"], second["decoder.output.weight"])


def test_chaos_preset_on_data_with_five_classes(chaos_tree, tmp_path):
    prepare("chaos_t1", source=str(chaos_tree), output=str(tmp_path / "chaos"), form="hull")
    trainer = train(tmp_path / "chaos", tmp_path / "run", preset="chaos")
    augmentation = trainer.prepare_batch.augmentation
    assert (augmentation.right_angles, augmentation.rotation, augmentation.ignore_index) == (False, 20.0, 5)
    weights = str(tmp_path / "run" / "model.pt")
    workflow(tmp_path / "chaos", tmp_path / "eval", "train", "evaluate", weights=weights, section="test").run()
    summary = json.loads((tmp_path / "eval" / "metrics.json").read_text())["summary"]
    assert len(summary["classes"]) == 4
    case = json.loads((tmp_path / "chaos" / "datalist.json").read_text())["test"][0]["image"]
    scan = tmp_path / "chaos" / case
    workflow(scan, tmp_path / "out", "inference", weights=weights).run()
    (segmentation,) = (tmp_path / "out").rglob("*_seg.nii.gz")
    assert nib.load(segmentation).shape == nib.load(scan).shape


def test_two_classes_and_three_channels(phantom_dir, tmp_path):
    content = json.loads((phantom_dir / "datalist.json").read_text())
    content |= {"num_classes": 2, "class_names": ["background", "heart"], "unpaired_masks": [], "unlabelled": []}
    for section in ("training", "validation", "test"):
        content[section] = content[section][:2]
        for number, item in enumerate(content[section]):
            item.pop("dense_label", None)
            for key in ("image", "label"):
                volume = nib.load(phantom_dir / item[key])
                voxels = np.asarray(volume.dataobj)
                # not annotated is 4 of four classes and 2 of two
                colours = np.stack([voxels, voxels[::-1], voxels.max() - voxels], axis=-1)
                voxels = colours if key == "image" else np.select([voxels == 4, voxels > 0], [2, 1], 0).astype(np.uint8)
                item[key] = f"{section}{number}_{key}.nii.gz"
                nib.save(nib.Nifti1Image(voxels, volume.affine), tmp_path / item[key])
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    trainer = train(tmp_path, tmp_path / "run", num_classes=2, in_channels=3, val_interval=1)
    assert terms(trainer) == {"l_seg", "l_mcrf"} | SIMILARITY
    assert trainer.state.output[0]["image"].shape[1] == 3
    state = torch.load(tmp_path / "run" / "model_best.pt", weights_only=True)
    assert state["decoder.output.weight"].shape[0] == 2


def line_of(capsys: pytest.CaptureFixture[str], *arguments: Any, **options: Any) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps what an expression of a configuration raises
        train(*arguments, **options)
    capsys.readouterr()
    sys.excepthook(caught.type, caught.value, caught.tb)
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"self_attention": False}, "error: lambda_atn must be 0 with self_attention false: its term is made of "),
        ({"attention_level": 5}, "error: attention_level must be 0 .. 4, got 5"),
        ({"mlp": "deep"}, "error: mlp must be 'mix' or 'plain', got 'deep'"),
        ({"single_class": "slice"}, "error: single_class must be 'scribble', 'dense' or 'keep', got 'slice'"),
        ({"crf_radius": 0}, "error: --crf_radius: must be at least 1, got 0"),
        ({"lambda_mcrf": -0.1}, "error: lambda_mcrf must not be negative, got -0.1"),
        ({"rotation": -1.0}, "error: rotation must not be negative, got -1.0"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_trained(phantom_dir, tmp_path, capsys, options, expected):
    assert line_of(capsys, phantom_dir, tmp_path, **options).startswith(expected)
    assert list(tmp_path.glob("*.pt")) == []


def test_dense_masks_that_are_not_there(phantom_dir, tmp_path, capsys):
    content = json.loads((phantom_dir / "datalist.json").read_text())
    for section in ("training", "validation"):
        for item in content[section]:
            item.pop("dense_label", None)
            item.update({key: str(phantom_dir / item[key]) for key in ("image", "label")})
    content |= {"unpaired_masks": [], "unlabelled": [], "test": []}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    case = content["training"][0]["case"]
    line = line_of(capsys, tmp_path, tmp_path / "run", preset="code")
    assert line == f'error: {case}: has no "dense_label"; add the path of its file'
