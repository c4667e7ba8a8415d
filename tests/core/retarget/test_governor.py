"""The governor: each rule is broken on purpose, on a clock of its own."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsr_core.config import with_values
from hsr_core.errors import ConfigError, ShapeError
from hsr_core.retarget.command import MOVING, Flag, State
from hsr_core.retarget.governor import Governor
from hsr_core.retarget.settings import TeleopSettings
from hsr_core.retarget.states import TRANSITIONS, Event, after

from .rig import DT_NS, N, Rig, joints, speeds

SPEED, ACCELERATION = 1.5, 20.0
EPS = 1e-6
BRAKING_S = SPEED / ACCELERATION


def moving(rig: Rig) -> Rig:
    """TRACKING at full speed."""
    rig.track()
    rig.goal = np.full(N, 1.5)
    rig.run(0.3)
    assert rig.governor.state is State.TRACKING
    assert abs(rig.commands[-1].velocity).max() > 1
    return rig


def comes_to_rest(rig: Rig, seconds: float = 1.0) -> None:
    """It brakes at its acceleration, then the posture is constant to the bit (HOLD), or nothing is sent (STOPPED)."""
    sent = [command for command in rig.run(seconds) if command is not None]
    at_rest = next(i for i, command in enumerate(sent) if not command.velocity.any())
    assert at_rest <= BRAKING_S * 1e9 / DT_NS + 2
    assert all((command.position == sent[at_rest].position).all() for command in sent[at_rest:])
    assert np.nanmax(np.abs(np.diff(speeds(sent), axis=0))) <= ACCELERATION * DT_NS * 1e-9 + EPS


# the ordinary way


def test_it_follows_from_arm_to_tracking() -> None:
    rig = Rig()
    assert rig.run(0.1) == [None] * 10
    assert rig.governor.arm() == ""
    rig.governor.lock(1)
    assert rig.run(0.1) == [None] * 10
    assert rig.governor.state is State.READY
    rig.goal = np.full(N, 0.4)
    assert rig.governor.engage() == ""
    assert rig.run(0.1) == [None] * 10  # a service moves nothing
    rig.pressed = True
    first = rig.tick()
    assert (first.state, first.seq) == (State.ENGAGING, 0)
    assert abs(first.position).max() < 1e-3
    commands = rig.run(3.5)
    assert rig.governor.state is State.TRACKING
    assert [c.seq for c in commands] == list(range(1, len(commands) + 1))
    np.testing.assert_allclose(commands[-1].position, 0.4, atol=1e-3)
    assert commands[-1].joint_names == rig.robot.joint_names
    assert commands[-1].age_ms == pytest.approx((commands[-1].command_stamp_ns - commands[-1].stamp_ns) * 1e-6)


def test_the_slow_start_takes_its_time_and_the_far_one_longer() -> None:
    """S3: at least 2 s, at 0.3 rad/s until every joint is within 0.35 rad."""
    for goal, least_s in ((0.1, 2.0), (1.55, (1.55 - 0.35) / 0.3)):
        rig = Rig()
        rig.goal = np.full(N, goal)
        rig.engage()
        commands = rig.run(7)
        slow = [c for c in commands if c.state is State.ENGAGING]
        assert len(slow) * DT_NS * 1e-9 >= least_s - 0.05
        assert max(abs(c.velocity).max() for c in slow) <= 0.3 + EPS
        error = [abs(c.position - goal).max() for c in commands]
        assert np.all(np.diff(error) <= 1e-9)
        assert error[round((goal / 0.3 + 1) * 100)] < 0.01


def test_targets_at_20_hz_come_out_as_smooth_motion_less_than_a_frame_late() -> None:
    """Phase of a sine of 0.4 Hz against that of what was sent; from arrival, the camera's own latency aside."""
    rig, hz = Rig(), 0.4
    rig.frame_every_ns = 50_000_000
    rig.track()
    start, positions, times = rig.now, [], []
    for _ in range(750):
        rig.goal = np.full(N, 0.4 * np.sin(2 * np.pi * hz * (rig.now + DT_NS - start) * 1e-9))
        positions.append(rig.tick().position[0])
        times.append((rig.now - start) * 1e-9)
    positions, times = np.array(positions[250:]), np.array(times[250:])
    phase = np.angle(1j * np.sum(positions * np.exp(-2j * np.pi * hz * times)))
    assert 0 < -phase / (2 * np.pi * hz) < 0.050
    assert np.abs(np.diff(positions, 2)).max() < ACCELERATION * 1e-4 + EPS


