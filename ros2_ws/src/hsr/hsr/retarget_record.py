"""Which messages of the retargeting node belong to a recording, and when one begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hsr_core.engagement import COMMAND, JOINT_STATES, PEOPLE, STATUS, engagement_header
from hsr_core.retarget.command import State
from hsr_core.retarget.session import Session

from .engagement_record import EngagementRecorder

TYPES = {
    PEOPLE: "hsr_msgs/msg/HumanArray",
    STATUS: "hsr_msgs/msg/RetargetStatus",
    COMMAND: "sensor_msgs/msg/JointState",
    JOINT_STATES: "sensor_msgs/msg/JointState",
}


class Recorder:
    """Records each engagement; does nothing without a folder. No method waits, and any thread may call `write`.

    Args:
        folder: "" = no recording.
        topics: Full names by the keys of `TYPES`.

    Raises:
        MissingPackage: What writes recordings is not installed.
    """

    def __init__(
        self, folder: str, session: Session, topics: Mapping[str, str], clock_ns: Callable[[], int], **more: Any
    ) -> None:
        self._session, self._topics, self._clock_ns = session, topics, clock_ns
        self._recorder: EngagementRecorder | None = None
        self._recording = False
        self._operator: int | None = None
        if folder:
            header = engagement_header(session.robot, session.settings, topics, **more)
            self._recorder = EngagementRecorder(folder, header)

    def follow(self, sent: bool, model_id: str) -> None:
        """Begin and end with the engagement; called at each tick. Another operator begins another recording.

        Args:
            sent: A command went out at this tick: a stop is recorded to its end.
            model_id: Of the newest people.
        """
        if self._recorder is None:
            return
        governor = self._session.governor
        state = governor.state
        if state is State.ENGAGING and not (self._recording and governor.operator in (None, self._operator)):
            self._operator, self._recording = governor.operator, True
            self._recorder.begin(self._clock_ns(), operator=self._operator, model_id=model_id)
        elif self._recording and not sent and state in (State.DISARMED, State.READY, State.STOPPED):
            self._recording = False
            self._recorder.end()

    def write(self, key: str, data: bytes) -> None:
        """Add a serialised message to the recording of an engagement under way."""
        if self._recording and self._recorder is not None:
            self._recorder.write(self._topics[key], TYPES[key], data, self._clock_ns())

    def status(self) -> dict[str, Any] | None:
        """Return how it goes (`EngagementRecorder.status`); None: nothing is to be recorded."""
        return None if self._recorder is None else self._recorder.status()

    def close(self) -> None:
        """End the recording; waits for the disk, but not for ever."""
        self._recording = False
        if self._recorder is not None:
            self._recorder.close()
