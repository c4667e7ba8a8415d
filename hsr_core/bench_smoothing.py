"""What smoothing costs in delay and gains in calm, on a known motion with noise like a single-image regressor's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .config import SmoothingSettings
from .geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from .track.smooth import PoseSmoother
from .types import Array, HumanParams, MetricSource, Part, Regression

DURATION_S = 60.0
GROUPS = {
    "pelvis across the ray": "mm",
    "pelvis along the ray": "mm",
    "body rotations": "deg",
    "fingers": "deg",
    "expression": "units",
}
_MAX_LAG_FRAMES = 8


def measure_smoothing(settings: SmoothingSettings, rate_hz: float = 30.0, seed: int = 0) -> dict[str, dict[str, float]]:
    """Smooth a noisy motion and compare with the motion itself.

    Returns:
        For each of `GROUPS`: `lag_ms`, the delay that maximises the correlation of the velocities (to a fraction of a
        frame by a parabola); `jitter_raw` and `jitter`, mean norm of the second difference of the error per frame²;
        `error_raw` and `error`, mean error against the motion at the same stamp. Units as in `GROUPS`.
    """
    times = np.arange(0, DURATION_S, 1 / rate_hz)
    truth = _motion(times)
    noisy = _with_noise(truth, rate_hz, np.random.default_rng(seed))
    smoothed = _smooth(noisy, times, settings)
    return {name: _compare(*(_group(name, motion) for motion in (truth, noisy, smoothed)), rate_hz) for name in GROUPS}


Motion = dict[str, Array]


def _motion(times: Array) -> Motion:
    """Return steps to the side and to the camera while reaching, grasping and speaking: true values over time."""
    rng = np.random.default_rng(7)
    bob = 0.02 * np.sin(2 * np.pi * 1.8 * times)
    side, depth = (_reaches(times, rng, 0.5, 1.0)[:, 0] for _ in range(2))
    pelvis = np.stack([side, bob, 4 + depth], -1)
    body = np.stack([_gait(times, rng) + _reaches(times, rng, 0.9, 1.5) for _ in range(21)], 1)
    fingers = np.stack([_reaches(times, rng, 1.2, 1.0) for _ in range(15)], 1)
    expression = np.stack([_reaches(times, rng, 1.5, 0.8)[:, 0] for _ in range(10)], 1)
    return {"pelvis": pelvis, "body": body, "fingers": fingers, "expression": expression}


def _gait(times: Array, rng: np.random.Generator) -> Array:
    """A swing of 3 to 20 degrees at walking pace about some axis."""
    swing = np.radians(rng.uniform(3, 20)) * np.sin(2 * np.pi * 0.9 * times + rng.uniform(0, 6))
    return swing[:, None] * _axis(rng)


def _reaches(times: Array, rng: np.random.Generator, size: float, pause_s: float) -> Array:
    """Minimum-jerk moves of 0.4 to 0.8 s between random postures, with pauses."""
    out, start, posture = np.zeros((len(times), 3)), 0.0, np.zeros(3)
    while start < times[-1]:
        duration, target = rng.uniform(0.4, 0.8), rng.uniform(-size, size) * _axis(rng)
        s = np.clip((times - start) / duration, 0, 1)[:, None]
        out[times >= start] = (posture + (10 * s**3 - 15 * s**4 + 6 * s**5) * (target - posture))[times >= start]
        start, posture = start + duration + rng.uniform(0.2, pause_s), target
    return out


def _axis(rng: np.random.Generator) -> Array:
    axis = rng.normal(size=3)
    return axis / np.linalg.norm(axis)


def _with_noise(truth: Motion, rate_hz: float, rng: np.random.Generator) -> Motion:
    """Add white noise and slow drift: 5 and 15 mm, in distance 25 and 45 mm; 1.5 and 3 degrees (each per axis)."""

    def noise(shape: tuple[int, ...], white: Array | float, slow: Array | float) -> Array:
        keep = np.exp(-1 / (0.5 * rate_hz))
        drift = rng.normal(size=shape)
        for t in range(1, len(drift)):
            drift[t] = keep * drift[t - 1] + np.sqrt(1 - keep**2) * drift[t]
        return white * rng.normal(size=shape) + slow * drift

    pelvis = truth["pelvis"]
    ray = pelvis / np.linalg.norm(pelvis, axis=1, keepdims=True)
    across = noise(pelvis.shape, 0.005, 0.015)
    across -= np.sum(across * ray, axis=1, keepdims=True) * ray
    along = noise((len(pelvis), 1), 0.025, 0.045) * ray
    turned = {
        name: rotmat_to_rotvec(
            rotvec_to_rotmat(truth[name]) @ rotvec_to_rotmat(noise(truth[name].shape, np.radians(1.5), np.radians(3)))
        )
        for name in ("body", "fingers")
    }
    expression = truth["expression"] + noise(truth["expression"].shape, 0.08, 0.15)
    return {"pelvis": pelvis + across + along, **turned, "expression": expression}


def _smooth(noisy: Motion, times: Array, settings: SmoothingSettings) -> Motion:
    if not settings.enabled:
        return noisy
    smoother = PoseSmoother(settings, lambda betas: np.zeros(3))
    frames = [smoother.update(person, round(t * 1e9)) for person, t in zip(_people(noisy), times, strict=True)]
    return {
        "pelvis": np.stack([p.transl for p in frames]).astype(np.float64),
        "body": np.stack([p.body_pose for p in frames]).astype(np.float64),
        "fingers": np.stack([p.left_hand_pose for p in frames]).astype(np.float64),
        "expression": np.stack([p.head_expression for p in frames]).astype(np.float64),
    }


def _people(motion: Motion) -> Iterator[Regression]:
    seen = Regression(
        HumanParams(), np.zeros(4), 1.0, np.ones(55), np.ones(4), Part(15), MetricSource.ASSUMED_HEIGHT, 0.1
    )
    for pelvis, body, fingers, expression in zip(*motion.values(), strict=True):
        params = replace(seen.params, transl=pelvis, body_pose=body, left_hand_pose=fingers, head_expression=expression)
        yield replace(seen, params=params)


def _group(name: str, motion: Motion) -> tuple[Array, Callable[[Array], Array]]:
    """Return a group's values (T, n, d), and what takes the difference of two such."""
    if name.startswith("pelvis"):  # the person stays within 8 degrees of the optical axis
        columns = [2] if "along" in name else [0, 1]
        return 1e3 * motion["pelvis"][:, None, columns], np.subtract
    if name == "expression":
        return motion["expression"][:, :, None], np.subtract
    return rotvec_to_rotmat(motion["body" if name.startswith("body") else "fingers"]), _turn


