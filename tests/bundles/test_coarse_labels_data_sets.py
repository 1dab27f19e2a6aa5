"""The data sets of the coarse-label paper: from a small tree of the official layout to steps, scores and labels."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser, create_workflow
from PIL import Image

from common.bundle import apply_preset
from common.data import mnist
from common.data.les_av import _SPLIT_FILE
from tools.prepare import main as prepare

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "coarse_labels" / "configs"
CITIES = {"train/aachen": 3, "train/bochum": 1, "val/lindau": 1}


def write_mnist(root: Path) -> None:
    """Ten digits to draw from and two to test with, bars of rising places; with figures."""
    for name, count in (("train", 10), ("t10k", 2)):
        digits = np.zeros((count, 28, 28), np.uint8)
        for index, digit in enumerate(digits):
            digit[4:24, 5 + index : 9 + index] = 255
        for kind, values in (("images", digits), ("labels", np.arange(count, dtype=np.uint8))):
            head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
            (root / f"{name}-{kind}-idx{values.ndim}-ubyte").write_bytes(head + values.tobytes())


def write_les_av(root: Path) -> None:
    """The photographs of the split and a test one, 30 pixels wide and 20 high, with vessels in two rows."""
    rng = np.random.default_rng(0)
    split = json.loads(_SPLIT_FILE.read_text(encoding="utf-8"))
    for folder in ("images", "av_labels", "fov"):
        (root / folder).mkdir()
    for name in [*split["training"], *split["validation"], 7]:
        vessels = np.zeros((20, 30), np.uint8)
        vessels[6:8, 2:22], vessels[12:14, 2:22] = 1, 2
        field = np.full((20, 30), 255, np.uint8)
        field[:, 24:] = 0
        colours = rng.integers(0, 100, (20, 30, 3), dtype=np.uint8) + 100 * (vessels > 0)[..., None].astype(np.uint8)
        Image.fromarray(colours).save(root / "images" / f"{name}.png")
        Image.fromarray(vessels).save(root / "av_labels" / f"{name}.png")
        Image.fromarray(field).save(root / "fov" / f"{name}.gif")


def write_cityscapes(root: Path) -> None:
    """Pictures 60 pixels wide and 40 high of sky (23), road (7) and a car (26), with a frame of no class (3)."""
    rng = np.random.default_rng(0)
    fine = np.full((40, 60), 3, np.uint8)
    fine[1:20, 1:-1], fine[20:-1, 1:-1], fine[15:30, 20:45] = 23, 7, 26
    coarse = np.where((np.indices(fine.shape)[1] % 20) < 15, fine, 0).astype(np.uint8)
    for place, count in CITIES.items():
        for number in range(count):
            stem = f"{Path(place).name}_{number:06d}_000019"
            picture = fine[..., None] * 5 + rng.integers(0, 60, (40, 60, 3), dtype=np.uint8)
            for kind, ending, values in (
                ("leftImg8bit", "leftImg8bit", picture),
                ("gtFine", "gtFine_labelIds", fine),
                ("gtCoarse", "gtCoarse_labelIds", coarse),
            ):
                (root / kind / place).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(root / kind / place / f"{stem}_{ending}.png")


TREES = {"mnist": write_mnist, "les_av": write_les_av, "cityscapes": write_cityscapes}


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A data set's folder with its datalist, prepared from the official layout."""

    def prepared(name: str, **options: str) -> Path:
        monkeypatch.setattr(mnist, "_TRAINING", 6)
        monkeypatch.setattr(mnist, "_VALIDATION", 2)
        source = tmp_path / "source"
        source.mkdir()
        TREES[name](source)
        prepare(name, source=str(source), output=str(tmp_path / name), **options)
        return tmp_path / name

    return prepared


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


