"""Weights of a benchmark's run as a bundle's own: what is stored, what is told of them, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common.benchmarking import shipping
from common.benchmarking.model_card import Origin, figures, paragraph, with_weights
from common.benchmarking.runner import Benchmark
from common.benchmarking.shipping import check_shipped, half_precision, origin_of, ship
from common.benchmarking.suite import load_suite
from common.errors import UserError

BASELINES = Path(__file__).resolve().parents[3] / "bundles" / "baselines"
KEYS = {"pixdim": [4.0, 4.0], "roi_size": [48, 48], "filters": 2, "batch_size": 8, "num_classes": 4}
CONTENT: dict[str, Any] = {
    "title": "Made-up hearts",
    "protocol": "Two train.",
    "prepare": "",
    "pooled": True,
    "settings": {"tiny": {"steps": 3, "keys": KEYS, "about": "small."}},
    "rows": {"pce": {"title": "pCE", "bundle": "baselines", "supervision": "scribbles of 2 volumes"}},
}
FILES = ["models/model.json", "models/model.pt", "configs/metadata.json", "docs/README.md"]


@pytest.fixture(scope="module")
def made(few_cases: Callable[[Path, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """A suite with one run that is done."""
    folder = tmp_path_factory.mktemp("shipping")
    (folder / "hearts.json").write_text(json.dumps(CONTENT))
    suite = load_suite(str(folder / "hearts.json"))
    benchmark = Benchmark(suite, "tiny", few_cases(folder, 2), folder / "runs", device="cpu")
    assert benchmark.run(list(suite.rows.values()), [1]) == {("pce", 1): "finished"}
    return benchmark


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a bundle that may be changed."""
    shutil.copytree(BASELINES, tmp_path / "baselines", ignore=shutil.ignore_patterns("output", "data"))
    return tmp_path / "baselines"


def shipped(made: Benchmark, bundle: Path) -> list[str]:
    row = made.suite.rows["pce"]
    return ship(made.suite, "tiny", row, made.run_folder(row, 1), made.datalist, bundle, device="cpu")


def origin(made: Benchmark, bundle: Path, result: dict[str, Any] | None = None) -> Origin | None:
    return origin_of(bundle, {made.suite.name: made.suite}, [result or record(made)])


def checked(made: Benchmark, bundle: Path, result: dict[str, Any] | None = None) -> bool:
    found = origin(made, bundle, result)
    if found is not None:
        check_shipped(bundle, found)
    return found is not None


def record(made: Benchmark) -> dict[str, Any]:
    return dict(json.loads((made.run_folder(made.suite.rows["pce"], 1) / "result.json").read_text()))


def test_the_last_iterate_becomes_the_bundles_weights(made: Benchmark, bundle: Path) -> None:
    assert not checked(made, bundle), "these weights come from elsewhere"
    lines = shipped(made, bundle)
    assert [line.split(" (")[0] for line in lines] == [str(bundle / name) for name in FILES]
    assert "half precision" in lines[1]
    run = made.run_folder(made.suite.rows["pce"], 1)
    before, after = (torch.load(path / "model.pt", weights_only=True) for path in (run, bundle / "models"))
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert after[key].dtype == (torch.float16 if value.is_floating_point() else value.dtype), key
        assert torch.equal(after[key], value.to(after[key].dtype)), key
    settings = json.loads((bundle / "models" / "model.json").read_text())
    assert settings["settings"]["filters"] == 2
    assert settings["training"]["benchmark"] == {"suite": "hearts", "setting": "tiny", "method": "pce", "seed": 1}
    assert 0.999 <= settings["training"]["same_class"] <= 1.0
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    method, _, sentence = metadata["description"].partition(" The weights come from ")
    assert method.endswith("each a small overlay of one training.")
    steps = settings["training"]["iterations"]
    assert sentence == (
        f"{steps} steps on a CPU with scribbles of 2 volumes (Made-up hearts; pCE); "
        "eval_metrics are the last iterate's on 1 volume that it has not seen."
    )
    metrics = metadata["eval_metrics"]
    scores = record(made)["scores"]["last"]
    assert metrics["mean_dice"] == round(scores["dice"]["all"][0], 4)
    assert metrics["pooled_slice_dice"] == round(scores["pooled"][0], 4)
    readme = (bundle / "docs" / "README.md").read_text()
    assert "Made-up hearts; pCE; scribbles of 2 volumes; setting `tiny`;" in re.sub(r"\s+", " ", readme)
    assert f"| Dice | {scores['dice']['RV'][0]:.3f} ± 0.000 |" in readme
    seconds = record(made)["seconds"]["prediction"] / len(record(made)["scores"])
    assert f"Segmenting a volume took {seconds:.1f} seconds there, from file to file." in re.sub(r"\s+", " ", readme)
    assert max(map(len, readme.split(shipping.BEGIN)[1].split(shipping.END)[0].splitlines())) <= 120
    assert checked(made, bundle)
    assert origin_of(bundle, {}, []) is None, "of other suites nothing is known"
    assert sorted(path.name for path in (bundle / "models").iterdir()) == ["model.json", "model.pt"]


