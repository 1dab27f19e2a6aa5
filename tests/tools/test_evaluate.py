"""``python -m tools evaluate``: from folders of label maps to tables, and what stops it."""

from __future__ import annotations

import csv
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from common.errors import UserError
from tools import __main__ as program
from tools.evaluate import main

NAMES = "background,RV,LV"
AFFINE = np.diag([2.0, 1.5, 5.0, 1.0])
SHAPE = (12, 6, 4)


def heart(shift: int = 0) -> np.ndarray:
    """RV a bar of 4 voxels along the first axis, LV a block of 3 x 3 x 2 voxels."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1 + shift : 5 + shift, 0, 0] = 1
    voxels[6:9, 2:5, 1:3] = 2
    return voxels


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def folder_of(path: Path, volumes: Sequence[np.ndarray], end: str = "_seg") -> str:
    """A folder of cases a, b, c, ..."""
    for letter, voxels in zip("abcdefgh", volumes, strict=False):
        save(path / f"{letter}{end}.nii.gz", voxels)
    return str(path)


@pytest.fixture
def three(tmp_path: Path) -> dict[str, str]:
    """Options for three cases; the RV of the predictions is moved by 0, 1 and 2 voxels."""
    return {
        "predictions": folder_of(tmp_path / "predictions", [heart(), heart(1), heart(2)]),
        "references": folder_of(tmp_path / "references", 3 * [heart()], "_gt"),
        "output": str(tmp_path / "scores"),
        "class_names": NAMES,
    }


def table(path: str | Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scores(output: str | Path, *keys: str) -> dict[tuple[str, str], list[float]]:
    """The numbers of metrics.csv by case and class."""
    rows = table(Path(output, "metrics.csv"))
    return {(row["case"], row["class_name"]): [float(row[key]) for key in keys] for row in rows}


def document(output: str | Path, name: str = "metrics.json") -> dict[str, Any]:
    return json.loads(Path(output, name).read_text(encoding="utf-8"), parse_constant=pytest.fail)


def files_below(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def write_datalist(path: Path, section: str = "test", **labels: str) -> str:
    """A datalist beside the three references, with patients p and q and phases."""
    known = {"a": ("p", "ED"), "b": ("p", "ES"), "c": ("q", "ED")}
    items = [
        {
            "image": f"references/{c}_gt.nii.gz",
            "label": f"references/{c}_gt.nii.gz",
            "case": c,
            "patient": p,
            "phase": f,
        }
        for c, (p, f) in known.items()
    ]
    head = {"name": "toy", "num_classes": 3, "class_names": NAMES.split(",")}
    path.write_text(json.dumps(head | {section: [item | labels for item in items]}))
    return str(path)


class TestOneFolder:
    def test_by_hand(self, three):
        main(**three)
        found = scores(three["output"], "dice", "iou", "hd95", "hd95_penalised", "assd", "assd_penalised")
        # Bars of 4 voxels share 4, 3, 2; the surfaces' distances each way are 0 0 0 0, 0 0 0 2, 0 0 2 4 mm. Pooled and
        # sorted, position 0.95 * 7 = 6.65 lies between the two largest.
        assert found["a", "RV"] == pytest.approx([1, 1, 0, 0, 0, 0])
        assert found["b", "RV"] == pytest.approx([3 / 4, 3 / 5, 2, 2, 0.5, 0.5])
        assert found["c", "RV"] == pytest.approx([2 / 4, 2 / 6, 4, 4, 1.5, 1.5])
        for case in "abc":
            assert found[case, "LV"] == pytest.approx([1, 1, 0, 0, 0, 0])
        # bar: 4 voxels of 15 mm^3; block: 18
        volumes = scores(three["output"], "prediction_ml", "reference_ml")
        assert volumes["c", "RV"] == pytest.approx([0.06, 0.06])
        assert volumes["c", "LV"] == pytest.approx([0.27, 0.27])
        # slices: 0.75 with the bar, two right ones, an empty one
        assert scores(three["output"], "pooled_slice_dice")["b", "LV"] == pytest.approx([3.75 / 4])

    def test_summary_by_hand(self, three, capsys):
        main(**three)
        written = document(three["output"])
        classes = written["summary"]["classes"]
        # 1, 0.75, 0.5: mean 0.75, variance 2 * 0.0625 / 3; 0, 2, 4 mm: variance 8 / 3
        assert classes["RV"]["dice"] == pytest.approx({"mean": 0.75, "std": (0.125 / 3) ** 0.5, "median": 0.75, "n": 3})
        assert classes["RV"]["hd95"] == pytest.approx({"mean": 2, "std": (8 / 3) ** 0.5, "median": 2, "n": 3})
        assert classes["LV"]["assd"] == {"mean": 0, "std": 0, "median": 0, "n": 3}
        # means over the classes 1, 0.875, 0.75
        assert written["summary"]["all"]["dice"]["mean"] == pytest.approx(0.875)
        assert written["summary"]["all"]["dice"]["std"] == pytest.approx((2 * 0.125**2 / 3) ** 0.5)
        assert written["class_names"] == NAMES.split(",")
        assert written["meta"]["predictions"] == three["predictions"]
        assert written["meta"]["missing_predictions"] == written["meta"]["predictions_without_reference"] == []
        assert "in mm" in written["protocol"]
        out = capsys.readouterr().out
        assert "predictions: 3 volumes\nclass  n  Dice mean ± std  median" in out
        assert "RV     3    0.750 ± 0.204   0.750" in out
        assert out.endswith(f"metrics.csv\n{three['output']}/metrics.json\n")

    def test_files(self, three):
        main(**three)
        assert list(files_below(three["output"])) == ["metrics.csv", "metrics.json"]
        rows = table(Path(three["output"], "metrics.csv"))
        assert [(row["case"], row["class_name"]) for row in rows] == [(c, n) for c in "abc" for n in ("RV", "LV")]
        assert list(rows[0])[:6] == ["case", "patient", "phase", "class_name", "class_index", "outcome"]

    def test_misses_both_ways(self, three):
        invented = np.where(heart() == 1, 0, heart())
        folder_of(Path(three["references"]), [heart(), invented, invented], "_gt")
        folder_of(Path(three["predictions"]), [invented, heart(), invented])
        main(**three)
        rows = [row for row in table(Path(three["output"], "metrics.csv")) if row["class_name"] == "RV"]
        assert [row["outcome"] for row in rows] == ["missed", "invented", "absent"]
        assert [row["dice"] for row in rows] == [row["iou"] for row in rows] == ["0.0", "0.0", "nan"]
        assert [row["hd95"] for row in rows] == [row["assd"] for row in rows] == ["nan", "nan", "nan"]
        # the image measures 24 x 9 x 20 mm
        assert [float(row["hd95_penalised"]) for row in rows] == pytest.approx([1057**0.5] * 2 + [np.nan], nan_ok=True)
        assert [float(row["assd_penalised"]) for row in rows[:2]] == pytest.approx([1057**0.5] * 2)
        right = document(three["output"])["summary"]["classes"]["RV"]
        assert (right["missed"], right["invented"], right["absent"], right["dice"]["n"]) == (1, 1, 1, 2)
        assert right["hd95"] == {"mean": None, "std": None, "median": None, "n": 0}
        assert right["hd95_penalised"]["n"] == 2

    def test_a_datalist_tells_names_patients_and_phases(self, three, tmp_path, capsys):
        del three["class_names"]
        main(**{**three, "references": write_datalist(tmp_path / "list.json")})
        rows = table(Path(three["output"], "metrics.csv"))[::2]
        known = [(row["case"], row["patient"], row["phase"]) for row in rows]
        assert known == [("a", "p", "ED"), ("b", "p", "ES"), ("c", "q", "ED")]
        written = document(three["output"])
        assert written["meta"]["section"] == "test"
        phases = written["summary"]["phases"]
        assert phases["ED"]["classes"]["RV"]["dice"]["mean"] == pytest.approx(0.75)  # 1 and 0.5
        assert phases["ES"]["classes"]["RV"]["dice"]["mean"] == pytest.approx(0.75)
        assert (phases["ED"]["cases"], phases["ES"]["cases"]) == (2, 1)
        assert "ED RV" in capsys.readouterr().out

    def test_another_section(self, three, tmp_path):
        datalist = write_datalist(tmp_path / "list.json", "validation")
        with pytest.raises(UserError, match=r'list\.json: section "test" is missing'):
            main(**{**three, "references": datalist})
        main(**{**three, "references": datalist, "section": "validation"})
        assert document(three["output"])["meta"]["section"] == "validation"

    def test_classes_by_number(self, three):
        del three["class_names"]
        main(**three, num_classes=3)
        assert document(three["output"])["class_names"] == ["background", "class_1", "class_2"]

    def test_voxels_that_are_not_annotated(self, three):
        reference = heart()
        reference[5:7] = 9  # where the bar of b was a voxel too long, and one of c's two, and a third of the block
        folder_of(Path(three["references"]), 3 * [reference], "_gt")
        main(**three, ignore_index=9)
        found = scores(three["output"], "dice")
        assert [found[case, "RV"][0] for case in "abc"] == pytest.approx([1, 6 / 7, 4 / 6])
        assert found["a", "LV"] == [1]
        assert "of the value 9 in a reference are not annotated" in document(three["output"])["protocol"]


class TestCounterparts:
    def test_a_missing_prediction(self, three, capsys):
        Path(three["predictions"], "b_seg.nii.gz").unlink()
        with pytest.raises(UserError, match=r"predictions: no prediction of b; correct the names, or add --allow_m"):
            main(**three)
        assert not Path(three["output"]).exists()
        main(**three, allow_missing=True)
        rows = [row for row in table(Path(three["output"], "metrics.csv")) if row["case"] == "b"]
        assert [(row["outcome"], row["dice"]) for row in rows] == [("missed", "0.0")] * 2
        written = document(three["output"])
        assert written["meta"]["missing_predictions"] == ["b"]
        assert "A missing prediction counts as one without any class" in written["protocol"]
        # 1, 0, 0.5
        assert written["summary"]["classes"]["RV"]["dice"]["mean"] == pytest.approx(0.5)
        assert "missing predictions: b\n" in capsys.readouterr().out

    def test_a_prediction_without_reference(self, three):
        save(Path(three["predictions"], "z_seg.nii.gz"), heart())
        with pytest.raises(UserError, match=r"predictions: no reference of z; correct"):
            main(**three)
        main(**three, allow_missing=True)
        assert document(three["output"])["meta"]["predictions_without_reference"] == ["z"]
        assert {row["case"] for row in table(Path(three["output"], "metrics.csv"))} == set("abc")

    def test_nothing_matches(self, three):
        for path in Path(three["predictions"]).iterdir():
            path.rename(path.with_name(f"x{path.name}"))
        with pytest.raises(UserError, match="no prediction belongs to a reference; predictions are xa, xb, xc"):
            main(**three, allow_missing=True)

    def test_unicode_and_spaces_and_folders_of_their_own(self, three, tmp_path):
        for case in "abc":
            path = Path(three["predictions"], f"{case}_seg.nii.gz")
            target = tmp_path / "Vorhersagen, zwei = ü" / f"{case} 1é" / f"{case} 1é_seg.nii.gz"
            target.parent.mkdir(parents=True)
            path.rename(target)
            reference = Path(three["references"], f"{case}_gt.nii.gz")
            reference.rename(reference.with_name(f"{case} 1é_gt.nii.gz"))
        main(**{**three, "predictions": str(tmp_path / "Vorhersagen, zwei = ü")})
        assert scores(three["output"], "dice")["c 1é", "RV"] == pytest.approx([0.5])


class TestBadFiles:
    """Run as the command: one line that names the file, status 1, and nothing written."""

    def refused(self, options: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
        assert program.main(["evaluate", *(f"--{key}={value}" for key, value in options.items())]) == 1
        out, line = capsys.readouterr()
        assert out == ""
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        assert not Path(options["output"]).exists()
        return line

    @pytest.mark.parametrize("jobs", ["1", "2"])
    @pytest.mark.parametrize("which", ["predictions/b_seg", "references/b_gt"])
    def test_damaged(self, three, capsys, which, jobs, tmp_path):
        path = tmp_path / f"{which}.nii.gz"
        content = path.read_bytes()
        flipped = content[:90] + bytes([content[90] ^ 8]) + content[91:]
        for bad in (b"", b"hello", content[:60], content[:-3], flipped):
            path.write_bytes(bad)
            assert f"{path}: " in self.refused({**three, "jobs": jobs}, capsys)

    def test_another_grid(self, three, capsys):
        path = Path(three["predictions"], "b_seg.nii.gz")
        save(path, heart()[:, :-1])
        assert f"{path}: shape (12, 5, 4) differs from (12, 6, 4)" in self.refused(three, capsys)
        moved = AFFINE.copy()
        moved[1, 3] = 0.01
        for wrong, gap in ((np.diag([2.0, 1.5, 6.0, 1.0]), 1), (np.diag([-2.0, 1.5, 5.0, 1.0]), 4), (moved, 0.01)):
            save(path, heart(), wrong)
            line = self.refused(three, capsys)
            assert f"{path}: affine differs by {gap:.3f} mm" in line
            assert f"{three['references']}/b_gt.nii.gz" in line

    @pytest.mark.parametrize(
        ("voxels", "told"),
        [
            (np.where(heart() == 1, 3, heart()), "the prediction holds the value 3, which is none of the 3 classes"),
            (np.where(heart() == 1, -1, heart().astype(np.int16)), "the prediction holds the value -1"),
            (heart() / 2, "the prediction holds fractions"),
            (np.where(heart() == 1, np.nan, heart()), "the prediction holds fractions"),
            (np.stack([heart(), heart()], -1), "has the shape (12, 6, 4, 2)"),
        ],
        ids=["unknown class", "negative", "fractions", "nan", "4D"],
    )
    def test_no_label_map(self, three, capsys, voxels, told):
        path = Path(three["predictions"], "c_seg.nii.gz")
        save(path, voxels)
        line = self.refused(three, capsys)
        assert str(path) in line
        assert told in line

    def test_an_old_table_stays(self, three, capsys):
        main(**three)
        before = files_below(three["output"])
        Path(three["predictions"], "b_seg.nii.gz").write_bytes(b"")
        options = [f"--{key}={value}" for key, value in three.items()]
        assert program.main(["evaluate", *options]) == 1
        assert files_below(three["output"]) == before


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"against": "predictions"}, "--against predictions: name one of two or more --predictions"),
            ({"compat": "unet"}, "--compat unet: the known rules are maag, cyclemix, attenscribble"),
            ({"jobs": 0}, "--jobs is 0; give a number from 1 on"),
            ({"keep_bodies": 0}, "--keep_bodies is 0; give a number from 1 on"),
            ({"keep_components": True}, "--keep_components is True; give a number from 1 on"),
            ({"jobs": "two"}, "--jobs is 'two'; give a number from 1 on"),
            ({"ignore_index": 2}, "--ignore_index is 2; give a whole number that is no class"),
            ({"ignore_index": True}, "--ignore_index is True"),
            ({"section": "test"}, "is a folder; name a datalist.json or leave section out"),
            ({"class_names": None}, "how many classes there are is not known: give --num_classes or --class_names"),
            ({"class_names": None, "num_classes": 1}, "--num_classes is 1; give a number from 2 on"),
            ({"num_classes": 4}, "--num_classes 4 where there are 3 names: background, RV, LV"),
            ({"class_names": "background,RV,RV"}, "name two or more, each differently"),
            ({"class_names": "background,RV,all"}, "none all"),
            ({"class_names": "background,,RV"}, "name two or more"),
            ({"predictions": "missing"}, "missing: no such folder"),
            ({"references": "missing"}, "missing: neither a folder nor a datalist.json"),
            ({"references": "missing.json"}, "missing.json: no such datalist"),
            ({"predictions": ""}, "write folder or name=folder"),
            ({"predictions": "x/y=missing"}, "write folder or name=folder"),
        ],
    )
    def test_mistakes(self, three, options, told):
        with pytest.raises(UserError) as caught:
            main(**{**three, **options})
        assert told in str(caught.value)
        assert not Path(three["output"]).exists()

    def test_folders_of_one_name(self, three):
        both = f"{three['predictions']},{three['predictions']}"
        with pytest.raises(UserError, match="two folders of predictions are called predictions: write name=folder"):
            main(**{**three, "predictions": both})

    def test_class_names_of_a_datalist_that_are_no_words(self, three, tmp_path):
        path = Path(write_datalist(tmp_path / "list.json"))
        path.write_text(path.read_text().replace('["background", "RV", "LV"]', "[0, 1, 1]"))
        with pytest.raises(UserError, match="class names 0, 1, 1: name two or more, each differently"):
            main(**{**three, "references": str(path), "class_names": None})

    def test_stray_pieces_are_left_out_if_asked(self, three):
        stray = heart()
        stray[11, 5, 3] = 1
        stray[0, 5, 0] = 2
        save(Path(three["predictions"], "a_seg.nii.gz"), stray)
        dice = {}
        for options in ({}, {"keep_bodies": 1}, {"keep_bodies": 2}, {"keep_components": 1}):
            main(**three, **options)
            written = document(three["output"])
            assert {key: written["meta"][key] for key in options} == options
            assert ("Post-processing" in written["protocol"]) == bool(options)
            found = scores(three["output"], "dice")
            dice[str(options)] = [found["a", "RV"][0], found["a", "LV"][0]]
        expected = [[8 / 9, 36 / 37], [0, 1], [1, 1], [1, 1]]  # LV is the larger body
        np.testing.assert_allclose(list(dice.values()), expected)

    def test_help_explains_each_option(self, capsys):
        assert program.main(["evaluate", "--help"]) == 0
        out = capsys.readouterr().out
        for option in (
            "predictions",
            "references",
            "output",
            "section",
            "against",
            "jobs",
            "compat",
            "ignore_index",
            "keep_bodies",
        ):
            assert f"--{option}" in out
        assert "maag, cyclemix or attenscribble" in out


MUTATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "moved by a voxel": lambda v: np.roll(v, 1, axis=0),
    "moved by a slice": lambda v: np.roll(v, 1, axis=2),
    "mirrored": lambda v: v[::-1],
    "empty": np.zeros_like,
    "a class lost": lambda v: np.where(v == 2, 0, v),
    "classes swapped": lambda v: np.array([0, 2, 1], np.uint8)[v],
    "a slice dropped": lambda v: v * (np.arange(4) != 1).astype(np.uint8),
    "filled": np.ones_like,
}


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_mutated_predictions_score_worse(three, mutate):
    """From file to file, against a perfect prediction, which scores 1 and 0 mm."""
    summaries = []
    for volumes in (3 * [heart()], [heart(), mutate(heart()), heart()]):
        folder_of(Path(three["predictions"]), volumes)
        main(**three)
        summaries.append(document(three["output"])["summary"]["all"])
    right, wrong = summaries
    for score in ("dice", "iou", "pooled_slice_dice"):
        assert right[score]["mean"] == 1
        assert wrong[score]["mean"] < 0.98
    for score in ("hd95_penalised", "assd_penalised"):
        assert right[score]["mean"] == 0
        assert wrong[score]["mean"] > 0.1


def slow_scores(prediction: np.ndarray, reference: np.ndarray, spacing: np.ndarray) -> list[float]:
    """Dice, IoU, HD95 and ASSD of a class as their definitions read, by sets of voxels and all pairs of distances."""
    sets = [set(map(tuple, np.argwhere(mask).tolist())) for mask in (prediction, reference)]
    shared, joint = len(sets[0] & sets[1]), len(sets[0] | sets[1])
    steps = [tuple(sign if axis == other else 0 for other in range(3)) for axis in range(3) for sign in (-1, 1)]
    surfaces = [
        np.array([v for v in voxels if any((v[0] + s[0], v[1] + s[1], v[2] + s[2]) not in voxels for s in steps)])
        for voxels in sets
    ]
    pairs = cdist(surfaces[0] * spacing, surfaces[1] * spacing)
    forth, back = pairs.min(axis=1), pairs.min(axis=0)
    pooled = np.sort(np.concatenate([forth, back]))
    place = 0.95 * (len(pooled) - 1)
    low, share = int(place), place - int(place)
    hd95 = pooled[low] + share * (pooled[min(low + 1, len(pooled) - 1)] - pooled[low])
    return [2 * shared / (len(sets[0]) + len(sets[1])), shared / joint, hd95, (forth.mean() + back.mean()) / 2]


def test_agrees_with_a_second_implementation(three, tmp_path):
    """Random blobs on an oblique grid with voxels of 1.37 x 0.83 x 7.5 mm, which touch the border."""
    rng = np.random.default_rng(0)
    spacing = np.array([1.37, 0.83, 7.5])
    turn = np.array([[0.96, 0.28, 0.0], [-0.168, 0.576, 0.8], [0.224, -0.768, 0.6]]).T
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * spacing, (-20, 3, 7)
    volumes = []
    for case in "abc":
        noise = [ndimage.gaussian_filter(rng.standard_normal((21, 18, 7)), 1.5) for _ in range(2)]
        maps = [(1 * (n > 0.05) + (n > 0.12)).astype(np.uint8) for n in (noise[0], noise[0] + 0.3 * noise[1])]
        volumes.append(maps)
        save(Path(three["references"], f"{case}_gt.nii.gz"), maps[0], affine)
        save(Path(three["predictions"], f"{case}_seg.nii.gz"), maps[1], affine)
    main(**three)
    found = scores(three["output"], "dice", "iou", "hd95", "assd")
    for case, (reference, prediction) in zip("abc", volumes, strict=True):
        for index, name in enumerate(("RV", "LV"), start=1):
            expected = slow_scores(prediction == index, reference == index, spacing)
            assert 0.2 < expected[0] < 0.98
            assert found[case, name] == pytest.approx(expected, abs=1e-6)


class TestPublishedRules:
    @pytest.fixture
    def absent(self, three, tmp_path) -> dict[str, Any]:
        """Of a neither map has the RV, of b only the reference, c is moved by 2 voxels; a and b are one patient's."""
        bare = np.where(heart() == 1, 0, heart())
        folder_of(Path(three["references"]), [bare, heart(), heart()], "_gt")
        folder_of(Path(three["predictions"]), [bare, bare, heart(2)])
        del three["class_names"]
        return {**three, "references": write_datalist(tmp_path / "list.json")}

    @pytest.mark.parametrize(
        ("rule", "dice", "hd95", "mean"),
        [
            (None, [np.nan, 0, 0.5], [np.nan, np.nan, 4], 0.25),
            ("maag", [np.nan, 0, 0.5], [np.nan, np.nan, 4], 0.25),
            ("cyclemix", [1, 0, 0.5], [np.nan, np.nan, 4], 0.5),
            ("attenscribble", [0, 0, 0.5], [0, 0, 4], 0.5 / 3),
        ],
    )
    def test_classes_that_a_map_lacks(self, absent, rule, dice, hd95, mean):
        main(**absent, compat=rule)
        found = scores(absent["output"], "dice", "hd95")
        assert [found[case, "RV"][0] for case in "abc"] == pytest.approx(dice, nan_ok=True)
        assert [found[case, "RV"][1] for case in "abc"] == pytest.approx(hd95, nan_ok=True)
        written = document(absent["output"])
        assert written["summary"]["classes"]["RV"]["dice"]["mean"] == pytest.approx(mean)
        assert written["meta"]["compat"] == rule
        assert ("Rule of" in written["protocol"]) == (rule is not None)
        counts = written["summary"]["classes"]["RV"]
        assert (counts["missed"], counts["absent"]) == (1, 1)

    def test_slices_of_patients_pooled_as_maag_does(self, absent, capsys):
        main(**absent, compat="maag")
        # p: a has 4 right slices, b 3 and one with Dice 0: 7 / 8. q: c has 3 and one with 0.5: 3.5 / 4. Both 0.875.
        pooled = document(absent["output"])["summary"]["all"]["pooled_slice_dice_of_patients"]
        assert pooled == pytest.approx({"mean": 0.875, "std": 0, "median": 0.875, "n": 2})
        assert "pooled_slice_dice_of_patients: 0.875 ± 0.000, median 0.875, n 2" in capsys.readouterr().out


