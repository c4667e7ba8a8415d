"""Joint states of one person after another frame: the 165 angles of `hsr_core.skeleton.ball_joints`."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import JointState

from hsr_core.body.joints import N_JOINTS
from hsr_core.skeleton.ball_joints import AXIS_ORDERS, JOINT_STATE_NAMES, joint_angles, local_rotmats
from hsr_core.types import Array, HumanEstimate

from .convert import body_id
from .stamps import header

__all__ = ["AXIS_ORDERS", "JOINT_STATE_NAMES", "JointStateBuilder", "joint_angles", "local_rotmats"]

MAX_GAP_S = 0.5
"""Longest time between two frames that a velocity is computed over."""


class JointStateBuilder:
    """Makes joint states of one person after another frame; remembers the last angles to keep them continuous.

    Args:
        id_of: Five letters of a track.
    """

    def __init__(self, id_of: Callable[[int], str] = body_id) -> None:
        self._id_of = id_of
        self._track_id: int | None = None
        self._angles = np.zeros((N_JOINTS, 3))
        self._stamp_ns = 0

    def reset(self) -> None:
        """Forget the last frame."""
        self._track_id = None

    def to_msg(self, person: HumanEstimate, stamp_ns: int) -> JointState:
        """Return 165 positions [rad], unwrapped against the last frame, and velocities [rad/s].

        Velocities are differences of the positions, which come from filtered rotations; there are none in the first
        frame of a person and after a gap of more than 0.5 s.
        """
        known = person.track_id == self._track_id
        angles = joint_angles(local_rotmats(person.joint_rotmats), self._angles[:, 0] if known else None)
        velocity: Array = np.zeros(0)
        if known:
            angles += 2 * np.pi * np.round((self._angles - angles) / (2 * np.pi))
            gap_s = (stamp_ns - self._stamp_ns) * 1e-9
            if 0 < gap_s <= MAX_GAP_S:
                velocity = (angles - self._angles) / gap_s
        self._track_id, self._angles, self._stamp_ns = person.track_id, angles, stamp_ns
        return JointState(
            header=header(stamp_ns, f"body_{self._id_of(person.track_id)}"),
            name=JOINT_STATE_NAMES,
            position=array("d", angles.reshape(-1).tolist()),
            velocity=array("d", velocity.reshape(-1).tolist()),
        )