# S1 freshness


def test_frames_that_stop_hold_the_robot_and_then_stop_it() -> None:
    rig = moving(Rig())
    rig.goal = None
    last_ns = rig.commands[-1].stamp_ns
    states = [(c, rig.now) for c in rig.run(1.0)]
    held = next(c for c, _ in states if c is not None and c.state is State.HOLD)
    stopped = next((c for c, _ in states if c is not None and c.state is State.STOPPED), None)
    assert 200 <= (held.command_stamp_ns - last_ns) * 1e-6 < 250
    assert stopped is None or (stopped.command_stamp_ns - last_ns) * 1e-6 >= 500
    assert rig.governor.state is State.STOPPED
    assert rig.governor.reason == "no fresh frame"


def test_five_seconds_of_silence_and_then_frames_move_nothing() -> None:
    rig = moving(Rig())
    rig.goal = None
    rig.run(5.0)
    rig.goal = np.full(N, -1.0)
    assert rig.run(1.0) == [None] * 100


def test_an_old_stamp_is_stale_however_fresh_its_arrival() -> None:
    rig = moving(Rig())
    rig.latency_ns = 250_000_000
    rig.run(0.3)
    assert rig.governor.state is State.HOLD
    assert rig.governor.reason == "frame too old"


@pytest.mark.parametrize("latency_ns", [-30_000_000, -5_000_000_000, 3_600_000_000_000])
def test_stamps_of_the_future_or_running_back_count_as_stale(latency_ns) -> None:
    rig = moving(Rig())
    rig.latency_ns = latency_ns
    rig.run(0.4)
    assert rig.governor.state is State.HOLD
    assert rig.governor.counts["target_stamp"] > 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"freshness.hold_s": 0.4}, "lets an arm travel 0.60 rad"),
        ({"freshness.source_hz": 5.0}, "shorter than 1.5 periods"),
        ({"freshness.stop_s": 0.1}, "must be longer than freshness.hold_s"),
        ({"collision.leave_m": 0.02}, "clearance_m < enter_m <= leave_m"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Governor(joints(), with_values(TeleopSettings(), values))


def test_single_settings_have_bounds() -> None:
    for values in ({"limits.acceleration_rad_s2": 61.0}, {"engage.min_s": 1.0}, {"deadman.timeout_s": 3.0}):
        with pytest.raises(ConfigError, match=r"must lie in"):
            with_values(TeleopSettings(), values)


# S2 deadman


def test_a_released_deadman_brakes_in_the_same_tick() -> None:
    rig = moving(Rig())
    rig.pressed = False
    before = rig.commands[-1].velocity
    command = rig.tick()
    assert command.state is State.HOLD
    assert (np.abs(command.velocity) < np.abs(before)).all()
    comes_to_rest(rig)


def test_a_deadman_that_falls_silent_counts_as_released() -> None:
    rig = moving(Rig())
    rig.pressed = None
    start = rig.now
    commands = rig.run(0.3)
    held = next(c for c in commands if c.state is State.HOLD)
    assert 150 <= (held.command_stamp_ns - start) * 1e-6 <= 170


def test_silence_and_then_the_level_again_is_no_new_press() -> None:
    """S3: nothing re-engages by itself, not even after a moment of HOLD."""
    rig = moving(Rig())
    rig.pressed = None
    rig.run(0.25)
    rig.pressed = True
    rig.run(3.0)
    assert rig.governor.state is State.HOLD
    assert not rig.commands[-1].velocity.any()


def test_a_stuck_button_never_engages() -> None:
    rig = Rig()
    rig.pressed = True
    rig.run(0.1)
    rig.governor.arm()
    rig.governor.lock(1)
    rig.run(0.1)
    rig.governor.engage()
    rig.run(1.0)
    assert rig.governor.state is State.READY


def test_deadman_stamps_of_the_future_or_the_past_are_not_used() -> None:
    rig = moving(Rig())
    rig.pressed = None
    rig.governor.set_deadman(True, rig.now + 10_000_000_000)
    rig.governor.set_deadman(True, rig.now - 1_000_000)
    rig.run(0.2)
    assert rig.governor.state is State.HOLD


# S3 engage and resume


def test_resume_goes_from_the_measured_posture_by_the_slow_start() -> None:
    rig = moving(Rig())
    assert rig.governor.pause() == ""
    rig.run(0.5)
    rig.follows = False
    rig.measured = rig.measured + 0.01  # it sags
    rig.pressed = False
    rig.run(0.05)
    rig.pressed = True
    first = rig.tick()
    assert (first.state, first.seq) == (State.ENGAGING, 0)
    assert abs(first.position - rig.measured).max() < 0.003
    rig.follows = True
    assert max(abs(c.velocity).max() for c in rig.run(1.0)) <= 0.3 + EPS


@pytest.mark.parametrize("cause", ["pause", "silence", "identity", "stop"])
def test_after_hold_or_stop_nothing_moves_until_a_new_press(cause) -> None:
    rig = moving(Rig())
    if cause == "pause":
        rig.governor.pause()
    elif cause == "silence":
        rig.goal = None
        rig.run(0.25)
    elif cause == "identity":
        rig.track_id = 2
    else:
        rig.governor.stop()
    rig.run(0.3)
    rig.track_id, rig.goal = 1, np.full(N, -1.5)
    commands = rig.run(2.0)
    assert all(c is None or not c.velocity.any() for c in commands)
    sent = [c for c in commands if c is not None]
    assert all((c.position == sent[0].position).all() for c in sent)


def test_checks_must_be_green_to_engage() -> None:
    rig = Rig()
    rig.joints_alive = False
    rig.run(0.2)
    assert rig.governor.arm() == "no fresh joint state"
    rig.joints_alive = True
    rig.tick()
    assert rig.governor.arm() == ""
    assert rig.governor.arm() == "the state is ready, not disarmed"
    assert "operator" in rig.governor.engage()
    rig.governor.lock(1)
    rig.goal = None
    rig.run(0.3)
    assert "fresh_frame" in rig.governor.engage()
    rig.goal = np.zeros(N)
    rig.measured = np.full(N, 2.2)
    rig.run(0.1)
    assert "within_limits" in rig.governor.engage()
    assert rig.governor.pause() == "the state is ready: nothing moves"
    assert rig.governor.reset() == ""


# S4 identity


def test_another_persons_frames_hold_and_are_never_followed() -> None:
    rig = moving(Rig())
    rig.track_id = 2
    rig.goal = np.full(N, -1.5)
    assert rig.run(0.1)[-1].state is State.HOLD
    assert rig.governor.reason == "another person's frame"
    assert all(c is None or (c.velocity >= 0).all() for c in rig.run(1.0))


def test_the_operator_is_not_changed_while_the_robot_moves() -> None:
    rig = moving(Rig())
    with pytest.raises(ConfigError, match="pause before another operator"):
        rig.governor.lock(2)


def test_a_lost_operator_must_be_chosen_again() -> None:
    rig = moving(Rig())
    rig.governor.unlock("operator lost")
    rig.pressed = False
    rig.run(0.1)
    rig.pressed = True
    rig.run(0.1)
    assert rig.governor.state is State.HOLD


# S7, S8, S12


def test_legs_and_base_need_a_setting_that_says_so() -> None:
    """S11."""
    robot = joints()
    robot.moves_legs = True
    with pytest.raises(ConfigError, match="allow_legs_and_base_on_hardware"):
        Governor(robot)
    Governor(robot, with_values(TeleopSettings(), {"allow_legs_and_base_on_hardware": True}))


def test_a_clock_that_stalls_or_stutters_breaks_no_bound() -> None:
    rig = moving(Rig())
    rng = np.random.default_rng(0)
    before = rig.commands[-1]
    for _ in range(500):
        dt = int(rng.choice([0, 1_000, 500_000, 1_500_000, 10_000_000, 90_000_000]))
        rig.goal = rng.uniform(-2, 2, N)
        now = rig.tick(dt)
        if now is None or now.state not in MOVING:
            break
        elapsed = (now.command_stamp_ns - before.command_stamp_ns) * 1e-9
        assert (np.abs(now.position - before.position) <= SPEED * elapsed + EPS).all()
        assert (np.abs(now.velocity - before.velocity) <= ACCELERATION * elapsed + EPS).all()
        if elapsed < 1e-3:  # repeated, with the stamp that its posture is of
            assert elapsed == 0
            assert (now.position == before.position).all()
        before = now


def test_a_plug_ins_nonsense_is_not_followed() -> None:
    rig = moving(Rig())
    rig.goal = None
    for bad in (np.full(N, np.nan), np.full(N, np.inf), np.zeros(3)):
        assert not rig.frame(bad)
    assert rig.governor.counts["target_not_finite"] == 3
    assert rig.frame(np.full(N, 1e300))
    rig.run(0.5)
    assert max(c.position.max() for c in rig.commands if c is not None) <= 2.0 + EPS


def test_a_fault_of_its_own_stops_it(monkeypatch) -> None:
    rig = moving(Rig())
    with monkeypatch.context() as patch:
        patch.setattr(rig.governor, "_follow", lambda *args: 1 / 0)
        rig.tick()
    assert rig.governor.state is State.STOPPED
    comes_to_rest(rig)


def test_a_hold_from_another_thread_is_not_undone_by_a_tick(monkeypatch) -> None:
    """It comes while a tick is about to go from ENGAGING to TRACKING: it waits, and holds."""
    rig = Rig()
    rig.engage()
    rig.run(1.95)
    assert rig.governor.state is State.ENGAGING
    follow, threads = rig.governor._follow, []

    def interrupted(*args) -> None:
        if not threads:
            threads.append(threading.Thread(target=rig.governor.hold, args=("elsewhere",)))
            threads[0].start()
        follow(*args)

    monkeypatch.setattr(rig.governor, "_follow", interrupted)
    rig.tick()
    threads[0].join(10)
    assert rig.governor.state is State.HOLD
    rig.run(0.5)
    assert rig.governor.state is State.HOLD


# S13 feedback


def test_a_lost_joint_state_stops() -> None:
    rig = moving(Rig())
    rig.joints_alive = False
    rig.run(0.15)
    assert rig.governor.state is State.STOPPED
    assert rig.governor.reason == "joint state lost: j0, j1, j2, j3 and 25 more"
    assert rig.governor.counts["joint state lost"] == 1


@pytest.mark.parametrize("silent", [[3], [0, 28]])
def test_a_part_that_falls_silent_stops_however_fresh_the_others(silent) -> None:
    """Several drivers, each with a part: one that is lost is not covered up by the others, in whatever order."""
    rig = moving(Rig())
    rest = [joint for joint in range(N) if joint not in silent]
    part = iter(range(10**6))

    def only_the_others(position: np.ndarray, stamp_ns: int) -> None:
        some = rest[next(part) % 2 :: 2]
        Governor.set_joint_state(rig.governor, position[some], stamp_ns, some)

    rig.governor.set_joint_state = only_the_others
    commands = rig.run(0.2)
    assert commands[8].state is State.TRACKING
    assert rig.governor.state is State.STOPPED
    assert rig.governor.reason == f"joint state lost: {', '.join(f'j{joint}' for joint in silent)}"
    assert set(rig.governor.old_joints()) == {f"j{joint}" for joint in silent}
    assert all(0.1 < age_s < 0.25 for age_s in rig.governor.old_joints().values())


def test_parts_in_turn_are_one_robot_and_a_joint_that_is_never_heard_is_named() -> None:
    rig = Rig()
    rig.joints_alive = False
    arms, hands = list(range(20)), list(range(20, N - 1))
    for part in (arms, hands, arms):
        rig.now += 30_000_000
        rig.governor.set_joint_state(np.full(len(part), 0.1), rig.now, part)
    assert rig.governor.arm() == "no fresh joint state"
    assert rig.governor.old_joints() == {f"j{N - 1}": np.inf}
    rig.governor.set_joint_state([0.1], rig.now, [N - 1])
    assert rig.governor.old_joints() == {}
    assert rig.governor.arm() == ""
    between_ns = rig.now - 10_000_000  # older than the arms, newer than the hands
    rig.governor.set_joint_state([0.3, 0.3], between_ns, [19, 20])
    assert rig.governor._measured[[19, 20]].tolist() == [0.1, 0.3]
    assert rig.governor.counts["joint_state_stamp"] == 1


def test_a_robot_that_does_not_follow_is_stopped_after_a_moment() -> None:
    rig = moving(Rig())
    rig.goal = np.full(N, -1.5)
    rig.follows = False
    rig.run(2.0)
    assert rig.governor.state is State.STOPPED
    assert rig.governor.reason == "the robot does not follow"


def test_a_wrong_joint_state_is_an_error_or_counted() -> None:
    rig = Rig()
    with pytest.raises(ShapeError, match=r"\(29,\)"):
        rig.governor.set_joint_state(np.zeros(3), rig.now)
    rig.governor.set_joint_state(np.full(N, np.nan), rig.now)
    assert rig.governor.counts["joint_state_not_finite"] == 1


# stopping


def test_stop_latches_in_every_state_until_reset() -> None:
    for prepare in (lambda rig: None, lambda rig: rig.governor.arm(), Rig.engage, moving):
        rig = Rig()
        rig.run(0.05)
        prepare(rig)
        rig.governor.stop()
        rig.run(1.0)
        assert rig.governor.state is State.STOPPED
        assert rig.commands[-1] is None
        assert rig.governor.arm() != ""
        assert rig.governor.engage() != ""
        rig.pressed = False
        rig.tick()
        rig.pressed = True
        rig.run(0.5)
        assert rig.commands[-1] is None
        assert rig.governor.reset() == ""
        assert rig.governor.state is State.DISARMED


def test_stop_brakes_once_and_then_sends_nothing() -> None:
    rig = moving(Rig())
    rig.governor.stop()
    assert rig.governor.reset() == "still braking"
    sent = [c for c in rig.run(1.0) if c is not None]
    assert len(sent) <= BRAKING_S * 100 + 3
    assert not sent[-1].velocity.any()


def test_a_hold_that_lasts_too_long_stops() -> None:
    rig = Rig(settings=with_values(TeleopSettings(), {"engage.hold_stop_s": 2.0}))
    rig.track()
    rig.governor.pause()
    rig.run(1.9)
    assert rig.governor.state is State.HOLD
    rig.run(0.2)
    assert rig.governor.state is State.STOPPED


# the table


def test_only_a_press_leads_to_motion() -> None:
    for state, events in TRANSITIONS.items():
        for event, new in events.items():
            if new in MOVING and state not in MOVING:
                assert event is Event.GO
    assert after(State.STOPPED, Event.GO) is State.STOPPED
    assert set(TRANSITIONS[State.STOPPED]) == {Event.RESET}
    assert all(TRANSITIONS[state][Event.STOP] is State.STOPPED for state in State if state is not State.STOPPED)


# anything at all

numbers = st.one_of(st.floats(-3, 3), st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0]))
actions = st.one_of(
    st.tuples(st.just("frame"), numbers, st.integers(-400, 400), st.integers(1, 2)),
    st.tuples(st.just("deadman"), st.sampled_from([True, False, None])),
    st.tuples(st.just("joints"), numbers, st.booleans()),
    st.tuples(st.just("service"), st.sampled_from(["arm", "engage", "pause", "stop", "reset", "lock", "unlock"])),
    st.tuples(st.just("time"), st.sampled_from([10, 10, 10, 1, 33, 80, 300])),
    st.tuples(st.just("follow"), st.floats(-2, 2), st.integers(1, 30)),
    st.tuples(st.just("good"), st.integers(1, 40)),
)


