"""Everything of an active retargeting node, from messages to commands, and the threads that it runs in.

The executor's thread takes the robot's joints and the deadman's level, a worker takes people, and a loop ticks.
"""

from __future__ import annotations

import threading

from rclpy.lifecycle import LifecycleNode

from hsr_core.retarget.command import Command, State
from hsr_core.retarget.robot import Robot
from hsr_core.retarget.session import Session

from . import qos, retarget_diagnostics
from .diagnostics import Status
from .notices import Notices
from .retarget_clock import TeleopClock
from .retarget_input import RetargetInput, input_topics
from .retarget_loop import TickLoop
from .retarget_outputs import RetargetOutputs, all_counts
from .retarget_params import RetargetSettings
from .retarget_people import People
from .retarget_record import Recorder
from .retarget_robot import Deadman, RobotJoints
from .stats import Counters
from .worker import Worker
from .worker_errors import WorkerErrors

RIVALS = "somebody else commands the robot, too"


class Teleoperation:
    """Runs from when it is made until it is stopped.

    Attributes:
        session, people, joints, deadman: What services ask.

    Raises:
        ConfigError: Settings that contradict each other.
        MissingPackage: What records is not installed.
    """

    def __init__(
        self, node: LifecycleNode, robot: Robot, outputs: RetargetOutputs, settings: RetargetSettings,
        counters: Counters, notices: Notices,
    ) -> None:  # fmt: skip
        self._node, self._outputs, self._settings = node, outputs, settings
        self._counters, self._notices, self._ending = counters, notices, threading.Lock()
        clock = TeleopClock(node.get_clock(), settings.freshness.future_s)
        self.session = Session(robot, settings, clock)
        self.people = People(self.session, clock, counters, settings.operator == "primary")
        self.joints = RobotJoints(self.session, clock, counters, notices)
        self.deadman = Deadman(self.session, clock, counters, notices, settings.deadman.button)
        self._errors = WorkerErrors(counters, notices, lambda text: None)
        topics = outputs.topics() | input_topics(node, settings)
        self._recorder = Recorder(settings.record.folder, self.session, topics, clock)
        outputs.begin()
        self._worker = Worker(self.people.take, lambda error: self._errors.add(error, "frame dropped"), name="people")
        self._input = RetargetInput(node, settings, self._worker, self.joints, self.deadman, self._recorder, counters)
        self._loop = TickLoop(self.session, clock, self._publish, notices)

    def apply(self, settings: RetargetSettings) -> None:
        """Take settings that changed while running."""
        self.people.auto = settings.operator == "primary"

    def watch(self) -> None:
        """Look after what sends no event: who else speaks for the deadman, and who else commands the robot."""
        self._input.watch()
        if self.session.governor.state is not State.DISARMED and self._outputs.rivals():
            self.session.governor.stop(RIVALS)

    def begin_anew(self, reason: str) -> None:
        """Hold, and forget everybody: the clock was set."""
        self._worker.discard()
        self.session.on_clock_jump(reason)

    def stop_robot(self, reason: str) -> None:
        """Brake by the governor's ramp, then send nothing any more; from any thread, as often as one likes."""
        with self._ending:  # a signal may come while the node is deactivated
            if not self._loop.stop_robot(reason):
                self._notices.error("ramp", "the robot did not come to rest in time; no command is sent any more")
            self._loop.close()
        self._outputs.flush()

    def close(self) -> None:
        """Stop, and let everything go; by the executor's thread."""
        self.stop_robot("the node ends")
        self._input.close()
        try:
            self._worker.stop()
        finally:
            self._recorder.close()

    def statuses(self) -> list[Status]:
        """Return how the parts are, for /diagnostics."""
        session, robot, topics = self.session, self.session.robot, self._input
        publishers = {topic: qos.describe_publishers(self._node, topic) for topic in (topics.people, topics.robot)}
        people = retarget_diagnostics.people_status(
            self.people, topics.people, session.governor.operator, publishers[topics.people]
        )
        if recent := str(self._errors.recent):
            people.error(recent)
        governor = retarget_diagnostics.governor_status(session, self._loop, all_counts(session, self._counters))
        if rivals := self._outputs.rivals():
            governor.error(rivals)
        return [
            governor,
            people,
            retarget_diagnostics.robot_status(self.joints, robot, topics.robot, publishers[topics.robot]),
            retarget_diagnostics.deadman_status(self.deadman, topics.deadman, self._settings.deadman.button),
            retarget_diagnostics.recorder_status(self._recorder.status()),
        ]

    def _publish(self, command: Command | None, now_ns: int) -> None:
        self._recorder.follow(command is not None, self.people.model_id)
        problem = "; ".join(filter(None, (self.joints.problem, self.people.problem)))
        self._outputs.publish(command, now_ns, self.session, self.people, problem, self._counters, self._recorder)
