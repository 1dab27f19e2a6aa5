"""Stages: a command with a small study that it takes, and which file of the study gets damaged.

A case is called ``<stage>-<ending>-<damage>`` or, where each seed does another damage, ``...~<seed>``. The name says
all there is to know, so that a failure can be repeated.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import fuzz_dicom_damage  # registers damage
import fuzz_header_damage
import fuzz_text_damage
import numpy as np
from fuzz_damage import DAMAGES, Damage
from fuzz_files import (
    CLASSES,
    VICTIM,
    VOLUMES,
    WITNESS,
    datalist_of,
    image,
    mask,
    save,
    save_json,
    save_segments,
    save_series,
    write_study,
)

__all__ = ["STAGES", "Built", "Stage", "build", "fitting", "parse"]

PICTURES = (*VOLUMES, ".png")
NAMES = ",".join(CLASSES)
NETWORK = ["--pixdim", "[4.0,4.0]", "--roi_size", "[16,16]", "--filters", "4", "--device", "cpu"]
TEMPLATE = "FUZZ_TEMPLATE"
"""Environment variable with the folder that :func:`fuzz_worker.make_template` fills."""


class Built(NamedTuple):
    """The arguments of ``python -m tools``, the file to damage, and the folder of the results."""

    arguments: list[str]
    victim: Path
    output: Path


class Stage(NamedTuple):
    """How to build a study, with files of which endings; ``kind`` is "image" or "label".

    ``refuses``: damage that has to be refused is; else the command may go on without the file. ``reads``: the voxels
    are read, so that damage under a check sum is found. ``searches``: the file is looked for in a folder.
    """

    build: Callable[[Path, str], Built]
    endings: tuple[str, ...]
    kind: str
    refuses: bool = True
    reads: bool = True
    searches: bool = False


STAGES: dict[str, Stage] = {}


def stage(name: str, endings: tuple[str, ...], kind: str, **options: bool) -> Callable[..., Callable[..., Built]]:
    def register(build: Callable[[Path, str], Built]) -> Callable[[Path, str], Built]:
        STAGES[name] = Stage(build, endings, kind, **options)
        return build

    return register


def fitting(ending: str) -> list[str]:
    """The damages that can be done to a file."""
    return [name for name, damage in DAMAGES.items() if ending in damage.endings]


def parse(case: str) -> tuple[str, str, str, int]:
    """The stage, ending, damage and seed of a case's name."""
    stage_name, ending, rest = case.split("-", 2)
    name, _, seed = rest.partition("~")
    return stage_name, ending, name, int(seed or 0)


def build(case: str, folder: Path) -> tuple[Built, Damage | None]:
    """Write the study of a case and damage it; the damage "healthy" is none."""
    name, ending, damage, seed = parse(case)
    built = STAGES[name].build(folder, ending)
    if damage == "healthy":
        return built, None
    found = DAMAGES[damage]
    found.apply(built.victim, np.random.default_rng([seed, zlib.crc32(case.encode())]))
    return built, found


def template() -> Path:
    return Path(os.environ[TEMPLATE])


def _check(folder: Path, ending: str, victim: str) -> Built:
    write_study(folder, ending)
    output = folder / "out"
    arguments = ["check", str(folder / "datalist.json"), "--jobs", "2", "--output", str(output / "table.csv")]
    return Built(arguments, folder / victim, output)


@stage("check_image", PICTURES, "image")
def _check_image(folder: Path, ending: str) -> Built:
    return _check(folder, ending, f"images/{VICTIM}{ending}")


@stage("check_scribble", VOLUMES, "label")
def _check_scribble(folder: Path, ending: str) -> Built:
    return _check(folder, ending, f"scribbles/{VICTIM}_scribble{ending}")


@stage("check_mask", PICTURES, "label")
def _check_mask(folder: Path, ending: str) -> Built:
    return _check(folder, ending, f"masks/{VICTIM}_gt{ending}")


