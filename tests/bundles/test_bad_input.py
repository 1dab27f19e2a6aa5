"""Bad input of every kind: one clear line that names the file or key and the fix, and nothing left behind."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())
DRAWN = "coarse_labels"
"""The bundle whose labels are drawings, which may be dense and need no background."""
Content = dict[str, Any]


@pytest.fixture
def study(phantom_dir: Path, tmp_path: Path) -> Path:
    """A datalist of one training and one validation volume, with files of its own that a test may damage."""
    content = json.loads((phantom_dir / "datalist.json").read_text())
    sections: Content = {}
    for section, name in (("training", "t"), ("validation", "v"), ("unpaired_masks", "m")):
        item = content[section][0]
        item.pop("dense_label", None)
        for key in {"image", "label"} & set(item):
            shutil.copy(phantom_dir / item[key], tmp_path / f"{name}_{key}.nii.gz")
            item[key] = f"{name}_{key}.nii.gz"
        sections[section] = [item]
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({key: content[key] for key in ("name", "num_classes", "class_names")} | sections))
    return path


def workflow(bundle: str, study: Path, *configs: str, **options: Any) -> None:
    create_workflow(
        workflow_type="train" if configs == ("train",) else "infer",
        config_file=[str(REPO_ROOT / "bundles" / bundle / "configs" / f"{name}.json") for name in configs],
        meta_file=str(REPO_ROOT / "bundles" / bundle / "configs" / "metadata.json"),
        logging_file=None,
        **{
            "dataset_dir": str(study.parent),
            "output_dir": str(study.parent / "out"),
            "pixdim": [4.0, 4.0],
            "roi_size": [48, 48],
            "filters": 2,
            **({"simulate": False} if bundle == DRAWN and configs == ("train",) else {}),
            **options,
        },
    ).run()


def line_of(capsys: pytest.CaptureFixture[str], *arguments: Any, **options: Any) -> str:
    """What the program prints before it ends with 1."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps what an expression of a configuration raises
        workflow(*arguments, **options)
    capsys.readouterr()
    sys.excepthook(caught.type, caught.value, caught.tb)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def change(study: Path, name: str, edit: Callable[[np.ndarray], np.ndarray], move: float = 0.0) -> None:
    volume = nib.load(study.parent / name)
    affine = volume.affine.copy()
    affine[0, 3] += move
    voxels = edit(np.asarray(volume.dataobj))
    nib.save(nib.Nifti1Image(voxels, affine), study.parent / name)


def with_value(value: float, dtype: type = np.uint8) -> Callable[[np.ndarray], np.ndarray]:
    def edit(voxels: np.ndarray) -> np.ndarray:
        voxels = voxels.astype(dtype)
        voxels[0, 0, 0] = value
        return voxels

    return edit


