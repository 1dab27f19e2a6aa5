"""Several processes under torchrun, on CPUs: the same gradients, files of the first alone, and no hang.

Every run of the tests checks the gradients of the two quickest bundles and the files of the quickest, the ecosystem's
tests all of them.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from torchrun import BUNDLES, REPO_ROOT, SMALL, command, errors, finish, run, start, written

PROGRAM = Path(__file__).with_name("step_gradients.py")
QUICK = ("dmpls", "maag")
QUICKEST = ("maag",)
TOLERANCE = 1e-9
"""Of gradients of about 0.01 to 1, in float64; a forgotten sum over processes changes them by a tenth or more."""

# every key that takes a head, a loss or a network away, or shares draws in a way of its own
CHANGES = {
    "attenscribble": [
        {"self_attention": False, "lambda_atn": 0.0},
        {"lambda_atn": 0.0, "similarity_bias": False},
        {"attention_layers": 2, "attention_heads": 2, "mask_omega_u": True, "mask_q": True},
    ],
    "coarse_labels": [
        {"warm_start": 1.0},
        {"confusion": "none"},
        {"confusion": "rank1", "negative": False, "separate": True},
        {"transition": "learned", "checkpointing": True, "labelled_share": 0.5, "dense_share": 0.5},
        {"unpainted": "ignore", "lambda_trace": 0.0},
    ],
    "cyclemix": [
        {"mixer": "mixup", "rotate_mixed": True},
        {"mixer": "cutmix", "reduction": "sum"},
        {"mixer": "comixup", "cosine": "image"},
        {"mixer": "cutout", "occlusion": False},
        {"transport_labels": True, "symmetric": True},
        {"mixer": "none", "lambda_mix": 0.0, "lambda_con_g": 0.0},
        {"lambda_unmix": 0.0, "lambda_con_g": 0.0, "lambda_con_l": 0.0},
    ],
    "dmpls": [
        {"mixing": "none"},
        {"mixing": "cr", "head": "auxiliary"},
        {"mixing": "cps", "pseudo_loss": "ce"},
        {"pseudo_weight": 0.0, "auxiliary_dropout_at": "decoder"},
    ],
    "maag": [
        {"adversary": False},
        {"adversary": False, "gating": False},
        {"deep_supervision": False, "gating": False},
        {"train#masks#dataset#data": [], "gating": False},
        {"use_unlabelled": False, "gating": False},
        {"supervised_adversarial": "discriminator", "discriminator_form": "code"},
        {"a1": 0.0, "labelled_share": 0.5, "dense_share": 0.5, "loss_weighting": "inverse"},
    ],
}


def bundles(always: tuple[str, ...]) -> pytest.MarkDecorator:
    """All bundles; those that are not named only in the ecosystem's tests."""
    others = [pytest.param(name, marks=pytest.mark.ecosystem) for name in BUNDLES if name not in always]
    return pytest.mark.parametrize("bundle", [*always, *others])


def largest_difference(folder: Path, phantom: Path, cases: list[list], processes: int = 2) -> dict[str, float]:
    """By case: how far any gradient of any step on several processes is from the one of a single process."""
    words = [str(processes), str(phantom), json.dumps(cases)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, str(PROGRAM), str(folder), str(rank), *words], env=environment)
        for rank in range(processes)
    ]
    deadline = time.monotonic() + 540
    # one that fails leaves the others waiting
    while any(process.poll() is None for process in started):
        if time.monotonic() > deadline or any(process.poll() for process in started):
            for process in started:
                process.kill()
        time.sleep(0.1)
    assert [process.returncode for process in started] == [0] * processes
    found = {}
    for name, *_ in cases:
        parts = [torch.load(folder / f"{name}.{rank}.pt", weights_only=True) for rank in range(processes)]
        alone = parts[0]["alone"]
        largest = max(float(value.abs().max()) for step in alone for value in step)
        assert largest > 1e-3, name
        found[name] = 0.0
        for part in parts:
            assert len(part["together"]) == len(alone), name
            for step, expected in zip(part["together"], alone, strict=True):
                for one, other in zip(step, expected, strict=True):
                    found[name] = max(found[name], float((one - other).abs().max()))
    return found


