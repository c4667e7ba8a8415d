"""The solver: tracking, limits, barriers and what happens when they contradict each other."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsr_core.config import with_values
from hsr_core.retarget import solve as solve_module
from hsr_core.retarget.barriers import Barriers
from hsr_core.retarget.collision import Capsules, Watched, closest_points
from hsr_core.retarget.command import Flag
from hsr_core.retarget.frames import R_REST
from hsr_core.retarget.human import POINTS, P
from hsr_core.retarget.mapping import Capsule
from hsr_core.retarget.retargeter import Retargeter
from hsr_core.retarget.robot import load_robot
from hsr_core.retarget.settings import CollisionSettings, TeleopSettings
from hsr_core.retarget.solve import Solver
from hsr_core.retarget.targets import Goal, Targets

from .conftest import loaded
from .people import FRONT, as_robot, person, squat, unit

EPS = 1e-9


def set_up(robot, values: dict | None = None) -> Retargeter:
    return Retargeter(robot, with_values(TeleopSettings(), values or {}))


def swaying(robot, t: float) -> np.ndarray:
    """A smooth motion of all commanded joints about the neutral posture, well inside the limits."""
    q = robot.neutral.copy()
    centre = np.clip(q[robot.idx_q], robot.lower + 0.25, robot.upper - 0.25)
    phase = np.arange(len(centre))
    q[robot.idx_q] = centre + 0.2 * np.sin(2 * np.pi * 0.25 * t + phase)
    return q


# tracking


def test_a_motion_inside_the_reach_is_tracked(upper) -> None:
    """End effectors within 2 cm RMS of the robot's own motion, given as a grown person's."""
    retargeter, errors = set_up(upper), []
    for i in range(150):
        q = swaying(upper, i / 30)
        _, solution = retargeter.retarget(as_robot(upper, q, i / 30))
        want, got = upper.frame_placements(q), upper.frame_placements(solution.q)
        if i > 30:  # the way from the neutral posture is over
            errors += [np.linalg.norm(want[f"{s}_wrist"][:3, 3] - got[f"{s}_wrist"][:3, 3]) for s in ("left", "right")]
    assert np.sqrt(np.mean(np.square(errors))) < 0.02


def test_the_reported_error_is_the_distance_to_the_unlimited_target(g1) -> None:
    human = person(0, {"left_arm": (FRONT, FRONT)})
    target, solution = set_up(g1).retarget(human)
    placed = g1.frame_placements(solution.q)
    reach = g1.lengths["left_shoulder", "left_elbow"] + g1.lengths["left_elbow", "left_wrist"]
    vector = placed["left_wrist"][:3, 3] - placed["left_shoulder"][:3, 3]
    assert target.task_error_m["left_wrist"] == pytest.approx(np.linalg.norm(vector - reach * FRONT))
    assert target.task_error_m["left_wrist"] > 0.1  # one frame's way at 1.5 rad/s is not far


def test_from_far_away_the_error_falls_all_the_way(g1) -> None:
    """On target within the time that 1.5 rad/s and the acceleration allow."""
    retargeter = set_up(g1)
    human = person(0, {f"{s}_arm": (unit(0.2, y, 0.1), unit(0.6, y, 0.4)) for s, y in (("left", 1), ("right", -1))})
    errors, positions = [], []
    for i in range(90):
        target, _ = retargeter.retarget(replace(human, stamp_ns=round(i / 30 * 1e9)))
        errors.append(target.task_error_m["left_wrist"] + target.task_error_m["right_wrist"])
        positions.append(target.position)
    assert np.all(np.diff(errors) < 2e-3)
    assert errors[-1] < 0.04
    way = np.abs(positions[-1] - g1.neutral[g1.idx_q]).max()
    there = next(i for i, error in enumerate(errors) if error < 0.05)
    assert there <= (way / 1.5 + 0.3) * 30


def test_the_frame_rate_changes_the_way_little_and_the_limits_not_at_all(g1) -> None:
    """The same motion at 15, 30 and 60 Hz ends within 5 mm, at the same bound of speed."""
    ends, fastest = [], []
    for rate in (15, 30, 60):
        retargeter, last, speed = set_up(g1), None, 0.0
        for i in range(2 * rate):
            t = i / rate
            target, solution = retargeter.retarget(as_robot(g1, swaying(g1, min(t, 1.5)), t))
            if last is not None:
                way = np.abs(target.position - last.position).max()
                speed = max(speed, way / (target.stamp_ns - last.stamp_ns))
            last = target
        ends.append(g1.frame_placements(solution.q)["left_wrist"][:3, 3])
        fastest.append(speed)
    assert max(np.linalg.norm(a - b) for a in ends for b in ends) < 0.005
    assert max(fastest) * 1e9 <= 1.5 + EPS


def test_the_same_frames_give_the_same_postures(g1) -> None:
    runs = []
    for _ in range(2):
        retargeter = set_up(g1)
        runs.append([retargeter.retarget(as_robot(g1, swaying(g1, i / 30), i / 30))[0].position for i in range(20)])
    assert np.array_equal(*runs)


def test_moving_the_world_moves_the_base_and_no_joint(g1_whole) -> None:
    """A turn about the vertical and a shift on the floor."""
    a, b = set_up(g1_whole), set_up(g1_whole)
    yaw, shift = 0.8, np.array([2.0, -1.0, 0])
    R = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, shift
    b.start_from(g1_whole.configuration(g1_whole.neutral[g1_whole.idx_q], T))
    for i in range(60):
        human = person(i / 30, {"left_arm": (unit(1, 0, -1), FRONT)}, place=(0.1 * np.sin(i / 9), 0, 0))
        moved = replace(human, points=human.points @ R.T + shift, rotations=R @ human.rotations)
        first, second = a.retarget(human), b.retarget(moved)
    np.testing.assert_allclose(second[0].position, first[0].position, atol=1e-6)
    np.testing.assert_allclose(second[0].T_world_base, T @ first[0].T_world_base, atol=1e-6)


@pytest.mark.parametrize("name", ["g1", "talos", "jvrc1"])
def test_feet_stand_still_while_the_body_goes_down_and_up(name) -> None:
    robot = loaded(name, "whole_body")
    retargeter, feet, heights = set_up(robot), [], []
    for i in range(180):
        legs, place = squat(0.06 + 0.05 * np.sin(2 * np.pi * 0.4 * i / 30))
        answer = retargeter.retarget(person(i / 30, legs, place=place))
        if i > 75:
            placed = robot.frame_placements(answer[1].q)
            feet.append([placed[f"{s}_ankle"][:3, 3] for s in ("left", "right")])
            heights.append(placed["pelvis"][2, 3])
            assert retargeter.targets.contacts.on == [True, True]
    slide = np.ptp(np.array(feet), axis=0)
    assert slide.max() < 0.01
    assert np.ptp(heights) > 0.04


def test_missing_hands_leave_the_arm_to_the_posture(g1) -> None:
    retargeter = set_up(g1)
    human = person(0, {"left_arm": (unit(0, 1, 0), unit(0, 1, 0))})
    for i in range(60):
        retargeter.retarget(replace(human, stamp_ns=round(i / 30 * 1e9)))
    valid = human.valid.copy()
    valid[[P[f"left_{part}"] for part in ("shoulder", "elbow", "wrist")]] = False
    for i in range(60, 180):
        target, _ = retargeter.retarget(replace(human, stamp_ns=round(i / 30 * 1e9), valid=valid))
    assert target.flags & Flag.JOINT_MISSING
    i = g1.joint_names.index("left_shoulder_roll_joint")
    assert target.position[i] == pytest.approx(g1.neutral[g1.idx_q[i]], abs=0.02)


def test_joints_that_are_not_commanded_stay_where_they_were_measured() -> None:
    robot = loaded("g1", "upper_body")
    solver = Solver(robot)
    measured = robot.neutral + 0.01
    solver.set_frozen(measured)
    solution = solver.solve(Targets(relative={"left_wrist": Goal(np.array([0.3, 0.1, 0]))}), 1 / 30)
    other = np.setdiff1d(np.arange(len(measured)), robot.idx_q)
    np.testing.assert_array_equal(solution.q[other], measured[other])


def test_fingers_follow_the_hand() -> None:
    """JVRC-1 has no fingertips to bring anywhere: its fingers follow how far a finger is bent."""
    robot = loaded("jvrc1", "upper_body")
    hand = np.zeros((21, 3))
    for f in range(5):
        hand[1 + 4 * f : 5 + 4 * f, 0] = 0.08 + 0.02 * np.arange(4)
    fist = hand.copy()
    fist[[6, 7, 8]] = hand[5] + np.array([(0, 0, -0.02), (-0.02, 0, -0.02), (-0.02, 0, 0)])
    i, other = (robot.joint_names.index(name) for name in ("L_UINDEX", "R_UINDEX"))

    def follow(held: np.ndarray, joint: int, **changes: bool) -> np.ndarray:
        retargeter = set_up(robot, changes)
        frames = [retargeter.retarget(replace(person(n / 30), left_hand=held)) for n in range(30)]
        return np.array([frame[0].position[joint] for frame in frames])

    closing = follow(fist, i)
    assert abs(follow(hand, i)[-1]) < 0.1
    assert closing[-1] == pytest.approx(-1.4)
    assert follow(fist, other, mirror=True)[-1] == pytest.approx(1.4)
    assert np.abs(np.diff(closing)).max() == pytest.approx(robot.velocity[i] / 30)  # no governor is behind it in files
    assert not robot.solved[i]


# limits

directions = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


@cache
def one_solver(name: str) -> Solver:
    return Solver(loaded(name, "upper_body"))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.sampled_from(["g1", "talos"]),
    st.lists(st.tuples(directions, directions, st.floats(0.004, 0.2)), min_size=1, max_size=5),
)
def test_whatever_the_targets_the_limits_hold(name, sequence) -> None:
    """Teleporting wrists, unreachable or inside the robot: position and speed, exactly."""
    solver = one_solver(name)
    robot = solver.robot
    solver.reset(robot.neutral)
    for left, right, dt in sequence:
        before = solver.q[robot.idx_q]
        targets = Targets(relative={f"{s}_wrist": Goal(np.array(v)) for s, v in (("left", left), ("right", right))})
        solution = solver.solve(targets, dt)
        assert (solution.position >= robot.lower - EPS).all()
        assert (solution.position <= robot.upper + EPS).all()
        assert (np.abs(solution.position - before) <= robot.velocity * min(dt, 0.1) + EPS).all()
        assert np.isfinite(solution.q).all()


def test_a_slow_start_is_slow(g1) -> None:
    solver = Solver(g1)
    before = solver.q[g1.idx_q]
    solution = solver.solve(Targets(relative={"left_wrist": Goal(np.array([0.3, 0, 0.2]))}), 0.05, speed_rad_s=0.3)
    assert np.abs(solution.position - before).max() <= 0.3 * 0.05 + EPS
    assert solution.flags & Flag.LIMITED_VELOCITY


def test_more_iterations_do_not_mean_more_speed(g1) -> None:
    for k in (1, 2, 10):
        solver = Solver(g1, with_values(TeleopSettings(), {"solver.iterations": k}).solver)
        before = solver.q[g1.idx_q]
        solution = solver.solve(Targets(relative={"left_wrist": Goal(np.array([0, 0.4, 0.4]))}), 1 / 30)
        assert np.abs(solution.position - before).max() <= 1.5 / 30 + EPS


def test_a_robot_that_stands_outside_its_limits_is_brought_in_at_its_speed(g1) -> None:
    solver = Solver(g1)
    q = g1.neutral.copy()
    i = g1.joint_names.index("left_elbow_joint")
    q[g1.idx_q[i]] = g1.upper[i] + 0.03
    solver.reset(q)
    for _ in range(3):
        before = solver.q[g1.idx_q[i]]
        position = solver.solve(Targets(), 1 / 100).position[i]
        assert before - 1.5 / 100 - EPS <= position < before
    assert position <= g1.upper[i] + EPS


def test_acceleration_rows_hold_from_frame_to_frame(g1) -> None:
    solver, last, v = Solver(g1), g1.neutral[g1.idx_q], np.zeros(len(g1.idx_q))
    for i in range(40):
        goal = np.array([0.2, 0.3, 0.1]) * (1 if i // 10 % 2 else -1)
        position = solver.solve(Targets(relative={"left_wrist": Goal(goal)}), 1 / 60).position
        now = (position - last) * 60
        if not solver.counts["acceleration"]:
            assert np.abs(now - v).max() <= 60 / 60 + 1e-6
        last, v = position, now


# S9: what is given up, in which order


def test_first_the_acceleration_rows_are_dropped(g1) -> None:
    """At full speed a millimetre before its limit no joint can keep both: the position wins."""
    solver = Solver(g1)
    i = g1.joint_names.index("left_elbow_joint")
    q = g1.neutral.copy()
    q[g1.idx_q[i]] = g1.upper[i] - 0.001
    solver.reset(q)
    solver._v[i] = 1.5
    solution = solver.solve(Targets(), 1 / 120)
    assert solver.counts == {"acceleration": 2} or solver.counts == {"acceleration": 1}
    assert solution.flags & Flag.FALLBACK_QP
    assert solution.position[i] <= g1.upper[i]


def contradicting(self, data):
    """Rows that want one joint to go both ways."""
    rows = np.zeros((2, self._model.nv))
    rows[0, -1], rows[1, -1] = 1, -1
    return rows, np.array([0.02, 0.02])


def test_then_the_barriers_become_penalties(g1, monkeypatch) -> None:
    monkeypatch.setattr(Barriers, "rows", contradicting)
    monkeypatch.setattr(Barriers, "measure", lambda self, data: self.margins)
    solver = Solver(g1)
    before = solver.q[g1.idx_q]
    solution = solver.solve(Targets(), 1 / 30)
    assert solver.counts == {"acceleration": 2, "barriers": 2}
    assert solution.flags & Flag.FALLBACK_QP
    assert (np.abs(solution.position - before) <= g1.velocity / 30 + EPS).all()


def test_at_last_nothing_is_solved_and_the_robot_brakes(g1, monkeypatch) -> None:
    monkeypatch.setattr(solve_module, "_daqp", lambda *args: None)
    solver = Solver(g1)
    solver._v[:] = 1.0
    speeds, last = [], solver.q[g1.idx_q]
    for _ in range(8):
        solution = solver.solve(Targets(), 1 / 100)
        speeds.append((solution.position - last) * 100)
        last = solution.position
    assert solver.counts["braked"] == 16
    assert solution.flags & Flag.FALLBACK_QP
    falls = -np.diff(np.array([np.ones(len(last)), *speeds]), axis=0)
    assert (falls >= -EPS).all()
    assert (falls <= 20 / 100 + 1e-6).all()
    assert not speeds[-1].any()


# S10: collisions


def test_distances_of_capsules_agree_with_a_collision_library(whole) -> None:
    """hpp-fcl's, in random postures."""
    import hppfcl
    import pinocchio as pin

    capsules, data = whole.capsules, whole.model.createData()
    rng = np.random.default_rng(0)
    q = whole.configuration(rng.uniform(whole.lower, whole.upper))
    pin.framesForwardKinematics(whole.model, data, q)
    ends = capsules.place(data.oMf)
    clearance, _, _ = capsules.distances(ends)
    radius = [c.radius for c in whole.mapping.capsules]
    shapes = []
    for (a, b), r in zip(ends, radius, strict=True):
        length = np.linalg.norm(b - a)
        along = (b - a) / length if length > 1e-9 else np.array([0, 0, 1.0])
        R = pin.Quaternion.FromTwoVectors(np.array([0, 0, 1.0]), along)
        shapes.append((hppfcl.Capsule(r, length), hppfcl.Transform3f(R.matrix(), (a + b) / 2)))
    for pair, (i, j) in enumerate(zip(capsules.first, capsules.second, strict=True)):
        result = hppfcl.DistanceResult()
        hppfcl.distance(shapes[i][0], shapes[i][1], shapes[j][0], shapes[j][1], hppfcl.DistanceRequest(True), result)
        assert clearance[pair] == pytest.approx(result.min_distance, abs=1e-6)


