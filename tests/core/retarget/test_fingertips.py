"""Hands that follow by fingertip vectors: what they reach, and that nothing takes them out of their limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from hsr_core.bench_hands import made_up_hand, moving_hand, pinched, poses
from hsr_core.config import with_values
from hsr_core.errors import ConfigError
from hsr_core.retarget.command import Flag, State
from hsr_core.retarget.governor import Governor
from hsr_core.retarget.hand_model import mimic_joints
from hsr_core.retarget.hand_solver import box_step
from hsr_core.retarget.hand_targets import HandGoals
from hsr_core.retarget.human import HAND_POINTS, from_points
from hsr_core.retarget.palm import palm_axes
from hsr_core.retarget.retargeter import Retargeter
from hsr_core.retarget.settings import TeleopSettings, check

from .conftest import loaded
from .hand_people import HANDS, STEP_NS, Follower, as_person, vectors_by_walk
from .people import person
from .rig import START_NS

EPS = 1e-9
each_hand = pytest.mark.parametrize(("robot", "side"), HANDS)


def random_posture(follower: Follower, rng: np.random.Generator) -> np.ndarray:
    """A posture of the whole robot with the hand anywhere in the middle four fifths of its range."""
    model, q = follower.model, follower.robot.neutral.copy()
    x = model.lower + (model.upper - model.lower) * rng.uniform(0.1, 0.9, len(model.names))
    q[model.idx_q] = model.C @ x + model.d
    return q


# the solver


@each_hand
def test_the_slope_of_the_objective_agrees_with_finite_differences(robot, side) -> None:
    """Central differences of the value, vectors near and far, pinching or not, hand seen or fading."""
    follower, rng = Follower(robot, side), np.random.default_rng(0)
    solver, model, h = follower.hand.solver, follower.model, 1e-6
    for weight in (1.0, 0.3):
        x, last = (rng.uniform(model.lower, model.upper) for _ in range(2))
        pinch = rng.uniform(0, 1, len(model.fingers))
        goals = HandGoals(np.zeros((len(model.scales), 3)), pinch, 0.02 * pinch, weight)
        points = model.place(x)
        wanted = points[model.end] - points[model.start] + rng.normal(0, 0.02, (len(model.scales), 3))

        def value(x, last=last, wanted=wanted, goals=goals):
            return solver.expand(x, last, wanted, goals, 1e-3).value

        slope = [(value(x + h * row) - value(x - h * row)) / (2 * h) for row in np.eye(len(x))]
        found = solver.expand(x, last, wanted, goals, 1e-3)
        np.testing.assert_allclose(found.c, slope, atol=1e-6)
        assert np.linalg.eigvalsh(found.H).min() > 0


def test_the_step_in_a_box_is_that_of_a_least_squares_solver() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 6, 16):
        A, b = rng.normal(size=(n + 3, n)), rng.normal(size=n + 3)
        low, high = -rng.uniform(0, 0.2, n), rng.uniform(0, 0.2, n)
        want = lsq_linear(A, b, (low - 1e-12, high + 1e-12), tol=1e-14).x
        np.testing.assert_allclose(box_step(A.T @ A, -A.T @ b, low, high), want, atol=1e-6)


def test_a_frame_never_makes_the_objective_worse() -> None:
    follower = Follower("allegro", "right", hurried=True)
    solver, model = follower.hand.solver, follower.model
    for n in range(0, 300, 7):
        goals, _ = follower.hand.targets.make((n + 1) * STEP_NS, moving_hand(n / 30, "right"), "right")
        wanted, x = goals.vectors @ model.R_root_hand.T, follower.x
        new, _ = solver.solve(x, goals, 1 / 30)
        values = [solver.expand(one, x, wanted, goals, 0.0).value for one in (x, new)]
        assert values[1] <= values[0] + EPS
        follower.q[model.idx_q] = model.C @ new + model.d


# what it reaches


@each_hand
def test_a_robots_own_posture_given_as_a_persons_hand_is_found_again(robot, side) -> None:
    """Vectors by a walk over the URDF, scaled back to a person's; the thumb of F5D6 and the hands of G1 have no choice
    of joints, so there the joints come back, too."""
    values = {"fingers.pinch_weight": 0.0, "fingers.return_s": 30.0}  # nothing but the vectors
    follower, rng = Follower(robot, side, values), np.random.default_rng(2)
    for _ in range(3):
        q = random_posture(follower, rng)
        _, error_m = follower.see(as_person(follower, q), 120)
        assert error_m < 1e-3
        got = vectors_by_walk(follower, follower.q)
        np.testing.assert_allclose(got, vectors_by_walk(follower, q), atol=1e-3)
        if not robot.startswith("allegro"):
            np.testing.assert_allclose(follower.x, q[follower.model.idx_own], atol=0.03)


@each_hand
def test_tips_meet_when_the_persons_do(robot, side) -> None:
    """Surfaces within 5 mm for each pinch that the hand is made for, and well apart before."""
    follower, every = Follower(robot, side), dict(poses(side))
    for finger in ("index", "middle", "ring"):
        if f"{finger}3" not in follower.model.mapping.pinch:
            continue
        follower.see(every["relaxed"], 45)
        assert follower.tips_apart(f"{finger}3") > 0.03
        _, _ = follower.see(every[f"{finger} pinch"], 45)
        assert abs(follower.tips_apart(f"{finger}3")) < 0.005


def test_a_pinch_fades_in_without_a_jump() -> None:
    """The person's tips close from 80 to 5 mm in 4 s: the robot's never part again, and the joints never hurry."""
    follower, base = Follower("allegro", "right"), dict(poses("right"))["index pinch"]
    follower.see(pinched(base, "index", 0.08), 60)
    follower.fastest, gaps = 0.0, []
    for apart_m in np.linspace(0.08, 0.005, 120):
        follower.see(pinched(base, "index", apart_m))
        gaps.append(follower.tips_apart("index3"))
    assert np.diff(gaps).max() < 1e-3
    assert gaps[-1] < 1e-3
    assert follower.fastest < 0.5


def test_only_the_finger_that_is_nearest_the_thumb_pinches() -> None:
    follower, hand = Follower("allegro", "right"), dict(poses("right"))["index pinch"]
    middle = HAND_POINTS.index("middle3")
    beside = hand.copy()
    beside[middle] = hand[HAND_POINTS.index("index3")] + (0, -0.03, 0)
    for points, want in ((hand, [1, 0, 0]), (beside, [1, 0, 0])):
        goals, _ = follower.hand.targets.make(follower.stamp_ns + STEP_NS, points, "right")
        follower.stamp_ns += STEP_NS
        np.testing.assert_allclose(goals.pinch, want, atol=0.05)
    both = hand.copy()
    both[middle] = hand[HAND_POINTS.index("index3")]
    goals, _ = follower.hand.targets.make(follower.stamp_ns + STEP_NS, both, "right")
    np.testing.assert_allclose(goals.pinch, [1, 1, 0], atol=0.05)


def test_only_the_shape_of_the_hand_counts() -> None:
    """Neither the axes that the points come in, nor their place, nor the size of the person's hand."""
    hand = made_up_hand(np.array([0.2, 0.5, 0.8, 0.9]))
    turn = Rotation.random(random_state=4).as_matrix()
    postures = []
    for points in (hand, hand @ turn.T + 0.3, 0.8 * hand, 1.2 * hand):
        follower = Follower("allegro", "right")
        follower.see(points, 10)
        postures.append(follower.x)
    for other in postures[1:]:
        np.testing.assert_allclose(other, postures[0], atol=1e-9)