def act(rig: Rig, action: tuple) -> None:
    kind, *values = action
    if kind == "frame":
        rig.frame(np.full(N, values[0]), stamp_ns=rig.now + values[1] * 1_000_000, track_id=values[2])
    elif kind == "deadman":
        rig.pressed = values[0]
    elif kind == "joints":
        rig.joints_alive = values[1]
        rig.governor.set_joint_state(np.full(N, values[0]), rig.now)
    elif kind == "service":
        service = getattr(rig.governor, values[0])
        if values[0] == "lock":
            if rig.governor.state not in MOVING:
                service(1)
        else:
            service(*(["x"] if values[0] == "unlock" else []))
    elif kind == "follow":
        rig.goal = np.full(N, values[0])
        rig.run(values[1] * 0.01)
    elif kind == "good":  # what a careful operator does, so that the sequence gets somewhere
        rig.joints_alive, rig.follows, rig.track_id = True, True, 1
        rig.governor.stop()
        rig.run(0.3)
        rig.governor.reset()
        rig.pressed, rig.goal = False, np.zeros(N)
        rig.run(0.1)
        rig.governor.arm()
        rig.governor.lock(1)
        rig.run(0.1)
        rig.governor.engage()
        rig.pressed = True
        rig.run(values[0] * 0.07)
    rig.tick(values[0] * 1_000_000 if kind == "time" else DT_NS)


