"""The face fit on landmarks taken from the body's own face."""

import numpy as np
import pytest

from hsr_core.body import load_body
from hsr_core.geometry.rotations import rotvec_to_rotmat
from hsr_core.regress.crop import Roi
from hsr_core.regress.face_network import EyeLandmarks, FaceLandmarks, FaceNetwork
from hsr_core.regress.face_points import find_face_points
from hsr_core.regress.fit_face import FaceFitter
from hsr_core.types import HumanParams

FACING = np.diag([1.0, -1, -1])


@pytest.fixture(scope="module")
def scene():
    body, network = load_body(""), FaceNetwork()
    vertices, joints = body.rest(HumanParams())
    return body, FaceFitter(body, network), find_face_points(vertices, body.faces, joints[[23, 24]], network)


def draw(scene, R, *, gap=None, opening=0.3, gaze=(0.0, 0.0), **change):
    """Landmarks of the body's face turned by R, as a weak-perspective camera sees them."""
    body, _, points = scene
    place = points.at(body.rest(HumanParams(**change))[0])
    eyes = body.rest(HumanParams())[1][[23, 24]]
    scale = 800.0
    uvz = scale * place @ R.T + [300, 200, 0]
    if gap is not None:  # the template's lips touch; a real open mouth shows a gap
        uvz[14] = uvz[13] + [0, gap * scale, 0]

    def eye(corners, center):
        middle = uvz[list(corners)].mean(0) + scale * R @ (
            center - points.at(body.rest(HumanParams())[0])[list(corners)].mean(0)
        )
        out = R @ np.array([np.sin(gaze[0]) * 0.012, np.sin(gaze[1]) * 0.012, 0.0])
        return EyeLandmarks(middle[:2] + scale * out[:2], opening)

    return FaceLandmarks(uvz, eye((263, 362), eyes[0]), eye((33, 133), eyes[1]), 1.0, Roi((300, 200), 200.0))


@pytest.mark.parametrize("turn", [(0, 0, 0), (0.3, 0, 0), (0, 0.6, 0), (0.1, -0.4, 0.2)])
def test_head_rotation_is_recovered(scene, turn):
    R = FACING @ rotvec_to_rotmat(np.array(turn, float))
    scene[1].reset()
    fit = scene[1].fit(draw(scene, R), np.eye(3))
    cos = (np.trace(fit.head_rotation.T @ R) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cos, -1, 1))) < 0.5


def test_a_resting_face_has_no_expression(scene):
    scene[1].reset()
    fit = scene[1].fit(draw(scene, FACING), np.eye(3))
    assert np.abs(fit.expression).max() < 0.05
    assert np.abs(fit.eyelids).max() < 0.05
    assert np.abs(fit.leye_pose).max() < 0.02


@pytest.mark.parametrize("index", [0, 1, 2])
def test_an_expression_is_found_in_its_own_coefficient(scene, index):
    expression = np.zeros(scene[0].n_head_expression, np.float32)
    expression[index] = 1.5
    scene[1].reset()
    fit = scene[1].fit(draw(scene, FACING, head_expression=expression), np.eye(3))
    assert np.argmax(np.abs(fit.expression)) == index
    assert 0.4 < fit.expression[index] <= 1.6  # shrunk by the ridge, never inflated


def test_jaw_opens_with_the_gap_of_the_lips(scene):
    scene[1].reset()
    angles = [scene[1].fit(draw(scene, FACING, gap=gap), np.eye(3)).jaw_pose[0] for gap in (0.0, 0.01, 0.02, 0.03)]
    assert angles[0] == pytest.approx(0.0, abs=0.02)
    assert np.all(np.diff(angles) > 0.05)


def test_eyes_close_and_turn(scene):
    scene[1].reset()
    shut = scene[1].fit(draw(scene, FACING, opening=0.05), np.eye(3))
    np.testing.assert_allclose(shut.eyelids, 1.0)
    left = scene[1].fit(draw(scene, FACING, gaze=(0.3, 0.0)), np.eye(3))
    # Looking to the person's left is a positive turn about y (x left, y up, z forward).
    assert left.leye_pose[1] == pytest.approx(0.3, abs=0.05)
    assert left.reye_pose[1] == pytest.approx(0.3, abs=0.05)


def test_what_stays_is_the_persons_own_face(scene):
    """A wide mouth that never changes is not a smile for ever."""
    expression = np.zeros(scene[0].n_head_expression, np.float32)
    expression[0] = 1.5
    scene[1].reset()
    face = draw(scene, FACING, head_expression=expression)
    fits = [scene[1].fit(face, np.eye(3)).expression[0] for _ in range(200)]
    assert abs(fits[-1]) < 0.4 * abs(fits[0])
