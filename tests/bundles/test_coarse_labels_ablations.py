"""The coarse-label bundle's switches: every form trains for an epoch with the terms that it should have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import create_workflow

from common.data.slice_dataset import SliceDataset
from common.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "coarse_labels" / "configs"
OBJ, COMP = {"l_obj", "trace_obj"}, {"l_comp", "trace_comp"}
WEIGHTS = {"l_obj": 1.0, "l_comp": 1.0, "l_dense": 1.0, "trace_obj": 0.01, "trace_comp": 0.01}


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Drawings are made once for all runs with the same settings of the simulation."""
    return str(tmp_path_factory.mktemp("cache"))


def workflow(dataset_dir: Path, cache_dir: str, **options: Any):
    settings = {"dataset_dir": str(dataset_dir), "cache_dir": cache_dir, "max_epochs": 1, "val_interval": 1}
    size = {"pixdim": [4.0, 4.0], "roi_size": [48, 48], "filters": 2, "depth": 2, "batch_size": 8}
    return create_workflow(
        workflow_type="train",
        config_file=str(CONFIGS / "train.json"),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=None,
        **{**settings, **size, "warm_start": 0.0, **options},
    )


def train(dataset_dir: Path, output: Path, cache_dir: str = "", **options: Any):
    run = workflow(dataset_dir, cache_dir, output_dir=str(output), **options)
    run.run()
    return run.trainer


def slices(dataset_dir: Path, cache_dir: str, output: Path, **options: Any) -> dict[str, torch.Tensor]:
    """The training slices as they are kept in memory."""
    run = workflow(dataset_dir, cache_dir, output_dir=str(output), **options)
    dataset = run.parser.get_parsed_content("train#dataset")
    assert isinstance(dataset, SliceDataset)
    return dataset.slices


def terms(metrics: dict[str, float]) -> dict[str, float]:
    other = ("train_loss", "learning_rate")
    return {name.removeprefix("train_"): value for name, value in metrics.items() if name not in other}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, OBJ | COMP),
        ({"negative": False}, OBJ),  # Table 1: without negative annotation
        ({"confusion": "none"}, {"l_obj", "l_comp"}),
        ({"confusion": "none", "negative": False}, {"l_obj"}),
        ({"confusion": "rank1"}, OBJ | COMP),
        ({"separate": True}, OBJ | COMP),
        ({"transition": "learned"}, OBJ | COMP),
        ({"checkpointing": True, "amp": True}, OBJ | COMP),
        ({"lambda_trace": 0.4, "reliability": 0.6}, OBJ | COMP),
        ({"unpainted": "ignore", "warm_start": 1.0}, {"l_obj", "l_comp"}),
        ({"patch_size": [32, 40]}, OBJ | COMP),
        ({"drawing": "square", "square_radius": 3, "background_class": False}, OBJ | COMP),
        ({"coarse_ratio": 0.3, "coarse_distance": "euclidean", "coarse_others": "ignore"}, OBJ | COMP),  # Fig. 3
        ({"coarse_swap": 0.5, "fractures": 0, "vary": False}, OBJ | COMP),
        ({"labelled_share": 0.5, "dense_share": 0.5}, OBJ | COMP | {"l_dense"}),  # Table 3: semi
        (
            {"labelled_share": 0.0, "dense_share": 1.0, "confusion": "none", "negative": False},  # Table 3: strongly
            {"l_obj", "l_dense"},
        ),
        ({"preset": "paper"}, OBJ | COMP),
        ({"pixdim": None, "right_angles": True, "flip": True, "noise": 0.1}, OBJ | COMP),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_every_form_trains(phantom_dir, tmp_path, cache_dir, options, expected):
    trainer = train(phantom_dir, tmp_path, cache_dir, **options)
    metrics = trainer.state.metrics
    named = terms(metrics)
    assert set(named) == expected
    weights = WEIGHTS | ({"trace_obj": 0.4, "trace_comp": 0.4} if "lambda_trace" in options else {})
    total = sum(weights[name] * value for name, value in named.items())
    assert metrics["train_loss"] == pytest.approx(total, rel=1e-4)
    if options.get("labelled_share") == 0.0:
        assert named["l_obj"] == 0
    assert all(named[name] > 0 for name in expected - {"l_obj"})
    for name in expected & {"trace_obj", "trace_comp"}:  # a matrix' trace, of four classes that start at 0.9
        assert 0.5 < named[name] <= 4
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state.values())
    assert any(name.startswith("annotation_backbone") for name in state) == (
        options.get("separate", False) or options.get("preset") == "paper"
    )
    if options.get("transition") == "learned":
        assert state["transition.weight"].abs().max() > 1e-4
    assert (tmp_path / "model_best.pt").is_file()