@stage("check_datalist", ("datalist",), "label")
def _check_datalist(folder: Path, _: str) -> Built:
    return _check(folder, ".nii.gz", "datalist.json")


def _scribble(folder: Path, ending: str, masks: str, *options: str) -> Built:
    write_study(folder, ending)
    output = folder / "out"
    arguments = ["scribble", "--masks", str(folder / masks), "--output", str(output), *options]
    arguments += [] if "--jobs" in options else ["--jobs", "1"]
    return Built(arguments, folder / "masks" / f"{VICTIM}_gt{ending}", output)


@stage("scribble_mask", VOLUMES, "label", searches=True)
def _scribble_mask(folder: Path, ending: str) -> Built:
    return _scribble(folder, ending, "masks", "--num_classes", "3")


@stage("scribble_counting", VOLUMES, "label", refuses=False)
def _scribble_counting(folder: Path, ending: str) -> Built:
    return _scribble(folder, ending, "masks", "--form", "coarse")


@stage("scribble_in_processes", (".nii.gz",), "label", searches=True)
def _scribble_in_processes(folder: Path, ending: str) -> Built:
    return _scribble(folder, ending, "masks", "--jobs", "2", "--form", "walk", "--steps", "20")


@stage("scribble_datalist", ("datalist",), "label")
def _scribble_datalist(folder: Path, _: str) -> Built:
    built = _scribble(folder, ".nii.gz", "datalist.json", "--form", "skeleton")
    return built._replace(victim=folder / "datalist.json")


def _evaluate(folder: Path, ending: str, references: str, victim: str, *options: str) -> Built:
    write_study(folder, ending)
    output = folder / "out"
    arguments = ["evaluate", "--predictions", str(folder / "predictions"), "--references", str(folder / references)]
    arguments += ["--output", str(output), *options, *([] if "--jobs" in options else ["--jobs", "1"])]
    return Built(arguments, folder / victim, output)


@stage("evaluate_prediction", PICTURES, "label")
def _evaluate_prediction(folder: Path, ending: str) -> Built:
    return _evaluate(folder, ending, "datalist.json", f"predictions/{VICTIM}_seg{ending}")


@stage("evaluate_reference", PICTURES, "label")
def _evaluate_reference(folder: Path, ending: str) -> Built:
    return _evaluate(folder, ending, "masks", f"masks/{VICTIM}_gt{ending}", "--class_names", NAMES)


@stage("evaluate_in_processes", (".nii.gz",), "label")
def _evaluate_in_processes(folder: Path, ending: str) -> Built:
    return _evaluate(folder, ending, "datalist.json", f"predictions/{VICTIM}_seg{ending}", "--jobs", "2")


@stage("evaluate_datalist", ("datalist",), "label")
def _evaluate_datalist(folder: Path, _: str) -> Built:
    return _evaluate(folder, ".nii.gz", "datalist.json", "datalist.json")


def _datalist(folder: Path, images: str, victim: str, *options: str) -> Built:
    output = folder / "out"
    arguments = ["datalist", "--images", str(folder / images), "--labels", str(folder / "scribbles")]
    arguments += ["--masks", str(folder / "masks"), "--output", str(output), *options]
    return Built(arguments, folder / victim, output)


@stage("datalist_image", PICTURES, "image", refuses=False, reads=False)
def _datalist_image(folder: Path, ending: str) -> Built:
    write_study(folder, ending)
    return _datalist(folder, "images", f"images/{VICTIM}{ending}", "--class_names", NAMES)


@stage("datalist_mask", VOLUMES, "label", refuses=False, reads=False)
def _datalist_mask(folder: Path, ending: str) -> Built:
    write_study(folder, ending)
    return _datalist(folder, "images", f"masks/{VICTIM}_gt{ending}", "--class_names", NAMES)


@stage("datalist_series", ("series",), "image", searches=True)
def _datalist_series(folder: Path, _: str) -> Built:
    write_study(folder)
    _write_scans(folder)
    return _datalist(folder, "scans", f"scans/{VICTIM}", "--class_names", NAMES)


