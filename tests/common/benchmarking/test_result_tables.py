"""The tables of a benchmark: every number where it belongs, and rows without a run that say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from common.benchmarking.result_pages import write_pages
from common.benchmarking.results import load_results, read_result, write_result
from common.benchmarking.run_config import plain_settings, resolved_config
from common.benchmarking.run_state import RunState
from common.benchmarking.suite import Suite, load_suite
from common.benchmarking.tables import BEGIN, END, markdown, overviews, with_tables
from common.errors import UserError

CONTENT: dict[str, Any] = {
    "title": "Toy",
    "protocol": "Two train.",
    "prepare": "",
    "pooled": True,
    "post_processing": {"keep_bodies": 1, "keep_components": 2},
    "settings": {"small": {"steps": 5, "about": "in no time."}, "large": {"steps": 9}},
    "rows": {
        "a": {"title": "A", "bundle": "dmpls", "supervision": "s|t", "paper": {"score": 0.872, "hd95": 9.9}},
        "b": {"title": "B", "bundle": "dmpls", "supervision": "u", "paper": {"pooled": 0.5, "source": "P, Table 1"}},
        "c": {"title": "C", "bundle": "dmpls", "supervision": "v", "unavailable": "no masks"},
        "d": {"title": "D", "bundle": "dmpls", "supervision": "w", "group": "robustness"},
    },
}


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    (tmp_path / "toy.json").write_text(json.dumps(CONTENT))
    return load_suite(str(tmp_path / "toy.json"))


def result(suite: Suite, method: str = "a", seed: int = 1, dice: float = 0.8, **changes: Any) -> dict[str, Any]:
    scores = {
        "volumes": 2,
        "class_names": ["background", "x"],
        "dice": {"x": [dice, 0.1], "all": [dice, 0.1]},
        "hd95": {"x": [None, None], "all": [12.34, 5.0]},
        "pooled": [0.7, 0.2],
    }
    about = {"suite": "toy", "setting": "small", "method": method, "seed": seed}
    return {
        **about,
        "definition": suite.digest(suite.rows[method], "small"),
        "iterations": 1000 + seed,
        "seconds": {"training": 90.0 * seed},
        "hardware": {"device": "CPU", "cpu": "2 cores"},
        "scores": {"last": scores},
        **changes,
    }


def rows(suite: Suite, results: list[dict[str, Any]], number: int = 0) -> list[list[str]]:
    table = overviews([suite], results)[number]
    assert all(len(row) == len(table.header) for row in table.rows)
    return [list(row) for row in table.rows]


def test_without_any_run_every_row_says_so(suite: Suite) -> None:
    [table] = overviews([suite], [])
    assert table.title == "Toy: small"
    assert table.notes[0] == "Two train. Setting small: in no time."
    cells = [[row[0], row[2], row[-3]] for row in table.rows]
    assert cells == [
        ["A", "no run", "0.872, HD95 9.9"],
        ["B", "no run", "pooled 0.500 (P, Table 1)"],
        ["C", "no run: no masks", "no figure"],
    ]


def test_one_run(suite: Suite) -> None:
    [table] = overviews([suite], [result(suite)])
    assert table.header == [
        "row",
        "supervision",
        "checkpoint",
        "seeds",
        "steps",
        "Dice x",
        "Dice",
        "pooled slice Dice",
        "HD95 x",
        "HD95 (mm)",
        "paper",
        "training",
        "hardware",
    ]
    assert list(table.rows[0]) == [
        "A",
        "s|t",
        "last iterate",
        "1",
        "1,001",
        "0.800 ± 0.100",
        "0.800 ± 0.100",
        "0.700 ± 0.200",
        "none found",
        "12.3 ± 5.0",
        "0.872, HD95 9.9",
        "2 min",
        "2 cores",
    ]
    assert [row[2] for row in rows(suite, [result(suite)])] == ["last iterate", "no run", "no run: no masks"]


def test_seeds_are_averaged_and_their_spread_told(suite: Suite) -> None:
    row = rows(suite, [result(suite, seed=2, dice=0.9), result(suite, seed=1, dice=0.8)])[0]
    # mean of 0.8 and 0.9, deviations of 0.1 each over the volumes, 0.05 between the seeds; 90 and 180 s are 2.25 min
    assert row[3:7] == ["1, 2", "1,001 to 1,002", "0.850 ± 0.100 (0.050)", "0.850 ± 0.100 (0.050)"]
    assert row[-2] == "2 min"


def test_the_best_validation_is_extra_and_marked(suite: Suite) -> None:
    made = result(suite)
    made["scores"]["best"] = {**made["scores"]["last"], "dice": {"x": [0.9, 0.1], "all": [0.9, 0.1]}}
    first, second = rows(suite, [made])[:2]
    assert (first[2], first[6]) == ("last iterate", "0.800 ± 0.100")
    assert (second[2], second[6]) == ("best validation, chosen on the scored cases", "0.900 ± 0.100")


def test_post_processed_scores_are_extra_and_marked(suite: Suite) -> None:
    made = result(suite)
    assert "post-processed" not in markdown([suite], [made])
    made["scores"]["best"] = made["scores"]["last"]
    made["scores"]["last_post_processed"] = {**made["scores"]["last"], "dice": {"x": [0.9, 0.1], "all": [0.9, 0.1]}}
    found = rows(suite, [made])
    assert [row[2] for row in found[:2]] == ["last iterate", "last iterate, post-processed"]
    assert found[2][2].startswith("best validation")
    assert found[1][6] == "0.900 ± 0.100"
    note = overviews([suite], [made])[0].notes[-1]
    assert note.endswith("post-processed, by `--keep_bodies 1 --keep_components 2`; the headline is not.")


def test_headlines_are_the_last_iterates_without_the_classes(suite: Suite) -> None:
    made = result(suite)
    made["scores"]["best"] = made["scores"]["last_post_processed"] = made["scores"]["last"]
    [table] = overviews([suite], [made], headlines=True)
    scores = ["Dice", "pooled slice Dice", "HD95 (mm)"]
    assert table.header == ["row", "supervision", "checkpoint", "seeds", "steps", *scores, "paper"]
    assert [list(row) for row in table.rows] == [
        ["A", "s|t", "last iterate", "1", "1,001", "0.800 ± 0.100", "0.700 ± 0.200", "12.3 ± 5.0", "0.872, HD95 9.9"],
        ["B", "u", "no run", "", "", "", "", "", "pooled 0.500 (P, Table 1)"],
        ["C", "v", "no run: no masks", "", "", "", "", "", "no figure"],
    ]


def test_the_full_table_is_folded_up_below_its_headlines(suite: Suite) -> None:
    made = result(suite)
    made["scores"]["best"] = made["scores"]["last"]
    headlines, folded = markdown([suite], [made]).split("\n\n<details>\n<summary>")
    assert folded.endswith("\n\n</details>")
    assert "best validation" not in headlines.split("| row |")[1]
    assert "| Dice x |" not in headlines
    assert "| A | s\\|t | best validation, chosen on the scored cases |" in folded
    assert "| 2 min | 2 cores |" in folded


def test_a_run_of_another_definition_is_marked(suite: Suite) -> None:
    row = rows(suite, [result(suite, definition="0" * 16)])[0]
    assert row[2] == "last iterate; of an earlier definition of the row"


def test_a_run_with_other_settings_than_todays_says_which(suite: Suite) -> None:
    row = suite.rows["a"]
    today = plain_settings(resolved_config(row.bundle, row.overlays, suite.keys(row, "small"), steps=5, seed=1))
    assert {"pixdim", "weight_decay", "batch_size"} <= set(today), "settings that shape the result"
    assert not {"seed", "progress", "device", "max_epochs", "run", "train", "initialize"} & set(today)
    assert rows(suite, [result(suite, settings=today)])[0][2] == "last iterate"
    then = today | {"batch_size": 7, "pixdim": [9.0, 9.0], "no_longer": 1}
    marked = rows(suite, [result(suite, seed=2, settings=today), result(suite, settings=then), result(suite, seed=3)])
    now = [json.dumps(today[key]) for key in ("pixdim", "batch_size")]
    assert marked[0][2] == f"last iterate; with pixdim [9.0, 9.0], today {now[0]}; with batch_size 7, today {now[1]}"


def test_groups_and_settings_have_tables_of_their_own(suite: Suite) -> None:
    made = [result(suite), result(suite, "d"), result(suite, setting="large"), result(suite, setting="gone")]
    assert [table.title for table in overviews([suite], made)] == [
        "Toy: small",
        "Toy: small, robustness",
        "Toy: large",
    ]
    # a row or a suite that is no more has no table
    assert [t.title for t in overviews([suite], [result(suite) | {"suite": "other"}])] == ["Toy: small"]


def test_mean_iou_in_per_cent_over_seeds(tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_text(json.dumps(CONTENT | {"score": "mean_iou", "surface": False, "pooled": False}))
    suite = load_suite(str(tmp_path / "toy.json"))
    made = [result(suite, seed=seed) for seed in (1, 2)]
    for value, each in zip((0.80, 0.82), made, strict=True):
        each["scores"]["last"]["mean_iou"] = value
    table = overviews([suite], made)[0]
    assert list(table.header[4:7]) == ["steps", "mIoU (%)", "paper"]
    assert table.rows[0][5] == "81.0 ± 1.0"
    assert overviews([suite], made[:1])[0].rows[0][5] == "80.0"


def test_between_the_marks_and_nowhere_else(suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    text = with_tables(path, [suite], [result(suite)])
    assert text.startswith(f"before\n{BEGIN}\n### Toy: small\n\n")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text
    assert text.count("| A | s\\|t | last iterate | 1 | 1,001 | 0.800 ± 0.100 |") == 2
    path.write_text(text)
    assert with_tables(path, [suite], [result(suite)]) == text
    assert markdown([suite], [result(suite)]) in text
    for wrong in ("nothing", f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}"):
        path.write_text(wrong)
        with pytest.raises(UserError, match=r"page.md: needs the lines <!-- benchmark:begin -->"):
            with_tables(path, [suite], [])
    with pytest.raises(UserError, match=r"none.md: cannot be read"):
        with_tables(tmp_path / "none.md", [suite], [])


def test_damaged_records(suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "toy" / "a_small_seed1.json"
    path.parent.mkdir()
    path.write_text(json.dumps(result(suite)))
    assert [each["method"] for each in load_results(tmp_path)] == ["a"]
    path.write_text(json.dumps({key: value for key, value in result(suite).items() if key != "seconds"}))
    with pytest.raises(UserError, match=r"seed1.json: is no result of a benchmark \(without seconds\)"):
        read_result(path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"seed1.json: is no result of a benchmark"):
        load_results(tmp_path)


def test_a_validation_without_a_score_is_null_in_the_record(suite: Suite, tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for epoch, value in enumerate((float("nan"), 0.5), start=1):
            writer.add_scalar("val_mean_dice", value, epoch)
    (tmp_path / "config.json").write_text("{}")
    made = result(suite)
    state = RunState(tmp_path, {key: made[key] for key in ("suite", "setting", "method", "seed", "definition")})
    state.notes = {"iterations": 2, "epochs": 2, "hardware": made["hardware"]}
    write_result(tmp_path / "result.json", suite.rows["a"], state, made["scores"])
    assert read_result(tmp_path / "result.json")["curves"] == {"val_mean_dice": [[1, None], [2, 0.5]]}


def test_a_page_takes_any_number_of_runs_and_any_folder(suite: Suite, tmp_path: Path) -> None:
    group = {"dice": {"mean": 0.5, "std": 0.1, "median": 0.5, "n": 2}}
    summary = {"cases": 2, "classes": {"x": group}, "all": group}
    output = tmp_path / "runs, all"
    for seed in range(60):
        for choice in ("last", "best"):
            folder = output / "toy" / "small" / "a" / f"seed{seed}" / choice
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps({"class_names": ["background", "x"], "summary": summary}))
            (folder.parent / "result.json").touch()
    [page] = write_pages([suite], output, [])
    text = page.read_text()
    assert all(f"a seed{seed}" in text for seed in range(60))
    assert "seed0 (best)" not in text  # extra rows are in the table alone
