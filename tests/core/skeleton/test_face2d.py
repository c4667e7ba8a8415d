"""Landmarks of a face by their sources, its box, and pictures in which the eyes are level."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.body import KEY_POINT_NAMES, load_body
from hsr_core.body.joints import J
from hsr_core.geometry.camera import project
from hsr_core.skeleton import face2d, points2d
from hsr_core.skeleton.face2d import (
    ON_HEAD,
    PICTURE_PX,
    FaceLandmarks2d,
    face_box,
    face_picture,
    face_roll,
    five_landmarks,
    head_box,
)
from hsr_core.types import Camera, HumanParams

CAMERA = Camera(np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]]), (480, 640))
EYES = [J["right_eye_smplhf"], J["left_eye_smplhf"]]


def before_the_camera(body, *, yaw_deg: float = 10.0, roll_deg: float = 0.0, measured=None):
    """A person 2 m away, who turns to their left and leans their whole body clockwise as seen."""
    turn = Rotation.from_euler("z", roll_deg, degrees=True) * Rotation.from_euler("xy", (180, yaw_deg), degrees=True)
    params = HumanParams(
        global_orient=turn.as_rotvec().astype(np.float32),
        transl=np.float32([0.1, 0.4, 2.0]),
        **{name: np.zeros(getattr(body, f"n_{name}"), np.float32)
           for name in ("betas", "expression", "head_betas", "head_expression")},
    )  # fmt: skip
    posed = body.pose_one(params)
    return SimpleNamespace(
        params=params,
        joints=posed.joints,
        joint_rotmats=posed.joint_rotmats,
        keypoints2d=np.column_stack([project(posed.joints, CAMERA), np.full(55, 0.8)]),
        regression=SimpleNamespace(face_landmarks=measured, part_score=np.float32([1, 1, 1, 0.7])),
    )


@pytest.fixture(scope="module")
def body():
    return load_body()


def skeleton_of(body, person):
    head = points2d.head_points(body, person.params)
    rotmat = person.joint_rotmats[J["head"]]
    return points2d.skeleton2d(person.keypoints2d, person.joints, rotmat, head, CAMERA)


def test_what_the_regressor_saw_comes_first(body) -> None:
    measured = np.random.default_rng(0).uniform(20, 400, (70, 3))
    assert FaceLandmarks2d(body)(before_the_camera(body, measured=measured), CAMERA) is measured
    assert FaceLandmarks2d(body)(before_the_camera(body), CAMERA) is None


def test_without_any_five_move_with_the_head_and_the_box_holds_them(body) -> None:
    person = before_the_camera(body)
    found = five_landmarks(skeleton_of(body, person))
    assert set(np.flatnonzero(found[:, 2])) == set(ON_HEAD)
    head, rotmat = points2d.head_points(body, person.params), person.joint_rotmats[J["head"]]
    box = head_box(person.joints, rotmat, head, CAMERA)
    for row in (30, 68, 69):
        assert (box[:2] < found[row, :2]).all()
        assert (found[row, :2] < box[2:]).all()
    size_m = (box[2:] - box[:2]) * (640, 480) / 500 * person.joints[J["head"], 2]
    assert (size_m > 0.1).all()
    assert (size_m < 0.28).all()
    assert head_box(person.joints - (0, 0, 10), rotmat, head, CAMERA) is None


def test_the_box_of_landmarks_reaches_to_the_forehead_of_any_face() -> None:
    landmarks = np.zeros((70, 3))
    landmarks[:, :2] = 300, 200  # eyes, nose and lips
    landmarks[:17, :2] = np.column_stack([np.linspace(250, 350, 17), 200 + 80 * np.sin(np.linspace(0, np.pi, 17))])
    landmarks[17:27, :2] = np.column_stack([np.linspace(260, 340, 10), np.full(10, 190)])
    landmarks[33, :2] = 300, 230
    box = face_box(landmarks, CAMERA) * (640, 480, 640, 480)
    np.testing.assert_allclose(box, [250, 160, 351, 281], atol=1e-6)
    upside_down = landmarks * [1, -1, 1] + [0, 400, 0]
    np.testing.assert_allclose(face_box(upside_down, CAMERA) * (640, 480, 640, 480), [250, 120, 351, 241], atol=1e-6)
    landmarks[5, 0] = np.nan
    assert face_box(landmarks, CAMERA) is None


def test_a_body_that_names_them_has_all_on_its_skin(body, monkeypatch) -> None:
    places = np.random.default_rng(1).uniform([-0.5, -0.4, 2], [0.5, 0.4, 3], (len(KEY_POINT_NAMES), 3))
    monkeypatch.setattr(face2d, "KeyPoints", lambda body: lambda posed: places)
    monkeypatch.setattr(body, "key_point_files", object())
    person = before_the_camera(body)
    found = FaceLandmarks2d(body)(person, CAMERA)
    named = {0: "right_contour1", 8: "chin", 16: "left_contour1", 17: "right_brow1", 26: "left_brow1",
             30: "nose_bridge4", 33: "nose_lower3", 36: "right_eye1", 45: "left_eye1", 48: "mouth_outer1",
             60: "mouth_inner1", 67: "mouth_inner8"}  # fmt: skip
    expected = project(places[[KEY_POINT_NAMES.index(name) for name in named.values()]], CAMERA)
    np.testing.assert_allclose(found[list(named), :2], expected, atol=1e-6)
    np.testing.assert_allclose(found[68:, :2], person.keypoints2d[EYES, :2], atol=0.013 * 500 / 1.5)
    np.testing.assert_allclose(found[:, 2], 0.7)


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("roll_deg", [-150, -35, 0, 20, 90])
def test_eyes_are_level_in_an_aligned_picture(body, roll_deg, measured) -> None:
    person = before_the_camera(body, yaw_deg=30, roll_deg=roll_deg)
    eyes, landmarks = person.keypoints2d[EYES, :2], None
    if measured:  # the image has them elsewhere, and turned by 5 degrees more
        middle, turn = eyes.mean(axis=0), Rotation.from_euler("z", 5, degrees=True).as_matrix()[:2, :2]
        eyes = (eyes - middle) @ turn.T + middle + (20, -30)
        landmarks = np.zeros((70, 3))
        landmarks[68:, :2] = eyes
    image = np.zeros((480, 640), np.uint8)
    for u, v in eyes:
        cv2.circle(image, (round(u), round(v)), 3, 255, -1)
    middle, half = eyes.mean(axis=0) + 0.5, 60
    box = np.concatenate([middle - half, middle + half]) / (640, 480, 640, 480)
    picture = face_picture(image, box, face_roll(person, landmarks))
    assert picture.shape == (PICTURE_PX, PICTURE_PX)
    rows, columns = np.nonzero(picture > 100)
    right, left = columns < PICTURE_PX / 2, columns > PICTURE_PX / 2
    assert abs(rows[right].mean() - rows[left].mean()) < 1.5
    assert columns[left].mean() - columns[right].mean() == pytest.approx(
        np.linalg.norm(eyes[0] - eyes[1]) * PICTURE_PX / (2 * half), abs=2
    )


def test_a_head_from_the_side_stays_upright(body) -> None:
    for yaw in (88, 95):  # the eyes one behind the other, and changed sides
        assert abs(face_roll(before_the_camera(body, yaw_deg=yaw), None)) < np.radians(5)


def test_pictures_are_black_where_the_image_ends() -> None:
    picture = face_picture(np.full((480, 640, 3), 200, np.uint8), np.array([0.0, 0.0, 0.05, 0.4]))
    assert picture.shape == (PICTURE_PX, PICTURE_PX, 3)
    assert (picture[:, :30] == 0).all()
    assert (picture[:, 64:] == 200).all()