@stage("datalist_earlier", ("datalist",), "label", refuses=False)
def _datalist_earlier(folder: Path, _: str) -> Built:
    """A datalist that is there from an earlier run."""
    write_study(folder)
    earlier = folder / "out" / "datalist.json"
    save_json(earlier, datalist_of())
    return _datalist(folder, "images", "out/datalist.json")


@stage("datalist_groups", (".csv",), "label", refuses=False)
def _datalist_groups(folder: Path, _: str) -> Built:
    write_study(folder)
    (folder / "groups.csv").write_text(f"patient,group\n{VICTIM},ill\n{WITNESS},well\n")
    return _datalist(folder, "images", "groups.csv", "--class_names", NAMES, "--stratify", str(folder / "groups.csv"))


def _write_scans(folder: Path) -> None:
    for number, case in enumerate((VICTIM, WITNESS)):
        save_series(folder / "scans" / case, image(number), uid=f"1.2.{number + 3}")


def _import(folder: Path, labels: str, images: str, victim: str, *options: str) -> Built:
    output = folder / "out"
    arguments = ["import_labels", "--labels", str(folder / labels), "--images", str(folder / images)]
    arguments += ["--output", str(output), "--class_names", NAMES, *options]
    return Built(arguments, folder / victim, output)


_VALUES = ("--names", "liver=1,spleen=2,bg_scribble=3")


@stage("import_label", VOLUMES, "label", searches=True)
def _import_label(folder: Path, ending: str) -> Built:
    write_study(folder, ending)
    return _import(folder, "scribbles", "images", f"scribbles/{VICTIM}_scribble{ending}", *_VALUES)


@stage("import_image", VOLUMES, "image", refuses=False, reads=False)
def _import_image(folder: Path, ending: str) -> Built:
    write_study(folder, ending)
    return _import(folder, "scribbles", "images", f"images/{VICTIM}{ending}", *_VALUES)


@stage("import_series", ("series",), "image", searches=True)
def _import_series(folder: Path, _: str) -> Built:
    write_study(folder)
    _write_scans(folder)
    return _import(folder, "scribbles", "scans", f"scans/{VICTIM}", *_VALUES)


@stage("import_segmentation", (".nrrd",), "label", searches=True)
def _import_segmentation(folder: Path, _: str) -> Built:
    write_study(folder)
    for case in (VICTIM, WITNESS):
        drawn = np.where(mask() == 0, 3, mask()).astype(np.uint8)
        save_segments(folder / "drawn" / f"{case}_scribble.seg.nrrd", drawn, ["liver", "spleen", "bg_scribble"])
    return _import(folder, "drawn", "images", f"drawn/{VICTIM}_scribble.seg.nrrd")


@stage("import_table", (".txt", ".csv", ".ctbl", ".json"), "label", refuses=False)
def _import_table(folder: Path, ending: str) -> Built:
    write_study(folder)
    names = {1: "liver", 2: "spleen", 3: "bg_scribble"}
    path = folder / f"names{ending}"
    if ending == ".json":
        save_json(path, {name: value for value, name in names.items()})
    elif ending == ".csv":
        path.write_text("LabelValue,Name\n" + "".join(f"{value},{name}\n" for value, name in names.items()))
    elif ending == ".ctbl":
        path.write_text("# table\n" + "".join(f"{value} {name} 9 9 9 255\n" for value, name in names.items()))
    else:
        path.write_text("# table\n" + "".join(f'{value} 9 9 9 1 1 1 "{name}"\n' for value, name in names.items()))
    return _import(folder, "scribbles", "images", path.name, "--names", str(path))


def _predict(folder: Path, images: str, victim: str, *options: str) -> Built:
    output = folder / "out"
    arguments = ["predict", "--bundle", str(Path(__file__).parents[2] / "bundles" / "maag"), *NETWORK]
    arguments += ["--weights", str(template() / "weights.pt"), "--input", str(folder / images), *options]
    return Built([*arguments, "--output", str(output)], folder / victim, output)


