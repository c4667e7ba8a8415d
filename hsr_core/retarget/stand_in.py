"""A robot that is not there, for trying teleoperation: its joints follow commands late and within limits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ..types import Array
from .robot import PLACEHOLDER_RAD_S, Robot


class StandIn:
    """Joints that go to a commanded position with a first-order lag and at most the URDF's velocity.

    dq/dt = clip((command - q) / time constant, -v, v). Only joints that the robot's mode commands move; the others stay
    in the neutral posture. Commands beyond the URDF's position limits are followed as far as the limits.

    Attributes:
        names: Every single-axis joint of the URDF, in its order, n of them.
        position, velocity: Of those, (n,) [rad], [rad/s].
        ignored: Values that were not taken: joints that are not commanded here, or numbers that are not finite.
    """

    def __init__(self, robot: Robot, time_constant_s: float = 0.05) -> None:
        model = robot.model
        joints = [
            (name, joint) for name, joint in zip(model.names, model.joints, strict=True) if joint.nq == joint.nv == 1
        ]
        self.names = tuple(name for name, _ in joints)
        in_q = np.array([joint.idx_q for _, joint in joints])
        in_v = np.array([joint.idx_v for _, joint in joints])
        self.position, self.velocity = robot.neutral[in_q].copy(), np.zeros(len(joints))
        self.ignored = 0
        self._time_constant_s = time_constant_s
        self._lower, self._upper = model.lowerPositionLimit[in_q].copy(), model.upperPositionLimit[in_q].copy()
        row = {name: i for i, name in enumerate(self.names)}
        self._rows = {name: row[name] for name in robot.joint_names}
        self._fastest = _believable(model.velocityLimit[in_v], self.names, robot)
        self._goal = self.position.copy()

    def command(self, names: Sequence[str], position: Array) -> None:
        """Take a command; joints that it does not name keep theirs.

        Args:
            names: Joints.
            position: Of those, [rad].

        Raises:
            ShapeError: Not as many positions as names.
        """
        if len(names) != len(position):
            raise ShapeError(f"a command of {len(names)} joints has {len(position)} positions")
        for name, value in zip(names, position, strict=True):
            row = self._rows.get(name)
            if row is None or not np.isfinite(value):
                self.ignored += 1
                continue
            self._goal[row] = min(max(value, self._lower[row]), self._upper[row])

    def step(self, dt_s: float) -> None:
        """Let time pass [s]: exactly what the equation gives for a command that stays, however long the step."""
        error = self._goal - self.position
        size, fastest, lag = np.abs(error), self._fastest, self._time_constant_s
        # At full speed until the lag alone asks for less, then the exponential.
        at_speed_s = np.clip(size / fastest - lag, 0.0, dt_s)
        left = (size - fastest * at_speed_s) * np.exp((at_speed_s - dt_s) / lag)
        np.copyto(self.position, self._goal - np.copysign(left, error))
        np.copyto(self.velocity, np.copysign(np.minimum(left / lag, fastest), error))


def _believable(velocity: Array, names: Sequence[str], robot: Robot) -> NDArray[np.float64]:
    """Return the URDF's velocity limits; where they are placeholders those of the commands."""
    commanded = dict(zip(robot.joint_names, robot.velocity, strict=True))
    return np.array(
        [v if 0 < v < PLACEHOLDER_RAD_S else commanded.get(name, 1.0) for v, name in zip(velocity, names, strict=True)]
    )
