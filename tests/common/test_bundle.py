from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, create_workflow

from common import bundle
from common.errors import UserError

CONFIG = {
    "max_epochs": 5,
    "learning_rate": 0.1,
    "amp": False,
    "pixdim": [1.5, 1.5],
    "orientation": "stored",
    "named": "$'a' + 'b'",
    "limit": None,
    "train": {"trainer": {"max_epochs": "@max_epochs"}, "steps": [1, 2]},
}


def check(**overrides) -> dict:
    return bundle.check_overrides(ConfigParser(CONFIG), {key.replace("__", "#"): v for key, v in overrides.items()})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"amp": "true"}, {"amp": True}),
        ({"amp": "False"}, {"amp": False}),
        ({"amp": 1}, {"amp": True}),
        ({"max_epochs": 7.0}, {"max_epochs": 7}),
        ({"learning_rate": 1}, {"learning_rate": 1.0}),
        ({"pixdim": (2, 2)}, {"pixdim": [2, 2]}),
        ({"orientation": 7}, {"orientation": "7"}),
        ({"named": 3}, {"named": 3}),
        ({"limit": "anything"}, {"limit": "anything"}),
        ({"max_epochs": "@other"}, {"max_epochs": "@other"}),
        ({"train__trainer__max_epochs": "$1 + 1"}, {"train::trainer::max_epochs": "$1 + 1"}),
        ({"+pixdim": [3]}, {"+pixdim": [3]}),
    ],
)
def test_values_take_the_type_of_what_they_replace(given, expected):
    converted = check(**given)
    assert converted == expected
    assert [type(value) for value in converted.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_epoch": 1}, r"^--max_epoch: unknown key; did you mean --max_epochs\?$"),
        ({"xyz": 1}, "^--xyz: unknown key; see the table of keys"),
        ({"train__trainer__epochs": 1}, r"^--train#trainer#epochs: unknown key"),
        ({"amp": "maybe"}, "^--amp: must be true or false such as False, got 'maybe'$"),
        ({"max_epochs": 1.5}, "^--max_epochs: must be a whole number such as 5, got 1.5$"),
        ({"max_epochs": True}, "^--max_epochs: must be a whole number"),
        ({"learning_rate": "fast"}, "^--learning_rate: must be a number such as 0.1, got 'fast'$"),
        ({"pixdim": 3}, "^--pixdim: must be a list such as"),
        ({"orientation": [1]}, "^--orientation: must be a text"),
    ],
)
def test_unknown_keys_and_wrong_types(given, message):
    with pytest.raises(UserError, match=message):
        check(**given)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--max_epochs", "3"], {"max_epochs": 3}),
        (["run", "--learning-rate=1e-3"], {"learning_rate": 1e-3}),
        (["run", "--resume", "--seed", "-1"], {"resume": True, "seed": -1}),
        (["run", "--pixdim", "[1.5,2]", "--name", "[a,b]"], {"pixdim": [1.5, 2], "name": ["a", "b"]}),
        (["run", "--output_dir", "/a b/c"], {"output_dir": "/a b/c"}),
        (["run", "--class_names", "background,liver"], {"class_names": ["background", "liver"]}),
        (["run", "--pixdim", "null", "--names", "[/a/b,c]"], {"pixdim": None, "names": ["/a/b", "c"]}),
        (["verify_net_in_out", "--net_id", "x"], {}),
        ([], {}),
    ],
)
def test_command_line_is_read_as_fire_does(words, expected):
    assert bundle._run_arguments(["/x/monai/bundle/__main__.py", *words]) == expected
    assert bundle._run_arguments(["/x/pytest", *words]) == {}


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    content = {
        "imports": ["$import common.bundle as bundle"],
        "preset": "default",
        "presets": {"paper": {"rate": 0.5, "depth": 9}},
        "rate": 0.1,
        "depth": 1,
        "resume": True,
        "seen": {"rate": "@rate", "depth": "@depth", "resume": "$not @resume"},
        "run": ["$bundle.start()", "$@seen"],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    return str(path)


def run_as_command(config_file: str, monkeypatch: pytest.MonkeyPatch, *words: str, **overrides) -> dict:
    """Run a configuration as ``python -m monai.bundle run`` does: the words in sys.argv, their values as overrides."""
    monkeypatch.setattr(sys, "argv", ["/x/monai/bundle/__main__.py", "run", "--config_file", config_file, *words])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logging, "_loggerClass", logging.getLoggerClass())
    workflow = create_workflow(config_file=config_file, meta_file=None, logging_file=None, **overrides)
    return workflow.run()[1]


