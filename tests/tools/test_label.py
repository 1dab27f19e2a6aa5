"""``python -m tools label``: bundles in an app of MONAI Label, fresh weights, and the ranking of a server's images."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from common.errors import UserError
from common.handlers.atomic_checkpoint import load_weights
from common.model_settings import read_settings
from common.packing.archive import unpack
from common.packing.installed_bundle import weights_state
from tools import label, pack

HEART = ["background", "RV", "MYO", "LV"]
APP = "from monailabel.tasks.infer.bundle import BundleInferTask\n"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    pack.main("cyclemix", output=str(folder))
    return folder / "cyclemix_v0.1.0.zip"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """What makes a folder an app: the rest of it is MONAI Label's own affair, which the ecosystem's tests look at."""
    folder = tmp_path / "monaibundle"
    folder.mkdir()
    (folder / "main.py").write_text(APP)
    return folder


def configs(bundle: Path, name: str) -> dict:
    return json.loads((bundle / "configs" / f"{name}.json").read_text())


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replaced(release: Path, target: Path, change: Callable[[str, bytes], list[tuple[str, bytes]]]) -> Path:
    """A zip file whose entries are those of a release, each turned into others."""
    with zipfile.ZipFile(release) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            for entry, content in change(name, old.read(name)):
                new.writestr(entry, content)
    return target


def test_a_release_is_put_into_the_app_and_trains_as_its_weights_did(release, app, capsys):
    code = set(sys.modules)
    label.main("install", str(release), app=str(app))
    assert not any(name.startswith("cyclemix_") for name in set(sys.modules) - code)  # nothing of it was run
    bundle = app / "model" / "cyclemix"
    original = files(unpack(release, app))
    installed = files(bundle)
    assert {name for name in original if original[name] != installed[name]} == {
        "configs/train.json",
        "configs/metadata.json",
    }
    assert set(installed) == set(original)
    train, settings = configs(bundle, "train"), read_settings(bundle / "models" / "model.pt")
    assert {key: train[key] for key in settings} == settings
    assert (settings["filters"], settings["pixdim"], train["num_classes"]) == (8, [2.0, 2.0], 4)
    assert (train["publish"], train["progress"]) == (True, False)
    released = json.loads(original["configs/train.json"])
    assert released["filters"] == 64  # the release's own default is the paper's
    changed = {key for key in train if train[key] != released[key]}
    assert changed == {"filters", "network_padding", "pixdim", "roi_size", "num_classes", "progress"}
    assert weights_state(bundle) == "installed"
    told = capsys.readouterr().out
    assert told.splitlines()[0] == f"{bundle}: background, RV, MYO, LV; trained weights"
    assert told.splitlines()[-1] == (
        f"monailabel start_server --app {app} --studies <folder of images> --conf models cyclemix "
        "--conf zoo_source ngc --conf sam2 false --host 127.0.0.1"
    )


def test_names_zip_files_and_folders_go_together(release, app, tmp_path, capsys):
    folder = unpack(release, tmp_path)
    label.main("install", "dmpls", str(folder), app=str(app))
    assert sorted(path.name for path in (app / "model").iterdir()) == ["cyclemix", "dmpls"]
    assert "--conf models cyclemix,dmpls " in capsys.readouterr().out
    assert (app / "model" / "dmpls" / "dmpls_0_1_0" / "networks" / "dual_branch_unet.py").is_file()


def test_a_release_keeps_the_name_that_its_folder_was_given(release, app, tmp_path, capsys):
    folder = unpack(release, tmp_path).rename(tmp_path / "of_our_ward")
    label.main("install", str(folder), app=str(app))
    bundle = app / "model" / "of_our_ward"
    assert capsys.readouterr().out.startswith(f"{bundle}: background, RV, MYO, LV; trained weights")
    label.main("init", str(bundle), class_names="background,lesion", force=True)  # by the release's own code
    assert "untrained weights for background, lesion" in capsys.readouterr().out
    told = json.loads((bundle / "models" / "model.json").read_text())["training"]
    assert told == {"bundle": "cyclemix", "seed": 0, "epochs": 0, "iterations": 0}


def test_all_are_installed_or_none(release, app):
    with pytest.raises(UserError, match="no_such_bundle: is no bundle"):
        label.main("install", str(release), "no_such_bundle", app=str(app))
    assert not (app / "model").exists() or not list((app / "model").iterdir())
    with pytest.raises(UserError, match=r"is a second bundle called cyclemix; install one of them"):
        label.main("install", str(release), "cyclemix", app=str(app))
    assert not list((app / "model").iterdir())


def test_faulty_files_are_refused_in_a_line(release, app, tmp_path):
    def refused(pattern: str, change: Callable[[str, bytes], list[tuple[str, bytes]]]) -> None:
        path = replaced(release, tmp_path / "faulty.zip", change)
        with pytest.raises(UserError, match=pattern) as error:
            label.main("install", str(path), app=str(app))
        assert "\n" not in str(error.value)
        assert not list((app / "model").iterdir())
        assert not (tmp_path / "evil").exists()

    first = "cyclemix/LICENSE"
    for name in ("cyclemix/../../evil", "/evil", "cyclemix\\..\\evil"):
        refused("leads out of its folder", lambda n, c, name=name: [(n, c), (name, b"x")] if n == first else [(n, c)])
    refused("holds 2 folders", lambda n, c: [(n, c), ("evil/file", b"x")] if n == first else [(n, c)])
    refused(r"has no cyclemix/configs/inference\.json", lambda n, c: [] if n.endswith("inference.json") else [(n, c)])
    refused(r"has no cyclemix/cyclemix_0_1_0/, its code", lambda n, c: [] if "_0_1_0/" in n else [(n, c)])
    refused("its weights are not in the file", lambda n, c: [] if n.endswith("model.pt") else [(n, c)])
    refused(
        'MONAI Label takes "detection" for a kind',
        lambda n, c: [(n.replace("cyclemix", "my_detection"), c)],
    )
    link = zipfile.ZipInfo("cyclemix/link")
    link.external_attr = 0o120777 << 16
    path = replaced(release, tmp_path / "linked.zip", lambda n, c: [(n, c)])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="is a link or no plain file"):
        label.main("install", str(path), app=str(app))
    (tmp_path / "text.zip").write_text("no zip file")
    with pytest.raises(UserError, match="is no zip file that can be read"):
        label.main("install", str(tmp_path / "text.zip"), app=str(app))
    folder = unpack(release, tmp_path)
    (folder / "docs" / "more.md").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match=r"more\.md: is a link; a bundle holds its own files"):
        label.main("install", str(folder), app=str(app))


def test_options_that_make_no_sense_are_refused(release, app, tmp_path):
    for pattern, arguments, options in (
        ("no monaibundle app; get one with: monailabel apps --download", ("install", "x"), {"app": str(tmp_path)}),
        ("install needs --app", ("install", str(release)), {}),
        ("install needs bundles", ("install",), {"app": str(app)}),
        ('"remove" is no action of label; choose install, init, rank', ("remove",), {}),
        ("rank has no --app", ("rank", "x"), {"app": str(app)}),
        ("init needs one installed bundle, and got 2", ("init", "a", "b"), {}),
        ("init needs one installed bundle, and got 0", ("init",), {}),
        ("no installed bundle; put it there with python -m tools label install", ("init", "maag"), {"app": str(app)}),
        ("--seed is -1", ("init", "maag"), {"seed": -1}),
        ('begins with "liver"', ("install", str(release)), {"app": str(app), "class_names": "liver,spleen"}),
    ):
        with pytest.raises(UserError, match=pattern):
            label.main(*arguments, **options)


def test_what_is_there_is_replaced_by_force_and_a_training_is_kept(release, app, capsys):
    label.main("install", str(release), app=str(app))
    with pytest.raises(UserError, match="is there already; give --force to replace it"):
        label.main("install", str(release), app=str(app))
    label.main("install", str(release), app=str(app), force=True)
    assert not (app / "replaced").exists()  # the release has what was there
    weights = app / "model" / "cyclemix" / "models" / "model.pt"
    for number in (1, 2):
        torch.save({"trained": torch.full((1,), float(number))}, weights)
        assert weights_state(weights.parents[1]) == "trained"
        capsys.readouterr()
        label.main("install", str(release), app=str(app), force=True)
        kept = app / "replaced" / f"cyclemix_{number}"
        assert f"the one before, which was trained there, is kept in {kept}" in capsys.readouterr().out
        assert torch.load(kept / "models" / "model.pt")["trained"].item() == number
    assert weights_state(weights.parents[1]) == "installed"


def test_nothing_is_lost_when_renaming_fails(release, app, monkeypatch):
    label.main("install", str(release), app=str(app))
    before = files(app)
    rename = label.install.__globals__["os"].rename

    def fail(old: Path, new: Path) -> None:
        if Path(new) == app / "model" / "cyclemix" and "before" not in str(old):
            raise PermissionError(13, "Permission denied")
        rename(old, new)

    monkeypatch.setattr("common.packing.label_app.os.rename", fail)
    with pytest.raises(UserError, match=r"nothing was installed \(Permission denied\)"):
        label.main("install", str(release), app=str(app), force=True)
    assert files(app) == before


def test_other_classes_get_fresh_weights_marked_as_untrained(release, app, capsys):
    label.main("install", str(release), app=str(app), class_names="background,Spleen,tumour", seed=5)
    bundle = app / "model" / "cyclemix"
    assert f"{bundle}: background, Spleen, tumour; untrained weights" in capsys.readouterr().out
    metadata = configs(bundle, "metadata")
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        "0": "background",
        "1": "Spleen",
        "2": "tumour",
    }
    assert metadata["network_data_format"]["outputs"]["pred"]["num_channels"] == 3
    assert metadata["installed_weights"]["trained"] is False
    assert metadata["description"].startswith("Installed with untrained weights, until a training replaces them")
    assert metadata["eval_metrics"] == {}
    assert configs(bundle, "train")["num_classes"] == 3
    content = json.loads((bundle / "models" / "model.json").read_text())
    assert content["training"] == {"bundle": "cyclemix", "seed": 5, "epochs": 0, "iterations": 0}
    assert (content["settings"]["num_classes"], content["settings"]["filters"]) == (3, 8)
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert [len(value) for name, value in state.items() if name.startswith("output.0")] == [3, 3]
    assert weights_state(bundle) == "untrained"
    # the classes that it has already leave the weights alone, whatever the case of their letters
    label.main("install", str(release), app=str(app), class_names="Background,rv,myo,lv", force=True)
    assert weights_state(bundle) == "installed"


def test_fresh_weights_fit_the_network_and_follow_the_seed(release, app, capsys):
    label.main("install", str(release), app=str(app))
    bundle = app / "model" / "cyclemix"
    weights = bundle / "models" / "model.pt"
    shipped = weights.read_bytes()
    with pytest.raises(UserError, match="are trained weights; give --force to replace them"):
        label.main("init", "cyclemix", app=str(app))
    assert weights.read_bytes() == shipped
    states = []
    torch.manual_seed(11)
    draw = torch.rand(1)
    torch.manual_seed(11)
    for seed in (0, 0, 1):
        label.main("init", str(bundle), seed=seed, force=not states)  # untrained weights go without force
        states.append(torch.load(weights, weights_only=True))
    assert torch.equal(torch.rand(1), draw)  # the draws of others go on as if nothing had been
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert weights_state(bundle) == "untrained"
    assert not (bundle / "replaced").exists()
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    sys.path.insert(0, str(bundle))
    try:
        load_weights(parser.get_parsed_content("network_def"), weights)
    finally:
        sys.path.remove(str(bundle))
    assert "untrained weights for background, RV, MYO, LV, seed 1" in capsys.readouterr().out


def test_the_mark_ends_with_a_training_and_its_weights_are_kept(release, app, capsys):
    label.main("install", str(release), app=str(app), class_names="background,spleen")
    bundle = app / "model" / "cyclemix"
    weights = bundle / "models" / "model.pt"
    assert weights_state(bundle) == "untrained"
    trained = {key: value + 1 for key, value in torch.load(weights, weights_only=True).items()}
    torch.save(trained, weights)
    assert weights_state(bundle) == "trained"
    with pytest.raises(UserError, match="give --force"):
        label.main("init", str(bundle), class_names="background,spleen,liver")
    assert configs(bundle, "train")["num_classes"] == 2
    label.main("init", str(bundle), class_names="background,spleen,liver", force=True)
    kept = bundle / "replaced" / "model_1.pt"
    assert f"the ones before are kept in {kept}" in capsys.readouterr().out
    assert all(torch.equal(value, trained[key]) for key, value in torch.load(kept, weights_only=True).items())
    assert read_settings(kept)["num_classes"] == 2
    assert read_settings(weights)["num_classes"] == configs(bundle, "train")["num_classes"] == 3
    assert list((bundle / "models").glob("*.pt")) == [weights]  # a server offers every other one as well


def test_a_network_that_cannot_be_built_leaves_the_bundle_as_it_was(release, app):
    label.main("install", str(release), app=str(app))
    bundle = app / "model" / "cyclemix"
    (bundle / "cyclemix_0_1_0" / "networks" / "unet_plus.py").write_text("raise ImportError('gone')\n")
    before = files(bundle)
    with pytest.raises(UserError, match="its network cannot be built") as error:
        label.main("init", str(bundle), class_names="background,spleen", force=True)
    assert "\n" not in str(error.value)
    shutil.rmtree(bundle / "cyclemix_0_1_0" / "__pycache__", ignore_errors=True)
    assert {name: text for name, text in files(bundle).items() if "__pycache__" not in name} == before


def test_rank_tells_the_least_certain_image_first(tmp_path, capsys):
    def entry(entropy: float | None, *labels: str) -> dict:
        info = {} if entropy is None else {"epistemic_entropy": entropy}
        return {"image": {"ext": ".nii.gz", "info": info}, "labels": {tag: {} for tag in labels}}

    objects = {"b": entry(0.25), "a": entry(0.5), "new": entry(None), "done": entry(0.9, "final")}
    objects["drafted"] = entry(0.375, "original")
    (tmp_path / "datastore_v2.json").write_text(json.dumps({"objects": objects}))
    label.main("rank", str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [["0.5000", "a"], ["0.3750", "drafted"], ["0.2500", "b"]]
    assert lines[3:] == [
        "not scored  new",
        "4 images without a label, 3 of them scored; the least certain stand first",
    ]
    with pytest.raises(UserError, match=r"datastore_v2\.json: is missing; name the folder"):
        label.main("rank", str(tmp_path / "other"))
    for text in ("{", '{"objects": 3}', '{"objects": {"a": {}}}', "[]"):
        (tmp_path / "datastore_v2.json").write_text(text)
        with pytest.raises(UserError, match="cannot be read as a MONAI Label datastore"):
            label.main("rank", str(tmp_path))
