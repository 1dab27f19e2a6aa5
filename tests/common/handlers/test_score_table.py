"""The evaluation table, behind a MONAI evaluator that reads NIfTI files, in one process and in two."""

from __future__ import annotations

import csv
import json
import logging
import math

import forked_programs
import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, LoadImaged

from common.errors import UserError
from common.handlers.score_table import ScoreTable
from common.metrics.mean_iou import MeanIoU
from common.metrics.score_document import PROTOCOL

NAMES = ["background", "RV", "LV"]
AFFINE = np.diag([-2.0, 1.0, 5.0, 1.0])  # 2 x 1 x 5 mm, one axis flipped


class OneHot(torch.nn.Module):
    """A network whose arg-max is its input, so that a test decides what is predicted."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([(image == index).float() for index in range(len(NAMES))], dim=1)


def volumes() -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
    """Phase, prediction and reference of three cases; the third has another shape."""
    reference = np.zeros((10, 12, 4), dtype=np.uint8)
    reference[2:6, 2:6, 1:3], reference[7:9, 7:9, 1:3] = 1, 2
    moved = np.where(reference == 1, 0, reference)
    moved[2:6, 3:7, 1:3] = 1
    other = np.zeros((8, 8, 3), dtype=np.uint8)
    other[2:4, 2:4] = 1
    return {"a": ("ED", reference, reference), "b": ("ES", moved, reference), "c": ("ES", other * 0, other)}


def entries(folder, cases=None) -> list[dict]:
    listed = []
    for case, (phase, prediction, reference) in (cases or volumes()).items():
        files = {"image": prediction, "label": reference}
        for key, volume in files.items():
            nibabel.save(nibabel.Nifti1Image(volume, AFFINE), folder / f"{case}_{key}.nii.gz")
            files[key] = str(folder / f"{case}_{key}.nii.gz")
        listed.append({**files, "case": case, "patient": f"patient_{case}", "phase": phase})
    return listed


def run(items, table: ScoreTable | None, **options) -> SupervisedEvaluator:
    keys = ["image", "label"]
    dataset = Dataset(items, Compose([LoadImaged(keys), EnsureChannelFirstd(keys)]))
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, sampler=options.pop("sampler", None)),
        network=OneHot(),
        postprocessing=AsDiscreted("pred", argmax=True),
        val_handlers=[table] if table else [],
        **options,
    )
    evaluator.run()
    return evaluator


def read(folder, name="metrics") -> tuple[list[dict[str, str]], dict]:
    with open(folder / f"{name}.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


class TestFiles:
    @pytest.fixture
    def written(self, tmp_path):
        evaluator = run(
            entries(tmp_path), ScoreTable(tmp_path / "new" / "out", NAMES, meta={"seed": 3, "from": tmp_path})
        )
        return *read(tmp_path / "new" / "out"), evaluator.state.metrics

    def test_rows(self, written):
        rows, _, _ = written
        assert [(row["case"], row["class_name"]) for row in rows] == [(c, n) for c in "abc" for n in ("RV", "LV")]
        moved = rows[2]
        assert (moved["patient"], moved["phase"], moved["class_index"]) == ("patient_b", "ES", "1")
        # The 4 x 4 x 2 block moves by one column of 1 mm: 3 of 4 columns stay, Dice 24 / 32, IoU 24 / 40.
        assert float(moved["dice"]) == pytest.approx(0.75)
        assert float(moved["iou"]) == pytest.approx(0.6)
        # 8 of its 32 voxels (all are surface in two slices) lie 1 mm off, the rest 0.
        assert float(moved["hd95"]) == pytest.approx(1)
        assert float(moved["assd"]) == pytest.approx(0.25)
        # 32 voxels of 10 mm^3
        assert float(moved["reference_ml"]) == pytest.approx(0.32)
        # Slices 0 and 3 are empty: 1. In the others 12 + 4 of 20 and 20: 2 * 16 / 40 = 0.8. Mean 0.9.
        assert float(moved["pooled_slice_dice"]) == pytest.approx(0.9)

    def test_miss_and_absence(self, written):
        missed, absent = written[0][4:]
        assert (missed["outcome"], absent["outcome"]) == ("missed", "absent")
        assert float(missed["dice"]) == 0
        assert math.isnan(float(missed["hd95"]))
        # 8 x 8 x 3 voxels measure 16 x 8 x 15 mm
        assert float(missed["hd95_penalised"]) == pytest.approx(math.sqrt(16**2 + 8**2 + 15**2))
        assert math.isnan(float(absent["dice"]))

    def test_summary(self, written, tmp_path):
        _, document, _ = written
        assert document["protocol"] == PROTOCOL
        assert document["meta"] == {"seed": 3, "from": str(tmp_path)}
        assert document["class_names"] == NAMES
        summary = document["summary"]
        assert summary["cases"] == 3
        assert summary["classes"]["RV"]["dice"]["mean"] == pytest.approx((1 + 0.75 + 0) / 3)
        assert summary["classes"]["RV"]["missed"] == summary["classes"]["LV"]["absent"] == 1
        # Class-means: 1, (0.75 + 1) / 2, 0
        assert summary["all"]["dice"]["mean"] == pytest.approx(1.875 / 3)
        assert set(summary["phases"]) == {"ED", "ES"}
        assert summary["phases"]["ES"]["classes"]["LV"]["dice"]["n"] == 1

    def test_metrics_of_the_engine(self, written):
        expected = {
            "mean_dice": 1.875 / 3,
            "dice_RV": 1.75 / 3,
            "dice_LV": 1.0,
            "hd95_RV": 0.5,  # 0 and 1; the miss is left out
            "hd95_LV": 0.0,
            "mean_hd95": 0.25,  # class-means 0 and 0.5
            "pooled_slice_dice": 1.9 / 3,  # 1, 0.9 and 0
        }
        assert written[2] == pytest.approx(expected)

    def test_nothing_temporary_is_left(self, written, tmp_path):
        assert sorted(file.name for file in (tmp_path / "new" / "out").iterdir()) == ["metrics.csv", "metrics.json"]


def test_missing_numbers_are_null_in_json(tmp_path):
    case = volumes()["c"]
    run(entries(tmp_path, {"c": case}), ScoreTable(tmp_path, NAMES, name="test"))
    rows, document = read(tmp_path, "test")
    assert len(rows) == 2
    assert document["summary"]["classes"]["LV"]["dice"] == {"mean": None, "std": None, "median": None, "n": 0}


def test_without_surface(tmp_path):
    metrics = run(entries(tmp_path), ScoreTable(tmp_path, NAMES, surface=False)).state.metrics
    assert set(metrics) == {"mean_dice", "pooled_slice_dice", "dice_RV", "dice_LV"}
    rows, document = read(tmp_path)
    assert "hd95" not in rows[0]
    assert "assd" not in document["summary"]["all"]


def test_second_run_starts_afresh(tmp_path):
    table = ScoreTable(tmp_path, NAMES)
    items = entries(tmp_path)
    run(items, table)
    run(items[:1], table)
    rows, document = read(tmp_path)
    assert len(rows) == 2
    assert document["summary"]["all"]["dice"]["mean"] == 1


def test_log(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="common.handlers.score_table"):
        run(entries(tmp_path), ScoreTable(tmp_path, NAMES))
    (record,) = [record for record in caplog.records if record.name == "common.handlers.score_table"]
    lines = {line.split()[0]: line.split()[1:] for line in record.getMessage().splitlines()[1:]}
    # Dice 1, 0.75, 0: variance 1.5625 / 3 - (1.75 / 3)^2 = 0.18056, std 0.425
    # IoU 1, 0.6, 0: variance 1.36 / 3 - (1.6 / 3)^2 = 0.16889, std 0.411; HD95 0 and 1, ASSD 0 and 0.25, one miss
    assert lines["RV"][:9] == ["3", "0.583", "±", "0.425", "0.750", "0.533", "±", "0.411", "0.600"]
    assert lines["RV"][9:] == ["0.50", "±", "0.50", "0.50", "0.12", "±", "0.12", "0.12", "1", "0", "0"]
    assert lines["LV"][:5] == ["2", "1.000", "±", "0.000", "1.000"]
    assert lines["LV"][-3:] == ["0", "0", "1"]


def test_two_dimensional_images(tmp_path):
    label = MetaTensor(torch.zeros((1, 6, 6)), affine=torch.eye(4))
    label[0, 1:3] = 1
    table = ScoreTable(tmp_path, ["background", "vessel"])
    (row,) = table._rows_of({"case": "eye", "pred": label.roll(1, 1), "label": label})
    assert row["dice"] == pytest.approx(0.5)
    assert row["hd95"] == pytest.approx(1)
    assert row["phase"] is None


def test_voxels_that_are_not_annotated_count_as_background_in_both(tmp_path):
    label = MetaTensor(torch.zeros((1, 6, 6)), affine=torch.eye(4))
    label[0, 1:3], label[0, 4:] = 1, 2
    prediction = torch.zeros((1, 6, 6))
    prediction[0, 2:] = 1  # rows 2 to 5; 4 and 5 do not count
    item = {"case": "eye", "pred": prediction, "label": label}
    (row,) = ScoreTable(tmp_path, ["background", "vessel"], ignore_index=2)._rows_of(item)
    # rows 2 and 3 against rows 1 and 2: 6 of 12 and 12 pixels
    assert row["dice"] == pytest.approx(2 * 6 / 24)
    assert row["iou"] == pytest.approx(6 / 18)
    assert row["hd95"] == pytest.approx(1)
    assert row["reference_ml"] == pytest.approx(12 / 1000)
    # one slice: the same pixels
    assert row["pooled_slice_dice"] == pytest.approx(0.5)
    assert label.unique().tolist() == [0, 1, 2]  # the reference itself stays as it is
    assert prediction[0, 4:].min() == 1
    with pytest.raises(UserError, match="the value 2"):
        ScoreTable(tmp_path, ["background", "vessel"])._rows_of(item)
    table = ScoreTable(tmp_path, ["background", "vessel"], ignore_index=2)
    with pytest.raises(UserError, match=r"^eye: .*reference's grid"):
        table._rows_of({**item, "pred": torch.zeros((1, 4, 4))})


def test_the_metrics_of_the_evaluator_are_written(tmp_path):
    counts = {"val_mean_iou": MeanIoU(num_classes=3, output_transform=from_engine(["pred", "label"]))}
    run(entries(tmp_path), ScoreTable(tmp_path, NAMES), key_val_metric=counts)
    _, document = read(tmp_path)
    # Voxels of all cases: class 0 of a, b and c is 120 * 4 - 32 - 8 = 440 twice and 64 * 3 - 12 = 180. In b 8 voxels
    # of RV are missed and 8 invented, in c 12 are missed.
    both = [440 + 432 + 180, 32 + 24, 8 + 8]
    either = [440 + 448 + 192, 32 + 40 + 12, 16]
    expected = sum(one / two for one, two in zip(both, either, strict=True)) / 3
    assert document["metrics"] == {"val_mean_iou": pytest.approx(expected)}
    run(entries(tmp_path), ScoreTable(tmp_path, NAMES, name="bare"))
    assert read(tmp_path, "bare")[1]["metrics"] == {}


class TestMistakes:
    def test_same_name_twice(self, tmp_path):
        items = entries(tmp_path)
        items[1]["case"] = "a"
        with pytest.raises(UserError, match="have the case name a"):
            run(items, ScoreTable(tmp_path, NAMES))
        assert not (tmp_path / "metrics.csv").exists()

    def test_no_name(self, tmp_path):
        items = [{key: item[key] for key in ("image", "label")} for item in entries(tmp_path)]
        with pytest.raises(UserError, match='"case"'):
            run(items, ScoreTable(tmp_path, NAMES))

    def test_too_few_names(self, tmp_path):
        with pytest.raises(UserError, match="at least one class"):
            ScoreTable(tmp_path, ["background"])

    def test_output_dir_is_a_file(self, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(UserError, match="cannot be written"):
            run(entries(tmp_path), ScoreTable(tmp_path / "out", NAMES))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"pred": MetaTensor(torch.zeros((1, 4, 4, 2)), affine=torch.diag(torch.tensor([1, 1, 2, 1.0])))},
                "affine",
            ),
            ({"pred": torch.zeros((1, 4, 4, 3))}, "reference's grid"),
            ({"pred": torch.zeros((3, 4, 4, 2))}, "arg-max"),
            ({"label": torch.zeros((1, 4, 4, 2))}, "lost its affine"),
            ({"label": MetaTensor(torch.full((1, 4, 4, 2), 3))}, "the value 3"),
        ],
    )
    def test_told_with_the_case(self, tmp_path, change, message):
        item = {"case": "patient001", "pred": torch.zeros((1, 4, 4, 2)), "label": MetaTensor(torch.zeros((1, 4, 4, 2)))}
        assert len(ScoreTable(tmp_path, NAMES)._rows_of(item)) == 2
        with pytest.raises(UserError, match=rf"^patient001: .*{message}"):
            ScoreTable(tmp_path, NAMES)._rows_of({**item, **change})


WORKER = """
import importlib.util, json, os, pathlib, sys
import torch.distributed as dist
from monai.data import DistributedSampler
from monai.handlers import from_engine
from common.handlers.score_table import ScoreTable
from common.metrics.mean_foreground_dice import MeanForegroundDice
from common.metrics.pooled_dice_loss import PooledSliceDiceLoss

