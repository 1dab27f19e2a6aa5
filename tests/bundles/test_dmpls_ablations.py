"""DMPLS's switches: every ablation and preset trains for an epoch, with the terms that it should have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow

from common.errors import UserError
from common.handlers.atomic_checkpoint import load_weights

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "dmpls" / "configs"
PCE = {"l_pce_main", "l_pce_auxiliary"}


def workflow(config: str, **options: Any):
    return create_workflow(
        workflow_type="train" if config == "train" else "infer",
        config_file=str(CONFIGS / f"{config}.json"),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=None,
        **{"roi_size": [48, 48], "filters": 2, "batch_size": 8, **options},
    )


def train(dataset_dir: Path, output: Path, **options: Any):
    settings = {"dataset_dir": str(dataset_dir), "output_dir": str(output), "max_epochs": 1, "val_interval": 1}
    run = workflow("train", **{**settings, "cache_dir": "", **options})
    run.run()
    return run.trainer


def copied_datalist(phantom_dir: Path, path: Path, **sections: Any) -> dict[str, Any]:
    """The phantom's datalist under another path, with some sections replaced."""
    content = json.loads((phantom_dir / "datalist.json").read_text())
    for section in ("training", "unpaired_masks", "unlabelled", "validation", "test"):
        for item in content[section]:
            for key in {"image", "label", "dense_label"} & set(item):
                item[key] = str(phantom_dir / item[key])
    content |= sections
    path.write_text(json.dumps(content))
    return content


def rewritten(source: str, target: Path, edit: Any) -> str:
    volume = nib.load(source)
    voxels = np.asarray(volume.dataobj).copy()
    edit(voxels)
    nib.save(nib.Nifti1Image(voxels, volume.affine), target)
    return str(target)


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({}, {"l_pls"}),
        ({"mixing": "fixed"}, {"l_pls"}),  # Table 2: alpha = 1/2
        ({"mixing": "cps"}, {"l_pls"}),  # Table 2: cross pseudo supervision
        ({"mixing": "cr"}, {"l_cr"}),  # Table 2: consistency regularisation
        ({"mixing": "none"}, set()),
        ({"pseudo_loss": "ce"}, {"l_pls"}),
        ({"pseudo_weight": 0.01}, {"l_pls"}),  # Fig. 4
        ({"preset": "paper"}, {"l_pls"}),
        ({"preset": "code", "head": "auxiliary"}, {"l_pls"}),
        ({"head": "mean", "amp": True}, {"l_pls"}),
        ({"pixdim": [4.0, 4.0], "image_interpolation": "bilinear", "right_angles": False}, {"l_pls"}),
        ({"labelled_share": 0.5, "dense_share": 0.5}, {"l_pls"}),
        ({"labelled_share": 0.0, "dense_share": 1.0}, {"l_pls"}),
    ],
)
def test_every_form_trains(phantom_dir, tmp_path, options, terms):
    trainer = train(phantom_dir, tmp_path, **options)
    metrics = trainer.state.metrics
    assert {name.removeprefix("train_") for name in metrics} - {"loss", "learning_rate"} == PCE | terms
    weight = options.get("pseudo_weight", 0.5)
    named = {name: metrics[f"train_{name}"] for name in PCE | terms}
    expected = 0.5 * (named["l_pce_main"] + named["l_pce_auxiliary"]) + weight * sum(named[name] for name in terms)
    assert metrics["train_loss"] == pytest.approx(expected, rel=1e-4)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state.values())
    assert (tmp_path / "model_best.pt").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixing": "both"}, "mixing must be one of random, fixed, cps, cr, none, got 'both'"),
        ({"pseudo_loss": "focal"}, "pseudo_loss must be 'dice' or 'ce', got 'focal'"),
        ({"pseudo_weight": -1.0}, "pseudo_weight must not be negative, got -1.0"),
        ({"head": "both"}, "head must be 'main', 'auxiliary' or 'mean', got 'both'"),
        ({"preset": "paper", "dropout_at_test": True}, "dropout_at_test must be false with auxiliary_dropout_at"),
        ({"fold": 3}, "datalist_fold3.json: no such datalist"),
    ],
)
def test_mistakes_name_the_key(phantom_dir, tmp_path, options, message):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps what an expression of a configuration raises
        train(phantom_dir, tmp_path, **options)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    assert message in str(cause)


