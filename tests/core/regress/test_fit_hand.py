"""Finger fits on the landmarks of known hands."""

import numpy as np
import pytest

from hsr_core.body import load_body
from hsr_core.body.joints import LEFT_HAND, RIGHT_HAND, J
from hsr_core.geometry.rotations import rotvec_to_rotmat
from hsr_core.regress.fit_hand import HandFitter
from hsr_core.regress.kinematics import forward
from hsr_core.types import HumanParams

FINGERS = ("thumb", "index", "middle", "ring", "pinky")


@pytest.fixture(scope="module")
def body():
    return load_body("")


def landmarks(body, side, hand_pose, wrist):
    """The 21 points of a hand whose finger joints turn by `hand_pose` and whose wrist is at `wrist` globally."""
    vertices, rest = body.rest(HumanParams())
    local = np.broadcast_to(np.eye(3), (55, 3, 3)).copy()
    local[LEFT_HAND if side == "left" else RIGHT_HAND] = rotvec_to_rotmat(hand_pose)
    local[J[f"{side}_wrist"]] = wrist
    rotations, joints = forward(local, rest.astype(float), np.zeros(3))
    points = [joints[J[f"{side}_wrist"]]]
    for finger in FINGERS:
        chain = [J[f"{side}_{finger}{i}"] for i in (1, 2, 3)]
        tip = vertices[body.surface_points[f"{side}_{finger}_tip"]] - rest[chain[-1]]
        points += [*joints[chain], joints[chain[-1]] + rotations[chain[-1]] @ tip]
    return np.array(points)


def fist(side):
    bend = -1.2 if side == "left" else 1.2
    pose = np.zeros((15, 3))
    pose[:12, 2] = bend  # all fingers but the thumb close about z
    return pose


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", ["flat", "fist"])
def test_fingers_come_back(body, side, shape):
    rng = np.random.default_rng(0)
    pose = np.zeros((15, 3)) if shape == "flat" else fist(side)
    wrist = rotvec_to_rotmat(rng.normal(0, 1, 3))
    seen = landmarks(body, side, pose, wrist) * 1.3 + rng.normal(0, 1, 3)  # size and place must not matter
    fitter = HandFitter(side)
    vertices, rest = body.rest(HumanParams())
    fitter.set_body(rest, {name: vertices[i] for name, i in body.surface_points.items()})
    again = landmarks(body, side, fitter.fingers(seen, wrist), wrist)
    wanted = landmarks(body, side, pose, wrist)
    # A hinge has no twist, which the truth has not either: points agree to half a finger's width.
    assert np.linalg.norm(again - wanted, axis=1).max() < 0.008


@pytest.mark.parametrize("side", ["left", "right"])
def test_fingers_never_bend_backwards(body, side):
    rng = np.random.default_rng(1)
    fitter = HandFitter(side)
    vertices, rest = body.rest(HumanParams())
    fitter.set_body(rest, {name: vertices[i] for name, i in body.surface_points.items()})
    for _ in range(50):
        pose = fitter.fingers(rng.normal(0, 0.1, (21, 3)), rotvec_to_rotmat(rng.normal(0, 1, 3)))
        assert np.isfinite(pose).all()
        hinges = pose.reshape(5, 3, 3)[:4, 1:, 2] * (1 if side == "left" else -1)
        assert (hinges <= 0.1 + 1e-9).all()
        assert (hinges >= -1.9 - 1e-9).all()
