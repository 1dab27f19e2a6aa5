"""What a federation starts from, and what its sites are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.federated.sites import read_sites, site_settings
from common.federated.starting_point import inference_weights, starting_point

SMALL = {"filters": 4, "pixdim": [4.0, 4.0], "roi_size": [32, 32]}


@pytest.fixture
def datalist(phantom_dir: Path) -> str:
    return str(phantom_dir / "datalist.json")


def bundle(repo_root: Path, name: str) -> Path:
    return repo_root / "bundles" / name


def test_new_weights_are_the_seed_s(repo_root: Path, datalist: str) -> None:
    options = {"weights": None, "datalist": datalist, "epochs": 6}
    first, again = (starting_point(bundle(repo_root, "dmpls"), SMALL | {"seed": 1}, **options) for _ in range(2))
    other = starting_point(bundle(repo_root, "dmpls"), SMALL | {"seed": 2}, **options)
    assert first.settings["filters"] == first.overrides["filters"] == 4
    assert first.settings["num_classes"] == 4
    assert first.overrides["schedule_epochs"] == 6
    assert "schedule_epochs" not in first.settings
    assert first.class_names == ["background", "RV", "MYO", "LV"]
    elsewhere = options | {"datalist": "/of/a/site/datalist.json"}
    assert starting_point(bundle(repo_root, "dmpls"), SMALL, **elsewhere).class_names is None
    given = SMALL | {"class_names": "bg,left,right,both"}
    assert starting_point(bundle(repo_root, "dmpls"), given, **elsewhere).class_names == ["bg", "left", "right", "both"]
    for name, value in first.weights.items():
        torch.testing.assert_close(value, again.weights[name], rtol=0, atol=0)
    assert any(not torch.equal(value, other.weights[name]) for name, value in first.weights.items())


def test_weights_bring_their_settings(repo_root: Path, datalist: str) -> None:
    """Those of coarse_labels were trained with the preset compact, which is not the configuration's default."""
    folder = bundle(repo_root, "coarse_labels")
    weights = folder / "models" / "model.pt"
    start = starting_point(folder, {}, weights=weights, datalist=datalist, epochs=2)
    told = json.loads(weights.with_suffix(".json").read_text())["settings"]
    assert start.settings | told == start.settings
    for name, value in torch.load(weights, weights_only=True).items():
        torch.testing.assert_close(start.weights[name], value, rtol=0, atol=0, check_dtype=False)
    with pytest.raises(UserError, match="the weights do not fit the network"):
        starting_point(folder, {"filters": 4}, weights=weights, datalist=datalist, epochs=2)


def test_companions_are_exchanged_on_request_and_left_out_of_the_result(repo_root: Path, datalist: str) -> None:
    folder = bundle(repo_root, "maag")
    options = {"weights": None, "datalist": datalist, "epochs": 2}
    alone = starting_point(folder, SMALL, **options)
    keys = SMALL | {"federate_discriminator": True, "discriminator_filters": 4}
    both = starting_point(folder, keys, **options)
    companions = {name for name in both.weights if name.startswith("discriminator.")}
    assert companions == set(both.weights) - set(alone.weights) != set()
    result = inference_weights(folder, both.settings, {name: value + 1 for name, value in both.weights.items()})
    assert set(result) == set(alone.weights)
    name = next(name for name in result if name.endswith("weight"))
    torch.testing.assert_close(result[name], both.weights[name] + 1)
    with pytest.raises(UserError, match="do not fit the network"):
        inference_weights(folder, both.settings, {})


