"""Settings beside weights: what is written, what is read back, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from common import model_settings as settings
from common.errors import UserError


def beside(folder: Path, content: object) -> str:
    """Weights that are not there, with a file of settings that is."""
    (folder / "model.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return str(folder / "model.pt")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    weights = tmp_path / "models" / "model.pt"
    given = {"filters": 8, "pixdim": (1.5, 2), "patch_size": None, "gating": False, "normalisation": "unit"}
    settings.write_settings(weights, given, {"seed": 3, "epochs": 2})
    assert [path.name for path in weights.parent.iterdir()] == ["model.json"]
    content = json.loads((tmp_path / "models" / "model.json").read_text())
    assert list(content) == ["settings", "versions", "training"]
    assert content["settings"] == {**given, "pixdim": [1.5, 2]}
    assert set(content["versions"]) == {"MONAI", "Numpy", "Pytorch"}
    assert content["training"] == {"seed": 3, "epochs": 2}
    defaults = {"filters": 64, "pixdim": [1.0, 1.0], "patch_size": None, "gating": True, "normalisation": "z_score"}
    assert {key: settings.of(weights, key, value) for key, value in defaults.items()} == content["settings"]
    assert settings.of(weights, "depth", 4) == 4
    assert settings.read_settings(weights) == content["settings"]
    assert settings.read_training(weights) == {"seed": 3, "epochs": 2}


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("runs/model.pt", "runs/model.json"),
        ("runs/model_best.pt", "runs/model_best.json"),
        ("heart.v2.pt", "heart.v2.json"),
        ("heart", "heart.json"),
    ],
)
def test_each_file_of_weights_has_its_own(weights: str, name: str) -> None:
    assert settings.settings_file(weights) == Path(name)


def test_where_nothing_is_known_the_default_counts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    beside(tmp_path, {"settings": {"filters": 8}})
    for weights in ("nowhere/model.pt", "file/model.pt", "model_best.pt"):
        assert settings.of(tmp_path / weights, "filters", 64) == 64
    assert settings.of("", "filters", 64) == 64
    assert settings.read_training(tmp_path / "model.pt") == settings.read_training("nowhere/model.pt") == {}


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"settings": {"filters": 8',
        "[1]",
        "{}",
        '{"settings": [8]}',
        '{"settings": {}, "training": 8}',
        '{"settings": {"a": NaN}}',
        "[" * 10**5,
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    weights = beside(tmp_path, content)
    expected = re.escape(f"{tmp_path / 'model.json'}: cannot be read as the settings of the weights beside it; restore")
    with pytest.raises(UserError, match=expected) as caught:
        settings.of(weights, "filters", 64)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=expected):
        settings.departures(weights, {})
    with pytest.raises(UserError, match=expected):
        settings.read_training(weights)


def test_other_damage_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(b'{"settings": {"a": "\xff"}}')
    (tmp_path / "folder.json").mkdir()
    for name in ("model.pt", "folder.pt"):
        with pytest.raises(UserError, match="cannot be read as the settings"):
            settings.of(tmp_path / name, "filters", 64)


@pytest.mark.parametrize(
    ("default", "fits", "does_not"),
    [
        (64, [8], [8.0, True, "8", None, [8]]),
        (0.5, [1, 0.25], [False, "0.5", None]),
        (True, [False], [0, 1, "true", None]),
        # MONAI takes 3 for a cubic spline where it takes "bilinear"
        ("bilinear", ["nearest", 3], [3.0, True, None, ["nearest"]]),
        (
            [224, 224],
            [[148, 96], None],
            [[148], [148, 96, 1], [148.5, 96], ["148", "96"], [True, 96], 148, "148"],
        ),
        ([1.5, 1.5], [[2, 1.5], None], [["a", "b"], [2.0], {"x": 1}]),
        (None, [[2, 1.5], None], [2, "2", [None, 1], ["2"]]),
    ],
)
def test_types_are_those_of_the_defaults(tmp_path: Path, default: Any, fits: list[Any], does_not: list[Any]) -> None:
    for value in fits:
        assert settings.of(beside(tmp_path, {"settings": {"key": value}}), "key", default) == value
    for value in does_not:
        weights = beside(tmp_path, {"settings": {"key": value}})
        with pytest.raises(UserError, match=r"model\.json: key is .*, which cannot stand for .*; restore the file, or"):
            settings.of(weights, "key", default)


def test_settings_that_json_does_not_know(tmp_path: Path) -> None:
    settings.check_settings({"filters": 8, "pixdim": (1.0, None)})
    for value in (tmp_path, float("nan"), {1, 2}):
        with pytest.raises(UserError, match=r"^pixdim: .* cannot be written as JSON; give numbers, texts or lists"):
            settings.check_settings({"filters": 8, "pixdim": value})


@pytest.mark.parametrize(
    ("value", "default"),
    [
        ("$settings.of(@weights, 'filters', 64)", 64),
        ("$settings.of(@weights, 'pixdim', [1.51, 1.51])", [1.51, 1.51]),
        ("$settings.of(@weights, 'pixdim', None)", None),
        ("$settings.of(@weights, 'normalisation', 'unit')", "unit"),
        ("$settings.of(@weights, 'gating', True)", True),
        ("$settings.of(@weights, 'filters', @default)", "$settings.of(@weights, 'filters', @default)"),
        ("$settings.of(@weights, 'a', 1) + of(2)", "$settings.of(@weights, 'a', 1) + of(2)"),
        ("$@filters", "$@filters"),
        ("text", "text"),
        (3, 3),
        (None, None),
    ],
)
def test_defaults_of_expressions(value: Any, default: Any) -> None:
    found = settings.default_of(value)
    assert found == default
    assert type(found) is type(default)


def test_departures_from_the_training(tmp_path: Path) -> None:
    weights = beside(tmp_path, {"settings": {"filters": 8, "pixdim": [2, 2], "roi_size": [48, 48], "gating": True}})
    config = {"filters": 16, "pixdim": (2.0, 2.0), "roi_size": "$settings.of(@weights, 'roi_size', [1, 1])", "depth": 4}
    assert settings.departures(weights, config) == [f"filters is 16, and was 8 in the training of {weights}"]
    assert settings.departures(tmp_path / "other.pt", config) == []


@pytest.mark.parametrize("count", [0, 2])
def test_a_training_has_one_handler_that_writes_weights(count: int, tmp_path: Path) -> None:
    handlers = [{"_target_": "StatsHandler"}, *[{"_target_": "common.handlers.AtomicCheckpoint"}] * count]
    with pytest.raises(UserError, match=f"train.json: has {count} AtomicCheckpoint handlers"):
        settings.writer(tmp_path / "train.json", handlers)
    assert settings.writer(tmp_path / "train.json", [*handlers[:1], {"_target_": "a.AtomicCheckpoint"}]) == 1
