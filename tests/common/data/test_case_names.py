"""What file names say about case, patient and phase."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest

from common.data.case_names import (
    annotator_of,
    case_of,
    is_left_out,
    label_role,
    patient_of_case,
    phase_of_case,
    stem_of,
)
from common.errors import UserError


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"),
        ("a.b.NII.GZ", "a.b"),
        ("a.nii", "a"),
        ("a b.mhd", "a b"),
        ("a.seg.nrrd", "a.seg"),
        ("a.gz", None),
        ("a.raw", None),
        (".nii.gz", None),
        ("a.json", None),
    ],
)
def test_stems(name: str, stem: str | None) -> None:
    assert stem_of(name) == stem


def test_decomposed_and_composed_names_are_one() -> None:
    composed = "Müller.nii.gz"
    decomposed = unicodedata.normalize("NFD", composed)
    assert decomposed != composed
    assert stem_of(decomposed) == stem_of(composed) == "Müller"


@pytest.mark.parametrize(
    ("stem", "case", "role", "annotator"),
    [
        ("p1", "p1", None, ""),
        ("p1_0000", "p1", None, ""),
        ("p1_image", "p1", None, ""),
        ("p1_0001", "p1_0001", None, ""),
        ("p1_scribble", "p1", "scribble", ""),
        ("p1-Scribbles", "p1", "scribble", ""),
        ("p1_scribble_12", "p1", "scribble", "12"),
        ("p1_gt_12", "p1_gt_12", None, ""),
        ("p1_coarse", "p1", "coarse", ""),
        ("p1_ED_Not", "p1_ED", "not", ""),
        ("p1_coarse.seg", "p1", "coarse", ""),
        ("p1_coarse_2", "p1_coarse_2", None, ""),
        ("knot", "knot", None, ""),
        ("p1_gt", "p1", "mask", ""),
        ("p1_frame01_manual", "p1_frame01", "mask", ""),
        ("p1.seg", "p1", "mask", ""),
        ("p1_scribble.seg", "p1", "scribble", ""),
        ("p1_scribble_2.seg", "p1", "scribble", "2"),
        ("p1-label.seg", "p1", "either", ""),
        ("p1_masks", "p1", "mask", ""),
        ("p1_Label", "p1", "either", ""),
        ("p1_0000_seg", "p1", "mask", ""),
        ("subject_scribbled", "subject_scribbled", None, ""),
        ("_gt", "_gt", "mask", ""),
        ("gt", "gt", None, ""),
    ],
)
def test_cases_and_roles(stem: str, case: str, role: str | None, annotator: str) -> None:
    assert (case_of(stem), label_role(stem), annotator_of(stem)) == (case, role, annotator)


@pytest.mark.parametrize(
    ("case", "patient", "phase"),
    [
        ("patient001_frame01", "patient001", None),
        ("patient001_ED", "patient001", "ED"),
        ("p1-es", "p1", "ES"),
        ("p1_4d", "p1", None),
        ("p1_edge", "p1_edge", None),
        ("ED", "ED", None),
        ("p_frame1_ED", "p_frame1", "ED"),
    ],
)
def test_patients_and_phases(case: str, patient: str, phase: str | None) -> None:
    assert (patient_of_case(case), phase_of_case(case)) == (patient, phase)


def test_patients_by_a_pattern() -> None:
    assert patient_of_case("siteA_017_day2", r"_(\d+)_") == "017"
    assert patient_of_case("siteA_017_day2", r"^site._\d+") == "siteA_017"
    with pytest.raises(UserError, match=r"^--patient_pattern '\^x' finds no patient in the name of case a; correct"):
        patient_of_case("a", "^x")
    with pytest.raises(UserError, match="finds no patient in the name of case ab"):
        patient_of_case("ab", "a(x)?")  # the group takes no part
    with pytest.raises(UserError, match=re.escape("--patient_pattern '(' is no regular expression: missing )")):
        patient_of_case("a", "(")


@pytest.mark.parametrize("stem", ["a_gt", "a_GT", "a.seg", "a_scribble_2", "a-mask", "a_4d", "a_4D"])
def test_labels_and_series_are_left_out(stem: str) -> None:
    assert is_left_out(stem)
    assert not is_left_out(stem, [])
    assert not is_left_out(f"{stem}x")
    assert is_left_out(f"{stem}x", ["x"])


@pytest.mark.parametrize("endings", ["_gt", 5, ["_gt", 5]])
def test_ends_of_names_are_a_list_of_texts(endings: Any) -> None:
    with pytest.raises(UserError, match=r"exclude must be null or a list of ends of file names such as \['_gt'\], got"):
        is_left_out("a", endings)
