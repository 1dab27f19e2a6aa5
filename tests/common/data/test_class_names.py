"""Where the names of the classes come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data import class_names
from common.data.class_names import check_number_of_names, check_trained_names, names_of
from common.errors import UserError


def metadata(path: Path, channels: object) -> Path:
    path.write_text(json.dumps({"network_data_format": {"outputs": {"pred": {"channel_def": channels}}}}))
    return path


def test_the_datalists_and_otherwise_the_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = metadata(tmp_path / "metadata.json", {"1": "liver", "0": "background"})
    datalist = tmp_path / "datalist.json"
    assert names_of(datalist, own) == ["background", "liver"]
    datalist.write_text(json.dumps({"name": "a", "num_classes": 3, "class_names": ["background", "a", "b"]}))
    assert names_of(datalist, own) == ["background", "a", "b"]
    # of the default phantom, even if it is there
    monkeypatch.setattr(class_names, "default_phantom_dir", lambda: tmp_path)
    assert names_of(datalist, own) == ["background", "liver"]


@pytest.mark.parametrize("channels", [None, [], {"0": "background", "2": "liver"}, {"0": 1}, {"0": ""}])
def test_metadata_without_names(tmp_path: Path, channels: object) -> None:
    with pytest.raises(UserError, match=r"metadata\.json: does not name the classes"):
        names_of(tmp_path / "none.json", metadata(tmp_path / "metadata.json", channels))


def test_metadata_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metadata\.json: does not name the classes"):
        names_of(tmp_path / "none.json", tmp_path / "metadata.json")


def test_as_many_names_as_classes() -> None:
    assert check_number_of_names(("background", "a"), 2) == ["background", "a"]
    assert check_number_of_names("background, a", 2) == ["background", "a"]
    with pytest.raises(
        UserError, match=r"^--class_names: 2 names \(background, a\) where --num_classes is 3; set both"
    ):
        check_number_of_names(["background", "a"], 3)


def test_weights_with_the_classes_in_another_order_are_refused(tmp_path):
    weights = tmp_path / "model.pt"
    labels = ["background", "RV", "MYO", "LV"]
    check_trained_names(weights, labels)  # nothing is known of them

    def trained(names):
        (tmp_path / "model.json").write_text(json.dumps({"settings": {}, "training": {"class_names": names}}))

    for names in (labels, ["background", "right", "wall", "left"], "background, RV, MYO, LV", 7, labels[:2]):
        trained(names)
        check_trained_names(weights, labels)
    for names in (["background", "LV", "MYO", "RV"], ["background", "wall", "RV", "left"], "[background,MYO,RV,LV]"):
        trained(names)
        with pytest.raises(UserError, match=r"model\.json: (RV|LV) is class \d of these weights and class \d of the"):
            check_trained_names(weights, labels)
