"""Label maps of other programs, mapped by name."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from common.errors import UserError
from common.transforms.label_names import check_class_names, class_of_name, map_labels_by_name
from common.transforms.named_segments import Segment

NAMES = ["background", "RV", "MYO", "LV"]
DRAWN = {"bg_scribble": 0, "RV": 1, "MYO": 2, "LV": 3}
"""What each segment becomes."""


def named(**values: int) -> list[Segment]:
    return [Segment(name, value) for name, value in values.items()]


def refused(layers: object, segments: list[Segment], names: list[str] = NAMES, **options: bool) -> str:
    with pytest.raises(UserError) as caught:
        map_labels_by_name(np.asarray(layers), segments, names, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_values_follow_the_names_whatever_their_order() -> None:
    for order in itertools.permutations(DRAWN):
        # the drawing of a row: not annotated, then each segment in the given order, which is its value
        layer = np.arange(5).reshape(1, 1, 5)
        segments = [Segment(name, number) for number, name in enumerate(order, start=1)]
        label, complement = map_labels_by_name(layer, segments[::-1], NAMES)
        assert label is not None
        assert complement is None
        assert label.dtype == np.uint8
        assert label.tolist() == [[4, *(DRAWN[name] for name in order)]]


def test_names_are_read_without_regard_to_case_and_spaces() -> None:
    names = ["background", "left ventricle", "Leber"]
    segments = named(**{" Left_Ventricle ": 1, "BG scribble": 2, "LEBER": 3})
    label, _ = map_labels_by_name(np.array([[0, 1, 2, 3]]), segments, names)
    assert np.array_equal(label, [3, 1, 0, 2])


@pytest.mark.parametrize("name", ["bg_scribble", "background_scribble", "Background"])
def test_names_of_the_annotated_background(name: str) -> None:
    label, _ = map_labels_by_name(np.array([[0, 5, 6]]), named(**{name: 5, "RV": 6}), NAMES[:2])
    assert np.array_equal(label, [2, 0, 1])


def test_segments_of_several_layers_are_joined() -> None:
    layers = np.array([[1, 0, 2, 0], [0, 1, 0, 0]])
    segments = [Segment("RV", 1, 1), Segment("MYO", 1, 0), Segment("bg_scribble", 2, 0), Segment("LV", 9, 1)]
    label, _ = map_labels_by_name(layers, segments, NAMES)
    assert np.array_equal(label, [2, 1, 0, 4])  # LV is empty


def test_overlapping_segments_are_refused_by_name() -> None:
    layers = np.array([[1, 2, 0], [1, 0, 0]])
    segments = [Segment("MYO", 1, 0), Segment("bg_scribble", 2, 0), Segment("RV", 1, 1)]
    message = refused(layers, segments, allow_missing=True)
    assert message == '"MYO", "RV" overlap; erase one of them where both are drawn'


def test_negative_drawings_go_to_the_complement() -> None:
    # what is not RV may be MYO: positive and negative drawings overlap without contradiction
    layers = np.array([[1, 2, 3, 0, 0], [1, 1, 1, 1, 0]])
    segments = [Segment("RV", 1), Segment("MYO", 2), Segment("LV", 3), Segment("not_MYO", 1, 1)]
    label, complement = map_labels_by_name(layers, segments, NAMES)
    assert np.array_equal(label, [1, 2, 3, 4, 4])
    assert np.array_equal(complement, [2, 2, 2, 2, 4])


def test_negative_drawings_alone() -> None:
    label, complement = map_labels_by_name(np.array([[0, 1, 2]]), named(not_LV=2, Not_RV=1), NAMES, allow_missing=True)
    assert label is None
    assert np.array_equal(complement, [4, 1, 3])


def test_of_coarse_labels_each_class_needs_one_of_two() -> None:
    layers = np.array([[1, 2, 0]])
    assert refused(layers, named(RV=1, not_MYO=2)) == (
        'there is no segment called "LV"; add it, even if it is empty, or set allow_missing'
    )
    label, complement = map_labels_by_name(layers, named(RV=1, not_MYO=2, not_LV=3), NAMES)
    assert np.array_equal(label, [1, 4, 4])
    assert np.array_equal(complement, [4, 2, 4])


def test_the_value_0_of_a_table_is_not_annotated_whatever_it_is_called() -> None:
    for name in ("Clear Label", "background", "Background"):
        label, _ = map_labels_by_name(np.array([[0, 1, 2]]), named(**{name: 0, "bg_scribble": 1, "RV": 2}), NAMES[:2])
        assert np.array_equal(label, [2, 0, 1])
    for name in ("RV", "bg_scribble", "not_RV"):
        assert refused([[0, 1]], named(**{name: 0})) == (
            f'"{name}" has the value 0, which means "not annotated"; give it another value'
        )


def test_unknown_names() -> None:
    layers = np.array([[0, 1, 2, 3, 4]])
    segments = named(RV=1, Myocard=2, LV=3, bg_scribble=4, Atrium=5)
    tail = "; the names may be bg_scribble, RV, MYO, LV, or not_<class>; rename it"
    assert refused(layers, segments) == f'no class is called "Myocard", "Atrium"{tail}'
    # of a table, names that no voxel has do not matter
    assert refused(layers, segments, all_segments=False) == f'no class is called "Myocard"{tail}'
    label, _ = map_labels_by_name(np.array([[0, 1, 3, 4]]), segments, NAMES, all_segments=False, allow_missing=True)
    assert np.array_equal(label, [4, 1, 3, 0])


def test_missing_names_are_all_told() -> None:
    fix = "; add it, even if it is empty, or set allow_missing"
    assert refused([[0, 1]], named(MYO=1)) == f'there is no segment called "bg_scribble", "RV", "LV"{fix}'
    label, _ = map_labels_by_name(np.array([[0, 1]]), named(MYO=1), NAMES, allow_missing=True)
    assert np.array_equal(label, [4, 2])


def test_ambiguous_names() -> None:
    assert refused([[0, 1]], named(RV=1, rv=2)) == '"RV", "rv" mean the same class; join the two, or rename one'
    assert refused([[0, 1]], named(background=1, bg_scribble=2)).startswith('"background", "bg_scribble" mean the same')
    assert refused([[0, 1]], named(RV=1, LV=1)) == '"RV", "LV" have the same value 1; remove one of the names'
    twins = [Segment("RV", 1), Segment("RV", 1)]
    assert refused([[0, 1]], twins) == '"RV", "RV" have the same value 1; remove one of the names'


def test_voxels_without_a_name() -> None:
    segments = named(bg_scribble=1, RV=2, MYO=3, LV=4)
    assert refused([[0, 1, 7, 9, 7]], segments) == (
        "there are voxels of value 7, 9, which has no name; name it, or remove the voxels"
    )
    assert refused([[0, 1], [0, 2]], segments).startswith("there are voxels of value 2, which has no name")
    assert refused([[0, -3]], segments).startswith("there are voxels of value -3, which has no name")


@pytest.mark.parametrize(("value", "told"), [(1.5, "1.5"), (np.nan, "nan"), (np.inf, "inf")])
def test_values_that_are_no_integers(value: float, told: str) -> None:
    message = refused([[0.0, value]], named(bg_scribble=1))
    assert message == f"label value {told} is no integer; give a label map, not an image"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["background"], "class_names lists 1 names; give 2 to 255, background first"),
        (["c"] * 256, "class_names lists 256 names; give 2 to 255, background first"),
        (["background", "RV", "rv"], 'class_names: "rv" is empty or may mean two things'),
        (["background", "RV", " "], 'class_names: "" is empty or may mean two things'),
        (["background", "RV", "not RV"], 'class_names: "not_rv" is empty or may mean two things'),
        (["background", "bg_scribble"], 'class_names: "bg_scribble" is empty or may mean two things'),
    ],
)
def test_class_names_that_cannot_be_told_apart(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        check_class_names(names)


def test_meaning_of_a_name() -> None:
    assert class_of_name("myo ", NAMES) == (False, 2)
    assert class_of_name("Not MYO", NAMES) == (True, 2)
    assert class_of_name("bg scribble", NAMES) == (False, 0)
    assert class_of_name("MY", NAMES) is None