@stage("predict_image", PICTURES, "image", searches=True)
def _predict_image(folder: Path, ending: str) -> Built:
    for number, case in enumerate((VICTIM, WITNESS)):
        save(folder / "images" / f"{case}{ending}", image(number))
    return _predict(folder, "images", f"images/{VICTIM}{ending}")


@stage("predict_series", ("series",), "image", searches=True)
def _predict_series(folder: Path, _: str) -> Built:
    _write_scans(folder)
    return _predict(folder, "scans", f"scans/{VICTIM}")


@stage("predict_record", (".json",), "label", refuses=False)
def _predict_record(folder: Path, _: str) -> Built:
    """The record of an earlier run."""
    save(folder / "images" / f"{VICTIM}.nii.gz", image())
    files = {f"{VICTIM}_seg.nii.gz": "0" * 64}
    save_json(folder / "out" / "predictions.json", {"cases": {VICTIM: {"files": files, "made": "1", "seconds": 1.0}}})
    return _predict(folder, "images", "out/predictions.json")


@stage("predict_codes", (".json",), "label", refuses=False)
def _predict_codes(folder: Path, _: str) -> Built:
    _write_scans(folder)
    path = folder / "codes.json"
    save_json(path, {name: {"type": ["10200004", "SCT", "Liver"]} for name in ("RV", "MYO", "LV")})
    return _predict(folder, f"scans/{VICTIM}", "codes.json", "--segment_codes", str(path))


def _report(folder: Path, victim: str, ending: str = ".nii.gz") -> Built:
    write_study(folder, ending)
    shutil.copytree(template() / "scores", folder / "scores")
    shutil.copytree(template() / "training", folder / "training")
    arguments = ["report", "--runs", str(folder / "scores"), "--datalist", str(folder / "datalist.json")]
    arguments += ["--predictions", f"one={folder / 'predictions'}", "--annotations", str(folder / "scribbles")]
    arguments += ["--training", f"one={folder / 'training'}", "--size", "32"]
    return Built([*arguments, "--output", str(folder / "out" / "page.html")], folder / victim, folder / "out")


for _name, _place, _kind in (
    ("image", f"images/{VICTIM}", "image"),
    ("reference", f"masks/{VICTIM}_gt", "label"),
    ("prediction", f"predictions/{VICTIM}_seg", "label"),
    ("annotation", f"scribbles/{VICTIM}_scribble", "label"),
):
    stage(f"report_{_name}", VOLUMES, _kind, refuses=False, reads=False)(
        lambda folder, ending, place=_place: _report(folder, f"{place}{ending}", ending)
    )

for _name, _place in (
    ("datalist", "datalist.json"),
    ("metrics", "scores/one/metrics.json"),
    ("table", "scores/one/metrics.csv"),
    ("comparison", "scores/comparison.json"),
    ("settings", "training/config_1.json"),
):
    stage(f"report_{_name}", ("datalist" if _name == "datalist" else Path(_place).suffix,), "label", refuses=False)(
        lambda folder, _, place=_place: _report(folder, place)
    )


@stage("report_curves", (".events",), "label", refuses=False)
def _report_curves(folder: Path, _: str) -> Built:
    built = _report(folder, "training")
    [events] = built.victim.glob("events.out.tfevents.*")
    return built._replace(victim=events)


def _prepare(dataset: str, folder: Path, *options: str) -> Built:
    shutil.copytree(template() / dataset.partition("_")[0], folder / "source")
    output = folder / "out"
    arguments = ["prepare", dataset, "--source", str(folder / "source"), "--output", str(output), *options]
    return Built(arguments, folder / "source", output)


for _name in ("chaos_t1", "chaos_t2", "lvsc", "ppss"):
    stage(f"prepare_{_name}", ("tree",), "image", refuses=False, reads=False)(
        lambda folder, _, dataset=_name: _prepare(dataset, folder)
    )
_REGISTERED = (fuzz_dicom_damage, fuzz_header_damage, fuzz_text_damage)