def test_gradients_are_those_of_one_process_with_the_same_batch(phantom_dir, tmp_path):
    found = largest_difference(tmp_path, phantom_dir, [[name, name, {}] for name in QUICK])
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.ecosystem
@pytest.mark.parametrize("bundle", BUNDLES)
def test_gradients_with_every_key_that_switches_something_off(bundle, phantom_dir, tmp_path):
    changes = [{}, *CHANGES.get(bundle, [])]
    cases = [[f"case{number}", bundle, change] for number, change in enumerate(changes)]
    found = largest_difference(tmp_path, phantom_dir, cases)
    assert max(found.values()) < TOLERANCE, dict(zip(map(str, changes), found.values(), strict=True))


@pytest.mark.ecosystem
def test_gradients_of_three_processes(phantom_dir, tmp_path):
    found = largest_difference(tmp_path, phantom_dir, [["cyclemix", "cyclemix", {}]], processes=3)
    assert found["cyclemix"] < TOLERANCE


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def assert_same(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert list(one) == list(other)
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


def steady(bundle: str) -> dict[str, str]:
    """Options of a training that validates each epoch and whose epochs are the same in a longer one."""
    keys = json.loads((REPO_ROOT / "bundles" / bundle / "configs" / "train.json").read_text())
    options = {"val_interval": "1", "warm_start": "0", "learning_rate_power": "0"}
    return {key: value for key, value in options.items() if key in keys}


@pytest.fixture(scope="module")
def trained(phantom_dir, tmp_path_factory):
    """Bundles trained for two epochs on two processes, each when it is first asked for."""
    done: dict[str, Path] = {}

    def train(bundle: str) -> Path:
        if bundle not in done:
            folder = tmp_path_factory.mktemp(bundle)
            options = {"dataset_dir": phantom_dir, "output_dir": folder / "out", "max_epochs": 2, **steady(bundle)}
            result = run(bundle, "multi_gpu_train", notes=folder / "notes", **options)
            assert result.returncode == 0, result.stderr[-3000:]
            done[bundle] = folder
        return done[bundle]

    return train


@bundles(always=QUICKEST)
def test_two_processes_train_and_the_first_alone_writes(bundle, trained, phantom_dir):
    folder = trained(bundle)
    names = Counter(path.name.partition(".tfevents")[0] for path in (folder / "out").iterdir())
    assert set(names) == {
        *("model.pt", "model.json", "model_best.pt", "model_best.json", "checkpoint.pt", "events.out", "cache")
    }
    by_first = Counter(written(folder / "notes", 0, folder / "out"))
    assert {"model.pt", "model_best.pt", "checkpoint.pt"} <= set(by_first)
    # the first process alone, each volume once
    assert written(folder / "notes", 1, folder) == []
    assert written(folder / "notes", 1, phantom_dir) == written(folder / "notes", 0, phantom_dir) == []
    volumes = [f"cache/{path.name}" for path in (folder / "out" / "cache").iterdir()]
    assert volumes
    assert {by_first[name] for name in volumes} == {1}
    assert by_first["model.pt"] == 1
    assert by_first["checkpoint.pt"] == 2


@bundles(always=QUICKEST)
def test_two_processes_evaluate_as_one_does(bundle, trained, phantom_dir, tmp_path):
    """With weights of two processes, which a single one reads too."""
    options = {"dataset_dir": phantom_dir, "weights": trained(bundle) / "out" / "model.pt", "section": "test"}
    result = run(
        bundle, "evaluate", "multi_gpu_evaluate", notes=tmp_path / "notes", output_dir=tmp_path / "two", **options
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert written(tmp_path / "notes", 1, tmp_path) == []
    result = run(bundle, "evaluate", processes=0, output_dir=tmp_path / "one", **options)
    assert result.returncode == 0, result.stderr[-3000:]
    rows = [(tmp_path / name / "metrics.csv").read_text() for name in ("one", "two")]
    cases = json.loads((phantom_dir / "datalist.json").read_text())["test"]
    assert len(rows[0].splitlines()) == 1 + 3 * len(cases)
    assert sorted(rows[0].splitlines()) == sorted(rows[1].splitlines())
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one["summary"] == two["summary"]
    assert one["metrics"] == pytest.approx(two["metrics"])


@pytest.mark.ecosystem
@pytest.mark.parametrize("bundle", ["attenscribble", "maag"])
def test_a_resumed_run_of_two_processes_is_the_unbroken_one(bundle, trained, phantom_dir, tmp_path):
    options = {"dataset_dir": phantom_dir, "output_dir": tmp_path, "cache_dir": trained(bundle) / "out" / "cache"}
    options |= steady(bundle)
    first = run(bundle, "multi_gpu_train", max_epochs=1, **options)
    assert first.returncode == 0, first.stderr[-3000:]
    second = run(bundle, "multi_gpu_train", max_epochs=2, resume="true", **options)
    assert second.returncode == 0, second.stderr[-3000:]
    assert "resuming after epoch 1" in second.stdout + second.stderr
    for name in ("model.pt", "model_best.pt"):
        assert_same(tmp_path / name, trained(bundle) / "out" / name)
    # and goes on in a single process, with as many slices a step
    third = run(bundle, processes=0, max_epochs=3, resume="true", batch_size=8, **options)
    assert third.returncode == 0, third.stderr[-3000:]
    assert "resuming after epoch 2" in third.stdout + third.stderr


@pytest.mark.ecosystem
@pytest.mark.parametrize(("bundle", "options"), [("cyclemix", {}), ("maag", {"preset": "code"})])
def test_bfloat16(bundle, options, phantom_dir, tmp_path):
    settings = {"dataset_dir": phantom_dir, "output_dir": tmp_path, "max_epochs": 1, "amp": "true", **options}
    result = run(bundle, "multi_gpu_train", **settings)
    assert result.returncode == 0, result.stderr[-3000:]
    assert all(torch.isfinite(value.float()).all() for value in weights(tmp_path / "model.pt").values())


@pytest.mark.ecosystem
def test_compiled(trained, phantom_dir, tmp_path):
    """The names of the weights are those of a plain network, and the numbers those of a plain run but for rounding."""
    options = {
        "dataset_dir": phantom_dir,
        "output_dir": tmp_path,
        "max_epochs": 1,
        "compile": "true",
        "val_interval": 9,
    }
    result = run("dmpls", "multi_gpu_train", **options)
    assert result.returncode == 0, result.stderr[-3000:]
    assert list(weights(tmp_path / "model.pt")) == list(weights(trained("dmpls") / "out" / "model.pt"))


def damaged(phantom: Path, folder: Path, change) -> Path:
    """A copy of the phantom whose datalist went through ``change``."""
    shutil.copytree(phantom, folder)
    content = json.loads((folder / "datalist.json").read_text())
    change(content)
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


@pytest.mark.ecosystem
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epoch": 1}, "error: --max_epoch: unknown key; did you mean --max_epochs?"),
        ({"sync_batch_norm": "true"}, "error: --sync_batch_norm: works on GPUs alone, and the device is cpu"),
        ({"datalist": "/nowhere/datalist.json"}, "error: /nowhere/datalist.json: no such datalist"),
    ],
)
def test_mistakes_are_told_once(options, message, phantom_dir, tmp_path):
    settings = {"dataset_dir": phantom_dir, "output_dir": tmp_path / "out", **options}
    result = run("dmpls", "multi_gpu_train", **settings)
    assert result.returncode != 0
    (line,) = errors(result)
    assert line.startswith(message)


