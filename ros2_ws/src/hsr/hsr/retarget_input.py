"""The retargeting node's subscriptions: people, the robot's joints, the deadman."""

from __future__ import annotations

from hsr_msgs.msg import HumanArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import JointState, Joy

from hsr_core.engagement import JOINT_STATES, PEOPLE

from . import qos
from .retarget_params import RetargetSettings
from .retarget_record import Recorder
from .retarget_robot import Deadman, RobotJoints
from .stats import Counters
from .worker import Worker

PEOPLE_TOPICS = {"raw": "people_raw", "smoothed": "people", "refined": "refined/people"}
ROBOT_TOPIC, DEADMAN_TOPIC = "/joint_states", "retarget/deadman"


def input_topics(node: LifecycleNode, settings: RetargetSettings) -> dict[str, str]:
    """Return full names by the keys of a recording."""
    names = {PEOPLE: PEOPLE_TOPICS[settings.input], JOINT_STATES: ROBOT_TOPIC}
    return {key: node.resolve_topic_name(name) for key, name in names.items()}


class RetargetInput:
    """Subscribes as long as it is open. People go to a worker, the newest frame first; the rest is taken at once.

    Args:
        worker: Takes serialised people.

    Attributes:
        people, robot, deadman: Full names of the topics.
    """

    def __init__(
        self, node: LifecycleNode, settings: RetargetSettings, worker: Worker[bytes], joints: RobotJoints,
        deadman: Deadman, recorder: Recorder, counters: Counters,
    ) -> None:  # fmt: skip
        self._node, self._worker, self._joints, self._deadman = node, worker, joints, deadman
        self._recorder, self._counters = recorder, counters
        self.people, self.robot = input_topics(node, settings).values()
        self.deadman = node.resolve_topic_name(DEADMAN_TOPIC)
        subscribe = node.create_subscription
        self._subscriptions = [
            subscribe(HumanArray, self.people, self._on_people, qos.people_newest(), raw=True),
            subscribe(JointState, self.robot, self._on_joints, qos.joint_parts(), raw=True),
            subscribe(Joy, self.deadman, deadman.take, qos.level()),
        ]

    def watch(self) -> None:
        """Count who speaks for the deadman; called a few times a second."""
        self._deadman.publishers = max(self._node.count_publishers(self.deadman), 1)

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_people(self, data: bytes) -> None:
        if data:  # now and then a raw take of rclpy gives nothing
            if self._worker.offer(data):
                self._counters.add("replaced")
            self._recorder.write(PEOPLE, data)

    def _on_joints(self, data: bytes) -> None:
        if data:
            self._joints.take(data)
            self._recorder.write(JOINT_STATES, data)