def check_all(rig: Rig, start: np.ndarray) -> None:
    """Bounds of every command, and motion only after a press."""
    previous = None
    for command in rig.commands:
        if command is not None:
            assert np.isfinite(command.position).all()
            assert (np.abs(command.position) <= np.maximum(2.0, np.abs(start)) + 0.06).all()
            assert (np.abs(command.velocity) <= SPEED + EPS).all()
            if command.state is State.ENGAGING:
                assert (np.abs(command.velocity) <= 0.3 + EPS).all()
            if previous is not None and command.seq > 0:
                dt = (command.command_stamp_ns - previous.command_stamp_ns) * 1e-9
                assert (np.abs(command.position - previous.position) <= SPEED * dt + EPS).all()
                assert (np.abs(command.velocity - previous.velocity) <= ACCELERATION * max(dt, 1e-3) + EPS).all()
                if command.state in (State.HOLD, State.STOPPED):
                    assert (np.abs(command.velocity) <= np.abs(previous.velocity) + EPS).all()
        previous = command


def check_anything(sequence: list[tuple]) -> int:
    rig = Rig()
    rig.run(0.05)
    for action in sequence:
        act(rig, action)
    check_all(rig, np.zeros(N))
    return len(rig.commands)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(actions, min_size=3, max_size=25))
def test_any_sequence_of_inputs_stays_within_bounds(sequence) -> None:
    check_anything(sequence)


@pytest.mark.slow
def test_ten_thousand_randomised_frames_stay_within_bounds() -> None:
    frames = 0

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(st.lists(actions, min_size=10, max_size=40))
    def run(sequence) -> None:
        nonlocal frames
        frames += sum(action[0] == "frame" for action in sequence) + check_anything(sequence) // 3

    run()
    assert frames > 10_000


def test_flags_say_what_happened() -> None:
    rig = moving(Rig())
    rig.governor.flag(Flag.INPUT_GATED)
    assert rig.tick().flags & Flag.INPUT_GATED
    assert not rig.tick().flags & Flag.INPUT_GATED
    assert rig.commands[-1].flags & Flag.LIMITED_VELOCITY
    rig.goal = np.full(N, 3.0)
    assert rig.run(2.0)[-1].flags & Flag.AT_POSITION_LIMIT