@pytest.mark.ecosystem
def test_a_damaged_file_ends_all_processes_with_one_line(phantom_dir, tmp_path):
    data = damaged(phantom_dir, tmp_path / "data", lambda content: None)
    image = Path(json.loads((data / "datalist.json").read_text())["training"][1]["image"])
    (data / image).write_bytes((data / image).read_bytes()[:2000])
    result = run("maag", "multi_gpu_train", dataset_dir=data, output_dir=tmp_path / "out")
    assert result.returncode != 0
    (line,) = errors(result)
    assert image.name in line


@pytest.mark.ecosystem
def test_a_loss_lost_in_one_process_stops_all_before_they_save(phantom_dir, tmp_path):
    """The first process, which saves, has a finite loss, and has added the other's gradients to its weights."""
    lost = "$lambda image, label: (image * float('nan') if torch.distributed.get_rank() == 1 else image, label)"
    (tmp_path / "lost.json").write_text(json.dumps({"train#random_transforms": lost}))
    options = {"dataset_dir": phantom_dir, "output_dir": tmp_path / "out", "lambda_mcrf": 0.0, "lambda_atn": 0.0}
    result = run("attenscribble", "multi_gpu_train", str(tmp_path / "lost.json"), max_epochs=1, **options)
    assert result.returncode != 0
    (line,) = errors(result)
    assert re.match(
        r"error: the loss became nan at iteration 1 \(epoch 1\) on the batch \[patient\d+_frame\d+, slice", line
    )
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