def test_a_preset_becomes_the_keys_that_it_sets(repo_root: Path, datalist: str) -> None:
    folder = bundle(repo_root, "coarse_labels")
    start = starting_point(folder, {"preset": "compact", "filters": 4}, weights=None, datalist=datalist, epochs=1)
    assert "preset" not in start.overrides
    assert (start.overrides["filters"], start.overrides["roi_size"]) == (4, [148, 148])


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("cyclemix", "learning_rate_step", 16),
        ("maag", "learning_rate_period", 20),
        ("baselines", "schedule_epochs", 20),
    ],
)
def test_what_follows_from_the_length_is_of_all_rounds(
    name: str, key: str, expected: int, repo_root: Path, datalist: str
) -> None:
    """MONAI's client puts the epochs of a round where the configuration has those of the training."""
    options: dict = {"weights": None, "datalist": datalist, "epochs": 20}
    keys = {"preset": "compact", "filters": 4}
    assert starting_point(bundle(repo_root, name), keys, **options).overrides[key] == expected
    assert starting_point(bundle(repo_root, name), keys | {key: 3}, **options).overrides[key] == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"max_epochs": 3}, "--max_epochs: has no place in a federation"),
        ({"publish": True}, "--publish: has no place in a federation"),
        ({"fliters": 3}, "--fliters: unknown key; did you mean --filters"),
        ({"preset": "none"}, "preset: no preset 'none'"),
    ],
)
def test_keys_that_have_no_place(keys: dict, message: str, repo_root: Path, datalist: str) -> None:
    with pytest.raises(UserError, match=message):
        starting_point(bundle(repo_root, "dmpls"), keys, weights=None, datalist=datalist, epochs=1)


def told(repo_root: Path, site: dict, *, evaluate: bool = True) -> dict:
    return site_settings(
        "b",
        {"datalist": "/data/b/datalist.json"} | site,
        bundle=repo_root / "bundles" / "dmpls",
        overrides={"filters": 4, "batch_size": 8, "class_names": "background,liver"},
        shared={"filters"},
        class_names=["background", "liver"],
        local_epochs=3,
        evaluate=evaluate,
        number=1,
    )


def test_what_a_site_is_told(repo_root: Path) -> None:
    site = told(repo_root, {"bundle": "/opt/dmpls", "batch_size": 2, "filters_file": "/opt/filters.json"})
    keys = {"datalist": "/data/b/datalist.json", "dataset_dir": "/data/b", "filters": 4, "batch_size": 2, "seed": 2023}
    assert site == {
        "bundle": "/opt/dmpls",
        "class_names": ["background", "liver"],
        "local_epochs": 3,
        "train": keys | {"output_dir": "/opt/dmpls/federated/b", "publish": False},
        "evaluate": keys | {"output_dir": "/opt/dmpls/federated/b/evaluation"},
        "filters": "/opt/filters.json",
    }
    assert told(repo_root, {"seed": 5}, evaluate=False)["train"]["seed"] == 5
    assert told(repo_root, {"class_names": "bg,Leber"}, evaluate=False)["train"]["class_names"] == ["bg", "Leber"]
    assert told(repo_root, {}, evaluate=False)["evaluate"] is None


def test_what_a_site_may_not_set(repo_root: Path) -> None:
    with pytest.raises(UserError, match=r"^b: filters has to be the same at all sites; give it on the command line"):
        told(repo_root, {"filters": 8})
    with pytest.raises(UserError, match=r"^b: --devcie: unknown key; did you mean --device"):
        told(repo_root, {"devcie": "cpu"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as the sites"),
        ("[]", "must hold an object for each site"),
        ("{}", "must hold an object for each site"),
        ('{"a b": {"datalist": "/d.json"}}', "'a b' is no name for a site"),
        ('{"server": {"datalist": "/d.json"}}', "'server' is no name for a site"),
        ('{"a": {}}', 'a has no "datalist"'),
        ('{"a": {"datalist": "d.json"}}', "a: datalist is 'd.json'; write the whole path"),
        ('{"a": {"datalist": "/d.json", "bundle": 3}}', "a: bundle is 3; write the whole path"),
    ],
)
def test_mistakes_in_the_file_of_sites(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sites.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_sites(tmp_path / "sites.json")


def test_sites_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sites\.json: cannot be read as the sites of a federation"):
        read_sites(tmp_path / "sites.json")
