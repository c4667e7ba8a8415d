"""People in random poses, by forward kinematics that is independent of the code under test."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import JOINT_NAMES, PARENTS, J
from hsr_core.skeleton.ball_joints import AXIS_ORDERS

LIMITS_DEG = {"hip": 80, "knee": 70, "shoulder": 75, "elbow": 75, "spine": 20, "neck": 30, "head": 30}
"""Most degrees of each of the three angles; others 40."""


def rest(height: float = 1.0, width: float = 1.0, seed: int = 0) -> np.ndarray:
    """A made-up body in SMPL axes, arms level but not quite, left and right alike; (55, 3) [m]."""
    rng = np.random.default_rng(seed)
    places = {
        "pelvis": (0, 0, 0), "hip": (0.06, -0.09, -0.01), "spine1": (0, 0.11, -0.03), "knee": (0.11, -0.47, 0.0),
        "spine2": (0, 0.24, -0.02), "ankle": (0.09, -0.87, -0.03), "spine3": (0, 0.3, 0.0), "foot": (0.12, -0.93, 0.1),
        "neck": (0, 0.5, -0.03), "collar": (0.08, 0.42, -0.01), "head": (0, 0.6, 0.02), "shoulder": (0.17, 0.44, -0.02),
        "elbow": (0.43, 0.41, -0.05), "wrist": (0.68, 0.43, -0.04), "jaw": (0, 0.62, 0.05),
        "eye_smplhf": (0.03, 0.67, 0.1),
    }  # fmt: skip
    out = np.zeros((55, 3))
    for name, j in J.items():
        side, _, part = name.partition("_")
        sign = {"left": 1, "right": -1}.get(side, 1)
        if part in places and side in ("left", "right"):
            out[j] = np.array(places[part]) * (sign, 1, 1)
        elif name in places:
            out[j] = places[name]
        else:  # fingers
            out[j] = out[PARENTS[j]] + np.array([sign * 0.03, 0.0, 0.0]) + rng.uniform(-0.01, 0.01, 3)
    return out * (width, height, 1.0)


_LIMITS = np.array([next((d for part, d in LIMITS_DEG.items() if part in name), 40) for name in JOINT_NAMES])
_ON_THE_HEAD = [J["jaw"], J["left_eye_smplhf"], J["right_eye_smplhf"]]


def local_rotations(rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    angles = rng.uniform(-1, 1, (55, 3)) * _LIMITS[:, None] * scale
    angles[_ON_THE_HEAD] = 0  # they turn with the head
    out = np.empty((55, 3, 3))
    for order in set(AXIS_ORDERS):
        joints = [j for j, other in enumerate(AXIS_ORDERS) if other == order]
        out[joints] = Rotation.from_euler(order.upper(), angles[joints], degrees=True).as_matrix()
    return out


def posed(
    rest_joints: np.ndarray, local: np.ndarray, transl: np.ndarray | tuple[float, float, float] = (0, 0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (55, 3) and global rotations (55, 3, 3); local[0] is the pelvis' own."""
    rotmats, joints = local.copy(), np.zeros((55, 3))
    joints[0] = transl
    for j in range(1, 55):
        parent = PARENTS[j]
        rotmats[j] = rotmats[parent] @ local[j]
        joints[j] = joints[parent] + rotmats[parent] @ (rest_joints[j] - rest_joints[parent])
    return joints, rotmats


def random_pose(seed: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A pose somewhere in front of a camera, turned anyhow."""
    rng = np.random.default_rng(seed)
    local = local_rotations(rng, scale)
    local[0] = Rotation.random(random_state=seed).as_matrix()
    return posed(rest(), local, rng.uniform(-2, 2, 3))
