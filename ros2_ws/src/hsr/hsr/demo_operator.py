"""The person at the button, played: for a demo with a simulated robot, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from hsr_msgs.msg import RetargetStatus

PAUSE_S = 1.0
"""From HOLD or STOPPED to the next press: a person looks first."""
ASK_AGAIN_S = 0.5
PATIENCE_S = 3.0
"""A press that leads to no motion is let go after this."""
MOVING = (RetargetStatus.ENGAGING, RetargetStatus.TRACKING)


@dataclass(frozen=True)
class Seen:
    """What the operator sees on the status.

    Attributes:
        state: Of the governor, as in RetargetStatus.
        locked: Somebody is chosen.
        green: Every check but the button itself.
    """

    state: int
    locked: bool
    green: bool


class DemoOperator:
    """Chooses a person, arms, engages, presses; after HOLD presses anew, after STOPPED resets first.

    Attributes:
        pressed: The level of the deadman now.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._state, self._since_s = 0, 0.0
        self._pressed_s = self._asked_s = -1e9
        self._granted = False

    def granted(self) -> None:
        """`engage` was answered with yes: the next thing to do is to press."""
        self._granted = True

    def step(self, now_s: float, seen: Seen | None) -> str:
        """Return the service to call now, or an empty string.

        Args:
            now_s: Monotonic time.
            seen: The newest status; None: there is none, or it is old.
        """
        if seen is None:
            self._release()
            return ""
        if seen.state != self._state:
            self._state, self._since_s = seen.state, now_s
            self._asked_s = -1e9
            if seen.state not in MOVING:
                self._release()
        if seen.state in MOVING:
            return ""  # keeps the level that led here
        if self.pressed and now_s - self._pressed_s > PATIENCE_S:
            self._release()
            self._since_s = now_s
        return self._at_rest(now_s, seen)

    def _at_rest(self, now_s: float, seen: Seen) -> str:
        looked = now_s - self._since_s >= PAUSE_S
        if seen.state == RetargetStatus.DISARMED:
            return self._ask("arm", now_s)
        if seen.state == RetargetStatus.STOPPED:
            return self._ask("reset", now_s) if looked else ""
        if not seen.locked:
            self._release()
            return self._ask("select", now_s)
        if seen.state == RetargetStatus.READY and not self._granted:
            return self._ask("engage", now_s)
        if looked and seen.green and not self.pressed:
            self.pressed, self._pressed_s = True, now_s
        return ""

    def _ask(self, service: str, now_s: float) -> str:
        if now_s - self._asked_s < ASK_AGAIN_S:
            return ""
        self._asked_s = now_s
        return service

    def _release(self) -> None:
        self.pressed = self._granted = False
