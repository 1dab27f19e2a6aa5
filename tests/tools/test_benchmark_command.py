"""The benchmark on made-up hearts: real runs that are skipped, cut off, gone on with and put into tables."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.benchmarking import runner
from common.benchmarking.data_pack import pack_data
from common.benchmarking.runner import Benchmark
from common.benchmarking.suite import load_suite
from common.benchmarking.tables import BEGIN, END
from common.data.datalist import load_datalist
from common.errors import UserError
from tools.benchmark import main

KEYS = {"pixdim": [4.0, 4.0], "roi_size": [48, 48], "filters": 2, "batch_size": 8, "num_classes": 4}
SUITE: dict[str, Any] = {
    "title": "Made-up hearts",
    "protocol": "A few train.",
    "prepare": "make the phantom into {output}",
    "post_processing": {"keep_bodies": 1},
    "settings": {"tiny": {"steps": 3, "keys": KEYS}, "long": {"steps": 20000, "keys": KEYS}},
    "variants": {"short": {"form": "strokes", "length": 0.3}},
    "rows": {
        "pce": {"title": "pCE", "bundle": "baselines", "overlays": ["methods/pce.json"], "supervision": "scribbles"},
        "drawn": {
            "title": "pCE, short strokes",
            "bundle": "baselines",
            "supervision": "short strokes",
            "variant": "short",
            "group": "robustness",
        },
        "none": {"title": "X", "bundle": "baselines", "supervision": "nothing", "unavailable": "there is none"},
    },
}


@pytest.fixture(scope="module")
def place(few_cases: Callable[[Path, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite file, and its data: four volumes to train on and one to score."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "hearts.json").write_text(json.dumps(SUITE))
    few_cases(folder / "data" / "hearts", 4)
    return folder


def benchmark(place: Path, **options: Any) -> None:
    folders = {"data": str(place / "data"), "output": str(place / "runs"), "results": str(place / "results")}
    main(**{"suite": str(place / "hearts.json"), "device": "cpu", **folders, **options})


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    """The folder of a run that is done."""
    benchmark(place)
    return place / "runs" / "hearts" / "tiny" / "pce" / "seed1"


def test_a_run_keeps_all_that_it_was(finished: Path) -> None:
    config = json.loads((finished / "config.json").read_text())
    assert (config["filters"], config["seed"], config["pixdim"]) == (2, 1, [4.0, 4.0])
    for name in ("train.log", "checkpoint.pt", "model.pt", "last/metrics.csv", "last/metrics.json"):
        assert (finished / name).is_file(), name
    assert len(list((finished / "last" / "predictions").glob("*_seg.nii.gz"))) == 1
    state = json.loads((finished / "run.json").read_text())
    assert (state["stage"], state["about"]["method"], state["about"]["seed"]) == ("finished", "pce", 1)
    assert set(state["seconds"]) == {"training", "prediction", "scoring"}
    assert state["notes"]["hardware"]["versions"]["torch"] == torch.__version__
    result = json.loads((finished / "result.json").read_text())
    assert result["iterations"] >= 3
    assert (result["settings"]["filters"], result["settings"]["pixdim"]) == (2, [4.0, 4.0])
    assert result["scores"]["last"]["dice"]["all"][0] == pytest.approx(
        json.loads((finished / "last" / "metrics.json").read_text())["summary"]["all"]["dice"]["mean"], abs=1e-5
    )
    assert list(result["scores"]) == ["last", "last_post_processed", "best"]
    assert json.loads((finished / "last_post_processed" / "metrics.json").read_text())["meta"]["keep_bodies"] == 1
    assert "train_loss" in result["curves"]
    assert str(finished) not in (finished / "result.json").read_text()


def test_what_is_finished_is_skipped(place: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    benchmark(place, methods="pce,none")
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["pce, seed 1: finished", "none, seed 1: unavailable: there is none"]
    assert lines[-1].startswith(f"{place / 'runs' / 'hearts' / 'tiny'}: 1 of 2 runs finished")


def test_a_run_of_another_definition_is_refused(place: Path, finished: Path, tmp_path: Path) -> None:
    changed = SUITE | {"settings": {"tiny": {"steps": 4, "keys": KEYS}}}
    (tmp_path / "hearts.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"seed1: holds a run of another definition; remove it"):
        benchmark(place, suite=str(tmp_path / "hearts.json"))


def test_a_run_on_another_datalist_is_refused_and_one_begun_before_it_was_kept_is_not(
    place: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place / "older" / "hearts" / "tiny" / "pce" / "seed1"
    shutil.copytree(finished, run)
    shutil.copytree(place / "data", place / "other")
    datalist = place / "other" / "hearts" / "datalist.json"
    content = json.loads(datalist.read_text())
    content["training"].pop()
    datalist.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"seed1: holds a run of another datalist; remove it, or choose another --out"):
        benchmark(place, output=str(place / "older"), data=str(place / "other"))
    state = json.loads((run / "run.json").read_text())
    del state["about"]["datalist"]
    (run / "run.json").write_text(json.dumps(state))
    benchmark(place, output=str(place / "older"), data=str(place / "other"))
    assert "pce, seed 1: finished" in capsys.readouterr().out


def test_what_was_cut_off_after_training_is_predicted_and_scored(place: Path, finished: Path) -> None:
    expected = json.loads((finished / "result.json").read_text())["scores"]
    copy = place / "copied" / "hearts" / "tiny" / "pce" / "seed1"
    shutil.copytree(finished, copy)
    state = json.loads((copy / "run.json").read_text()) | {"stage": "prediction"}
    state["notes"]["hardware"]["cpu"] = "that of the training"
    (copy / "run.json").write_text(json.dumps(state))
    (copy / "result.json").unlink()
    shutil.rmtree(copy / "last")
    benchmark(place, output=str(place / "copied"))
    made = json.loads((copy / "result.json").read_text())
    assert made["scores"] == expected
    assert made["hardware"]["cpu"] == "that of the training"


def test_a_finished_run_gets_the_scores_that_its_suite_has_since(place: Path, finished: Path) -> None:
    expected = json.loads((finished / "result.json").read_text())
    copy = place / "before" / "hearts" / "tiny" / "pce" / "seed1"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "last_post_processed")
    old = json.loads((finished / "result.json").read_text())
    del old["scores"]["last_post_processed"]
    (copy / "result.json").write_text(json.dumps(old))
    state = json.loads((copy / "run.json").read_text())
    state["notes"]["hardware"]["cpu"] = "that of the training"
    (copy / "run.json").write_text(json.dumps(state))
    maps = {path: path.stat().st_mtime_ns for path in (copy / "last" / "predictions").iterdir()}
    benchmark(place, output=str(place / "before"), budget=0.1)
    assert json.loads((copy / "result.json").read_text())["scores"] == old["scores"]
    benchmark(place, output=str(place / "before"))
    made = json.loads((copy / "result.json").read_text())
    assert made["scores"] == expected["scores"]
    assert made["hardware"]["cpu"] == "that of the training"
    assert {path: path.stat().st_mtime_ns for path in (copy / "last" / "predictions").iterdir()} == maps


def test_too_little_time_begins_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark(place, output=str(place / "late"), budget=0.1)
    assert "pce, seed 1: not begun" in capsys.readouterr().out
    assert not (place / "late").exists()


def test_tables_are_made_from_the_runs_and_checked(place: Path, finished: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Figures\n\n{BEGIN}\n{END}\n")
    with pytest.raises(UserError, match=r"page.md: its tables are not those of .*results"):
        benchmark(place, check=True, table=str(page))
    benchmark(place, report=True, table=str(page))
    record = place / "results" / "hearts" / "pce_tiny_seed1.json"
    assert record.read_text() == (finished / "result.json").read_text()
    mean = json.loads(record.read_text())["scores"]["last"]["dice"]["all"][0]
    assert "| pCE | scribbles | last iterate | 1 | " in page.read_text()
    assert f"{mean:.3f} ± 0.000" in page.read_text()
    assert "| X | nothing | no run: there is none |" in page.read_text()
    benchmark(place, check=True, table=str(page))
    html = (place / "runs" / "hearts" / "tiny" / "report.html").read_text()
    assert "no run: there is none" in html
    assert f"{mean:.3f} ± 0.000" in html
    page.write_text(page.read_text().replace(f"{mean:.3f} ±", "0.999 ±"))
    with pytest.raises(UserError, match=r"write them by `benchmark --report`"):
        benchmark(place, check=True, table=str(page))


@pytest.mark.slow
def test_a_run_that_is_cut_off_ends_in_time_and_goes_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ends by itself at the end of an epoch, and with fewer steps to do it comes to the weights of an unbroken run."""
    output = place / "cut"
    benchmark(place, output=str(output), setting="long", budget=0.75)
    assert "pce, seed 1: cut off in training after epoch" in capsys.readouterr().out
    run = output / "hearts" / "long" / "pce" / "seed1"
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    assert saved["epoch"] > 0
    assert not (run / "model.pt").exists()
    assert "the time does not do for another one" in (run / "train.log").read_text()
    # the same run to be shorter: two epochs more than it has
    length = saved["iteration"] // saved["epoch"]
    config = json.loads((run / "config.json").read_text()) | {
        "max_epochs": saved["epoch"] + 2,
        "schedule_epochs": 20000,
    }
    (run / "config.json").write_text(json.dumps(config))
    benchmark(place, output=str(output), setting="long")
    assert "resuming after epoch" in (run / "train.log").read_text()
    assert json.loads((run / "result.json").read_text())["iterations"] == (saved["epoch"] + 2) * length


