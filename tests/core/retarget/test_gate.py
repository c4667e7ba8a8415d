"""The input gate: what it drops, what it lets pass, and that it never follows somebody else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hsr_core.retarget.gate import InputGate, Reason
from hsr_core.retarget.human import OTHER_SIDE, POINTS, P
from hsr_core.retarget.settings import GateSettings

from .people import FRONT, person, unit


def opened(frames: int = 35, **more) -> tuple[InputGate, float]:
    gate = InputGate()
    for i in range(frames):
        assert gate.judge(person(i / 30, **more)) is Reason.OK
    return gate, frames / 30


def spoiled(human, **values):
    points = human.points.copy()
    for name, value in values.items():
        points[P[name]] = value
    return replace(human, points=points)


def unseen(human, *names):
    valid = human.valid.copy()
    valid[[P[name] for name in names]] = False
    return replace(human, valid=valid)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda h: spoiled(h, left_wrist=np.nan), Reason.NOT_FINITE),
        (lambda h: replace(h, rotations=np.full((18, 3, 3), np.inf)), Reason.NOT_FINITE),
        (lambda h: replace(h, score=0.1), Reason.SCORE),
        (lambda h: replace(h, score=float("nan")), Reason.SCORE),
        (lambda h: replace(h, reprojection_px=80.0), Reason.REPROJECTION),
        (lambda h: unseen(h, "left_hip"), Reason.ROOT_MISSING),
        (lambda h: unseen(h, "left_shoulder", "right_shoulder"), Reason.ROOT_MISSING),
        (lambda h: replace(h, points=h.points + np.array([0.6, 0, 0])), Reason.JUMP),
        (lambda h: spoiled(h, left_wrist=h.at("left_wrist") + np.array([0, 0, 0.4])), Reason.LENGTHS),
        (lambda h: replace(h, points=(h.points - h.at("pelvis")) * (-1, -1, 1) + h.at("pelvis")), Reason.SWAP),
        (lambda h: replace(h, points=h.points[OTHER_SIDE]), Reason.SWAP),
        (lambda h: replace(h, stamp_ns=0), Reason.ORDER),
    ],
)
def test_a_bad_frame_is_dropped_with_its_reason(spoil, reason) -> None:
    gate, t = opened()
    assert gate.judge(spoil(person(t))) is reason
    assert gate.judge(person(t + 1 / 30)) is Reason.OK
    assert not gate.closed


def test_a_facing_flip_is_dropped() -> None:
    """A body that turns by 130 degrees in one frame, arms crossed so that the sides do not tell."""
    gate, t = opened()
    assert gate.judge(person(t, yaw=np.radians(130))) in (Reason.FACING, Reason.SWAP)


def test_what_is_not_seen_may_be_anything() -> None:
    gate, t = opened()
    assert gate.judge(unseen(spoiled(person(t), left_wrist=np.nan), "left_wrist")) is Reason.OK


def test_five_bad_frames_in_a_row_close_it() -> None:
    gate, t = opened()
    for i in range(5):
        assert not gate.closed
        gate.judge(replace(person(t + i / 30), score=0))
    assert gate.closed


@pytest.mark.parametrize("rate", [10, 30, 60])
@pytest.mark.parametrize("distance", [0.5, 3.0])
def test_two_people_who_swap_ids_are_not_followed(rate, distance) -> None:
    """Half a metre apart or more, alike to the millimetre: the gate closes and time does not open it."""
    gate = InputGate()
    for i in range(40):
        assert gate.judge(person(i / rate)) is Reason.OK
    for i in range(40, 160):
        assert gate.judge(person(i / rate, place=(0, distance, 0))) is Reason.JUMP
    assert gate.closed


@pytest.mark.parametrize("rate", [8, 15, 30])
def test_two_walkers_who_swap_ids_are_not_followed(rate) -> None:
    """Whichever way the other one walks beside them: between two slow frames a walker comes near where another was."""
    for way in np.radians(range(0, 360, 45)):
        gate = InputGate()
        for i in range(40):
            assert gate.judge(person(i / rate, place=(1.4 * i / rate, 0, 0))) is Reason.OK
        beside = 0.5 * np.array([np.cos(way), np.sin(way), 0])
        for i in range(40, 45):
            place = beside + np.array([1.4 * i / rate, 0, 0])
            assert gate.judge(person(i / rate, place=place)) is Reason.JUMP


@pytest.mark.parametrize("gap_s", [0.3, 1.0, 4.0, 20.0])
def test_somebody_who_sways_is_known_again_after_a_gap(gap_s) -> None:
    """Hidden hips, or nobody who looks: where the last sway would have led in that time tells nothing."""
    gate = InputGate()
    for i in range(40):
        assert gate.judge(person(i / 30, place=(0.2 * i / 30, 0, 0))) is Reason.OK
    place = 0.2 * 39 / 30
    assert gate.judge(person(39 / 30 + gap_s, place=(place + 0.5, 0, 0))) is Reason.JUMP
    assert gate.judge(person(40 / 30 + gap_s, place=(place, 0, 0))) is Reason.OK


def test_a_slow_stream_of_somebody_who_walks_briskly_raises_no_false_alarm() -> None:
    """10 frames a second: between two of them hands and feet go farther than a body may."""
    gate, farthest = InputGate(), 0.0
    for i in range(100):
        t = i / 10
        limbs = {}
        for limb, swing in (("left_arm", 1.0), ("right_arm", -1.0), ("left_leg", -0.6), ("right_leg", 0.6)):
            angle = swing * np.sin(2 * np.pi * 0.95 * t)
            limbs[limb] = (unit(np.sin(angle), 0, -np.cos(angle)),) * 2
        human = person(t, limbs, place=(1.4 * t, 0, 0))
        last = gate._good
        assert gate.judge(human) is Reason.OK
        moved = np.linalg.norm(human.points - (human if last is None else last).points, axis=1)
        farthest = max(farthest, np.percentile(moved, 90))
    assert farthest > 0.42


def test_another_persons_lengths_close_it_even_at_the_same_place() -> None:
    gate, t = opened()
    frames = [gate.judge(person(t + i / 30, size=0.75)) for i in range(6)]
    assert frames == [Reason.LENGTHS] * 6
    assert gate.closed


def test_fast_arms_on_a_noisy_stream_raise_no_false_alarm() -> None:
    """500 frames: hands at 3 m/s, a body that walks at 1.5 m/s, 4.6 mm white and 15 mm slow noise on each axis.

    Noise that is each joint's own changes lengths as no body model does: their check is left out.
    """
    rng = np.random.default_rng(0)
    gate, slow = InputGate(GateSettings(length_part=1.0)), np.zeros((len(POINTS), 3))
    for i in range(500):
        t = i / 30
        slow = 0.98 * slow + 0.015 * np.sqrt(1 - 0.98**2) * rng.normal(size=slow.shape)
        swing = 0.9 * np.sin(2 * np.pi * 1.0 * t)
        upper = np.sin(swing), -np.cos(swing)
        limbs = {f"{side}_arm": (unit(upper[0], y, upper[1]), FRONT) for side, y in (("left", 0.3), ("right", -0.3))}
        human = person(t, limbs, place=(1.5 * np.sin(t), 0, 0))
        noise = slow + 0.0046 * rng.normal(size=slow.shape)
        assert gate.judge(replace(human, points=human.points + noise)) is Reason.OK


def test_two_injected_jumps_of_60_cm_are_caught() -> None:
    gate, t = opened()
    for start in (0, 20):
        for i in range(start, start + 20):
            jumped = i % 20 == 10
            reason = gate.judge(person(t + i / 30, place=(0.6 * jumped, 0, 0)))
            assert reason is (Reason.JUMP if jumped else Reason.OK)


def test_reset_forgets_the_person() -> None:
    gate, t = opened()
    gate.reset()
    assert gate.lengths.frozen is None
    assert gate.judge(person(t, size=0.7, place=(3, 0, 0))) is Reason.OK


def test_settings_move_the_thresholds() -> None:
    gate = InputGate(GateSettings(speed_m_s=1.0))
    gate.judge(person(0))
    assert gate.judge(person(1 / 30, place=(0.05, 0, 0))) is Reason.JUMP