def test_closest_points_are_no_farther_than_any_other() -> None:
    rng = np.random.default_rng(0)
    ends = rng.normal(size=(4, 200, 3))
    ends[1, :20] = ends[0, :20]  # points
    ends[3, 10:30] = ends[2, 10:30]
    ends[3, 30:40] = ends[2, 30:40] + (ends[1, 30:40] - ends[0, 30:40])  # parallel
    p, q = closest_points(*ends)
    best = np.linalg.norm(p - q, axis=1)
    for s in np.linspace(0, 1, 21):
        for t in np.linspace(0, 1, 21):
            other = ends[0] + s * (ends[1] - ends[0]) - ends[2] - t * (ends[3] - ends[2])
            assert (np.linalg.norm(other, axis=1) >= best - 1e-9).all()


def through_the_chest(robot, seconds: float = 4.0, **values):
    """Both hands cross in the middle of the chest; return the least clearance of the commanded postures [m], ..."""
    retargeter = set_up(robot, values)
    data, least, flags = robot.model.createData(), np.inf, Flag.NONE
    import pinocchio as pin

    for i in range(round(seconds * 30)):
        u = min(i / 60, 1)
        limbs = {
            f"{s}_arm": (unit(0.6, y * (0.5 - u), -0.9), unit(0.4 - 0.7 * u, -y * (0.2 + u), 0.3))
            for s, y in (("left", 1), ("right", -1))
        }
        target, solution = retargeter.retarget(person(i / 30, limbs))
        flags |= target.flags
        pin.framesForwardKinematics(robot.model, data, solution.q)
        least = min(least, robot.capsules.distances(robot.capsules.place(data.oMf))[0].min())
    return least, flags, retargeter


