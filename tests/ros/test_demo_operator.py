"""The operator that is played in a demo: only a new press follows HOLD, and never without a status."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from hsr.demo_operator import PAUSE_S, DemoOperator, Seen
from hsr_msgs.msg import RetargetStatus as Status

STEP_S = 0.02


@dataclass
class Governor:
    """The states that services and presses lead to, as RetargetStatus tells of them."""

    state: int = Status.DISARMED
    locked: bool = False
    asked: bool = False
    down: bool = False
    green: bool = True
    moved: list[float] = field(default_factory=list)

    def take(self, now_s: float, service: str, operator: DemoOperator) -> None:
        if service == "select":
            self.locked = True
        elif service == "arm" and self.state == Status.DISARMED:
            self.state = Status.READY
        elif service == "reset" and self.state == Status.STOPPED:
            self.state = Status.DISARMED
        elif service == "engage" and self.state == Status.READY and self.locked:
            self.asked = True
            operator.granted()
        edge, self.down = operator.pressed and not self.down, operator.pressed
        may = (self.state == Status.READY and self.asked) or self.state == Status.HOLD
        if edge and may and self.locked:
            self.state, self.asked = Status.TRACKING, False
            self.moved.append(now_s)
        if self.state == Status.TRACKING and not self.down:
            self.state = Status.HOLD


def run(operator: DemoOperator, governor: Governor, begin_s: float, seconds: float, blind: bool = False) -> float:
    now = begin_s
    while now < begin_s + seconds:
        service = operator.step(now, None if blind else Seen(governor.state, governor.locked, governor.green))
        governor.take(now, service, operator)
        now += STEP_S
    return now


def test_a_demo_begins_by_itself_and_goes_on() -> None:
    operator, governor = DemoOperator(), Governor()
    run(operator, governor, 0.0, 10.0)
    assert governor.state == Status.TRACKING
    assert operator.pressed
    assert len(governor.moved) == 1


def test_hold_is_followed_by_a_pause_and_a_new_press() -> None:
    operator, governor = DemoOperator(), Governor()
    now = run(operator, governor, 0.0, 10.0)
    governor.state, held_s = Status.HOLD, now
    now = run(operator, governor, now, PAUSE_S / 2)
    assert governor.state == Status.HOLD
    assert not operator.pressed
    run(operator, governor, now, 10.0)
    assert governor.state == Status.TRACKING
    assert governor.moved[-1] - held_s >= PAUSE_S - STEP_S


def test_a_lost_person_is_chosen_again_before_the_press() -> None:
    operator, governor = DemoOperator(), Governor()
    now = run(operator, governor, 0.0, 10.0)
    governor.state, governor.locked = Status.HOLD, False
    run(operator, governor, now, 10.0)
    assert governor.locked
    assert governor.state == Status.TRACKING


def test_it_waits_until_every_check_is_green() -> None:
    operator, governor = DemoOperator(), Governor(state=Status.HOLD, locked=True, green=False)
    now = run(operator, governor, 0.0, 10.0)
    assert governor.state == Status.HOLD
    governor.green = True
    run(operator, governor, now, 0.1)
    assert governor.state == Status.TRACKING


def test_after_stopped_it_resets_and_begins_anew() -> None:
    operator, governor = DemoOperator(), Governor()
    now = run(operator, governor, 0.0, 10.0)
    governor.state = Status.STOPPED
    run(operator, governor, now, 10.0)
    assert governor.state == Status.TRACKING
    assert len(governor.moved) == 2


def test_without_a_status_the_button_is_let_go() -> None:
    operator, governor = DemoOperator(), Governor()
    now = run(operator, governor, 0.0, 10.0)
    run(operator, governor, now, STEP_S, blind=True)
    assert not operator.pressed


def test_a_press_that_does_nothing_is_let_go_and_tried_again() -> None:
    operator, levels = DemoOperator(), []
    for n in range(1000):
        assert operator.step(n * STEP_S, Seen(Status.HOLD, True, True)) == ""
        levels.append(operator.pressed)
    assert sum(b and not a for a, b in pairwise(levels)) >= 3
    assert not all(levels[-500:])


def test_what_it_waits_for_is_told_now_and_then_and_what_stays_is_told(monkeypatch) -> None:
    pytest.importorskip("pinocchio", reason="pip install 'hsr-core[retarget]'")
    from hsr import robot_sim_node

    now_s, said = 100.0, []
    monkeypatch.setattr(robot_sim_node.time, "monotonic", lambda: now_s)
    node = MagicMock()
    node.get_logger().info = said.append
    operator = robot_sim_node.Operator(node, lambda: True)
    for i in range(110):  # after a second it is always the same
        answer = SimpleNamespace(success=False, message="no person" if i < 10 else "no frame")
        operator._on_answer("engage", SimpleNamespace(result=lambda answer=answer: answer))
        now_s += 0.1
    assert said == ["operator: engage: no person", "operator: engage: no frame"]
