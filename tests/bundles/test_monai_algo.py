"""MONAI's client of federated learning, as it stands, around the bundles: two sites and a server by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.fl.client import MonaiAlgo, MonaiAlgoStats
from monai.fl.utils.constants import ExtraItems, FlStatistics, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from common.errors import UserError

SMALL = {"filters": 4, "pixdim": [4.0, 4.0], "roi_size": [48, 48], "progress": False, "device": "cpu"}


def client(repo_root: Path, bundle: str, datalist: Path, folder: Path, **options: Any) -> MonaiAlgo:
    keys = SMALL | {"dataset_dir": str(datalist.parent), "datalist": str(datalist), "output_dir": str(folder)}
    keys |= {"discriminator_filters": 4} if bundle == "maag" else {"schedule_epochs": 2}
    filters = options.pop("filters_file", None)
    keys |= options.pop("keys", {})
    algo = MonaiAlgo(
        bundle_root=str(repo_root / "bundles" / bundle),
        train_kwargs=dict(keys),
        eval_kwargs=keys | {"output_dir": str(folder / "evaluation")},
        config_filters_filename=filters,
        **options,
    )
    algo.initialize(extra={ExtraItems.CLIENT_NAME: folder.name})
    return algo


def weights_of(site: MonaiAlgo) -> dict[str, torch.Tensor]:
    """What the site exchanges, as values of their own."""
    return {name: value.clone() for name, value in site.trainer.network.state_dict().items()}


@pytest.fixture(scope="module")
def sites(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The datalists of two sites, each with a patient of its own for training."""
    content = json.loads((phantom_dir / "datalist.json").read_text())
    patients = sorted({item["patient"] for item in content["training"]})
    assert len(patients) >= 2
    files = []
    for patient in patients[:2]:
        own = dict(content)
        for section in ("training", "unpaired_masks", "unlabelled", "validation"):
            items = [item for item in content[section] if section == "validation" or item["patient"] == patient][:1]
            own[section] = [
                {
                    key: str(phantom_dir / value) if key in ("image", "label", "dense_label") else value
                    for key, value in item.items()
                }
                for item in items
            ]
        files.append(tmp_path_factory.mktemp("site") / "datalist.json")
        files[-1].write_text(json.dumps(own))
    return files


@pytest.mark.parametrize("bundle", ["coarse_labels", "maag"])
def test_two_rounds_of_two_sites(bundle, repo_root, sites, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    keys = {"federate_discriminator": True} if bundle == "maag" else {}
    clients = [client(repo_root, bundle, file, to, keys=keys) for file, to in zip(sites, folders, strict=True)]
    trainers = [each.trainer for each in clients]
    weights = weights_of(clients[0])
    whole = set(clients[0].train_workflow.network_def.state_dict())
    stays = {name for name in whole if name.startswith("confusion_heads.")}
    companions = {name for name in weights if name.startswith("discriminator.")}
    assert set(weights) == whole - stays | companions
    assert bool(stays) == (bundle == "coarse_labels")
    assert bool(companions) == (bundle == "maag")
    rates = []
    for number in (1, 2):
        scores = [each.evaluate(ExchangeObject(weights=weights)).metrics["mean_dice"] for each in clients]
        assert all(0 <= score <= 1 for score in scores)
        for each in clients:
            each.train(ExchangeObject(weights={name: value.numpy() for name, value in weights.items()}))
        sent = [each.get_weights() for each in clients]
        assert {each.weight_type for each in sent} == {WeightType.WEIGHT_DIFF}
        steps = [each.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] for each in sent]
        assert [trainer.state.epoch for trainer in trainers] == [number, number]
        assert [trainer.state.iteration for trainer in trainers] == [number * count for count in steps]
        rates.append(trainers[0].optimizer.param_groups[0]["lr"])
        for name in weights:
            change = sum(count * each.weights[name] for count, each in zip(steps, sent, strict=True)) / sum(steps)
            weights[name] = (weights[name] + change).to(weights[name].dtype)
            if weights[name].is_floating_point():
                local = [trainer.network.state_dict()[name] for trainer in trainers]
                mean = sum(count * value for count, value in zip(steps, local, strict=True)) / sum(steps)
                torch.testing.assert_close(weights[name], mean, rtol=1e-4, atol=1e-6)
    first = clients[0].train_workflow.parser["learning_rate"]
    if bundle != "maag":
        # half of the schedule is left after the first round, nothing after the second
        assert rates == pytest.approx([first * 0.5**0.9, 0.0])
    for each in clients:
        each.finalize()
    for folder in folders:
        assert set(torch.load(folder / "model.pt", weights_only=True)) == whole


def test_the_next_round_draws_other_numbers(repo_root, sites, tmp_path):
    site = client(repo_root, "dmpls", sites[0], tmp_path)
    drawn = []
    site.trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: drawn.append(torch.rand(1).item()))
    start = weights_of(site)
    for _ in range(2):
        site.train(ExchangeObject(weights=start))
    assert len(set(drawn)) == len(drawn) >= 2


def test_a_schedule_of_one_round_does_not_end_in_silence(repo_root, sites, tmp_path):
    site = client(repo_root, "dmpls", sites[0], tmp_path, keys={"schedule_epochs": 1})
    start = weights_of(site)
    site.train(ExchangeObject(weights=start))
    with pytest.raises(UserError, match="set schedule_epochs to the epochs of all rounds together"):
        site.train(ExchangeObject(weights=start))


def test_a_bad_file_stops_the_site_before_anything_else(repo_root, sites, tmp_path):
    content = json.loads(sites[0].read_text())
    content["training"][0]["image"] = "/nowhere/scan.nii.gz"
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError) as caught:
        client(repo_root, "dmpls", tmp_path / "datalist.json", tmp_path / "run")
    cause = caught.value.__cause__
    assert isinstance(cause, UserError)
    assert "/nowhere/scan.nii.gz" in str(cause)


def test_filters_see_what_is_sent(repo_root, sites, tmp_path, capsys):
    """A file of MONAI's filters, of the form that docs/federated.md gives."""
    file = tmp_path / "filters.json"
    file.write_text('{"post_weight_filters": [{"_target_": "monai.fl.utils.filters.SummaryFilter"}]}')
    site = client(repo_root, "dmpls", sites[0], tmp_path / "run", filters_file=str(file))
    capsys.readouterr()
    site.train(ExchangeObject(weights=weights_of(site)))
    site.get_weights()
    assert "weights" in capsys.readouterr().out


def test_statistics_of_the_images(repo_root, sites, tmp_path):
    """MONAI's client for statistics, as docs/federated.md has it."""
    keys = SMALL | {"dataset_dir": str(sites[0].parent), "datalist": str(sites[0]), "output_dir": str(tmp_path)}
    root = repo_root / "bundles" / "dmpls"
    workflow = ConfigWorkflow(
        str(root / "configs" / "train.json"), meta_file=None, logging_file=False, workflow_type="train", **keys
    )
    site = MonaiAlgoStats(bundle_root=str(root), workflow=workflow)
    site.initialize(extra={ExtraItems.CLIENT_NAME: "a", ExtraItems.APP_ROOT: str(tmp_path)})
    asked = {FlStatistics.HIST_BINS: 4, FlStatistics.HIST_RANGE: [0, 1000]}
    found = site.get_data_stats(extra=asked).statistics["train"]
    assert (found[FlStatistics.DATA_COUNT], found[FlStatistics.FAIL_COUNT]) == (1, 0)
