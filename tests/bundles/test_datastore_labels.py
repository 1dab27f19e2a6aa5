"""Every bundle learns from a MONAI Label datastore just as it does from the same scribbles in a datalist."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from slicer_labels import make_study, rename

from common.data.datalist import load_datalist
from common.errors import UserError

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())
SOME_SLOW = [pytest.param(name, marks=[] if name == "dmpls" else pytest.mark.slow) for name in BUNDLES]
DRAWN = "coarse_labels"
SMALL = {"pixdim": [4.0, 4.0], "roi_size": [48, 48], "filters": 2, "num_classes": 4, "device": "cpu", "progress": False}
ALL_BACKGROUND = "$lambda image, *_: monai.networks.one_hot(0 * image, 4)"
ORDERS = [("LV", "bg_scribble", "RV", "MYO"), ("background", "MYO", "RV", "LV", "bg_scribble")]


@pytest.fixture(scope="module")
def scribbles(phantom_dir: Path) -> list[dict[str, Any]]:
    """Three volumes with scribbles in this project's values."""
    return load_datalist(phantom_dir / "datalist.json", "training")[:3]


@pytest.fixture
def study(scribbles: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, str]]:
    """The same in a datastore, in ``tmp_path / "studies"``, with segments in two orders."""
    return make_study(tmp_path / "studies", scribbles, ORDERS)


