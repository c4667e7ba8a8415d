"""How a person is built: rest joints and segment lengths, read from one posed frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..body.joints import N_JOINTS, PARENTS, SMPLX_TO_ROS_BODY, J
from ..types import Array

REBUILD_ABOVE = 0.03
"""A description is made again when a bone's length differs by more than this part."""
_PARENT = np.array(PARENTS)
_ANCESTORS = np.eye(N_JOINTS)
for _j in range(1, N_JOINTS):
    _ANCESTORS[_j] += _ANCESTORS[_PARENT[_j]]
_SMPLX_TO_ROS = np.array(SMPLX_TO_ROS_BODY)
_SHORT_M = 0.02


def bone_lengths(joints: Array) -> Array:
    """Return the distance of each joint from its parent, (55,) [m]; the pelvis' is zero."""
    bones = joints - joints[_PARENT]
    bones[0] = 0.0
    return np.sqrt(np.einsum("jc,jc->j", bones, bones))


def differ(lengths: Array, others: Array) -> bool:
    """Whether a bone's length differs by more than 3 %; bones under 2 cm count as of 2 cm."""
    return bool((np.abs(lengths - others) > REBUILD_ABOVE * np.maximum(others, _SHORT_M)).any())


def rest_joints(joints: Array, joint_rotmats: Array) -> Array:
    """Return the joints of the rest pose (55, 3) [m], SMPL axes (x left, y up, z forward), the pelvis at zero.

    A bone is fixed in its parent's frame, so any pose tells the rest pose.

    Args:
        joints: (55, 3) [m]. joint_rotmats: (55, 3, 3), joint to the same frame.
    """
    joints = np.asarray(joints, np.float64)
    offsets = np.einsum("jba,jb->ja", np.asarray(joint_rotmats, np.float64)[_PARENT], joints - joints[_PARENT])
    offsets[0] = 0.0
    return _ANCESTORS @ offsets


@dataclass(frozen=True)
class Proportions:
    """Lengths of REP-155's body [m]; pairs are left, right.

    Attributes:
        torso: Mid-hips to the middle of the shoulders.
        shoulders, hips: From the midline outwards.
        upperarm, forearm, thigh, shin: Of the limbs.
        neck: Middle of the shoulders to the head's joint: forward, up, along the trunk at rest.
        face: The head's joint to between the eyes: forward, up.
        eyes: Between the two eyes.
    """

    torso: float
    shoulders: tuple[float, float]
    hips: tuple[float, float]
    upperarm: tuple[float, float]
    forearm: tuple[float, float]
    thigh: tuple[float, float]
    shin: tuple[float, float]
    neck: tuple[float, float]
    face: tuple[float, float]
    eyes: float


def proportions(rest: Array) -> Proportions:
    """Return the lengths of a body.

    Args:
        rest: Rest joints (55, 3) [m] in SMPL axes, as `rest_joints` or a body model gives them.
    """
    rest = np.asarray(rest, np.float64) @ _SMPLX_TO_ROS.T
    place = {name: rest[j] for name, j in J.items()}
    hips, shoulders, eyes = (
        0.5 * (place[f"left_{name}"] + place[f"right_{name}"]) for name in ("hip", "shoulder", "eye_smplhf")
    )
    trunk = shoulders - hips
    lean = np.arctan2(trunk[0], trunk[2])
    neck, face = place["head"] - shoulders, eyes - place["head"]

    def bone(a: str, b: str) -> tuple[float, float]:
        return tuple(float(np.linalg.norm(place[f"{s}_{a}"] - place[f"{s}_{b}"])) for s in ("left", "right"))

    def width(name: str, middle: Array) -> tuple[float, float]:
        return tuple(abs(float((place[f"{s}_{name}"] - middle)[1])) for s in ("left", "right"))

    return Proportions(
        torso=float(np.hypot(trunk[0], trunk[2])),
        shoulders=width("shoulder", shoulders),
        hips=width("hip", hips),
        upperarm=bone("shoulder", "elbow"),
        forearm=bone("elbow", "wrist"),
        thigh=bone("hip", "knee"),
        shin=bone("knee", "ankle"),
        neck=(
            float(np.cos(lean) * neck[0] - np.sin(lean) * neck[2]),
            float(np.sin(lean) * neck[0] + np.cos(lean) * neck[2]),
        ),
        face=(float(face[0]), float(face[2])),
        eyes=float(np.linalg.norm(place["left_eye_smplhf"] - place["right_eye_smplhf"])),
    )
