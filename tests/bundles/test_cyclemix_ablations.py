"""CycleMix's switches: every ablation, mixer and preset trains for an epoch, with the terms that it should have."""

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

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "cyclemix" / "configs"
WEIGHTS = {"l_unmix": 1.0, "l_mix": 1.0, "l_con_g": 0.1, "l_con_l": 0.1}
ALONE = {"lambda_unmix": 0.0, "lambda_con_g": 0.0, "lambda_con_l": 0.0, "occlusion": False}


def workflow(config: str, **options: Any):
    small = {"roi_size": [36, 36], "pixdim": [6.0, 6.0], "filters": 2, "batch_size": 3}
    return create_workflow(
        workflow_type="train" if config == "train" else "infer",
        config_file=str(CONFIGS / f"{config}.json"),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=None,
        **{**small, **({"occlusion_size": 12} if config == "train" else {}), **options},
    )


def train(dataset_dir: Path, output: Path, *, preset: str = "default", **options: Any):
    # a preset by its name would set its number of epochs past the one given here
    keys = json.loads((CONFIGS / "train.json").read_text())["presets"].get(preset, {})
    settings = {**keys, "pixdim": [6.0, 6.0], "dataset_dir": str(dataset_dir), "output_dir": str(output)}
    settings |= {"max_epochs": 1}
    run = workflow("train", **{**settings, "cache_dir": "", **options})
    run.run()
    return run.trainer


def started(config: str, preset: str, **options: Any):
    """The parser of a configuration to which nothing but its preset was given and ``bundle.start`` applied."""
    run = create_workflow(
        workflow_type="train" if config == "train" else "infer",
        config_file=str(CONFIGS / f"{config}.json"),
        logging_file=None,
        preset=preset,
        initialize=["$bundle.start()"],
        **options,
    )
    run.initialize()
    return run.parser


def terms_of(trainer: Any) -> dict[str, float]:
    metrics = {name.removeprefix("train_"): value for name, value in trainer.state.metrics.items()}
    return {name: metrics[name] for name in metrics if name not in ("loss", "learning_rate")}