def without(value: int, instead: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda voxels: np.where(voxels == value, instead, voxels).astype(np.uint8)


def cut_short(study: Path, name: str = "t_image.nii.gz") -> None:
    whole = (study.parent / name).read_bytes()
    (study.parent / name).write_bytes(whole[: len(whole) // 2])


def short_content(study: Path) -> None:
    plain = gzip.decompress((study.parent / "t_image.nii.gz").read_bytes())
    (study.parent / "t_image.nii.gz").write_bytes(gzip.compress(plain[: len(plain) // 2]))


def emptied(study: Path) -> None:
    study.write_text(json.dumps(json.loads(study.read_text()) | {"training": []}))


MISTAKES = {
    "missing image": (
        lambda study: (study.parent / "t_image.nii.gz").unlink(),
        'datalist.json: 1 of 2 files listed under "training" do not exist, first {}/t_image.nii.gz; correct the paths',
    ),
    "missing label": (
        lambda study: (study.parent / "t_label.nii.gz").unlink(),
        'datalist.json: 1 of 2 files listed under "training" do not exist, first {}/t_label.nii.gz; correct the paths',
    ),
    "truncated image": (cut_short, "{}/t_image.nii.gz: cannot be read, it is cut short, damaged or no image"),
    "short content": (short_content, "{}/t_image.nii.gz: cannot be read, it is cut short, damaged or no image"),
    "truncated mask": (
        lambda study: cut_short(study, "v_label.nii.gz"),
        "{}/v_label.nii.gz: cannot be read, it is cut short, damaged or no image",
    ),
    "other shape": (
        lambda study: change(study, "t_label.nii.gz", lambda voxels: voxels[:-1]),
        "{}/t_label.nii.gz: shape (",
    ),
    "other affine": (
        lambda study: change(study, "t_label.nii.gz", lambda voxels: voxels, move=0.5),
        "{}/t_label.nii.gz: affine differs from the image's by 0.500 mm",
    ),
    "unknown value": (
        lambda study: change(study, "t_label.nii.gz", with_value(7)),
        "{}/t_label.nii.gz: unknown label value 7; allowed are 0..3 and 4 (not annotated)",
    ),
    "broken value": (
        lambda study: change(study, "t_label.nii.gz", with_value(1.5, np.float32)),
        "{}/t_label.nii.gz: label value 1.5 is no integer; resample labels with nearest neighbour",
    ),
    "unknown value of a mask": (
        lambda study: change(study, "v_label.nii.gz", with_value(9)),
        "{}/v_label.nii.gz: unknown label value 9; allowed are 0..3",
    ),
    "no unlabelled voxel": (
        lambda study: change(study, "t_label.nii.gz", without(4, instead=0)),
        "{}/t_label.nii.gz: a dense mask is given where scribbles are expected, no voxel is 4 (not annotated)",
    ),
    "0 where nothing is drawn": (
        lambda study: change(study, "t_label.nii.gz", lambda voxels: (voxels + 1) % 5),
        "% of the voxels are 0, drawn background, and few are 4, not annotated; if 0 is what was not painted, bring it",
    ),
    "no background scribble": (
        lambda study: change(study, "t_label.nii.gz", without(0, instead=4)),
        "{}/t_label.nii.gz: has no background scribble (value 0); draw at least one stroke on the background",
    ),
    "NaN": (
        lambda study: change(study, "t_image.nii.gz", with_value(np.nan, np.float32)),
        "{}/t_image.nii.gz: holds 1 NaN or infinite voxels; replace them by numbers",
    ),
    "several channels": (
        lambda study: change(study, "t_image.nii.gz", lambda voxels: np.stack([voxels] * 3, -1)),
        "{}/t_image.nii.gz: has 3 channels or frames where --in_channels is 1; give each frame a file",
    ),
    "empty datalist": (emptied, 'datalist.json: section "training" is missing or empty; list at least one item'),
    "no datalist": (lambda study: study.unlink(), "datalist.json: no such datalist; correct the path or prepare"),
}


def mistakes_of(bundle: str) -> list[str]:
    fine = {"no unlabelled voxel", "no background scribble", "0 where nothing is drawn"} if bundle == DRAWN else set()
    return [mistake for mistake in MISTAKES if mistake not in fine]


@pytest.mark.parametrize(("bundle", "mistake"), [(name, mistake) for name in BUNDLES for mistake in mistakes_of(name)])
def test_training_stops_at_bad_data(bundle: str, mistake: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, expected = MISTAKES[mistake]
    damage(study)
    assert expected.format(study.parent) in line_of(capsys, bundle, study, "train")
    assert list((study.parent / "out").iterdir()) == []


@pytest.mark.parametrize("bundle", BUNDLES)
def test_training_stops_where_it_cannot_write(bundle: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study.parent / "file").touch()
    line = line_of(capsys, bundle, study, "train", output_dir=str(study.parent / "file" / "out"))
    assert re.search("file/out: cannot write there .*; choose another output_dir", line)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_inference_and_evaluation_stop_at_bad_data(
    bundle: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = create_workflow(
        workflow_type="infer",
        config_file=str(REPO_ROOT / "bundles" / bundle / "configs" / "inference.json"),
        logging_file=None,
        filters=2,
    )
    weights = str(study.parent / "fresh.pt")
    torch.save(fresh.parser.get_parsed_content("network_def").state_dict(), weights)
    cut_short(study, "v_image.nii.gz")
    scans = study.parent / "scans"
    scans.mkdir()
    shutil.copy(study.parent / "t_image.nii.gz", scans)
    shutil.copy(study.parent / "v_image.nii.gz", scans)
    expected = "v_image.nii.gz: cannot be read, it is cut short"
    assert expected in line_of(capsys, bundle, study, "inference", dataset_dir=str(scans), weights=weights)
    assert expected in line_of(capsys, bundle, study, "train", "evaluate", weights=weights)
    assert list((study.parent / "out").iterdir()) == []


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"settings": {"filters": 2', "cannot be read as the settings of the weights beside it"),
        ('{"settings": {"in_channels": "one"}}', "in_channels is 'one', which cannot stand for 1"),
    ],
    ids=["cut short", "wrong type"],
)
def test_damaged_settings_of_weights(
    bundle: str, content: str, reason: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study.parent / "model.json").write_text(content)
    weights = str(study.parent / "model.pt")
    for names in (["inference"], ["train", "evaluate"]):
        line = line_of(capsys, bundle, study, *names, weights=weights)
        assert line.startswith(f"{study.parent / 'model.json'}: {reason}")
        assert "restore the file, or remove it and give the settings of the training by hand" in line


@pytest.mark.parametrize("bundle", BUNDLES)
def test_weights_have_to_exist_and_to_fit(bundle: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans = study.parent / "scans"
    scans.mkdir()
    shutil.copy(study.parent / "t_image.nii.gz", scans)
    damaged = study.parent / "damaged.pt"
    damaged.write_bytes(b"PK\x03\x04 no weights")
    torch.save({"some.weight": torch.zeros(3)}, study.parent / "foreign.pt")
    for name, reason in {
        "absent.pt": "no such weights; train first or name a file with --weights",
        "damaged.pt": "cannot be read as weights",
        "foreign.pt": "the weights do not fit the network; use the settings of its training",
    }.items():
        weights = str(study.parent / name)
        line = line_of(capsys, bundle, study, "inference", dataset_dir=str(scans), weights=weights)
        assert f"{name}: {reason}" in line
    assert list((study.parent / "out").iterdir()) == []
