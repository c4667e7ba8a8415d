"""The retargeting node's services. None of them moves the robot by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from hsr_msgs.srv import SelectHuman
from rclpy.node import Node
from std_srvs.srv import Trigger

from hsr_core.retarget.command import State
from hsr_core.retarget.session import Session

from .retarget_people import People
from .retarget_robot import RobotJoints
from .services import Refused, WorkerServices


class Control(Protocol):
    """What the services ask of an active node."""

    session: Session
    people: People
    joints: RobotJoints


class RetargetServices(WorkerServices):
    """Offers arm, engage, pause, stop, reset and select.

    Args:
        control: Returns what they work on while the node is active, else None.
    """

    def __init__(self, node: Node, control: Callable[[], Control | None], timeout_s: Callable[[], float]) -> None:
        super().__init__(node, timeout_s, "")
        self._control = control
        for kind, name, serve in (
            (SelectHuman, "select", self._serve_select),
            (Trigger, "arm", self._serve_arm),
            (Trigger, "engage", self._serve_engage),
            (Trigger, "pause", self._serve_pause),
            (Trigger, "stop", self._serve_stop),
            (Trigger, "reset", self._serve_reset),
        ):
            self._offer(kind, name, serve)

    def _active(self) -> Control:
        control = self._control()
        if control is None:
            raise self._inactive()
        return control

    async def _serve_select(self, request: Any, response: Any) -> str:
        people = self._active().people
        try:
            response.id = people.select(request.id)
        except Exception:
            response.id = people.letters()
            raise
        return f"{response.id} is the operator"

    async def _serve_arm(self, request: Any, response: Any) -> str:
        control = self._active()
        missing = control.session.arm()
        if missing:
            raise Refused(_with_hints(missing, control))
        return "ready: select the operator, then engage"

    async def _serve_engage(self, request: Any, response: Any) -> str:
        control = self._active()
        missing = control.session.engage()
        if missing:
            state = control.session.governor.state
            checks = f"missing: {', '.join(failing(control.session))}"
            missing = checks if state is State.READY else f"the state is {state.value}, not ready"
            raise Refused(_with_hints(missing, control))
        return "press the deadman now; it must have been released before"

    async def _serve_pause(self, request: Any, response: Any) -> str:
        missing = self._active().session.pause()
        if missing:
            raise Refused(missing)
        return "held: a new press of the deadman goes on"

    async def _serve_stop(self, request: Any, response: Any) -> str:
        session = self._active().session
        session.stop()
        return "stopped" if session.governor.state is State.STOPPED else session.governor.reason

    async def _serve_reset(self, request: Any, response: Any) -> str:
        missing = self._active().session.reset()
        if missing:
            raise Refused(missing)
        return "disarmed"


def failing(session: Session) -> list[str]:
    """Return the checks that an engagement waits for; the deadman is pressed last."""
    return [name for name, passed in session.checks().items() if not passed and name != "deadman"]


def _with_hints(missing: str, control: Control) -> str:
    """Return what is missing, and what the inputs say of it."""
    hints = [missing]
    if "joint" in missing:
        hints.append(control.joints.problem)
    if any(word in missing for word in ("frame", "operator", "gate", "person")):
        hints.append(control.people.problem)
    return "; ".join(filter(None, hints))
