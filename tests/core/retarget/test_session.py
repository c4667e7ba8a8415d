"""Gate, retargeter and governor together, with people and a robot that does as told."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import J
from hsr_core.config import with_values
from hsr_core.errors import ConfigError
from hsr_core.retarget.command import MOVING, Flag, State
from hsr_core.retarget.frames import R_REST
from hsr_core.retarget.human import POINTS, SMPLX_NAMES, Human
from hsr_core.retarget.session import Session
from hsr_core.retarget.settings import TeleopSettings
from hsr_core.types import HumanEstimate, HumanParams, MetricSource, Part, Regression, TrackState

from .conftest import loaded
from .people import FRONT, person, unit

DT_NS, FRAME_NS, LATENCY_NS = 10_000_000, 33_333_333, 60_000_000
REACH = {f"{s}_arm": (unit(0.5, y, -0.4), unit(1, 0.1 * y, 0.2)) for s, y in (("left", 1), ("right", -1))}


class Live:
    """A session on a clock of its own: 30 frames a second with their latency, 100 ticks, a robot that follows."""

    def __init__(self, robot, values: dict | None = None) -> None:
        self.now = 1_700_000_000_000_000_000
        self.session = Session(robot, with_values(TeleopSettings(), values or {}), lambda: self.now)
        self.q, self.pressed, self.people = robot.neutral.copy(), False, {1: {}}
        self.robot, self.commands, self._frame_ns = robot, [], self.now
        self.spoil = lambda human: human

    def tick(self) -> None:
        self.now += DT_NS
        names = list(self.session._place)
        self.session.on_joint_state(names, [self.q[self.session._place[name]] for name in names], self.now)
        self.session.on_deadman(self.pressed, self.now)
        if self.now >= self._frame_ns:
            self._frame_ns += FRAME_NS
            for track_id, how in self.people.items():
                human = person((self.now - LATENCY_NS) * 1e-9, track_id=track_id, **how)
                human = replace(human, stamp_ns=self.now - LATENCY_NS)
                if track_id == self.session.governor.operator:
                    self.session.on_human(self.spoil(human))
        command = self.session.tick()
        self.commands.append(command)
        if command is not None:
            self.q[self.robot.idx_q] = command.position

    def run(self, seconds: float) -> list:
        first = len(self.commands)
        for _ in range(round(seconds * 100)):
            self.tick()
        return self.commands[first:]

    def track(self) -> None:
        self.run(0.2)
        assert self.session.arm() == ""
        self.session.select(1)
        assert "long enough" in self.session.engage()
        self.run(1.2)
        assert self.session.engage() == ""
        self.pressed = True
        self.run(2.5)
        assert self.session.governor.state is State.TRACKING

    def again(self) -> None:
        """From any state back to ENGAGING, if the robot stands within its limits."""
        self.spoil, self.pressed = (lambda human: human), False
        self.session.stop()
        self.run(0.2)
        self.session.reset()
        self.session.arm()
        self.session.select(1)
        self.run(1.2)
        self.session.engage()
        self.pressed = True
        self.run(0.3)


@pytest.fixture
def live(g1) -> Live:
    return Live(g1)


def test_a_person_moves_the_robot_within_every_bound(live) -> None:
    live.track()
    live.people = {1: {"limbs": REACH}}
    live.run(3.0)
    last = live.commands[-1]
    assert last.state is State.TRACKING
    assert last.task_error_m["left_wrist"] < 0.05
    assert last.age_ms < 60 + 34 + 11
    sent = [c for c in live.commands if c is not None]
    steps = np.diff([c.position for c in sent], axis=0)
    assert (np.abs(steps) <= live.robot.velocity * 0.01 + 1e-9).all()
    assert (np.abs(np.diff(steps, axis=0)) <= 20 * 1e-4 + 1e-9).all()
    assert [c.seq for c in sent] == list(range(len(sent)))


def test_another_nearer_and_larger_person_changes_nothing(live) -> None:
    live.track()
    before = live.commands[-1].position
    live.people = {1: {}, 2: {"limbs": REACH, "size": 1.2, "place": (0.5, 0, 0)}}
    live.run(1.0)
    assert live.commands[-1].state is State.TRACKING
    np.testing.assert_allclose(live.commands[-1].position, before, atol=0.02)


@pytest.mark.parametrize("distance", [0.5, 1.5])
def test_swapped_ids_of_two_people_hold_and_are_never_followed(live, distance) -> None:
    """The tracker gives the operator's id to somebody else who reaches out: no joint goes their way."""
    live.track()
    before = live.commands[-1].position
    live.people = {1: {"limbs": REACH, "place": (0, distance, 0)}}
    commands = live.run(1.5)
    assert live.session.governor.state in (State.HOLD, State.STOPPED)
    assert live.session.governor.operator is None
    assert max(np.abs(c.position - before).max() for c in commands if c is not None) < 0.02
    live.pressed = False
    live.run(0.1)
    live.pressed = True
    live.run(0.5)
    assert live.session.governor.state not in MOVING


