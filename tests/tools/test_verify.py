"""Checks of bundles and of their releases, and a release in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.packing.archive import unpack
from common.packing.metadata_check import check_metadata
from tools import pack, verify

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())
CHECKS = [
    "required files",
    "JSON without double or dead keys",
    "metadata as specified",
    "version and changelog",
    "required keys",
    "commands of the README",
    "code and declared packages",
    "sizes and checksums",
    "weights fit the network",
    "network takes and gives what the metadata say",
    "TorchScript export gives the same",
    "ONNX export gives the same",
]


def packed(bundle: str, folder: Path) -> Path:
    pack.main(bundle, output=str(folder))
    return folder / f"{bundle}_v0.1.0.zip"


def test_a_release_passes_every_check(tmp_path, capsys):
    path = packed("cyclemix", tmp_path)
    capsys.readouterr()
    verify.main(str(path))
    assert capsys.readouterr().out.splitlines() == [f"ok      {check}" for check in CHECKS]


def test_what_is_wrong_is_told_check_by_check(tmp_path, capsys):
    unpacked = unpack(packed("cyclemix", tmp_path), tmp_path)
    metadata = json.loads((unpacked / "configs" / "metadata.json").read_text())
    metadata |= {"version": "0.1.0", "changelog": {"0.0.1": "other"}, "task": " "}
    (unpacked / "configs" / "metadata.json").write_text(json.dumps(metadata))
    inference = json.loads((unpacked / "configs" / "inference.json").read_text())
    inference["spare"], inference["evaluator"]["postprocessing"] = 1, "@preprocessing"
    (unpacked / "configs" / "inference.json").write_text(json.dumps(inference))
    (unpacked / "cyclemix_0_1_0" / "networks" / "unet_plus.py").write_text("import common.errors\n")
    (unpacked / "docs" / "data_license.txt").unlink()
    (unpacked / "models" / "model.pt").unlink()
    with pytest.raises(UserError, match="7 checks failed"):
        verify.main(str(unpacked))
    lines = capsys.readouterr().out.splitlines()
    failed = [line.removeprefix("FAILED  ").partition(":")[0] for line in lines if line.startswith("FAILED")]
    assert failed == [check for check in CHECKS[:9] if check not in ("commands of the README", "sizes and checksums")]


def test_a_release_may_be_unpacked_into_a_folder_of_any_name(tmp_path, capsys):
    unpacked = unpack(packed("cyclemix", tmp_path), tmp_path).rename(tmp_path / "mine")
    capsys.readouterr()
    verify.main(str(unpacked))
    assert "FAILED" not in capsys.readouterr().out


def test_zip_files_that_are_not_what_they_are_called_are_refused(tmp_path):
    path = packed("cyclemix", tmp_path)
    other = path.with_name("cyclemix_v0.3.0.zip")
    shutil.copyfile(path, other)
    with pytest.raises(UserError, match=r"holds cyclemix 0\.1\.0; call it cyclemix_v0\.1\.0\.zip"):
        verify.main(str(other))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("cyclemix/more.txt", "more")
    with pytest.raises(UserError, match=r"is not the file that cyclemix_v0\.1\.0\.zip\.sha256 tells of"):
        verify.main(str(path))
    path.with_name(f"{path.name}.sha256").unlink()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../more.txt", "more")
    with pytest.raises(UserError, match="leads out of its folder"):
        verify.main(str(path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 1),
        ("changelog", {}),
        ("monai_version", "new"),
        ("eval_metrics", {"dice": "good"}),
        ("references", "a paper"),
        ("network_data_format", {"inputs": {}}),
        ("required_packages_version", {"scipy": 1.0}),
        ("schema", "file.json"),
    ],
)
def test_metadata_are_compared_with_the_specification(key, value):
    metadata = json.loads((REPO_ROOT / "bundles" / "maag" / "configs" / "metadata.json").read_text())
    check_metadata(metadata, "metadata.json")
    with pytest.raises(UserError, match=rf"metadata\.json: {key}"):
        check_metadata(metadata | {key: value}, "metadata.json")
    if key not in ("schema", "eval_metrics", "references"):
        with pytest.raises(UserError, match=key):
            check_metadata({name: item for name, item in metadata.items() if name != key}, "metadata.json")


@pytest.mark.ecosystem
@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_bundle_and_its_release_pass(bundle, tmp_path, capsys):
    path = packed(bundle, tmp_path)
    for name in (bundle, str(path)):
        capsys.readouterr()
        verify.main(name)
        assert capsys.readouterr().out.splitlines() == [f"ok      {check}" for check in CHECKS]


@pytest.fixture(scope="module")
def foreign_python(tmp_path_factory) -> Path:
    """The interpreter of a virtual environment that has the packages of the bundles' metadata and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    packages: dict[str, str] = {}
    for bundle in BUNDLES:
        metadata = json.loads((REPO_ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text())
        named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
        declared = metadata["required_packages_version"] | {name: metadata[key] for name, key in named.items()}
        assert {**packages, **declared} == {**declared, **packages}, "the bundles declare different versions"
        packages |= declared
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *(f"{name}=={version}" for name, version in packages.items())], check=True)
    return python