def test_optimiser_and_learning_rate_of_the_paper(phantom_dir, tmp_path):
    run = workflow("train", dataset_dir=str(phantom_dir), output_dir=str(tmp_path), max_epochs=10, batch_size=12)
    run.initialize()
    parser = run.parser
    optimizer, scheduler = (parser.get_parsed_content(name) for name in ("optimizer", "lr_scheduler"))
    for key, value in {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}.items():
        assert optimizer.defaults[key] == value
    total = 10 * len(parser.get_parsed_content("train#dataloader"))
    factor = scheduler.lr_lambdas[0]
    assert factor(0) == 1
    assert factor(total // 2) == pytest.approx(0.5**0.9)
    assert factor(total) == 0


def test_the_codes_upsampling_is_remembered_beside_the_weights(phantom_dir, tmp_path):
    train(phantom_dir, tmp_path, preset="code")
    options = {"dataset_dir": str(phantom_dir), "weights": str(tmp_path / "model.pt")}
    parser = workflow("inference", **options).parser
    assert parser.get_parsed_content("upsampling") == "bilinear"
    load_weights(parser.get_parsed_content("network"), tmp_path / "model.pt")
    with pytest.raises(UserError):
        load_weights(
            workflow("inference", upsampling="transposed", **options).parser.get_parsed_content("network"),
            tmp_path / "model.pt",
        )


def test_a_longer_training_goes_on_learning_after_resuming(phantom_dir, tmp_path):
    """The rate is 0 at the end of the first run, and is that of the longer run after it."""
    name = "decoder.output.weight"
    train(phantom_dir, tmp_path)
    before = torch.load(tmp_path / "model.pt", weights_only=True)[name]
    trainer = train(phantom_dir, tmp_path, max_epochs=2, resume=True)
    assert trainer.state.epoch == 2
    after = torch.load(tmp_path / "model.pt", weights_only=True)[name]
    assert (after - before).abs().max() > 1e-3


def test_heads_of_one_training(phantom_dir, tmp_path):
    train(phantom_dir, tmp_path)
    image = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(0))

    def predict(**options: Any) -> torch.Tensor:
        network = workflow("inference", dataset_dir=str(phantom_dir), **options).parser.get_parsed_content("network")
        network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
        with torch.no_grad():
            return network.eval()(image).softmax(dim=1)

    main, auxiliary, mean = (predict(head=head) for head in ("main", "auxiliary", "mean"))
    assert (main - auxiliary).abs().max() > 1e-3
    torch.testing.assert_close(mean, (main + auxiliary) / 2)
    torch.testing.assert_close(predict(head="auxiliary"), auxiliary)
    assert (predict(head="auxiliary", dropout_at_test=True) - auxiliary).abs().max() > 1e-3
    torch.testing.assert_close(predict(dropout_at_test=True), main)


def test_a_fold_names_its_datalist(phantom_dir, tmp_path):
    whole = copied_datalist(phantom_dir, tmp_path / "datalist.json")
    one = whole["training"][:1]
    copied_datalist(phantom_dir, tmp_path / "datalist_fold1.json", training=one, validation=[])
    cases = {}
    for fold in (0, 1):
        dataset = train(tmp_path, tmp_path / str(fold), fold=fold).data_loader.dataset
        cases[fold] = {case.split(",")[0] for case in dataset.cases}
    assert cases == {0: {item["case"] for item in whole["training"]}, 1: {one[0]["case"]}}
    assert (tmp_path / "0" / "model_best.pt").is_file()
    assert not (tmp_path / "1" / "model_best.pt").is_file()  # nothing to choose it on


def test_slices_without_scribbles_train_too(phantom_dir, tmp_path):
    item = copied_datalist(phantom_dir, tmp_path / "datalist.json")["training"][0]

    def erase(voxels: np.ndarray) -> None:
        voxels[..., 1:] = 4

    item["label"] = rewritten(item["label"], tmp_path / "first_slice.nii.gz", erase)
    copied_datalist(phantom_dir, tmp_path / "datalist.json", training=[item])
    dataset = train(tmp_path, tmp_path / "run").data_loader.dataset
    depth = nib.load(item["image"]).shape[2]
    annotated = (dataset.slices["label"] != 4).flatten(1).any(dim=1)
    assert len(dataset) == depth
    assert annotated.tolist() == [True] + [False] * (depth - 1)


def test_annotators_and_dense_masks_have_channels_of_their_own(phantom_dir, tmp_path):
    training = copied_datalist(phantom_dir, tmp_path / "datalist.json")["training"]

    def erase(voxels: np.ndarray) -> None:
        voxels[..., 2:] = 4

    first = training[0]
    first["label"] = [first["label"], rewritten(first["label"], tmp_path / "second.nii.gz", erase)]
    last = training[-1]
    training[-1] = {**last, "label": last["dense_label"], "supervision": "dense"}
    copied_datalist(phantom_dir, tmp_path / "datalist.json", training=training)
    dataset = train(tmp_path, tmp_path / "all").data_loader.dataset
    expert, second, dense = (dataset.slices["label"] != 4).flatten(2).any(dim=2).unbind(1)
    assert {dataset.cases[index] for index in second.nonzero()[:, 0]} <= {f"{first['case']}, slice {z}" for z in (0, 1)}
    assert second.any()
    assert {dataset.cases[index].split(",")[0] for index in dense.nonzero()[:, 0]} == {last["case"]}
    assert not (dense & (expert | second)).any()
    alone = train(tmp_path, tmp_path / "first", annotators="first").data_loader.dataset
    assert alone.slices["label"].shape[1] == 2
