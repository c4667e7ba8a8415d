"""The coordinate frames of one person: names, parents, and each frame's pose in its parent.

frames = person_frames("full", "kxpqz")
for (parent, child), pose in zip(frames.names, frames.poses(joints, joint_rotmats)): ...

`body_<id>` hangs on the camera (the parent ""), everything else on the body: a frame has one parent. A face has frames
of its own beside these, `FaceFrames`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..body.joints import JOINT_NAMES, N_JOINTS, PARENTS, SMPLX_TO_ROS_BODY, J
from ..geometry.rotations import rotation_between, rotmat_to_quat_wxyz, wxyz_to_xyzw
from ..types import Array
from .proportions import Proportions, proportions
from .rep155 import body_frame, lean_rotmat
from .rep155_body import Rep155Body
from .rep155_urdf import rep155_joints

MODES = ("root", "rep155", "full")
CAMERA = ""
"""Parent of `body_<id>`: the optical frame of the image."""

_SMPLX_TO_ROS = np.array(SMPLX_TO_ROS_BODY)
_R_ROS_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""An optical frame (z forward, x right, y down) that looks along x of REP-103's."""
_HEAD, _EYES = J["head"], [J["left_eye_smplhf"], J["right_eye_smplhf"]]
_UPPER = [J["left_shoulder"], J["right_shoulder"], _HEAD]


class PersonFrames(Protocol):
    """The frames of one person in one mode.

    Attributes:
        names: Parent and child of each frame, parents before their children; the camera is "".
    """

    names: tuple[tuple[str, str], ...]

    def poses(self, joints: Array, joint_rotmats: Array) -> Array:
        """Return x, y, z [m], qx, qy, qz, qw of each T_parent_child, float64 (N, 7).

        Args:
            joints: (55, 3) [m], camera frame. joint_rotmats: (55, 3, 3), joint to camera frame.
        """
        ...


def person_frames(mode: str, body_id: str, person: Rep155Body | None = None) -> PersonFrames:
    """Return what makes the frames of a person.

    Args:
        mode: `root`: body and head; `full`: and the 55 joints; `rep155`: the links of the person's REP-155 URDF, of
            which body and head are two.
        body_id: The five letters in the names.
        person: Angles and lengths in mode `rep155`; None: ones of these frames' own.

    Raises:
        ValueError: Another mode.
    """
    if mode not in MODES:
        raise ValueError(f"frames of a person are one of {', '.join(MODES)}, not {mode!r}")
    if mode == "rep155":
        return Rep155Frames(body_id, person or Rep155Body())
    return FullFrames(body_id) if mode == "full" else RootFrames(body_id)


class RootFrames:
    """`body_<id>`: mid-hips, x forward, z up, in the camera. `head_<id>`: between the eyes, x out of the face."""

    def __init__(self, body_id: str, joints: int = 0) -> None:
        self.names = ((CAMERA, f"body_{body_id}"), (f"body_{body_id}", f"head_{body_id}"))
        # In the camera: body, head, then the joints.
        self._R, self._p = np.empty((2 + joints, 3, 3)), np.empty((2 + joints, 3))
        self._parent_rows = np.array([0, 0, *(2 + parent for parent in PARENTS[1:joints])][: 1 + joints])

    def poses(self, joints: Array, joint_rotmats: Array) -> Array:
        R, p, parents = self._R, self._p, self._parent_rows
        body = body_frame(joints, joint_rotmats)
        R[0], p[0] = body.rotmat, body.origin
        R[1], p[1] = joint_rotmats[_HEAD] @ _SMPLX_TO_ROS.T, 0.5 * (joints[_EYES[0]] + joints[_EYES[1]])
        R[2:], p[2:] = joint_rotmats[: len(R) - 2], joints[: len(R) - 2]
        R_up = R[parents].swapaxes(-1, -2)
        out = np.empty((len(R), 7))
        out[0, :3], out[1:, :3] = p[0], np.einsum("nab,nb->na", R_up, p[1:] - p[parents])
        out[0, 3:], out[1:, 3:] = _quats_xyzw(R[0]), _quats_xyzw(R_up @ R[1:])
        return out


