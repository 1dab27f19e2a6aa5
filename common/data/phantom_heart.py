"""The phantom's heart: two ventricles as implicit surfaces whose size follows the slice and the phase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RV, MYO, LV = 1, 2, 3
"""The classes' label values, as in ACDC; 0 is background."""

_ABSENT = -10.0
"""Radius in mm of a chamber in slices that it does not reach: nothing lies inside."""


@dataclass(frozen=True)
class Heart:
    """What makes one patient's heart; lengths in mm, angles in radians, complex numbers for points of a slice.

    Attributes:
        base: height of the basal plane above the lowest slice at end-diastole; slices run from base to apex.
        length: distance from base to apex at end-diastole.
        epi_radius: largest radius of the left ventricle's outer surface at end-diastole.
        wall: thickness of the left ventricle's wall at end-diastole.
        ejection: share of the inner radius that is lost from end-diastole to end-systole.
        septum: direction from the left to the right ventricle in the slice.
        tilt: shift of the centre from base to apex.
        lv_shape: coefficients of the outer and inner outlines' second and third harmonic.
        rv_size: radius of the right ventricle's outline as a share of ``epi_radius``.
        rv_offset: distance of its middle from the left ventricle's, as a share of ``epi_radius``.
        rv_shape: coefficients of its outline's second and third harmonic, relative to ``septum``.
        rv_reach: share of ``length`` that the right ventricle takes up from the base.
        papillary_angles: directions of the two papillary muscles relative to ``septum``.
        papillary_sizes: their radii.
    """

    base: float
    length: float
    epi_radius: float
    wall: float
    ejection: float
    septum: float
    tilt: complex
    lv_shape: np.ndarray
    rv_size: float
    rv_offset: float
    rv_shape: np.ndarray
    rv_reach: float
    papillary_angles: np.ndarray
    papillary_sizes: np.ndarray


@dataclass(frozen=True)
class Chambers:
    """Signed distances [Z, X, Y] to the heart's surfaces in mm, negative inside, each good near its surface only.

    Attributes:
        endo: the left ventricle's inner surface.
        epi: the left ventricle's outer surface.
        rv: the right ventricle's outline, before the left ventricle is cut out of it.
        papillary: the papillary muscles.
        centre: middle of the left ventricle in each slice as complex numbers [Z, 1, 1].
        depth: height of the slices below the basal plane as a share of the ventricle's length, [Z, 1, 1].
    """

    endo: np.ndarray
    epi: np.ndarray
    rv: np.ndarray
    papillary: np.ndarray
    centre: np.ndarray
    depth: np.ndarray


def draw_heart(rng: np.random.Generator, *, length: float, base: float) -> Heart:
    """Draw a heart; sizes spread as in patients with normal, thick and dilated ventricles.

    Args:
        rng: the source of the draws.
        length: see :class:`Heart`.
        base: see :class:`Heart`.
    """
    wall = rng.uniform(7, 12.5)
    return Heart(
        base=base,
        length=length,
        epi_radius=wall + rng.uniform(19, 28),
        wall=wall,
        ejection=rng.uniform(0.18, 0.42),
        septum=np.pi + rng.uniform(-0.55, 0.55),
        tilt=complex(*rng.uniform(-9, 9, 2)),
        lv_shape=_coefficients(rng, (0.05, 0.03)),
        rv_size=rng.uniform(0.9, 1.1),
        rv_offset=rng.uniform(0.8, 1.0),
        rv_shape=np.array([-0.16, 0.07]) + _coefficients(rng, (0.06, 0.06)),
        rv_reach=rng.uniform(0.72, 0.9),
        papillary_angles=np.array([1.9, 4.2]) + rng.uniform(-0.4, 0.4, 2),
        papillary_sizes=rng.uniform(4.0, 7.0, 2),
    )


