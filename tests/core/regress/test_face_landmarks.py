"""The 70 landmarks: their table on a face's mesh, and where they lie in a photograph and in its mirror image."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hsr_core.body import load_body
from hsr_core.body.joints import J
from hsr_core.regress.crop import Roi
from hsr_core.regress.face_landmarks import FACE_MESH, face_landmarks
from hsr_core.regress.face_network import FaceNetwork
from hsr_core.regress.face_points import find_face_points
from hsr_core.types import Frame, HumanParams

PORTRAIT = Path(__file__).parents[2] / "data" / "portrait.jpg"
MIRROR = np.r_[
    16:-1:-1, 26:16:-1, 27:31, 35:30:-1, 45:41:-1, 47, 46, 39:35:-1, 41, 40,
    54:47:-1, 59:54:-1, 64:59:-1, 67:64:-1, 69, 68,
]  # fmt: skip
"""For each of dlib's points the one on the other side."""
BROWS, RIGHT_EYE, LEFT_EYE, LIPS, INNER_LIPS = slice(17, 27), slice(36, 42), slice(42, 48), slice(48, 60), slice(60, 68)


@pytest.fixture(scope="module")
def network():
    return FaceNetwork()


@pytest.fixture(scope="module")
def portrait():
    return Frame(cv2.imread(str(PORTRAIT)), 0)


def read(network: FaceNetwork, frame: Frame):
    roi = Roi((170.0, 130.0) if not frame.index else (frame.image_hw[1] - 170.0, 130.0), 200.0)
    for _ in range(3):
        face = network.run(frame, roi)
        roi = face.next_roi
    assert face.score > 0.9
    return face, face_landmarks(face)


def check_face(points: np.ndarray, up: int) -> None:
    """What holds for any upright face from the front, x to the person's left; `up` is the sign of y."""
    x, y = points[:, 0], up * points[:, 1]
    assert (np.diff(x[BROWS]) > 0).all()
    assert y[18:26].min() > y[36:48].max()
    assert (np.diff(y[27:31]) < 0).all()
    assert (np.diff(x[31:36]) > 0).all()
    assert y[36:48].min() > y[30] > y[33] > y[LIPS].max()
    for eye, pupil in ((RIGHT_EYE, 68), (LEFT_EYE, 69)):
        ex, ey = x[eye], y[eye]
        assert ex.argmin() == 0
        assert ex.argmax() == 3
        assert ey[[1, 2]].min() > ey[[4, 5]].max()
        assert ex[0] < x[pupil] < ex[3]
        assert ey.min() < y[pupil] < ey.max()
    for ring, corner in ((LIPS, 6), (INNER_LIPS, 4)):
        ring_x, ring_y = x[ring], y[ring]
        assert ring_x.argmin() == 0
        assert ring_x.argmax() == corner
        assert ring_y[1:corner].min() > ring_y[corner + 1 :].max()
    assert y[51] > y[62] > y[66] > y[57] > y[8]


def check_jaw(points: np.ndarray) -> None:
    """From the right ear down to the chin and up to the left ear; y down. Neighbours may be level or upright."""
    x, y = points[:17, 0], points[:17, 1]
    assert (x[2:] > x[:-2]).all()
    assert (y[2:9] > y[:7]).all()
    assert (y[10:] < y[8:15]).all()


def test_landmarks_of_a_photograph_and_of_its_mirror_image(network, portrait) -> None:
    face, found = read(network, portrait)
    assert found.shape == (70, 3)
    assert (found[:, 2] == face.score).all()
    check_face(found, up=-1)
    check_jaw(found)
    mirrored = replace(portrait, image=np.ascontiguousarray(portrait.image[:, ::-1]), index=1)
    other = read(network, mirrored)[1][MIRROR, :2]
    other[:, 0] = portrait.image_hw[1] - 1 - other[:, 0]
    between_eyes = np.hypot(*(found[68] - found[69])[:2])
    distance = np.hypot(*(other - found[:, :2]).T) / between_eyes
    assert np.median(distance) < 0.05
    assert distance.max() < 0.15


def test_the_table_is_symmetric_on_the_mesh_of_a_head(network) -> None:
    """The open body's head is nearly symmetric; the network's points are carried onto it."""
    body = load_body()
    coefficients = {
        name: np.zeros(getattr(body, f"n_{name}"), np.float32)
        for name in ("betas", "expression", "head_betas", "head_expression")
    }
    vertices, joints = body.rest(HumanParams(**coefficients))
    eyes = joints[[J["left_eye_smplhf"], J["right_eye_smplhf"]]].astype(np.float64)
    on_mesh = find_face_points(vertices, body.faces, eyes, network).at(vertices)
    points = np.array([on_mesh[list(row)].mean(axis=0) for row in FACE_MESH])
    check_face(np.concatenate([points, eyes[::-1]]), up=1)
    distance = np.linalg.norm(points[MIRROR[:68]] * [-1, 1, 1] - points, axis=1)
    assert distance[17:].max() < 0.005  # on the outline of the drawing depth is not known
    assert np.linalg.norm(points[30] - vertices[body.surface_points["nose"]]) < 0.015