def _turn(a: Array, b: Array) -> Array:
    """Return the rotation from b to a as rotation vectors [deg], in b's frame."""
    return np.degrees(rotmat_to_rotvec(b.swapaxes(-1, -2) @ a))


def _compare(true: Any, raw: Any, smooth: Any, rate_hz: float) -> dict[str, float]:
    (truth, minus), warm = true, int(rate_hz)
    error_raw, error = minus(raw[0], truth)[warm:], minus(smooth[0], truth)[warm:]
    speed, speed_true = minus(smooth[0][1:], smooth[0][:-1])[warm:], minus(truth[1:], truth[:-1])[warm:]
    return {
        "lag_ms": round(1e3 / rate_hz * _lag_frames(speed, speed_true), 1),
        "jitter_raw": _mean_norm(np.diff(error_raw, 2, axis=0)),
        "jitter": _mean_norm(np.diff(error, 2, axis=0)),
        "error_raw": _mean_norm(error_raw),
        "error": _mean_norm(error),
    }


def _lag_frames(late: Array, reference: Array) -> float:
    """Return by how many frames `late` is behind, where the correlation peaks; fraction by a parabola."""
    n, m = len(reference), _MAX_LAG_FRAMES
    score = [float(np.sum(late[m + k : n - m + k] * reference[m : n - m])) for k in range(-m, m + 1)]
    best = int(np.clip(np.argmax(score), 1, 2 * m - 1))
    left, middle, right = score[best - 1 : best + 2]
    return best - m + 0.5 * (left - right) / (left - 2 * middle + right)


def _mean_norm(values: Array) -> float:
    return round(float(np.linalg.norm(values, axis=-1).mean()), 2)
