"""`urdf`: the primary person with 165 revolute joints, for whoever reads `joint_states`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from std_msgs.msg import String

from hsr_core.skeleton.proportions import bone_lengths, differ, rest_joints
from hsr_core.skeleton.smplx_urdf import smplx_urdf
from hsr_core.types import Array, HumanEstimate

from . import qos
from .convert import body_id


class PrimaryUrdf:
    """Publishes a latched description, and again for another person or when a bone's length changed by 3 %.

    Args:
        later: Runs a job in another thread: making the text takes some milliseconds.
        id_of: Five letters of a track.
    """

    def __init__(
        self, node: Any, later: Callable[[Callable[[], None]], None], id_of: Callable[[int], str] = body_id
    ) -> None:
        self._node, self._later, self._id_of = node, later, id_of
        self._publisher = node.create_publisher(
            String, "urdf", qos.description(), qos_overriding_options=qos.OVERRIDES
        )  # fmt: skip
        self._track_id: int | None = None
        self._lengths: Array | None = None

    def update(self, person: HumanEstimate) -> None:
        """Look at the primary person of a frame."""
        lengths = bone_lengths(person.joints)
        if person.track_id == self._track_id and not differ(lengths, self._lengths):
            return
        self._track_id, self._lengths = person.track_id, lengths
        letters, joints, rotmats = self._id_of(person.track_id), person.joints, person.joint_rotmats
        self._later(lambda: self._publisher.publish(String(data=smplx_urdf(rest_joints(joints, rotmats), letters))))

    def close(self) -> None:
        self._node.destroy_publisher(self._publisher)
