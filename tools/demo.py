"""Train, evaluate, predict and draw on made-up hearts: the whole way of the data in minutes, without a GPU.

    python -m tools demo

Every command that it runs is shown and can be run by hand, from the root of the repository. What an earlier demo wrote
to runs/demo is removed first; the made-up data stay in data/.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from common.data.datalist import datalist_info, load_datalist
from common.data.phantom import DATALIST, default_phantom_dir
from common.errors import UserError
from common.transforms.save_segmentation import segmentation_path

REPO_ROOT = Path(__file__).resolve().parents[1]
RUN = "runs/demo"
UNSEEN, PREDICTIONS, METRICS = f"{RUN}/unseen", f"{RUN}/predictions", f"{RUN}/evaluation/metrics"
PICTURE, LESSON = f"{RUN}/unseen_case.png", f"{RUN}/training_case.png"

# The runs of the bundle: config files in bundles/maag/configs, and options.
TRAIN = (["train", "demo"], {"output_dir": RUN})
EVALUATE = (
    ["train", "demo", "evaluate"],
    {"weights": f"{RUN}/model.pt", "section": "test", "output_dir": f"{RUN}/evaluation"},
)
PREDICT = (
    ["inference", "demo"],
    {"weights": f"{RUN}/model.pt", "dataset_dir": UNSEEN, "output_dir": PREDICTIONS},
)


def bundle_command(configs: Iterable[str], options: Mapping[str, str]) -> list[str]:
    """The command line of one run of the bundle, from the root of the repository."""
    files = ",".join(f"'bundles/maag/configs/{name}.json'" for name in configs)
    pairs = [word for key, value in options.items() for word in (f"--{key}", value)]
    return ["python", "-m", "monai.bundle", "run", "--config_file", f"[{files}]", *pairs]


def run(step: str, command: list[str]) -> None:
    """Show a command and run it from the root of the repository, with this Python where it says ``python``.

    Raises:
        UserError: the command fails.
    """
    print(f"\n== {step}\n$ {shlex.join(command)}", flush=True)
    words = [sys.executable if word == "python" else word for word in command]
    status = subprocess.run(words, cwd=REPO_ROOT, check=False).returncode
    if status != 0:
        raise UserError(f"the demo stopped: {step} failed with exit status {status}; its own message stands above")


def link_images(images: Iterable[str | Path], *, root: Path, folder: Path) -> None:
    """Link images into a folder, in the subfolders that they have below ``root``: a folder with nothing but images."""
    for image in images:
        link = folder / Path(image).relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image)


def draw(output: str, datalist: Path, title: str, **files: str | Path) -> None:
    """Show and run the command that draws NIfTI files, given by their role in the picture, to a PNG."""
    words = [word for role, path in files.items() for word in (f"--{role}", os.path.relpath(path))]
    names = ",".join(datalist_info(datalist)["class_names"])
    words += ["--class_names", names, "--output", output, "--title", title]
    run(f"draw {title}", ["python", "-m", "tools", "picture", *words])


def main() -> None:
    """Train, evaluate, predict and draw on made-up hearts, and tell where the results are.

    Raises:
        UserError: a step fails.
    """
    started = time.perf_counter()
    os.chdir(REPO_ROOT)
    shutil.rmtree(RUN, ignore_errors=True)
    run("train", bundle_command(*TRAIN))
    run("evaluate", bundle_command(*EVALUATE))

    phantom = Path(default_phantom_dir())
    datalist = phantom / DATALIST
    cases = load_datalist(datalist, "test")
    link_images([case["image"] for case in cases], root=phantom, folder=Path(UNSEEN))
    print(f"\n== link {len(cases)} images that the training has not seen to {UNSEEN}")
    run("predict", bundle_command(*PREDICT))

    lesson, case = load_datalist(datalist, "training")[0], cases[0]
    draw(LESSON, datalist, "a training case", image=lesson["image"], scribble=lesson["label"])
    image = Path(UNSEEN) / Path(case["image"]).relative_to(phantom)
    prediction = segmentation_path(image, output_dir=PREDICTIONS, data_root_dir=UNSEEN)
    # drawn for comparison: nothing was trained on the scribbles of this case
    scribble = case["image"].replace(".nii.gz", "_scribble.nii.gz")
    draw(
        PICTURE,
        datalist,
        "an unseen case",
        image=image,
        scribble=scribble,
        prediction=prediction,
        reference=case["label"],
    )

    dice = json.loads(Path(f"{METRICS}.json").read_text(encoding="utf-8"))["summary"]["all"]["dice"]["mean"]
    print(f"\n== done in {time.perf_counter() - started:.0f} seconds")
    print(f"segmentations, 3D NIfTI   {PREDICTIONS}/")
    print(f"scores of every volume    {METRICS}.csv")
    print(f"their summary             {METRICS}.json")
    print(f"pictures                  {PICTURE}, {LESSON}")
    print(f"mean foreground Dice      {dice:.3f}")
