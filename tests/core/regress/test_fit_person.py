"""One person's fit: a picture of a real lens, and the same landmarks without its distortion."""

from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hsr_core.body import load_body
from hsr_core.config import Settings
from hsr_core.geometry.camera import project, unproject
from hsr_core.regress.face_landmarks import face_landmarks
from hsr_core.regress.fit_person import PersonFit, PersonFitters
from hsr_core.regress.observe import Observation, Observer
from hsr_core.sources import open_source
from hsr_core.types import Camera, Frame

PORTRAIT = Path(__file__).parents[2] / "data" / "portrait.jpg"


def walking() -> Frame:
    """A frame that shows the hands."""
    with open_source("clip") as frames:
        return next(iter(frames))


def portrait() -> Frame:
    """A frame that shows the face."""
    return Frame(cv2.imread(str(PORTRAIT)), 0)


def bent(seen: Observation, K: np.ndarray, lens: Camera) -> Observation:
    """Return landmarks where the lens would show them."""

    def bend(uv):
        return project(unproject(uv, np.ones(uv.shape[:-1]), K), lens)

    hands, face = seen.hands, seen.face
    if face is not None:
        points = np.column_stack([bend(face.points[:, :2]), face.points[:, 2]])
        left, right = (replace(eye, iris=bend(eye.iris)) for eye in (face.left_eye, face.right_eye))
        face = replace(face, points=points, left_eye=left, right_eye=right)
    hands = {side: hand and replace(hand, uv=bend(hand.uv)) for side, hand in hands.items()}
    return replace(seen, pose=replace(seen.pose, uv=bend(seen.pose.uv)), hands=hands, face=face)


@pytest.mark.parametrize("picture", [walking, portrait])
def test_a_distorted_picture_gives_what_straight_landmarks_give(picture):
    settings, observer, frame = Settings(), Observer(), picture()
    straight = observer.observe(frame, settings.people, settings.parts)[0]
    assert any(straight.hands.values()) if picture is walking else straight.face
    hw = frame.image_hw
    K = np.array([[1.4 * hw[1], 0, 0.3 * hw[1]], [0, 1.4 * hw[1], 0.5 * hw[0]], [0, 0, 1]])  # far from the person
    lens = Camera(K, hw, np.array([-0.25, 0.08, 0.001, -0.001, 0.0]))
    seen = bent(straight, K, lens)
    shared = PersonFitters(load_body(""), observer.face_network)
    a = PersonFit(shared, settings).fit(frame, lens, seen)
    b = PersonFit(shared, settings).fit(frame, Camera(K, hw), straight)
    observer.close()
    for field in fields(a.params):
        np.testing.assert_allclose(*(getattr(of.params, field.name) for of in (a, b)), atol=1e-4, err_msg=field.name)
    if seen.face:
        np.testing.assert_allclose(a.face_landmarks, face_landmarks(seen.face))  # in the picture as it came
        np.testing.assert_allclose(b.face_landmarks, face_landmarks(straight.face))