def test_validation_scores_the_whole_data_set(phantom_dir, tmp_path, cache_dir):
    run = workflow(phantom_dir, cache_dir, output_dir=str(tmp_path))
    run.run()
    state = run.parser.get_parsed_content("validate#evaluator").state
    assert set(state.metrics) == {"val_mean_iou", "val_mean_dice"}
    assert state.key_metric_name == "val_mean_iou"
    assert 0 < state.metrics["val_mean_iou"] < 1


@pytest.mark.parametrize(("warm_start", "warm"), [(0.0, 0), (0.3, 2), (1.0, 6)])
def test_the_warm_start_is_a_share_of_the_iterations(phantom_dir, tmp_path, cache_dir, warm_start, warm):
    options = {"train#trainer#epoch_length": 3, "max_epochs": 2, "val_interval": 3, "warm_start": warm_start}
    run = workflow(phantom_dir, cache_dir, output_dir=str(tmp_path), **options)
    run.initialize()
    trainer = run.trainer
    seen: list[set[str]] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(set(trainer.loss_function.terms)))
    run.run()
    # of 6 iterations those whose number, from 0 on, is below 6 * warm_start
    assert seen == [{"l_obj", "l_comp"}] * warm + [OBJ | COMP] * (6 - warm)


def test_drawings_are_the_images_own(phantom_dir, tmp_path, cache_dir):
    """They depend on their own seed and on no other, and smaller ones are parts of larger ones."""
    options = {"unpainted": "ignore", "labelled_share": 0.5}
    first = slices(phantom_dir, cache_dir, tmp_path, **options)
    again = slices(phantom_dir, "", tmp_path, seed=1, **options)
    other = slices(phantom_dir, cache_dir, tmp_path, coarse_seed=1, **options)
    small = slices(phantom_dir, cache_dir, tmp_path, coarse_ratio=0.3, **options)
    assert set(first["label"].unique().tolist()) == {1, 2, 3, 4}  # the background is not painted
    assert set(first["complement"].unique().tolist()) == {1, 2, 3, 4}
    for key in ("label", "complement"):
        assert torch.equal(first[key], again[key])
        assert not torch.equal(first[key], other[key])
        part, whole = small[key] != 4, first[key] != 4
        assert (whole | ~part).all()
        assert torch.equal(small[key][part], first[key][part])
        assert 0.2 < part.sum() / whole.sum() < 0.5  # of the share inside the crop
    dense = slices(phantom_dir, cache_dir, tmp_path, labelled_share=0.5)
    # what is unpainted is background in the positive drawing; of four classes the negative one says nothing there
    assert torch.equal(dense["label"], torch.where(first["label"] == 4, 0, first["label"]))
    assert torch.equal(dense["complement"], first["complement"])


