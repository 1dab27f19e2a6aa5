"""Bring scribbles or coarse labels of ITK-SNAP, 3D Slicer and others to this project's values, by class name.

    python -m tools import_labels --labels drawn/ --images scans/ --output labels/ --class_names background,RV,MYO,LV

In these programs 0 is "not annotated", and the other values follow the order in which the segments were made.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from common.data.datalist import datalist_info
from common.data.foreign_labels import DrawnSegment, ForeignLabel, ImportedLabel, find_foreign_labels, import_label
from common.data.label_files import earlier_annotations
from common.data.name_tables import parse_names
from common.data.own_data import parse_class_names
from common.errors import UserError
from common.files import writable_folder
from common.transforms.label_names import check_class_names


def main(
    *,
    labels: str,
    images: str,
    output: str,
    class_names: str | None = None,
    datalist: str | None = None,
    names: str | None = None,
    allow_missing: bool = False,
) -> None:
    """Write annotations as NIfTI on the images' grids, and print which segment became which class.

    A segment has the name of its class, in upper or lower case; strokes on the background are called bg_scribble; in
    coarse labels not_RV is what was drawn as not being RV. Written are 0 on the background's strokes, 1 to C - 1 on
    the classes and C (the number of classes) elsewhere. Labels are called as their images, but for ends such as
    _scribble, -label or .seg; where all files are called alike, their folders name the case. Segmentations that were
    cropped, or have axes of another order, are put back where they were drawn. Files of an earlier run are replaced.

    Args:
        labels: folder, pattern in quotes or file of the labels: segmentations of 3D Slicer (.seg.nrrd) and label maps
            (NIfTI, NRRD, MetaImage).
        images: folder, pattern or file of the images, which may be DICOM series.
        output: the folder that gets <case>_scribble.nii.gz, of several annotators <case>_scribble_1.nii.gz and so on;
            of coarse labels <case>_coarse.nii.gz (positive) and <case>_not.nii.gz (negative), where there is one.
        class_names: the C names with commas, in the order of their values here: "background,RV,MYO,LV".
        datalist: instead of class_names, a datalist that has them.
        names: what the values of label maps are called: "RV=3,MYO=1", or a table (ITK-SNAP's label description .txt,
            3D Slicer's colour table .ctbl, .txt or .csv, or .json). By default the table beside each file that is
            called like it. A .seg.nrrd has names of its own.
        allow_missing: whether classes may have no segment.

    Raises:
        UserError: a label or image is missing or damaged, they do not fit, or a name is unknown, missing or ambiguous.
    """
    if (class_names is None) == (datalist is None):
        raise UserError("give --class_names, or a --datalist that has them, and not both")
    classes = datalist_info(datalist)["class_names"] if datalist else parse_class_names(str(class_names))
    check_class_names(classes)
    table = None if names is None else parse_names(names)
    folder = Path(os.path.abspath(os.path.expanduser(output)))
    for option, source in (("--labels", labels), ("--images", images)):
        if os.path.realpath(os.path.expanduser(source)) == os.path.realpath(folder):
            raise UserError(f"{output}: is the folder of {option}; choose another --output")
    found = find_foreign_labels(labels, images, skip=folder)
    writable_folder(folder)
    imported = []
    for label in found:
        done = import_label(label, folder, classes, names=table, allow_missing=allow_missing)
        imported.append(done)
        print(_line(label, done, classes), flush=True)
    cases = {label.case for label in found}
    written = [file for done in imported for file in done.files.values()]
    print(f"{folder}: {len(written)} files of {len(cases)} cases, {', '.join(classes)}")
    for warning in earlier_annotations(folder, cases, written):
        print(f"warning: {warning}")
    strokes = ["scribble" in done.files for done in imported]
    if all(strokes) or not any(strokes):
        command = ["datalist", "--images", images, "--labels", str(folder), "--class_names", ",".join(classes)]
        print(f"next: {shlex.join(['python', '-m', 'tools', *command, '--output', '<folder>'])}")
    else:
        one = imported[strokes.index(True)].files["scribble"]
        print(
            f"next: coarse drawings and scribbles are not for one datalist; if {os.path.basename(one)} and others of "
            "that end are coarse drawings without a negative one, call them <case>_coarse.nii.gz"
        )


def _line(label: ForeignLabel, done: ImportedLabel, classes: Sequence[str]) -> str:
    told = "; ".join(_told(each, classes) for each in done.segments)
    return f"{label.path.name} -> {', '.join(map(os.path.basename, done.files.values()))}: {told}"


def _told(each: DrawnSegment, classes: Sequence[str]) -> str:
    """What became of a segment, as ``MYO 5 is 2 (MYO), 40 voxels``."""
    became = f"{'not ' if each.negative else ''}{each.class_index} ({classes[each.class_index]})"
    layer = f" of layer {each.segment.layer}" if each.segment.layer else ""
    return f"{each.segment.name} {each.segment.value}{layer} is {became}, {each.voxels} voxels"