class TestSeveralFolders:
    @pytest.fixture
    def five(self, tmp_path: Path) -> dict[str, str]:
        """Five volumes; ``best`` is right, ``near`` moves the RV by 1, 1, 2, 2, 3 voxels, ``far`` by one more."""
        steps = [1, 1, 2, 2, 3]
        folders = {
            "best": folder_of(tmp_path / "best", 5 * [heart()]),
            "near": folder_of(tmp_path / "runs" / "near", [heart(step) for step in steps]),
            "far": folder_of(tmp_path / "other", [heart(step + 1) for step in steps]),
        }
        return {
            "predictions": f"{folders['best']}, {folders['near']},far={folders['far']}",
            "references": folder_of(tmp_path / "references", 5 * [heart()], "_gt"),
            "output": str(tmp_path / "scores"),
            "class_names": NAMES,
        }

    def test_all_pairs(self, five, capsys):
        main(**five)
        names = [f"{name}/metrics.{end}" for name in ("best", "far", "near") for end in ("csv", "json")]
        assert list(files_below(five["output"])) == [*names[:2], "comparison.csv", "comparison.json", *names[2:]]
        tests = document(five["output"], "comparison.json")["tests"]
        rows = table(Path(five["output"], "comparison.csv"))
        assert len(tests) == len(rows) == 3 * (6 * 3 + 1)  # pairs, scores of RV, LV and all, and the pooled Dice
        keys = ("score", "class_name", "first", "second")
        found = {tuple(row[key] for key in keys): row for row in tests}
        assert [tuple(row[key] for key in keys) for row in rows] == list(found)
        one = found["dice", "RV", "best", "near"]
        # Dice of near: 3, 3, 2, 2 and 1 quarters. Differences 0.25 0.25 0.5 0.5 0.75, mean 0.45, deviations from it
        # -0.2 -0.2 0.05 0.05 0.3: variance (0.08 + 0.005 + 0.09) / 4.
        assert (one["n"], one["mean_first"]) == (5, 1)
        assert (one["mean_second"], one["mean_difference"], one["median_difference"]) == pytest.approx(
            (0.55, 0.45, 0.5)
        )
        deviation = (0.175 / 4) ** 0.5
        assert one["cohens_dz"] == pytest.approx(0.45 / deviation)
        assert one["t_statistic"] == pytest.approx(0.45 / deviation * 5**0.5)
        # all five have one sign: of the 32 signs one, on either side
        assert (one["wilcoxon_statistic"], one["wilcoxon_p"], one["rank_biserial"]) == pytest.approx((0, 2 / 32, 1))
        # three pairs, RV and all: six p values of 1 / 16, and of LV, where nothing differs, three of 1
        assert found["dice", "LV", "best", "near"]["wilcoxon_p"] == 1
        assert one["wilcoxon_p_holm"] == pytest.approx(9 / 16)
        assert found["hd95", "RV", "best", "near"]["mean_difference"] == pytest.approx(-(2 + 2 + 4 + 4 + 6) / 5)
        out = capsys.readouterr().out
        assert "paired tests\npair" in out
        assert "best - near" in out
        for name in ("best", "near", "far"):
            assert f"{name}: 5 volumes" in out

    def test_each_folder_is_scored_as_by_itself(self, five, tmp_path):
        main(**five)
        alone = {**five, "predictions": str(tmp_path / "runs" / "near"), "output": str(tmp_path / "alone")}
        main(**alone)
        assert files_below(tmp_path / "alone")["metrics.csv"] == files_below(five["output"])["near/metrics.csv"]

    def test_against_one(self, five):
        main(**five, against="near")
        written = document(five["output"], "comparison.json")
        assert {(row["first"], row["second"]) for row in written["tests"]} == {("best", "near"), ("far", "near")}
        assert written["meta"]["against"] == "near"
        assert "Wilcoxon signed-rank test" in written["protocol"]
        assert "Holm" in written["protocol"]
        with pytest.raises(
            UserError, match=r"--against far2: name one of two or more --predictions \(best, near, far\)"
        ):
            main(**five, against="far2")

    def test_rules_hold_for_the_tests_too(self, five):
        main(**five, compat="maag")
        tests = document(five["output"], "comparison.json")["tests"]
        (one,) = [
            row
            for row in tests
            if row["score"] == "pooled_slice_dice_of_patients" and (row["first"], row["second"]) == ("best", "near")
        ]
        # a slice of four differs, by 0.45 in the mean; each volume counts as a patient
        assert (one["n"], one["mean_difference"]) == (5, pytest.approx(0.45 / 4))

    def test_a_missing_prediction_counts_in_the_tests(self, five, tmp_path):
        (tmp_path / "other" / "a_seg.nii.gz").unlink()
        with pytest.raises(UserError, match="other: no prediction of a"):
            main(**five)
        main(**five, allow_missing=True, against="best")
        tests = document(five["output"], "comparison.json")["tests"]
        (dice,) = [r for r in tests if (r["score"], r["class_name"], r["first"]) == ("dice", "LV", "far")]
        assert (dice["n"], dice["mean_difference"]) == (5, pytest.approx(-0.2))
        (distance,) = [r for r in tests if (r["score"], r["class_name"], r["first"]) == ("hd95", "LV", "far")]
        assert distance["n"] == 4