@pytest.fixture
def drawn(phantom_dir: Path, tmp_path: Path) -> Path:
    """Drawings in files: patients with both, with the positive one alone and with the negative one alone.

    Positive ones are the masks moved by two rows, without the background. Negative ones say "not 3" of what is no 3.
    """
    content = json.loads((phantom_dir / "datalist.json").read_text())
    for section in ("training", "validation"):
        for item in content[section]:
            for key in {"image", "label", "dense_label"} & set(item):
                item[key] = str(phantom_dir / item[key])
    training = content["training"]
    for number, item in enumerate(training):
        volume = nib.load(item.pop("dense_label"))
        mask = np.asarray(volume.dataobj).astype(np.uint8)
        moved = np.roll(mask, 2, axis=0)
        drawings = {"label": np.where(moved == 0, 4, moved), "complement": np.where(mask == 3, 4, 3)}
        del item["label"]
        for key in [("label", "complement"), ("label",), ("complement",)][number % 3]:
            item[key] = str(tmp_path / f"{number}_{key}.nii.gz")
            nib.save(nib.Nifti1Image(drawings[key].astype(np.uint8), volume.affine), item[key])
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps(content))
    return path


def test_drawings_from_files(drawn, tmp_path):
    trainer = train(tmp_path, tmp_path / "run", simulate=False, unpainted="ignore")
    assert set(terms(trainer.state.metrics)) == OBJ | COMP
    dataset = trainer.data_loader.dataset
    training = json.loads(drawn.read_text())["training"]
    assert {case.split(",")[0] for case in dataset.cases} == {item["case"] for item in training}
    lacking = {item["case"]: {"label", "complement"} - set(item) for item in training}
    assert {frozenset(keys) for keys in lacking.values()} == {
        frozenset(),
        frozenset(["label"]),
        frozenset(["complement"]),
    }
    found = {"label": set(), "complement": set()}
    for index, case in enumerate(dataset.cases):
        for key, values in found.items():
            here = set(dataset.slices[key][index].unique().tolist())
            assert key not in lacking[case.split(",")[0]] or here == {4}
            values |= here
    assert found == {"label": {1, 2, 3, 4}, "complement": {3, 4}}


def test_the_unpainted_part_of_a_drawing_is_background_and_a_missing_drawing_is_none(drawn, tmp_path):
    found = slices(tmp_path, "", tmp_path, simulate=False, pixdim=None)["label"]
    of_slices = {frozenset(label.unique().tolist()) for label in found}
    assert frozenset([4]) in of_slices
    assert not any(4 in values for values in of_slices - {frozenset([4])})
    assert {0, 1, 2, 3} in of_slices


def test_padding_with_background_is_no_background_in_negative_drawings(phantom_dir, tmp_path, cache_dir):
    options = {"pad_label": "background", "roi_size": [80, 80], "unpainted": "ignore"}
    found = slices(phantom_dir, cache_dir, tmp_path, **options)
    assert (found["label"][..., 0, :] == 0).all()
    assert (found["complement"][..., 0, :] == 4).all()


def test_without_negative_drawings_images_with_nothing_else_are_left_out(drawn, tmp_path):
    trainer = train(tmp_path, tmp_path / "run", simulate=False, negative=False)
    training = json.loads(drawn.read_text())["training"]
    cases = {case.split(",")[0] for case in trainer.data_loader.dataset.cases}
    assert cases == {item["case"] for item in training if "label" in item}
    assert len(cases) < len(training)
    assert set(terms(trainer.state.metrics)) == OBJ


