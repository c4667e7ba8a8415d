"""Names of the joints and key points that data sets use, ours where they mean the same.

Limbs (`LIMB_12` of `hsr_core.body.joints`) have our names in every set, for that is what limb protocols pair; what a
set means by a hip or a shoulder still differs by some centimetres. What is defined otherwise has another name.
"""

from __future__ import annotations

from ..body.joints import JOINT_NAMES

SMPL_24: tuple[str, ...] = (*JOINT_NAMES[:22], "left_hand", "right_hand")
"""SMPL (Loper et al. 2015): the first 22 are those of SMPL-X."""

H36M_17: tuple[str, ...] = (
    "hip_middle", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine_h36m",
    "neck_h36m", "nose", "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow",
    "right_wrist",
)  # fmt: skip
"""Human3.6M's 17 joints in the order of its common preprocessing; its root is the middle of the hips."""

J14: tuple[str, ...] = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck_h36m", "head_top",
)  # fmt: skip
"""The 14 joints of 3DPW's and Human3.6M's protocols, in the order of `joint_rules.H36M_14_ROWS`.

Their neck is regressed from the skin and is not SMPL's joint `neck`, so it has another name.
"""

OPENPOSE_18: tuple[str, ...] = (
    "nose", "shoulder_middle", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye",
    "left_eye", "right_ear", "left_ear",
)  # fmt: skip
"""OpenPose's COCO points."""

OPENPOSE_25: tuple[str, ...] = (
    "nose", "shoulder_middle", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "hip_middle", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe",
    "right_small_toe", "right_heel",
)  # fmt: skip
"""OpenPose's BODY_25."""
