"""The robot that is not there: a first-order lag within the URDF's velocity limits, against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from hsr_core.errors import ShapeError
from hsr_core.retarget.stand_in import StandIn

from .conftest import loaded

LAG_S = 0.08


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn(loaded("talos", "upper_body"), LAG_S)


def index(stand_in: StandIn, name: str) -> int:
    return stand_in.names.index(name)


def test_a_small_step_is_an_exponential(stand_in) -> None:
    i = index(stand_in, "arm_left_4_joint")
    start = stand_in.position[i]
    stand_in.command(["arm_left_4_joint"], [start + 0.1])  # 0.1 rad / 0.08 s is slower than the URDF allows
    for n in range(1, 40):
        stand_in.step(0.01)
        expected = start + 0.1 * (1 - np.exp(-n * 0.01 / LAG_S))
        assert stand_in.position[i] == pytest.approx(expected, abs=1e-12)
        assert stand_in.velocity[i] == pytest.approx((start + 0.1 - expected) / LAG_S, abs=1e-9)


def test_a_large_step_runs_at_the_urdf_s_speed_and_then_settles(stand_in) -> None:
    """Against the differential equation, integrated by scipy."""
    robot = loaded("talos", "upper_body")
    i = index(stand_in, "torso_1_joint")
    fastest = robot.model.velocityLimit[robot.model.joints[robot.model.getJointId("torso_1_joint")].idx_v]
    start, goal = stand_in.position[i], 1.0
    stand_in.command(["torso_1_joint"], [goal])
    times = np.arange(0.0, 1.0, 0.01)
    right = solve_ivp(
        lambda t, q: np.clip((goal - q) / LAG_S, -fastest, fastest), (0, 1), [start], t_eval=times, rtol=1e-9,
        atol=1e-10, max_step=1e-3,
    )  # fmt: skip
    got = [start]
    for _ in times[1:]:
        stand_in.step(0.01)
        got.append(stand_in.position[i])
    np.testing.assert_allclose(got, right.y[0], atol=1e-6)
    assert np.abs(np.diff(got)).max() <= fastest * 0.01 + 1e-12


def test_it_does_not_matter_how_time_is_cut_into_steps(stand_in) -> None:
    other = StandIn(loaded("talos", "upper_body"), LAG_S)
    names = list(loaded("talos", "upper_body").joint_names)
    goal = np.random.default_rng(1).uniform(-0.3, 0.3, len(names))
    for robot, steps in ((stand_in, [0.3]), (other, np.full(300, 1e-3))):
        robot.command(names, goal)
        for dt_s in steps:
            robot.step(dt_s)
    np.testing.assert_allclose(stand_in.position, other.position, atol=1e-12)


def test_limits_hold_whatever_is_commanded_and_what_is_not_commanded_stays(stand_in) -> None:
    robot = loaded("talos", "upper_body")
    start = stand_in.position.copy()
    stand_in.command(["arm_right_4_joint", "leg_left_4_joint", "no_joint", "head_1_joint"], [99.0, 1.0, 1.0, np.nan])
    for _ in range(1000):
        stand_in.step(0.01)
    upper = robot.model.upperPositionLimit[robot.model.joints[robot.model.getJointId("arm_right_4_joint")].idx_q]
    moved = index(stand_in, "arm_right_4_joint")
    assert stand_in.position[moved] == pytest.approx(upper)
    others = np.arange(len(start)) != moved
    assert (stand_in.position[others] == start[others]).all()  # to the bit
    assert stand_in.ignored == 3


def test_a_command_of_another_length_is_refused(stand_in) -> None:
    with pytest.raises(ShapeError, match="1 joints has 2"):
        stand_in.command(["head_1_joint"], [0.0, 1.0])