class FullFrames(RootFrames):
    """Body and head, and `human_<id>/<joint>` for all 55 joints with SMPL-X's axes, the pelvis on the body."""

    def __init__(self, body_id: str) -> None:
        super().__init__(body_id, N_JOINTS)
        names = [f"human_{body_id}/{name}" for name in JOINT_NAMES]
        parents = [f"body_{body_id}", *(names[parent] for parent in PARENTS[1:])]
        self.names = (*self.names, *zip(parents, names, strict=True))


class Rep155Frames:
    """The links of `rep155_urdf`, with the origins of trunk, arms and head where the person has them.

    Rotations are those of the URDF's forward kinematics, and the legs' places too. The URDF's trunk can only lean, so
    its kinematics have shoulders and head where a spine that only leans would: here `torso_<id>` lies in the middle of
    the shoulders, and arms and head begin at theirs, whatever the spine does.
    """

    def __init__(self, body_id: str, person: Rep155Body) -> None:
        self._body_id, self._person = body_id, person
        self._proportions: Proportions | None = None
        # Names, axes and the order of the links are the same for any lengths.
        links = rep155_joints(proportions(np.zeros((N_JOINTS, 3))), body_id)
        self.names = ((CAMERA, f"body_{body_id}"), *((link.parent, link.child) for link in links))
        row = {child: i for i, (_, child) in enumerate(self.names)}
        self._torso = row[f"torso_{body_id}"]
        self._on_torso = np.array([row[f"{name}_{body_id}"] for name in ("l_y_shoulder", "r_y_shoulder", "r_head")])
        self._moving = np.array([1 + i for i, link in enumerate(links) if link.axis is not None])
        self._axes = np.array([link.axis for link in links if link.axis is not None], np.float64)
        self._poses = np.zeros((1 + len(links), 7))
        self._poses[:, 6] = 1

    def poses(self, joints: Array, joint_rotmats: Array) -> Array:
        found = self._person.proportions(joints, joint_rotmats)
        if found is not self._proportions:
            self._proportions = found
            self._poses[1:, :3] = [link.xyz for link in rep155_joints(found, self._body_id)]
        out = self._poses
        body = body_frame(joints, joint_rotmats)
        angles = self._person.angles(joints, joint_rotmats)
        out[0, :3], out[0, 3:] = body.origin, _quats_xyzw(body.rotmat)
        half = 0.5 * angles
        out[self._moving, 3:6] = np.sin(half)[:, None] * self._axes
        out[self._moving, 6] = np.cos(half)
        upper = (joints[_UPPER] - body.origin) @ (body.rotmat @ lean_rotmat(angles[0]))  # in the waist's axes
        out[self._torso, :3] = 0.5 * (upper[0] + upper[1])
        out[self._on_torso, :3] = upper - out[self._torso, :3]
        return out


class FaceFrames:
    """`face_<id>`: between the eyes, x out of the face, z up, in the camera. `gaze_<id>` there, z where the eyes look.

    An eye that was not seen looks where the head does. `gaze` has the axes of an optical frame: x right, y down.

    Args:
        face_id: The five letters in the names, which are not those of the body.
    """

    def __init__(self, face_id: str) -> None:
        self.names = ((CAMERA, f"face_{face_id}"), (f"face_{face_id}", f"gaze_{face_id}"))

    def poses(self, joints: Array, joint_rotmats: Array) -> Array:
        """As of `PersonFrames`; (2, 7)."""
        R_cam_face = joint_rotmats[_HEAD] @ _SMPLX_TO_ROS.T
        look = joint_rotmats[_EYES, :, 2].sum(axis=0) @ R_cam_face  # an eye's z is its front
        turn = rotation_between(np.array([1.0, 0.0, 0.0]), look)
        out = np.zeros((2, 7))
        out[0, :3] = 0.5 * (joints[_EYES[0]] + joints[_EYES[1]])
        out[:, 3:] = _quats_xyzw(np.stack([R_cam_face, turn @ _R_ROS_OPTICAL]))
        return out


class PersonFrame:
    """`person_<id>`, where REP-155 has it: at the head, which is where the face is."""

    def __init__(self, person_id: str, body_id: str) -> None:
        self.names = ((f"head_{body_id}", f"person_{person_id}"),)
        self._poses = np.array([[0.0, 0, 0, 0, 0, 0, 1]])

    def poses(self, joints: Array, joint_rotmats: Array) -> Array:
        """As of `PersonFrames`; (1, 7)."""
        return self._poses


def _quats_xyzw(R: Array) -> Array:
    return wxyz_to_xyzw(rotmat_to_quat_wxyz(R))
