"""Coarse drawings from ``import_labels`` or ``scribble`` to ``datalist``, ``check`` and the slices that a run loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common.data.checks import check_items
from common.data.supervision import training_items
from common.errors import UserError
from tools import check, datalist, import_labels, scribble

NAMES = "background,RV,LV"
SHAPE = (16, 16, 2)
AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])


def save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)


def mask() -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[2:7, 3:13], voxels[9:14, 3:13] = 1, 2
    return voxels


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(1, 5):
        voxels = np.random.default_rng(number).integers(0, 900, SHAPE).astype(np.int16)
        save(tmp_path / "scans" / f"p{number}.nii.gz", voxels)
    return tmp_path


def listed(**options: Any) -> dict[str, Any]:
    options = {"images": "scans", "labels": "drawn", "class_names": NAMES, "output": "own"} | options
    datalist.main(**options)
    return json.loads((Path(options["output"]) / "datalist.json").read_text(encoding="utf-8"))


def loaded(repo_root: Path, folder: Path, **options: Any) -> tuple[list[dict[str, Any]], Any]:
    """The training items of the bundle's configuration, after its own check of the files, and its training slices."""
    configs = repo_root / "bundles" / "coarse_labels" / "configs"
    parser = ConfigParser()
    parser.read_config(str(configs / "train.json"))
    parser.read_meta(str(configs / "metadata.json"))
    settings = {"pixdim": [1.5, 1.5], "roi_size": [16, 16], "orientation": "stored", "cache_dir": "", "device": "cpu"}
    settings |= {"bundle_root": str(configs.parent), "dataset_dir": str(folder), "output_dir": str(folder / "run")}
    for key, value in (settings | options).items():
        parser[key] = value
    checks = [line for line in parser["run"] if "check_items(" in line and "dataset" in line and "train" in line]
    assert len(checks) == 1
    parser["looked_at"] = checks[0]
    parser.parse()
    parser.get_parsed_content("looked_at")
    return parser.get_parsed_content("train#dataset#data"), parser.get_parsed_content("train#dataset").slices


def test_simulated_drawings(study: Path, repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 5):
        save(study / "masks" / f"p{number}_gt.nii.gz", mask())
    scribble.main(masks="masks", output="drawn", form="coarse", ratio=0.5, jobs=1)
    capsys.readouterr()
    content = listed(masks="masks", validation_share=0.25)
    told = capsys.readouterr().out
    assert (len(content["training"]), len(content["validation"])) == (3, 1)
    for item in content["training"]:
        case = item["case"]
        assert item == {
            "image": str(study / "scans" / f"{case}.nii.gz"),
            "label": str(study / "drawn" / f"{case}_coarse.nii.gz"),
            "complement": str(study / "drawn" / f"{case}_not.nii.gz"),
            "dense_label": str(study / "masks" / f"{case}_gt.nii.gz"),
            "case": case,
            "patient": case,
        }
    assert "label" in content["validation"][0]
    assert "complement" not in content["validation"][0]
    assert "  coarse drawings: 3 positive, 3 negative\n" in told
    assert told.splitlines()[-2:] == [
        f"  python -m tools check {study / 'own' / 'datalist.json'} --kind coarse",
        "  python -m monai.bundle run --config_file bundles/coarse_labels/configs/train.json --dataset_dir "
        f"{study / 'own'} --simulate false --output_dir runs/own",
    ]
    check.main("own")
    check.main("own", kind="coarse")
    assert "warning: " not in capsys.readouterr().out
    items, slices = loaded(repo_root, study / "own", simulate=False)
    assert [item["case"] for item in items] == [item["case"] for item in content["training"]]
    assert all({"label", "complement"} <= set(item) for item in items)
    # 3 volumes of 2 slices; the negative drawings are those of the files
    assert slices["complement"].shape == (6, 1, 16, 16)
    stored = np.asarray(nib.load(items[0]["complement"]).dataobj)
    assert torch.equal(slices["complement"][:2, 0].long(), torch.from_numpy(stored.transpose(2, 0, 1)).long())


