"""From a person to targets: directions, ground, contact, missing parts, clutch; each against a hand calculation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hsr_core.errors import BadFrame
from hsr_core.retarget.command import Flag
from hsr_core.retarget.ground import SEGMENTS, Contacts, Ground, SegmentLengths
from hsr_core.retarget.human import P
from hsr_core.retarget.settings import GroundSettings, MissingSettings
from hsr_core.retarget.targets import WRISTS, TargetMaker
from hsr_core.types import MetricSource

from .people import ANKLE_M, FRONT, LENGTHS, UP, person, unit

ARM = {"left_arm": (FRONT, UP)}
LEG_M = LENGTHS["hip", "knee"] + LENGTHS["knee", "ankle"]


def maker(robot, **more) -> TargetMaker:
    return TargetMaker(robot, MissingSettings(), GroundSettings(), **more)


def unseen(human, *names):
    valid = human.valid.copy()
    valid[[P[name] for name in names]] = False
    return replace(human, valid=valid)


def standing(make: TargetMaker, frames: int = 40, **more):
    """Let the person be learnt; return the time after it."""
    for i in range(frames):
        make.make(person(i / 30, **more))
    return frames / 30


@pytest.mark.parametrize("size", [0.7, 1.0, 1.2])
@pytest.mark.parametrize("yaw", [0.0, 2.0])
def test_arms_have_the_persons_directions_and_the_robots_lengths(upper, size, yaw) -> None:
    """Upper arm to the front, forearm up: the wrist is at (upper, 0, lower) from the robot's shoulder."""
    targets = maker(upper).make(person(0, ARM, size=size, yaw=yaw, place=(3, -1, 0)))
    up, low = upper.lengths["left_shoulder", "left_elbow"], upper.lengths["left_elbow", "left_wrist"]
    np.testing.assert_allclose(targets.relative["left_elbow"].value, (up, 0, 0), atol=1e-12)
    np.testing.assert_allclose(targets.relative["left_wrist"].value, (up, 0, low), atol=1e-12)


def test_flicker_of_the_shape_is_no_motion(g1) -> None:
    make = maker(g1)
    wrists = [
        make.make(person(i / 30, ARM, size=size)).relative["left_wrist"].value for i, size in enumerate((1, 1.1, 0.9))
    ]
    np.testing.assert_allclose(wrists, [wrists[0]] * 3, atol=1e-12)


def test_mirrored_the_left_arm_moves_the_right_one(g1) -> None:
    human = person(0, {"left_arm": (unit(1, 1, 0), UP)})
    plain, mirrored = maker(g1).make(human), maker(g1, mirror=True).make(human)
    np.testing.assert_allclose(
        mirrored.relative["right_wrist"].value, plain.relative["left_wrist"].value * (1, -1, 1), atol=1e-12
    )
    with pytest.raises(BadFrame, match="mirroring"):
        maker(g1, mirror=True).make(unseen(human, "left_hip"))


def test_lengths_are_the_median_of_30_frames_and_then_frozen() -> None:
    lengths = SegmentLengths()
    for i in range(30):
        assert lengths.frozen is None
        lengths.update(person(i / 30, size=1.0 if i % 3 else 1.3))
    np.testing.assert_allclose(lengths.frozen[SEGMENTS.index(("left_elbow", "left_wrist"))], 0.26)
    assert lengths.leg_m == pytest.approx(LEG_M)
    lengths.update(person(9, size=2))
    assert lengths.leg_m == pytest.approx(LEG_M)


# ground and contact


def test_ground_is_a_low_percentile_of_the_lower_ankle() -> None:
    """A person who jumps for a fifth of the time, on a floor at 0.4 m."""
    ground = Ground(GroundSettings())
    for i in range(200):
        height = ground.update(person(i / 30, place=(0, 0, 0.4 + (0.3 if i % 5 == 0 else 0))))
    assert height == pytest.approx(0.4 + ANKLE_M)
    for i in range(200, 320):  # upstairs
        height = ground.update(person(i / 30, place=(0, 0, 2.0)))
    assert height == pytest.approx(2.0 + ANKLE_M)


def test_contact_needs_a_low_slow_foot_for_two_frames_and_ends_late() -> None:
    contacts, t = Contacts(GroundSettings()), 0.0

    def step(place: float, height: float = 0.0) -> list[bool]:
        nonlocal t
        t += 1 / 30
        return list(contacts.update(person(t, place=(place, 0, height)), ANKLE_M))

    assert [step(0)[0] for _ in range(3)] == [False, False, True]
    assert step(0.01)[0]  # 0.3 m/s: more than it takes to begin, less than 1.5 times that
    assert step(0.02)[0]
    assert [step(0.04)[0], step(0.06)[0]] == [True, False]  # 0.6 m/s, twice
    assert not any(step(0.06, 0.2)[0] for _ in range(5))