def chambers(heart: Heart, contraction: float, points: np.ndarray, height: np.ndarray) -> Chambers:
    """Where the chambers are in one phase.

    Args:
        heart: the patient's heart.
        contraction: 0 at end-diastole to 1 at end-systole: the pool shrinks, the wall thickens and the base
            comes down.
        points: the pixels [X, Y] as complex numbers in mm, the heart's middle being 0.
        height: the slices' heights [Z] in mm above the first one.
    """
    descent = 9.0 * contraction
    depth = ((height - heart.base - descent) / (heart.length - descent)).astype(np.float32)[:, None, None]
    centre = (heart.tilt * (depth - 0.4)).astype(np.complex64)
    epi_radius = heart.epi_radius * (1 - 0.06 * contraction)
    endo_radius = (heart.epi_radius - heart.wall) * (1 - heart.ejection * contraction)
    offset = points.astype(np.complex64)[None] - centre
    distance, direction = _polar(offset)
    wave = 1 + _harmonics(direction, heart.lv_shape[:, None, None, None] * np.exp(1j * 0.8 * depth))
    epi = distance - epi_radius * _taper(depth, 1.0) * wave
    endo = distance - endo_radius * _taper(depth, 0.93) * wave
    towards_rv = np.exp(1j * heart.septum).astype(np.complex64)
    rv_taper = _taper(depth, heart.rv_reach)
    shift = heart.rv_offset * heart.epi_radius * (0.65 + 0.35 * np.maximum(rv_taper, 0))
    rv_distance, rv_direction = _polar(offset / towards_rv - shift)
    rv_radius = heart.rv_size * heart.epi_radius * (1 - 0.15 * contraction) * rv_taper
    rv = rv_distance - rv_radius * (1 + _harmonics(rv_direction, heart.rv_shape))
    papillary = np.full_like(epi, np.inf)
    present = np.clip(1 - np.abs(depth - 0.5) / 0.35, _ABSENT, 1)
    for angle, size in zip(heart.papillary_angles, heart.papillary_sizes, strict=True):
        place = (0.72 * endo_radius * np.maximum(_taper(depth, 0.93), 0)) * np.exp(1j * angle)
        blob = np.abs(offset / towards_rv - place.astype(np.complex64)) - size * np.minimum(2 * present, 1)
        papillary = np.minimum(papillary, blob)
    return Chambers(endo=endo, epi=epi, rv=rv, papillary=np.maximum(papillary, endo), centre=centre, depth=depth)


def dense_labels(heart: Chambers) -> np.ndarray:
    """The dense mask [Z, X, Y] as uint8; the papillary muscles belong to the left ventricle's pool."""
    labels = np.zeros(heart.epi.shape, np.uint8)
    labels[heart.rv < 0] = RV
    labels[heart.epi < 0] = MYO
    labels[heart.endo < 0] = LV
    return labels


def _taper(depth: np.ndarray, reach: float) -> np.ndarray:
    """A chamber's radius over the slices as a share of its largest one; a large negative number where it is not."""
    inside = np.clip(depth / reach, 0, 1)
    radius = np.sqrt(1 - inside**2.6) * (0.9 + 0.1 * np.minimum(inside / 0.25, 1))
    return np.where((depth >= 0) & (depth < reach), radius, _ABSENT).astype(np.float32)


def _polar(offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length and direction (a complex number of length 1) of the points of a slice."""
    distance = np.abs(offset)
    return distance, offset / np.maximum(distance, 1e-3)


def _harmonics(direction: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Second and third harmonic of a direction; the coefficients' first axis holds the two."""
    second, third = coefficients.astype(np.complex64)
    square = direction * direction
    return np.real(second * square + third * square * direction).astype(np.float32)


def _coefficients(rng: np.random.Generator, sizes: tuple[float, ...]) -> np.ndarray:
    """Complex coefficients of random angle whose largest lengths are ``sizes``."""
    return rng.uniform(0, sizes) * np.exp(2j * np.pi * rng.uniform(size=len(sizes)))
