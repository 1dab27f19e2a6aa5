"""Write the datalist of your own images, drawings and masks, matched by name and divided by patient."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from common.data.datalist import datalist_info, load_datalist
from common.data.datalist_writer import write_datalist
from common.data.held_out_patients import leaves_training, read_groups
from common.data.own_cases import OwnCase, find_cases
from common.data.own_data import HELD_OUT, Division, build_own_datalist, divide, parse_class_names, patients_before
from common.data.prepared_case import KIND_OF_SECTION
from common.data.series_conversion import convert_series
from common.errors import UserError
from common.files import remove_leftovers

CONVERTED = "from_dicom"
"""The folder in the output folder that gets what was DICOM."""


def main(
    *,
    images: str,
    output: str,
    labels: str | None = None,
    masks: str | None = None,
    class_names: str | None = None,
    name: str | None = None,
    validation_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
    patient_pattern: str | None = None,
    stratify: str | None = None,
) -> None:
    """Write a datalist for your own data, print what it holds, and the command that trains on it.

    Images, drawings and masks of a case are called alike, but for ends such as _scribble, _gt, _seg or _0000; where
    all files are called alike, their folders name the case. Coarse drawings are called <case>_coarse (positive) and
    <case>_not (negative), as import_labels and scribble write them; a case may have one of them alone. NIfTI, NRRD,
    MetaImage and PNG files stay where they are; DICOM series, a folder each, are written as NIfTI to from_dicom/ in
    the output folder, of cine series each frame as a case, p01_frame01 and so on. Run it again when there are more
    cases: no patient of the datalist that is there leaves validation or test.

    Args:
        images: folder of the images, or a pattern in quotes, such as "scans/*/*_t2.nii.gz"; ** is any folders.
        output: folder that gets datalist.json, or the name of a .json file.
        labels: folder or pattern of the scribbles, or of the coarse drawings. Values: 0 drawn background, 1.. classes,
            C not annotated; in negative drawings the class that a voxel is not.
        masks: folder or pattern of dense masks, which validation and test need. Values: 0 background, 1.. classes.
        class_names: the C names with commas, in the order of their values: "background,RV,MYO,LV". A datalist that is
            there already knows them.
        name: the data set's name; by default that of the output folder.
        validation_share: share of the patients with image and mask who validate, 0 to 1; over 0 at least one.
        test_share: share of them who test.
        seed: seed of the choice.
        patient_pattern: regular expression that finds the patient in a case's name, by its first group if it has one.
            By default the case's name without _frame01, _ED or _ES.
        stratify: CSV file with the columns patient and group; sections get their share of each group.

    Raises:
        UserError: files are missing, ambiguous or unreadable, a DICOM series is faulty, an option makes no sense, or
            nobody with drawings is left to train on.
    """
    for option, share in (("validation_share", validation_share), ("test_share", test_share)):
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise UserError(f"--{option} is {share!r}; give a number from 0 to 1")
    if type(seed) is not int or seed < 0:
        raise UserError(f"--seed is {seed!r}; give a number from 0 on")
    if labels is None and masks is None:
        raise UserError("neither --labels nor --masks is given; name scribbles, dense masks or both")
    path = Path(os.path.abspath(os.path.expanduser(output)))
    path = path if path.suffix.lower() == ".json" else path / "datalist.json"
    earlier = _read_earlier(path)
    names = parse_class_names(class_names) if class_names else earlier.get("class_names")
    if names is None:
        raise UserError('--class_names is missing; name the classes by their values, such as "background,liver"')
    groups = None if stratify is None else read_groups(stratify)
    cases = find_cases(images, labels, masks, patient_pattern=patient_pattern, skip=path.parent / CONVERTED)
    shares = {"validation": validation_share, "test": test_share}
    before = patients_before(earlier)
    division = divide(cases, shares=shares, seed=seed, groups=groups, before=before)
    drawn = {case.patient for case in cases if case.annotated}
    if drawn and drawn <= division.held.keys() and not leaves_training(shares):
        raise UserError(
            f"all {len(drawn)} patients with drawings validate or test, by --validation_share {validation_share:g} and "
            f"--test_share {test_share:g}, so that none is left to train on; let the shares be under 1 together, draw "
            "on other patients, or leave --labels out where nobody is to train"
        )
    series = {case.name: case.image.slices for case in cases if case.image and case.image.slices}
    content = build_own_datalist(
        cases,
        division.held,
        name=name or earlier.get("name") or path.parent.name,
        description=f"own data; of the masks' patients {validation_share:g} validate, {test_share:g} test; seed {seed}",
        class_names=names,
        converted=convert_series(series, path.parent / CONVERTED) if series else {},
    )
    remove_leftovers(path)
    write_datalist(path, content)
    _report(path, content, cases, division, before)


def _read_earlier(path: Path) -> dict[str, Any]:
    """Names and sections of the datalist that is there; empty where there is none."""
    if not os.path.lexists(path):
        return {}
    sections = {section: load_datalist(path, section, required=False, existing=False) for section in KIND_OF_SECTION}
    return datalist_info(path) | sections


def _report(
    path: Path, content: dict[str, Any], cases: list[OwnCase], division: Division, before: dict[str, str]
) -> None:
    print(f"{path}: {len(content['class_names'])} classes, {', '.join(content['class_names'])}")
    for section in KIND_OF_SECTION:
        patients = {item["patient"] for item in content[section]}
        print(f"  {section}: {len(content[section])} volumes of {len(patients)} patients")
    kept = Counter(section for patient, section in division.held.items() if before.get(patient) == section)
    coarse = any(case.coarse for case in cases)
    if coarse:
        counts = [sum(key in item for item in content["training"]) for key in ("label", "complement")]
        print(f"  coarse drawings: {counts[0]} positive, {counts[1]} negative")
    if kept:
        print(f"  as before: {', '.join(f'{kept[section]} patients in {section}' for section in HELD_OUT)}")
    if division.moved:
        print(f"  no longer trained with: {', '.join(division.moved)}")
    left_out = len(cases) - sum(len(content[section]) for section in KIND_OF_SECTION)
    if left_out:
        print(
            f"  left out: {left_out} volumes, of held-out patients without mask or of training patients' other frames"
        )
    if not content["validation"]:
        print("  no validation: it needs --validation_share over 0 and --masks of patients that need not train")
    print("check the files, then train:")
    kind = ["--kind", "coarse"] if coarse else []
    print(f"  {shlex.join(['python', '-m', 'tools', 'check', str(path), *kind])}")
    if content["training"]:
        print(f"  {shlex.join(_train_command(path, content, coarse=coarse))}")


def _train_command(path: Path, content: dict[str, Any], *, coarse: bool) -> list[str]:
    """The command to train with: coarse labels, or MAAG where there are masks for its discriminator, else DMPLS."""
    bundle = "coarse_labels" if coarse else "maag" if content["unpaired_masks"] else "dmpls"
    drawn = ["--simulate", "false"] if coarse else []
    where = ["--dataset_dir", str(path.parent)] if path.name == "datalist.json" else ["--datalist", str(path)]
    program = ["python", "-m", "monai.bundle", "run", "--config_file", f"bundles/{bundle}/configs/train.json"]
    return [*program, *where, *drawn, "--output_dir", f"runs/{content['name']}"]