def test_fingers_of_every_length_mean_the_same_when_they_point() -> None:
    """Body models' fingers are a third shorter for the same palm than landmarks': straight stays straight."""
    for bend in (0.05, 1.2):
        postures = []
        for part in (1.0, 0.7):
            hand = made_up_hand(np.full(4, bend))
            fingers = hand[5:].reshape(4, 4, 3)
            hand[5:] = (fingers[:, :1] + part * (fingers - fingers[:, :1])).reshape(16, 3)
            follower = Follower("allegro", "right")
            follower.see(hand, 60)
            postures.append(follower.x)
        np.testing.assert_allclose(postures[1], postures[0], atol=1e-9)


def test_tips_meet_for_short_fingers_too() -> None:
    """The distance of the tips is not stretched with the fingers."""
    hand = dict(poses("right"))["relaxed"].copy()
    index, thumb = HAND_POINTS.index("index3"), HAND_POINTS.index("thumb3")
    hand[thumb] = hand[index] + (0.01, 0, 0)
    fingers = hand[5:].reshape(4, 4, 3)
    hand[5:] = (fingers[:, :1] + 0.7 * (fingers - fingers[:, :1])).reshape(16, 3)
    hand[thumb] = hand[index] + (0.01, 0, 0)
    follower = Follower("allegro", "right")
    follower.see(hand, 60)
    assert abs(follower.tips_apart("index3")) < 0.005


