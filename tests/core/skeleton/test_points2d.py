"""18 points of an image: order, normalisation, what lies outside, and the head's points on a real body."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from poses import random_pose

from hsr_core.body import load_body
from hsr_core.body.joints import JOINT_NAMES, J
from hsr_core.skeleton import points2d
from hsr_core.types import Camera, HumanParams

CAMERA = Camera(np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]]), (480, 640))


@pytest.fixture(scope="module")
def person():
    """The open body in a pose before the camera, upright in it: (body, params, posed)."""
    body = load_body()
    params = HumanParams(
        global_orient=np.float32([np.pi - 0.2, 0.3, 0.1]),
        transl=np.float32([0.1, 0.2, 3.0]),
        body_pose=np.random.default_rng(0).uniform(-0.4, 0.4, (21, 3)).astype(np.float32),
        **{name: np.zeros(getattr(body, f"n_{name}"), np.float32)
           for name in ("betas", "expression", "head_betas", "head_expression")},
    )  # fmt: skip
    return body, params, body.pose_one(params)


def keypoints_of(joints: np.ndarray) -> np.ndarray:
    uv, _ = cv2.projectPoints(joints.astype(np.float64)[:, None], np.zeros(3), np.zeros(3), CAMERA.K, None)
    return np.column_stack([uv[:, 0], np.linspace(0.5, 1, len(joints))])


def test_the_order_is_the_messages() -> None:
    messages = pytest.importorskip("hri_msgs.msg")
    assert [getattr(messages.Skeleton2D, name) for name in points2d.POINTS] == list(range(18))


def test_points_are_the_projected_joints_in_parts_of_the_image(person) -> None:
    body, params, posed = person
    keypoints = keypoints_of(posed.joints)
    head = points2d.head_points(body, params)
    found = points2d.skeleton2d(keypoints, posed.joints, posed.joint_rotmats[J["head"]], head, CAMERA)
    assert found.shape == (18, 3)
    pixels = found[:, :2] * (640, 480) - 0.5
    for row, name in enumerate(points2d.POINTS):
        joint = {"LEFT_EYE": "left_eye_smplhf", "RIGHT_EYE": "right_eye_smplhf"}.get(name, name.lower())
        if joint in JOINT_NAMES and name != "NECK":
            np.testing.assert_allclose(pixels[row], keypoints[J[joint], :2], atol=1e-6)
            assert found[row, 2] == keypoints[J[joint], 2]
    shoulders = keypoints[[J["left_shoulder"], J["right_shoulder"]]]
    np.testing.assert_allclose(pixels[1], shoulders[:, :2].mean(0))
    assert found[1, 2] == shoulders[:, 2].min()


def test_nose_and_ears_are_where_the_mesh_has_them(person) -> None:
    """The skin moves with the head alone there, up to its pose-dependent part."""
    body, params, posed = person
    found = points2d.skeleton2d(
        keypoints_of(posed.joints),
        posed.joints,
        posed.joint_rotmats[J["head"]],
        points2d.head_points(body, params),
        CAMERA,
    )
    on_mesh = keypoints_of(posed.vertices[[body.surface_points[n] for n in ("nose", "left_ear", "right_ear")]])
    rows = [points2d.POINTS.index(n) for n in ("NOSE", "LEFT_EAR", "RIGHT_EAR")]
    np.testing.assert_allclose(found[rows, :2] * (640, 480) - 0.5, on_mesh[:, :2], atol=0.5)


def test_what_is_not_in_the_image_has_no_score() -> None:
    joints, rotmats = random_pose(0)
    keypoints = np.full((55, 3), 0.9)
    keypoints[:, :2] = (100, 100)
    keypoints[J["left_wrist"], :2] = (-20, 100)
    keypoints[J["right_wrist"], :2] = np.nan
    keypoints[J["left_knee"], :2] = (100, 480.2)
    found = points2d.skeleton2d(keypoints, joints, rotmats[J["head"]], None, CAMERA)
    score = dict(zip(points2d.POINTS, found[:, 2], strict=True))
    assert {name for name, value in score.items() if value == 0} == {
        "NOSE", "LEFT_EAR", "RIGHT_EAR", "LEFT_WRIST", "RIGHT_WRIST", "LEFT_KNEE"
    }  # fmt: skip
    assert np.isfinite(found).all()
    assert found[:, :2].min() >= 0
    assert found[:, :2].max() <= 1


def test_boxes_are_cut_at_the_image() -> None:
    np.testing.assert_allclose(points2d.normalised_box(np.float32([-50, 120, 320, 5000]), CAMERA), [0, 0.25, 0.5, 1])
    assert points2d.normalised_box(np.float32([-50, 120, -10, 200]), CAMERA) is None
    assert points2d.normalised_box(np.float32([700, 120, 900, 200]), CAMERA) is None
    wide = dataclasses.replace(CAMERA, K=CAMERA.K * [[2], [2], [1]], image_hw=(960, 1280))
    np.testing.assert_allclose(points2d.normalised_box(np.float32([0, 0, 640, 480]), wide), [0, 0, 0.5, 0.5])
