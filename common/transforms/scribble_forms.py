"""The ways to simulate annotations of a dense mask, each by a name, with the options that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from .annotated_slices import choose_annotated_slices
from .coarse_drawing import MorphoDrawing
from .coarse_label_simulation import simulate_coarse_labels
from .scribble_random_walk import MOVES, random_walk_scribble, random_walk_v2
from .scribble_skeleton import FORMS as SKELETONS
from .scribble_skeleton import skeleton_scribble
from .scribble_strokes import stroke_scribble

__all__ = ["FORMS", "draw_annotation"]


class _Form(NamedTuple):
    """How a form draws a stack, the names of its options, of the maps that it gives, and whether it draws lots."""

    draw: Callable[..., tuple[np.ndarray, ...]]
    options: tuple[str, ...] = ()
    maps: tuple[str, ...] = ("scribble",)
    random: bool = True


def _skeleton(form: str) -> _Form:
    def draw(mask: np.ndarray, num_classes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return (skeleton_scribble(mask, num_classes, **SKELETONS[form]),)

    return _Form(draw, random=False)


def _walk(
    mask: np.ndarray, num_classes: int, rng: np.random.Generator, *, moves: str = "diag", steps: int | None = None
) -> tuple[np.ndarray, ...]:
    if moves not in (*MOVES, "v2"):
        raise UserError(f"moves is {moves!r}; choose one of {', '.join(MOVES)}, v2")
    if moves == "v2" and steps is not None:
        raise UserError(f"steps is {steps!r}, but a walk with moves v2 ends at a tenth of its class; leave steps out")
    if steps is not None and type(steps) is not int:
        raise UserError(f"steps is {steps!r}; give a whole number from 1 on")
    if moves == "v2":
        return (random_walk_v2(mask, num_classes, rng),)
    return (random_walk_scribble(mask, num_classes, rng, moves=moves, **({} if steps is None else {"steps": steps})),)


def _strokes(
    mask: np.ndarray, num_classes: int, rng: np.random.Generator, *, width: int = 1, length: float = 1.0
) -> tuple[np.ndarray, ...]:
    return (stroke_scribble(mask, num_classes, rng, width=width, length=length),)


def _coarse(
    mask: np.ndarray, num_classes: int, rng: np.random.Generator, *, ratio: float = 1.0
) -> tuple[np.ndarray, ...]:
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise UserError(f"ratio is {ratio!r}; give a number over 0 and up to 1")
    label, complement = np.empty_like(mask), np.empty_like(mask)
    for plane, positive, negative, draws in zip(mask, label, complement, rng.spawn(len(mask)), strict=True):
        positive[:], negative[:] = simulate_coarse_labels(
            plane, num_classes, draws, drawing=MorphoDrawing(scale=1), ratio=ratio
        )
    return label, complement


FORMS: Mapping[str, _Form] = {
    **{form: _skeleton(form) for form in SKELETONS},
    "walk": _Form(_walk, ("moves", "steps")),
    "strokes": _Form(_strokes, ("width", "length")),
    "coarse": _Form(_coarse, ("ratio",), maps=("coarse", "not")),
}
"""The forms by name.

``skeleton``, ``thick`` and ``hull``: see :data:`~.scribble_skeleton.FORMS`. ``walk``: the random walk of
:func:`~.scribble_random_walk.random_walk_scribble`, or with ``moves="v2"`` of its later version. ``strokes``: see
:func:`~.scribble_strokes.stroke_scribble`. ``coarse``: the positive and the negative drawing of
:func:`~.coarse_label_simulation.simulate_coarse_labels`, drawn on the mask's own pixels.
"""


def draw_annotation(
    mask: np.ndarray,
    num_classes: int,
    rng: np.random.Generator,
    form: str,
    *,
    slice_share: float = 1.0,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Draw the annotation of a volume.

    Args:
        mask: dense masks ``[Z, H, W]`` of integers 0..C-1, 0 being background.
        num_classes: number of classes C with background; C also marks pixels that are not annotated.
        rng: the source of all draws: the same state gives the same drawings.
        form: a name in :data:`FORMS`.
        slice_share: share of the slices that are annotated, see
            :func:`~.annotated_slices.choose_annotated_slices`. The drawings of a slice do not depend on it.
        options: options of the form.

    Returns:
        Label maps ``[Z, H, W]`` in the mask's type, by name: ``"scribble"``, or ``"coarse"`` and ``"not"`` of the form
        ``coarse``. Scribbles hold 0 on the background's, 1..C-1 on the classes', C elsewhere; see
        :func:`~.coarse_label_simulation.simulate_coarse_labels` for the others.

    Raises:
        UserError: the form or an option is unknown or out of its range.
        ValueError: the mask is not three-dimensional or holds other values than 0..C-1.
    """
    if form not in FORMS:
        raise UserError(f'unknown form "{form}"; choose one of {", ".join(FORMS)}')
    foreign = [name for name in options if name not in FORMS[form].options]
    if foreign:
        own = ", ".join(("slice_share", *FORMS[form].options))
        raise UserError(f"form {form} has no option {foreign[0]}; its options are {own}")
    if mask.ndim != 3:
        raise ValueError(f"the mask must be [Z, H, W], got shape {mask.shape}")
    choice, draws = rng.spawn(2)
    left_out = ~choose_annotated_slices(mask, slice_share, choice)
    maps = dict(zip(FORMS[form].maps, FORMS[form].draw(mask, num_classes, draws, **options), strict=True))
    for drawn in maps.values():
        drawn[left_out] = num_classes
    return maps
