"""The steps of the demo, without the training."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from common.errors import UserError
from tools import demo
from tools.__main__ import main as tools_main
from tools.demo import EVALUATE, PREDICT, TRAIN, bundle_command, link_images, run


def test_a_command_is_what_a_user_would_type() -> None:
    assert bundle_command(["train", "demo"], {"output_dir": "runs/demo"}) == [
        *["python", "-m", "monai.bundle", "run"],
        *["--config_file", "['bundles/maag/configs/train.json','bundles/maag/configs/demo.json']"],
        *["--output_dir", "runs/demo"],
    ]


@pytest.mark.parametrize("step", [TRAIN, EVALUATE, PREDICT])
def test_the_configs_of_every_step_exist(repo_root: Path, step: tuple) -> None:
    for name in step[0]:
        assert (repo_root / "bundles" / "maag" / "configs" / f"{name}.json").is_file()


def test_links_keep_the_subfolders_and_nothing_else_comes_along(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("test/p1/p1_image.nii.gz", "test/p1/p1_gt.nii.gz", "test/p2/p2_image.nii.gz"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    link_images(sorted(data.rglob("*_image.nii.gz")), root=data, folder=tmp_path / "unseen")
    files = sorted(path for path in (tmp_path / "unseen").rglob("*") if path.is_file())
    names = [path.relative_to(tmp_path / "unseen").as_posix() for path in files]
    assert names == ["test/p1/p1_image.nii.gz", "test/p2/p2_image.nii.gz"]
    assert [path.read_text() for path in files] == names


def test_a_step_that_fails_stops_the_demo_and_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    run("greet", ["python", "-c", "print('hello')"])
    assert capfd.readouterr().out == "\n== greet\n$ python -c 'print('\"'\"'hello'\"'\"')'\nhello\n"
    with pytest.raises(UserError, match="train failed with exit status 3"):
        run("train", ["python", "-c", "raise SystemExit(3)"])


def test_the_demo_puts_every_result_where_it_says(
    phantom_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "demo"
    steps = []

    def pretend(step: str, command: list[str]) -> None:
        """Write what the bundle would: perfect predictions of what lies in the folder of unseen images."""
        steps.append(step)
        if step == "evaluate":
            (folder / "evaluation").mkdir(parents=True)
            scores = {"summary": {"all": {"dice": {"mean": 0.8125}}}}
            (folder / "evaluation" / "metrics.json").write_text(json.dumps(scores))
        elif step == "predict":
            for image in (folder / "unseen").rglob("*.nii.gz"):
                prediction = folder / "predictions" / image.parent.name / image.name.replace(".nii", "_seg.nii")
                prediction.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(image.resolve()).replace(".nii", "_gt.nii"), prediction)
        elif step.startswith("draw"):
            assert tools_main(command[3:]) == 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "REPO_ROOT", tmp_path)
    monkeypatch.setattr(demo, "default_phantom_dir", lambda: phantom_dir)
    monkeypatch.setattr(demo, "run", pretend)
    folder.mkdir(parents=True)
    (folder / "model.pt").write_text("of an earlier demo")

    demo.main()

    assert steps == ["train", "evaluate", "predict", "draw a training case", "draw an unseen case"]
    assert not (folder / "model.pt").exists()
    told = dict(re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines()[-5:])
    assert told["mean foreground Dice"] == "0.812"  # 0.8125 to three places, the half to the even digit
    for picture in told["pictures"].split(", "):
        assert (tmp_path / picture).is_file()
    assert (tmp_path / told["their summary"]).is_file()
    assert list((tmp_path / told["segmentations, 3D NIfTI"]).rglob("*_seg.nii.gz"))