@pytest.fixture(scope="module")
def hearts(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A datalist of three slices of each of two patients, which make two batches."""
    folder = tmp_path_factory.mktemp("hearts")
    content = json.loads((phantom_dir / "datalist.json").read_text())
    items = {item["patient"]: item for item in content["training"]}
    training = [dict(item) for item in list(items.values())[:2]]
    for item in training:
        for key in ("image", "label", "dense_label"):
            volume = nib.load(phantom_dir / item[key])
            item[key] = str(folder / f"{item['case']}_{key}.nii.gz")
            nib.save(volume.slicer[:, :, 2:5], item[key])
    content = {key: value for key, value in content.items() if not isinstance(value, list) or key == "class_names"}
    (folder / "datalist.json").write_text(json.dumps(content | {"training": training}))
    return folder


@pytest.fixture(scope="module")
def default_terms(hearts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return terms_of(train(hearts, tmp_path_factory.mktemp("default")))


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        # Table 3
        ({"lambda_mix": 0.0, "lambda_con_g": 0.0, "lambda_con_l": 0.0}, "unmix"),
        ({"lambda_con_g": 0.0, "lambda_con_l": 0.0, "occlusion": False}, "unmix mix"),
        ({"lambda_con_l": 0.0, "occlusion": False}, "unmix mix con_g"),
        ({"lambda_con_l": 0.0}, "unmix mix con_g"),
        ({}, "unmix mix con_g con_l"),
        # Table 1
        ({"mixer": "puzzle", **ALONE}, "mix"),
        ({"mixer": "mixup", **ALONE}, "mix"),
        ({"mixer": "cutmix", **ALONE}, "mix"),
        ({"mixer": "cutout", **ALONE}, "mix"),
        ({"mixer": "comixup", **ALONE}, "mix"),
        # the whole of CycleMix on other mixers
        ({"mixer": "mixup"}, "unmix mix con_g con_l"),
        ({"mixer": "cutmix"}, "unmix mix con_g con_l"),
        ({"mixer": "cutout", "occlusion": False}, "unmix mix con_g con_l"),
        ({"mixer": "comixup"}, "unmix mix con_g con_l"),
        ({"mixer": "none"}, "unmix mix con_g con_l"),
        # occlusion
        ({"occlusion": False}, "unmix mix con_g con_l"),
        ({"occlusion_rotated": False}, "unmix mix con_g con_l"),
        ({"occlusion_label": "background"}, "unmix mix con_g con_l"),
        ({"rotate_mixed": True}, "unmix mix con_g con_l"),
        # Puzzle Mix
        ({"transport": False}, "unmix mix con_g con_l"),
        ({"transport_labels": True}, "unmix mix con_g con_l"),
        ({"symmetric": True}, "unmix mix con_g con_l"),
        # losses, labels and data
        ({"reduction": "sum"}, "unmix mix con_g con_l"),
        ({"cosine": "image"}, "unmix mix con_g con_l"),
        ({"component_of_union": False}, "unmix mix con_g con_l"),
        ({"lambda_mix": 0.5, "lambda_con_g": 2.0}, "unmix mix con_g con_l"),
        ({"pad_label": "background"}, "unmix mix con_g con_l"),
        ({"amp": True}, "unmix mix con_g con_l"),
        ({"labelled_share": 0.5, "dense_share": 0.5}, "unmix mix con_g con_l"),
        ({"labelled_share": 0.0, "dense_share": 1.0}, "unmix mix con_g con_l"),
        # presets
        ({"preset": "released"}, "unmix mix con_g con_l"),
        ({"preset": "paper"}, "unmix mix con_g con_l"),
        ({"preset": "code"}, "unmix mix con_g con_l"),
    ],
)
def test_every_form_trains(hearts, default_terms, tmp_path, options, terms):
    trainer = train(hearts, tmp_path, **options)
    named = terms_of(trainer)
    assert set(named) == {f"l_{term}" for term in terms.split()}
    weights = WEIGHTS | {f"l_{key[7:]}": value for key, value in options.items() if key.startswith("lambda_")}
    if options.get("preset") == "paper":
        weights |= {"l_con_g": 0.05, "l_con_l": 1.0}
    expected = sum(weights[name] * value for name, value in named.items())
    assert trainer.state.metrics["train_loss"] == pytest.approx(expected, rel=1e-4)
    # with one seed, a switch that reaches nothing gives the terms of the default
    shared = {name: default_terms[name] for name in named}
    if options in ({}, {"preset": "released"}):
        assert named == shared
    elif options != {"component_of_union": False}:  # on these slices no class leaves the largest component of all
        assert named != shared
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("preset", ["released", "paper", "code", "compact"])
def test_a_preset_sets_its_keys_and_no_other(preset):
    for config in ("train", "inference"):
        content = json.loads((CONFIGS / f"{config}.json").read_text())
        parser = started(config, preset)
        keys = {key for key, value in content.items() if not isinstance(value, dict)}
        for key in keys - {"preset", "initialize", "run"}:
            expected = content["presets"][preset].get(key, content[key])
            # the parser writes the ids of an expression in its own way
            expected = expected.replace("#", "::") if isinstance(expected, str) else expected
            assert parser.get(key) == expected, key


def test_compact_reaches_network_preprocessing_and_window():
    """8 filters, a margin that repeats the edge, 160 x 160 pixels of 2 mm."""
    parsers = {config: started(config, "compact") for config in ("train", "inference")}
    networks = {config: parser.get_parsed_content("network_def") for config, parser in parsers.items()}
    networks["inference"].load_state_dict(networks["train"].state_dict())
    assert networks["train"].encoder[0][0].conv.weight.shape == (8, 1, 3, 3)
    assert {network.padding_mode for network in networks.values()} == {"replicate"}
    steps = parsers["train"].get_parsed_content("train#deterministic_transforms")
    assert list(steps[0].transforms[-1].spacing_transform.pixdim) == [2.0, 2.0, -1]
    assert steps[1]({"image": torch.zeros(1, 200, 100, 2)})["image"].shape == (1, 160, 160, 2)
    assert parsers["train"].get_parsed_content("train#occlusion").size == 22
    spacing = parsers["inference"].get_parsed_content("preprocessing").transforms[-1]
    assert list(spacing.spacing_transform.pixdim) == [2.0, 2.0, -1]
    assert list(parsers["inference"].get_parsed_content("inferer").roi_size) == [160, 160]
    assert list(parsers["train"].get_parsed_content("validate#inferer").roi_size) == [160, 160]


def test_options_of_the_loss_reach_it():
    run = workflow("train", lambda_unmix=0.7, reduction="sum", cosine="image", component_of_union=False)
    run.initialize()
    loss = run.parser.get_parsed_content("loss")
    assert loss.weights == WEIGHTS | {"l_unmix": 0.7}
    assert (loss.reduction, loss.cosine, loss.of_union, loss.num_classes) == ("sum", "image", False, 4)


def test_options_of_the_mix_reach_it():
    options = {"mixup_alpha": 0.7, "mix_levels": 4, "mix_eta": 0.3, "mix_beta": 1.3, "mix_gamma": 0.6}
    options |= {"mix_neighbourhood": 2, "mix_blocks": [2, 3], "transport_patch": 5, "transport_cost": 0.9}
    run = workflow("train", transport=False, symmetric=True, transport_labels=True, occlusion_size=11, **options)
    run.initialize()
    mixer = run.parser.get_parsed_content("train#mixer")
    assert (mixer.alpha, mixer.cutout.size, mixer.transport_labels) == (0.7, 11, True)
    puzzle = mixer.puzzle
    assert puzzle.energy_options == {"n_labels": 4, "eta": 0.3, "beta": 1.3, "gamma": 0.6, "neigh_size": 2}
    assert (puzzle.alpha, puzzle.block_nums, puzzle.symmetric) == (0.7, [2, 3], True)
    assert (puzzle.transport, puzzle.t_size, puzzle.t_eps) == (False, 5, 0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixer": "blend"}, "mixer must be one of puzzle, mixup, cutmix, cutout, comixup, none, got 'blend'"),
        ({"mixup_alpha": 0.0}, "mixup_alpha must be above 0, got 0"),
        ({"mix_levels": 1}, "mix_levels must be at least 2, got 1"),
        ({"mix_eta": -1.0}, "mix_eta must not be negative, got -1"),
        ({"mix_blocks": []}, "mix_blocks needs whole positive numbers of blocks, got []"),
        ({"transport_patch": 0}, "mix_neighbourhood and transport_patch must be at least 1, got 4 and 0"),
        ({"transport_cost": 0.0}, "transport_cost must be above 0, got 0"),
        ({"occlusion_size": 0}, "occlusion_size must be at least 1 pixel, got 0"),
        ({"occlusion_label": "ignored"}, "occlusion_label must be 'ignore' or 'background', got 'ignored'"),
        ({"lambda_unmix": -1.0}, "lambda_unmix must not be negative, got -1"),
        ({"lambda_con_l": float("nan")}, "lambda_con_l must not be negative, got nan"),
        (
            dict.fromkeys((f"lambda_{name[2:]}" for name in WEIGHTS), 0.0),
            "all weights of the loss are 0: set lambda_unmix",
        ),
        ({"reduction": "none"}, "reduction must be 'mean' or 'sum', got 'none'"),
        ({"cosine": "class"}, "cosine must be 'pixel' or 'image', got 'class'"),
        ({"pad_label": "zero"}, "--pad_label: must be one of ['ignore', 'background'], got 'zero'"),
        ({"fold": 3}, "datalist_fold3.json: no such datalist"),
    ],
)
def test_mistakes_name_the_key(hearts, tmp_path, options, message):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps what an expression of a configuration raises
        train(hearts, tmp_path, **options)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    assert message in str(cause)


def test_optimiser_and_learning_rate_of_the_paper(hearts, tmp_path):
    run = workflow("train", dataset_dir=str(hearts), output_dir=str(tmp_path))
    run.initialize()
    optimizer, scheduler = (run.parser.get_parsed_content(name) for name in ("optimizer", "lr_scheduler"))
    assert type(optimizer) is torch.optim.Adam
    for key, value in {"lr": 1e-4, "weight_decay": 1e-4, "betas": (0.9, 0.999)}.items():
        assert optimizer.defaults[key] == value
    assert {scheduler.lr_lambdas[0](epoch) for epoch in (0, 1999, 2000, 999_999)} == {1.0}  # fixed
    assert (run.parser["max_epochs"], run.parser["filters"]) == (1000, 2)


def test_learning_rate_falls_in_steps_of_epochs():
    parser = started("train", "code", filters=2)
    factor = parser.get_parsed_content("lr_scheduler").lr_lambdas[0]
    assert [factor(epoch) for epoch in (0, 1999, 2000, 3999, 4000)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert parser["max_epochs"] == 6000
    assert started("train", "paper", filters=2).get_parsed_content("optimizer").defaults["weight_decay"] == 0


def test_dense_masks_have_a_channel_of_their_own(hearts, tmp_path):
    dataset = train(hearts, tmp_path, labelled_share=0.5, dense_share=0.5).data_loader.dataset
    scribbles, dense = (dataset.slices["label"] != 4).flatten(2).any(dim=2).unbind(1)
    patients = [{dataset.cases[index].split("_")[0] for index in kind.nonzero()[:, 0]} for kind in (scribbles, dense)]
    assert [len(names) for names in patients] == [1, 1]
    assert not (scribbles & dense).any()


def test_slices_without_scribbles_train_too(hearts, tmp_path):
    content = json.loads((hearts / "datalist.json").read_text())
    item = content["training"][0]
    volume = nib.load(item["label"])
    voxels = np.asarray(volume.dataobj).copy()
    voxels[..., 1:] = 4
    item["label"] = str(tmp_path / "first_slice.nii.gz")
    nib.save(nib.Nifti1Image(voxels, volume.affine), item["label"])
    (tmp_path / "datalist.json").write_text(json.dumps(content | {"training": [item]}))
    dataset = train(tmp_path, tmp_path / "run").data_loader.dataset
    assert (dataset.slices["label"] != 4).flatten(1).any(dim=1).tolist() == [True, False, False]
