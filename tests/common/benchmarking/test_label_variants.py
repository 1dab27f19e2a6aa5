"""Strokes that are drawn for a row of a benchmark, once for all runs that need them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.benchmarking import label_variants
from common.benchmarking.label_variants import variant_datalist
from common.data.datalist import load_datalist
from common.errors import UserError

SHORT = {"form": "strokes", "length": 0.3}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def datalist(few_cases: Callable[[Path, int], Path], tmp_path: Path) -> Path:
    return few_cases(tmp_path / "data", 2)


def test_labels_are_drawn_once(datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "labels" / "short"
    made = variant_datalist(datalist, folder, SHORT)
    before, after = (load_datalist(path, "training") for path in (datalist, made))
    assert [item["image"] for item in after] == [item["image"] for item in before]
    assert all(Path(item["label"]).is_relative_to(folder) and Path(item["label"]).is_file() for item in after)
    assert load_datalist(made, "validation") == load_datalist(datalist, "validation")

    def never(*args, **kwargs):
        raise AssertionError("drawn a second time")

    monkeypatch.setattr(label_variants, "annotate_cases", never)
    assert variant_datalist(datalist, folder, SHORT) == made
    with pytest.raises(AssertionError, match="a second time"):
        variant_datalist(datalist, folder, {**SHORT, "length": 0.6})


def test_other_options_replace_what_was_drawn(datalist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labels" / "strokes"
    short = contents(variant_datalist(datalist, folder, SHORT).parent)
    (folder / "left_over.txt").write_text("of the first")
    long = contents(variant_datalist(datalist, folder, {**SHORT, "length": 1.0}).parent)
    assert short.keys() == long.keys()
    assert short["drawn.json"] != long["drawn.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["strokes"], "nothing temporary is left"


def test_another_split_is_drawn_anew(datalist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labels" / "short"
    variant_datalist(datalist, folder, SHORT)
    content = json.loads(datalist.read_text())
    gone = content["training"].pop()["case"]
    datalist.write_text(json.dumps(content))
    drawn = load_datalist(variant_datalist(datalist, folder, SHORT), "training")
    assert len(drawn) == len(content["training"])
    assert gone not in {item["case"] for item in drawn}


def test_runs_side_by_side_may_draw_the_same(datalist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labels" / "short"
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: variant_datalist(datalist, folder, SHORT), range(4)))
    assert set(made) == {folder / "datalist.json"}
    assert contents(folder) == contents(variant_datalist(datalist, tmp_path / "alone" / "short", SHORT).parent)
    assert [path.name for path in folder.parent.iterdir()] == ["short"]


def test_a_drawing_that_fails_leaves_what_was_there(datalist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labels" / "short"
    variant_datalist(datalist, folder, SHORT)
    before = contents(folder)
    content = json.loads(datalist.read_text())
    content["training"][-1].pop("dense_label")
    datalist.write_text(json.dumps(content))
    with pytest.raises(UserError, match="mask"):
        variant_datalist(datalist, folder, {**SHORT, "length": 0.6})
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["short"]
