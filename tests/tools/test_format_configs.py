"""The layout of the bundle configs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import UserError
from common.json_layout import format_text
from tools.format_configs import bundle_configs, main


def test_short_values_share_a_line_and_order_and_spelling_stay() -> None:
    text = '{"z": 1e-4, "a": [16,\n32], "network": {"_target_": "UNet", "act": null, "on": true}, "none": [], "é": "ü"}'
    assert format_text(text) == (
        "{\n"
        '    "z": 1e-4,\n'
        '    "a": [16, 32],\n'
        '    "network": {"_target_": "UNet", "act": null, "on": true},\n'
        '    "none": [],\n'
        '    "é": "ü"\n'
        "}\n"
    )


@pytest.mark.parametrize(("letters", "one_line"), [(96, True), (97, False)])
def test_a_line_has_at_most_110_columns_with_its_comma(letters: int, one_line: bool) -> None:
    # indent 4 + `"k": ` 5 + `["` 2 + letters + `"]` 2 + `,` 1 = letters + 14, so 96 letters fit and 97 do not.
    word = "x" * letters
    text = format_text(json.dumps({"k": [word], "l": 0}))
    assert (f'    "k": ["{word}"],\n' in text) is one_line
    assert (f'    "k": [\n        "{word}"\n    ],\n' in text) is not one_line


def test_what_does_not_fit_is_opened_level_by_level() -> None:
    transform = {"_target_": "LoadImaged", "keys": ["image", "label"]}
    text = format_text(json.dumps({"transforms": [transform, transform, transform]}))
    line = '        {"_target_": "LoadImaged", "keys": ["image", "label"]}'
    assert text == '{\n    "transforms": [\n' + ",\n".join([line] * 3) + "\n    ]\n}\n"


def test_formatting_twice_changes_nothing_and_the_content_stays() -> None:
    document = {f"key{i}": [{"a": list(range(i * 7)), "b": {"c": "x" * i * 9, "d": [[0.5], {}]}}] for i in range(12)}
    once = format_text(json.dumps(document))
    assert format_text(once) == once
    assert json.loads(once) == document


def test_a_key_that_occurs_twice_is_an_error_with_file_and_key() -> None:
    with pytest.raises(UserError, match=r'train\.json: key "epochs" occurs twice'):
        format_text('{"a": {"epochs": 1, "epochs": 2}}', "train.json")


def test_what_is_not_json_is_an_error_with_its_place() -> None:
    with pytest.raises(UserError, match=r"train\.json:2:1: not JSON"):
        format_text('{"a": 1,\n}', "train.json")
    with pytest.raises(UserError, match="NaN is not JSON"):
        format_text('{"a": NaN}', "train.json")


@pytest.mark.parametrize("before", ['{"a":1}', '{\r\n    "a": 1\r\n}\r\n', '{\n    "a": 1\n}'])
def test_check_names_the_file_and_leaves_it_alone_and_formatting_mends_it(tmp_path: Path, before: str) -> None:
    config = tmp_path / "train.json"
    config.write_bytes(before.encode())
    with pytest.raises(UserError, match=r"not laid out: .*train\.json"):
        main(check=str(config))  # `format_configs --check train.json` arrives like this
    assert config.read_bytes() == before.encode()
    main(str(config))
    assert config.read_bytes() == b'{\n    "a": 1\n}\n'
    main(str(config), check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["train.json"]


def test_a_file_that_is_missing_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.json: cannot be read: No such file"):
        main(str(tmp_path / "gone.json"))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"binary\.json: is not UTF-8"):
        main(str(tmp_path / "binary.json"))


def test_every_config_of_every_bundle_is_found_but_generated_ones(tmp_path: Path) -> None:
    for name in ("maag/configs/train.json", "maag/configs/data/mscmr.json", "maag/configs/monailabel_train.json"):
        path = tmp_path / "bundles" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    names = [path.relative_to(tmp_path / "bundles").as_posix() for path in bundle_configs(tmp_path)]
    assert names == ["maag/configs/data/mscmr.json", "maag/configs/train.json"]
