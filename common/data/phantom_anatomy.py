"""The phantom's images: a chest around the heart, painted organ by organ as a short-axis cine MR slice shows it.

All brightness is relative to the left ventricle's blood. Many tissues are as bright as the pools (vessels, atria, fat,
spinal canal) or as dark as the myocardium (liver, muscle), so that brightness alone does not tell the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .phantom_heart import Chambers

_EDGE = 0.8
"""Half the width in mm of the blend between two tissues (partial volume)."""


@dataclass(frozen=True)
class Tissues:
    """Brightness of one patient's tissues relative to the left ventricle's blood."""

    rv_blood: float
    myocardium: float
    muscle: float
    liver: float
    fat: float
    lung: float
    vessels: float


def draw_tissues(rng: np.random.Generator) -> Tissues:
    """Draw a patient's contrasts; the ranges are those of cine MR (balanced steady-state free precession)."""
    myocardium = rng.uniform(0.3, 0.48)
    return Tissues(
        rv_blood=rng.uniform(0.72, 0.98),
        myocardium=myocardium,
        muscle=rng.uniform(0.2, 0.35),
        liver=myocardium * rng.uniform(0.75, 1.2),
        fat=rng.uniform(0.85, 1.3),
        lung=rng.uniform(0.05, 0.1),
        vessels=rng.uniform(0.85, 1.1),
    )


