"""One person's fit: a picture of a real lens, and the same landmarks without its distortion."""

from dataclasses import replace

import numpy as np

from hsr_core.body import load_body
from hsr_core.config import Settings
from hsr_core.geometry.camera import project, unproject
from hsr_core.regress.fit_person import PersonFit, PersonFitters
from hsr_core.regress.observe import Observer
from hsr_core.sources import clip_camera, open_source
from hsr_core.types import Camera


def test_a_distorted_picture_gives_what_straight_landmarks_give():
    settings, observer = Settings(), Observer()
    with open_source("clip", camera=clip_camera()) as frames:
        frame = next(iter(frames))
        straight = observer.observe(frame, settings.people, settings.parts)[0]
        hw, K = frame.image_hw, frame.camera.K.copy()
        K[0, 2] = 0.3 * hw[1]  # far from the person, where the lens bends
        shared = PersonFitters(load_body(""), observer.face_network)
        lens = Camera(K, hw, np.array([-0.25, 0.08, 0.001, -0.001, 0.0]))

        def bent(uv):
            return project(unproject(uv, np.ones(uv.shape[:-1]), K), lens)

        hands = {side: hand and replace(hand, uv=bent(hand.uv)) for side, hand in straight.hands.items()}
        assert any(hands.values())
        seen = replace(straight, pose=replace(straight.pose, uv=bent(straight.pose.uv)), hands=hands, face=None)
        a = PersonFit(shared, settings).fit(frame, lens, seen).params
        b = PersonFit(shared, settings).fit(frame, Camera(K, hw), replace(straight, face=None)).params
    observer.close()
    for name in ("global_orient", "transl", "body_pose", "left_hand_pose", "right_hand_pose"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-4, err_msg=name)