def test_a_short_budget_keeps_no_more_than_half_of_it_for_the_end(
    few_cases: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    """One volume is thought to take 1.5 seconds to predict and score, as long as no run has shown how long it takes."""
    datalist = few_cases(tmp_path / "data", 1)
    suite = load_suite("acdc")
    for seconds, kept in ((2.0, 1.0), (60.0, 1.5), (None, 1.5)):
        deadline = None if seconds is None else time.time() + seconds
        benchmark = Benchmark(suite, "compact", datalist, tmp_path / "runs", deadline=deadline)
        assert benchmark._reserve() == pytest.approx(kept, abs=0.1)


def test_scoring_waits_for_the_next_attempt_and_no_longer(
    place: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thought to take as long as predicting did, 300 seconds, or 1.2 times what another run needed, 24 seconds."""
    monkeypatch.setattr(runner, "predict", lambda *args, **options: True)
    suite = load_suite(str(place / "hearts.json"))
    datalist, row = place / "data" / "hearts" / "datalist.json", suite.rows["pce"]

    def attempt(seconds: float) -> str:
        benchmark = Benchmark(suite, "tiny", datalist, tmp_path, device="cpu", deadline=time.time() + seconds)
        return benchmark.run([row], [1])["pce", 1]

    run = shutil.copytree(finished, tmp_path / "hearts" / "tiny" / "pce" / "seed1")
    record = json.loads((run / "result.json").read_text())
    (run / "result.json").unlink()
    state = json.loads((run / "run.json").read_text()) | {"stage": "prediction", "seconds": {"prediction": 300.0}}
    (run / "run.json").write_text(json.dumps(state))
    assert attempt(60.0) == "cut off before scoring"
    assert attempt(60.0) == "finished"
    (run / "run.json").write_text(json.dumps(state))
    other = run.with_name("seed2")
    run.rename(other)
    shutil.copytree(other, run)
    (other / "result.json").write_text(json.dumps(record | {"seconds": {"scoring": 20.0}}))
    (run / "result.json").unlink()
    assert attempt(60.0) == "finished"


@pytest.mark.slow
def test_packed_data_and_drawn_labels(place: Path) -> None:
    pack_data({"hearts": place / "data" / "hearts" / "datalist.json"}, place / "packed")
    output = place / "unpacked"
    benchmark(place, data=str(place / "packed"), output=str(output), methods="drawn")
    run = output / "hearts" / "tiny" / "drawn" / "seed1"
    assert json.loads((run / "run.json").read_text())["stage"] == "finished"
    drawn = load_datalist(output / "hearts" / "labels" / "short" / "datalist.json", "training")
    assert len(drawn) == 4
    assert all("labels/short" in item["label"] for item in drawn)
    assert all("unpacked" in item["image"] for item in drawn)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suite": "acd"}, "--suite acd: choose acdc, acdc_half"),
        ({"suite": None}, "--suite: name one of acdc, acdc_half"),
        ({"suite": "acdc,mscmr"}, "--suite acdc,mscmr: name one suite to run"),
        ({"setting": "huge"}, "--setting huge: suite hearts has tiny, long"),
        ({"methods": "dmpls"}, "--methods: suite hearts has no row or group 'dmpls'"),
        ({"seeds": "one"}, "--seeds is 'one'; give whole numbers from 0 on"),
        ({"device": "gpu"}, "--device: PyTorch finds no device 'gpu' here; give cpu, cuda or cuda:1"),
        ({"device": "cuda:99"}, "--device: PyTorch finds no device 'cuda:99' here"),
        ({"budget": 0}, "--budget is 0; give minutes above 0"),
        (
            {"data": "/nowhere"},
            "/nowhere/hearts/datalist.json: no such datalist; make the phantom into /nowhere/hearts",
        ),
        ({"ship": True, "seeds": "1,2"}, "--ship: name one row by --methods and one seed by --seeds"),
        ({"ship": True, "methods": "drawn", "seeds": 7}, "RUNS/hearts/tiny/drawn/seed7: holds no finished run"),
        ({"report": True, "check": True}, "--report, --check, --ship and --pack are four tasks; give one of them"),
    ],
)
def test_mistakes(place: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        benchmark(place, **options)
    assert str(caught.value).replace(str(place / "runs"), "RUNS").startswith(message)


def test_a_training_that_fails_ends_in_its_own_line(place: Path, tmp_path: Path) -> None:
    rows = {"pce": SUITE["rows"]["pce"] | {"keys": {"pad_label": "zero"}}}
    (tmp_path / "hearts.json").write_text(json.dumps(SUITE | {"rows": rows}))
    with pytest.raises(UserError, match=r"train.log: the training failed: --pad_label: must be one of"):
        benchmark(place, suite=str(tmp_path / "hearts.json"), output=str(tmp_path / "runs"))
