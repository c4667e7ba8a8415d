"""A person's smoothed motion as body parameters, to draw them and to refine them."""

from __future__ import annotations

import numpy as np

from ..body.ehm import EhmBody
from ..body.joints import BODY, JAW, LEFT_EYE, LEFT_HAND, RIGHT_EYE, RIGHT_HAND
from ..export.motion import Motion, Pose, place
from ..export.native import in_camera
from ..geometry.rotations import rotmat_to_rotvec
from ..types import Array, HumanParams

_SHAPE = ("betas", "expression", "head_betas", "head_expression", "head_scale", "eyelids")


class PersonBody:
    """One motion in the camera's frame.

    Args:
        motion: Of the person.
        body: Whose parameters the recording has.
    """

    def __init__(self, motion: Motion, body: EhmBody) -> None:
        self.motion, self.body = motion, body
        frames = np.flatnonzero(motion.valid)
        some = frames[np.unique(np.linspace(0, len(frames) - 1, 60).astype(int))]
        read = motion.track.read
        self._shape = {
            name: np.median([read(name, slice(frame, frame + 1))[0] for frame in some], axis=0).astype(np.float32)
            for name in _SHAPE
        }
        self._rest_pelvis = body.rest(HumanParams(**self._shape))[1][0]

    def params(self, pose: Pose, i: int) -> HumanParams:
        """Return frame `i` of a pose in the camera's frame; face and shape are the person's median."""
        turns = rotmat_to_rotvec(pose.rotmats[i]).astype(np.float32)
        return HumanParams(
            global_orient=turns[0], transl=(pose.pelvis[i] - self._rest_pelvis).astype(np.float32),
            body_pose=turns[BODY], left_hand_pose=turns[LEFT_HAND], right_hand_pose=turns[RIGHT_HAND],
            jaw_pose=turns[JAW], leye_pose=turns[LEFT_EYE], reye_pose=turns[RIGHT_EYE], **self._shape,
        )  # fmt: skip


def poses_in_camera(motion: Motion, at: slice) -> Pose:
    """Return some frames of a motion in the camera's frame."""
    return in_camera(motion, motion.read(at), at)


def joints_in_camera(motion: Motion, at: slice) -> Array:
    """Return the joints (n, 55, 3) [m] of some frames, camera frame; NaN where the person is missing."""
    return place(poses_in_camera(motion, at), motion.offsets)[0]
