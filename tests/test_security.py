"""Nothing of ours opens a network connection, runs a shell or unpickles: read off the code, and watched in runs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs" / "train.json").is_file())

NETWORK = {
    *["socket", "socketserver", "ssl", "asyncio", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp"],
    *["ftplib", "smtplib", "poplib", "imaplib", "nntplib", "telnetlib", "xmlrpc", "paramiko", "webbrowser", "mlflow"],
}
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
PROGRAMS = {"subprocess", "pty", "ctypes", "cffi", "runpy", "code", "commands"}
FORBIDDEN_IMPORTS = NETWORK | PICKLES | PROGRAMS
FORBIDDEN_CALLS = re.compile(
    r"eval|exec|compile|__import__|execfile"
    r"|importlib\.import_module"
    r"|os\.(system|popen|startfile|fork|forkpty|exec\w*|spawn\w*|posix_spawn\w*)"
    r"|torch\.(hub\..*|package\..*|jit\.load)"
    r"|torch\.utils\.cpp_extension\..*"
    r"|pandas\.read_pickle|numpy\.(fromregex|DataSource)"
    r"|yaml\.(load|load_all|unsafe_load|unsafe_load_all|full_load|full_load_all)"
    r"|monai\.apps\.(utils\.)?(download_url|download_and_extract|extractall)|monai\.bundle\.(load|download)"
    r"|shutil\.unpack_archive|(zipfile|tarfile)\..*extractall"
)
REASONS = {
    (
        "common/packing/verification.py",
        "subprocess",
    ): "tries a release in a Python of its own; a list of words, no shell",
    ("common/packing/trial_program.py", "torch.jit.load"): "reads the file that it has just exported",
    (
        "common/benchmarking/training_stage.py",
        "subprocess",
    ): "trains in a process of its own; a list of words, no shell",
    ("common/federated/nvflare_job.py", "importlib.import_module"): "NVFlare by its full name, where it is installed",
    ("tools/demo.py", "subprocess"): "runs the commands of the page one after the other; lists of words, no shell",
    ("tools/__main__.py", "importlib.import_module"): "the command of that name in tools/, which was looked up before",
}
"""What is allowed all the same, and why."""


def findings(source: str) -> Iterator[str]:
    """What a source imports and calls that is forbidden."""
    names: dict[str, str] = {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                if alias.name.partition(".")[0] in FORBIDDEN_IMPORTS:
                    yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            if str(node.module).partition(".")[0] in FORBIDDEN_IMPORTS:
                yield str(node.module)
    names |= {"np": "numpy"} if names.get("np", "numpy") == "numpy" else {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _of_call(node, dotted(node.func, names))


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name of what is called, as far as it can be told: of ``a().b`` only ``?.b``."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return "?"


def _of_call(node: ast.Call, name: str) -> Iterator[str]:
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if FORBIDDEN_CALLS.fullmatch(name):
        yield name
    if name == "torch.load" and options.get("weights_only") != "True":
        yield name
    if options.get("allow_pickle", "False") != "False":
        yield name
    if options.get("shell", "False") != "False":
        yield f"{name} with a shell"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import urllib.request", "urllib.request"),
        ("from http import client", "http"),
        ("def f():\n    import socket as s", "socket"),
        ("import pickle", "pickle"),
        ("from subprocess import run\nrun(['ls'])", "subprocess"),
        ("import os\nos.system('ls')", "os.system"),
        ("from os import popen as p\np('ls')", "os.popen"),
        ("import os as o\no.execv('ls', [])", "os.execv"),
        ("import torch\ntorch.load('a')", "torch.load"),
        ("import torch\ntorch.load('a', weights_only=False)", "torch.load"),
        ("from torch import load\nload('a')", "torch.load"),
        ("import torch.hub\ntorch.hub.load('a', 'b')", "torch.hub.load"),
        ("import numpy as np\nnp.load('a', allow_pickle=True)", "numpy.load"),
        ("import yaml\nyaml.load('a')", "yaml.load"),
        ("eval('1')", "eval"),
        ("exec('1')", "exec"),
        ("__import__('os')", "__import__"),
        ("import importlib\nimportlib.import_module('a')", "importlib.import_module"),
        ("f('ls', shell=True)", "f with a shell"),
    ],
)
def test_the_search_finds(source: str, found: str) -> None:
    assert found in set(findings(source))


def test_the_search_lets_plain_code_pass() -> None:
    source = "import re, torch, numpy as np, yaml, ast\nnetwork.eval()\nre.compile('a')\nast.literal_eval('1')\n"
    source += "torch.load('a', weights_only=True)\nnp.load('a')\nyaml.safe_load('a')\nmodel.load('a')"
    assert list(findings(source)) == []


def test_library_and_tools_open_no_connection_run_no_shell_and_unpickle_nothing() -> None:
    found = set()
    for folder in ("common", "tools"):
        for path in sorted((REPO_ROOT / folder).rglob("*.py")):
            name = path.relative_to(REPO_ROOT).as_posix()
            found |= {(name, what) for what in findings(path.read_text(encoding="utf-8"))}
    assert found - set(REASONS) == set(), "if it has to be, say why in REASONS"
    assert set(REASONS) - found == set(), "no longer there"


# What expressions of configurations may name: the library's modules that the configuration imports, references, these.
BUILTINS = {
    "abs",
    "bool",
    "float",
    "int",
    "len",
    "list",
    "max",
    "min",
    "range",
    "round",
    "set",
    "sorted",
    "str",
    "tuple",
}
OUTSIDE = {
    *["torch.device", "torch.cuda.is_available", "torch.bfloat16", "torch.channels_last"],
    *["torch.distributed.get_rank", "torch.distributed.get_world_size", "torch.distributed.is_initialized"],
    *["monai.handlers.from_engine", "monai.utils.set_determinism", "monai.utils.path_to_sqlite_uri"],
}
METHODS = {"parameters", "run", "to"}
TARGETS = re.compile(r"common(\.\w+)+|torch\.optim(\.\w+)+|torch\.nn\.\w+")


def config_values(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a configuration with its key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from config_values(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from config_values(item, key)
    elif isinstance(value, str):
        yield key, value


def refused_in_expression(text: str, modules: set[str]) -> set[str]:
    """The names of an expression ``$…`` that are not on the lists.

    Args:
        text: the expression without ``$``.
        modules: names of imported modules of the library.
    """
    if re.fullmatch(r"import common(\.[a-z_]+)+ as [a-z_]+", text):
        return set()
    try:
        tree = ast.parse(re.sub(r"@[\w#:]+", "REFERENCE", text), mode="eval")
    except SyntaxError:
        return {text}
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    arguments |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    known = BUILTINS | modules | arguments | {"REFERENCE"}
    refused, seen = set(), set()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Attribute, ast.Name)) or id(node) in seen:
            continue
        name = dotted(node, {})
        seen |= {id(inner) for inner in ast.walk(node)} if "?" not in name else set()
        root, _, rest = name.partition(".")
        allowed = name in OUTSIDE or (root in modules and re.fullmatch(r"[a-z]\w*", rest))
        allowed = allowed or (root in known - modules and rest in {"", *METHODS})
        if not allowed:
            refused.add(name)
    return refused


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "import common",
        "import common.files as files, os",
        "__import__('os')",
        "open('a')",
        "eval('1')",
        "exec('1')",
        "getattr(@network, 'a')",
        "torch.load('a')",
        "torch.hub.load('a', 'b')",
        "monai.bundle.download('a')",
        "files.os.system('ls')",
        "files.__loader__",
        "@network.__class__",
        "().__class__.__bases__",
        "[x for x in (1).__class__.mro()]",
        "(lambda f: f.read())(@file)",
        "x := 1",
    ],
)
def test_expressions_that_would_be_refused(text: str) -> None:
    assert refused_in_expression(text, {"files"}) != set()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_configurations_name_only_what_is_known_to_be_harmless(bundle: str) -> None:
    import monai.bundle

    for path in sorted((REPO_ROOT / "bundles" / bundle / "configs").rglob("*.json")):
        if path.name in ("metadata.json", "monailabel_train.json"):
            continue
        values = list(config_values(json.loads(path.read_text(encoding="utf-8"))))
        stack = [path, path.parents[1] / "configs" / "train.json"] if path.name != "tracking.json" else [path]
        imports = [
            text for file in stack if file.is_file() for text in re.findall(r"\$import \S+ as (\w+)", file.read_text())
        ]
        modules = {"bundle", *imports}
        for key, text in values:
            if text.startswith("$"):
                assert refused_in_expression(text[1:], modules) == set(), f"{path}: {text}"
            elif key == "_target_" and "." in text:
                assert TARGETS.fullmatch(text), f"{path}: {text}"
            elif key == "_target_":
                # a bare name is looked up among MONAI's own
                found = monai.bundle.ComponentLocator().get_component_module_name(text)
                assert found, f"{path}: {text}"
            assert not text.startswith("%"), f"{path}: {text} reads another file"
        assert not re.search(r'"weights_only": false|allow_pickle', path.read_text())


@pytest.mark.parametrize("bundle", BUNDLES)
def test_logging_conf_has_plain_arguments_alone(bundle: str) -> None:
    """Python evaluates ``class`` and ``args`` of such a file."""
    text = (REPO_ROOT / "bundles" / bundle / "configs" / "logging.conf").read_text()
    assert set(re.findall(r"^(?:class|args|kwargs) *=.*$", text, re.MULTILINE)) == {
        "class=StreamHandler",
        "args=(sys.stdout,)",
    }


def test_a_watched_run_is_stopped(tmp_path: Path) -> None:
    """The watch of the next test does see connections, programs and pickles."""
    for line in (
        "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import pickle, fractions; pickle.loads(pickle.dumps(fractions.Fraction(1, 2)))",
    ):
        done = watched(tmp_path, "-c", line)
        assert done.returncode == 1, line
        assert "forbidden: " in done.stderr, done.stderr
    assert watched(tmp_path, "-c", "import socket; socket.socketpair()").returncode == 0


def watched(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = Path(__file__).parent / "watched_program.py"
    # what switches MLflow's telemetry off by itself, as in a CI, is taken away
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO_ROOT)}
    return subprocess.run(
        [sys.executable, str(program), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_training_evaluation_and_inference_open_no_connection_run_no_program_and_unpickle_nothing(
    phantom_dir: Path, tmp_path: Path
) -> None:
    """Every bundle, the first one tracked by MLflow."""
    done = watched(tmp_path, "bundles", str(REPO_ROOT / "bundles"), str(phantom_dir), str(tmp_path), *BUNDLES)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "mlruns.db").is_file()
    for bundle in BUNDLES:
        assert (tmp_path / bundle / "model.pt").is_file()
        assert (tmp_path / bundle / "evaluation" / "metrics.json").is_file()
        assert list((tmp_path / bundle / "predictions").rglob("*_seg.nii.gz"))
