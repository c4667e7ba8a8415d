"""A SIMULATED robot for trying teleoperation: it takes `retarget/joint_command` and publishes `/joint_states`.

    python -m hsr.robot_sim_node --ros-args -p robot:=talos
    python -m hsr.robot_sim_node --ros-args -p robot:=talos -p play_operator:=true    # and who is at the button

No physics: each joint follows with a first-order lag and at most the URDF's velocity. It is silent while somebody else
publishes joint states: a robot is there.
"""

from __future__ import annotations

import math
import time
from array import array
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from hsr_msgs.msg import Human, HumanArray, RetargetStatus
from hsr_msgs.srv import SelectHuman
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import Trigger

from hsr_core.errors import ConfigError, HsrError
from hsr_core.retarget.mapping import built_in
from hsr_core.retarget.robot import load_robot
from hsr_core.retarget.stand_in import StandIn

from . import diagnostics, qos
from .demo_operator import DemoOperator, Seen
from .diagnostics import Status
from .node_parameters import ROBOT_SIM
from .parameter_files import refuse_unknown
from .params import declare_fixed
from .signals import run_node
from .throttled import Throttled

MAX_STEP_S = 0.1
WATCH_S = 0.5
DISCOVERY_S = 3.0
"""The operator waits so long for a robot that may be there already."""
DEADMAN_HZ = 50.0
LOOK_HZ = 20.0
"""How often the operator looks at the status and at the people."""
OLD_S = 0.5
TELL_S = 5.0
"""What the operator waits for may change with each frame: it is told no more often."""
FRAME_ID = "simulated"
"""Of the joint states, which have no frame: nobody shall take them for a robot's."""


class RobotSimNode(Node):
    """`/human/robot_sim`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("robot_sim", namespace="human", **kwargs)
        declare_fixed(self, ROBOT_SIM)
        refuse_unknown(self)
        robot, mode, self._rate_hz, lag_s, operator = (self.get_parameter(name).value for name, *_ in ROBOT_SIM)
        if not robot:
            raise ConfigError(f"set the parameter robot: {', '.join(built_in())}, or the path of a mapping")
        loaded = load_robot(robot, mode)
        self._robot, self._last_ns = StandIn(loaded, lag_s), 0
        self._state = JointState(name=list(self._robot.names))
        self._state.header.frame_id = FRAME_ID
        self._is_alone = False  # until it has looked: joint states beside a robot's are no beginning
        self._joint_states = self.create_publisher(JointState, "/joint_states", qos.robot_joint_states())
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.diagnostics())
        self.create_subscription(JointState, "retarget/joint_command", self._on_command, qos.joint_command())
        self.create_timer(1.0 / self._rate_hz, self._step)
        self.create_timer(WATCH_S, self._watch)
        self._operator = Operator(self, lambda: self._is_alone) if operator else None
        text = f"SIMULATION: {loaded.mapping.name} is not a robot, its joints only do as they are told"
        self.get_logger().warning(f"{text}; its operator is played, too" if operator else text)

    def _on_command(self, message: JointState) -> None:
        try:
            self._robot.command(message.name, message.position)
        except HsrError as error:
            self.get_logger().warning(f"command ignored: {error}", throttle_duration_sec=5.0)

    def _step(self) -> None:
        now = self.get_clock().now()
        elapsed_s = (now.nanoseconds - self._last_ns) * 1e-9
        self._last_ns = now.nanoseconds
        self._robot.step(min(max(elapsed_s, 0.0), MAX_STEP_S))
        if not self._is_alone:
            return
        self._state.header.stamp = now.to_msg()
        self._state.position = array("d", self._robot.position.tobytes())
        self._state.velocity = array("d", self._robot.velocity.tobytes())
        self._joint_states.publish(self._state)

    def _watch(self) -> None:
        """Be silent while a robot is there, and say in /diagnostics what this is."""
        topic = self._joint_states.topic_name
        self._is_alone = self.count_publishers(topic) <= 1
        status = Status("simulation", {"ignored values": self._robot.ignored, "rate [Hz]": self._rate_hz})
        status.warn("the robot is simulated")
        if not self._is_alone:
            text = f"somebody else publishes {topic}: a robot is there; the simulated one is silent (sim:=false)"
            status.error(text)
            self.get_logger().error(text, throttle_duration_sec=5.0)
        label = diagnostics.node_label(self.get_name(), self.get_namespace())
        self._diagnostics.publish(diagnostics.to_msg([status], label, "", self.get_clock().now().to_msg()))


class Operator:
    """Lets a `DemoOperator` see, call and press.

    Args:
        may_act: Asked before each step: false while a robot is there.
    """

    def __init__(self, node: Node, may_act: Any) -> None:
        self._node, self._may_act, self._logic = node, may_act, DemoOperator()
        self._began_s = time.monotonic()
        self._seen: tuple[float, Seen] | None = None
        self._primary = ""
        self._answer, self._told_s = "", -math.inf
        self._clients = {
            name: node.create_client(Trigger, f"retarget/{name}") for name in ("arm", "engage", "reset")
        } | {"select": node.create_client(SelectHuman, "retarget/select")}
        self._deadman = node.create_publisher(Joy, "retarget/deadman", qos.deadman())
        for kind, topic, callback, profile in (
            (RetargetStatus, "retarget/status", self._on_status, qos.retarget_status()),
            (HumanArray, "people", self._on_people, qos.people()),
        ):
            node.create_subscription(kind, topic, callback, profile, callback_group=Throttled(LOOK_HZ))
        node.create_timer(1.0 / DEADMAN_HZ, self._step)

    def _on_status(self, message: RetargetStatus) -> None:
        checks = zip(message.checks, message.checks_passed, strict=True)
        green = all(passed for name, passed in checks if name != "deadman")
        self._seen = time.monotonic(), Seen(message.state, bool(message.operator_id), green)

    def _on_people(self, message: HumanArray) -> None:
        there = [human for human in message.humans if human.state in (Human.NEW, Human.TRACKED)]
        self._primary = next((human.id for human in there if human.primary), "")

    def _step(self) -> None:
        now = time.monotonic()
        if not self._may_act() or now - self._began_s < DISCOVERY_S:
            return
        seen = self._seen[1] if self._seen and now - self._seen[0] < OLD_S else None
        service = self._logic.step(now, seen)
        if service:
            self._call(service)
        message = Joy(buttons=[int(self._logic.pressed)])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._deadman.publish(message)

    def _call(self, service: str) -> None:
        client = self._clients[service]
        if not client.service_is_ready() or (service == "select" and not self._primary):
            return
        request = SelectHuman.Request(id=self._primary) if service == "select" else Trigger.Request()
        client.call_async(request).add_done_callback(lambda future: self._on_answer(service, future))

    def _on_answer(self, service: str, future: Any) -> None:
        answer = future.result()
        done = answer.ok if service == "select" else answer.success
        if done and service == "engage":
            self._logic.granted()
        text, now = f"{service}: {answer.message}", time.monotonic()
        if not done and text != self._answer and now - self._told_s >= TELL_S:
            self._answer, self._told_s = text, now
            self._node.get_logger().info(f"operator: {text}")


def main() -> None:
    run_node("robot_sim", RobotSimNode)


if __name__ == "__main__":
    main()