def test_items_of_other_programs_are_drawings(phantom_dir, tmp_path):
    """As MONAI Label puts them in: an image and a label, and nothing more."""
    item = json.loads((phantom_dir / "datalist.json").read_text())["training"][0]
    given = {key: str(phantom_dir / item[key]) for key in ("image", "label")}
    trainer = train(phantom_dir, tmp_path, unpainted="ignore", **{"train#dataset#data": [given]})
    metrics = trainer.state.metrics
    assert set(terms(metrics)) == OBJ | COMP
    assert metrics["train_l_comp"] == metrics["train_trace_comp"] == 0
    found = trainer.data_loader.dataset.slices
    assert set(found["label"].unique().tolist()) == {0, 1, 2, 3, 4}  # the scribbles as they are
    assert (found["complement"] == 4).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confusion": "half"}, "confusion must be one of full, rank1, none, got 'half'"),
        ({"transition": "free"}, "transition must be 'uniform' or 'learned', got 'free'"),
        (
            {"transition": "learned", "confusion": "none"},
            "transition 'learned' needs the negative annotation's confusion matrices",
        ),
        ({"reliability": 0.2}, "reliability must lie between 1/4 and 1, got 0.2"),
        ({"lambda_trace": -1.0}, "lambda_trace must not be negative, got -1.0"),
        ({"warm_start": 1.5}, "warm_start must lie in 0 .. 1, got 1.5"),
        ({"unpainted": "background"}, "--unpainted: must be one of ['dense', 'ignore'], got 'background'"),
        ({"drawing": "circle"}, "--drawing: must be one of ['morpho', 'square'], got 'circle'"),
        ({"thinning": 2.0}, "thinning must lie in 0 .. 1, got 2.0"),
        ({"drawing": "square", "square_radius": 0}, "--square_radius: must be at least 1, got 0"),
        ({"coarse_ratio": 0.0}, "coarse_ratio must be over 0 and at most 1, got 0.0"),
        ({"coarse_distance": "long"}, "coarse_distance must be one of geodesic, euclidean, got 'long'"),
        ({"coarse_others": "all"}, "coarse_others must be 'coarse' or 'ignore', got 'all'"),
        ({"coarse_swap": 2.0}, "coarse_swap must lie in 0 .. 1, got 2.0"),
        ({"patch_size": [32, 64]}, "patch_size [32, 64] is larger than the slices; raise roi_size or lower it"),
        ({"patch_size": 32}, "patch_size must be a height and a width in pixels, or null, got 32"),
        ({"labelled_share": 0.8, "dense_share": 0.5}, "together they must be over 0 and at most 1"),
        ({"num_classes": 3}, "has 4 classes where --num_classes is 3; set --num_classes 4"),
        ({"fold": 3}, "datalist_fold3.json: no such datalist"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_mistakes_name_the_key(phantom_dir, tmp_path, cache_dir, options, message):
    assert message in error_of(phantom_dir, tmp_path, cache_dir, **{"labelled_share": 0.5, **options})


def error_of(dataset_dir: Path, output: Path, cache_dir: str = "", **options: Any) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps what an expression of a configuration raises
        train(dataset_dir, output, cache_dir, **options)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    return str(cause)


def test_drawings_without_masks_are_not_simulated(drawn, tmp_path):
    line = error_of(tmp_path, tmp_path / "run")
    assert line.endswith('has no "dense_label", which --simulate needs; add the path of its mask')
    content = json.loads(drawn.read_text())
    content["training"][0]["label"] = [content["training"][0]["label"]] * 2
    drawn.write_text(json.dumps(content))
    line = error_of(tmp_path, tmp_path / "run", simulate=False)
    assert line.endswith('lists 2 files as "label"; give the one of the positive drawing')


def test_optimiser_and_learning_rate(phantom_dir, tmp_path, cache_dir):
    run = workflow(phantom_dir, cache_dir, output_dir=str(tmp_path), max_epochs=10)
    run.initialize()
    optimizer, scheduler = (run.parser.get_parsed_content(name) for name in ("optimizer", "lr_scheduler"))
    assert isinstance(optimizer, torch.optim.Adam)
    for key, value in {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 1e-5}.items():
        assert optimizer.defaults[key] == value
    total = 10 * len(run.parser.get_parsed_content("train#dataloader"))
    factor = scheduler.lr_lambdas[0]
    assert factor(0) == 1
    assert factor(total // 2) == pytest.approx(0.5**0.9)
    assert factor(total) == 0
