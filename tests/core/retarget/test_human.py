"""The input: names, frames, mirroring, orientations from points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import JOINT_NAMES, J
from hsr_core.errors import BadFrame, ShapeError
from hsr_core.retarget.frames import R_REST, heading, orientation
from hsr_core.retarget.hands import closures
from hsr_core.retarget.human import HAND_POINTS, POINTS, Human, P, from_estimate, from_points, mirrored
from hsr_core.types import HumanEstimate, HumanParams, MetricSource, Part, Regression, TrackState

from .people import FRONT, person, t_pose, unit

RNG = np.random.default_rng(0)


def estimate(joints: np.ndarray, rotmats: np.ndarray, parts: Part = Part.BODY) -> HumanEstimate:
    regression = Regression(
        HumanParams(), np.zeros(4), 0.9, np.ones(55), np.ones(4), parts, MetricSource.DEPTH_CAMERA, 0.1
    )
    return HumanEstimate(7, TrackState.TRACKED, True, regression, HumanParams(), joints, rotmats, np.zeros((55, 3)))


def test_an_estimate_arrives_in_the_world_with_its_names() -> None:
    joints, rotmats = RNG.normal(size=(55, 3)), Rotation.random(55, random_state=0).as_matrix()
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.random(random_state=1).as_matrix(), (1, 2, 3)
    human = from_estimate(estimate(joints, rotmats), 5, T)
    assert (human.track_id, human.stamp_ns, human.score) == (7, 5, 0.9)
    np.testing.assert_allclose(human.at("chest"), T[:3, :3] @ joints[J["spine3"]] + T[:3, 3])
    np.testing.assert_allclose(human.rotations[P["left_wrist"]], T[:3, :3] @ rotmats[J["left_wrist"]])
    assert human.left_hand is None
    assert human.valid.all()


def test_hands_come_in_the_wrists_axes_base_to_tip() -> None:
    joints, rotmats = RNG.normal(size=(55, 3)), Rotation.random(55, random_state=0).as_matrix()
    human = from_estimate(estimate(joints, rotmats, Part.BODY | Part.LEFT_HAND), 5, np.eye(4))
    assert human.right_hand is None
    R, wrist = rotmats[J["left_wrist"]], joints[J["left_wrist"]]
    for name, joint in (("thumb0", "left_thumb1"), ("index2", "left_index3"), ("little0", "left_pinky1")):
        np.testing.assert_allclose(R @ human.left_hand[HAND_POINTS.index(name)] + wrist, joints[J[joint]], atol=1e-12)


def test_joints_that_were_not_seen_are_not_valid() -> None:
    scores = np.ones(55)
    scores[J["right_wrist"]] = 0.1
    one = estimate(np.zeros((55, 3)), np.zeros((55, 3, 3)))
    human = from_estimate(replace(one, regression=replace(one.regression, joint_score=scores)), 0, np.eye(4))
    assert [name for name in POINTS if not human.sees(name)] == ["right_wrist"]


@pytest.mark.parametrize(
    ("T", "message"),
    [
        (None, "none is assumed"),
        (np.full((4, 4), np.nan), "must be finite"),
        (np.eye(3), r"shape \(4, 4\)"),
        (np.diag([1.0, 1, -1, 1]), "not a rigid motion"),
        (2 * np.eye(4), "not a rigid motion"),
    ],
)
def test_without_a_transform_there_is_no_person(T, message) -> None:
    with pytest.raises(BadFrame, match=message):
        from_estimate(estimate(np.zeros((55, 3)), np.zeros((55, 3, 3))), 0, T)


def test_points_of_any_source_come_by_name() -> None:
    names = [*JOINT_NAMES[:22], "crown"]
    points = RNG.normal(size=(23, 3))
    points[J["left_knee"]] = np.nan
    human = from_points(1, 2, names, points, aliases={"head": "crown"}, score=0.5)
    np.testing.assert_array_equal(human.at("left_toe"), points[J["left_foot"]])
    np.testing.assert_array_equal(human.at("head"), points[22])
    assert [name for name in POINTS if not human.sees(name)] == ["left_knee"]
    with pytest.raises(ShapeError, match="for 23 names"):
        from_points(1, 2, names, points[:5])
    with pytest.raises(ShapeError, match="left_hand"):
        Human(0, 0, np.zeros((18, 3)), np.ones(18, bool), left_hand=np.zeros((20, 3)))


def test_mirroring_twice_is_the_person_and_rotations_stay_rotations() -> None:
    human = person(0, {"left_arm": (unit(1, 0.2, 0.3), FRONT)}, yaw=0.7, place=(1, 2, 0))
    human = replace(human, rotations=Rotation.random(len(POINTS), random_state=2).as_matrix(),
                    left_hand=RNG.normal(size=(21, 3)), foot_contact=np.array([1.0, 0]))  # fmt: skip
    once = mirrored(human)
    np.testing.assert_allclose(np.linalg.det(once.rotations), 1)
    assert once.left_hand is None
    np.testing.assert_array_equal(once.foot_contact, [0, 1])
    twice = mirrored(once)
    np.testing.assert_allclose(twice.points, human.points, atol=1e-12)
    np.testing.assert_allclose(twice.rotations, human.rotations, atol=1e-12)
    np.testing.assert_allclose(twice.left_hand, human.left_hand, atol=1e-12)


def test_a_raised_left_arm_becomes_a_raised_right_one() -> None:
    human = person(0, {"left_arm": (FRONT, FRONT)})
    once = mirrored(human)
    np.testing.assert_allclose(once.at("right_wrist") - once.at("right_shoulder"), [0.55, 0, 0], atol=1e-12)
    np.testing.assert_allclose(heading(once), heading(human), atol=1e-12)
    for name in ("left_wrist", "pelvis", "right_ankle"):  # and by its rotations
        other = name.replace("left", "x").replace("right", "left").replace("x", "right")
        S = np.diag([1.0, -1, 1])
        np.testing.assert_allclose(
            once.rotations[P[name]], S @ human.rotations[P[other]] @ np.diag([-1.0, 1, 1]), atol=1e-12
        )
    with pytest.raises(BadFrame, match="pelvis and hips"):
        mirrored(replace(human, valid=np.zeros(len(POINTS), bool)))


@pytest.mark.parametrize("yaw", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("name", ["pelvis", "chest", "left_ankle", "right_ankle"])
def test_orientations_from_points_agree_with_the_given_ones_at_rest(name, yaw) -> None:
    """A standing person at rest: every joint's rotation is the rest's, turned with the body."""
    given, points = (person(0, t_pose(), yaw=yaw, with_rotations=flag) for flag in (True, False))
    want = orientation(given, name)
    np.testing.assert_allclose(want, Rotation.from_rotvec([0, 0, yaw]).as_matrix() @ R_REST, atol=1e-12)
    found = orientation(points, name)
    angle = np.degrees(Rotation.from_matrix(want.T @ found).magnitude())
    assert angle < 3  # the made-up person's toe lies a little lower than the model's


def flat_hand(side: str) -> np.ndarray:
    """A flat hand at rest: fingers along the arm, thumb to the front; world axes of a person who faces x."""
    y = 1.0 if side == "left" else -1.0
    out = np.zeros((21, 3))
    for f, (x, start) in enumerate(((0.05, 0.02), (0.03, 0.09), (0.01, 0.09), (-0.01, 0.085), (-0.03, 0.08))):
        for i in range(4):
            out[1 + 4 * f + i] = (x, y * (start + 0.025 * i), 0)
    return out


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_flat_hand_at_rest_gives_the_rest_orientation(side) -> None:
    human = replace(person(0, t_pose(), with_rotations=False), **{f"{side}_hand": flat_hand(side)})
    found = orientation(human, f"{side}_wrist")
    assert np.degrees(Rotation.from_matrix(R_REST.T @ found).magnitude()) < 1
    turn = Rotation.random(random_state=3).as_matrix()
    turned = orientation(replace(human, **{f"{side}_hand": flat_hand(side) @ turn.T}), f"{side}_wrist")
    np.testing.assert_allclose(turned, turn @ found, atol=1e-9)


def test_points_on_a_line_give_no_orientation() -> None:
    human = person(0, with_rotations=False)
    points = human.points.copy()
    points[P["left_toe"]] = points[P["left_ankle"]] - 0.3 * (points[P["left_knee"]] - points[P["left_ankle"]])
    assert orientation(replace(human, points=points), "left_ankle") is None
    assert orientation(human, "left_wrist") is None
    lying = points @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert heading(replace(human, points=lying)) is None


def test_a_hand_closes_from_nought_to_one() -> None:
    """A fist by hand calculation: three right angles are more than 200 degrees, so the finger counts as closed."""
    hand = flat_hand("left")
    flat = closures(hand)
    assert flat["index"] < 0.1
    assert flat["thumb"] < 0.1
    bent = hand.copy()
    base = hand[5]
    bent[6:9] = base + np.array([(0, 0, -0.025), (0, -0.025, -0.025), (0, -0.025, 0)])
    assert closures(bent)["index"] == 1
    assert closures(bent)["middle"] == flat["middle"]
    pinched = hand.copy()
    pinched[4] = pinched[8]
    assert closures(pinched)["pinch"] == 1
    assert closures(2 * hand)["pinch"] == pytest.approx(flat["pinch"])
    assert 0 <= flat["pinch"] < 0.6
