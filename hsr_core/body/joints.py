"""The 55 SMPL-X joints: names, parents, and the groups others ask for.

Source:
    SMPL-X (Pavlakos et al. 2019) joint order; the hands go index, middle, pinky, ring, thumb.
"""

from __future__ import annotations

N_JOINTS = 55

_FINGERS = ("index", "middle", "pinky", "ring", "thumb")

JOINT_NAMES: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
    "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "jaw", "left_eye_smplhf", "right_eye_smplhf",
    *(f"{side}_{finger}{i}" for side in ("left", "right") for finger in _FINGERS for i in (1, 2, 3)),
)  # fmt: skip

PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15,
    20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38,
    21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53,
)  # fmt: skip

J: dict[str, int] = {name: i for i, name in enumerate(JOINT_NAMES)}
"""Index of a joint by its name."""

BODY = slice(1, 22)
JAW, LEFT_EYE, RIGHT_EYE = 22, 23, 24
LEFT_HAND = slice(25, 40)
RIGHT_HAND = slice(40, 55)

LIMB_12: tuple[int, ...] = tuple(
    J[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
)
"""Shoulders, elbows, wrists, hips, knees, ankles: the joints of the limb-12 protocol."""

SMPLX_TO_ROS_BODY = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
"""R_ros_smplx: SMPL axes (x left, y up, z forward) to REP-103 body axes (x forward, y left, z up)."""


def mirror_index() -> list[int]:
    """Return, for each joint, the joint on the other side (itself on the midline)."""
    swap = {"left": "right", "right": "left"}
    out = []
    for name in JOINT_NAMES:
        side, _, rest = name.partition("_")
        out.append(J[f"{swap[side]}_{rest}"] if side in swap else J[name])
    return out
