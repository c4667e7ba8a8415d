"""The One-Euro filter for points, for a position seen by a camera, and for rotations.

A low-pass filter whose cut-off rises with speed: it is calm at rest and follows fast motion with little delay. All are
causal, take the true time step, and hold state of fixed size. Positions are filtered isotropically, by the norm of the
speed, and rotations on SO(3), so that the result does not depend on the choice of axes.

Source:
    Casiez, Roussel, Vogel, "1 Euro Filter", CHI 2012, with the speed taken from the last filtered value. On SO(3) the
    difference of two values is the rotation vector between them.
"""

from __future__ import annotations

import numpy as np

from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Array

SPEED_CUTOFF_HZ = 1.0
"""Cut-off of the speed estimate that steers the filter, as in the paper."""

MAX_STEP_RAD = np.radians(170)
"""Beyond this the way round is ambiguous: the new rotation is taken as it is."""


def low_pass_gain(cutoff_hz: Array | float, dt_s: float) -> Array | float:
    """Return how far an exponential filter moves towards the new value in one step, in (0, 1)."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * dt_s))


class PointFilter:
    """One-Euro over n points of d coordinates, each point isotropic (d = 1: independent numbers).

    Attributes:
        value: Filtered points, (n, d).
        speed: Filtered derivative, (n, d) [1/s].
        min_cutoff_hz, beta: Scalars or (n,); may be changed between two steps.
    """

    def __init__(self, start: Array, min_cutoff_hz: Array | float, beta: Array | float) -> None:
        self.min_cutoff_hz, self.beta = min_cutoff_hz, beta
        self.reset(start)

    def reset(self, value: Array) -> None:
        self.value = np.array(value, np.float64)
        self.speed = np.zeros_like(self.value)

    def step(self, value: Array, dt_s: float, gain: Array | None = None) -> Array:
        """Take the next points and return the filtered ones, (n, d).

        Args:
            value: (n, d).
            dt_s: Time since the last step [s].
            gain: (n,) NaN, or a fixed gain for the points that should not be steered by speed.
        """
        error = value - self.value
        self.speed += low_pass_gain(SPEED_CUTOFF_HZ, dt_s) * (error / dt_s - self.speed)
        a = low_pass_gain(self.min_cutoff_hz + self.beta * np.linalg.norm(self.speed, axis=-1), dt_s)
        if gain is not None:
            a = _override(a, gain, self.speed)
        self.value += a[:, None] * error
        return self.value


class RayFilter:
    """One-Euro for one position before a camera at the origin: along its viewing ray and across it separately.

    A single image tells the direction of a person several times better than the distance.

    Attributes:
        value: Filtered position, (3,) [m].
        speed: Filtered velocity, (3,) [m/s].
        across, along: (min_cutoff_hz, beta) of the two parts.
    """

    def __init__(self, start: Array, across: tuple[float, float], along: tuple[float, float]) -> None:
        self.across, self.along = across, along
        self.reset(start)

    def reset(self, value: Array) -> None:
        self.value = np.array(value, np.float64)
        self.speed = np.zeros(3)

    def step(self, value: Array, dt_s: float) -> Array:
        """Take the next position and return the filtered one, (3,) [m]."""
        error = value - self.value
        self.speed += low_pass_gain(SPEED_CUTOFF_HZ, dt_s) * (error / dt_s - self.speed)
        ray = value / max(np.linalg.norm(value), 1e-9)
        error_along, speed_along = (error @ ray) * ray, (self.speed @ ray) * ray
        speeds = np.linalg.norm(self.speed - speed_along), np.linalg.norm(speed_along)
        across, along = (
            low_pass_gain(cutoff + beta * speed, dt_s)
            for (cutoff, beta), speed in zip((self.across, self.along), speeds, strict=True)
        )
        self.value += across * (error - error_along) + along * error_along
        return self.value


class RotationFilter:
    """One-Euro on SO(3) over n rotations.

    Attributes:
        value: Filtered rotations, (n, 3, 3).
        speed: Filtered angular velocity in each rotation's own frame, (n, 3) [rad/s].
        min_cutoff_hz, beta: Scalars or (n,); may be changed between two steps.
        jumps: How many rotations turned by more than `MAX_STEP_RAD` in one step and were taken as they came.
    """

    def __init__(self, start: Array, min_cutoff_hz: Array | float, beta: Array | float) -> None:
        self.min_cutoff_hz, self.beta = min_cutoff_hz, beta
        self.jumps = 0
        self.reset(start)

    def reset(self, value: Array) -> None:
        self.value = np.array(value, np.float64)
        self.speed = np.zeros(self.value.shape[:-1])

    def step(self, value: Array, dt_s: float, gain: Array | None = None) -> Array:
        """Take the next rotations (n, 3, 3) and return the filtered ones; arguments as in `PointFilter.step`."""
        error = rotmat_to_rotvec(self.value.swapaxes(-1, -2) @ value)
        self.speed += low_pass_gain(SPEED_CUTOFF_HZ, dt_s) * (error / dt_s - self.speed)
        a = low_pass_gain(self.min_cutoff_hz + self.beta * np.linalg.norm(self.speed, axis=-1), dt_s)
        if gain is not None:
            a = _override(a, gain, self.speed)
        jumped = np.einsum("ni,ni->n", error, error) > MAX_STEP_RAD**2
        if jumped.any():
            self.jumps += int(jumped.sum())
            a = np.where(jumped, 1.0, a)
            self.speed[jumped] = 0
        self.value = self.value @ rotvec_to_rotmat(a[:, None] * error)
        return self.value


def _override(a: Array, gain: Array, speed: Array) -> Array:
    """Return `a` with the fixed gains put in; their speed is forgotten."""
    fixed = ~np.isnan(gain)
    speed[fixed] = 0
    return np.where(fixed, gain, a)
