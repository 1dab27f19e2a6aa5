"""What a report finds in the folder of a run."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from common.errors import UserError
from common.reporting.comparison import compare_runs, scores_by_case
from common.reporting.run_folder import find_runs, named_folders, with_folders
from common.reporting.settings import program_versions, settings_table

DICE = {"dice": {"mean": 0.5, "std": 0.1, "median": 0.5, "n": 2}}
DOCUMENT = {
    "protocol": "as always",
    "meta": {"section": "test", "weights": None},
    "class_names": ["background", "A"],
    "summary": {"cases": 2, "classes": {"A": DICE}, "all": DICE},
}
TABLE = "case,patient,phase,class_name,class_index,outcome,dice\na,,,A,1,scored,0.4\nb,,,A,1,absent,nan\n"


def make(folder: Path, document: object = DOCUMENT, table: str | None = TABLE) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(document if isinstance(document, str) else json.dumps(document))
    if table is not None:
        (folder / "metrics.csv").write_text(table)
    return folder


def test_a_training_with_its_evaluation_and_predictions(tmp_path: Path) -> None:
    make(tmp_path / "run" / "eval")
    (tmp_path / "run" / "predictions").mkdir()
    (tmp_path / "run" / "events.out.tfevents.1").touch()
    for text in (f"{tmp_path}/run", f"run={tmp_path}/run/eval"):
        (run,) = find_runs(text)
        assert (run.name, run.scores) == ("run", tmp_path / "run" / "eval")
        assert run.predictions == tmp_path / "run" / "predictions"
        assert run.training == tmp_path / "run"
    assert run.rows is not None
    assert run.rows[0]["dice"] == 0.4
    assert run.rows[0]["class_index"] == 1
    assert list(scores_by_case(run)["dice", "A"]) == ["a", "b"]


def test_an_evaluation_alone_remembers_its_predictions(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    document = {**DOCUMENT, "meta": {"predictions": str(tmp_path / "elsewhere")}}
    make(tmp_path / "scores", document, table=None)
    (run,) = find_runs(str(tmp_path / "scores"))
    assert (run.rows, run.predictions, run.training) == (None, tmp_path / "elsewhere", None)
    document["meta"]["weights"] = str(tmp_path / "trained" / "model.pt")
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "events.out.tfevents.1").touch()
    assert find_runs(str(make(tmp_path / "again", document)))[0].training == tmp_path / "trained"
    (moved,) = with_folders([run], predictions={"scores": tmp_path}, training={"scores": tmp_path})
    assert (moved.predictions, moved.training, moved.scores) == (tmp_path, tmp_path, run.scores)


def test_folder_of_a_comparison_stands_for_its_methods(tmp_path: Path) -> None:
    make(tmp_path / "x")
    make(tmp_path / "y")
    (tmp_path / "comparison.json").write_text("{}")
    assert [run.name for run in find_runs(str(tmp_path))] == ["x", "y"]


def test_names_and_commas_in_folders(tmp_path: Path) -> None:
    (tmp_path / "a,b=c").mkdir()
    assert named_folders(f"{tmp_path}/a,b=c", option="runs") == {"a,b=c": tmp_path / "a,b=c"}
    assert named_folders("x=one, two/ ", option="runs") == {"x": Path("one"), "two": Path("two")}


def test_many_folders_and_long_names(tmp_path: Path) -> None:
    names = [f"{'long' * 20}{number}" for number in range(60)]
    text = ",".join(f"{name}={make(tmp_path / name)}" for name in names)
    assert len(text) > 4096  # the most that Linux takes for a path
    assert [run.name for run in find_runs(text)] == names
    with pytest.raises(UserError, match="no such folder; name the folder of a run"):
        find_runs(f"{tmp_path}/{'x' * 300}")
    with pytest.raises(UserError, match="is no folder; correct the path"):
        with_folders(find_runs(text), training={names[0]: tmp_path / ("x" * 300)})
    assert [run.name for run in find_runs({"a,b=c": tmp_path / names[0]})] == ["a,b=c"]


@pytest.mark.parametrize(
    ("document", "table", "message"),
    [
        ("{", TABLE, r"metrics\.json: cannot be read as JSON"),
        ("[1]", TABLE, "holds no JSON object"),
        ("[" * 100_000, TABLE, "cannot be read as JSON"),
        ({**DOCUMENT, "class_names": ["A"]}, TABLE, "is no summary of an evaluation"),
        ({**DOCUMENT, "class_names": [1, 2]}, TABLE, "is no summary"),
        ({**DOCUMENT, "summary": []}, TABLE, "is no summary"),
        ({**DOCUMENT, "meta": "text"}, TABLE, "is no summary"),
        ({**DOCUMENT, "summary": {**DOCUMENT["summary"], "phases": {"ED": 1}}}, TABLE, "is no summary"),
        ({**DOCUMENT, "summary": {**DOCUMENT["summary"], "all": {"dice": {"mean": "x"}}}}, TABLE, "is no summary"),
        (DOCUMENT, "a,b\n1,2\n", r"metrics\.csv: is no table of an evaluation"),
        (DOCUMENT, TABLE.replace("0.4", "much"), "is no table"),
        (DOCUMENT, TABLE.replace(",A,", ",B,"), "is no table"),
        (DOCUMENT, TABLE + "c\n", "is no table"),
        (DOCUMENT, "\udcff", "is no table"),
    ],
)
def test_damaged_scores_are_named(tmp_path: Path, document: object, table: str, message: str) -> None:
    folder = make(tmp_path / "run", document, table=None)
    (folder / "metrics.csv").write_text(table, errors="surrogateescape")
    with pytest.raises(UserError, match=message) as error:
        find_runs(str(folder))
    assert "\n" not in str(error.value)


def test_runs_of_different_tasks_or_one_name_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "x")
    other = copy.deepcopy(DOCUMENT) | {"class_names": ["background", "B"]}
    make(tmp_path / "y", other, table=None)
    with pytest.raises(UserError, match="the classes of y are background, B, those of x background, A"):
        find_runs(f"{tmp_path}/x,{tmp_path}/y")
    make(tmp_path / "both" / "x")
    (tmp_path / "both" / "comparison.json").write_text("{}")
    with pytest.raises(UserError, match="two runs are called x"):
        find_runs(f"{tmp_path}/x,{tmp_path}/both")
    make(tmp_path / "both" / "z")
    (tmp_path / "both" / "comparison.json").unlink()
    with pytest.raises(UserError, match="holds the scores of several evaluations"):
        find_runs(f"{tmp_path}/both")


def test_tests_are_taken_from_the_evaluation_or_computed(tmp_path: Path) -> None:
    make(tmp_path / "x")
    make(tmp_path / "y", table=TABLE.replace("0.4", "0.6"))
    runs = find_runs(f"{tmp_path}/x,{tmp_path}/y")
    tables = {run.name: scores_by_case(run) for run in runs}
    computed = compare_runs(runs, tables)
    assert computed.source == "computed from the tables of the runs"
    first = computed.tests[0]
    assert (first["first"], first["second"], first["n"]) == ("x", "y", 1)
    assert first["mean_difference"] == pytest.approx(-0.2)
    names = {"score": "dice", "class_name": "A", "first": "y", "second": "x"}
    numbers = {"n": 2, "mean_difference": 0.1, "wilcoxon_p_holm": None, "t_p_holm": 0.5, "cohens_dz": 1}
    (tmp_path / "comparison.json").write_text(json.dumps({"meta": {"against": "x"}, "tests": [names | numbers]}))
    found = compare_runs(runs, tables)
    assert (found.against, found.source) == ("x", f"from {tmp_path}/comparison.json")
    assert compare_runs(runs, tables, against="y").source == computed.source
    assert compare_runs(runs[:1], tables).source == "there is only one run"
    damaged = {"tests": [names | numbers | {"n": "two"}]}
    (tmp_path / "comparison.json").write_text(json.dumps(damaged))
    with pytest.raises(UserError, match="holds no paired tests"):
        compare_runs(runs, tables)


def test_different_volumes_are_not_compared(tmp_path: Path) -> None:
    make(tmp_path / "x")
    make(tmp_path / "y", table=TABLE.replace("\na,", "\nc,"))
    runs = find_runs(f"{tmp_path}/x,{tmp_path}/y")
    found = compare_runs(runs, {run.name: scores_by_case(run) for run in runs})
    assert found == ([], None, "the runs were not scored on the same volumes")


def test_settings_are_the_plain_values_of_the_last_config(tmp_path: Path) -> None:
    make(tmp_path / "x" / "eval")
    make(tmp_path / "y" / "eval")
    (tmp_path / "x" / "events.out.tfevents.1").touch()
    config = {"lr": 0.1, "roi_size": [8, 8], "network": {"_target_": "N"}, "device": "$torch", "imports": ["$import x"]}
    config |= {"amp": False, "name": "é", "_meta_": {"version": "0.1.0", "task": "long"}}
    (tmp_path / "x" / "config_1.json").write_text(json.dumps({"lr": 9}))
    (tmp_path / "x" / "config_2.json").write_text(json.dumps(config))
    rows, notes = settings_table(find_runs(f"{tmp_path}/x,{tmp_path}/y"), epochs={"x": 7})
    assert rows == [
        ("bundle: version", ["0.1.0", ""], True),
        ("config: lr", ["0.1", ""], True),
        ("config: roi_size", ["[8, 8]", ""], True),
        ("config: amp", ["false", ""], True),
        ("config: name", ["é", ""], True),
        ("training: epochs logged", ["7", ""], True),
        ("evaluation: section", ["test", "test"], False),
    ]
    assert len(notes) == 1
    assert notes[0].startswith("y: no config")


def test_without_a_config_the_weights_tell_the_settings(tmp_path: Path) -> None:
    recorded = {"settings": {"filters": 8, "pixdim": None}, "versions": {"MONAI": "1.6.1"}, "training": {"epochs": 4}}
    for name in ("x", "y"):
        document = {**DOCUMENT, "meta": {"weights": str(tmp_path / name / "model_best.pt")}}
        make(tmp_path / name / "eval", document)
        (tmp_path / name / "events.out.tfevents.1").touch()
        (tmp_path / name / "model.json").write_text(json.dumps(recorded))
    other = {"settings": {"filters": 16, "pixdim": [2, 2]}, "training": []}
    (tmp_path / "y" / "model_best.json").write_text(json.dumps(other))
    rows, notes = settings_table(find_runs(f"{tmp_path}/x,{tmp_path}/y"), epochs={})
    assert rows[:-1] == [
        ("bundle: MONAI", ["1.6.1", ""], True),
        ("config: filters", ["8", "16"], True),
        ("config: pixdim", ["null", "[2, 2]"], True),
        ("training: epochs", ["4", ""], True),
    ]
    assert notes == []
    (tmp_path / "x" / "model.json").write_text("{")
    rows, notes = settings_table(find_runs(f"{tmp_path}/x,{tmp_path}/y"), epochs={})
    assert notes == [f"x: {tmp_path}/x/model.json: cannot be read as JSON; write it again"]
    (tmp_path / "x" / "config_1.json").write_text(json.dumps({"lr": 9}))
    assert settings_table(find_runs(f"{tmp_path}/x"), epochs={})[0][0] == ("config: lr", ["9"], False)


def test_versions_are_those_installed() -> None:
    found = program_versions(["numpy", "no-such-package-at-all"])
    assert list(found) == ["Python", "numpy"]
