"""MAAG's switches: every ablation of Table III and the authors' form train for an epoch, with the terms they should."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "maag" / "configs"
ADVERSARIAL = {"a0", "v_sigma_scribble", "v_delta", "v_sigma"}


def train(phantom_dir: Path, output: Path, **options):
    workflow = create_workflow(
        workflow_type="train",
        config_file=str(CONFIGS / "train.json"),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=None,
        dataset_dir=str(phantom_dir),
        output_dir=str(output),
        pixdim=[4.0, 4.0],
        roi_size=[48, 48],
        filters=2,
        discriminator_filters=4,
        batch_size=8,
        max_epochs=1,
        **options,
    )
    workflow.run()
    return workflow.trainer


@pytest.mark.parametrize(
    ("options", "classifiers", "adversarial"),
    [
        ({}, True, True),
        ({"gating": False}, True, True),  # ablation 1: no gating
        ({"deep_supervision": False}, True, True),  # ablation 2: no adversarial deep supervision
        ({"gating": False, "deep_supervision": False}, False, True),  # ablation 3: a plain GAN
        ({"adversary": False}, True, False),  # ablation 4: no discriminator
        ({"adversary": False, "gating": False}, False, False),  # ablation 5: a plain U-Net
        ({"loss_weighting": "none"}, True, True),
        ({"preset": "code"}, True, True),
        ({"preset": "paper"}, True, True),
        ({"amp": True}, True, True),
        ({"labelled_share": 0.3, "mask_share": 0.4}, True, True),  # sections V-C and V-D: fewer labels, fewer masks
        ({"use_unlabelled": False}, True, True),
        ({"labelled_share": 0.4, "dense_share": 0.6}, True, True),  # section V-F: scribbles and dense masks
        ({"labelled_share": 0.0, "dense_share": 1.0, "adversary": False}, True, False),  # the upper bound
    ],
)
def test_every_form_trains(phantom_dir, tmp_path, options, classifiers, adversarial):
    trainer = train(phantom_dir, tmp_path, **options)
    terms = {name.removeprefix("train_") for name in trainer.state.metrics} - {"loss", "l_sup", "learning_rate"}
    assert terms == (ADVERSARIAL if adversarial else set())
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert any("classifier" in name for name in state) == classifiers
    assert all(torch.isfinite(value).all() for value in state.values())


def test_shares_of_patients(phantom_dir, tmp_path):
    """The phantom's two training patients and two mask patients, of which one each is used."""
    trainer = train(phantom_dir, tmp_path, labelled_share=0.5, mask_share=0.5)
    training = {case.split("_")[0] for case in trainer.data_loader.dataset.cases}
    masks = {case.split("_")[0] for case in trainer.masks.dataset.cases}
    unlabelled = {case.split("_")[0] for case in trainer.unlabelled.dataset.cases}
    assert len(training) == len(masks) == 1
    assert len(unlabelled) == 2
    assert training < unlabelled
    trainer = train(phantom_dir, tmp_path / "without", labelled_share=0.5, use_unlabelled=False)
    assert {case.split("_")[0] for case in trainer.unlabelled.dataset.cases} == training


def test_dense_masks_have_a_loss_of_their_own(phantom_dir, tmp_path):
    trainer = train(phantom_dir, tmp_path, labelled_share=0.5, dense_share=0.5)
    label = trainer.data_loader.dataset.slices["label"]
    scribbled, dense = (label[:, channel] != 4 for channel in (0, 1))
    assert label.shape[1] == 2
    assert not (scribbled & dense).any()  # of no slice both
    assert 0 < scribbled.flatten(1).float().mean(1).max() < 0.2
    assert dense.flatten(1).float().mean(1).max() > 0.8


def test_several_annotators_of_an_image(phantom_dir, tmp_path):
    """The expert and a second one, who drew on two slices alone, have a channel each."""
    content = json.loads((phantom_dir / "datalist.json").read_text())
    for section in ("training", "unpaired_masks", "unlabelled", "validation", "test"):
        for item in content[section]:
            for key in {"image", "label", "dense_label"} & set(item):
                item[key] = str(phantom_dir / item[key])
    first = content["training"][0]
    expert = nib.load(first["label"])
    voxels = np.asarray(expert.dataobj).copy()
    voxels[..., 2:] = 4
    nib.save(nib.Nifti1Image(voxels, expert.affine), tmp_path / "second.nii.gz")
    first["label"] = [first["label"], str(tmp_path / "second.nii.gz")]
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    trainer = train(tmp_path, tmp_path / "all")
    dataset = trainer.data_loader.dataset
    second = (dataset.slices["label"][:, 1] != 4).flatten(1).any(1)
    drawn = {dataset.cases[index] for index in second.nonzero()[:, 0]}
    assert set() < drawn <= {f"{first['case']}, slice {z}" for z in (0, 1)}  # thin strokes may get lost at 4 mm
    trainer = train(tmp_path, tmp_path / "first", annotators="first")
    assert trainer.data_loader.dataset.slices["label"].shape[1] == 1


def test_items_of_ones_own_never_meet_the_phantoms(phantom_dir, tmp_path, capsys):
    """A program that replaces the training items, as MONAI Label does, gets no mask and no image of other data."""
    own = json.loads((phantom_dir / "datalist.json").read_text())["test"]
    items = []
    for item in own[:2]:
        scribble = item["image"].replace(".nii.gz", "_scribble.nii.gz")
        items.append({"image": str(phantom_dir / item["image"]), "label": str(phantom_dir / scribble)})
    trainer = train(phantom_dir, tmp_path, **{"train#dataset#data": items})
    assert trainer.masks is None
    assert capsys.readouterr().out.count("training without the discriminator") == 1
    assert len(trainer.unlabelled) > 0
    assert {case.split(",")[0] for case in trainer.unlabelled.dataset.cases} == {item["image"] for item in items}
