"""MAAG's switches: every ablation of Table III and the authors' form train for an epoch, with the terms they should."""

from __future__ import annotations

import json
from pathlib import Path

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
    ],
)
def test_every_form_trains(phantom_dir, tmp_path, options, classifiers, adversarial):
    trainer = train(phantom_dir, tmp_path, **options)
    terms = {name.removeprefix("train_") for name in trainer.state.metrics} - {"loss", "l_sup"}
    assert terms == (ADVERSARIAL if adversarial else set())
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert any("classifier" in name for name in state) == classifiers
    assert all(torch.isfinite(value).all() for value in state.values())


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