@pytest.mark.parametrize(
    "spoil",
    [
        lambda h: replace(h, points=np.full_like(h.points, np.nan)),
        lambda h: replace(h, score=0.0),
        lambda h: replace(h, points=h.points * [1, -1, 1]),
        lambda h: replace(h, points=h.points + np.array([0, 0, 5.0])),
        lambda h: replace(h, valid=np.zeros(len(POINTS), bool)),
    ],
)
def test_spoilt_frames_are_dropped_and_five_hold(live, spoil) -> None:
    live.track()
    before = live.commands[-1].position
    live.spoil = spoil
    first = live.run(0.05)
    assert any(c.flags & Flag.INPUT_GATED for c in first)
    assert first[-1].state is State.TRACKING
    commands = live.run(0.2)
    assert commands[-1].state is State.HOLD
    assert max(np.abs(c.position - before).max() for c in commands) < 0.02


def test_a_lost_wrist_lets_the_arm_go_back_slowly(live) -> None:
    live.people = {1: {"limbs": REACH}}
    live.track()
    live.run(2.0)

    def without_left_arm(human: Human) -> Human:
        valid = human.valid.copy()
        for part in ("elbow", "wrist"):
            valid[POINTS.index(f"left_{part}")] = False
        return replace(human, valid=valid)

    live.spoil = without_left_arm
    commands = live.run(2.0)
    assert commands[8].flags & Flag.HOLDOVER
    assert commands[-1].flags & Flag.JOINT_MISSING
    i = live.robot.joint_names.index("left_shoulder_roll_joint")
    assert commands[-1].position[i] == pytest.approx(live.robot.neutral[live.robot.idx_q[i]], abs=0.05)
    assert live.session.governor.state is State.TRACKING


def test_resume_starts_at_the_robot_not_at_the_operators_new_pose(live) -> None:
    live.track()
    live.session.pause()
    live.run(0.5)
    live.people = {1: {"limbs": REACH}}
    live.run(0.3)
    held = live.commands[-1].position
    live.pressed = False
    live.run(0.05)
    live.pressed = True
    commands = live.run(1.0)
    assert commands[0].state is State.ENGAGING
    assert np.abs(commands[0].position - held).max() < 1e-3
    assert max(np.abs(c.velocity).max() for c in commands) <= 0.3 + 1e-9


def test_the_operator_is_chosen_only_while_nothing_moves(live) -> None:
    live.track()
    with pytest.raises(ConfigError, match="pause"):
        live.session.select(2)


def test_joint_states_in_parts_are_merged_by_name(live) -> None:
    """Two drivers on one topic, one of them with a joint of its own and one without a value: that one is not known."""
    session, names = live.session, live.robot.joint_names
    left, right = [[name for name in names if side in name] for side in ("left", "right")]
    rest = [name for name in names if name not in left + right]
    session.on_joint_state([*left, "wheel"], np.full(len(left) + 1, 0.1), live.now)
    assert session.arm() == "no fresh joint state"
    session.on_joint_state([*rest, *right], [*np.full(len(rest), 0.2), np.nan, *np.full(len(right) - 1, 0.3)], live.now)
    assert set(session.governor.old_joints()) == {right[0]}
    session.on_joint_state([right[0]], [0.4], live.now)
    assert session.arm() == ""
    expected = dict.fromkeys(left, 0.1) | dict.fromkeys(rest, 0.2) | dict.fromkeys(right, 0.3) | {right[0]: 0.4}
    assert dict(zip(names, session.governor._measured, strict=True)) == expected
    live.now += 110_000_000
    session.on_joint_state([*right, *rest], np.zeros(len(right + rest)), live.now)
    assert set(session.governor.old_joints()) == set(left)


