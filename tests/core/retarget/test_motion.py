"""Joints within bounds: whatever the reference and the time steps."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hsr_core.retarget.motion import BoundedMotion

N = 3
SPEED, ACCELERATION = np.array([1.5, 1.0, 3.0]), np.array([20.0, 5.0, 60.0])
LOWER, UPPER = np.array([-1.0, -0.3, 0.0]), np.array([1.0, 0.4, 2.0])
EPS = 1e-9
"""Rounding of a product of small numbers, far below any encoder."""

any_number = st.floats(-1e6, 1e6)
steps = st.lists(
    st.tuples(st.sampled_from(["follow", "brake"]), st.tuples(*[any_number] * 3), st.floats(1e-3, 0.1)),
    min_size=5,
    max_size=60,
)


def made(q=(0.5, 0.0, 1.0)) -> BoundedMotion:
    motion = BoundedMotion(LOWER, UPPER, SPEED, ACCELERATION)
    motion.start(np.array(q))
    return motion


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps, st.lists(st.floats(-3, 3), min_size=N, max_size=N), st.floats(0, 5))
def test_position_speed_and_acceleration_stay_bounded(sequence, start, most) -> None:
    motion = made(start)
    low, high = np.minimum(LOWER, start), np.maximum(UPPER, start)
    q, v = motion.q.copy(), motion.v.copy()
    for kind, reference, dt in sequence:
        if kind == "follow":
            motion.follow(np.array(reference), np.array(reference)[::-1], most, dt)
        else:
            motion.brake(dt)
        assert (motion.q >= low - EPS).all()
        assert (motion.q <= high + EPS).all()
        assert (np.abs(motion.v) <= SPEED + EPS).all()
        assert (np.abs(motion.v - v) <= ACCELERATION * dt + EPS).all()
        np.testing.assert_allclose(motion.q - q, motion.v * dt, atol=1e-12)
        q, v = motion.q.copy(), motion.v.copy()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(1e-3, 0.1), min_size=30, max_size=30))
def test_a_joint_that_runs_at_its_limit_can_always_brake(dts) -> None:
    """Full speed at a position limit with any time steps: it stops inside, within the acceleration."""
    motion = made()
    for dt in dts:
        v = motion.v.copy()
        motion.follow(np.full(N, 99.0), np.full(N, 99.0), np.inf, dt)
        assert (motion.v - v >= -ACCELERATION * dt - EPS).all()
    assert (motion.q <= UPPER).all()


def test_it_is_a_bang_bang_of_known_time_to_a_far_place() -> None:
    """1 rad at 1 rad/s and 5 rad/s²: 0.2 s to speed up and as long to slow down, 1.2 s in all (and the soft end)."""
    motion = BoundedMotion([-3], [3], [1.0], [5.0])
    motion.start(np.zeros(1))
    errors = []
    for _ in range(300):
        motion.follow(np.ones(1), np.zeros(1), np.inf, 0.005)
        errors.append(1 - motion.q[0])
    assert np.all(np.diff(errors) <= 1e-12)
    assert min(errors) >= -1e-12
    within = next(i for i, error in enumerate(errors) if error < 0.005) * 0.005
    assert 1.1 < within < 1.35


def test_a_steady_reference_is_followed_without_lag() -> None:
    motion = BoundedMotion([-9], [9], [3.0], [20.0])
    motion.start(np.zeros(1))
    for i in range(200):
        motion.follow(np.array([0.01 * i]), np.array([1.0]), np.inf, 0.01)
    assert abs(motion.q[0] - 1.99) < 0.011


def test_a_joint_outside_its_limits_comes_in_and_goes_no_farther_out() -> None:
    motion = made((1.2, 0.0, 1.0))
    motion.follow(np.array([5.0, 0, 1]), np.zeros(N), np.inf, 0.01)
    assert motion.q[0] == 1.2
    for _ in range(100):
        motion.follow(np.zeros(N), np.zeros(N), np.inf, 0.01)
    assert motion.q[0] < 1


def test_braking_ends_at_rest_to_the_bit() -> None:
    motion = made()
    for _ in range(20):
        motion.follow(np.full(N, 9.0), np.full(N, 9.0), np.inf, 0.01)
    for _ in range(40):
        motion.brake(0.01)
    assert motion.at_rest
    held = motion.q.copy()
    motion.brake(0.01)
    assert (motion.q == held).all()