def test_flicker_of_the_size_is_frozen_after_the_first_frames() -> None:
    follower, hand = Follower("allegro", "right"), made_up_hand(np.full(4, 0.4))
    follower.see(hand, 30)
    known = follower.hand.targets.sizes_m
    follower.see(1.1 * hand, 30)
    np.testing.assert_array_equal(follower.hand.targets.sizes_m, known)
    follower.hand.targets.reset()
    follower.see(1.1 * hand)
    np.testing.assert_allclose(follower.hand.targets.sizes_m, 1.1 * known)


@pytest.mark.parametrize("side", ["left", "right"])
def test_palm_axes_are_right_handed_and_the_palm_looks_along_x(side) -> None:
    """By hand: fingers up, palm to the front; the right thumb is then on the left."""
    y = 1.0 if side == "right" else -1.0
    points = np.array([(0, 0, 0), (0, 0.03 * y, 0.09), (0, -0.03 * y, 0.09)])
    np.testing.assert_allclose(palm_axes(points, side), np.eye(3), atol=1e-12)
    assert palm_axes(points * (1, 0, 1), side) is None


def test_a_mirrored_hand_moves_the_other_one() -> None:
    """The person's left hand, reflected, is their right hand: so is what the robot does."""
    hand = made_up_hand(np.array([0.9, 0.2, 0.4, 0.6]), 0.1)
    straight, mirrored = Follower("allegro", "right"), Follower("allegro", "right")
    straight.see(hand, 20)
    mirrored.see(hand * (1, -1, 1), 20, source="left")
    np.testing.assert_allclose(mirrored.x, straight.x, atol=1e-9)


def test_driven_joints_go_where_the_urdf_says() -> None:
    """The multipliers as they stand in F5D6's file; each joint within the URDF's own limits."""
    follower = Follower("f5d6", "right")
    follower.see(made_up_hand(np.array([1.2, 0.8, 0.4, 0.1])), 60)
    model = follower.robot.model

    def at(name: str) -> float:
        return follower.q[model.joints[model.getJointId(name)].idx_q]

    assert at("R_ff_j2") == pytest.approx(1.13028 * at("R_ff_j1") - 0.00053)
    assert at("R_th_j2") == pytest.approx(1.35316 * at("R_th_j1") + 0.00765)
    assert set(mimic_joints(follower.robot.urdf)) == set(follower.model.driven)
    for x in (follower.model.lower, follower.model.upper):
        q = follower.model.C @ x + follower.model.d
        assert (q >= model.lowerPositionLimit[follower.model.idx_q] - EPS).all()
        assert (q <= model.upperPositionLimit[follower.model.idx_q] + EPS).all()


# a hand that is not seen


def test_an_unseen_hand_is_held_then_fades_and_goes_back_slowly() -> None:
    """S6: 80 ms on the last target, 0.2 s of fading, then on the way to neutral; it comes back without a jump."""
    follower, fist = Follower("allegro", "right"), dict(poses("right"))["fist"]
    assert Flag.JOINT_MISSING in follower.see(None)[0]
    assert follower.see(fist, 200)[0] is Flag.NONE
    closed = follower.x
    flags, _ = follower.see(None, 2)
    assert flags is Flag.HOLDOVER
    np.testing.assert_allclose(follower.x, closed, atol=1e-3)
    flags, error_m = follower.see(None, 3)
    assert flags is Flag.JOINT_MISSING
    assert error_m is not None  # fading
    flags, error_m = follower.see(None, 5)
    assert error_m is None
    far = np.abs(follower.x - follower.model.neutral).max()
    assert far > 0.5 * np.abs(closed - follower.model.neutral).max()  # slowly
    follower.see(None, 300)
    np.testing.assert_allclose(follower.x, follower.model.neutral, atol=0.01)
    assert follower.see(fist, 90) == (Flag.NONE, pytest.approx(0.002, abs=0.003))
    assert follower.fastest <= 1 + EPS