@pytest.mark.parametrize(("name", "least"), [("g1", 0), ("talos", 0.009), ("jvrc1", 0.009)])
def test_hands_that_would_go_through_the_chest_are_kept_off(name, least) -> None:
    """G1's short arms bring the two hands onto each other at full speed: there the last check holds them apart."""
    robot = loaded(name, "upper_body")
    free, _, _ = through_the_chest(robot, **{"collision.enabled": False})
    kept, flags, retargeter = through_the_chest(robot)
    assert free < -0.02
    assert kept > least
    assert flags & Flag.BARRIER_ACTIVE
    assert retargeter.solver._barriers.margins.min() > 0.005  # and at rest


def test_a_step_into_a_collision_is_not_taken(g1, monkeypatch) -> None:
    """Without the rows, one long step brings the hands into each other."""

    def no_rows(self, data):
        self.measure(data)
        return np.zeros((0, self._model.nv)), np.zeros(0)

    monkeypatch.setattr(Barriers, "rows", no_rows)
    solver = Solver(g1)
    goals = {"left_wrist": (0.2, -0.15, -0.1), "right_wrist": (0.2, 0.15, -0.1)}
    targets = Targets(relative={part: Goal(np.array(vector)) for part, vector in goals.items()})
    for _ in range(60):
        before = solver.q.copy()
        solution = solver.solve(targets, 1 / 30)
        assert solver._barriers.margins.min() > 0
        if solution.flags & Flag.COLLISION:
            break
    np.testing.assert_array_equal(solution.q, before)
    assert solver.counts["collision"] == 1


