"""Releases of every bundle: the same bytes each time, nothing of this project needed, mistakes refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.packing.archive import checksum, unpack
from common.packing.large_files import read_large_files
from tools.pack import main

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())
SMALLEST = "cyclemix"


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """A folder with a release of each bundle, and with a second one of the smallest."""
    folder = tmp_path_factory.mktemp("packed")
    for bundle in BUNDLES:
        main(bundle, output=str(folder))
    second = copied(SMALLEST, tmp_path_factory.mktemp("second"))
    change(second / "configs" / "metadata.json", '"0.1.0": "first release"', '"0.2.0": "more", "0.1.0": "first"')
    main(str(second), output=str(folder), version="0.2.0")
    return folder


def copied(bundle: str, folder: Path) -> Path:
    return Path(shutil.copytree(REPO_ROOT / "bundles" / bundle, folder / bundle))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {
            name.partition("/")[2]: archive.read(name).decode()
            for name in archive.namelist()
            if not name.endswith((".pt", ".png"))
        }


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_release_holds_what_it_needs_and_names_nothing_else(packed, bundle):
    package = f"{bundle}_0_1_0"
    with zipfile.ZipFile(packed / f"{bundle}_v0.1.0.zip") as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {bundle}
    files = contents(packed / f"{bundle}_v0.1.0.zip")
    needed = ["LICENSE", f"{package}/LICENSE", "configs/logging.conf", "docs/data_license.txt", "models/model.json"]
    assert {*needed, "configs/tracking.json"} <= set(files)
    assert f"{package}.handlers.run_record.RunRecord" in files["configs/tracking.json"]
    assert f"{package}/handlers/run_record.py" in files
    for name, text in files.items():
        assert not re.search(r"(?<![\w.])common\.(?=\w)", text), name
        assert not re.search(r"[\"'$]import common|from common", text), name
    for name in [*re.findall(rf"{package}(?:\.\w+)+", files["configs/train.json"])]:
        module = name.replace(".", "/")
        assert {f"{module}.py", f"{module.rpartition('/')[0]}.py"} & set(files), name
    assert json.loads(files["configs/train.json"])["publish"] is True
    readme = files["docs/README.md"]
    assert f"bundles/{bundle}" not in readme
    assert "root of the repository" not in readme
    assert "| `publish` | true |" in readme
    assert f"`{package}/networks/" in readme


def test_no_other_bundles_code_comes_along(packed):
    files = contents(packed / "dmpls_v0.1.0.zip")
    assert "dmpls_0_1_0/networks/dual_branch_unet.py" in files
    assert not {"dmpls_0_1_0/engines/maag_trainer.py", "dmpls_0_1_0/packing/release.py"} & set(files)


def test_a_release_is_the_same_each_time_and_tells_its_checksum(packed, tmp_path, capsys):
    folder = copied(SMALLEST, tmp_path)  # other dates and modes, and what runs leave
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o755)
    (folder / "output").mkdir()
    (folder / "output" / "model.pt").write_bytes(b"x")
    (folder / "models" / "model.ts").write_bytes(b"x")
    (folder / "configs" / "monailabel_train.json").write_text("{}")
    main(str(folder), output=str(tmp_path / "again"))
    again, first = tmp_path / "again" / f"{SMALLEST}_v0.1.0.zip", packed / f"{SMALLEST}_v0.1.0.zip"
    assert again.read_bytes() == first.read_bytes()
    assert f"SHA-256: {checksum(first)}" in capsys.readouterr().out
    assert first.with_name(f"{first.name}.sha256").read_text() == f"{checksum(first)}  {first.name}\n"


def test_a_version_names_the_file_the_package_and_the_metadata(packed):
    files = contents(packed / f"{SMALLEST}_v0.2.0.zip")
    metadata = json.loads(files["configs/metadata.json"])
    assert (metadata["version"], list(metadata["changelog"])) == ("0.2.0", ["0.2.0", "0.1.0"])
    assert f"{SMALLEST}_0_2_0/bundle.py" in files
    assert f"{SMALLEST}_0_1_0" not in "".join(files.values())


def first_tensor(path: Path) -> tuple[str, dict]:
    content = torch.load(path, weights_only=True)
    return next(iter(content)), content


def without_a_tensor(folder: Path) -> None:
    name, content = first_tensor(folder / "models" / "model.pt")
    del content[name]
    torch.save(content, folder / "models" / "model.pt")


MISTAKES = {
    "does not tell of version 0.1.0": lambda f: change(f / "configs/metadata.json", '{"0.1.0":', '{"0.0.9":'),
    "network_data_format#outputs#pred: 'dtype' is a required property": lambda f: drop(f, "outputs", "pred", "dtype"),
    "describes the channels 0, 1, 2, 3, but num_channels is 5": lambda f: drop(f, "outputs", "pred", num_channels=5),
    'key "bundle_root" occurs twice': lambda f: change(
        f / "configs/train.json", '"bundle_root": ', '"bundle_root": 1, "bundle_root": '
    ),
    "nothing refers to 'spare'": lambda f: change(
        f / "configs/train.json", '"bundle_root": ', '"spare": 1, "bundle_root": '
    ),
    "names --see, which": lambda f: append(f / "docs/README.md", "python -m monai.bundle run --config_file {} --see 1"),
    "the weights do not fit": without_a_tensor,
    "cannot be read as weights": lambda f: (f / "models/model.pt").write_bytes(b"no weights"),
    "imports SimpleITK of simpleitk; add it": lambda f: change(
        f / "configs/metadata.json", '"SimpleITK": "2.5.7",', ""
    ),
    "common.networks.gone.Net: nothing in": lambda f: change(
        f / "configs/train.json", '"initialize": []', '"initialize": ["$common.networks.gone.Net()"]'
    ),
    "common.networks.unet_plus.UNetMinus: nothing in": lambda f: change(
        f / "configs/train.json", '"initialize": []', '"initialize": ["$common.networks.unet_plus.UNetMinus"]'
    ),
    "docs/data_license.txt: is missing": lambda f: (f / "docs/data_license.txt").unlink(),
    "models/model.pt: is missing": lambda f: (f / "models/model.pt").unlink(),
    "docs/scan.nii: has 26 MB": lambda f: (f / "docs/scan.nii").write_bytes(bytes(26 * 2**20)),
}


def drop(folder: Path, kind: str, tensor: str, *keys: str, **values: object) -> None:
    path = folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    found = metadata["network_data_format"][kind][tensor]
    found.update(values)
    for key in keys:
        del found[key]
    path.write_text(json.dumps(metadata))


def append(path: Path, command: str) -> None:
    command = command.format(f"bundles/{SMALLEST}/configs/train.json")
    path.write_text(f"{path.read_text()}\n```bash\n{command}\n```\n")


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_refused_in_one_line(tmp_path, message):
    folder = copied(SMALLEST, tmp_path)
    MISTAKES[message](folder)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        main(str(folder), output=str(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_release_is_not_packed_again(packed, tmp_path):
    folder = unpack(packed / f"{SMALLEST}_v0.1.0.zip", tmp_path)
    with pytest.raises(UserError, match=f"{SMALLEST}: is a release already, with its own code; pack the bundle that"):
        main(str(folder), output=str(tmp_path / "out"))
    with pytest.raises(UserError, match="of_our_ward: is a release already"):
        main(str(folder.rename(tmp_path / "of_our_ward")), output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_versions_and_names_that_are_none_are_refused(tmp_path):
    for version in ("0.9.9", "1", "../x"):
        with pytest.raises(UserError, match=r"changelog does not tell of version 0\.9\.9|is no version"):
            main(SMALLEST, version=version, output=str(tmp_path))
    with pytest.raises(UserError, match="nowhere: is no bundle"):
        main("nowhere")
    assert list(tmp_path.iterdir()) == []


def test_large_weights_stay_out_and_are_pointed_to(tmp_path, monkeypatch, capsys):
    folder = copied(SMALLEST, tmp_path)
    url = "https://example.org/weights/model.pt"
    with pytest.raises(UserError, match="are small enough to come along"):
        main(str(folder), output=str(tmp_path), weights_url=url)
    monkeypatch.setattr("common.packing.release.LIMIT", 500_000)
    with pytest.raises(UserError, match="upload it and say where with --weights_url"):
        main(str(folder), output=str(tmp_path))
    main(str(folder), output=str(tmp_path / "out"), weights_url=url)
    assert f"left out, to be uploaded to {url}" in capsys.readouterr().out
    unpacked = unpack(tmp_path / "out" / f"{SMALLEST}_v0.1.0.zip", tmp_path / "out")
    assert not (unpacked / "models" / "model.pt").exists()
    digest = checksum(folder / "models" / "model.pt")
    entry = {"path": "models/model.pt", "url": url, "hash_val": digest, "hash_type": "sha256"}
    assert read_large_files(unpacked) == {"models/model.pt": entry}
    # a bundle that says itself where its weights are needs no option
    shutil.copyfile(unpacked / "large_files.yml", folder / "large_files.yml")
    main(str(folder), output=str(tmp_path / "again"))
    both = [tmp_path / name / f"{SMALLEST}_v0.1.0.zip" for name in ("out", "again")]
    assert both[0].read_bytes() == both[1].read_bytes()
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(UserError, match=r"is not there yet; python -m monai.bundle download_large_files"):
        main(str(folder), output=str(tmp_path / "third"))


PROGRAM = """
import importlib.abc, logging, sys
class Forbid(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("common", "tools"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Forbid())
import torch
from monai.bundle import create_workflow, load
releases = [tuple(word.split("=")) for word in sys.argv[1:]]  # folder that holds it, bundle, package
sys.path[:0] = [f"{folder}/{bundle}" for folder, bundle, _ in releases]

def network(folder, bundle, package):
    found = {}
    for kind, name in (("train", "train"), ("inference", "inference")):
        config = f"{folder}/{bundle}/configs/{name}.json"
        workflow = create_workflow(config_file=config, workflow_type=kind, logging_file=False)
        assert workflow.parser.get_parsed_content("bundle_root") == f"{folder}/{bundle}", name
        found[name] = workflow.parser.get_parsed_content("network_def")
    found["load"] = load(bundle, bundle_dir=folder, workflow_type="inference", device="cpu")
    for name, module in found.items():
        names = {type(part).__module__.partition(".")[0] for part in module.modules()}
        assert names <= {package, "torch", "monai"} and package in names, (name, names)
    weights = torch.load(f"{folder}/{bundle}/models/model.pt", weights_only=True)
    assert all(torch.equal(value, weights[key]) for key, value in found["load"].state_dict().items())
    return found["load"]

packages = {package for *_, package in releases}
kept = {}
for order in (releases, releases[::-1]):
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]
    kept = {package: network(folder, bundle, package) for folder, bundle, package in order}
    assert len({type(module) for module in kept.values()}) == len(releases)
assert "common" not in sys.modules
loggers = {name.partition(".")[0] for name in logging.root.manager.loggerDict}
assert packages <= loggers and "common" not in loggers, loggers
print("apart")
"""


def test_a_release_runs_from_anywhere_without_a_search_path(packed, tmp_path):
    root = unpack(packed / f"{SMALLEST}_v0.1.0.zip", tmp_path)
    missing = tmp_path / "images"
    words = ["--config_file", str(root / "configs" / "inference.json"), "--dataset_dir", str(missing)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *words],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {missing}: no such file or folder")


def test_all_releases_live_in_one_process_and_keep_to_their_own_classes(packed, tmp_path):
    """In both orders, two releases of one bundle among them, where `common` cannot be imported."""
    releases = []
    for path in sorted(packed.glob("*.zip")):
        bundle, version = path.stem.split("_v")
        folder = tmp_path / version
        folder.mkdir(exist_ok=True)
        unpack(path, folder)
        releases.append(f"{folder}={bundle}={bundle}_{version.replace('.', '_')}")
    assert len(releases) == len(BUNDLES) + 1
    words = [sys.executable, "-I", "-W", "ignore", "-c", PROGRAM, *releases]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines()[-1] == "apart"