def as_estimate(human: Human, state: TrackState) -> HumanEstimate:
    """A stream's estimate in a camera that is the world."""
    joints, rotmats = np.zeros((55, 3)), np.broadcast_to(R_REST, (55, 3, 3)).copy()
    for i, name in enumerate(POINTS):
        joints[J[SMPLX_NAMES[name]]] = human.points[i]
        rotmats[J[SMPLX_NAMES[name]]] = human.rotations[i]
    regression = Regression(
        HumanParams(), np.zeros(4), 0.9, np.ones(55), np.ones(4), Part.BODY, MetricSource.MONO_DEPTH, 0.1
    )
    return HumanEstimate(human.track_id, state, True, regression, HumanParams(), joints, rotmats, np.zeros((55, 3)))


def test_a_streams_people_and_what_they_lack(g1) -> None:
    live = Live(g1)
    live.people = {}
    session = live.session
    session.select(1)
    T, counts = np.eye(4), session.counts

    def see(*people, transform=T) -> None:
        live.now += FRAME_NS
        session.on_people(people, live.now, transform)

    me, other = person(0), person(0, track_id=2)
    see(as_estimate(other, TrackState.TRACKED), as_estimate(me, TrackState.TRACKED))
    assert counts["ok"] == 1
    assert session.governor._new.flags & Flag.DEPTH_GUESSED
    see(as_estimate(me, TrackState.TRACKED), transform=None)
    assert counts["no_transform"] == 1
    see(as_estimate(me, TrackState.PREDICTED))
    assert counts["predicted"] == 1
    assert session.governor.operator == 1
    see(as_estimate(other, TrackState.TRACKED))
    assert session.governor.operator is None
    session.select(1)
    see(as_estimate(me, TrackState.LOST))
    assert session.governor.operator is None


# anything at all: teleports, NaN, missing parts, swaps, gaps, clocks that run back


def rng(v: float) -> np.random.Generator:
    return np.random.default_rng(int(1e3 * abs(v)))


SPOILS = {
    "good": lambda h, v: h,
    "teleport": lambda h, v: replace(h, points=h.points + v * np.array([3.0, -2, 1])),
    "nan": lambda h, v: replace(h, points=np.where(np.arange(18)[:, None] == int(9 * abs(v)), np.nan, h.points)),
    "flip": lambda h, v: replace(h, points=h.points * [1, -1, 1]),
    "turn": lambda h, v: replace(h, points=h.points * [-1, -1, 1], rotations=None),
    "grow": lambda h, v: replace(h, points=h.points * (1 + v)),
    "blind": lambda h, v: replace(h, valid=np.arange(18) % 3 != int(3 * abs(v))),
    "late": lambda h, v: replace(h, stamp_ns=h.stamp_ns + round(v * 5e8)),
    "other": lambda h, v: replace(h, track_id=2),
    "scramble": lambda h, v: replace(h, points=h.points[rng(v).permutation(18)]),
    "noise": lambda h, v: replace(h, points=h.points + 0.05 * rng(v).normal(size=(18, 3))),
    "no_rotations": lambda h, v: replace(h, rotations=None),
    "wild_rotations": lambda h, v: replace(h, rotations=Rotation.random(18, random_state=rng(v)).as_matrix()),
}
directions = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)
moves = st.tuples(
    st.sampled_from(["good", "good", *SPOILS]),
    st.floats(-1, 1),
    directions,
    directions,
    st.floats(0.05, 0.4),
    st.booleans(),
)