def run(python: Path, cwd: Path, *words: str, python_path: str = "") -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path}
    command = [str(python), "-W", "ignore", *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.ecosystem
@pytest.mark.parametrize("bundle", BUNDLES)
def test_an_unpacked_release_works_where_the_library_is_not(bundle, foreign_python, phantom_dir, tmp_path):
    root = unpack(packed(bundle, tmp_path), tmp_path)
    missing = "import importlib.util; assert importlib.util.find_spec('common') is None"
    run(foreign_python, tmp_path, "-c", missing)
    small = ["--pixdim", "[4.0,4.0]", "--roi_size", "[48,48]", "--filters", "4", "--batch_size", "8"]
    data = ["--dataset_dir", str(phantom_dir), "--output_dir"]
    bundle_run = ("-m", "monai.bundle", "run", "--config_file")
    # from inside the bundle, and from elsewhere
    run(foreign_python, root, *bundle_run, "configs/train.json", *data, "out", "--max_epochs", "1", *small)
    published = torch.load(root / "models" / "model.pt", weights_only=True)
    trained = torch.load(root / "out" / "model.pt", weights_only=True)
    assert all(torch.equal(value, trained[name]) for name, value in published.items())
    configs = f"['{bundle}/configs/train.json','{bundle}/configs/evaluate.json']"
    run(foreign_python, tmp_path, *bundle_run, configs, *data, str(tmp_path / "scores"))
    assert "dice" in json.loads((tmp_path / "scores" / "metrics.json").read_text())["summary"]["all"]
    run(foreign_python, tmp_path, *bundle_run, f"{bundle}/configs/inference.json", *data, str(tmp_path / "seen"))
    assert list((tmp_path / "seen").rglob("*_seg.nii.gz"))
    program = f"""
from monai.bundle import create_workflow, load
network = load({bundle!r}, bundle_dir={str(tmp_path)!r}, workflow_type="inference", device="cpu")
assert type(network).__module__.startswith("{bundle}_0_1_0."), type(network)
for kind, names in (("train", ["train"]), ("infer", ["train", "evaluate"]), ("infer", ["inference"])):
    files = [f"{root}/configs/{{name}}.json" for name in names]
    workflow = create_workflow(workflow_type=kind, config_file=files, dataset_dir={str(phantom_dir)!r}, output_dir="o")
    assert workflow.check_properties() == [], workflow.check_properties()
print("loaded")
"""
    assert "loaded" in run(foreign_python, root, "-c", program)
    assert "loaded" in run(foreign_python, tmp_path, "-c", program, python_path=str(root))