def test_other_figures_are_noticed(made: Benchmark, bundle: Path) -> None:
    shipped(made, bundle)
    other = record(made)
    with pytest.raises(UserError, match=r"model.json: comes from a run without a record"):
        checked(made, bundle, other | {"seed": 2})
    readme = bundle / "docs" / "README.md"
    readme.write_text(readme.read_text().replace("| Dice | ", "| Dice | 9"))
    with pytest.raises(UserError, match=r"README.md: its figures are not those .*--suite hearts --setting tiny"):
        checked(made, bundle, other)
    other["scores"]["last"]["dice"]["RV"] = [0.99, 0.0]
    with pytest.raises(UserError, match=r"metadata.json: eval_metrics is not that of"):
        checked(made, bundle, other)


@pytest.mark.parametrize(("share", "told"), [(1.0, 1.0), (0.9999999, 0.999999), (0.99951234, 0.999512)])
def test_all_voxels_are_told_only_where_all_are_the_same(
    made: Benchmark, bundle: Path, monkeypatch: pytest.MonkeyPatch, share: float, told: float
) -> None:
    monkeypatch.setattr(shipping, "_same", lambda *_: share)
    shipped(made, bundle)
    assert json.loads((bundle / "models" / "model.json").read_text())["training"]["same_class"] == told


def test_single_precision_stays_where_half_changes_classes(
    made: Benchmark, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_left_ventricle(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        [*_, last] = [key for key, value in state.items() if key.endswith("bias") and value.shape == (4,)]
        return state | {last: torch.tensor([0.0, 0.0, 0.0, 1e6])}

    monkeypatch.setattr(shipping, "half_precision", all_left_ventricle)
    monkeypatch.setattr(shipping, "LIMIT", 1000)
    assert shipped(made, bundle)[1].endswith("single precision; pack them with --weights_url)")
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(not value.is_floating_point() or value.dtype == torch.float32 for value in state.values())
    training = json.loads((bundle / "models" / "model.json").read_text())["training"]
    assert training["precision"] == "float32"
    assert "same_class" not in training
    assert checked(made, bundle)


def test_an_unfinished_run_or_a_readme_without_marks_changes_nothing(
    made: Benchmark, bundle: Path, tmp_path: Path
) -> None:
    before = {name: (bundle / name).read_bytes() for name in FILES}
    row = made.suite.rows["pce"]
    with pytest.raises(UserError, match=r"holds no finished run; finish it"):
        ship(made.suite, "tiny", row, tmp_path, made.datalist, bundle)
    assert {name: (bundle / name).read_bytes() for name in FILES} == before
    readme = bundle / "docs" / "README.md"
    readme.write_text(readme.read_text().replace(shipping.END, ""))
    with pytest.raises(UserError, match=r"README.md: needs the lines .* once each"):
        shipped(made, bundle)
    assert (bundle / "models" / "model.pt").read_bytes() == before["models/model.pt"]


def test_counters_stay_whole() -> None:
    state = half_precision({"w": torch.tensor([1.5]), "n": torch.tensor(70000)})
    assert (state["w"].dtype, state["n"].dtype, int(state["n"])) == (torch.float16, torch.int64, 70000)


def test_figures_of_pictures_are_their_mean_iou(made: Benchmark) -> None:
    result = record(made)
    result["scores"] = {
        "last": {
            "volumes": 3,
            "class_names": ["a", "b"],
            "mean_iou": 0.81234,
            "dice": {"b": [0.7, 0.1], "all": [0.7, 0.1]},
        }
    }
    assert figures(result) == {"mean_iou": 0.8123}
    text = paragraph(made_of(made, result))
    assert "mIoU 81.2 %." in text
    assert "HD95" not in text
    result["seconds"]["prediction"] = 6.0
    assert "Segmenting a volume took 2.0 seconds" in paragraph(made_of(made, result))


def test_a_page_gets_a_line_for_each_bundle_with_weights_of_a_run(made: Benchmark, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Weights\n\n<!-- weights:begin -->\nold\n<!-- weights:end -->\n")
    result = record(made)
    result["scores"]["last"] |= {"volumes": 2, "dice": {"all": [0.8, 0.1]}, "hd95": {"all": [5.25, 1.0]}}
    result["seconds"]["prediction"] = 2 * len(result["scores"]) * 1.5
    text = with_weights(page, [made_of(made, result)])
    cells = (
        "| `baselines` | scribbles of 2 volumes (Made-up hearts) | 2 volumes of others | 0.800 ± 0.100 | 5.2 ± 1.0 | "
    )
    assert f"{cells}1.5 s ({result['hardware']['cpu']}) |" in text
    assert "old" not in text
    result["scores"]["last"]["mean_iou"] = 0.5
    assert "| mIoU 50.0 % |" in with_weights(page, [made_of(made, result)])
    page.write_text("# Weights\n")
    with pytest.raises(UserError, match=r"page.md: needs the lines <!-- weights:begin -->"):
        with_weights(page, [])


def made_of(made: Benchmark, result: dict[str, Any]) -> Origin:
    return Origin("baselines", made.suite, made.suite.rows["pce"], result, {"precision": "float32"})


def test_a_share_short_of_all_voxels_is_not_told_as_all(made: Benchmark) -> None:
    training = {"precision": "float16", "same_class": 0.999996}
    said = re.sub(r"\s+", " ", paragraph(replace(made_of(made, record(made)), training=training)))
    assert "half precision, which leaves the class of 99.9996 % of the voxels" in said