def train(name: str, data: Path, folder: Path, **options: Any):
    """Two steps, without a warm start."""
    options = {"dataset_dir": str(data), "max_epochs": 1, "schedule_epochs": 2, "warm_start": 0.0, **options}
    return workflow(name, folder, "train", **options, **{"train#trainer#epoch_length": 2}).trainer


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("mnist", {"pixdim": None, "roi_size": [28, 28], "max_epochs": 6}),
        ("les_av", {"pixdim": [1.0, 1.0], "roi_size": [540, 482], "batch_size": 2}),
        ("cityscapes", {"pixdim": None, "roi_size": [512, 256], "batch_size": 2}),
    ],
)
def test_the_compact_preset_of_pictures_does_not_cut_a_heart_out_of_them(name, kept) -> None:
    files = [str(CONFIGS / "train.json"), str(CONFIGS / "data" / f"{name}.json")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser["preset"] = "compact"
    apply_preset(parser)
    assert {key: parser[key] for key in kept} == kept


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("mnist", (28, 28), {}),
        ("les_av", (512, 512), {"labelled_share": 0.2}),
        ("les_av", (30, 20), {"pixdim": [1, 1], "roi_size": [30, 20], "patch_size": [16, 12]}),
        ("cityscapes", (60, 40), {"roi_size": [60, 40], "patch_size": [32, 24]}),
        ("cityscapes", (30, 20), {"pixdim": "$None", "roi_size": [30, 20], "patch_size": [16, 12]}),
    ],
    ids=["mnist", "les_av", "les_av-patches", "cityscapes", "cityscapes-resized"],
)
def test_two_steps_scores_and_labels(name, size, options, data_set, tmp_path) -> None:
    data = data_set(name)
    overlay = json.loads((CONFIGS / "data" / f"{name}.json").read_text())
    classes = overlay["num_classes"]
    trainer = train(name, data, tmp_path / "run", **options)
    assert trainer.state.iteration == 2
    terms = {"train_loss", "train_l_obj", "train_l_comp", "train_trace_obj", "train_trace_comp"}
    assert terms <= set(trainer.state.metrics)
    slices = trainer.data_loader.dataset.slices
    assert slices["image"].shape[1:] == (overlay["in_channels"], *size)
    assert abs(float(slices["image"].mean())) < 0.01  # the z-score
    painted = {"mnist": {0, 1}, "les_av": {0, 1}, "cityscapes": {0, 10, 13}}[name]  # road, sky and car
    drawn = {key: set(slices[key].unique().tolist()) for key in ("label", "complement")}
    assert drawn["label"] - {classes} == painted
    assert drawn["complement"] - {classes} <= painted
    # the unpainted part is background, and "not background"; what is outside of the field of view stays unknown
    assert (classes in drawn["label"] | drawn["complement"]) == (name != "mnist")
    if name == "les_av":
        outside = int(size[0] * 25 / 30)  # the field ends at 24
        for key in ("label", "complement"):
            assert (slices[key][:, :, outside:] == 2).all()
            assert set(slices[key][:, :, : size[0] * 23 // 30].unique().tolist()) == {0, 1}

    shared = {"weights": str(tmp_path / "run" / "model.pt")}
    workflow(name, tmp_path / "eval", "train", "evaluate", dataset_dir=str(data), section="test", **shared)
    scores = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert len(scores["summary"]["classes"]) == classes - 1
    assert 0 <= scores["metrics"]["val_mean_iou"] <= 1
    assert set(scores["metrics"]) == {"val_mean_iou", "val_mean_dice"}

    case = json.loads((data / "datalist.json").read_text())["test"][0]
    image = data / case["image"]
    workflow(name, tmp_path / "out", "inference", dataset_dir=str(image), **shared)
    (label,) = (tmp_path / "out").glob("*_seg*")
    picture = np.asarray(Image.open(label))
    assert picture.shape == np.asarray(Image.open(image)).shape[:2]
    assert picture.max() < classes


def test_official_polygons_are_positive_drawings(data_set, tmp_path) -> None:
    data = data_set("cityscapes", form="polygons")
    options = {"simulate": False, "roi_size": [60, 40], "patch_size": [32, 24]}
    trainer = train("cityscapes", data, tmp_path / "run", **options)
    slices = trainer.data_loader.dataset.slices
    assert set(slices["label"].unique().tolist()) == {0, 10, 13, 19}
    assert (slices["complement"] == 19).all()
    assert (slices["label"][:, 0].float() == 19).float().mean() > 0.25  # a quarter has no polygon
    assert trainer.state.metrics["train_l_comp"] == 0
    semi = train("cityscapes", data, tmp_path / "semi", **options, labelled_share=0.67, dense_share=0.33)
    assert semi.state.metrics["train_l_dense"] > 0


PROGRAM = """
import resource, sys
import torch
from monai.bundle import ConfigParser

torch.set_num_threads(2)
torch.manual_seed(0)
parser = ConfigParser(ConfigParser.load_config_files(sys.argv[1:]))
parser["device"] = torch.device("cpu")
network, loss, optimizer = (parser.get_parsed_content(key) for key in ("network", "loss", "optimizer"))
classes, size, batch = parser["num_classes"], parser["patch_size"], parser["batch_size"]
image = torch.randn(batch, parser["in_channels"], *size).contiguous(memory_format=torch.channels_last)
drawings = {key: torch.randint(0, classes + 1, (batch, 1, *size)) for key in ("label", "complement")}
loss.progress = 0.5
before = loss(network.train()(image), drawings)
before.backward()
optimizer.step()
gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
print([classes, *size, batch, parser["filters"], parser["depth"]], float(before.detach()), gib)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_step_of_cityscapes_fits_in_8_gib() -> None:
    """As the overlay says: 19 classes, two windows of 512 x 1024, the rank-1 form, checkpointing, and Adam's state."""
    files = [str(CONFIGS / "train.json"), str(CONFIGS / "data" / "cityscapes.json")]
    command = [sys.executable, "-c", PROGRAM, *files]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    settings, _, numbers = output.partition("] ")
    assert settings == "[19, 1024, 512, 2, 32, 5"
    loss, gib = map(float, numbers.split())
    assert 0 < loss < 20
    assert gib < 8
