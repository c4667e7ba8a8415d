"""Where a person is expected: a Kalman filter over their direction and the logarithm of their distance.

One camera tells directions ten times better than distances, and an error of the distance moves a person along the
viewing ray: in these coordinates the errors of the three numbers are independent, in metres they are not.

Source:
    Constant velocity with white-noise acceleration (Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to
    Tracking and Navigation", 2001, section 6.2.2).
"""

from __future__ import annotations

import numpy as np

from ..types import Array

SIGMA = np.array([0.015, 0.015, 0.05])
"""Standard deviations: of a measured direction (x, y) [rad], with the sway of a walk, and of the logarithm of z."""
ACCELERATION = 0.1
"""Spectral density of a walking person's acceleration [m²/s³]: within a second their speed changes by 0.3 m/s."""
START_SPEED = 1.5
"""Standard deviation of the speed of somebody just found [m/s]."""
COAST_S = 1.5
"""The speed of somebody who is not seen is believed for about this long."""
MOST_SURPRISE = 3.0
"""A distance that is farther off than so many deviations is an outlier, and moves the estimate no more than this: with
an assumed stature a strange pose passes for a distance."""
_MIN_Z = 0.1


def direction_and_distance(place: Array) -> Array:
    """Return (x / z, y / z, log z) of places (..., 3) [m], camera frame; z under 0.1 m counts as 0.1 m."""
    place = np.asarray(place, np.float64)
    z = np.maximum(place[..., 2], _MIN_Z)
    return np.stack([place[..., 0] / z, place[..., 1] / z, np.log(z)], -1)


class Motion:
    """One person's motion.

    Attributes:
        mean: Direction, log distance and their rates, (2, 3) [rad, 1, per s].
        stamp_ns: Of the last measurement.
    """

    def __init__(self, place: Array, stamp_ns: int) -> None:
        now = direction_and_distance(place)
        self.mean, self.stamp_ns = np.stack([now, np.zeros(3)]), stamp_ns
        self._var = SIGMA**2
        self._cov = np.zeros(3)
        self._var_rate = np.full(3, (START_SPEED / np.exp(now[2])) ** 2)

    def expected(self, stamp_ns: int) -> tuple[Array, Array]:
        """Return direction and log distance (3,) at a time, and the variances of a measurement of them (3,)."""
        dt = (stamp_ns - self.stamp_ns) / 1e9
        return self.mean[0] + self._coast(dt) * self.mean[1], self._predicted(dt)[0] + SIGMA**2

    def see(self, place: Array, stamp_ns: int) -> None:
        """Take a measurement (3,) [m]."""
        dt = (stamp_ns - self.stamp_ns) / 1e9
        expected = self.mean[0] + self._coast(dt) * self.mean[1]
        var, cov, var_rate = self._predicted(dt)
        error, total = direction_and_distance(place) - expected, var + SIGMA**2
        most = MOST_SURPRISE * np.sqrt(total[2])
        error[2] = np.clip(error[2], -most, most)
        gain, gain_rate = var / total, cov / total
        self.mean = np.stack([expected + gain * error, self.mean[1] + gain_rate * error])
        self._var, self._cov, self._var_rate = (1 - gain) * var, (1 - gain) * cov, var_rate - gain_rate * cov
        self.stamp_ns = stamp_ns

    def place(self, stamp_ns: int) -> Array:
        """Return where the person should be, (3,) [m]."""
        x, y, log_z = self.expected(stamp_ns)[0]
        return np.exp(log_z) * np.array([x, y, 1.0])

    @staticmethod
    def _coast(dt: float) -> float:
        return COAST_S * (1 - np.exp(-dt / COAST_S))

    def _predicted(self, dt: float) -> tuple[Array, Array, Array]:
        """Return variance of the value, covariance with its rate, variance of the rate; (3,) each."""
        noise = ACCELERATION * np.exp(-2 * self.mean[0, 2])
        var = self._var + dt * (2 * self._cov + dt * self._var_rate) + noise * dt**3 / 3
        return var, self._cov + dt * self._var_rate + noise * dt**2 / 2, self._var_rate + noise * dt