def test_an_unseen_hand_keeps_its_fingers_where_that_is_set() -> None:
    follower = Follower("allegro", "right", {"fingers.unseen": "keep"})
    follower.see(dict(poses("right"))["fist"], 200)
    closed = follower.x
    follower.see(None, 300)
    np.testing.assert_allclose(follower.x, closed, atol=2e-3)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda hand: hand * np.nan,
        lambda hand: np.where(np.arange(21)[:, None] == 8, np.inf, hand),
        lambda hand: 0 * hand,
        lambda hand: 1000 * hand,
        lambda hand: hand * (0, 0, 1),
        lambda hand: np.where(np.arange(21)[:, None] == 8, 5.0, hand),
    ],
    ids=["nan", "inf", "one point", "huge", "a line", "a tip in the next room"],
)
def test_what_is_no_hand_counts_as_not_seen(spoil) -> None:
    follower, hand = Follower("allegro", "right"), made_up_hand(np.full(4, 0.5))
    follower.see(hand, 30)
    before = follower.x
    assert follower.see(spoil(hand))[0] is Flag.HOLDOVER
    np.testing.assert_allclose(follower.x, before, atol=0.01)


# limits

numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)
any_hand = st.one_of(
    st.none(),
    st.lists(numbers, min_size=63, max_size=63).map(lambda values: np.array(values).reshape(21, 3)),
    st.tuples(st.integers(0, 2**31), st.floats(0, 0.3)).map(
        lambda seed: made_up_hand(np.full(4, 0.5)) + np.random.default_rng(seed[0]).normal(0, seed[1], (21, 3))
    ),
    st.lists(st.floats(-3, 3), min_size=4, max_size=4).map(lambda bends: made_up_hand(np.array(bends), bends[0])),
    st.integers(0, 20).map(lambda i: np.where(np.arange(21)[:, None] == i, np.nan, made_up_hand(np.zeros(4)))),
    st.sampled_from([np.zeros((21, 3)), np.ones((21, 3)), made_up_hand(np.zeros(4)) * (0, 1, 1)]),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(HANDS),
    st.lists(st.tuples(any_hand, st.sampled_from(["left", "right"]), st.integers(1, 10**9)), min_size=1, max_size=12),
    st.integers(0, 2**31),
)
def test_whatever_hand_is_seen_every_step_is_within_limits(which, frames, seed) -> None:
    follower = Follower(*which)
    model, rng = follower.model, np.random.default_rng(seed)
    follower.q[model.idx_own] = rng.uniform(model.lower, model.upper)
    for points, source, dt_ns in frames:
        last = follower.x
        follower.see(points, source=source, dt_ns=dt_ns)
        assert np.isfinite(follower.q).all()
        assert (follower.x >= model.lower - EPS).all()
        assert (follower.x <= model.upper + EPS).all()
        assert (np.abs(follower.x - last) <= model.velocity * dt_ns * 1e-9 + EPS).all()


def test_a_joint_outside_its_limits_is_brought_in_at_its_speed() -> None:
    follower = Follower("allegro", "right")
    model = follower.model
    follower.q[model.idx_own] = model.upper + 0.25
    for _ in range(3):
        last = follower.x
        follower.see(made_up_hand(np.zeros(4)))
        assert (follower.x <= last).all()
        assert (np.abs(follower.x - last) <= model.velocity / 30 + 1e-6).all()
    assert (follower.x <= model.upper + EPS).all()


def test_the_fewest_iterations_that_are_allowed_move_a_hand() -> None:
    with pytest.raises(ConfigError, match=r"fingers\.iterations"):
        with_values(TeleopSettings(), {"fingers.iterations": 1})
    follower = Follower("allegro", "right", {"fingers.iterations": 2})
    follower.see(dict(poses("right"))["open"], 60)
    _, error_m = follower.see(dict(poses("right"))["fist"], 60)
    assert error_m < 0.005


def test_a_far_hand_is_approached_steadily() -> None:
    """From open to fist: the error falls with every frame, and is small after the time that 3 rad/s allow."""
    follower, every = Follower("allegro", "right"), dict(poses("right"))
    follower.see(every["open"], 60)
    errors = [follower.see(every["fist"])[1] for _ in range(30)]
    assert np.diff(errors).max() < 1e-4
    assert errors[-1] < 0.005


# in the whole