def test_a_standing_foot_is_held_where_it_came_down(whole) -> None:
    make = maker(whole)
    t = standing(make)
    first = make.make(person(t)).points["left_ankle"].value
    assert first[2] == whole.mapping.sole_m
    later = make.make(person(t + 1 / 30, place=(0.004, 0, 0.003))).points["left_ankle"].value
    np.testing.assert_array_equal(first, later)


def test_the_root_is_scaled_by_the_leg_and_stands_on_the_ground(whole) -> None:
    """A person on a floor at 0.4 m walks 1 m: the robot's hips go leg/leg as far, at its own legs' height."""
    make = maker(whole)
    t = standing(make, place=(2, 1, 0.4))
    start = make.make(person(t, place=(2, 1, 0.4))).points["pelvis"].value
    end = make.make(person(t + 1, place=(3, 1, 0.4))).points["pelvis"].value
    scale = whole.leg_m / LEG_M
    np.testing.assert_allclose(end - start, (scale, 0, 0), atol=1e-9)
    rest = whole.frame_placements(whole.rest)
    hips = (rest["left_hip"][2, 3] + rest["right_hip"][2, 3]) / 2
    assert start[2] - (rest["pelvis"][2, 3] - hips) == pytest.approx(whole.leg_m + whole.mapping.sole_m)
    assert start[0] == pytest.approx(2 + rest["pelvis"][0, 3] - (rest["left_hip"][0, 3] + rest["right_hip"][0, 3]) / 2)


def test_a_floating_base_waits_for_the_persons_lengths(g1_whole) -> None:
    make = maker(g1_whole)
    answers = [make.make(person(i / 30)) for i in range(40)]
    assert all(answer is None for answer in answers[:29])
    assert answers[29] is not None


def test_without_metres_there_is_no_place_in_the_world(g1_whole, g1) -> None:
    make = maker(g1_whole)
    t = standing(make)
    none = make.make(person(t, metric_source=MetricSource.NONE))
    guessed = make.make(person(t + 1, metric_source=MetricSource.MONO_DEPTH))
    assert none.flags & Flag.HOLDOVER or "pelvis" not in none.points
    assert guessed.flags & Flag.DEPTH_GUESSED
    clutched = maker(g1, clutched=True)
    clutched.make(person(0))
    clutched.engage(lambda: {"left_wrist": np.zeros(3)})
    assert "left_wrist" not in clutched.make(person(1, metric_source=MetricSource.NONE)).points


# missing parts


def test_an_unseen_wrist_is_held_then_fades_and_comes_back(g1) -> None:
    """S6: 80 ms as it was, gone 0.2 s later, and never longer."""
    make = maker(g1)
    full = make.make(person(0, ARM)).relative["left_wrist"].value
    weights, flags = [], []
    for ms in range(10, 500, 10):
        targets = make.make(unseen(person(ms / 1000), "left_wrist"))
        goal = targets.relative.get("left_wrist")
        weights.append(0.0 if goal is None else goal.weight)
        flags.append(targets.flags)
        assert goal is None or (goal.value == full).all()
    weights = np.array(weights)
    assert (weights[:8] == 1).all()
    assert np.all(np.diff(weights) <= 0)
    assert weights[17] == pytest.approx(0.5)
    assert (weights[28:] == 0).all()
    assert flags[0] == Flag.HOLDOVER
    assert flags[40] == Flag.JOINT_MISSING
    back = [make.make(person(0.5 + i * 0.05, ARM)).relative["left_wrist"].weight for i in range(6)]
    assert back[0] < 0.35
    assert back[-1] == 1
    assert np.all(np.diff(back) >= 0)


def test_a_missing_elbow_takes_the_wrist_with_it(g1) -> None:
    make = maker(g1)
    targets = make.make(unseen(person(0, ARM), "left_elbow"))
    assert "left_wrist" not in targets.relative
    assert "right_wrist" in targets.relative
    assert targets.flags & Flag.JOINT_MISSING  # never seen
    assert not make.make(person(1, ARM)).flags & Flag.JOINT_MISSING


def test_a_lying_person_gives_nothing_on_a_fixed_base(g1) -> None:
    human = person(0)
    lying = human.points @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert maker(g1).make(replace(human, points=lying)) is None


# clutched hands


@pytest.mark.parametrize("yaw", [0.0, np.pi / 2])
def test_clutched_hands_move_one_to_one_from_where_they_were(g1, yaw) -> None:
    """The hand moves 10 cm to the person's front: so does the robot's, to its own front, wherever the person looks."""
    make = maker(g1, clutched=True)
    make.make(person(0, yaw=yaw))
    assert "left_wrist" not in make.make(person(0.01, yaw=yaw)).points  # nobody has engaged
    make.engage(lambda: dict.fromkeys(WRISTS, np.array([0.3, 0.2, 0.1])))
    make.make(person(0.02, yaw=yaw))
    moved = person(0.1, yaw=yaw, place=(0.1 * np.cos(yaw), 0.1 * np.sin(yaw), 0.05))
    targets = make.make(moved)
    np.testing.assert_allclose(targets.points["left_wrist"].value, (0.4, 0.2, 0.15), atol=1e-12)
    assert "left_wrist" not in targets.relative
    assert "left_elbow" in targets.relative


