"""Score predictions against references, volume by volume, and compare methods by paired tests.

    python -m tools evaluate --predictions runs/demo/predictions --references data/phantom/datalist.json \
        --output runs/demo/scores
    python -m tools evaluate --predictions maag=runs/maag/predictions,dmpls=runs/dmpls/predictions \
        --references masks --class_names "background,RV,MYO,LV" --output runs/scores --against dmpls

One folder of predictions gives metrics.csv, a row for each volume and class, and metrics.json, their summary, in the
form that the bundles' evaluation writes. Several give both in a subfolder for each, and comparison.csv and
comparison.json with the paired tests.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.datalist import datalist_info
from common.errors import UserError
from common.files import atomic_file, remove_leftovers
from common.metrics.case_files import DEFAULT_SECTION, Reference, find_references, listed, match_predictions
from common.metrics.paired_tests import OVERALL, TESTS_PROTOCOL, paired_tests, score_tables
from common.metrics.parallel_scoring import score_cases
from common.metrics.published_rules import PATIENT_DICE, RULES, apply_rule, patient_dice
from common.metrics.score_document import PROTOCOL, csv_text, json_text, score_document, summary_table, text_table
from common.metrics.segmentation_scores import statistics, summarise

_IGNORED = "Voxels of the value {} in a reference are not annotated and count as background in both maps."
_PIECES = {
    "keep_bodies": "Post-processing: the largest connected pieces of all classes together, no more than {}.",
    "keep_components": "Post-processing: the largest connected pieces of each class, no more than {}.",
}
_MISSING = "A missing prediction counts as one without any class; meta lists them."


def main(
    *,
    predictions: str,
    references: str,
    output: str,
    section: str | None = None,
    num_classes: int | None = None,
    class_names: str | None = None,
    against: str | None = None,
    jobs: int | None = None,
    allow_missing: bool = False,
    compat: str | None = None,
    ignore_index: int | None = None,
    keep_bodies: int | None = None,
    keep_components: int | None = None,
) -> None:
    """Score label maps against references per volume, class and phase, and print and write the table.

    Files are matched by case: predictions are <case>_seg.nii.gz or <case>.nii.gz (NRRD, MetaImage and PNG too), in
    subfolders or not; prediction and reference must lie on the same grid.

    Args:
        predictions: the folder of the label maps. Two or more, with commas between them, are also compared; they are
            known by their folder's name, or by another one where name=folder is written.
        references: a datalist.json, or a folder of <case>_gt, <case>_manual or <case> files.
        output: the folder that gets the tables.
        section: the section of the datalist; test by default.
        num_classes: number of classes with background; the datalist's by default.
        class_names: their names, background first, with commas between them; the datalist's by default. Files whose
            segments have names, such as .seg.nrrd, are mapped by them.
        against: the name that all others are compared with; by default all pairs are compared.
        jobs: how many processes score; by default as many as there are CPUs. The scores do not depend on it.
        allow_missing: true scores what is there: a missing prediction counts as missing every class, a prediction
            without a reference is left out, and both are listed. By default either is an error.
        compat: score classes that a map lacks as a published code does: maag, cyclemix or attenscribble.
        ignore_index: value of voxels that are not annotated in the references; they count as background in both.
        keep_bodies: score of the classes together this many connected pieces alone, the largest ones, as if the label
            maps had been made by predict --keep_bodies; by default all.
        keep_components: after that, score so many pieces of each class alone; by default all.

    Raises:
        UserError: an option or a file is faulty, files lack a counterpart or lie on another grid.
    """
    folders = _named_folders(predictions)
    if against is not None and (against not in folders or len(folders) < 2):
        raise UserError(f"--against {against}: name one of two or more --predictions ({', '.join(folders)})")
    if compat is not None and compat not in RULES:
        raise UserError(f"--compat {compat}: the known rules are {', '.join(RULES)}")
    jobs = (os.cpu_count() or 1) if jobs is None else _number("jobs", jobs, 1)
    wanted = find_references(references, section)
    names = _class_names(references, num_classes, class_names)
    if ignore_index is not None and (type(ignore_index) is not int or ignore_index in range(len(names))):
        raise UserError(f"--ignore_index is {ignore_index!r}; give a whole number that is no class")
    pieces = {"keep_bodies": keep_bodies, "keep_components": keep_components}
    post_process = _post_processing(len(names), pieces)
    files, unmatched = _match(folders, wanted, allow_missing=allow_missing)

    scored = score_cases(
        wanted, files, class_names=names, ignore_index=ignore_index, post_process=post_process, jobs=jobs
    )
    notes = [PROTOCOL, *([RULES[compat]] if compat else []), *([_MISSING] if allow_missing else [])]
    notes += [] if ignore_index is None else [_IGNORED.format(ignore_index)]
    notes += [_PIECES[name].format(number) for name, number in pieces.items() if number is not None]
    if section is None and not os.path.isdir(os.path.expanduser(references)):
        section = DEFAULT_SECTION
    shared: dict[str, Any] = {
        "references": references,
        "section": section,
        "compat": compat,
        "ignore_index": ignore_index,
        **pieces,
    }
    texts: dict[str, str] = {}
    shown, tables = [], {}
    for name, folder in folders.items():
        rows = apply_rule([row for case in scored.values() for row in case.rows[name]], compat)
        summary = summarise(rows, names)
        tables[name] = score_tables(rows, names)
        if compat == "maag":
            of_patients = patient_dice(rows, {case: found.slices for case, found in scored.items()})
            summary["all"][PATIENT_DICE] = statistics(list(of_patients.values()))
            tables[name][PATIENT_DICE, OVERALL] = of_patients
        missing = [each.case for each in wanted if each.case not in files[name]]
        lists = {"missing_predictions": missing, "predictions_without_reference": unmatched[name]}
        meta = {"predictions": folder, **shared, **lists}
        place = f"{name}/metrics" if len(folders) > 1 else "metrics"
        texts[f"{place}.csv"] = csv_text(rows)
        texts[f"{place}.json"] = json_text(score_document(summary, names, protocol=" ".join(notes), meta=meta))
        shown.append(_method_text(name, summary, meta))
    if len(folders) > 1:
        tests = paired_tests(tables, against=against)
        meta = {"predictions": folders, **shared, "against": against}
        document = {"protocol": " ".join([TESTS_PROTOCOL, *notes]), "meta": meta, "tests": tests}
        texts |= {"comparison.csv": csv_text(tests), "comparison.json": json_text(document)}
        shown.append(_tests_text(tests))
    _write(Path(output).expanduser(), texts)
    print("\n\n".join([*shown, "\n".join(os.path.join(output, name) for name in texts)]))


def _named_folders(predictions: str) -> dict[str, str]:
    """The folders by name; one that exists as it is written is taken so, whatever commas or signs its name holds."""
    folders: dict[str, str] = {}
    for part in [predictions] if Path(predictions).is_dir() else predictions.split(","):
        name, sign, folder = part.strip().partition("=")
        if not sign or Path(part.strip()).is_dir():
            name, folder = os.path.basename(os.path.abspath(os.path.expanduser(part.strip()))), part.strip()
        if not name or not folder or name in (".", "..") or os.path.basename(name) != name:
            raise UserError(f"--predictions {part!r}: write folder or name=folder, with a name that a folder can have")
        if name in folders:
            raise UserError(f"two folders of predictions are called {name}: write name=folder for each")
        folders[name] = folder
    return folders


def _class_names(references: str, num_classes: int | None, class_names: str | None) -> list[str]:
    """The names from the options, else from the datalist."""
    names = [name.strip() for name in class_names.split(",")] if class_names else None
    if names is None and os.path.isfile(os.path.expanduser(references)):
        names = [str(name) for name in datalist_info(os.path.expanduser(references))["class_names"]]
    if names is None:
        if num_classes is None:
            raise UserError("how many classes there are is not known: give --num_classes or --class_names")
        names = ["background", *(f"class_{index}" for index in range(1, _number("num_classes", num_classes, 2)))]
    if num_classes is not None and num_classes != len(names):
        raise UserError(f"--num_classes {num_classes} where there are {len(names)} names: {', '.join(names)}")
    if len(names) < 2 or len(set(names)) < len(names) or not all(names) or OVERALL in names:
        raise UserError(f"class names {', '.join(names)}: name two or more, each differently, none {OVERALL}")
    return names


def _number(name: str, value: Any, least: int) -> int:
    if type(value) is not int or value < least:
        raise UserError(f"--{name} is {value!r}; give a number from {least} on")
    return value


def _post_processing(classes: int, pieces: Mapping[str, int | None]) -> Callable[[Any], Any] | None:
    """What the two options make of a label map; None without them."""
    kept = {name.removeprefix("keep_"): _number(name, n, 1) for name, n in pieces.items() if n is not None}
    if not kept:
        return None
    # MONAI takes seconds to import, more than most scorings take
    from common.transforms.largest_pieces import KeepLargestPieces

    return KeepLargestPieces(classes, **kept)


def _match(
    folders: Mapping[str, str], wanted: Sequence[Reference], *, allow_missing: bool
) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """The prediction files by method and case, and by method those without a reference."""
    files: dict[str, dict[str, str]] = {}
    unmatched: dict[str, list[str]] = {}
    for name, folder in folders.items():
        files[name], unmatched[name] = match_predictions(folder, wanted)
        missing = [each.case for each in wanted if each.case not in files[name]]
        faults = [f"no prediction of {listed(missing)}"] if missing else []
        faults += [f"no reference of {listed(unmatched[name])}"] if unmatched[name] else []
        if faults and not allow_missing:
            raise UserError(f"{folder}: {'; '.join(faults)}; correct the names, or add --allow_missing true")
    return files, unmatched


def _method_text(name: str, summary: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """The scores of a method, and which files had no counterpart."""
    lines = [f"{name}: {summary['cases']} volumes", summary_table(summary)]
    for key in ("pooled_slice_dice", PATIENT_DICE):
        if key in summary["all"]:
            of = summary["all"][key]
            lines.append(f"{key}: {of['mean']:.3f} ± {of['std']:.3f}, median {of['median']:.3f}, n {of['n']}")
    for key in ("missing_predictions", "predictions_without_reference"):
        if meta[key]:
            lines.append(f"{key.replace('_', ' ')}: {', '.join(meta[key])}")
    return "\n".join(lines)


def _tests_text(tests: Sequence[Mapping[str, Any]]) -> str:
    """The tests of Dice and HD95, which are those that papers report; the files have all."""
    table = [["pair", "score", "class", "n", "difference", "Wilcoxon p", "Holm", "t p", "Holm", "d_z", "r_rb"]]
    for row in tests:
        if row["score"] in ("dice", "hd95", PATIENT_DICE):
            p = [f"{row[key]:.2g}" for key in ("wilcoxon_p", "wilcoxon_p_holm", "t_p", "t_p_holm")]
            effects = [f"{row['cohens_dz']:.2f}", f"{row['rank_biserial']:.2f}"]
            pair = f"{row['first']} - {row['second']}"
            cells = [pair, row["score"], row["class_name"], str(row["n"]), f"{row['mean_difference']:+.4f}"]
            table.append([*cells, *p, *effects])
    return f"paired tests\n{text_table(table)}"


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write all files, or none of them where one cannot be written."""
    for name in texts:
        if (folder / name).is_dir():
            raise UserError(f"{folder / name}: is a folder where a table has to go; choose another --output")
    remove_leftovers(*(folder / name for name in texts))
    with contextlib.ExitStack() as stack:
        for name, text in texts.items():
            temporary = stack.enter_context(atomic_file(folder / name))
            temporary.write_text(text, encoding="utf-8", newline="")
