"""What the nodes that load a body and networks share: a start-up that can be watched, common parameters, their end."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from hsr_core.errors import HsrError

from . import diagnostics, params, qos
from .lifecycle import GuardedLifecycleNode
from .notices import Notices
from .parameter_files import refuse_unknown
from .signals import ros, spin_once
from .startup import Startup
from .stats import Counters

T = TypeVar("T")

WATCH_PERIOD_S = 0.25
LINGER_S = 0.2
START_UP_WAKE_S = 0.1
CANCEL_LIMIT_S = 2.0
"""A start-up that is interrupted has this long to end by itself."""


class GuardedNode(GuardedLifecycleNode):
    """A guarded lifecycle node with settings, with diagnostics in every state, and whose configure may take long.

    Beside the transitions a subclass overrides `apply`, `begin_anew`, `watch` and `statuses`; it has `_settings`,
    `_counters` and `_notices`.

    Args:
        defaults: Its settings, which are declared as parameters.

    Attributes:
        abandoned: True when the process was told to end in the middle of a start-up or of work that does not stop.

    Raises:
        ConfigError: A parameter was given that has a wrong value or that the node does not have.
    """

    def __init__(self, name: str, defaults: Any, **kwargs) -> None:
        self.abandoned = False
        self._startup: Startup | None = None
        super().__init__(name, namespace="human", **kwargs)
        self._notices, self._counters = Notices(self.get_logger()), Counters()
        self._defaults, self._settings = defaults, params.declare_parameters(self, defaults)
        params.declare_common(self)
        refuse_unknown(self)
        params.watch_parameters(self, self._on_settings, defaults)
        # Plain, not a lifecycle publisher: a node that failed to configure must be able to say so.
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.diagnostics())
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # ROS' own time may stand still, and that must be said
        self._diagnostics_timer = self.create_timer(self.diagnostics_period_s(), self.publish_diagnostics, clock=steady)
        self._watch_timer = self.create_timer(WATCH_PERIOD_S, self.watch, clock=steady)
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        self._jump_handle = self.get_clock().create_jump_callback(threshold, post_callback=self._on_clock_jump)

    def apply(self, settings: Any) -> None:
        """Take settings that changed while running; called in any state."""

    def begin_anew(self, reason: str) -> None:
        """Forget what was before now, for time went back; called in any state."""

    def watch(self) -> None:
        """Look after what sends no event; called every `WATCH_PERIOD_S` in any state."""

    def statuses(self) -> list[diagnostics.Status]:
        """Return how the node's parts are, for /diagnostics; called in any state, also during a start-up."""
        return []

    def hardware_id(self) -> str:
        """Return the camera's frame for /diagnostics, "" where unknown."""
        return ""

    def do_configure(self) -> None:
        self._settings = params.current_settings(self, self._defaults)

    def start_up(self, make: Callable[[], T]) -> T:
        """Make something in a thread of its own, for it may take minutes: diagnostics and signals must not wait."""
        startup = self._startup = Startup(make)
        told_s, phases = -float("inf"), set()
        try:
            while not startup.wait(START_UP_WAKE_S):
                if not self.context.ok():
                    raise ExternalShutdownException
                if time.monotonic() - told_s >= self.diagnostics_period_s():
                    told_s = time.monotonic()
                    self.publish_diagnostics()
                phase = startup.step[0] if startup.step else ""
                if phase and phase not in phases:
                    phases.add(phase)
                    self.get_logger().info(f"start-up: {phase}")
        except BaseException:
            self.abandoned = not startup.cancel(CANCEL_LIMIT_S)
            raise
        finally:
            self._startup = None
        return startup.result()

    def start_up_progress(self) -> tuple[tuple[str, int, int] | None, float]:
        """Return phase, done and total of a start-up under way (else None), and its age [s]."""
        startup = self._startup
        return (startup.step, startup.elapsed_s) if startup else (None, 0.0)

    def publish_diagnostics(self) -> None:
        """Tell how the node is; called every `diagnostics_period_s`, also during a start-up."""
        self._diagnostics_timer.timer_period_ns = int(self.diagnostics_period_s() * 1e9)
        lifecycle = diagnostics.lifecycle_status(self.state_label, self.failure, *self.start_up_progress())
        label = diagnostics.node_label(self.get_name(), self.get_namespace())
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics.to_msg([lifecycle, *self.statuses()], label, self.hardware_id(), stamp))

    def diagnostics_period_s(self) -> float:
        return self.get_parameter("diagnostic_updater.period").value

    def service_timeout_s(self) -> float:
        return self.get_parameter("service_timeout_s").value

    def _on_settings(self, settings: Any) -> None:
        self._settings = settings
        self.apply(settings)

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self._counters.add("clock_jumps")
        self.begin_anew("the ROS clock went back or changed its source")


def run(name: str, make: Callable[[], GuardedNode], ahead: Sequence[str] = ()) -> None:
    """Make a node, spin it to its end, and leave the process as it must be left.

    Args:
        name: Said before the reason when the node's settings are refused.
        ahead: Modules that configure will need: imported while the node waits for others to hear of it, so that a
            node that was started again has people half a second earlier.
    """
    if _run(name, make, ahead):
        gc.collect()  # the node leaves the graph with its last reference
        os._exit(0)  # the interpreter's own end would take what that thread is using away from under it


def _run(name: str, make: Callable[[], GuardedNode], ahead: Sequence[str]) -> bool:
    """Run a node to its end; return whether work was abandoned, whose thread goes on."""
    node, imports = None, threading.Thread(target=_import, args=(ahead,), name="imports", daemon=True)
    with ros():
        try:
            node = make()
        except HsrError as error:
            sys.exit(f"{name}: {error}")
        imports.start()
        spin(node)
    return node is not None and (node.abandoned or imports.is_alive())


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        with contextlib.suppress(Exception):  # configure imports it again, and tells
            importlib.import_module(module)


def spin(node: GuardedNode) -> None:
    """Spin until the node is shut down by its lifecycle, by a signal, or by the context."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    notices = Notices(node.get_logger())
    try:
        while rclpy.ok() and not node.finished:
            spin_once(executor, notices)
        _linger(executor)
    finally:
        node.free()
        executor.remove_node(node)
        node.destroy_node()


def _linger(executor: SingleThreadedExecutor) -> None:
    """Give the answer to the shutdown request time to leave before the node goes."""
    deadline = time.monotonic() + LINGER_S
    while rclpy.ok() and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
