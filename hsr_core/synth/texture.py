"""What synthetic people look like: colours as a function of canonical coordinates, without detail finer than 5 cm
on the clothes, so that a small picture holds all of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..body.joints import J
from ..types import Array
from .clothing import Cut, ramp

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """Colours (RGB, [0, 1]) and patterns of one person.

    Attributes:
        contrast: Factor on every pattern; 0 = plain clothes.
        stripe_m, check_m: Wavelengths of the shirt's stripes and of the checks.
    """

    skin: RGB = (0.78, 0.58, 0.47)
    hair: RGB = (0.20, 0.13, 0.09)
    shirt: RGB = (0.72, 0.22, 0.18)
    second: RGB = (0.86, 0.78, 0.62)
    trousers: RGB = (0.20, 0.27, 0.45)
    shoes: RGB = (0.16, 0.14, 0.14)
    contrast: float = 1.0
    stripe_m: float = 0.08
    check_m: float = 0.11

    @classmethod
    def random(cls, rng: np.random.Generator, contrast: float = 1.0) -> Style:
        """Draw a style."""
        skins = ((0.80, 0.62, 0.52), (0.72, 0.52, 0.41), (0.56, 0.38, 0.28), (0.38, 0.25, 0.19))
        hairs = ((0.20, 0.13, 0.09), (0.10, 0.08, 0.08), (0.42, 0.27, 0.14), (0.55, 0.44, 0.28))
        hue = rng.uniform(0, 1)
        return cls(
            skin=skins[rng.integers(len(skins))],
            hair=hairs[rng.integers(len(hairs))],
            shirt=hue_to_rgb(hue, 0.70, 0.68),
            second=hue_to_rgb(hue + rng.uniform(0.3, 0.7), 0.30, 0.84),
            trousers=hue_to_rgb(rng.uniform(0.55, 0.75), 0.45, rng.uniform(0.3, 0.5)),
            contrast=contrast,
            stripe_m=float(rng.uniform(0.07, 0.10)),
            check_m=float(rng.uniform(0.09, 0.11)),
        )


def hue_to_rgb(hue: float, saturation: float, value: float) -> RGB:
    """Return the colour of a hue on the circle [0, 1), a saturation and a value in [0, 1]."""
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    r, g, b = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
    return float(r), float(g), float(b)


class Texture:
    """Colours of one person's surface.

    Args:
        joints: Rest joints (55, 3) of the person's shape [m].
        style: Colours and patterns.
    """

    def __init__(self, joints: Array, style: Style) -> None:
        self.cut, self.style, self.joints = Cut.from_joints(joints), style, joints.astype(np.float32)

    def __call__(self, p: Array) -> Array:
        """Return colours (N, 3) in [0, 1] of canonical points (N, 3) [m]."""
        p = np.asarray(p, np.float32)
        style = self.style
        color = self._head(p)
        sole_y = self.joints[J["left_ankle"], 1]
        color = _over(color, style.shoes, ramp(p[:, 1], sole_y + 0.035, sole_y + 0.02))
        color = _over(color, self._trousers(p), self.cut.trousers(p, 0.012) * (p[:, 1] < self.cut.waist_y))
        return _over(color, self._shirt(p), self.cut.shirt(p, 0.012))

    def _shirt(self, p: Array) -> Array:
        """Stripes round the trunk, broken by checks that differ between front, back and sides."""
        s, y = self.style, p[:, 1]
        stripes = _wave(y, s.stripe_m)
        checks = _wave(p[:, 0] + 0.3 * p[:, 2], s.check_m) * _wave(p[:, 2] - 0.2 * p[:, 0], 1.3 * s.check_m)
        back = 0.5 - 0.5 * np.tanh(p[:, 2] / 0.03)
        mix = 0.5 + 0.5 * s.contrast * np.clip(0.65 * stripes + 0.55 * checks * (1 - 0.6 * back), -1, 1)
        dark = np.array(s.shirt, np.float32) * (1 - 0.35 * s.contrast * back[:, None])
        return _over(np.broadcast_to(dark, (len(p), 3)), s.second, mix)

    def _trousers(self, p: Array) -> Array:
        s = self.style
        pattern = _wave(p[:, 1] + 0.4 * p[:, 0], 0.9 * s.stripe_m) * _wave(p[:, 0] - 0.5 * p[:, 2], s.check_m)
        side = np.tanh(p[:, 0] / 0.02)  # one leg is lighter: left and right tell apart
        level = 1 + s.contrast * (0.38 * pattern + 0.14 * side)
        return np.clip(np.array(s.trousers, np.float32) * level[:, None], 0, 1)

    def _head(self, p: Array) -> Array:
        """Skin, hair, and a face; the same colour of skin on the hands."""
        s, eye = self.style, self.joints[J["left_eye_smplhf"]]
        crown = self.joints[J["head"]]
        color = np.broadcast_to(np.array(s.skin, np.float32), p.shape)
        blush = _blob(p, (0.045, eye[1] - 0.045, eye[2] - 0.01), 0.025)
        color = color * (1 - 0.2 * s.contrast * blush[:, None] * np.array([0.2, 1, 1], np.float32))
        eyes = _blob(p, (eye[0], eye[1], eye[2] + 0.01), 0.012)
        brows = _blob(p, (eye[0], eye[1] + 0.026, eye[2] + 0.02), 0.011, wide=2.0)
        mouth = _blob(p, (0.0, eye[1] - 0.073, eye[2] + 0.03), 0.011, wide=2.2)
        color = _over(color, (0.16, 0.11, 0.09), np.clip(1.1 * eyes + 0.7 * brows, 0, 1))
        color = _over(color, (0.58, 0.22, 0.20), 0.9 * np.clip(mouth, 0, 1))
        # The hairline runs from the nape over the ears to the forehead.
        line = eye[1] + np.where(p[:, 2] > crown[2], 1.0, 0.0) * 0.06 * ramp(p[:, 2], crown[2], eye[2] - 0.02)
        line = line - 0.10 * ramp(p[:, 2], crown[2] - 0.01, crown[2] - 0.07)
        strands = 1 + 0.25 * s.contrast * _wave(p[:, 0] + 0.3 * p[:, 1], 0.06)
        hair = np.array(s.hair, np.float32) * strands[:, None]
        return _over(color, hair, ramp(p[:, 1], line, line + 0.012) * (np.abs(p[:, 0]) < 0.15))


def _wave(x: Array, wavelength_m: float) -> Array:
    """Return a wave in [-1, 1], a little flatter than a sine: its third harmonic has 5 % of its amplitude."""
    return np.tanh(np.sin(2 * np.pi / wavelength_m * x)) / np.float32(np.tanh(1.0))


def _blob(p: Array, at: tuple[float, float, float], radius: float, wide: float = 1.0) -> Array:
    """Return a soft spot on both sides of the midline."""
    d2 = ((np.abs(p[:, 0]) - at[0]) / wide) ** 2 + (p[:, 1] - at[1]) ** 2 + ((p[:, 2] - at[2]) / 2) ** 2
    return np.exp(-d2 / (radius * radius))


def _over(below: Array, above: Array | RGB, alpha: Array) -> Array:
    return below + alpha[:, None].astype(np.float32) * (np.asarray(above, np.float32) - below)