def test_hands_stay_in_their_workspace(g1) -> None:
    """A wall 25 cm before the robot: the hand that would go 35 cm stops at it, and slides along it."""
    box = np.array([-0.5, -0.6, -0.3]), np.array([0.25, 0.6, 0.6])
    robot = replace(g1, workspace={"left_wrist": box})
    retargeter, xs = set_up(robot), []
    for i in range(90):
        human = person(i / 30, {"left_arm": (FRONT, unit(1, 0, 0.6 * np.sin(i / 15)))})
        _, solution = retargeter.retarget(human)
        xs.append(robot.frame_placements(solution.q)["left_wrist"][:3, 3])
    free = set_up(g1)
    for i in range(90):
        _, solution = free.retarget(person(i / 30, {"left_arm": (FRONT, FRONT)}))
    assert g1.frame_placements(solution.q)["left_wrist"][0, 3] > 0.3
    assert np.max(xs, axis=0)[0] < 0.25 + 1e-3
    assert np.max(xs, axis=0)[0] > 0.24
    assert np.ptp(np.array(xs)[45:, 2]) > 0.05


def test_watched_pairs_enter_near_and_leave_far() -> None:
    watched = Watched(0.06, 0.08, 2)
    assert list(watched.update(np.array([0.07, 0.05, 0.2]))) == [1]
    assert list(watched.update(np.array([0.055, 0.07, 0.2]))) == [0, 1]
    assert list(watched.update(np.array([0.07, 0.07, 0.05]))) == [2, 0]  # the nearest two
    assert list(watched.update(np.array([0.09, 0.09, 0.09]))) == []


