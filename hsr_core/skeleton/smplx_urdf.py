"""The URDF of one person with all 55 joints: three revolute joints for each ball joint, as in `ball_joints`.

With the 165 angles of `ball_joints` it shows the pose exactly, through anything that reads URDF.
"""

from __future__ import annotations

import math

import numpy as np

from ..body.joints import JOINT_NAMES, PARENTS, SMPLX_TO_ROS_BODY, J
from ..types import Array
from .ball_joints import AXIS_ORDERS
from .urdf import Capsule, Joint, urdf_text

COLORS = {"skin": (0.55, 0.7, 0.9, 1.0)}
LIMIT_RAD = 2 * math.pi
"""Angles go on past pi, so that a joint never jumps by a turn."""
ROOT_RPY = (math.pi / 2, 0.0, math.pi / 2)
"""SMPL's axes (x left, y up, z forward) in the body's (x forward, y left, z up)."""
_AXIS = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}
_SMPLX_TO_ROS = np.array(SMPLX_TO_ROS_BODY)
_RADII_M = {
    "hip": 0.08, "knee": 0.07, "ankle": 0.05, "foot": 0.035, "spine": 0.1, "neck": 0.06, "collar": 0.05, "head": 0.05,
    "shoulder": 0.05, "elbow": 0.045, "wrist": 0.035, "jaw": 0.012, "eye": 0.012,
}  # fmt: skip
_FINGER_RADIUS_M = 0.008


def smplx_urdf(rest: Array, body_id: str) -> str:
    """Return the URDF; the root link is `body_<body_id>` at mid-hips, links are `human_<body_id>/<joint>`.

    Joints are called as in `joint_states`, `<joint>_<axis>`.

    Args:
        rest: Rest joints (55, 3) [m] in SMPL axes, as `proportions.rest_joints` or a body model gives them.
        body_id: Five letters.
    """
    rest = np.asarray(rest, np.float64)
    prefix = f"human_{body_id}/"
    hips = 0.5 * (rest[J["left_hip"]] + rest[J["right_hip"]])
    root = Joint(
        "root", f"body_{body_id}", prefix + "root", xyz=_SMPLX_TO_ROS @ (rest[0] - hips), rpy=ROOT_RPY
    )  # fmt: skip
    children = [[j for j, parent in enumerate(PARENTS) if parent == i] for i in range(len(PARENTS))]
    joints = [root]
    for j, name in enumerate(JOINT_NAMES):
        offset = rest[j] - rest[PARENTS[j]] if j else np.zeros(3)
        shapes = tuple(Capsule((0, 0, 0), rest[i] - rest[j], _radius(JOINT_NAMES[i])) for i in children[j])
        joints += _ball_joint(prefix, name, AXIS_ORDERS[j], prefix + _parent(j), offset, shapes)
    return urdf_text("human_" + body_id, f"body_{body_id}", joints, COLORS)


def _parent(j: int) -> str:
    return JOINT_NAMES[PARENTS[j]] if j else "root"


def _ball_joint(prefix: str, name: str, order: str, parent: str, offset: Array, shapes: tuple) -> list[Joint]:
    out = []
    for i, axis in enumerate(order):
        last = i == len(order) - 1
        child = prefix + (name if last else f"{name}_{axis}")
        xyz, drawn = (offset if i == 0 else (0, 0, 0)), (shapes if last else ())
        out.append(Joint(f"{name}_{axis}", parent, child, xyz, axis=_AXIS[axis], limit_rad=LIMIT_RAD, shapes=drawn))
        parent = child
    return out


def _radius(name: str) -> float:
    return next((radius for part, radius in _RADII_M.items() if part in name), _FINGER_RADIUS_M)
