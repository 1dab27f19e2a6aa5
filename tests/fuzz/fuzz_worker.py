"""A process that runs cases, one a line of its input, and tells what came of each in a line of JSON.

It runs the commands in itself, which saves their start, under a limit of memory. What they print is caught where the
system writes it, so that the noise of C++ libraries is caught as well.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fuzz_files import VICTIM, WITNESS, save_json, write_study
from fuzz_interrupts import stop_in_the_middle
from fuzz_stages import NETWORK, TEMPLATE, build, parse
from fuzz_verdict import needs_healthy

MOST_MEMORY = 6 << 30
"""Bytes of address space that a case may take beside what the process has."""
_HEALTHY: dict[tuple[str, str], dict[str, str]] = {}


def make_template(folder: Path) -> None:
    """Write what several stages start from: a small network's weights, scores and a training's curves."""
    import torch
    from monai.bundle import ConfigParser
    from torch.utils.tensorboard import SummaryWriter

    from tools.__main__ import main

    bundle = Path(__file__).parents[2] / "bundles" / "maag"
    config = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
    settings = zip(NETWORK[::2], map(_value, NETWORK[1::2]), strict=True)
    config.update({key.removeprefix("--"): value for key, value in settings})
    torch.save(config.get_parsed_content("network_def").state_dict(), folder / "weights.pt")
    write_study(folder / "study")
    shutil.copytree(folder / "study" / "predictions", folder / "study" / "others")
    predictions = f"one={folder}/study/predictions,two={folder}/study/others"
    arguments = ["--references", f"{folder}/study/datalist.json", "--output", f"{folder}/scores", "--jobs", "1"]
    with _caught():
        assert main(["evaluate", "--predictions", predictions, *arguments]) == 0
    with SummaryWriter(str(folder / "training")) as writer:
        for epoch in (1, 2, 3):
            writer.add_scalar("train_loss", 1 / epoch, epoch)
    save_json(folder / "training" / "config_1.json", {"learning_rate": 0.01, "_meta_": {"name": "toy", "version": "1"}})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextlib.contextmanager
def _caught() -> Iterator[dict[str, str]]:
    """What the process prints, by its Python and by its libraries."""
    caught: dict[str, str] = {}
    kept = {1: os.dup(1), 2: os.dup(2)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            yield caught
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, file in ((1, out), (2, err)):
                os.dup2(kept[number], number)
                os.close(kept[number])
                file.seek(0)
                caught["out" if number == 1 else "err"] = file.read().decode(errors="replace")


def _memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(key)), 0)


def run(case: str, folder: Path) -> dict[str, Any]:
    """Run a case and tell its status, what was printed, what was written, and how much memory that took."""
    from tools.__main__ import main

    built, damage = build(case, folder)
    before = _tree(folder, built.output)
    size, crash, status = _memory("VmPeak"), "", None
    started = time.monotonic()
    with _caught() as caught:
        try:
            status = main(built.arguments)
        except BaseException:
            crash = traceback.format_exc()
    name, ending, _, _ = parse(case)
    return {
        **caught,
        "status": status,
        "crash": crash,
        "seconds": time.monotonic() - started,
        "memory": _memory("VmPeak") - size,
        "damage": None if damage is None else damage._asdict() | {"apply": None},
        "victim": built.victim.name,
        "changed": sorted(dict(before.items() ^ _tree(folder, built.output).items())),
        "written": _written(built.output, folder),
        "healthy": _HEALTHY.get((name, ending)),
    }


def interrupt(case: str, folder: Path, *, at: int, sent: int) -> dict[str, Any]:
    """Stop a case while it writes, run it again, and tell what there was after each."""
    from tools.__main__ import main

    built, _ = build(case, folder)
    stopped = stop_in_the_middle(main, built.arguments, folder, at=at, sent=sent)
    left = _written(built.output, folder)
    with _caught() as caught:
        status = main(built.arguments)
    name, ending, _, _ = parse(case)
    again = {"status": status, "err": caught["err"], "written": _written(built.output, folder)}
    return {**stopped, "written": left, "again": again, "healthy": _HEALTHY[name, ending]}


def _tree(folder: Path, output: Path) -> dict[str, str]:
    """The files of a study without the results, with what they hold or where they lead."""
    found = {}
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        if Path(parent) == output:
            folders.clear()
            continue
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                found[os.fsencode(path).decode(errors="replace")] = os.readlink(path)
            elif os.path.isfile(path):
                found[os.fsencode(path).decode(errors="replace")] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return found


def _refuse(error: OSError) -> None:
    raise error


def _written(output: Path, root: Path) -> dict[str, str]:
    """The results: what each file says, or why it is not whole."""
    found = {}
    for path in sorted(output.rglob("*")):
        if path.is_file():
            try:
                found[path.relative_to(output).as_posix()] = _digest(path, root)
            except Exception as error:
                found[path.relative_to(output).as_posix()] = f"not whole: {error!r}"
    return found


def _digest(path: Path, root: Path) -> str:
    content = path.read_bytes()
    if path.name.endswith(".nii.gz"):
        gzip.decompress(content)
        voxels = np.asanyarray(nib.load(path).dataobj)
        return hashlib.sha256(voxels.astype(np.float32).tobytes()).hexdigest()
    if path.suffix == ".dcm":
        import pydicom

        return hashlib.sha256(pydicom.dcmread(path).PixelData).hexdigest()
    if path.suffix == ".png":
        from PIL import Image

        return hashlib.sha256(np.asarray(Image.open(path)).tobytes()).hexdigest()
    text = content.decode().replace(str(root), "<root>")
    if path.suffix == ".json":
        json.loads(text)
    if path.suffix == ".html" and not text.rstrip().endswith("</html>"):
        raise ValueError("ends too early")
    return "" if path.suffix == ".html" or path.name == "predictions.json" else text


def healthy(case: str, folder: Path) -> None:
    """Remember what a stage gives for files that are whole."""
    name, ending, _, _ = parse(case)
    if (name, ending) not in _HEALTHY:
        result = run(f"{name}-{ending}-healthy", folder / "healthy")
        _HEALTHY[name, ending] = result["written"]


def _once(predictor: Callable[..., Any]) -> Callable[..., Any]:
    """Load a bundle once for all cases: its network is what takes the time."""
    known: dict[str, Any] = {}

    def make(files: Any, *, overrides: Any) -> Any:
        key = repr((files, overrides))
        if key not in known:
            known[key] = predictor(files, overrides=overrides)
        return known[key]

    return make


def serve() -> None:
    """Answer until the input ends."""
    import tools.check
    import tools.datalist
    import tools.evaluate
    import tools.import_labels
    import tools.predict
    import tools.prepare
    import tools.report
    import tools.scribble

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tools.predict.BundlePredictor = _once(tools.predict.BundlePredictor)
    if not (Path(os.environ[TEMPLATE]) / "training").exists():
        make_template(Path(os.environ[TEMPLATE]))
    limit = _memory("VmSize") + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps({"ready": [VICTIM, WITNESS]}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["folder"])
        if needs_healthy(request["case"]):
            healthy(request["case"], folder)
        if "signal" in request:
            healthy(request["case"], folder)
            result = interrupt(request["case"], folder / "a ü 日", at=request["at"], sent=request["signal"])
        else:
            result = run(request["case"], folder / "a ü 日")
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    serve()