def test_strings_become_booleans_in_everything_that_refers_to_them(config_file, monkeypatch):
    seen = run_as_command(config_file, monkeypatch, "--resume", "false", resume="false")
    assert seen == {"rate": 0.1, "depth": 1, "resume": True}


def test_a_preset_sets_its_keys_but_the_command_line_wins(config_file, monkeypatch):
    seen = run_as_command(config_file, monkeypatch, "--preset", "paper", "--depth", "3", preset="paper", depth=3)
    assert seen == {"rate": 0.5, "depth": 3, "resume": False}


def test_an_args_file_counts_like_the_command_line(config_file, monkeypatch, tmp_path):
    given = tmp_path / "args.json"
    given.write_text(json.dumps({"preset": "paper", "depth": 3}))
    seen = run_as_command(config_file, monkeypatch, "--args_file", str(given), preset="paper", depth=3)
    assert seen == {"rate": 0.5, "depth": 3, "resume": False}
    given.write_text(json.dumps({"dept": 3}))
    with pytest.raises(RuntimeError) as caught:
        run_as_command(config_file, monkeypatch, "--args_file", str(given), dept=3)
    assert str(caught.value.__cause__) == "--dept: unknown key; did you mean --depth?"


@pytest.mark.parametrize(("overlay", "depth"), [({"preset": "paper", "depth": 3}, 3), ({"depth": 3}, 9)])
def test_an_overlay_with_a_preset_of_its_own_says_what_is_different(config_file, monkeypatch, tmp_path, overlay, depth):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(overlay))
    monkeypatch.setattr(
        sys, "argv", ["/x/monai/bundle/__main__.py", "run", "--config_file", f"['{config_file}','{path}']"]
    )
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    options = {} if "preset" in overlay else {"preset": "paper"}
    workflow = create_workflow(config_file=[config_file, str(path)], meta_file=None, logging_file=None, **options)
    assert workflow.run()[1]["depth"] == depth


def test_paths_are_texts_without_a_number_sign():
    config = ConfigParser({"output_dir": "$@root + '/output'", "cache_dir": ""})
    given = {"output_dir": 20261122, "cache_dir": None}
    assert bundle.check_overrides(config, given) == {"output_dir": "20261122", "cache_dir": None}
    assert bundle.check_overrides(config, {"output_dir": "$@a#b"}) == {"output_dir": "$@a#b"}
    with pytest.raises(UserError, match=r"^--output_dir: '/a/run #2' has a #, which"):
        bundle.check_overrides(config, {"output_dir": "/a/run #2"})


def test_paths_that_look_like_a_number_stay_as_they_were_typed():
    words = ["run", "--output_dir", "2024_01_05", "--datalist=1e3", "--cache_dir", "null", "--seed", "1_000"]
    expected = {"output_dir": "2024_01_05", "datalist": "1e3", "cache_dir": None, "seed": 1000}
    assert bundle._run_arguments(["/x/monai/bundle/__main__.py", *words]) == expected


def test_a_home_folder_that_no_shell_replaced_is_written_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = ConfigParser({"output_dir": "$@root + '/output'", "weights": "a", "orientation": "stored"})
    given = {"output_dir": "~/runs", "weights": "~nobody-of-this-name/a", "orientation": "~"}
    assert bundle.check_overrides(config, given) == given | {"output_dir": "/home/me/runs"}


@pytest.mark.parametrize(
    "given", ["background,left ventricle", "[background, left ventricle]", ["background", "left ventricle"]]
)
def test_names_of_classes_may_have_spaces(given):
    words = ["run", "--class_names", str(given) if isinstance(given, str) else repr(given)]
    arguments = bundle._run_arguments(["/x/monai/bundle/__main__.py", *words])
    config = ConfigParser({"class_names": "$naming.names_of(@datalist)"})
    assert bundle.check_overrides(config, arguments) == {"class_names": ["background", "left ventricle"]}
    assert bundle.check_overrides(config, {"class_names": "$['a']"}) == {"class_names": "$['a']"}


def test_mistakes_on_the_command_line_stop_the_run(config_file, monkeypatch):
    with pytest.raises(RuntimeError) as caught:
        run_as_command(config_file, monkeypatch, "--raet", "1", raet=1)
    assert isinstance(caught.value.__cause__, UserError)
    with pytest.raises(RuntimeError) as caught:
        run_as_command(config_file, monkeypatch, "--preset", "best", preset="best")
    assert str(caught.value.__cause__) == "preset: no preset 'best'; choose one of ['default', 'paper']"


