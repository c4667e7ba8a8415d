"""One person as REP-155's body, frame after frame: what frames, joint states and descriptions have to agree on."""

from __future__ import annotations

from ..types import Array
from .proportions import Proportions, bone_lengths, differ, proportions, rest_joints
from .rep155 import Rep155Angles


class Rep155Body:
    """Angles and lengths of one person; asked several times about one frame, it computes once.

    A frame is known by its array of joints, which is not written to.
    """

    def __init__(self) -> None:
        self._angles_of = Rep155Angles()
        self._angles: Array | None = None
        self._turned: Array | None = None
        self._lengths: Array | None = None
        self._measured: Array | None = None
        self._proportions: Proportions | None = None

    def angles(self, joints: Array, joint_rotmats: Array) -> Array:
        """Return the angles (20,) [rad] of `Rep155Angles`.

        Args:
            joints: (55, 3) [m], in any one frame. joint_rotmats: (55, 3, 3), joint to that frame.
        """
        if joints is not self._turned:
            self._turned, self._angles = joints, self._angles_of(joints, joint_rotmats)
        return self._angles

    def proportions(self, joints: Array, joint_rotmats: Array) -> Proportions:
        """Return the lengths: those of the first frame, and new ones when a bone's length differs by more than 3 %.

        It is the same object as long as they are the same. Arguments as of `angles`.
        """
        if joints is not self._measured:
            self._measured, lengths = joints, bone_lengths(joints)
            if self._lengths is None or differ(lengths, self._lengths):
                self._lengths, self._proportions = lengths, proportions(rest_joints(joints, joint_rotmats))
        return self._proportions