@pytest.mark.ecosystem
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(sent, phantom_dir, tmp_path):
    options = {"dataset_dir": phantom_dir, "output_dir": tmp_path / "out", "max_epochs": 1000}
    process = start(command("dmpls", "multi_gpu_train", **options))
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "checkpoint.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # a terminal sends Ctrl-C to all, a batch system SIGTERM to the launcher
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
    result = finish(process, timeout=90)
    assert result.returncode != 0
    assert len(errors(result)) <= 1
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert weights(tmp_path / "out" / "checkpoint.pt")["epoch"] >= 1


@pytest.mark.ecosystem
def test_more_processes_than_volumes_or_slices(phantom_dir, tmp_path):
    """Three processes validate two volumes, evaluate one, and refuse to train on two slices."""
    options = {"dataset_dir": phantom_dir, "output_dir": tmp_path / "out", "max_epochs": 1, "val_interval": 1}
    result = run("dmpls", "multi_gpu_train", processes=3, batch_size=2, **{**options})
    assert result.returncode == 0, result.stderr[-3000:]
    assert "val_mean_dice" in result.stdout + result.stderr

    def one_volume(content):
        content["test"] = content["test"][:1]

    data = damaged(phantom_dir, tmp_path / "data", one_volume)
    evaluation = {"dataset_dir": data, "output_dir": tmp_path / "eval", "weights": tmp_path / "out" / "model.pt"}
    result = run("dmpls", "evaluate", "multi_gpu_evaluate", processes=2, section="test", **evaluation)
    assert result.returncode == 0, result.stderr[-3000:]
    with open(tmp_path / "eval" / "metrics.csv") as file:
        assert len(list(csv.DictReader(file))) == 3


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.ecosystem
def test_two_machines(trained, phantom_dir, tmp_path):
    """Two launchers on one machine, as the page has them on two, give what one launcher with two processes gives."""
    place = ("--nnodes=2", "--nproc_per_node=1", "--rdzv_id=heart", "--rdzv_backend=c10d")
    endpoint = f"--rdzv_endpoint=127.0.0.1:{free_port()}"
    options = {"dataset_dir": phantom_dir, "output_dir": tmp_path, "max_epochs": 2, **steady("dmpls")}
    options["cache_dir"] = trained("dmpls") / "out" / "cache"
    words = command("dmpls", "multi_gpu_train", launch=(*place, endpoint), **options)
    machines = [start(words) for _ in range(2)]
    for result in map(finish, machines):
        assert result.returncode == 0, result.stderr[-3000:]
    assert_same(tmp_path / "model.pt", trained("dmpls") / "out" / "model.pt")


@pytest.mark.ecosystem
def test_the_pages_commands_for_one_machine(phantom_dir, tmp_path):
    text = (REPO_ROOT / "docs" / "many_gpus.md").read_text()
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = [line for line in blocks.splitlines() if line.startswith("torchrun --standalone")]
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line)
        small = {} if "evaluate.json" in line else {**SMALL, "max_epochs": 1}
        given = {"dataset_dir": phantom_dir, "output_dir": tmp_path / ("eval" if not small else "out"), **small}
        if "evaluate.json" in line:
            given["weights"] = tmp_path / "out" / "model.pt"
        for key, value in given.items():
            if f"--{key}" in words:
                words[words.index(f"--{key}") + 1] = str(value)
            else:
                words += [f"--{key}", str(value)]
        result = finish(start([sys.executable, "-m", "torch.distributed.run", *words[1:]]))
        assert result.returncode == 0, f"{line}\n{result.stderr[-3000:]}"