def test_imported_drawings_of_which_one_may_be_missing(
    study: Path, repo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both, positive, negative = (np.zeros(SHAPE, np.uint8) for _ in range(3))
    for painted in (both, positive):
        painted[2:6, 3:8], painted[9:12, 3:8] = 4, 1
    both[:, 10:] = negative[9:14] = 7
    for number, painted in enumerate((both, negative, positive), start=1):
        save(study / "painted" / f"p{number}_seg.nii.gz", painted)
    names = "RV=4,LV=1,not_RV=7"
    import_labels.main(
        labels="painted", images="scans", output="drawn", class_names=NAMES, names=names, allow_missing=True
    )
    assert sorted(path.name for path in (study / "drawn").iterdir()) == [
        *("p1_coarse.nii.gz", "p1_not.nii.gz", "p2_not.nii.gz", "p3_coarse.nii.gz")
    ]
    command = f"next: python -m tools datalist --images scans --labels {study / 'drawn'} --class_names {NAMES}"
    assert command in capsys.readouterr().out
    content = listed()
    assert [{"label", "complement"} & set(item) for item in content["training"]] == [
        *({"label", "complement"}, {"complement"}, {"label"})
    ]
    assert [item["case"] for item in content["unlabelled"]] == ["p4"]
    capsys.readouterr()
    check.main("own")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("training ")]
    assert [row[-1] for row in rows] == ["ok"] * 3
    items, slices = loaded(repo_root, study / "own", simulate=False)
    assert len(items) == 3
    # the negative drawing alone says nothing as a positive one, and the other way round
    assert (slices["label"][2:4] == 3).all()
    assert (slices["complement"][4:] == 3).all()
    assert (slices["complement"][2:4, :, 9:14] == 1).all()
    assert (slices["label"][4:, :, 2:6, 3:8] == 1).all()
    items, _ = loaded(repo_root, study / "own", simulate=False, negative=False)
    assert [item["case"] for item in items] == ["p1", "p3"]
    # a bundle that knows scribbles alone refuses them
    with pytest.raises(UserError, match=r"p1_coarse\.nii\.gz: has no background scribble"):
        check_items(training_items(study / "own" / "datalist.json", num_classes=3), num_classes=3, kind="scribble")
    items = training_items(study / "own" / "datalist.json", num_classes=3, annotators="first")
    with pytest.raises(UserError, match=r'^p2: has no "label"; add the path of its file$'):
        check_items(items[1:], num_classes=3, kind="scribble")


def test_positive_drawings_alone(study: Path, repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        save(study / "drawn" / f"p{number}_coarse.nii.gz", np.where(mask() == 0, 3, mask()))
    assert all("complement" not in item for item in listed()["training"])
    assert "--kind coarse" in capsys.readouterr().out  # nothing else tells them from scribbles without background
    check.main("own", kind="coarse")
    with pytest.raises(UserError, match="2 of 4 items have problems"):
        check.main("own")
    assert len(loaded(repo_root, study / "own", simulate=False, negative=False)[0]) == 2


def test_a_folder_of_both_sorts(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    painted = np.zeros(SHAPE, np.uint8)
    painted[2:6, 3:8], painted[9:12, 3:8] = 4, 1
    save(study / "painted" / "p1_seg.nii.gz", painted)
    painted[:, 10:] = 7
    save(study / "painted" / "p2_seg.nii.gz", painted)
    options = {"labels": "painted", "images": "scans", "output": "drawn", "class_names": NAMES, "allow_missing": True}
    (study / "painted" / "p1_seg.txt").write_text('4 0 0 0 0 0 0 "RV"\n1 0 0 0 0 0 0 "LV"\n')
    (study / "painted" / "p2_seg.txt").write_text('4 0 0 0 0 0 0 "RV"\n1 0 0 0 0 0 0 "LV"\n7 0 0 0 0 0 0 "not_RV"\n')
    import_labels.main(**options)  # type: ignore[arg-type]
    assert capsys.readouterr().out.splitlines()[-1] == (
        "next: coarse drawings and scribbles are not for one datalist; if p1_scribble.nii.gz and others of that end "
        "are coarse drawings without a negative one, call them <case>_coarse.nii.gz"
    )
    with pytest.raises(UserError, match=r"p1_scribble\.nii\.gz is called like scribbles, .*p2_coarse\.nii\.gz like a"):
        listed()
    assert not (study / "own").exists()
    (study / "drawn" / "p1_scribble.nii.gz").rename(study / "drawn" / "p1_coarse.nii.gz")
    assert len(listed()["training"]) == 2
    check.main("own")
