"""The ways to annotate a dense mask, by name."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from common.errors import UserError
from common.transforms.coarse_drawing import MorphoDrawing
from common.transforms.coarse_label_simulation import simulate_coarse_labels
from common.transforms.scribble_forms import FORMS, draw_annotation
from common.transforms.scribble_random_walk import random_walk_scribble, random_walk_v2
from common.transforms.scribble_skeleton import FORMS as SKELETONS
from common.transforms.scribble_skeleton import skeleton_scribble

SCRIBBLES = [form for form in FORMS if form != "coarse"]


def hearts() -> np.ndarray:
    """Eight slices: a ring (1) around a disc (2) that gets smaller, two slices of background alone."""
    rows, columns = np.indices((48, 52))
    distance = np.hypot(rows - 22, columns - 27)
    radii = (0, 17, 15, 13, 11, 9, 7, 0)
    return np.stack([np.digitize(-distance, [-radius, 4 - radius]) if radius else 0 * rows for radius in radii]).astype(
        np.uint8
    )


def draw(form: str, seed: int = 0, **options: Any) -> dict[str, np.ndarray]:
    return draw_annotation(hearts(), 3, np.random.default_rng(seed), form, **options)


def test_the_forms_and_their_options() -> None:
    assert set(FORMS) == {"skeleton", "thick", "hull", "walk", "strokes", "coarse"}
    assert {form: FORMS[form].options for form in FORMS if FORMS[form].options} == {
        "walk": ("moves", "steps"),
        "strokes": ("width", "length"),
        "coarse": ("ratio",),
    }


@pytest.mark.parametrize("form", SCRIBBLES)
@pytest.mark.parametrize("options", [{}, {"slice_share": 0.5}])
def test_no_scribble_leaves_its_class_and_every_class_has_one(form: str, options: dict[str, Any]) -> None:
    mask, found = hearts(), draw(form, **options)
    assert list(found) == ["scribble"]
    drawn = found["scribble"]
    assert (drawn.shape, drawn.dtype) == (mask.shape, mask.dtype)
    np.testing.assert_array_equal(drawn[drawn != 3], mask[drawn != 3])
    annotated = (drawn != 3).any(axis=(1, 2))
    assert annotated.sum() == (8 if not options else 4)
    for plane, strokes in zip(mask[annotated], drawn[annotated], strict=True):
        assert set(np.unique(strokes)) == {*np.unique(plane), 3}  # the background's strokes included


@pytest.mark.parametrize("form", FORMS)
def test_the_source_decides(form: str) -> None:
    first, again, other = draw(form, 1), draw(form, 1), draw(form, 2)
    for name, drawn in first.items():
        assert drawn.tobytes() == again[name].tobytes()
    differ = any((first[name] != other[name]).any() for name in first)
    assert differ == FORMS[form].random


@pytest.mark.parametrize("form", FORMS)
def test_a_share_of_the_slices_leaves_the_drawings_as_they_are(form: str) -> None:
    whole, half, quarter = (draw(form, slice_share=share) for share in (1, 0.5, 0.25))
    for name, drawn in whole.items():
        for part, most in ((half[name], 4), (quarter[name], 2)):
            kept = (part != 3).any(axis=(1, 2))
            # of coarse labels, slices of background alone have no positive drawing
            assert kept.sum() <= most if form == "coarse" else kept.sum() == most
            np.testing.assert_array_equal(part[kept], drawn[kept])
            assert (part[~kept] == 3).all()
        few, more = ((part[name] != 3).any(axis=(1, 2)) for part in (quarter, half))
        assert (more | ~few).all()


@pytest.mark.parametrize("form", SKELETONS)
def test_skeletons(form: str) -> None:
    np.testing.assert_array_equal(draw(form)["scribble"], skeleton_scribble(hearts(), 3, **SKELETONS[form]))


def test_walks() -> None:
    """They get the source of the drawings, which is the second of two that are spawned."""

    def source() -> np.random.Generator:
        return np.random.default_rng(0).spawn(2)[1]

    assert np.array_equal(draw("walk")["scribble"], random_walk_scribble(hearts(), 3, source(), steps=2500))
    short = draw("walk", moves="king", steps=40)["scribble"]
    assert np.array_equal(short, random_walk_scribble(hearts(), 3, source(), moves="king", steps=40))
    assert np.array_equal(draw("walk", moves="v2")["scribble"], random_walk_v2(hearts(), 3, source()))
    single = draw("walk", steps=1)["scribble"]
    assert [(single == index).sum() for index in range(3)] == [8, 6, 6]  # a pixel of every class in every slice


def test_strokes_have_the_chosen_width() -> None:
    thin, wide = draw("strokes")["scribble"], draw("strokes", width=3)["scribble"]
    for index in range(3):
        assert (thin[wide != index] != index).all()
        away = [ndimage.distance_transform_edt(plane != index) for plane in thin]
        assert max(distance[plane == index].max(initial=0) for distance, plane in zip(away, wide, strict=True)) < 3
    assert (wide != 3).sum() > 1.5 * (thin != 3).sum()


def test_coarse_labels_say_what_is_and_what_is_not() -> None:
    mask, found = hearts(), draw("coarse")
    assert list(found) == ["coarse", "not"]
    positive, negative = found["coarse"], found["not"]
    assert set(np.unique(positive)) == {1, 2, 3}  # background is not painted
    assert set(np.unique(negative)) == {1, 2, 3}
    # a negative drawing says mostly what is true, and of one class a slice
    assert np.mean(negative[negative != 3] != mask[negative != 3]) > 0.95
    for plane in negative:
        assert len(np.unique(plane[plane != 3])) == 1
    draws = np.random.default_rng(0).spawn(2)[1].spawn(len(mask))
    for number, plane in enumerate(mask):
        expected = simulate_coarse_labels(plane, 3, draws[number], drawing=MorphoDrawing(scale=1))
        np.testing.assert_array_equal((positive[number], negative[number]), expected)


@pytest.mark.parametrize("ratio", [1, 0.8, 0.5, 0.3, 0.01])
def test_the_area_of_coarse_labels_is_reduced_to_a_pixel(ratio: float) -> None:
    whole, part = draw("coarse"), draw("coarse", ratio=ratio)
    for name in whole:
        np.testing.assert_array_equal(part[name][part[name] != 3], whole[name][part[name] != 3])
        for plane, kept in zip(whole[name], part[name], strict=True):
            for index in set(np.unique(plane)) - {3}:
                # rounded, halves up, at least one
                assert (kept == index).sum() == max(1, int(ratio * (plane == index).sum() + 0.5))


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ("lines", {}, 'unknown form "lines"; choose one of skeleton, thick, hull, walk, strokes, coarse'),
        ("skeleton", {"width": 2}, "form skeleton has no option width; its options are slice_share"),
        ("walk", {"width": 2}, "form walk has no option width; its options are slice_share, moves, steps"),
        ("strokes", {"ratio": 1}, "form strokes has no option ratio; its options are slice_share, width"),
        ("strokes", {"slice_share": 2}, "slice_share is 2; give a number over 0 and up to 1"),
        ("strokes", {"width": 0}, "width is 0; give the strokes' width in pixels, a whole number from 1 on"),
        ("walk", {"moves": "knight"}, "moves is 'knight'; choose one of diag, four, king, v2"),
        (
            "walk",
            {"moves": "v2", "steps": 9},
            "steps is 9, but a walk with moves v2 ends at a tenth of its class; leave",
        ),
        ("walk", {"steps": 2.5}, "steps is 2.5; give a whole number from 1 on"),
        ("walk", {"steps": True}, "steps is True; give a whole number from 1 on"),
        ("walk", {"steps": 0}, "steps is 0; a walk needs at least 1"),
        ("coarse", {"ratio": 0}, "ratio is 0; give a number over 0 and up to 1"),
        ("coarse", {"ratio": "x"}, "ratio is 'x'; give a number over 0 and up to 1"),
    ],
)
def test_options_that_do_not_fit(form: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        draw(form, **options)


def test_masks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\[Z, H, W\], got shape \(4, 4\)"):
        draw_annotation(np.zeros((4, 4), np.uint8), 2, np.random.default_rng(0), "strokes")
    with pytest.raises(ValueError, match=r"0\.\.1, got 0\.\.2"):
        draw_annotation(np.diag([0, 2])[None], 2, np.random.default_rng(0), "walk")