class TestAgainAndStopped:
    def test_the_number_of_processes_does_not_matter(self, three, tmp_path):
        for jobs in (1, 2, 7):
            main(**{**three, "output": str(tmp_path / f"jobs{jobs}"), "jobs": jobs})
        assert files_below(tmp_path / "jobs1") == files_below(tmp_path / "jobs2") == files_below(tmp_path / "jobs7")

    def test_a_second_run_writes_the_same(self, three):
        main(**three)
        before = files_below(three["output"])
        # what a run leaves that is killed while it writes
        Path(three["output"], ".0123456789ab.metrics.csv").write_text("case,pat")
        Path(three["output"], "notes.txt").write_text("mine")
        main(**three)
        assert files_below(three["output"]) == before | {"notes.txt": b"mine"}

    def test_a_full_disk_leaves_the_old_tables(self, three, monkeypatch):
        main(**three)
        before = files_below(three["output"])
        folder_of(Path(three["predictions"]), 3 * [heart(3)])

        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"metrics\.\w+: cannot be written \(No space left on device\)"):
            main(**three)
        assert files_below(three["output"]) == before

    def test_an_interrupt_while_writing_leaves_the_old_tables(self, three, monkeypatch):
        main(**three)
        before = files_below(three["output"])
        folder_of(Path(three["predictions"]), 3 * [heart(3)])

        def stop(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("tools.evaluate.Path.write_text", stop)
        with pytest.raises(KeyboardInterrupt):
            main(**three)
        assert files_below(three["output"]) == before

    def test_outputs_that_cannot_be(self, three, tmp_path):
        Path(three["output"]).write_text("a file")
        with pytest.raises(UserError, match="cannot be written"):
            main(**three)
        assert Path(three["output"]).read_text() == "a file"
        folder = tmp_path / "taken"
        (folder / "metrics.csv").mkdir(parents=True)
        with pytest.raises(UserError, match=r"taken/metrics\.csv: is a folder where a table has to go"):
            main(**{**three, "output": str(folder)})
        assert files_below(folder) == {}

    def started(self, tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
        """The command on more work than a test has time for, in a group of its own, and its two processes."""
        noise = np.random.default_rng(0).integers(0, 4, (200, 200, 10), dtype=np.uint8)
        for case in range(40):
            save(tmp_path / "r" / f"{case:02}_gt.nii.gz", noise if case < 1 else noise[::-1])
            save(tmp_path / "p" / f"{case:02}_seg.nii.gz", np.roll(noise, case, 0))
        options = ["--predictions", "p", "--references", "r", "--output", "scores", "--num_classes", "4", "--jobs", "2"]
        command = [sys.executable, "-m", "tools", "evaluate", *options]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + 90
        while len(children.read_text().split()) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        found = [int(number) for number in children.read_text().split()]
        time.sleep(0.5)  # they have begun to score
        return process, found

    @staticmethod
    def gone(numbers: list[int]) -> bool:
        """Whether the processes end within seconds; one that has ended may wait for its parent to take note."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            states = [Path(f"/proc/{number}/stat") for number in numbers]
            if all(not path.exists() or path.read_text().rpartition(")")[2].split()[0] == "Z" for path in states):
                return True
            time.sleep(0.05)
        return False

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the children of a process from /proc")
    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
    def test_stopped(self, tmp_path, sent):
        """Ctrl-C reaches the whole group, a kill the command alone: nothing is written and nobody is left."""
        process, children = self.started(tmp_path)
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)
        else:
            process.send_signal(sent)
        out, line = process.communicate(timeout=60)
        assert out == ""
        if sent == signal.SIGINT:
            assert (process.returncode, line) == (130, "error: interrupted\n")
        else:
            assert (process.returncode, line) == (-sent, "")
        assert self.gone(children)
        assert not (tmp_path / "scores").exists()


def test_the_phantom(phantom_dir, tmp_path, capsys):
    """A datalist as the project makes them, its own masks as predictions."""
    items = json.loads((phantom_dir / "datalist.json").read_text())["test"]
    for item in items:
        mask = nib.load(phantom_dir / item["label"])
        save(tmp_path / "p" / f"{item['case']}.nii.gz", np.asarray(mask.dataobj), mask.affine)
    options = ["--predictions", str(tmp_path / "p"), "--references", str(phantom_dir / "datalist.json")]
    assert program.main(["evaluate", *options, "--output", str(tmp_path / "scores")]) == 0
    everything = document(tmp_path / "scores")["summary"]["all"]
    assert (everything["dice"]["mean"], everything["hd95"]["mean"], everything["assd"]["mean"]) == (1, 0, 0)
    assert everything["dice"]["n"] == len(items)


def test_forty_volumes_of_acdc(data_root, tmp_path):
    """Ten seconds on two cores are the aim; here ten seconds of processor time, whoever else uses the cores."""
    files = sorted((data_root / "acdc" / "training").glob("*/*_gt.nii.gz"))[:40]
    assert len(files) == 40
    for number, file in enumerate(files):
        image = nib.load(file)
        (tmp_path / "r").mkdir(exist_ok=True)
        (tmp_path / "r" / file.name).symlink_to(file)
        moved = np.roll(np.asarray(image.dataobj).astype(np.uint8), 1 + number % 3, axis=number % 2)
        save(tmp_path / "p" / file.name.replace("_gt", "_seg"), moved, image.affine)
    options = ["--predictions", "p", "--references", "r", "--output", "scores", "--class_names", "background,RV,MYO,LV"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "tools", "evaluate", *options, "--jobs", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10
    assert "p: 40 volumes" in done.stdout
    found = scores(tmp_path / "scores", "dice", "iou", "hd95", "assd")
    assert len(found) == 120
    case = files[0].name.removesuffix("_gt.nii.gz")
    image, moved = nib.load(files[0]), nib.load(tmp_path / "p" / f"{case}_seg.nii.gz")
    spacing = np.array(image.header.get_zooms()[:3], float)
    for index, name in enumerate(("RV", "MYO", "LV"), start=1):
        masks = [np.asarray(volume.dataobj) == index for volume in (moved, image)]
        assert found[case, name] == pytest.approx(slow_scores(*masks, spacing), abs=1e-6)
