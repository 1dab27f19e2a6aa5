"""The mistakes that ``python -m tools federate`` tells without NVFlare; the rest is in tests/ecosystem."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.federated.nvflare_job import START
from common.model_settings import write_settings
from tools import federate


@pytest.fixture
def sites(phantom_dir: Path, tmp_path: Path) -> str:
    """A file that names one site."""
    (tmp_path / "sites.json").write_text(json.dumps({"a": {"datalist": str(phantom_dir / "datalist.json")}}))
    return str(tmp_path / "sites.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": "fly"}, "fly: is no step; choose one of job, simulate, collect"),
        ({"bundle": "none"}, "none: is no bundle"),
        ({"sites": None}, "job: name --sites, a JSON file of the sites"),
        ({"rounds": 0}, "--rounds: must be 1 or more, got 0"),
        ({"local_epochs": 1.5}, r"--local_epochs: must be 1 or more, got 1\.5"),
        ({"fresh": True, "weights": "w.pt"}, "give --weights or --fresh, not both"),
        ({"weights": "/nowhere/w.pt"}, r"/nowhere/w\.pt: no such weights"),
        ({"batch_sise": 3}, "--batch_sise: unknown key; did you mean --batch_size"),
        ({"step": "collect"}, "collect: name --job, the folder of the job, and --result"),
        ({"step": "collect", "job": "/nowhere", "result": "r.pt"}, r"/nowhere: holds no start\.pt"),
    ],
)
def test_mistakes(options: dict, message: str, sites: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        federate.main(**{"step": "job", "bundle": "dmpls", "sites": sites, "output": str(tmp_path / "out")} | options)


@pytest.mark.skipif(importlib.util.find_spec("nvflare") is not None, reason="NVFlare is installed")
def test_without_nvflare(sites: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^NVFlare is missing .* pip install nvflare==2\.9\.0"):
        federate.main("job", "dmpls", sites=sites, output=str(tmp_path / "out"))
    assert not (tmp_path / "out" / "dmpls").exists()


def test_weights_that_are_no_server_s(tmp_path: Path) -> None:
    write_settings(tmp_path / START, {"filters": 4}, {"bundle": "dmpls"})
    torch.save({}, tmp_path / START)
    torch.save({"network": {}}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name in ("other.pt", "text.pt", "absent.pt"):
        with pytest.raises(UserError, match=f"{name}: cannot be read as the weights of NVFlare's server"):
            federate.main("collect", "dmpls", job=str(tmp_path), result=str(tmp_path / name), output=str(tmp_path))
    torch.save({"model": {"only": torch.zeros(1)}}, tmp_path / "small.pt")
    with pytest.raises(UserError, match="the federation's weights do not fit the network"):
        federate.main("collect", "dmpls", job=str(tmp_path), result=str(tmp_path / "small.pt"), output=str(tmp_path))
    assert not (tmp_path / "model.pt").exists()