def check_sequence(robot, sequence) -> int:
    """Drive a session through a sequence, engaging again whenever it can; check every command. Returns the frames."""
    live = Live(robot)
    live.track()
    frames = live.session.counts.total()
    for kind, value, upper, lower, seconds, recover in sequence:
        live.spoil = lambda h, kind=kind, value=value: SPOILS[kind](h, value)
        live.people = {
            1: {"limbs": {"left_arm": (unit(*upper), unit(*lower)), "right_arm": (unit(*lower), unit(*upper))}}
        }
        live.run(seconds)
        if recover and live.session.governor.state not in MOVING:
            live.again()
    previous = None
    for command in live.commands:
        if command is not None:
            assert (command.position >= robot.lower - 1e-9).all()
            assert (command.position <= robot.upper + 1e-9).all()
            assert (np.abs(command.velocity) <= robot.velocity + 1e-9).all()
            if previous is not None and command.seq > 0:
                assert (np.abs(command.position - previous.position) <= robot.velocity * 0.01 + 1e-9).all()
                assert (np.abs(command.velocity - previous.velocity) <= robot.acceleration * 0.01 + 1e-9).all()
        previous = command
    return live.session.counts.total() - frames


@settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate])  # shrinking takes minutes
@given(st.lists(moves, min_size=4, max_size=8))
def test_whatever_is_seen_every_command_is_within_bounds(sequence) -> None:
    check_sequence(loaded("g1", "upper_body"), sequence)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # three minutes on a computer that does nothing else
@pytest.mark.parametrize("name", ["g1", "talos"])
def test_ten_thousand_random_frames_of_a_person_move_no_joint_out_of_bounds(name) -> None:
    frames = 0

    @settings(max_examples=80, deadline=None, derandomize=True, phases=[Phase.generate])
    @given(st.lists(moves, min_size=20, max_size=40))
    def run(sequence) -> None:
        nonlocal frames
        frames += check_sequence(loaded(name, "upper_body"), sequence)

    run()
    assert frames > 10_000


def test_legs_are_not_taken_by_a_session(g1_whole) -> None:
    with pytest.raises(ConfigError, match="allow_legs_and_base_on_hardware"):
        Session(g1_whole)
    live = Live(g1_whole, {"allow_legs_and_base_on_hardware": True})
    live.track()
    assert live.commands[-1].T_world_base.shape == (4, 4)


def test_clutched_hands_start_where_the_robot_is(g1) -> None:
    live = Live(g1, {"hands": "clutched"})
    live.track()
    assert live.commands[-1].hand_mode == "clutched"
    before = g1.frame_placements(live.q)["left_wrist"][:3, 3]
    live.people = {1: {"place": (0.04, 0, 0.03)}}
    live.run(2.0)
    moved = g1.frame_placements(live.q)["left_wrist"][:3, 3] - before
    np.testing.assert_allclose(moved, (0.04, 0, 0.03), atol=0.012)


# what was found to move it


def test_a_far_start_is_slow_until_the_robot_is_near(g1) -> None:
    """S3: the solver is slow, too, so its own answer is always near; what counts is where the person's pose is."""
    live = Live(g1)
    overhead = {f"{s}_arm": (unit(0.4, y, 1), unit(0.3, 0, 1)) for s, y in (("left", 0.4), ("right", -0.4))}
    live.people = {1: {"limbs": overhead}}
    live.run(0.2)
    live.session.arm()
    live.again()
    live.run(12.0)
    sent = [c for c in live.commands if c is not None]
    there = sent[-1].position
    apart = np.array([np.abs(c.position - there).max() for c in sent])
    speed = np.array([np.abs(c.velocity).max() for c in sent])
    assert apart[0] > 0.3 * 2.0 + 0.35 + 0.5  # the two seconds of the slow start alone would not do
    assert speed[apart > 0.35 + 0.02].max() <= 0.3 + 1e-9
    assert live.session.governor.state is State.TRACKING
    assert apart[-1] < 0.02


def press(live: Live) -> None:
    live.pressed = False
    live.run(0.05)
    live.pressed = True
    live.run(0.05)


