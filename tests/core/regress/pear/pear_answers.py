"""A person, and what a network that knows everything would say of their crop."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from hsr_core.geometry.camera import apply_affine, project, ray_rotation, undistort_points
from hsr_core.regress.observe import points_box
from hsr_core.regress.pear.boxes import PersonBox
from hsr_core.regress.pear.camera import FOCAL_PX, person_crop
from hsr_core.regress.pear.decode import Decoded
from hsr_core.types import Camera, HumanParams


def person_at(body, transl, turn=0.4) -> HumanParams:
    facing = Rotation.from_matrix(np.diag([1.0, -1, -1])) * Rotation.from_rotvec([0, turn, 0])
    pose = np.random.default_rng(2).normal(scale=0.2, size=(21, 3))
    betas = body.betas_for_height(1.70)
    return HumanParams(
        global_orient=facing.as_rotvec().astype(np.float32), transl=np.float32(transl),
        body_pose=pose.astype(np.float32), betas=betas, head_betas=betas,
    )  # fmt: skip


def perfect_answer(params: HumanParams, body, camera: Camera) -> tuple[Decoded, PersonBox]:
    """What a network that knows everything says of the person's crop: directions as seen along the crop's ray."""
    joints = body.pose_one(params).joints
    uv = project(joints, camera)
    box = PersonBox(points_box(uv, camera.image_hw), 0.9)
    crop = person_crop(box.bbox_xyxy, camera.image_hw)
    R_ray = ray_rotation(undistort_points(uv[0], camera), camera.K)
    root = R_ray.T @ Rotation.from_rotvec(params.global_orient).as_matrix()
    local = np.concatenate([params.body_pose, params.left_hand_pose, params.right_hand_pose])
    rotmats = np.concatenate([root[None], Rotation.from_rotvec(local).as_matrix()])
    pelvis = joints[0] - params.transl  # turning about it leaves it in place
    z = FOCAL_PX * joints[0, 2] / (crop.scale * camera.K[0, 0])
    tx, ty = pelvis[:2] - (apply_affine(crop.A_crop_img, uv[0]) - 128) * z / FOCAL_PX
    zeros = {name: np.zeros(n, np.float32) for name, n in (("betas", 200), ("expression", 50), ("head_betas", 300))}
    return Decoded(
        rotmats=rotmats.astype(np.float32), head_scale=np.ones(3, np.float32), **zeros,
        head_expression=np.zeros(50, np.float32), jaw_pose=np.array([0.2, 0, 0], np.float32),
        eye_pose=np.zeros((2, 3), np.float32), eyelids=np.array([0.1, 1.2], np.float32),
        camera=np.array([tx, ty, 24 / (z - pelvis[2])], np.float32),
    ), box  # fmt: skip
