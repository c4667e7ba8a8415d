"""Errors of a refined clip: people against the true ones, as parameters of one body model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..body.base import BodyModel
from ..types import HumanParams
from .joint_rules import SMPL_PELVIS
from .metrics import joint_errors, pve_mm

BODY_JOINTS = slice(0, 22)
"""Pelvis and the 21 body joints: hands and face are not refined."""


def pose_errors(body: BodyModel, people: Sequence[HumanParams], truth: Sequence[HumanParams]) -> dict[str, float]:
    """Return the errors of body joints, vertices and root [mm], means over the frames of a clip.

    `root_depth_bias_mm` is the mean signed error along the optical axis, positive = too far.
    """
    found, true = ([body.pose_one(person) for person in group] for group in (people, truth))
    joints, true_joints = (np.stack([out.joints[BODY_JOINTS] for out in group]) for group in (found, true))
    errors = joint_errors(joints, true_joints, SMPL_PELVIS.indices)
    vertices = [
        pve_mm(f.vertices, t.vertices, f.joints[0], t.joints[0]) for f, t in zip(found, true, strict=True)
    ]  # frame by frame: all meshes of a clip at once are large
    figures = {
        "mpjpe_mm": errors["mpjpe_mm"],
        "pa_mpjpe_mm": errors["pa_mpjpe_mm"],
        "v2v_mm": vertices,
        "root_error_mm": errors["root_error_mm"],
        "root_depth_bias_mm": 1e3 * (joints[:, 0, 2].astype(np.float64) - true_joints[:, 0, 2]),
    }
    return {name: round(float(np.mean(values)), 2) for name, values in figures.items()}