def paint_body(rng: np.random.Generator, tissues: Tissues, points: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Everything but the heart.

    Args:
        rng: the source of the draws.
        tissues: the patient's contrasts.
        points: the pixels [X, Y] as complex numbers in mm, the heart's middle being 0; the imaginary axis points
            away from the head.
        height: the slices' heights [Z] in mm above the first one.

    Returns:
        The brightness [Z, X, Y] as float32.
    """
    shape = (len(height), *points.shape)
    level = (height / 80).astype(np.float32)[:, None, None]
    texture = 1 + 0.1 * _field(rng, shape, 12)
    image = np.full(shape, tissues.lung, np.float32)
    _paint_lung_vessels(image, rng, points)
    _paint_abdomen(image, rng, tissues, points, level)
    _paint_great_vessels(image, rng, tissues, points, level)
    image *= texture
    _paint_chest_wall(image, rng, tissues, points, level)
    return image


def paint_heart(
    image: np.ndarray, rng: np.random.Generator, tissues: Tissues, heart: Chambers, points: np.ndarray
) -> np.ndarray:
    """A copy of the body's image with the heart painted over it.

    Args:
        image: the body's image [Z, X, Y].
        rng: the source of the draws: the same state gives the same heart in every phase.
        tissues: the patient's contrasts.
        heart: the chambers' surfaces in this phase.
        points: the pixels [X, Y] as complex numbers in mm, the heart's middle being 0.
    """
    image = image.copy()
    flow, patches, trabeculae = (_field(rng, image.shape, cells) for cells in (10, 16, 40))
    hull = np.minimum(heart.epi, heart.rv - 3)
    _paint(image, hull - np.clip(5 * patches + 2, 0, 14), tissues.fat)
    _paint_atria(image, rng, tissues, heart, points, flow)
    _paint(image, np.minimum(heart.rv, heart.epi) - 3, tissues.myocardium)
    _paint(image, np.abs(heart.epi - 0.6) - 0.4, tissues.fat)
    meshwork = np.clip(2.2 + 1.8 * trabeculae, 0, 6)
    between = 1.3 * tissues.myocardium
    _paint(image, heart.rv, between)
    _paint(image, heart.rv + meshwork, tissues.rv_blood * (1 + 0.07 * flow))
    _paint(image, heart.epi, tissues.myocardium * (1 + 0.07 * trabeculae))
    _paint(image, heart.endo, between)
    _paint(image, heart.endo + meshwork, 1 + 0.07 * flow)
    _paint(image, heart.papillary, tissues.myocardium * 1.1)
    return image


def acquire(image: np.ndarray, rng: np.random.Generator, bias: np.ndarray, *, noise: float, gain: float) -> np.ndarray:
    """What the scanner makes of the brightness: point spread, coil sensitivity, Rician noise, 12-bit numbers.

    The noise is that of the magnitude of a complex signal with Gaussian noise (Gudbjartsson and Patz, Magn Reson Med
    1995, eq. 1).

    Args:
        image: brightness [Z, X, Y].
        rng: the source of the noise.
        bias: the coils' sensitivity [Z, X, Y].
        noise: the standard deviation of the noise in each channel, relative to the left ventricle's blood.
        gain: stored number for brightness 1.

    Returns:
        The stored numbers [Z, X, Y] as int16, 0..4095.
    """
    signal = ndimage.gaussian_filter(image, (0, 0.55, 0.55)) * bias
    real = signal + noise * rng.standard_normal(signal.shape, dtype=np.float32)
    magnitude = np.hypot(real, noise * rng.standard_normal(signal.shape, dtype=np.float32))
    return np.clip(np.rint(gain * magnitude), 0, 4095).astype(np.int16)


def draw_bias(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A smooth sensitivity map [Z, X, Y], brighter near the front chest wall (low X), about 1 on the whole."""
    slope = np.linspace(1, -1, shape[1], dtype=np.float32)[:, None]
    return np.exp(rng.uniform(0.05, 0.3) * slope + 0.1 * _field(rng, shape, 3))


def _paint_lung_vessels(image: np.ndarray, rng: np.random.Generator, points: np.ndarray) -> None:
    spots = rng.random(image.shape, dtype=np.float32) < 0.02 * np.exp(-((np.abs(points) / 55) ** 2))
    glow = ndimage.gaussian_filter(spots * rng.uniform(0, 4, image.shape).astype(np.float32), (0, 0.7, 0.7))
    image += np.minimum(glow, 0.7)


def _paint_abdomen(
    image: np.ndarray, rng: np.random.Generator, tissues: Tissues, points: np.ndarray, level: np.ndarray
) -> None:
    """Liver, stomach, fat and bowel below the diaphragm."""
    x, y = points.real.astype(np.float32), points.imag.astype(np.float32)
    top, rise, bend, side = rng.uniform((24, 4, 0.0015, -40), (38, 16, 0.004, 10))
    dome = top - rise * level + bend * (x - side) ** 2
    below = dome - y + 2.5 * _field(rng, image.shape, 8)
    mosaic = _field(rng, image.shape, 14)
    bowel = np.where(mosaic > 0.4, tissues.fat, np.where(mosaic > -0.5, tissues.muscle, 0.6 * tissues.vessels))
    _paint(image, below, bowel)
    edge = rng.uniform(5, 45) + rng.uniform(-0.4, 0.4) * (y - 40) + 4 * mosaic
    stomach = np.maximum(below + 4, np.maximum(edge + 5 - x, y - rng.uniform(75, 100)))
    _paint(image, stomach, rng.choice([0.35, 0.6, 0.9]) + 0.15 * mosaic)
    liver = np.maximum(below + 2.5, np.maximum(x - edge, y - rng.uniform(85, 115) + 5 * mosaic))
    branches = np.abs(_field(rng, image.shape, 9)) - 0.07
    _paint(image, liver, tissues.liver * np.where(branches < 0, 1.7, 1.0))


def _paint_great_vessels(
    image: np.ndarray, rng: np.random.Generator, tissues: Tissues, points: np.ndarray, level: np.ndarray
) -> None:
    """Spine with its canal, descending aorta and lower vena cava near the heart, and a few vessels further away."""
    drift = complex(*rng.uniform(-8, 8, 2)) * level
    spine = complex(rng.uniform(48, 66), rng.uniform(62, 84))
    _paint(image, np.abs(points - spine) - rng.uniform(24, 30), tissues.muscle)
    _paint(image, np.abs(points - spine) - rng.uniform(16, 20), rng.uniform(0.35, 0.6))
    canal = spine + complex(rng.uniform(20, 26), rng.uniform(8, 18))
    _paint(image, np.abs(points - canal) - 9, rng.uniform(0.8, 1.2))
    _paint(image, np.abs(points - canal) - 4, 0.4)
    aorta = np.abs(points - complex(rng.uniform(34, 50), rng.uniform(34, 52)) - drift) - rng.uniform(9, 13)
    _paint(image, aorta - 2.5, tissues.muscle)
    _paint(image, aorta, tissues.vessels)
    cava = np.abs(points - complex(rng.uniform(-30, 5), rng.uniform(42, 54)) + drift) - rng.uniform(8, 12)
    _paint(image, cava, tissues.rv_blood)
    for angle in (*rng.uniform(0.4, 2.5, 7), rng.uniform(-1.3, -0.5)):
        _paint_hollow_organ(image, rng, tissues, points - rng.uniform(64, 112) * np.exp(1j * angle) - 2 * drift, level)


def _paint_hollow_organ(
    image: np.ndarray, rng: np.random.Generator, tissues: Tissues, offset: np.ndarray, level: np.ndarray
) -> None:
    """A vessel or a loop of bowel in cross-section: as a ventricle, a bright pool with a darker wall around it."""
    stretched = offset + rng.uniform(0, 0.35) * np.exp(2j * np.pi * rng.uniform()) * offset.conj()
    lumen = np.abs(stretched) - rng.uniform(6, 16) * (1 - 0.7 * (level - rng.uniform(0, 1.1)) ** 2)
    _paint(image, lumen - rng.uniform(3, 9), tissues.myocardium)
    _paint(image, lumen, rng.choice([tissues.vessels, tissues.rv_blood]))


def _paint_chest_wall(
    image: np.ndarray, rng: np.random.Generator, tissues: Tissues, points: np.ndarray, level: np.ndarray
) -> None:
    """Muscle with ribs, fat and skin around the body, air around them."""
    middle = complex(rng.uniform(28, 40), rng.uniform(8, 30)) + complex(*rng.uniform(-8, 8, 2)) * level
    turned = (points - middle) * np.exp(-1j * rng.uniform(-0.35, 0.1))
    across, along = rng.uniform(98, 112), rng.uniform(135, 170)
    angle = np.angle(turned)
    radius = np.sqrt((turned.real / across) ** 2 + (turned.imag / along) ** 2)
    depth = (radius - 1 - 0.05 * _waves(rng, angle)) * across
    fat = 9 * np.exp(0.7 * _waves(rng, angle))
    layers = 13 * np.exp(0.35 * _waves(rng, angle))
    ribs = np.sin(angle * rng.uniform(12, 18) + 3 * level) > 0.35
    inner = -(depth + fat + layers)
    _paint(image, inner, tissues.muscle)
    _paint(image, np.abs(inner + 0.3 * layers) - 3, np.where(ribs, 0.7 * tissues.fat, 0.5 * tissues.muscle))
    _paint(image, np.abs(inner + 0.6 * layers) - 1, 0.8 * tissues.fat)
    _paint(image, -(depth + fat), tissues.fat * (1 + 0.12 * _field(rng, image.shape, 40)))
    _paint(image, -depth - 2, 0.6)
    _paint(image, -depth, 0.01)


def _waves(rng: np.random.Generator, angle: np.ndarray) -> np.ndarray:
    """A random periodic function of the angle, of standard deviation about 1."""
    turn = np.linspace(-np.pi, np.pi, 721)
    orders = np.arange(2, 8)
    sizes = rng.standard_normal(6) + 1j * rng.standard_normal(6)
    return np.interp(angle, turn, 0.9 * np.real(sizes / orders @ np.exp(1j * orders[:, None] * turn)))


def _paint_atria(
    image: np.ndarray, rng: np.random.Generator, tissues: Tissues, heart: Chambers, points: np.ndarray, flow: np.ndarray
) -> None:
    """Atria and aortic root above the basal plane: bright, thin-walled and background."""
    above = np.where((heart.depth < 0) & (heart.depth > -0.6), 0, 1e3)
    places = [(-4 + 6j, 24.0, 1.0), (-38 + 12j, 24.0, tissues.rv_blood), (-20 - 16j, 13.0, tissues.vessels)]
    for place, radius, blood in places:
        middle = heart.centre + place + complex(*rng.uniform(-6, 6, 2))
        distance = np.abs(points - middle).astype(np.float32) - radius * rng.uniform(0.85, 1.15) + 2 * flow + above
        _paint(image, distance - 2.5, tissues.myocardium)
        _paint(image, distance, blood)


def _paint(image: np.ndarray, distance: np.ndarray, value: np.ndarray | float) -> None:
    """Blend ``value`` into the image where the signed distance in mm is negative."""
    share = np.clip(0.5 - distance / (2 * _EDGE), 0, 1)
    image += (share * (value - image)).astype(np.float32)


def _field(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> np.ndarray:
    """A smooth random field of standard deviation about 1 with ``cells`` bumps along each axis of a slice."""
    field = rng.standard_normal((max(2, len(range(0, shape[0], 3))), *(min(size, cells) for size in shape[1:])))
    for axis, size in enumerate(shape):
        field = np.moveaxis(np.tensordot(_spline(field.shape[axis], size), field, (1, axis)), 0, axis)
    return (1.5 * field).astype(np.float32)


def _spline(knots: int, size: int) -> np.ndarray:
    """The matrix [size, knots] that interpolates values at ``knots`` places to ``size`` ones with cubic B-splines."""
    gap = np.abs(np.linspace(0, knots - 1, size)[:, None] - np.arange(knots))
    weight = np.where(gap < 1, 2 / 3 - gap**2 + gap**3 / 2, np.clip(2 - gap, 0, None) ** 3 / 6)
    return weight / weight.sum(1, keepdims=True)
