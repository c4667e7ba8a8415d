"""The frames of people on /tf: one message per image, with its stamp, under its frame."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hsr_core.skeleton.frames import CAMERA, FaceFrames, PersonFrame, PersonFrames, person_frames
from hsr_core.skeleton.rep155_body import Rep155Body
from hsr_core.types import HumanEstimate

from . import qos
from .convert import body_id
from .tf_wire import TransformsBuffer, check_layout

MISSING = "tf2_msgs is not installed: tf.mode is none (apt install ros-$ROS_DISTRO-tf2-msgs, or make setup)"
MakePublisher = Callable[[type, str, Any], Any]


def is_available() -> bool:
    """Whether frames can be published and read here."""
    return importlib.util.find_spec("tf2_msgs") is not None


class TfOutput:
    """Publishes nothing in mode `none`, and where tf2_msgs is missing.

    Args:
        mode: none, root, rep155 or full.
        make_publisher: Of a message type, a topic and its quality of service.
        id_of: Five letters of a track. body_of: Its REP-155 body; None: these frames have one of their own.
        face_of, person_of: Five letters of a track's face and person; None: there are no frames of it.

    Attributes:
        note: Why nothing is published although the mode asks for it; "" otherwise.
    """

    def __init__(
        self,
        mode: str,
        make_publisher: MakePublisher,
        id_of: Callable[[int], str] = body_id,
        body_of: Callable[[int], Rep155Body | None] = lambda track_id: None,
        face_of: Callable[[int], str | None] = lambda track_id: None,
        person_of: Callable[[int], str | None] = lambda track_id: None,
    ) -> None:
        self.note = ""
        self._mode, self._id_of, self._body_of, self._publisher = mode, id_of, body_of, None
        self._face_of, self._person_of = face_of, person_of
        self._bodies: dict[int, PersonFrames] = {}
        self._frames: list[tuple[PersonFrames, ...]] = []
        self._layout: tuple[str, tuple] = "", ()
        if mode == "none":
            return
        if not is_available():
            self.note = MISSING
            return
        from tf2_msgs.msg import TFMessage

        self._publisher = make_publisher(TFMessage, "/tf", qos.tf())
        problem = check_layout()
        if problem:
            self.note = f"frames cannot be written here: {problem}; tf.mode is none"
            self._publisher = None

    def publish(self, people: Sequence[HumanEstimate], stamp_ns: int, frame_id: str) -> None:
        """Send the frames of these people (not of those who are LOST), if there are any and the image has a frame."""
        if self._publisher is None or not people or not frame_id:
            return  # without a parent every listener on the robot would complain of each frame
        who = tuple((person.track_id, self._face_of(person.track_id)) for person in people)
        if self._layout != (frame_id, who):
            self._layout = frame_id, who
            self._bodies = {i: self._bodies.get(i) or self._body_frames(i) for i, _ in who}
            self._frames = [self._frames_of(*each) for each in who]
            names = [pair for group in self._frames for frames in group for pair in frames.names]
            self._buffer = TransformsBuffer(
                [(frame_id if parent == CAMERA else parent, name) for parent, name in names]
            )
        poses = [
            frames.poses(person.joints, person.joint_rotmats)
            for person, group in zip(people, self._frames, strict=True)
            for frames in group
        ]
        self._publisher.publish(self._buffer.encode(stamp_ns, np.concatenate(poses)))

    def _body_frames(self, track_id: int) -> PersonFrames:
        return person_frames(self._mode, self._id_of(track_id), self._body_of(track_id))

    def _frames_of(self, track_id: int, face: str | None) -> tuple[PersonFrames, ...]:
        """Return the frames of a body, of its face while that is tracked, and of its person."""
        out: list[PersonFrames] = [self._bodies[track_id]]
        if face is not None:
            out.append(FaceFrames(face))
        person = self._person_of(track_id)
        if person is not None:
            out.append(PersonFrame(person, self._id_of(track_id)))
        return tuple(out)

    def forget(self) -> None:
        """Forget everybody: tracks were reset."""
        self._bodies.clear()
        self._layout = "", ()
