"""Keys that stand twice, keys that nothing refers to, commands that do not exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import UserError
from common.packing.config_keys import check_keys, config_files, dead_keys, files_with_code, stack_of, tracking_file
from common.packing.readme_commands import check_readme, options_of_programs
from common.packing.strict_json import parse_document, read_document

TRAIN = {
    "imports": ["$import math"],
    "bundle_root": ".",
    "size": 4,
    "unused_list": [1],
    "names": {"a": 1},
    "net": {"_target_": "torch.nn.Linear", "in_features": "@size", "out_features": "$@names['a']"},
    "train": {"epochs": 3, "spare": 5, "trainer": {"_target_": "T", "net": "@net", "n": "@train#epochs"}},
    "run": ["$@train#trainer.run()"],
}


@pytest.fixture
def bundle(tmp_path) -> Path:
    folder = tmp_path / "toy"
    (folder / "configs").mkdir(parents=True)
    (folder / "docs").mkdir()
    write(folder, "train", {key: value for key, value in TRAIN.items() if key != "unused_list"})
    (folder / "configs" / "metadata.json").write_text("{}")
    return folder


def write(bundle: Path, name: str, config: dict) -> Path:
    path = bundle / "configs" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config))
    return path


def test_a_key_twice_is_named(tmp_path):
    with pytest.raises(UserError, match=r'x\.json: key "b" occurs twice'):
        parse_document('{"a": {"b": 1, "c": 2, "b": 3}}', "x.json")
    for text, message in (("[1]", "holds no dict"), ("{", "is no JSON")):
        with pytest.raises(UserError, match=message):
            parse_document(text, "x.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_document(tmp_path / "absent.json")


def test_dead_keys_are_found_at_the_top_and_in_groups(bundle):
    path = write(bundle, "train", TRAIN)
    assert dead_keys(path) == ["unused_list", "train#spare"]
    with pytest.raises(UserError, match="nothing refers to 'unused_list'"):
        check_keys(bundle)


def test_an_overlay_is_looked_at_with_what_it_lies_over(bundle):
    small = write(bundle, "small", {"size": 2, "train#epochs": 1})
    assert stack_of(small) == [bundle / "configs" / "train.json", small]
    assert dead_keys(small) == []
    assert dead_keys(write(bundle, "small", {"sice": 2, "train#epoch": 1})) == ["sice", "train#epoch"]
    write(bundle, "evaluate", {"validate": 1})
    path = write(bundle, "multi_gpu_evaluate", {})
    assert [file.stem for file in stack_of(path)] == ["train", "evaluate", "multi_gpu_evaluate"]


def test_what_monai_asks_for_is_alive(bundle):
    assert dead_keys(write(bundle, "evaluate", {"evaluator": 1, "preprocessing": 2, "train#dataset": 3})) == []
    with pytest.raises(UserError, match=r"evaluate\.json: sets a key below 'validate'"):
        dead_keys(write(bundle, "evaluate", {"validate#dataset": 3}))


def test_what_servers_leave_is_no_configuration(bundle):
    write(bundle, "monailabel_train", {"x": 1})
    assert [path.name for path in config_files(bundle)] == ["train.json"]


def test_settings_of_tracking_are_no_configuration_but_name_code(bundle):
    assert tracking_file(bundle) is None
    path = write(bundle, "tracking", {"handlers_id": {}, "configs": {"interval": 3}})
    assert [file.name for file in config_files(bundle)] == ["train.json"]
    assert tracking_file(bundle) == path
    assert [file.name for file in files_with_code(bundle)] == ["train.json", "tracking.json"]
    readme(bundle, f"```bash\n{RUN} --tracking configs/tracking.json --run_name a --interval 4\n```")
    check_readme(bundle, {})
    readme(bundle, f"```bash\n{RUN} --interval 4\n```")
    with pytest.raises(UserError, match=r"names --interval, which train\.json does not have"):
        check_readme(bundle, {})


def readme(bundle: Path, text: str) -> None:
    (bundle / "docs" / "README.md").write_text(text)


RUN = "python -m monai.bundle run --config_file bundles/toy/configs/train.json"


@pytest.mark.parametrize(
    "command",
    [
        f"{RUN} --size 3 \\\n    --train#epochs 4 --tracking mlflow --run_name x",
        "torchrun --nproc_per_node=2 -m monai.bundle run --config_file \"['configs/train.json']\" --size=3",
        "python -m monai.bundle verify_net_in_out --net_id net --config_file configs/train.json --any 5 --size 2",
        "python -m tools pack toy --output build  # and --more",
        "ls --all",
    ],
)
def test_commands_that_exist(bundle, command):
    readme(bundle, f"Set `--size 3`, or `--key value`.\n\n```bash\n{command}\n```\n")
    check_readme(bundle, {"pack": {"output"}})


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{RUN} --sise 3", "names --sise, which train.json does not have"),
        (f"{RUN} --run_name x", "names --run_name"),
        (f"{RUN} --train#epoch 4", "names --train#epoch,"),
        ("python -m monai.bundle run --config_file configs/trian.json", "names configs/trian.json"),
        ("python -m monai.bundle walk", "calls monai.bundle 'walk'"),
        ("python -m tools pak", "calls the program 'pak'"),
        ("python -m tools pack --out build", "names --out, which the program pack does not have"),
    ],
)
def test_commands_that_do_not_exist(bundle, command, message):
    readme(bundle, f"```bash\n{command}\n```\n")
    with pytest.raises(UserError, match=message):
        check_readme(bundle, {"pack": {"output"}})


def test_options_in_the_text(bundle):
    readme(bundle, "| a | the bundle `other`: `--its_key 1` |\n| b | `--size 1` |\n")
    check_readme(bundle, {})
    readme(bundle, "| b | `--size 1 --its_key 1` |\n")
    with pytest.raises(UserError, match="names --its_key"):
        check_readme(bundle, {})


def test_options_are_read_from_the_programs(repo_root):
    programs = options_of_programs(repo_root / "tools")
    assert programs["pack"] == {"bundle", "version", "output", "weights_url"}
    assert "__main__" not in programs
