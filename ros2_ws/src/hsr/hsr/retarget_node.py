"""Teleoperation: people and a robot's joints in, commands for the robot out, at a fixed rate and within its limits.

python -m hsr.retarget_node --ros-args -p robot:=g1 -r retarget/deadman:=/joy
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle BLAS threads spin, and would take signals
os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
import sys
import threading
from functools import partial

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter

from hsr_core import progress
from hsr_core.config import describe
from hsr_core.errors import ConfigError
from hsr_core.retarget.command import State
from hsr_core.retarget.mapping import built_in
from hsr_core.retarget.robot import Robot, load_robot
from hsr_core.retarget.session import Session

from .diagnostics import Status
from .guarded_node import GuardedNode, run
from .retarget_outputs import RetargetOutputs
from .retarget_params import DEFAULTS, RetargetSettings
from .retarget_services import RetargetServices
from .retarget_work import Teleoperation

LIBRARY = ("hsr_core.retarget.tasks", "daqp")
SWITCH_S = 5e-4
"""The interpreter lets another thread run after this: at its usual 5 ms a tick would wait for a whole frame's work."""
ENDINGS = (signal.SIGINT, signal.SIGTERM)
LIVE = frozenset(spec.name for spec in describe(DEFAULTS) if spec.live)
AT_REST_ONLY = LIVE | {"use_sim_time"}
"""Another clock may stand still: nothing would brake by it."""
AT_REST = (State.DISARMED, State.READY, State.STOPPED)


def open_robot(settings: RetargetSettings) -> Robot:
    """Load the robot that the settings name, and check everything that activating will need.

    Raises:
        ConfigError: No robot is named, or a check failed; the message lists what there is.
    """
    if not settings.robot:
        raise ConfigError(f"set the parameter robot: {', '.join(built_in())}, or the path of a mapping of your own")
    progress.report(f"loading {settings.robot}")
    robot = load_robot(settings.robot, settings.robot_mode, settings.limits)
    Session(robot, settings)
    return robot


class RetargetNode(GuardedNode):
    """`/human/retarget`. See docs/ros.md for topics, services and parameters."""

    def __init__(self, **kwargs) -> None:
        super().__init__("retarget", DEFAULTS, **kwargs)
        self._robot: Robot | None = None
        self._outputs: RetargetOutputs | None = None
        self._work: Teleoperation | None = None
        self.add_on_set_parameters_callback(self._refuse_while_moving)
        RetargetServices(self, lambda: self._work, self.service_timeout_s)

    # Transitions

    def do_configure(self) -> None:
        super().do_configure()
        self._robot = self.start_up(partial(open_robot, self._settings))
        self._outputs = RetargetOutputs(self, self._robot, self._settings)

    def do_activate(self) -> None:
        self._counters.reset()
        self._work = Teleoperation(
            self, self._robot, self._outputs, self._settings, self._counters, self._notices
        )  # fmt: skip

    def do_deactivate(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.close()

    def free(self) -> None:
        self.do_deactivate()
        outputs, self._outputs, self._robot = self._outputs, None, None
        if outputs is not None:
            outputs.close()

    def stop_robot(self, reason: str) -> None:
        """Stop by the governor's ramp, then send nothing; from any thread."""
        work = self._work
        if work is not None:
            work.stop_robot(reason)

    # Settings, time, telling

    def apply(self, settings: RetargetSettings) -> None:
        if self._work is not None:
            self._work.apply(settings)

    def watch(self) -> None:
        if self._work is not None:
            self._work.watch()

    def begin_anew(self, reason: str) -> None:
        if self._work is not None:
            self._work.begin_anew(reason)

    def statuses(self) -> list[Status]:
        return self._work.statuses() if self._work is not None else []

    def _refuse_while_moving(self, parameters: list[Parameter]) -> SetParametersResult:
        names = [parameter.name for parameter in parameters if parameter.name in AT_REST_ONLY]
        state = self._work.session.governor.state if self._work is not None else State.DISARMED
        if names and state not in AT_REST:
            reason = f"{', '.join(names)} cannot change while the robot is in {state.value}: stop it first"
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)


class Ending:
    """Ends the process when it is asked to, but not before the robot has come to rest.

    rclpy's own handlers shut ROS down at once: nothing could be published any more, and the robot would be left with
    its last command. So the signals are blocked in every thread, and one of its own waits for them. Make it before any
    other thread, for they inherit what is blocked.
    """

    def __init__(self) -> None:
        self._node: RetargetNode | None = None
        self._asked = False
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    def make(self) -> RetargetNode:
        """Make the node, once ROS is initialised."""
        self._node = node = RetargetNode()
        if self._asked:
            rclpy.try_shutdown()
        return node

    def _wait(self) -> None:
        while True:
            signal.sigwait(ENDINGS)
            self._asked = True
            if self._node is not None:
                try:
                    self._node.stop_robot("the process was told to end")
                finally:  # nobody else hears the signals
                    rclpy.try_shutdown()


def main() -> None:
    sys.setswitchinterval(SWITCH_S)
    run("retarget", Ending().make, ahead=LIBRARY)


if __name__ == "__main__":
    main()