START = np.array([0.3, 0.2, 0.1])


def engaged(robot, human, **more) -> TargetMaker:
    make = maker(robot, clutched=True, **more)
    make.engage(lambda: dict.fromkeys(WRISTS, START))
    make.make(human)
    return make


@pytest.mark.parametrize("yaw", [0.0, np.pi / 2])
def test_mirrored_clutched_hands_go_to_the_other_side_with_arm_or_body(g1, yaw) -> None:
    """Ten centimetres to the operator's left, by an arm or by a step: the robot's hands go ten to its right."""
    left = np.array([-np.sin(yaw), np.cos(yaw), 0])
    stepped = person(0.1, yaw=yaw, place=tuple(0.1 * left))
    targets = engaged(g1, person(0, yaw=yaw), mirror=True).make(stepped)
    for wrist in WRISTS:
        np.testing.assert_allclose(targets.points[wrist].value, START - (0, 0.1, 0), atol=1e-12)
    reached = person(0.1, yaw=yaw)
    reached.points[P["left_wrist"]] += 0.1 * left + (0, 0, 0.05)
    targets = engaged(g1, person(0, yaw=yaw), mirror=True).make(reached)
    np.testing.assert_allclose(targets.points["right_wrist"].value, START + np.array([0, -0.1, 0.05]), atol=1e-12)
    np.testing.assert_allclose(targets.points["left_wrist"].value, START, atol=1e-12)


def test_mirrored_feet_that_stand_still_do_so_in_the_world(g1_whole) -> None:
    """The hips go 10 cm to the left over feet that stay: the robot's go as far to the right, its feet stay."""
    make = maker(g1_whole, mirror=True)
    t = standing(make)
    first = make.make(person(t))
    leaning = person(t + 1 / 30)
    body = [i for i, name in enumerate(P) if not name.endswith(("ankle", "toe", "knee"))]
    leaning.points[body] += (0, 0.1, 0)
    second = make.make(leaning)
    moved = second.points["pelvis"].value - first.points["pelvis"].value
    np.testing.assert_allclose(moved, (0, -0.1 * g1_whole.leg_m / LEG_M, 0), atol=1e-9)
    assert make.contacts.on == [True, True]


def test_a_hand_that_was_not_seen_when_it_engaged_begins_when_it_is(g1) -> None:
    make = engaged(g1, unseen(person(0), "left_wrist"))
    missing = make.make(unseen(person(0.03), "left_wrist"))
    assert "left_wrist" not in missing.points
    assert missing.flags & Flag.JOINT_MISSING
    place = make.make(person(0.1, place=(0.2, 0, 0))).points["left_wrist"].value
    np.testing.assert_array_equal(place, START)
    moved = make.make(person(0.2, place=(0.3, 0, 0)))
    np.testing.assert_allclose(moved.points["left_wrist"].value, START + np.array([0.1, 0, 0]), atol=1e-12)
    assert not moved.flags & Flag.JOINT_MISSING


def test_a_new_engagement_forgets_the_last_ones_zero(g1) -> None:
    """Its first frame tells no heading: the next one does, and the hands start there and not from the old place."""
    make = engaged(g1, person(0))
    make.engage(lambda: dict.fromkeys(WRISTS, -START))
    human = person(0.1, place=(1, 0, 0))
    lying = replace(human, points=human.points @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]))
    assert make.make(lying) is None
    np.testing.assert_array_equal(make.make(person(0.2, place=(1, 0, 0))).points["left_wrist"].value, -START)


def test_clutched_hands_keep_their_direction_while_the_person_turns(g1) -> None:
    """Place and direction of a hand are both in the axes of the engagement: a hand that stays, stays."""
    make = engaged(g1, person(0))
    before = make.make(person(0.1))
    turned = person(0.2, yaw=0.5)
    wrists = [P[wrist] for wrist in WRISTS]
    turned.points[wrists], turned.rotations[wrists] = person(0).points[wrists], person(0).rotations[wrists]
    after = make.make(turned)
    for wrist in WRISTS:
        np.testing.assert_allclose(after.points[wrist].value, before.points[wrist].value, atol=1e-12)
        np.testing.assert_allclose(after.rotations[wrist].value, before.rotations[wrist].value, atol=1e-12)


@pytest.mark.parametrize("name", ["left_hip", "pelvis", "left_wrist", "left_ankle"])
def test_a_point_that_is_no_number_counts_as_not_seen(g1_whole, name) -> None:
    """Whoever comes without the gate: no target holds a NaN, then or later."""
    make = maker(g1_whole)
    t = standing(make)
    human = person(t)
    human.points[P[name]] = np.nan
    for targets in (make.make(human), make.make(person(t + 0.1))):
        goals = (
            []
            if targets is None
            else [*targets.relative.values(), *targets.points.values(), *targets.rotations.values()]
        )
        assert all(np.isfinite(goal.value).all() for goal in goals)
    assert "pelvis" in targets.points
