"""How synthetic people move: they turn, swing arms and legs, bend elbows and knees, and step nearer and back.

The stage has the axes of a level optical frame (x right, y down, z away from the first camera) and the first camera
above its origin; the floor is a plane of constant y.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..body.base import BodyModel
from ..body.joints import J
from ..geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..types import Array, HumanParams

FACING_CAMERA = np.diag([1.0, -1.0, -1.0])
"""A body (y up, looking along z) that stands upright on the stage and looks at the first camera."""

_ARM_DOWN_RAD = np.radians(68)  # from the T-pose; more and the sleeves run into the trunk


@dataclass(frozen=True)
class Motion:
    """One person's motion over a clip.

    Attributes:
        turns: Turns about the vertical over the whole clip.
        strides: Steps left and right over the whole clip.
        swing_rad: Amplitude of upper arms and thighs.
        depth_sway_m: Amplitude of the way to the camera and back, once a clip.
        phase_rad: Where in the stride the clip begins.
        yaw_rad: Where the turn begins; 0 looks at the first camera.
        spot: Where the person stands, (x, z) on the stage [m].
    """

    turns: float = 1.0
    strides: float = 4.0
    swing_rad: float = float(np.radians(20))
    depth_sway_m: float = 0.25
    phase_rad: float = 0.0
    yaw_rad: float = 0.0
    spot: tuple[float, float] = (0.0, 3.0)

    def yaw(self, progress: float) -> float:
        return self.yaw_rad + 2 * np.pi * self.turns * progress

    def sway(self, progress: float) -> float:
        """Return the distance from the spot along z [m]."""
        return self.depth_sway_m * np.sin(2 * np.pi * progress)

    def stride(self, progress: float) -> float:
        return self.phase_rad + 2 * np.pi * self.strides * progress


def body_pose(stride_rad: float, swing_rad: float) -> Array:
    """Return the body pose (21, 3) of someone walking on the spot, arms against legs."""
    pose = np.zeros((21, 3))

    def put(joint: str, *turns: tuple[float, float, float]) -> None:
        """Turns are about the axes of the rest pose, the last one first."""
        R = np.eye(3)
        for turn in turns:
            R = R @ rotvec_to_rotmat(np.array(turn))
        pose[J[joint] - 1] = rotmat_to_rotvec(R)

    for side, sign in (("left", 1.0), ("right", -1.0)):
        leg = swing_rad * np.sin(stride_rad) * sign  # forward
        lifted = np.maximum(0, np.cos(stride_rad) * sign)  # the foot that comes forward is off the floor
        put(f"{side}_hip", (-leg - 0.2 * lifted, 0, 0), (0, 0, 0.06 * sign))
        put(f"{side}_knee", (0.12 + 0.55 * lifted, 0, 0))
        put(f"{side}_ankle", (-0.06 + 0.5 * leg - 0.1 * lifted, 0, 0))
        put(f"{side}_shoulder", (leg, 0, 0), (0, 0, -_ARM_DOWN_RAD * sign))
        put(f"{side}_elbow", (0, -(0.45 - 0.30 * np.sin(stride_rad) * -sign) * sign, 0))
    twist = 0.07 * np.sin(stride_rad)
    put("spine1", (0.03, -twist, 0))
    put("spine2", (0, twist, 0))
    put("spine3", (0, twist, 0.03 * np.cos(stride_rad)))
    put("neck", (0.06 * np.sin(0.5 * stride_rad), 0.12 * np.sin(0.37 * stride_rad), 0))
    return pose.astype(np.float32)


def relaxed_hand(sign: float) -> Array:
    """Return fingers slightly bent, (15, 3): index, middle, pinky, ring, thumb."""
    pose = np.zeros((15, 3), np.float32)
    pose[:12, 2] = -0.28 * sign
    return pose


def stage_params(body: BodyModel, shape: HumanParams, motion: Motion, count: int, floor_y: float) -> list[HumanParams]:
    """Return one person's parameters on the stage, `count` frames, the lowest point of the skin on the floor."""
    out = []
    for t in range(count):
        progress = t / count
        R = rotvec_to_rotmat(np.array([0.0, motion.yaw(progress), 0.0])) @ FACING_CAMERA
        posed = replace(
            shape,
            global_orient=rotmat_to_rotvec(R).astype(np.float32),
            body_pose=body_pose(motion.stride(progress), motion.swing_rad),
            left_hand_pose=relaxed_hand(1.0),
            right_hand_pose=relaxed_hand(-1.0),
        )
        at_origin = body.pose_one(posed)
        pelvis = at_origin.joints[0]
        lowest = at_origin.vertices[:, 1].max()
        x, z = motion.spot
        transl = np.array([x - pelvis[0], floor_y - lowest, z + motion.sway(progress) - pelvis[2]], np.float32)
        out.append(replace(posed, transl=transl))
    return out


def turned_about(point: Array, yaw_rad: float) -> Array:
    """Return the rigid motion (4, 4) that turns about the vertical (y) through a point (3,)."""
    T = np.eye(4)
    T[:3, :3] = rotvec_to_rotmat(np.array([0.0, yaw_rad, 0.0]))
    T[:3, 3] = point - T[:3, :3] @ point
    return T