def test_a_press_in_hold_needs_a_person_who_is_known_and_an_open_gate(live) -> None:
    live.track()
    live.session.pause()
    live.run(0.2)
    live.session.select(1)
    live.run(0.1)  # a few frames: not enough for lengths
    press(live)
    assert live.session.governor.state is State.HOLD
    assert not live.session.checks()["person_known"]
    live.run(1.0)
    press(live)
    assert live.session.governor.state is State.ENGAGING
    live.session.gate.bad = 5
    assert not live.session.checks()["gate"]


def test_a_frame_of_the_future_is_left_out_and_spoils_none_after_it(live) -> None:
    live.track()
    live.spoil = lambda h: replace(h, stamp_ns=h.stamp_ns + 3_600_000_000_000)
    live.run(0.07)
    live.spoil = lambda h: h
    live.run(0.5)
    assert live.session.counts["future_stamp"] in (2, 3)
    assert live.session.governor.state is State.TRACKING


def test_two_people_with_the_operators_id_are_nobody(g1) -> None:
    live = Live(g1)
    live.session.select(1)
    me = as_estimate(person(0), TrackState.TRACKED)
    live.session.on_people([me, me], live.now, np.eye(4))
    assert live.session.governor.operator is None
    assert live.session.governor._new is None


def test_limits_that_the_robot_was_not_loaded_with_are_refused(g1) -> None:
    """A setting that would have no effect: the operator believes the robot is slow."""
    with pytest.raises(ConfigError, match="loaded with other limits"):
        Session(g1, with_values(TeleopSettings(), {"limits.velocity_scale": 0.2}))


def test_a_joint_state_without_positions_does_not_count(live) -> None:
    live.session.on_joint_state(["left_elbow_joint"], [], live.now)
    assert live.session.counts["joint_state_incomplete"] == 1


def test_callbacks_in_threads_of_their_own_break_no_bound(g1) -> None:
    """Frames, joint states with the deadman, services, ticks: the clock waits for the robot, and at last for frames."""
    live = Live(g1)
    live.track()
    session, start, last = live.session, live.now, [live.commands[-1]]
    turn, done, errors, seen = threading.Condition(), threading.Event(), [], {}

    def repeat(work) -> threading.Thread:
        seen[work] = start

        def run() -> None:
            try:
                while not done.is_set():
                    with turn:
                        turn.wait_for(lambda: live.now != seen[work] or done.is_set(), 30)
                    now = live.now
                    work(now, (now - start) // DT_NS)
                    with turn:
                        seen[work] = now
                        turn.notify_all()
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def robot(now: int, tick: int) -> None:
        q = g1.neutral.copy()
        q[g1.idx_q] = last[-1].position
        session.on_joint_state(list(session._place), [q[i] for i in session._place.values()], now)
        session.on_deadman(tick % 60 > 3, now)

    def frames(now: int, tick: int) -> None:
        swing = 0.4 * np.sin(tick / 30)
        arms = {f"{side}_arm": (unit(0.3 + swing, y, -1), FRONT) for side, y in (("left", 0.3), ("right", -0.3))}
        session.on_human(replace(person(0, arms), stamp_ns=now - LATENCY_NS))

    def services(now: int, tick: int) -> None:
        session.checks()
        if tick % 60 == 59:
            session.pause()
        if tick % 180 == 179:
            with contextlib.suppress(ConfigError):  # the robot may move
                session.select(1)

    threads = [repeat(work) for work in (robot, frames, services)]
    try:
        for _ in range(240):
            with turn:
                live.now += DT_NS
                turn.notify_all()
                assert turn.wait_for(
                    lambda: errors or (seen[robot] == live.now and seen[frames] >= live.now - 5 * DT_NS), 30
                )
            command = session.tick()
            if command is not None:
                if command.seq > 0:
                    assert (np.abs(command.position - last[-1].position) <= g1.velocity * 0.01 + 1e-9).all()
                    assert (np.abs(command.velocity - last[-1].velocity) <= g1.acceleration * 0.01 + 1e-9).all()
                last.append(command)
    finally:
        with turn:
            done.set()
            turn.notify_all()
        for thread in threads:
            thread.join(30)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
    assert sum(command.state in MOVING for command in last) > 50
    assert session.governor.engagements > 1
