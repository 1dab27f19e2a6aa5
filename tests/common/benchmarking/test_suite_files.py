"""Suites: those of the project hold together, and faulty ones are refused with a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.benchmarking.run_config import resolved_config
from common.benchmarking.suite import known_suites, load_suite
from common.errors import UserError

TINY: dict[str, Any] = {
    "title": "T",
    "protocol": "P.",
    "prepare": "prepare it into {output}",
    "settings": {"small": {"steps": 5, "keys": {"filters": 2, "amp": False}}, "large": {"steps": 9}},
    "variants": {"thin": {"form": "strokes", "width": 1}},
    "rows": {
        "a": {"title": "A", "bundle": "dmpls", "supervision": "s"},
        "b": {
            "title": "B",
            "bundle": "dmpls",
            "supervision": "s",
            "keys": {"filters": 4},
            "group": "more",
            "variant": "thin",
            "settings": {"small": {"steps": 7, "keys": {"amp": True}}},
        },
    },
}


def written(folder: Path, **changes: Any) -> str:
    path = folder / "tiny.json"
    path.write_text(json.dumps(TINY | changes))
    return str(path)


def one_row(**changes: Any) -> dict[str, Any]:
    return {"rows": {"a": TINY["rows"]["a"] | changes}}


def test_the_suites_have_the_rows_that_the_papers_have() -> None:
    assert known_suites() == ["acdc", "acdc_half", "les_av", "mnist", "mscmr"]
    for name in ("acdc", "acdc_half"):
        rows = {"pce", "wpce", "gated_crf", "dense", "dmpls", "attenscribble", "cyclemix", "coarse_labels"}
        assert rows <= set(load_suite(name).rows)
    maag = load_suite("acdc_half").rows["maag"].paper
    assert (maag["pooled"], maag["score"]) == (0.843, 0.816)
    robust = load_suite("acdc").chosen(["robustness"])
    assert {row.variant for row in robust} == {"thin", "thick", "short", None}
    shares = {row.keys.get("labelled_share", 1.0) for row in robust if row.variant is None}
    assert shares == {0.05, 0.1, 0.25, 0.5, 1.0}
    assert {load_suite("acdc").steps(row, "compact") for row in robust} == {2500}, "they compare with each other"
    assert {row.bundle for row in robust} == {"baselines", "dmpls"}


@pytest.mark.parametrize("name", known_suites())
def test_every_row_at_every_setting_is_a_configuration(name: str) -> None:
    """Misspelt keys, presets and overlays show here; as all rows of a bundle share most, one of each shape is built."""
    suite = load_suite(name)
    built = set()
    for row in suite.rows.values():
        for setting in suite.settings:
            shape = (row.bundle, row.overlays, tuple(suite.keys(row, setting)))
            if shape in built:
                continue
            built.add(shape)
            config = resolved_config(
                row.bundle, row.overlays, suite.keys(row, setting), steps=suite.steps(row, setting), seed=3
            )
            assert config["seed"] == 3
            assert config["preset"] == "default"
            assert config["data_device"] == "$@device"
            assert config["max_epochs"] == f"$-(-{suite.steps(row, setting)} // len(@train#dataloader))"
            assert config["train"]["handlers"][-1]["_target_"].endswith("TimeLimit")


def test_keys_of_a_row_win_over_those_of_a_setting_and_presets_lose(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path))
    first, second = suite.rows.values()
    assert (suite.name, suite.section, suite.score, suite.surface) == ("tiny", "validation", "dice", True)
    assert suite.keys(first, "small") == {"filters": 2, "amp": False}
    assert suite.keys(second, "small") == {"filters": 4, "amp": True}
    assert (suite.steps(first, "small"), suite.steps(second, "small"), suite.steps(second, "large")) == (5, 7, 9)
    config = resolved_config("dmpls", (), {"preset": "compact", "batch_size": 3}, steps=10, seed=1)
    assert (config["batch_size"], config["pixdim"], config["preset"]) == (3, [2.0, 2.0], "default")


def test_the_definition_is_what_decides_the_result(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path))
    digests = {suite.digest(row, setting) for row in suite.rows.values() for setting in suite.settings}
    assert len(digests) == 4
    changed = json.loads(json.dumps(TINY["rows"]))
    changed["b"]["title"] = "another name"
    again = load_suite(written(tmp_path, rows=changed, title="U", protocol="Q"))
    assert again.digest(again.rows["b"], "small") == suite.digest(suite.rows["b"], "small")
    other = load_suite(written(tmp_path, variants={"thin": {"form": "strokes", "width": 2}}))
    assert other.digest(other.rows["a"], "small") == suite.digest(suite.rows["a"], "small")
    assert other.digest(other.rows["b"], "small") != suite.digest(suite.rows["b"], "small")


def test_choosing_rows(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path))
    assert [row.name for row in suite.chosen([])] == ["a"]
    assert [row.name for row in suite.chosen(["b", "main"])] == ["a", "b"]
    assert [row.name for row in suite.chosen(["more"])] == ["b"]
    with pytest.raises(UserError, match=r"--methods: suite tiny has no row or group 'c'; it has a, b, main, more"):
        suite.chosen(["a", "c"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"post_processing": {"keep": 1}}, "unknown key 'keep'; the known ones are keep_bodies, keep_components"),
        (
            {"post_processing": {"keep_bodies": 0}},
            "keep_bodies is 0; give a whole number from 1 on, or leave the key out",
        ),
        ({"post_processing": {"keep_components": True}}, "keep_components is True"),
        ({"score": "f1"}, "score is 'f1'; choose dice or mean_iou"),
        ({"settings": {"small": {"steps": 0}}}, "row b has the setting|steps is 0"),
        ({"rows": {"a": {"title": "A", "bundle": "dmpls"}}}, "is no suite .KeyError: 'supervision'."),
        ({"variants": {}}, "row b has the variant 'thin', which is not there"),
        ({"rows": []}, "is no suite"),
        ({"section": "testing"}, "section is 'testing'; choose validation or test"),
        ({"pooled": "false"}, "pooled is 'false'; give true or false"),
        ({"surface": 0}, "surface is 0; give true or false"),
        ({"settings": {}}, "settings is empty; give one or more, each with its steps"),
        ({"settings": TINY["settings"] | {"large": {}}}, "setting large: steps is None; give a whole number from 1 on"),
        ({"settings": TINY["settings"] | {"large": {"steps": 1.5}}}, "setting large: steps is 1.5"),
        ({"settings": TINY["settings"] | {"large": {"steps": 2, "step": 3}}}, "setting large: unknown key 'step'"),
        ({"settings": TINY["settings"] | {"large": {"steps": 2, "keys": []}}}, "setting large: keys is .*; give"),
        ({"settings": TINY["settings"] | {"large": 4}}, "is no suite"),
        (one_row(settings={"small": {"steps": "7"}}), "row a, setting small: steps is '7'; give a whole number"),
        (one_row(settings={"small": {"about": "a"}}), "row a, setting small: unknown key 'about'"),
        (one_row(settings={"small": 7}), "is no suite|row a, setting small"),
        (one_row(keys=["filters"]), "is no suite"),
    ],
)
def test_faulty_suites(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load_suite(written(tmp_path, **changes))


def test_unknown_suites_and_bundles(tmp_path: Path) -> None:
    for name in ("acd", "../acdc", str(tmp_path / "none.json")):
        with pytest.raises(
            UserError, match=r"--suite .*: choose acdc, acdc_half, les_av, mnist, mscmr, or name a JSON"
        ):
            load_suite(name)
    with pytest.raises(UserError, match=r"nobody: is no bundle"):
        resolved_config("nobody", (), {}, steps=1, seed=1)
    with pytest.raises(UserError, match=r"--filtres: unknown key; did you mean --filters"):
        resolved_config("dmpls", (), {"filtres": 2}, steps=1, seed=1)
    with pytest.raises(UserError, match=r"none.json: no such configuration"):
        resolved_config("dmpls", ("none.json",), {}, steps=1, seed=1)