def test_a_barriers_row_is_the_derivative_of_the_distance(g1) -> None:
    """Against finite differences, in a posture with near pairs."""
    import pinocchio as pin

    robot = replace(g1, workspace={"left_wrist": (np.full(3, -0.4), np.full(3, 0.4))})
    solver = Solver(robot, collision=CollisionSettings(enter_m=0.5, leave_m=2.0, pairs=20))
    rng = np.random.default_rng(1)
    q = g1.configuration(rng.uniform(g1.lower, g1.upper) * 0.3 + 0.7 * g1.neutral[g1.idx_q])
    solver._configuration.update(q)
    rows, _ = solver._barriers.rows(solver._configuration.data)
    pairs = solver._barriers._watched.update(solver._barriers.margins[: len(g1.capsules)])
    walls = len(g1.capsules) + np.flatnonzero(solver._barriers.margins[len(g1.capsules) :] < 0.5)
    assert len(pairs) > 10
    assert len(walls) >= 3
    h = 1e-6
    for i in g1.idx_v:
        step = np.zeros(g1.model.nv)
        step[i] = h
        plus, minus = (solver._placed(pin.integrate(robot.model, q, s * step)) for s in (1, -1))
        slope = (plus - minus) / (2 * h)
        np.testing.assert_allclose(rows[: len(pairs), i], slope[pairs], atol=1e-5)
        np.testing.assert_allclose(rows[len(pairs) :, i], slope[walls], atol=1e-5)


