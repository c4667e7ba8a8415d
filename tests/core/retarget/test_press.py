"""What counts as a press, what it needs, and that nothing else sets the robot in motion."""

from __future__ import annotations

import numpy as np
import pytest

from hsr_core.errors import ConfigError
from hsr_core.retarget.command import MOVING, State
from hsr_core.retarget.governor import Governor

from .rig import DT_NS, N, Rig, joints


def ready(*, track_id: int = 1) -> Rig:
    """READY, with the operator chosen and the button released."""
    rig = Rig()
    rig.run(0.1)
    assert rig.governor.arm() == ""
    rig.governor.lock(track_id)
    rig.run(0.1)
    return rig


def held() -> Rig:
    """HOLD at rest, everything green but the button, which is released."""
    rig = Rig()
    rig.track()
    assert rig.governor.pause() == ""
    rig.pressed = False
    rig.run(0.2)
    return rig


def test_a_button_that_is_held_down_when_engage_is_asked_for_moves_nothing() -> None:
    rig = ready()
    rig.pressed = True
    rig.run(0.1)
    assert rig.governor.engage() == ""
    rig.run(1.0)
    assert rig.governor.state is State.READY
    rig.pressed = False
    rig.run(0.05)
    rig.pressed = True
    rig.tick()
    assert rig.governor.state is State.ENGAGING


@pytest.mark.parametrize("asked", [True, False])
def test_a_press_that_finds_something_missing_is_over(asked) -> None:
    """The check turns green under a button that is held down: no frame, service or joint state moves the robot."""
    rig = held()
    rig.governor.unlock("operator lost")
    rig.pressed = True
    rig.run(0.1)
    assert rig.governor.counts["press_refused"] == 1
    if asked:
        rig.governor.lock(1)
    rig.run(0.3)
    assert rig.governor.state is State.HOLD


def test_a_press_while_the_frames_are_late_is_over_when_they_come() -> None:
    rig = held()
    rig.goal = None
    rig.run(0.25)
    rig.pressed = True
    rig.run(0.05)
    rig.goal = np.zeros(N)
    rig.run(0.2)
    assert rig.governor.state is State.HOLD


def test_a_press_while_it_still_brakes_counts_when_it_is_at_rest() -> None:
    rig = Rig()
    rig.track()
    rig.goal = np.full(N, 1.5)
    rig.run(0.3)
    rig.governor.pause()
    rig.pressed = False
    rig.tick()
    rig.pressed = True
    rig.tick()
    assert rig.governor.state is State.HOLD
    rig.run(0.2)
    assert rig.governor.state is State.ENGAGING


def test_a_press_after_silence_is_none() -> None:
    """A joystick that comes back with its button down: the last level that was heard is old."""
    rig = held()
    rig.pressed = None
    rig.run(0.5)
    rig.pressed = True
    rig.run(1.0)
    assert rig.governor.state is State.HOLD


@pytest.mark.parametrize("off_ns", [100_000_000, -100_000_000])
def test_a_release_counts_whatever_its_stamp_and_no_press_follows_from_it(off_ns) -> None:
    rig = Rig()
    rig.track()
    rig.governor.set_deadman(False, rig.now + off_ns)
    rig.pressed = None
    assert rig.tick().state is State.HOLD
    rig.pressed = True  # the level goes on as if nothing had been
    rig.run(1.0)
    assert rig.governor.state is State.HOLD


def test_what_was_asked_for_one_operator_is_not_anothers() -> None:
    rig = ready()
    assert rig.governor.engage() == ""
    rig.governor.lock(2)
    rig.track_id = 2
    rig.run(0.1)
    rig.pressed = True
    rig.run(0.5)
    assert rig.governor.state is State.READY


def test_only_a_track_id_is_an_operator() -> None:
    rig = Rig()
    for nobody in (None, -1):
        with pytest.raises(ConfigError, match="a track id is 0 or more"):
            rig.governor.lock(nobody)
    rig.goal = None
    assert not rig.frame(np.zeros(N), track_id=None)
    assert rig.governor.counts["identity"] == 1


def test_conditions_of_others_are_checks_too() -> None:
    rig, green = Rig(), {"gate": False}
    rig.governor = Governor(rig.robot, None, lambda: rig.now, lambda: green)
    rig.run(0.1)
    rig.governor.arm()
    rig.governor.lock(1)
    rig.run(0.1)
    assert rig.governor.engage() == "not green: gate"
    green["gate"] = True
    assert rig.governor.engage() == ""
    green["gate"] = False
    rig.pressed = True
    rig.run(0.2)
    assert rig.governor.state is State.READY


@pytest.mark.parametrize("frame_every_ms", [10, 33])
@pytest.mark.parametrize("late", range(4))
def test_a_robot_that_is_where_the_person_wants_it_does_not_move(frame_every_ms, late) -> None:
    """From the slow start into TRACKING, for frames at any moment of the change."""
    rig = Rig(joints(3))
    rig.frame_every_ns, rig.measured[:], rig.goal = frame_every_ms * 1_000_000, 1.0, np.ones(3)
    rig.engage()
    rig.run(1.9)
    rig._next_frame_ns = rig.now + late * DT_NS
    commands = rig.run(1.0)
    assert rig.governor.state is State.TRACKING
    assert not any(c.velocity.any() for c in commands)


def test_the_slow_start_lasts_until_the_robot_is_near_the_persons_pose() -> None:
    """The targets themselves are slow, and always near; their goal is not."""
    rig = Rig()
    rig.goal = None
    goal, slow = np.full(N, 1.5), np.zeros(N)

    def run(seconds: float) -> None:
        for _ in range(round(seconds * 30)):
            np.minimum(slow + 0.01, goal, out=slow)
            rig.frame(slow.copy(), goal=goal)
            rig.run(1 / 30)

    rig.pressed = False
    rig.run(0.1)
    rig.governor.arm()
    rig.governor.lock(1)
    run(0.1)
    rig.governor.engage()
    rig.pressed = True
    run(2.5)
    assert rig.governor.state is State.ENGAGING
    run(2.0)
    assert rig.governor.state is State.TRACKING
    first = next(c for c in rig.commands if c is not None and c.state is State.TRACKING)
    assert np.abs(first.position - goal).max() <= 0.35 + 0.01
    assert not rig.frame(np.zeros(N), goal=np.full(N, np.nan))
    assert not rig.frame(np.zeros(N), goal=np.zeros(2))


def test_a_plug_in_that_goes_on_writing_into_its_answer_moves_nothing() -> None:
    rig = Rig()
    rig.track()
    rig.goal, buffer = None, np.full(N, 0.01)
    rig.frame(buffer)
    buffer[:] = np.nan
    assert all(np.abs(command.position).max() < 0.02 for command in rig.run(0.1))  # and no NaN


def test_after_a_reset_a_clock_that_was_set_back_goes_on() -> None:
    """All stamps are an hour younger: nothing that is armed takes them, DISARMED does."""
    rig = Rig()
    rig.track()
    rig.now -= 3_600_000_000_000
    rig._next_frame_ns = rig.now
    rig.run(1.0)
    assert rig.governor.state is State.STOPPED
    assert rig.governor.reset() == ""
    rig.engage()
    rig.run(0.5)
    assert rig.governor.state in MOVING