def test_a_hand_alone_needs_no_body_and_obeys_the_governor() -> None:
    """21 points a frame into the retargeter, its answers into the governor at 100 Hz: never over 3 rad/s."""
    robot, now = loaded("allegro", "upper_body"), START_NS
    retargeter, governor = Retargeter(robot), Governor(robot, TeleopSettings(), lambda: now)
    position, commands = robot.neutral[robot.idx_q], []
    for tick in range(1200):
        now += 10_000_000
        governor.set_joint_state(position, now)
        governor.set_deadman(tick > 20, now)
        if tick % 3 == 0:
            t_s = max(tick / 100 - 6, 0)  # the slow start is over by then
            hand = moving_hand(t_s, "right") if tick % 200 > 20 else None
            human = from_points(now - 40_000_000, 1, [], np.empty((0, 3)), right_hand=hand)
            governor.set_target(retargeter.retarget(human)[0])
        if tick == 10:
            assert governor.arm() == ""
            governor.lock(1)
        elif tick == 15:
            assert governor.engage() == ""
        command = governor.tick()
        if command is not None:
            commands.append(command)
            position = command.position
    assert governor.state is State.TRACKING
    moved = np.array([command.position for command in commands])
    assert np.abs(np.diff(moved, axis=0)).max() <= 3.0 / 100 + 1e-9
    assert np.ptp(moved, axis=0).max() > 0.5
    assert {"right_hand"} >= set(commands[-1].task_error_m)


def test_a_slow_start_counts_each_frame_once_and_tells_where_it_goes() -> None:
    """The size of the hand is the median of 30 frames; the goal is what is reached without the limit, and then met."""
    robot, fist = loaded("allegro", "upper_body"), dict(poses("right"))["fist"]
    slow, fast = Retargeter(robot), Retargeter(robot)
    start = slow.solver.q[robot.idx_q]
    for n in range(30):
        human = from_points((n + 1) * STEP_NS, 1, [], np.empty((0, 3)), right_hand=(1 if n < 14 else 1.1) * fist)
        hurried, (held, _) = fast.retarget(human)[0].position, slow.retarget(human, 0.1)
        np.testing.assert_allclose(held.goal, hurried, atol=1e-9)
        assert np.abs(held.position - start).max() <= 0.1 * (n + 1) / 30 + EPS
    assert np.abs(held.goal - held.position).max() > 0.5
    palm_m = np.linalg.norm(fist[HAND_POINTS.index("middle0")] - fist[0])
    assert slow.hands.by_vectors["right"].targets.sizes_m[0] == pytest.approx(1.1 * palm_m)
    for n in range(30, 800):
        held, _ = slow.retarget(replace(human, stamp_ns=(n + 1) * STEP_NS), 0.1)
    np.testing.assert_array_equal(held.goal, held.position)


@pytest.mark.parametrize("mirror", [False, True])
def test_arms_and_fingertips_move_together_on_a_humanoid(mirror) -> None:
    robot = loaded("g1_hands", "upper_body")
    retargeter = Retargeter(robot, with_values(TeleopSettings(), {"mirror": mirror}))
    fist = dict(poses("left"))["fist"]
    for n in range(60):
        human = person(n / 30, left_hand=fist)
        target, solution = retargeter.retarget(human)
    side, other = ("right", "left") if mirror else ("left", "right")
    i, j = (robot.joint_names.index(f"{one}_hand_index_0_joint") for one in (side, other))
    assert abs(target.position[i]) > 0.8
    assert abs(target.position[j]) < 0.1
    assert set(target.task_error_m) >= {f"{side}_hand", "left_wrist"}
    assert Flag.JOINT_MISSING in target.flags  # the other hand was never seen
    frozen = np.setdiff1d(np.arange(robot.model.nq), robot.idx_q)
    np.testing.assert_array_equal(solution.q[frozen], robot.neutral[frozen])


def test_settings_of_pinches_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"pinch_far_m 0\.02 must be more than"):
        check(with_values(TeleopSettings(), {"fingers.pinch_far_m": 0.02}), 1.5)


def test_hands_hold_no_memory_of_another_person() -> None:
    robot = loaded("allegro", "upper_body")
    retargeter = Retargeter(robot)
    human = from_points(STEP_NS, 1, [], np.empty((0, 3)), right_hand=made_up_hand(np.zeros(4)))
    retargeter.retarget(human)
    retargeter.forget()
    unseen = replace(human, stamp_ns=2 * STEP_NS, right_hand=None)
    assert Flag.JOINT_MISSING in retargeter.retarget(unseen)[0].flags
