"""Joints that follow a reference within bounds of position, speed and acceleration, whatever it does.

For every joint and any sequence of time steps: lower <= q <= upper, |v| <= speed, |v - v_before| <= a dt. The bound on
speed near a position limit is v^2 / 2a + v dt <= distance: it leaves room to brake at `a` for whatever steps follow,
because a speed that falls by a dt before each step travels less than v^2 / 2a.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..types import Array

TIME_CONSTANT_S = 0.04
"""How fast small errors are made up: the lag behind a reference that moves without a known speed [s]."""


class BoundedMotion:
    """n joints. Nothing is allocated in a step.

    Attributes:
        q, v: Position and speed, (n,) [rad], [rad/s]; written in place.
    """

    def __init__(self, lower: ArrayLike, upper: ArrayLike, speed: ArrayLike, acceleration: ArrayLike) -> None:
        self._soft = tuple(np.array(x, np.float64) for x in (lower, upper))
        self.speed, self._a = np.array(speed, np.float64), np.array(acceleration, np.float64)
        self.lower, self.upper = (x.copy() for x in self._soft)
        self.q, self.v = np.zeros_like(self.speed), np.zeros_like(self.speed)
        self._two_over_a = 2 / self._a
        self._want, self._free, self._x, self._y = (np.empty_like(self.speed) for _ in range(4))
        self._differ = np.empty(len(self.speed), bool)
        self._room = np.empty((2, len(self.speed)))
        self.limited_speed = self.limited_acceleration = self.at_limit = False

    def start(self, q: Array) -> None:
        """Begin at a posture, at rest. A joint outside its limits may stay or come in, and go no farther out."""
        self.q[:] = q
        self.v[:] = 0
        np.minimum(self._soft[0], self.q, out=self.lower)
        np.maximum(self._soft[1], self.q, out=self.upper)

    def follow(self, reference: Array, reference_speed: Array, most: float, dt_s: float) -> None:
        """Step towards a moving reference, (n,) [rad] and [rad/s], at no more than `most` [rad/s]."""
        want, x, y = self._want, self._x, self._y
        np.subtract(reference, self.q, out=x)
        np.abs(x, out=y)
        self._stopping_speed(y, max(dt_s, TIME_CONSTANT_S), out=y)
        np.copysign(y, x, out=want)
        want += reference_speed
        np.minimum(self.speed, most, out=y)
        np.negative(y, out=x)
        np.copyto(self._free, want)
        _clip(want, x, y)
        self.limited_speed = self._changed()
        self._advance(dt_s)

    def brake(self, dt_s: float) -> None:
        """Step towards rest."""
        self._want[:] = 0
        self.limited_speed = False
        self._advance(dt_s)

    @property
    def at_rest(self) -> bool:
        return not np.logical_or.reduce(self.v)

    def _advance(self, dt_s: float) -> None:
        want, x, y = self._want, self._x, self._y
        np.multiply(self._a, dt_s, out=x)
        np.subtract(self.v, x, out=y)
        np.add(self.v, x, out=x)
        np.copyto(self._free, want)
        _clip(want, y, x)
        self.limited_acceleration = self._changed()
        np.copyto(self._free, want)
        up, down = room = self._room
        np.subtract(self.upper, self.q, out=up)
        np.subtract(self.q, self.lower, out=down)
        self._stopping_speed(room, dt_s, out=room)
        np.negative(down, out=down)
        _clip(want, down, up)
        self.at_limit = self._changed()
        np.copyto(self.v, want)
        np.multiply(want, dt_s, out=x)
        self.q += x
        _clip(self.q, self.lower, self.upper)  # rounding alone can pass the limit

    def _changed(self) -> bool:
        """True when what was wanted is no longer what it was."""
        return bool(np.logical_or.reduce(np.not_equal(self._want, self._free, out=self._differ)))

    def _stopping_speed(self, distance: Array, dt_s: float, out: Array) -> Array:
        """Return the largest v with v^2 / 2a + v dt <= distance, elementwise; 0 for a negative distance."""
        np.maximum(distance, 0, out=out)
        out *= self._two_over_a
        out += dt_s * dt_s
        np.sqrt(out, out=out)
        out -= dt_s
        out *= self._a
        return out


def _clip(x: Array, low: Array, high: Array) -> None:
    """Clip in place; np.clip takes twice as long for a few numbers."""
    np.maximum(x, low, out=x)
    np.minimum(x, high, out=x)