def test_tasks_have_true_derivatives(g1_whole) -> None:
    """pink's convention: the error's derivative along dq is the Jacobian."""
    import pinocchio as pin
    from pink import Configuration

    from hsr_core.retarget.tasks import PointTask, RotationTask, VectorTask

    model = g1_whole.model
    q = pin.randomConfiguration(model, -np.ones(model.nq), np.ones(model.nq))
    frames = g1_whole.frames
    vector = VectorTask(frames["left_shoulder"], frames["left_wrist"], 1.0, 0.0)
    vector.target = np.array([0.1, 0.2, 0.3])
    configuration = Configuration(model, model.createData(), q)
    point, turn = PointTask("left_wrist_yaw_link", 1.0, 0.0), RotationTask("left_wrist_yaw_link", 1.0, 0.0)
    point.aim(configuration, np.array([0.3, 0.1, 0.2]))
    turn.aim(configuration, R_REST)
    for task, rows in ((vector, slice(0, 3)), (point, slice(0, 3)), (turn, slice(3, 6))):
        J, h = task.compute_jacobian(configuration)[rows], 1e-6
        for i in range(0, model.nv, 5):
            step = np.zeros(model.nv)
            step[i] = h
            moved = (Configuration(model, model.createData(), pin.integrate(model, q, s * step)) for s in (1, -1))
            plus, minus = (task.compute_error(there)[rows] for there in moved)
            np.testing.assert_allclose(J[:, i], (plus - minus) / (2 * h), atol=1e-5)


def test_capsules_without_pairs_cost_nothing() -> None:
    capsules = Capsules([Capsule("a", (0, 0, 0), (0, 0, 1), 0.1)], [0], [])
    assert len(capsules) == 0
    assert len(POINTS) == 18
    assert load_robot is not None