@pytest.fixture
def no_datalist(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server has none, and the default phantom is neither made nor read."""

    def read(path: Path) -> None:
        pytest.fail(f"{path} is read")

    monkeypatch.setattr("common.data.datalist._read", read)


def parsed(bundle: str, tmp_path: Path, **options: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(REPO_ROOT / "bundles" / bundle / "configs" / "train.json"))
    for key, value in (SMALL | {"output_dir": str(tmp_path / "out")} | options).items():
        parser[key] = value
    return parser


def same(first: dict[str, Any], second: dict[str, Any], keys: set[str]) -> None:
    for key in keys:
        assert first[key].shape == second[key].shape
        np.testing.assert_array_equal(np.asarray(first[key]), np.asarray(second[key]), err_msg=key)
        np.testing.assert_allclose(first[key].affine, second[key].affine, atol=1e-5)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_prepared_voxel_by_voxel_as_the_datalists(
    bundle: str, scribbles: list[dict[str, Any]], study: list[dict[str, str]], tmp_path: Path, no_datalist: None
) -> None:
    # scribbles say what is background, so that the rest says nothing, whatever coarse drawings are taken for
    options = {"unpainted": "ignore"} if bundle == DRAWN else {}
    server, own = parsed(bundle, tmp_path), parsed(bundle, tmp_path, **options)
    assert server.get_parsed_content("class_names") == ["background", "RV", "MYO", "LV"]
    for part in ("train", "validate"):
        of_server, of_own = (parser.get_parsed_content(f"{part}#preprocessing") for parser in (server, own))
        for named, plain in zip(study, scribbles, strict=True):
            given = {key: plain[key] for key in ("image", "label")}
            found = of_server(dict(named))
            same(found, of_own(given), {"image", "label"})
            assert set(np.unique(found["label"]).tolist()) == {0, 1, 2, 3, 4}


def test_positive_and_negative_segments(scribbles: list[dict[str, Any]], tmp_path: Path, no_datalist: None) -> None:
    """RV and MYO painted, not-LV where LV is: what is not painted is background of the positive drawing alone."""
    study = make_study(tmp_path / "studies", scribbles[:1], [("LV", "RV", "MYO")])
    told = [{"name": name, "idx": value} for value, name in enumerate(("not_LV", "RV", "MYO"), start=1)]
    rename(tmp_path / "studies", "p0", told)
    found = parsed(DRAWN, tmp_path).get_parsed_content("train#preprocessing")(dict(study[0]))
    own = parsed(DRAWN, tmp_path, unpainted="ignore").get_parsed_content("train#preprocessing")
    plain = np.asarray(own({key: scribbles[0][key] for key in ("image", "label")})["label"])
    padding = np.asarray(found["label"]) == 4
    assert set(np.unique(plain[padding]).tolist()) <= {4}
    np.testing.assert_array_equal(found["label"], np.where(padding, 4, np.array([0, 1, 2, 0, 0])[plain.astype(int)]))
    np.testing.assert_array_equal(found["complement"], np.where(plain == 3, 3, 4))


def server_run(bundle: str, folder: Path, **options: Any) -> Path:
    """Train as MONAI Label does, in a copy of the bundle that publishes; its weights."""
    root = folder / bundle
    shutil.copytree(REPO_ROOT / "bundles" / bundle / "configs", root / "configs", dirs_exist_ok=True)
    (root / "models").mkdir(exist_ok=True)
    settings = {"batch_size": 4, "val_interval": 1, "publish": True, "train#trainer#max_epochs": 1}
    create_workflow(
        workflow_type="train",
        config_file=str(root / "configs" / "train.json"),
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=None,
        **{"bundle_root": str(root), **SMALL, **settings, **options},
    ).run()
    return root / "models" / "model.pt"


@pytest.mark.parametrize("bundle", SOME_SLOW)
def test_trained_with_validation_on_scribbles_and_without(
    bundle: str, study: list[dict[str, str]], tmp_path: Path, no_datalist: None
) -> None:
    """Also where neither the validated case nor its prediction says anything of a class, so that there is no score."""
    keys = {"train#dataset#data": study[:2]}
    weights = server_run(bundle, tmp_path, **keys, **{"validate#dataset#data": study[2:]})
    first = torch.load(weights, weights_only=True)
    assert json.loads(weights.with_suffix(".json").read_text())["settings"]["filters"] == 2
    assert sorted(path.name for path in weights.parent.iterdir()) == ["model.json", "model.pt"]
    network = parsed(bundle, tmp_path).get_parsed_content("network_def")
    assert set(first) == set(network.state_dict())
    label = nib.load(study[2]["label"])
    background = np.asarray(label.dataobj) == 1 + ORDERS[0].index("bg_scribble")
    nib.save(nib.Nifti1Image(background * np.uint8(2), label.affine), study[2]["label"])
    no_class = {"validate#dataset#data": study[2:], "validate#inferer": ALL_BACKGROUND}
    # another training in the same folder: with no score, with no validation, and as val_split -1 asks for
    for validation in (no_class, {"validate#dataset#data": []}, {}):
        again = torch.load(server_run(bundle, tmp_path, **keys, **validation, seed=9), weights_only=True)
        assert any(not torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("bundle", SOME_SLOW)
def test_wrong_names_leave_the_weights_alone(
    bundle: str, study: list[dict[str, str]], tmp_path: Path, no_datalist: None
) -> None:
    (tmp_path / bundle / "models").mkdir(parents=True)
    weights = tmp_path / bundle / "models" / "model.pt"
    weights.write_bytes(b"earlier weights")
    rename(tmp_path / "studies", "p1", [{"name": "Segment_1", "idx": 1}])
    for cases in (3, 1):  # among those that are trained on, and among those validated on
        with pytest.raises(Exception) as caught:  # noqa: PT011
            server_run(
                bundle, tmp_path, **{"train#dataset#data": study[:cases], "validate#dataset#data": study[cases:]}
            )
        error: BaseException | None = caught.value
        while error is not None and not isinstance(error, UserError):
            error = error.__cause__
        assert f'{study[1]["label"]}: no class is called "Segment_1"; the names may be' in str(error)
    assert weights.read_bytes() == b"earlier weights"
    assert not (tmp_path / bundle / "output" / "model.pt").exists()


def test_renamed_segments_are_prepared_again(study: list[dict[str, str]], tmp_path: Path, no_datalist: None) -> None:
    """The label's file stays what it was; only the datastore tells other names."""
    prepare = parsed("dmpls", tmp_path).get_parsed_content("train#cached_preprocessing")
    before = np.asarray(prepare(study[0])["label"])
    np.testing.assert_array_equal(prepare(study[0])["label"], before)
    told = [{"name": name, "idx": value} for value, name in enumerate(("RV", "bg_scribble", "LV", "MYO"), start=1)]
    rename(tmp_path / "studies", "p0", told)
    # the first and the third segment change their names, LV (3) and RV (1)
    np.testing.assert_array_equal(prepare(study[0])["label"], np.array([0, 3, 2, 1, 4])[before.astype(int)])
    assert len(list((tmp_path / "out" / "cache").iterdir())) == 1


def test_real_scribbles_are_the_same_target(data_root: Path, tmp_path: Path) -> None:
    """Three ACDC volumes: what a network is trained on does not depend on how their scribbles came here."""
    found = sorted((data_root / "acdc" / "acdc_scribbles").rglob("*_scribble.nii.gz"))[:3]
    images = [file.name.replace("_scribble", "") for file in found]
    [*items] = (
        {"image": str(next((data_root / "acdc" / "training").rglob(image))), "label": str(label)}
        for image, label in zip(images, found, strict=True)
    )
    study = make_study(tmp_path / "studies", items, ORDERS)
    for bundle in BUNDLES:
        options = {"pixdim": None, "roi_size": [128, 128]} if bundle == "dmpls" else {"pixdim": [2.0, 2.0]}
        server = parsed(bundle, tmp_path, **options)
        own = parsed(bundle, tmp_path, **options, **({"unpainted": "ignore"} if bundle == DRAWN else {}))
        of_server, of_own = (parser.get_parsed_content("train#preprocessing") for parser in (server, own))
        for named, plain in zip(study, items, strict=True):
            same(of_server(dict(named)), of_own(dict(plain)), {"image", "label"})


@pytest.mark.parametrize(("value", "given"), [("$[1]", False), ("@other", False), ([], True), ([{"image": "a"}], True)])
def test_items_in_the_place_of_an_expression(value: Any, given: bool) -> None:
    """Several processes make the default phantom one after the other, but not where a program brought its items."""
    imports = ["$import common.bundle as bundle"]
    asked = {"imports": imports, "other": [2], "train": {"data": value}, "found": "$bundle.is_given('train#data')"}
    assert ConfigParser(asked).get_parsed_content("found") is given