@pytest.fixture
def inference_file(tmp_path: Path) -> str:
    content = {
        "imports": ["$import common.bundle as bundle", "$import common.model_settings as settings"],
        "weights": str(tmp_path / "model.pt"),
        "preset": "default",
        "presets": {"wide": {"filters": 32}},
        "filters": "$settings.of(@weights, 'filters', 64)",
        "pixdim": "$settings.of(@weights, 'pixdim', [1.5, 1.5])",
        "seen": {"filters": "@filters", "pixdim": "@pixdim"},
        "run": ["$bundle.start(weights=@weights)", "$@seen"],
    }
    path = tmp_path / "inference.json"
    path.write_text(json.dumps(content))
    (tmp_path / "model.json").write_text(json.dumps({"settings": {"filters": 8, "pixdim": [2.0, 2.0]}}))
    return str(path)


@pytest.mark.parametrize(
    ("options", "filters"),
    [({}, 8), ({"filters": 16}, 16), ({"preset": "wide"}, 32), ({"preset": "wide", "filters": 64}, 64)],
)
def test_weights_decide_where_neither_a_preset_nor_the_command_line_does(
    inference_file, monkeypatch, caplog, options, filters
):
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    assert run_as_command(inference_file, monkeypatch, *words, **options) == {"filters": filters, "pixdim": [2.0, 2.0]}
    warned = [record.getMessage() for record in caplog.records if record.name == "common.bundle"]
    departure = f"filters is {filters}, and was 8 in the training of "
    assert [line.startswith(departure) for line in warned] == ([True] if options else [])


def test_types_of_what_weights_decide_are_checked(inference_file, monkeypatch):
    with pytest.raises(RuntimeError) as caught:
        run_as_command(inference_file, monkeypatch, "--filters", "many", filters="many")
    assert str(caught.value.__cause__) == "--filters: must be a whole number such as 64, got 'many'"


def test_other_weights_have_other_settings(inference_file, monkeypatch, tmp_path):
    other = str(tmp_path / "other.pt")
    seen = run_as_command(inference_file, monkeypatch, "--weights", other, weights=other)
    assert seen == {"filters": 64, "pixdim": [1.5, 1.5]}


def test_started_by_a_program_only_the_preset_counts(config_file, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logging, "_loggerClass", logging.getLoggerClass())
    workflow = create_workflow(config_file=config_file, meta_file=None, logging_file=None, preset="paper")
    assert workflow.run()[1] == {"rate": 0.5, "depth": 9, "resume": False}


def test_root_in_the_checkout_and_unpacked(tmp_path, monkeypatch):
    assert Path(bundle.root("maag")) == Path(__file__).resolve().parents[2] / "bundles" / "maag"
    # a packed bundle holds this module as <bundle>/<package>/bundle.py
    monkeypatch.setattr(bundle, "__file__", str(tmp_path / "maag" / "maag_0_1_0" / "bundle.py"))
    assert Path(bundle.root("maag")) == (tmp_path / "maag").resolve()


def test_the_root_of_a_copy_is_the_copy(tmp_path):
    """Else it would train and score with the weights of the bundle that it was copied from, and publish there."""
    content = {"imports": ["$import common.bundle as bundle"], "run": ["$bundle.root('maag')"]}
    for folder in ("mine/configs", "others", "bare/configs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "train.json").write_text(json.dumps(content))
    (tmp_path / "mine" / "configs" / "metadata.json").write_text("{}")
    (tmp_path / "others" / "metadata.json").write_text("{}")
    shipped = bundle.root("maag")
    for folder, root in (("mine/configs", str(tmp_path / "mine")), ("others", shipped), ("bare/configs", shipped)):
        files = [str(tmp_path / folder / "train.json"), str(tmp_path / "others" / "train.json")]
        workflow = create_workflow(config_file=files, meta_file=None, logging_file=None)
        assert workflow.run() == [root], folder


def test_choose():
    assert bundle.choose("pad_label", "background", ignore=4, background=0) == 0
    with pytest.raises(UserError, match=r"^--pad_label: must be one of \['ignore', 'background'\], got 'none'$"):
        bundle.choose("pad_label", "none", ignore=4, background=0)


def test_start_outside_a_configuration(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(RuntimeError, match="of a configuration"):
        bundle.start()
