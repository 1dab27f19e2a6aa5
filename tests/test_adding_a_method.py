"""The worked example of docs/adding_a_method.md: its files and commands are taken from the page and run."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import forked_programs
import pytest

from common.json_layout import format_text

MAX_LINES = 150
SMALL = {
    "train.json": ["--roi_size", "[48,48]", "--filters", "2", "--batch_size", "8"],
    "inference.json": ["--roi_size", "[48,48]", "--filters", "2"],
}


@pytest.fixture(scope="module")
def page(repo_root: Path) -> str:
    return (repo_root / "docs" / "adding_a_method.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def files(page: str) -> dict[str, str]:
    """The files that the page shows, by path."""
    return dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```$", page, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def checkout(repo_root: Path, files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the example stands on, with the page's files in their places."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("common", "bundles/dmpls/configs"):
        shutil.copytree(repo_root / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repo_root / "pyproject.toml", root)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert not (root / name).exists(), f"{name} is in the repository: the page has to show another example"
        (root / name).write_text(content, encoding="utf-8")
    return root


def run(checkout: Path, *words: str) -> str:
    result = forked_programs.run(words, cwd=checkout, timeout=300)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    return result.stdout + result.stderr


def test_a_method_takes_at_most_150_lines(files: dict[str, str]) -> None:
    assert {Path(name).suffix for name in files} == {".py", ".json"}
    assert sum(len(content.splitlines()) for content in files.values()) <= MAX_LINES


def test_the_files_keep_to_the_projects_style(checkout: Path, files: dict[str, str]) -> None:
    sources = [name for name in files if name.endswith(".py")]
    run(checkout, "-m", "ruff", "check", *sources)
    run(checkout, "-m", "ruff", "format", "--check", *sources)
    for name, content in files.items():
        if name.endswith(".json"):
            assert format_text(content) == content


def test_every_path_and_tool_that_the_page_names_is_there(page: str, files: dict[str, str], repo_root: Path) -> None:
    named = set(re.findall(r"`((?:common|bundles|tests)/[\w/.]+)`", page)) - set(files)
    assert [name for name in named if not (repo_root / name).exists()] == []
    for folder, stems in re.findall(r"`(common/\w+)/`[^|]*\| ((?:`\w+\.py`(?:, )?)+)", page):
        for stem in re.findall(r"`(\w+\.py)`", stems):
            assert (repo_root / folder / stem).is_file(), f"{folder}/{stem}"


def test_the_commands_train_score_and_segment(page: str, checkout: Path, phantom_dir: Path) -> None:
    blocks = [block.replace("\\\n", " ") for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)]
    commands = [shlex.split(block) for block in blocks if "<name>" not in block]
    assert [words[:3] for words in commands] == [["python", "-m", "pytest"], *[["python", "-m", "monai.bundle"]] * 3]
    test, train, evaluate, inference = (words[1:] for words in commands)
    assert "3 passed" in run(checkout, *test)
    options = ["--dataset_dir", str(phantom_dir), *SMALL["train.json"]]
    log = run(checkout, *train, *options, "--max_epochs", "1")
    assert re.search(r"train_l_entropy: 0\.\d+ train_l_pce: \d", log)
    assert (checkout / "runs" / "entropy" / "model.pt").is_file()
    run(checkout, *evaluate, *options)
    assert (checkout / "runs" / "entropy" / "evaluation" / "metrics.csv").is_file()
    folder = phantom_dir / "patient001"
    run(checkout, *inference, "--dataset_dir", str(folder), *SMALL["inference.json"])
    images = {path.name.removesuffix(".nii.gz") for path in folder.glob("*_frame??.nii.gz")}
    predictions = (checkout / "runs" / "entropy" / "predictions").rglob("*_seg.nii.gz")
    assert {path.name.removesuffix("_seg.nii.gz") for path in predictions} == images