test_file, folder = sys.argv[1], pathlib.Path(sys.argv[2])
spec = importlib.util.spec_from_file_location("helpers", test_file)
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
child = os.fork()  # the slow imports are done once
rank = 1 if child else 0
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
items = json.loads((folder / "items.json").read_text())
options = dict(num_classes=3, output_transform=from_engine(["pred", "label"]))

padded = DistributedSampler(items, even_divisible=True, shuffle=False)
table = helpers.run(items, ScoreTable(folder / f"out{rank}", helpers.NAMES), sampler=padded)
uneven = DistributedSampler(items, even_divisible=False, shuffle=False)
metrics = helpers.run(
    items,
    None,
    sampler=uneven,
    key_val_metric={"dice": MeanForegroundDice(**options)},
    additional_metrics={"loss": PooledSliceDiceLoss(**options)},
)
result = {"table": table.state.metrics, "metrics": metrics.state.metrics, "seen": len(list(uneven))}
(folder / f"rank{rank}.json").write_text(json.dumps(result))
dist.barrier()
dist.destroy_process_group()
if child and os.waitpid(child, 0)[1]:
    sys.exit("the other process failed")
"""


def test_two_processes_agree_with_one(tmp_path):
    items = entries(tmp_path)
    alone = run(items, ScoreTable(tmp_path / "alone", NAMES)).state.metrics
    (tmp_path / "items.json").write_text(json.dumps(items))
    done = forked_programs.run(["-c", WORKER, __file__, tmp_path], timeout=120)
    assert done.returncode == 0, done.stderr

    results = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [result["seen"] for result in results] == [2, 1]
    for result in results:
        # The padded sampler gives case a to both processes; it counts once.
        assert result["table"] == pytest.approx(alone)
        assert result["metrics"]["dice"] == pytest.approx(alone["mean_dice"])
        assert result["metrics"]["loss"] == pytest.approx(1 - alone["pooled_slice_dice"])
    rows, document = read(tmp_path / "out0")
    assert (rows, document) == read(tmp_path / "alone")
    assert not (tmp_path / "out1").exists()
